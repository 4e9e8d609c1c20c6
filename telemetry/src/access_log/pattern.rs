//! Lines after a pattern of the operator's, in the manner of Envoy's access log.
//!
//! Dashboards that read the log of a service's Envoy go on reading ours. What a record doesn't
//! hold is `-` in text and `null` in JSON, as there.

use std::fmt::Write;
use std::io;
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;

use super::{AccessRecord, Protocol};
use crate::text::Text;

/// How a line looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinePattern {
    /// Pieces one after another; the pattern says where a line ends.
    Text(Vec<Piece>),
    /// An object a line, its fields in this order.
    Json(Vec<(String, Vec<Piece>)>),
}

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Itself.
    Words(String),
    /// Something of the record, cut after so many characters.
    Field(Field, Option<usize>),
}

/// What a record can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// When it began: RFC 3339 with milliseconds.
    StartTime,
    /// Milliseconds.
    Duration,
    /// Milliseconds until the endpoint's answer.
    UpstreamDuration,
    /// The request's method.
    Method,
    /// The request's path and query, as the client sent them.
    Path,
    /// The request's authority.
    Authority,
    /// The request's `user-agent`.
    UserAgent,
    /// The request's `x-request-id`.
    RequestId,
    /// What was spoken.
    Protocol,
    /// The answer's status; 0 without one.
    Status,
    /// Envoy's letters for what went wrong.
    Flags,
    /// Our word for what went wrong, or Envoy's for what did not.
    Details,
    /// Bytes of body from the client.
    Received,
    /// Bytes of body to the client.
    Sent,
    /// The endpoint.
    Endpoint,
    /// The cluster.
    Cluster,
    /// The route.
    Route,
    /// The client's address, with its port or without.
    Client,
    /// See [`Field::Client`].
    ClientAddress,
    /// The client's SPIFFE ID.
    PeerIdentity,
    /// What no record holds.
    Nothing,
}

impl LinePattern {
    /// Appends the record's line.
    pub(super) fn append(&self, record: &AccessRecord, lines: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Text(pieces) => {
                let line = rendered(pieces, record);
                // One record is one line, whatever a client sends; the pattern's own ends stay.
                lines.extend_from_slice(line.as_bytes());
            }
            Self::Json(fields) => {
                lines.push(b'{');
                for (number, (name, pieces)) in fields.iter().enumerate() {
                    if number > 0 {
                        lines.push(b',');
                    }
                    serde_json::to_writer(&mut *lines, name)?;
                    lines.push(b':');
                    serde_json::to_writer(&mut *lines, &json(pieces, record))?;
                }
                lines.extend_from_slice(b"}\n");
            }
        }
        Ok(())
    }
}

/// A field by itself keeps its type, as in Envoy.
fn json(pieces: &[Piece], record: &AccessRecord) -> Value {
    match pieces {
        [Piece::Field(field, most)] => match value(*field, record) {
            Some(Told::Number(number)) => number.into(),
            Some(Told::Words(words)) => cut(words, *most).into(),
            None => Value::Null,
        },
        _ => rendered(pieces, record).into(),
    }
}

fn rendered(pieces: &[Piece], record: &AccessRecord) -> String {
    let mut line = String::with_capacity(256);
    for piece in pieces {
        match piece {
            Piece::Words(words) => line.push_str(words),
            Piece::Field(field, most) => match value(*field, record) {
                // Writing into a string can't fail.
                Some(Told::Number(number)) => drop(write!(line, "{number}")),
                Some(Told::Words(words)) => {
                    let words = cut(words, *most);
                    let one_line = |c: char| if c.is_control() { ' ' } else { c };
                    line.extend(words.chars().map(one_line));
                }
                None => line.push('-'),
            },
        }
    }
    line
}

fn cut(words: String, most: Option<usize>) -> String {
    match most {
        Some(most) => words.chars().take(most).collect(),
        None => words,
    }
}

enum Told {
    Number(u64),
    Words(String),
}

