//! Envoy extensions of Consul's own (`EnvoyExtensions`), served without Envoy where they can be.
//!
//! What cannot be honoured is named, the extension or the one argument of it; where the operator
//! says `Required`, the proxy must not serve without it.

mod arguments;
mod rate;

pub(crate) use rate::{from_meta, instance_level};

use arguments::Arguments;
use meridian_model::Rejection;
use meridian_model::listener::HttpFilters;
use serde_json::Value;

/// What a proxy's extensions come to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Extensions {
    /// For the public listener.
    pub(crate) inbound: HttpFilters,
    /// What is not honoured.
    pub(crate) rejected: Vec<Rejection>,
}

/// Translates extensions in the order in which Consul applies them. An error names what is not
/// honoured of a required one.
pub(crate) fn extensions(resource: &str, written: &[Value]) -> Result<Extensions, String> {
    let mut all = Extensions::default();
    for extension in written {
        let name = extension["Name"].as_str().unwrap_or("without a name");
        let complaints = match one(name, &extension["Arguments"], &mut all) {
            Ok(complaints) => complaints,
            Err(reason) => vec![reason],
        };
        let required = extension["Required"] == Value::Bool(true);
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
fn one(name: &str, arguments: &Value, all: &mut Extensions) -> Result<Vec<String>, String> {
    match name {
        "builtin/http/localratelimit" => {
            let mut arguments = Arguments::read(arguments)?;
            let (limit, complaints) = rate::local(&mut arguments)?;
            all.inbound.rates.extend(limit);
            Ok([complaints, arguments.unknown()].concat())
        }
        _ => Err("it is not served".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
        let named = extensions("proxy web", &[lua(false)]).unwrap().rejected;
        assert_eq!(named.len(), 1);
        assert_eq!(named[0].resource, "proxy web");
        assert!(named[0].reason.contains("`builtin/lua`"), "{named:?}");
        let refused = extensions("proxy web", &[lua(true)]).unwrap_err();
        assert!(refused.contains("`builtin/lua`"), "{refused}");
    }

    #[test]
    fn an_unknown_argument_of_a_served_extension_is_named_or_refused() {
        let mut arguments = good();
        arguments["Stage"] = json!(1);
        let all = extensions("r", &[local(arguments.clone(), false)]).unwrap();
        assert_eq!(all.inbound.rates.len(), 1, "the rest of it holds");
        assert_eq!(all.rejected.len(), 1);
        assert!(all.rejected[0].reason.contains("`Stage`"));
        assert!(extensions("r", &[local(arguments, true)]).is_err());
        assert_eq!(
            extensions("r", &[local(good(), true)]).unwrap().rejected,
            []
        );
    }
}
