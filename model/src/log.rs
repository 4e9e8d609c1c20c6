//! Access logs that are sent to a collector (Consul's extension `builtin/otel-access-logging`).

use crate::ClusterName;
use http::{HeaderName, HeaderValue};
use std::time::Duration;

/// A collector that takes OTLP logs by gRPC, and what it is told of each request.
#[derive(Debug, Clone, PartialEq)]
pub struct LogExport {
    /// Where it is.
    pub cluster: ClusterName,
    /// `:authority` of the calls, if not the cluster's name.
    pub authority: Option<String>,
    /// Further metadata of the calls.
    pub metadata: Vec<(HeaderName, HeaderValue)>,
    /// How long one call may take.
    pub timeout: Duration,
    /// How long a record waits for company.
    pub interval: Duration,
    /// Bytes of records that go without waiting; 0 lets none wait.
    pub batch_bytes: u32,
    /// Attributes of the resource.
    pub resource: Vec<(String, LogValue)>,
    /// Body of a record.
    pub body: Option<LogValue>,
    /// Attributes of a record.
    pub attributes: Vec<(String, LogValue)>,
}

/// A value of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum LogValue {
    /// A text, put together.
    Text(Vec<LogPiece>),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// Values.
    List(Vec<Self>),
    /// Values by name.
    Map(Vec<(String, Self)>),
}

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPiece {
    /// As written.
    Literal(String),
    /// What a request says, cut after so many characters; `-` where it says nothing.
    Field(LogField, Option<usize>),
}

/// What is known of a finished request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogField {
    /// When its head came.
    StartTime,
    /// `HTTP/1.1` or `HTTP/2`.
    Protocol,
    /// Its method.
    Method,
    /// Its path with the query.
    Path,
    /// Its authority.
    Authority,
    /// Its `user-agent`.
    UserAgent,
    /// Its ID.
    RequestId,
    /// The status that the client was sent.
    Status,
    /// Why it ended as it did, in the data plane's word.
    Outcome,
    /// Milliseconds until the last byte.
    Duration,
    /// Bytes of its body.
    BytesReceived,
    /// Bytes of the response's body.
    BytesSent,
    /// The client's address with its port.
    Client,
    /// The client's address.
    ClientIp,
    /// The client's SPIFFE ID.
    Peer,
    /// The endpoint that answered, or was tried last.
    Endpoint,
    /// The cluster.
    Cluster,
    /// The route.
    Route,
    /// Tries that were made.
    Tries,
    /// The trace that it belongs to.
    TraceId,
}
