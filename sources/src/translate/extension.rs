//! Envoy extensions of Consul's own (`EnvoyExtensions`), served without Envoy where they can be.
//!
//! What cannot be honoured is named, the extension or the one argument of it; where the operator
//! says `Required`, the proxy must not serve without it.

mod arguments;
pub(crate) mod earlier;
mod external;
mod log;
mod rate;
mod target;

pub(crate) use external::CLUSTER;
pub(crate) use log::CLUSTER as LOG_CLUSTER;
pub(crate) use rate::{from_meta, instance_level};

use arguments::Arguments;
use consul::agent::Proxy;
use http::{HeaderName, HeaderValue};
use meridian_model::listener::HttpFilters;
use meridian_model::{Cluster, Rejection};
use serde_json::Value;
use std::sync::Arc;

/// What a proxy's extensions come to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Extensions {
    /// For the public listener.
    pub(crate) inbound: HttpFilters,
    /// For the listeners of upstreams.
    pub(crate) outbound: HttpFilters,
    /// Services on this machine that are called.
    pub(crate) clusters: Vec<Cluster>,
    /// What is not honoured.
    pub(crate) rejected: Vec<Rejection>,
    /// What is not honoured and must be: listeners that it concerns must not be served with the
    /// filters above.
    pub(crate) refused: Vec<Refusal>,
}

/// A required extension that is not honoured.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What of which one.
    pub(crate) reason: String,
    /// Which listeners it is about.
    pub(crate) concerns: Concern,
}

/// Which listeners an extension is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Concern {
    /// The public one.
    Inbound,
    /// Those of upstreams.
    Outbound,
    /// All, or it can't be told.
    All,
}

impl Extensions {
    /// Nothing is known of them, and any could be required.
    pub(crate) fn unknown(reason: String) -> Self {
        let concerns = Concern::All;
        Self {
            refused: vec![Refusal { reason, concerns }],
            ..Self::default()
        }
    }

    /// Whether listeners of one side must not be served with the filters here.
    pub(crate) fn withhold(&self, side: Concern) -> bool {
        let about = |one: &Refusal| one.concerns == side || one.concerns == Concern::All;
        self.refused.iter().any(about)
    }
}

/// Translates extensions in the order in which Consul applies them.
pub(crate) fn extensions(resource: &str, written: &[Value], proxy: &Proxy) -> Extensions {
    let mut all = Extensions::default();
    for extension in written {
        let name = extension["Name"].as_str().unwrap_or("without a name");
        let required = extension["Required"] == Value::Bool(true);
        let arguments = &extension["Arguments"];
        let complaints = match one(name, arguments, required, proxy, &mut all) {
            Ok(complaints) => complaints,
            Err(reason) => vec![reason],
        };
        if let Some(first) = complaints.first().filter(|_| required) {
            all.refused.push(Refusal {
                reason: format!("the required extension `{name}`: {first}"),
                concerns: concern(name, arguments),
            });
            continue;
        }
        let named = complaints.into_iter().map(|reason| Rejection {
            resource: resource.to_owned(),
            reason: format!("the extension `{name}`: {reason}"),
        });
        all.rejected.extend(named);
    }
    all
}

/// Which listeners one is about, served or not. Only those that say it in a way that is known
/// leave the other side alone.
fn concern(name: &str, arguments: &Value) -> Concern {
    let key = match name {
        "builtin/http/localratelimit" => return Concern::Inbound,
        "builtin/lua" => "Listener",
        "builtin/ext-authz" | "builtin/otel-access-logging" | "builtin/wasm" => "ListenerType",
        _ => return Concern::All,
    };
    let listeners = match (&arguments[key], name) {
        (Value::Null, "builtin/ext-authz" | "builtin/otel-access-logging") => Some("inbound"),
        (written, _) => written.as_str(),
    };
    match listeners {
        Some("inbound") => Concern::Inbound,
        Some("outbound") => Concern::Outbound,
        _ => Concern::All,
    }
}

/// Adds one extension. What is not honoured of it comes back; an error says why none of it is.
fn one(
    name: &str,
    arguments: &Value,
    required: bool,
    proxy: &Proxy,
    all: &mut Extensions,
) -> Result<Vec<String>, String> {
    let mut arguments = Arguments::read(arguments)?;
    match name {
        "builtin/ext-authz" => {
            let asked = external::external(&mut arguments, required, proxy)?;
            all.clusters.extend(asked.cluster);
            let filters = match asked.inbound {
                true => &mut all.inbound,
                false => &mut all.outbound,
            };
            filters.checks.push(Arc::new(asked.check));
            Ok([asked.complaints, arguments.unknown()].concat())
        }
        "builtin/otel-access-logging" => {
            let heard = log::log(&mut arguments, proxy)?;
            all.clusters.extend(heard.cluster);
            let filters = match heard.inbound {
                true => &mut all.inbound,
                false => &mut all.outbound,
            };
            filters.logs.push(Arc::new(heard.export));
            Ok([heard.complaints, arguments.unknown()].concat())
        }
        "builtin/http/localratelimit" => {
            let (limit, complaints) = rate::local(&mut arguments)?;
            all.inbound.rates.extend(limit);
            Ok([complaints, arguments.unknown()].concat())
        }
        _ => Err("it is not served".to_owned()),
    }
}

