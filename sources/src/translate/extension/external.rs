//! `builtin/ext-authz`: a service that is asked about requests or connections.

use super::target::{Target, target};
use super::{Arguments, header_values};
use consul::agent::Proxy;
use meridian_model::external::{
    CheckBody, CheckProtocol, ExternalAuthorization, GrpcCheck, HttpCheck, OnCheckError,
};
use meridian_model::route::ValueMatch;
use meridian_model::{Cluster, Pattern, UpstreamProtocol};
use std::time::Duration;

/// Name of a cluster on this machine, before its address.
pub(crate) const CLUSTER: &str = "local_ext_authz";

/// Envoy's default.
const TIMEOUT: Duration = Duration::from_millis(200);

/// Most of a body that is held for a decision: more would be a way to fill the memory.
const MOST_BODY: u32 = 1 << 20;

/// A service that is asked, and where it applies.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) check: ExternalAuthorization,
    /// Its cluster, where no upstream brings it along.
    pub(super) cluster: Option<Cluster>,
    pub(super) inbound: bool,
    /// What is not honoured.
    pub(super) complaints: Vec<String>,
}

/// Reads the arguments. As in Consul, who requires the extension wants a refusal where the
/// service gives no answer.
pub(super) fn external(
    arguments: &mut Arguments<'_>,
    required: bool,
    proxy: &Proxy,
) -> Result<Asked, String> {
    let inbound = super::is_inbound(arguments)?;
    let mut config = arguments.table("Config")?.ok_or("`Config` is missing")?;
    let mut complaints = Vec::new();
    let (http, grpc) = (config.table("HttpService")?, config.table("GrpcService")?);
    let (target, protocol) = match (http, grpc) {
        (Some(mut http), None) => {
            let (target, check) = by_http(&mut http, proxy, &mut complaints)?;
            config.done(http);
            (target, CheckProtocol::Http(check))
        }
        (None, Some(mut grpc)) => {
            let (target, check) = by_grpc(&mut grpc, proxy, &mut complaints)?;
            config.done(grpc);
            (target, CheckProtocol::Grpc(check))
        }
        _ => return Err("exactly one of GrpcService and HttpService must be set".to_owned()),
    };
    // Names Envoy's counters; ours have names of their own.
    let _ = config.text("StatPrefix")?;
    // There is one version.
    let _ = config.text("TransportApiVersion")?;
    // One route leads to the application, whatever its headers.
    if config.flag("ClearRouteCache")? == Some(true) && !inbound {
        complaints.push("`Config.ClearRouteCache` is not honoured: routes stay".to_owned());
    }
    let status = config.number("StatusOnError")?.unwrap_or(403);
    if !(200..600).contains(&status) {
        return Err(format!(
            "`Config.StatusOnError` is {status}, expected a status"
        ));
    }
    let open = config.flag("FailureModeAllow")?;
    if open == Some(true) && required {
        complaints.push("`Config.FailureModeAllow`: a required extension must answer".to_owned());
    }
    let check = ExternalAuthorization {
        cluster: target.cluster,
        protocol,
        timeout: target.timeout.unwrap_or(TIMEOUT),
        on_error: match required || open == Some(false) {
            true => OnCheckError::Deny(status),
            false => OnCheckError::Allow,
        },
        include_certificate: config.flag("IncludePeerCertificate")?.unwrap_or_default(),
        body: body(&mut config, &mut complaints)?,
    };
    arguments.done(config);
    Ok(Asked {
        check,
        cluster: target.made,
        inbound,
        complaints,
    })
}

fn by_http(
    written: &mut Arguments<'_>,
    proxy: &Proxy,
    complaints: &mut Vec<String>,
) -> Result<(Target, HttpCheck), String> {
    let inner = written.table("Target")?.ok_or("`Target` is missing")?;
    let (target, unknown) = target(inner, CLUSTER, UpstreamProtocol::Http1, proxy)?;
    complaints.extend(unknown);
    let mut check = HttpCheck {
        path_prefix: written.text("PathPrefix")?.unwrap_or_default().to_owned(),
        ..HttpCheck::default()
    };
    if let Some(mut request) = written.table("AuthorizationRequest")? {
        check.shown = matchers(&mut request, "AllowedHeaders")?;
        check.added = header_values(&mut request, "HeadersToAdd")?;
        written.done(request);
    }
    if let Some(mut response) = written.table("AuthorizationResponse")? {
        check.to_upstream = matchers(&mut response, "AllowedUpstreamHeaders")?;
        check.joined_upstream = matchers(&mut response, "AllowedUpstreamHeadersToAppend")?;
        check.refused_client = matchers(&mut response, "AllowedClientHeaders")?;
        check.to_client = matchers(&mut response, "AllowedClientHeadersOnSuccess")?;
        written.done(response);
    }
    Ok((target, check))
}

