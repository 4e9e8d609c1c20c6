//! From a record to a line, in the writer's thread.
//!
//! A line is one line whatever a client sends: JSON escapes control characters
//! by its grammar, and the text form escapes them here.

use std::cell::RefCell;
use std::io;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

use super::json::Object;
use super::words::Words;
use super::{AccessLogFormat, AccessRecord};
use crate::text::Text;

/// Renders records one way.
#[derive(Debug, Clone)]
pub(super) struct Formatter {
    pub(super) format: AccessLogFormat,
    /// Whether queries are shown.
    pub(super) query: bool,
}

impl Formatter {
    /// Appends the record's line, its newline included.
    ///
    /// # Errors
    /// A pattern whose JSON can't be made; the line is left unfinished then.
    pub(super) fn append(&self, record: &AccessRecord, lines: &mut Vec<u8>) -> io::Result<()> {
        let line = Line::new(record, self.query);
        match &self.format {
            AccessLogFormat::Pattern(pattern) => return pattern.append(record, lines),
            AccessLogFormat::Json => line.json(lines),
            AccessLogFormat::Text => line.text(lines),
        }
        lines.push(b'\n');
        Ok(())
    }
}

/// The fields in the order in which they are written.
struct Line<'r> {
    time: String,
    request_id: Option<&'r Text>,
    trace_id: Option<String>,
    client: Option<&'r Text>,
    peer_identity: Option<&'r Text>,
    listener: &'r str,
    protocol: &'static str,
    method: Option<&'r str>,
    host: Option<&'r Text>,
    path: Option<&'r Text>,
    query: Option<&'r Text>,
    status: Option<u16>,
    outcome: Option<&'static str>,
    duration: Duration,
    upstream_duration: Option<Duration>,
    bytes_in: u64,
    bytes_out: u64,
    route: Option<&'r str>,
    cluster: Option<&'r str>,
    endpoint: Option<&'r Text>,
    tries: u32,
    user_agent: Option<&'r Text>,
}

impl<'r> Line<'r> {
    fn new(record: &'r AccessRecord, query: bool) -> Self {
        Self {
            time: timestamp(record.time),
            request_id: record.request_id.as_ref(),
            trace_id: record.trace.map(|trace| trace.trace_id_hex().to_string()),
            client: record.client.as_ref(),
            peer_identity: record.peer_identity.as_ref(),
            listener: &record.listener,
            protocol: record.protocol.as_str(),
            method: record.method.as_ref().map(http::Method::as_str),
            host: record.host.as_ref(),
            path: record.path.as_ref(),
            query: record.query.as_ref().filter(|_| query),
            status: record.status,
            outcome: record.outcome,
            duration: record.duration,
            upstream_duration: record.upstream_duration,
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            route: record.route.as_deref(),
            cluster: record.cluster.as_deref(),
            endpoint: record.endpoint.as_ref(),
            tries: record.tries,
            user_agent: record.user_agent.as_ref(),
        }
    }

    /// Their names are promised.
    fn json(&self, lines: &mut Vec<u8>) {
        let mut object = Object::begin(lines);
        object.string("time", Some(&self.time));
        object.text("request_id", self.request_id);
        object.string("trace_id", self.trace_id.as_deref());
        object.text("client", self.client);
        object.text("peer_identity", self.peer_identity);
        object.string("listener", Some(self.listener));
        object.string("protocol", Some(self.protocol));
        object.string("method", self.method);
        object.text("host", self.host);
        object.text("path", self.path);
        object.text("query", self.query);
        object.number("status", self.status);
        object.string("outcome", self.outcome);
        object.seconds("duration_seconds", Some(self.duration));
        object.seconds("upstream_duration_seconds", self.upstream_duration);
        object.number("bytes_in", Some(self.bytes_in));
        object.number("bytes_out", Some(self.bytes_out));
        object.string("route", self.route);
        object.string("cluster", self.cluster);
        object.text("endpoint", self.endpoint);
        object.number("tries", Some(self.tries));
        object.text("user_agent", self.user_agent);
        object.end();
    }

    /// `time client "METHOD path protocol" status in out seconds key=value …`,
    /// a dash for what is absent.
    fn text(&self, lines: &mut Vec<u8>) {
        let mut words = Words::begin(lines);
        words.word(&self.time);
        words.text(self.client);
        words.request(self.method, self.path, self.query, self.protocol);
        words.number(self.status);
        words.number(Some(self.bytes_in));
        words.number(Some(self.bytes_out));
        words.seconds(self.duration);
        words.pair("listener", Some(self.listener));
        words.pair("route", self.route);
        words.pair("cluster", self.cluster);
        words.text_pair("endpoint", self.endpoint);
        words.number_pair("tries", self.tries);
        words.seconds_pair("upstream", self.upstream_duration);
        words.pair("outcome", self.outcome);
        words.text_pair("host", self.host);
        words.text_pair("peer", self.peer_identity);
        words.text_pair("request_id", self.request_id);
        words.pair("trace_id", self.trace_id.as_deref());
        words.text_pair("user_agent", self.user_agent);
    }
}

