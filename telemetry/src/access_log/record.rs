//! What is known about a finished request or connection.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Method, Version};

use super::format::timestamp;
use crate::text::Text;
use crate::trace::TraceContext;

/// What was spoken on the downstream side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Bytes without a meaning to us: one record a connection.
    Tcp,
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2, gRPC included.
    Http2,
}

impl Protocol {
    /// The word in the log: `TCP`, `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

impl From<Version> for Protocol {
    /// Versions that the data plane doesn't speak count as HTTP/1.1.
    fn from(version: Version) -> Self {
        match version {
            Version::HTTP_10 | Version::HTTP_09 => Self::Http10,
            Version::HTTP_2 => Self::Http2,
            _ => Self::Http11,
        }
    }
}

/// One line to be. Filled in by copying and reference counting, never by formatting.
#[derive(Debug, Clone)]
pub struct AccessRecord {
    /// When the request's head, or the connection, came in.
    pub time: SystemTime,
    /// From then until the last byte was sent.
    pub duration: Duration,
    /// The listener's name.
    pub listener: Arc<str>,
    /// What was spoken downstream.
    pub protocol: Protocol,
    /// `x-request-id`, the client's or ours.
    pub request_id: Option<Text>,
    /// The trace that the request belongs to.
    pub trace: Option<TraceContext>,
    /// The method; none for TCP.
    pub method: Option<Method>,
    /// The path as the client sent it, without the query; none for TCP.
    pub path: Option<Text>,
    /// The query without its question mark. Written only on demand.
    pub query: Option<Text>,
    /// The authority that the request named.
    pub host: Option<Text>,
    /// The status that the client was sent, if any.
    pub status: Option<u16>,
    /// Why it ended as it did, when something else than the endpoint decided that:
    /// a word of the data plane's, such as `no_route` or `upstream_timeout`.
    pub outcome: Option<&'static str>,
    /// From the last try's first byte out to its response head.
    pub upstream_duration: Option<Duration>,
    /// Bytes of body, or of the stream, from the client.
    pub bytes_in: u64,
    /// Bytes of body, or of the stream, to the client.
    pub bytes_out: u64,
    /// The client's address, after the rules for forwarded addresses.
    pub client: Option<Text>,
    /// The client's SPIFFE ID from its verified certificate.
    pub peer_identity: Option<Text>,
    /// `user-agent` as it was sent.
    pub user_agent: Option<Text>,
    /// The route's name.
    pub route: Option<Arc<str>>,
    /// The cluster's name.
    pub cluster: Option<Arc<str>>,
    /// The endpoint that answered, or was tried last.
    pub endpoint: Option<Text>,
    /// Tries that were made; 0 when nothing was sent on.
    pub tries: u32,
}

impl AccessRecord {
    /// Its time by RFC 3339, in UTC, with microseconds.
    pub fn rfc3339(&self) -> String {
        timestamp(self.time)
    }

    /// A record with the fields that every one has; the rest is empty.
    pub fn new(time: SystemTime, listener: Arc<str>, protocol: Protocol) -> Self {
        Self {
            time,
            duration: Duration::ZERO,
            listener,
            protocol,
            request_id: None,
            trace: None,
            method: None,
            path: None,
            query: None,
            host: None,
            status: None,
            outcome: None,
            upstream_duration: None,
            bytes_in: 0,
            bytes_out: 0,
            client: None,
            peer_identity: None,
            user_agent: None,
            route: None,
            cluster: None,
            endpoint: None,
            tries: 0,
        }
    }
}
