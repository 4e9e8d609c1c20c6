//! `builtin/otel-access-logging`: a collector that is sent a record of each request.

use super::target::target;
use super::{Arguments, header_values};
use consul::agent::Proxy;
use meridian_model::log::{LogField, LogPiece, LogValue};
use meridian_model::operator::{self, Operator, Piece};
use meridian_model::{Cluster, LogExport, UpstreamProtocol};
use serde_json::Value;
use std::time::Duration;

/// Name of a cluster on this machine, before its address.
pub(crate) const CLUSTER: &str = "local_access_log";

/// Envoy's default.
const INTERVAL: Duration = Duration::from_secs(1);

/// Longest call; Envoy would wait for ever.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A collector, and which listeners it hears of.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) export: LogExport,
    /// Its cluster, where no upstream brings it along.
    pub(super) cluster: Option<Cluster>,
    pub(super) inbound: bool,
    /// What is not honoured.
    pub(super) complaints: Vec<String>,
}

/// Reads the arguments.
pub(super) fn log(arguments: &mut Arguments<'_>, proxy: &Proxy) -> Result<Heard, String> {
    let inbound = super::is_inbound(arguments)?;
    let mut config = arguments.table("Config")?.ok_or("`Config` is missing")?;
    let mut complaints = Vec::new();
    let mut service = config
        .table("GrpcService")?
        .ok_or("`GrpcService` is missing")?;
    let inner = service.table("Target")?.ok_or("`Target` is missing")?;
    let (target, unknown) = target(inner, CLUSTER, UpstreamProtocol::Http2, proxy)?;
    complaints.extend(unknown);
    let authority = service.text("Authority")?.map(str::to_owned);
    let metadata = header_values(&mut service, "InitialMetadata")?;
    config.done(service);

    let listener = if inbound { "inbound" } else { "outbound" };
    let name = config.text("LogName")?.unwrap_or(listener);
    let mut resource = vec![("log_name".to_owned(), literal(name))];
    resource.extend(values(&mut config, "ResourceAttributes", &mut complaints)?);
    let attributes = values(&mut config, "Attributes", &mut complaints)?;
    let body = config.value("Body");
    let body = body.map(|body| value("Body", body, &mut complaints));
    let interval: Option<u64> = config.number("BufferFlushInterval")?;
    let export = LogExport {
        cluster: target.cluster,
        authority,
        metadata,
        timeout: target.timeout.unwrap_or(TIMEOUT),
        interval: interval.map_or(INTERVAL, Duration::from_nanos),
        batch_bytes: config.number("BufferSizeBytes")?.unwrap_or_default(),
        resource,
        body: body.transpose()?,
        attributes,
    };
    arguments.done(config);
    Ok(Heard {
        export,
        cluster: target.made,
        inbound,
        complaints,
    })
}

fn literal(text: &str) -> LogValue {
    LogValue::Text(vec![LogPiece::Literal(text.to_owned())])
}

fn values(
    config: &mut Arguments<'_>,
    name: &str,
    complaints: &mut Vec<String>,
) -> Result<Vec<(String, LogValue)>, String> {
    match config.value(name) {
        None => Ok(Vec::new()),
        Some(Value::Object(table)) => table
            .iter()
            .map(|(key, written)| Ok((key.clone(), value(name, written, complaints)?)))
            .collect(),
        Some(other) => Err(config.wrong(name, other, "a table")),
    }
}

fn value(name: &str, written: &Value, complaints: &mut Vec<String>) -> Result<LogValue, String> {
    Ok(match written {
        Value::String(text) => LogValue::Text(template(name, text, complaints)),
        Value::Bool(flag) => LogValue::Bool(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => LogValue::Integer(number),
            (None, Some(number)) => LogValue::Float(number),
            (None, None) => return Err(format!("`{name}` holds {number}: out of range")),
        },
        Value::Array(items) => {
            let items = items.iter().map(|item| value(name, item, complaints));
            LogValue::List(items.collect::<Result<_, _>>()?)
        }
        Value::Object(table) => {
            let entries = table
                .iter()
                .map(|(key, inner)| Ok((key.clone(), value(name, inner, complaints)?)));
            LogValue::Map(entries.collect::<Result<_, String>>()?)
        }
        Value::Null => return Err(format!("`{name}` holds nothing")),
    })
}

/// What Envoy's operators ask for. What is not known of a request is named, and stands as `-` in
/// the log.
fn template(name: &str, text: &str, complaints: &mut Vec<String>) -> Vec<LogPiece> {
    let read = |piece: Piece<'_>| match piece {
        Piece::Text(text) => LogPiece::Literal(text),
        Piece::Unclosed(rest) => LogPiece::Literal(format!("%{rest}")),
        Piece::Operator(operator) => match field(&operator) {
            Some(field) => LogPiece::Field(field, operator.length),
            None => {
                complaints.push(format!("`{name}`: `{operator}` is not known here"));
                LogPiece::Literal("-".to_owned())
            }
        },
    };
    operator::pieces(text).into_iter().map(read).collect()
}