/// `ProxyType` and `ListenerType`: whether it applies to the public listener, or to the others.
fn is_inbound(arguments: &mut Arguments<'_>) -> Result<bool, String> {
    match arguments.text("ProxyType")? {
        None | Some("connect-proxy") => {}
        Some(other) => {
            return Err(format!(
                "`ProxyType` is `{other}`, expected `connect-proxy`"
            ));
        }
    }
    match arguments.text("ListenerType")? {
        None | Some("inbound") => Ok(true),
        Some("outbound") => Ok(false),
        Some(other) => {
            let expected = "expected `inbound` or `outbound`";
            Err(format!("`ListenerType` is `{other}`, {expected}"))
        }
    }
}

/// Headers to be written, from a list of `Key` and `Value`.
fn header_values(
    arguments: &mut Arguments<'_>,
    name: &str,
) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut all = Vec::new();
    for mut one in arguments.list(name)? {
        let key = one.text("Key")?.unwrap_or_default();
        let value = one.text("Value")?.unwrap_or_default();
        let (Ok(header), Ok(text)) = (HeaderName::try_from(key), HeaderValue::from_str(value))
        else {
            return Err(format!("`{name}`: `{key}: {value}` is no header"));
        };
        arguments.done(one);
        all.push((header, text));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(resource: &str, written: &[Value]) -> Extensions {
        extensions(resource, written, &Proxy::default())
    }

    fn local(arguments: Value, required: bool) -> Value {
        json!({"Name": "builtin/http/localratelimit", "Required": required,
            "Arguments": arguments})
    }

    fn good() -> Value {
        json!({"ProxyType": "connect-proxy", "MaxTokens": 4, "TokensPerFill": 2,
            "FillInterval": 10, "FilterEnabled": 100, "FilterEnforced": 50})
    }

    #[test]
    fn an_unserved_extension_is_named_and_a_required_one_refused() {
        let lua = |required| json!({"Name": "builtin/lua", "Required": required});
        let named = read("proxy web", &[lua(false)]).rejected;
        assert_eq!(named.len(), 1);
        assert_eq!(named[0].resource, "proxy web");
        assert!(named[0].reason.contains("`builtin/lua`"), "{named:?}");
        let refused = read("proxy web", &[lua(true), local(good(), true)]);
        assert!(refused.refused[0].reason.contains("`builtin/lua`"));
        assert_eq!(refused.inbound.rates.len(), 1, "the others are read");
    }

    #[test]
    fn a_refused_one_withholds_the_side_that_it_is_about() {
        let sides = |name: &str, arguments: Value| {
            let one = json!({"Name": name, "Required": true, "Arguments": arguments});
            let all = read("r", &[one]);
            [Concern::Inbound, Concern::Outbound].map(|side| all.withhold(side))
        };
        let lua = |listener: &str| sides("builtin/lua", json!({"Listener": listener}));
        assert_eq!(lua("inbound"), [true, false]);
        assert_eq!(lua("outbound"), [false, true]);
        assert_eq!(lua("sideways"), [true, true]);
        assert_eq!(sides("builtin/property-override", json!({})), [true, true]);
        let wrong = json!({"ListenerType": "outbound", "Config": {}});
        assert_eq!(sides("builtin/ext-authz", wrong), [false, true]);
        let unsaid = json!({"Config": {}});
        assert_eq!(sides("builtin/ext-authz", unsaid), [true, false]);
        assert_eq!(
            sides("builtin/http/localratelimit", json!({})),
            [true, false]
        );
        assert!(!Extensions::default().withhold(Concern::Inbound));
        let unknown = Extensions::unknown("away".to_owned());
        assert!(unknown.withhold(Concern::Inbound) && unknown.withhold(Concern::Outbound));
    }

    #[test]
    fn an_unknown_argument_of_a_served_extension_is_named_or_refused() {
        let mut arguments = good();
        arguments["Stage"] = json!(1);
        let all = read("r", &[local(arguments.clone(), false)]);
        assert_eq!(all.inbound.rates.len(), 1, "the rest of it holds");
        assert_eq!(all.rejected.len(), 1);
        assert!(all.rejected[0].reason.contains("`Stage`"));
        assert_eq!(read("r", &[local(arguments, true)]).refused.len(), 1);
        let all = read("r", &[local(good(), true)]);
        assert_eq!((all.rejected.len(), all.refused.len()), (0, 0));
    }
}