fn by_grpc(
    written: &mut Arguments<'_>,
    proxy: &Proxy,
    complaints: &mut Vec<String>,
) -> Result<(Target, GrpcCheck), String> {
    let inner = written.table("Target")?.ok_or("`Target` is missing")?;
    let (target, unknown) = target(inner, CLUSTER, UpstreamProtocol::Http2, proxy)?;
    complaints.extend(unknown);
    let check = GrpcCheck {
        authority: written.text("Authority")?.map(str::to_owned),
        metadata: header_values(written, "InitialMetadata")?,
    };
    Ok((target, check))
}

fn body(
    config: &mut Arguments<'_>,
    complaints: &mut Vec<String>,
) -> Result<Option<CheckBody>, String> {
    let Some(mut written) = config.table("WithRequestBody")? else {
        return Ok(None);
    };
    let most: Option<u32> = written.number("MaxRequestBytes")?;
    let partial = written.flag("AllowPartialMessage")?;
    let raw = written.flag("PackAsBytes")?;
    config.done(written);
    if (most, partial, raw) == (None, None, None) {
        return Ok(None);
    }
    let most = most
        .filter(|most| *most > 0)
        .ok_or("`WithRequestBody` needs MaxRequestBytes above 0")?;
    if most > MOST_BODY {
        complaints.push(format!(
            "`WithRequestBody.MaxRequestBytes` is {most}; no more than {MOST_BODY} are held"
        ));
    }
    Ok(Some(CheckBody {
        most: most.min(MOST_BODY),
        partial: partial.unwrap_or_default(),
        raw: raw.unwrap_or_default(),
    }))
}

