//! Envoy extensions of Consul's own (`EnvoyExtensions`), served without Envoy where they can be.
//!
//! What cannot be honoured is named, the extension or the one argument of it; where the operator
//! says `Required`, the proxy must not serve without it.

mod arguments;
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
}

/// Translates extensions in the order in which Consul applies them. An error names what is not
/// honoured of a required one.
pub(crate) fn extensions(
    resource: &str,
    written: &[Value],
    proxy: &Proxy,
) -> Result<Extensions, String> {
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
            return Err(format!("the required extension `{name}`: {first}"));
        }
        let named = complaints.into_iter().map(|reason| Rejection {
            resource: resource.to_owned(),
            reason: format!("the extension `{name}`: {reason}"),
        });
        all.rejected.extend(named);
    }
    Ok(all)
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

    fn read(resource: &str, written: &[Value]) -> Result<Extensions, String> {
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
        let named = read("proxy web", &[lua(false)]).unwrap().rejected;
        assert_eq!(named.len(), 1);
        assert_eq!(named[0].resource, "proxy web");
        assert!(named[0].reason.contains("`builtin/lua`"), "{named:?}");
        let refused = read("proxy web", &[lua(true)]).unwrap_err();
        assert!(refused.contains("`builtin/lua`"), "{refused}");
    }

    #[test]
    fn an_unknown_argument_of_a_served_extension_is_named_or_refused() {
        let mut arguments = good();
        arguments["Stage"] = json!(1);
        let all = read("r", &[local(arguments.clone(), false)]).unwrap();
        assert_eq!(all.inbound.rates.len(), 1, "the rest of it holds");
        assert_eq!(all.rejected.len(), 1);
        assert!(all.rejected[0].reason.contains("`Stage`"));
        assert!(read("r", &[local(arguments, true)]).is_err());
        assert_eq!(read("r", &[local(good(), true)]).unwrap().rejected, []);
    }
}
