//! From an access record to a record of OTLP, by the operator's template.

use super::message::{AnyValue, KeyValue, List, LogRecord, Map, Value};
use meridian_model::LogExport;
use meridian_model::log::{LogField, LogPiece, LogValue};
use meridian_telemetry::access_log::AccessRecord;
use meridian_telemetry::text::Text;
use std::time::UNIX_EPOCH;

/// What stands in place of what a request does not say, as in Envoy's logs.
const NOTHING: &str = "-";

/// One record.
pub(super) fn record(model: &LogExport, record: &AccessRecord) -> LogRecord {
    // A clock before 1970 makes no difference to anybody.
    let since = record.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let trace = record.trace.as_ref();
    LogRecord {
        time_unix_nano: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        body: model.body.as_ref().map(|body| value(body, Some(record))),
        attributes: pairs(&model.attributes, Some(record)),
        trace_id: trace.map_or_else(Vec::new, |trace| trace.trace_id.to_vec()),
        span_id: trace.map_or_else(Vec::new, |trace| trace.span_id.to_vec()),
    }
}

/// What is the same for all records.
pub(super) fn resource(model: &LogExport) -> Vec<KeyValue> {
    pairs(&model.resource, None)
}

fn pairs(written: &[(String, LogValue)], record: Option<&AccessRecord>) -> Vec<KeyValue> {
    let pair = |(key, written): &(String, LogValue)| KeyValue {
        key: key.clone(),
        value: Some(value(written, record)),
    };
    written.iter().map(pair).collect()
}

fn value(written: &LogValue, record: Option<&AccessRecord>) -> AnyValue {
    let value = match written {
        LogValue::Text(pieces) => Value::Text(text(pieces, record)),
        LogValue::Integer(number) => Value::Integer(*number),
        LogValue::Float(number) => Value::Float(*number),
        LogValue::Bool(flag) => Value::Bool(*flag),
        LogValue::List(values) => Value::List(List {
            values: values.iter().map(|one| value(one, record)).collect(),
        }),
        LogValue::Map(values) => Value::Map(Map {
            values: pairs(values, record),
        }),
    };
    AnyValue { value: Some(value) }
}

fn text(pieces: &[LogPiece], record: Option<&AccessRecord>) -> String {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            LogPiece::Literal(literal) => out.push_str(literal),
            LogPiece::Field(field, most) => {
                let said = record.and_then(|record| said(*field, record));
                let said = said.as_deref().unwrap_or(NOTHING);
                out.extend(said.chars().take(most.unwrap_or(usize::MAX)));
            }
        }
    }
    out
}

fn said(field: LogField, record: &AccessRecord) -> Option<String> {
    let rendered = |text: &Option<Text>| text.as_ref().map(|text| text.render().into_owned());
    match field {
        LogField::StartTime => Some(record.rfc3339()),
        LogField::Protocol => Some(record.protocol.as_str().to_owned()),
        LogField::Method => record.method.as_ref().map(ToString::to_string),
        LogField::Path => {
            let path = rendered(&record.path)?;
            Some(match rendered(&record.query) {
                Some(query) => format!("{path}?{query}"),
                None => path,
            })
        }
        LogField::Authority => rendered(&record.host),
        LogField::UserAgent => rendered(&record.user_agent),
        LogField::RequestId => rendered(&record.request_id),
        // Envoy's word for none.
        LogField::Status => Some(record.status.unwrap_or(0).to_string()),
        LogField::Outcome => record.outcome.map(str::to_owned),
        LogField::Duration => Some(record.duration.as_millis().to_string()),
        LogField::BytesReceived => Some(record.bytes_in.to_string()),
        LogField::BytesSent => Some(record.bytes_out.to_string()),
        LogField::Client => rendered(&record.client),
        LogField::ClientIp => match &record.client {
            Some(Text::Address(address)) => Some(address.ip().to_string()),
            other => rendered(other),
        },
        LogField::Peer => rendered(&record.peer_identity),
        LogField::Endpoint => rendered(&record.endpoint),
        LogField::Cluster => record.cluster.as_deref().map(str::to_owned),
        LogField::Route => record.route.as_deref().map(str::to_owned),
        LogField::Tries => Some(record.tries.to_string()),
        LogField::TraceId => record.trace.map(|trace| trace.trace_id_hex().to_string()),
    }
}