fn value(field: Field, record: &AccessRecord) -> Option<Told> {
    let words = |text: Option<&Text>| text.map(|text| Told::Words(text.render().into_owned()));
    let shared = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
    match field {
        Field::StartTime => Some(Told::Words(start_time(record))),
        Field::Duration => Some(Told::Number(millis(record.duration))),
        Field::UpstreamDuration => record.upstream_duration.map(millis).map(Told::Number),
        Field::Method => record
            .method
            .as_ref()
            .map(|method| Told::Words(method.to_string())),
        Field::Path => record.path.as_ref().map(|path| {
            let path = path.render();
            Told::Words(match &record.query {
                Some(query) => format!("{path}?{}", query.render()),
                None => path.into_owned(),
            })
        }),
        Field::Authority => words(record.host.as_ref()),
        Field::UserAgent => words(record.user_agent.as_ref()),
        Field::RequestId => words(record.request_id.as_ref()),
        Field::Protocol => match record.protocol {
            Protocol::Tcp => None,
            spoken => Some(Told::Words(spoken.as_str().to_owned())),
        },
        Field::Status => Some(Told::Number(record.status.unwrap_or(0).into())),
        Field::Flags => Some(Told::Words(flags(record.outcome).to_owned())),
        Field::Details => Some(Told::Words(
            record.outcome.unwrap_or("via_upstream").to_owned(),
        )),
        Field::Received => Some(Told::Number(record.bytes_in)),
        Field::Sent => Some(Told::Number(record.bytes_out)),
        Field::Endpoint => words(record.endpoint.as_ref()),
        Field::Cluster => shared(&record.cluster).map(Told::Words),
        Field::Route => shared(&record.route).map(Told::Words),
        Field::Client => words(record.client.as_ref()),
        Field::ClientAddress => record.client.as_ref().map(|client| {
            let text = client.render();
            let bare = text
                .parse()
                .map(|address: std::net::SocketAddr| address.ip().to_string());
            Told::Words(bare.unwrap_or_else(|_| text.into_owned()))
        }),
        Field::PeerIdentity => words(record.peer_identity.as_ref()),
        Field::Nothing => None,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn start_time(record: &AccessRecord) -> String {
    let utc = OffsetDateTime::from(record.time);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        utc.year(),
        u8::from(utc.month()),
        utc.day(),
        utc.hour(),
        utc.minute(),
        utc.second(),
        utc.millisecond()
    )
}

/// Envoy's `RESPONSE_FLAGS` for the data plane's words.
fn flags(outcome: Option<&str>) -> &'static str {
    match outcome.unwrap_or_default() {
        "no_healthy_upstream" => "UH",
        "overflow" => "UO",
        "connect_failed" | "connect_timeout" | "peer_unverified" => "UF",
        "upstream_reset" | "stream_refused" | "response_cut" => "UC",
        "timeout" | "try_timeout" => "UT",
        "idle_timeout" => "SI",
        "no_route" | "method_not_allowed" => "NR",
        "client_gone" => "DC",
        "bad_response" => "UPE",
        _ => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;
    use std::time::SystemTime;

    fn record() -> AccessRecord {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let mut record = AccessRecord::new(time, "public_listener".into(), Protocol::Http11);
        record.method = Some(Method::GET);
        record.path = Some(Text::Static("/orders"));
        record.query = Some(Text::Static("id=1"));
        record.client = Some(Text::Address("192.0.2.1:1234".parse().unwrap()));
        record.user_agent = Some(Text::Static("curl\n8"));
        record.status = Some(503);
        record.outcome = Some("no_healthy_upstream");
        record.duration = Duration::from_micros(4_999);
        record.bytes_out = 19;
        record
    }

    fn line(pattern: &LinePattern) -> String {
        let mut lines = Vec::new();
        pattern.append(&record(), &mut lines).unwrap();
        String::from_utf8(lines).unwrap()
    }

    fn words(words: &str) -> Piece {
        Piece::Words(words.to_owned())
    }

    fn whole(field: Field) -> Piece {
        Piece::Field(field, None)
    }

    #[test]
    fn text_is_written_as_the_pattern_says() {
        let pattern = LinePattern::Text(vec![
            words("["),
            whole(Field::StartTime),
            words("] "),
            whole(Field::Method),
            words(" "),
            whole(Field::Path),
            words(" "),
            whole(Field::Protocol),
            words(" "),
            whole(Field::Status),
            words(" "),
            whole(Field::Flags),
            words(" "),
            whole(Field::Details),
            words(" "),
            whole(Field::Duration),
            words("ms 100% "),
            Piece::Field(Field::UserAgent, Some(3)),
            words(" "),
            whole(Field::Endpoint),
            words(" "),
            whole(Field::ClientAddress),
            words("\n"),
        ]);
        assert_eq!(
            line(&pattern),
            "[2023-11-14T22:13:20.123Z] GET /orders?id=1 HTTP/1.1 503 UH no_healthy_upstream \
             4ms 100% cur - 192.0.2.1\n"
        );
    }

    #[test]
    fn a_record_stays_one_line() {
        let pattern = LinePattern::Text(vec![whole(Field::UserAgent), words("\n")]);
        assert_eq!(line(&pattern), "curl 8\n");
    }

    #[test]
    fn fields_of_an_object_keep_their_types() {
        let field = |name: &str, pieces: &[Piece]| (name.to_owned(), pieces.to_vec());
        let pattern = LinePattern::Json(vec![
            field("code", &[whole(Field::Status)]),
            field("agent", &[whole(Field::UserAgent)]),
            field("both", &[whole(Field::Sent), words(" bytes")]),
            field("none", &[whole(Field::Cluster)]),
        ]);
        assert_eq!(
            line(&pattern),
            "{\"code\":503,\"agent\":\"curl\\n8\",\"both\":\"19 bytes\",\"none\":null}\n"
        );
    }

    #[test]
    fn what_no_record_holds_is_a_dash() {
        let cut = Piece::Field(Field::Nothing, Some(5));
        let pattern = LinePattern::Text(vec![whole(Field::Nothing), words(" "), cut]);
        assert_eq!(line(&pattern), "- -");
    }
}