fn field(operator: &Operator<'_>) -> Option<LogField> {
    if let Some(name) = operator.request_header() {
        return header(&name.to_ascii_lowercase());
    }
    if operator.argument.is_some() || operator.length.is_some() {
        return None;
    }
    Some(match operator.name {
        "START_TIME" => LogField::StartTime,
        "PROTOCOL" => LogField::Protocol,
        "RESPONSE_CODE" => LogField::Status,
        "RESPONSE_CODE_DETAILS" => LogField::Outcome,
        "DURATION" => LogField::Duration,
        "BYTES_RECEIVED" => LogField::BytesReceived,
        "BYTES_SENT" => LogField::BytesSent,
        "DOWNSTREAM_REMOTE_ADDRESS" => LogField::Client,
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => LogField::ClientIp,
        "DOWNSTREAM_PEER_URI_SAN" => LogField::Peer,
        "UPSTREAM_HOST" => LogField::Endpoint,
        "UPSTREAM_CLUSTER" => LogField::Cluster,
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => LogField::Tries,
        "ROUTE_NAME" => LogField::Route,
        "TRACE_ID" => LogField::TraceId,
        "STREAM_ID" => LogField::RequestId,
        _ => return None,
    })
}

fn header(name: &str) -> Option<LogField> {
    Some(match name {
        ":method" => LogField::Method,
        ":path" => LogField::Path,
        ":authority" | "host" => LogField::Authority,
        "user-agent" => LogField::UserAgent,
        "x-request-id" => LogField::RequestId,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(config: Value) -> Result<Heard, String> {
        let written = json!({"Config": config});
        let mut arguments = Arguments::read(&written)?;
        let mut heard = log(&mut arguments, &Proxy::default())?;
        heard.complaints.extend(arguments.unknown());
        Ok(heard)
    }

    fn service() -> Value {
        json!({"Target": {"URI": "127.0.0.1:4317"}})
    }

    #[test]
    fn defaults_are_consuls() {
        let heard = read(json!({"GrpcService": service()})).unwrap();
        assert!(heard.inbound && heard.complaints.is_empty());
        let export = heard.export;
        assert_eq!(export.resource, [("log_name".into(), literal("inbound"))]);
        assert_eq!((export.interval, export.batch_bytes), (INTERVAL, 0));
        assert_eq!((export.body, export.attributes.len()), (None, 0));
        let cluster = heard.cluster.unwrap();
        assert_eq!(cluster.protocol, UpstreamProtocol::Http2);
        assert!(cluster.name.as_str().starts_with(CLUSTER));
        assert!(read(json!({})).is_err());
    }

    #[test]
    fn arguments_reach_the_export() {
        let heard = read(json!({"GrpcService": service(), "LogName": "mine",
            "BufferFlushInterval": 5_000_000_000u64, "BufferSizeBytes": 100,
            "Body": {"a": ["x", true, 5, 1.5]}, "Attributes": {"m": "%REQ(:METHOD)%"},
            "ResourceAttributes": {"r": "s"}, "RetryPolicy": {"NumRetries": 3}}))
        .unwrap();
        let export = heard.export;
        assert_eq!(export.interval, Duration::from_secs(5));
        assert_eq!(export.batch_bytes, 100);
        let named = |key: &str, text| (key.to_owned(), literal(text));
        assert_eq!(
            export.resource,
            [named("log_name", "mine"), named("r", "s")]
        );
        let method = LogValue::Text(vec![LogPiece::Field(LogField::Method, None)]);
        assert_eq!(export.attributes, [("m".to_owned(), method)]);
        let list = vec![
            literal("x"),
            LogValue::Bool(true),
            LogValue::Integer(5),
            LogValue::Float(1.5),
        ];
        let body = LogValue::Map(vec![("a".to_owned(), LogValue::List(list))]);
        assert_eq!(export.body, Some(body));
        assert_eq!(heard.complaints.len(), 1, "{:?}", heard.complaints);
        assert!(heard.complaints[0].contains("RetryPolicy"));
    }

    #[test]
    fn operators_become_fields_and_unknown_ones_are_named() {
        let mut complaints = Vec::new();
        let pieces = template(
            "Body",
            "a %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% 5%% %REQ(X-A)% %RESPONSE_CODE% 7%",
            &mut complaints,
        );
        let literal = |text: &str| LogPiece::Literal(text.to_owned());
        let expected = [
            literal("a "),
            LogPiece::Field(LogField::Path, None),
            literal(" 5% "),
            literal("-"),
            literal(" "),
            LogPiece::Field(LogField::Status, None),
            literal(" 7"),
            literal("%"),
        ];
        assert_eq!(pieces, expected);
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("%REQ(X-A)%"));
        let pieces = template("Body", "%REQ(USER-AGENT):3%", &mut complaints);
        assert_eq!(pieces, [LogPiece::Field(LogField::UserAgent, Some(3))]);
        assert_eq!(complaints.len(), 1);
        let pieces = template("Body", "%START_TIME(%Y)%", &mut complaints);
        assert_eq!(pieces, [literal("-")]);
        assert!(complaints[1].contains("%START_TIME(%Y)%"));
    }
}