thread_local! {
    /// The last second that was written, and its text up to the point.
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// RFC 3339 in UTC, with microseconds.
pub(super) fn timestamp(time: SystemTime) -> String {
    // A clock before 1970 is no clock.
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let mut text = String::with_capacity(27);
    SECOND.with_borrow_mut(|(second, written)| {
        if written.is_empty() || *second != since.as_secs() {
            *second = since.as_secs();
            *written = seconds_of(time);
        }
        text.push_str(written);
    });
    let mut digits = itoa::Buffer::new();
    // A seventh digit in front keeps the zeros behind the point.
    text.push_str(&digits.format(1_000_000 + since.subsec_micros())[1..]);
    text.push('Z');
    text
}

/// The same without a fraction: what the lines of a second have in common.
fn seconds_of(time: SystemTime) -> String {
    let utc = OffsetDateTime::from(time);
    let (year, month, day) = (utc.year(), u8::from(utc.month()), utc.day());
    let (hour, minute, second) = (utc.hour(), utc.minute(), utc.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::Protocol;
    use http::Method;

    fn record() -> AccessRecord {
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_123);
        let mut record = AccessRecord::new(time, "public".into(), Protocol::Http11);
        record.method = Some(Method::GET);
        record.path = Some(Text::Static("/orders"));
        record.query = Some(Text::Static("token=secret"));
        record.client = Some(Text::Address("192.0.2.1:1234".parse().unwrap()));
        record.status = Some(200);
        record.duration = Duration::from_nanos(1_234_567);
        record.bytes_out = 12;
        record.tries = 1;
        record
    }

    fn line(record: &AccessRecord, format: AccessLogFormat, query: bool) -> String {
        let mut bytes = Vec::new();
        let formatter = Formatter { format, query };
        formatter.append(record, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn writes_json_fields_by_their_promised_names() {
        let line = line(&record(), AccessLogFormat::Json, false);
        assert_eq!(
            line,
            concat!(
                r#"{"time":"2023-11-14T22:13:20.000123Z","client":"192.0.2.1:1234","#,
                r#""listener":"public","protocol":"HTTP/1.1","method":"GET","path":"/orders","#,
                r#""status":200,"duration_seconds":0.001235,"bytes_in":0,"bytes_out":12,"#,
                r#""tries":1}"#,
                "\n"
            )
        );
    }

    #[test]
    fn writes_text() {
        let line = line(&record(), AccessLogFormat::Text, false);
        assert_eq!(
            line,
            "2023-11-14T22:13:20.000123Z 192.0.2.1:1234 \"GET /orders HTTP/1.1\" \
             200 0 12 0.001235 listener=public tries=1\n"
        );
    }

    #[test]
    fn shows_the_query_only_on_demand() {
        for format in [AccessLogFormat::Json, AccessLogFormat::Text] {
            assert!(!line(&record(), format.clone(), false).contains("secret"));
            assert!(line(&record(), format, true).contains("token=secret"));
        }
    }

    #[test]
    fn stays_one_valid_line_for_hostile_values() {
        let hostile: [&[u8]; 5] = [
            b"\"}\t{\"status\":200",
            b"\\\" outcome=ok",
            b"\xff\xfe\x80",
            "\u{2028}\u{85}".as_bytes(),
            b"",
        ];
        for bytes in hostile {
            let value = Text::copied(bytes);
            let mut record = record();
            record.user_agent = Some(value.clone());
            record.host = Some(value.clone());
            // A path may hold what a header can't.
            record.path = Some(format!("{}\n\u{1b}[2J\0", value.render()).into());

            let json = line(&record, AccessLogFormat::Json, true);
            assert_eq!(json.matches('\n').count(), 1, "{json:?}");
            let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(parsed["user_agent"], *value.render());
            assert_eq!(parsed["status"], 200);

            let text = line(&record, AccessLogFormat::Text, true);
            assert!(text.ends_with('\n'), "{text:?}");
            assert!(!text.trim_end().contains(char::is_control), "{text:?}");
            assert!(!text.contains('\u{2028}'), "{text:?}");
            assert!(!text.contains(" outcome=ok "), "{text:?}");
        }
    }

    #[test]
    fn describes_a_tcp_connection_without_a_request() {
        let mut record = AccessRecord::new(SystemTime::UNIX_EPOCH, "db".into(), Protocol::Tcp);
        record.outcome = Some("denied");
        let text = line(&record, AccessLogFormat::Text, false);
        assert!(
            text.starts_with("1970-01-01T00:00:00.000000Z - \"TCP\" - 0 0 0 listener=db"),
            "{text}"
        );
        assert!(text.contains("outcome=denied"), "{text}");
    }
}