/// Conditions on names of headers, which are in lower case when they are compared.
fn matchers(written: &mut Arguments<'_>, name: &str) -> Result<Vec<ValueMatch>, String> {
    let mut all = Vec::new();
    for mut one in written.list(name)? {
        let lower = one.flag("IgnoreCase")?.unwrap_or_default();
        let mut text = |field| -> Result<Option<String>, String> {
            let found = one.text(field)?;
            Ok(found.map(|text| match lower {
                true => text.to_ascii_lowercase(),
                false => text.to_owned(),
            }))
        };
        let found = [
            text("Exact")?.map(ValueMatch::Exact),
            text("Prefix")?.map(ValueMatch::Prefix),
            text("Suffix")?.map(ValueMatch::Suffix),
            text("Contains")?.map(ValueMatch::Contains),
            match one.text("SafeRegex")? {
                Some(regex) => match Pattern::new(regex) {
                    Ok(pattern) => Some(ValueMatch::Regex(pattern)),
                    Err(error) => return Err(format!("`{name}`: `{regex}`: {error}")),
                },
                None => None,
            },
        ];
        written.done(one);
        let mut found = found.into_iter().flatten();
        match (found.next(), found.next()) {
            (Some(matcher), None) => all.push(matcher),
            _ => {
                return Err(format!(
                    "`{name}`: exactly one of Contains, Exact, Prefix, SafeRegex and Suffix \
                     must be set"
                ));
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(arguments: Value, required: bool) -> Result<Asked, String> {
        let mut arguments = Arguments::read(&arguments)?;
        let mut asked = external(&mut arguments, required, &Proxy::default())?;
        asked.complaints.extend(arguments.unknown());
        Ok(asked)
    }

    fn http(further: Value) -> Value {
        let mut service = json!({"Target": {"URI": "127.0.0.1:9000"}});
        for (key, value) in further.as_object().unwrap() {
            service[key] = value.clone();
        }
        json!({"Config": {"HttpService": service}})
    }

    #[test]
    fn defaults_are_consuls() {
        let asked = read(http(json!({})), false).unwrap();
        assert!(asked.inbound);
        assert_eq!(asked.complaints, Vec::<String>::new());
        let check = asked.check;
        assert_eq!(check.on_error, OnCheckError::Allow);
        assert_eq!(check.timeout, TIMEOUT);
        assert_eq!((check.include_certificate, check.body), (false, None));
        assert_eq!(check.protocol, CheckProtocol::Http(HttpCheck::default()));
        let cluster = asked.cluster.unwrap();
        assert_eq!(cluster.protocol, UpstreamProtocol::Http1);
        assert!(cluster.name.as_str().starts_with(CLUSTER));
    }

    #[test]
    fn who_requires_it_wants_refusals_without_an_answer() {
        let deny = |arguments, required| read(arguments, required).unwrap().check.on_error;
        assert_eq!(deny(http(json!({})), true), OnCheckError::Deny(403));
        let mut arguments = http(json!({}));
        arguments["Config"]["StatusOnError"] = json!(503);
        assert_eq!(deny(arguments.clone(), true), OnCheckError::Deny(503));
        arguments["Config"]["FailureModeAllow"] = json!(false);
        assert_eq!(deny(arguments.clone(), false), OnCheckError::Deny(503));
        arguments["Config"]["FailureModeAllow"] = json!(true);
        assert_eq!(deny(arguments.clone(), false), OnCheckError::Allow);
        let both = read(arguments, true).unwrap();
        assert_eq!(both.check.on_error, OnCheckError::Deny(503));
        assert_eq!(both.complaints.len(), 1);
    }

    #[test]
    fn http_arguments_reach_the_check() {
        let asked = read(
            http(json!({"PathPrefix": "/check",
                "AuthorizationRequest": {"AllowedHeaders": [{"Exact": "X-A", "IgnoreCase": true},
                    {"Prefix": "x-b"}], "HeadersToAdd": [{"Key": "X-Added", "Value": "1"}]},
                "AuthorizationResponse": {"AllowedUpstreamHeaders": [{"Suffix": "-user"}],
                    "AllowedUpstreamHeadersToAppend": [{"Contains": "group"}],
                    "AllowedClientHeaders": [{"SafeRegex": "x-c.*"}],
                    "AllowedClientHeadersOnSuccess": [{"Exact": "x-d"}]}})),
            false,
        )
        .unwrap();
        let CheckProtocol::Http(check) = asked.check.protocol else {
            panic!("not HTTP")
        };
        assert_eq!(check.path_prefix, "/check");
        let shown = [
            ValueMatch::Exact("x-a".into()),
            ValueMatch::Prefix("x-b".into()),
        ];
        assert_eq!(check.shown, shown);
        assert_eq!(check.added[0].0, "x-added");
        assert_eq!(check.to_upstream, [ValueMatch::Suffix("-user".into())]);
        assert_eq!(
            check.joined_upstream,
            [ValueMatch::Contains("group".into())]
        );
        assert!(check.refused_client[0].accepts("x-cd"));
        assert_eq!(check.to_client, [ValueMatch::Exact("x-d".into())]);
    }

    #[test]
    fn grpc_and_body_arguments_reach_the_check() {
        let asked = read(
            json!({"ListenerType": "outbound", "Config": {
                "GrpcService": {"Target": {"URI": "127.0.0.1:9000", "Timeout": "1s"},
                    "Authority": "authz", "InitialMetadata": [{"Key": "x-a", "Value": "1"}]},
                "IncludePeerCertificate": true, "StatPrefix": "x",
                "WithRequestBody": {"MaxRequestBytes": 8_000_000, "AllowPartialMessage": true,
                    "PackAsBytes": true}}}),
            true,
        )
        .unwrap();
        assert!(!asked.inbound && asked.check.include_certificate);
        assert_eq!(asked.check.timeout, Duration::from_secs(1));
        let body = asked.check.body.unwrap();
        assert_eq!((body.most, body.partial, body.raw), (MOST_BODY, true, true));
        assert_eq!(asked.complaints.len(), 1, "{:?}", asked.complaints);
        let CheckProtocol::Grpc(check) = asked.check.protocol else {
            panic!("not gRPC")
        };
        assert_eq!(check.authority.as_deref(), Some("authz"));
        assert_eq!(check.metadata.len(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_what_is_not_known_is_named() {
        for bad in [
            json!({}),
            json!({"Config": {}}),
            json!({"ProxyType": "api-gateway", "Config": http(json!({}))["Config"]}),
            json!({"ListenerType": "both", "Config": http(json!({}))["Config"]}),
            http(json!({"AuthorizationRequest": {"AllowedHeaders": [{}]}})),
            http(json!({"AuthorizationRequest": {"HeadersToAdd": [{"Key": "a b"}]}})),
        ] {
            assert!(read(bad.clone(), false).is_err(), "{bad}");
        }
        let mut odd = http(json!({"Target": {"URI": ":1", "Zone": "x"}}));
        odd["Config"]["MetadataContextNamespaces"] = json!(["x"]);
        odd["InsertOptions"] = json!({"Location": "First"});
        let complaints = read(odd, false).unwrap().complaints;
        for name in ["Zone", "MetadataContextNamespaces", "InsertOptions"] {
            assert!(complaints.iter().any(|said| said.contains(name)), "{name}");
        }
    }
}
