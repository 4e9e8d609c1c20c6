//! What a client did wrong before its request could be routed.

use http::StatusCode;
use meridian_telemetry::metrics::RejectReason;

/// A rule of HTTP/1.1 that a client broke, or a limit that it passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Violation {
    /// A chunk's size, extension, end or trailer is malformed.
    ChunkFraming,
    /// `CONNECT`, which nothing here tunnels.
    Connect,
    /// Content-Length is repeated, a list, empty, padded or not a number.
    ContentLength,
    /// A NUL, a bare CR or another control character.
    ControlByte,
    /// A header line is continued on the next (obs-fold, RFC 9112, 5.2).
    FoldedHeader,
    /// Both Content-Length and Transfer-Encoding (RFC 9112, 6.3).
    FramingConflict,
    /// The head has more bytes than allowed.
    HeadBytes,
    /// The head did not arrive in time.
    HeadTimeout,
    /// The body stood still for too long.
    BodyTimeout,
    /// The head has more lines than allowed.
    HeaderCount,
    /// A header line without a colon, or with a name that is no token.
    HeaderName,
    /// Host is missing, repeated, empty or no authority (RFC 9112, 3.2).
    Host,
    /// A line ends in LF without CR.
    LineEnd,
    /// The method is no token.
    Method,
    /// The request line has not three parts divided by one space each.
    RequestLine,
    /// The target is neither origin-form, nor absolute-form of the same
    /// authority, nor `*` of OPTIONS; or it has characters that no target has.
    Target,
    /// The request line alone has more bytes than a head may.
    TargetBytes,
    /// Transfer-Encoding is anything but one `chunked`.
    TransferCoding,
    /// Transfer-Encoding in HTTP/1.0 (RFC 9112, 6.1).
    TransferCodingVersion,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    Version,
}

impl Violation {
    /// What the client is told.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BodyTimeout | Self::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::HeadBytes | Self::HeaderCount => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetBytes => StatusCode::URI_TOO_LONG,
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The reason as it stands in access logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChunkFraming => "chunk_framing",
            Self::Connect => "connect",
            Self::ContentLength => "content_length",
            Self::ControlByte => "control_byte",
            Self::FoldedHeader => "folded_header",
            Self::FramingConflict => "framing_conflict",
            Self::HeadBytes => "head_bytes",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::HeaderCount => "header_count",
            Self::HeaderName => "header_name",
            Self::Host => "host",
            Self::LineEnd => "line_end",
            Self::Method => "method",
            Self::RequestLine => "request_line",
            Self::Target => "target",
            Self::TargetBytes => "target_bytes",
            Self::TransferCoding => "transfer_coding",
            Self::TransferCodingVersion => "transfer_coding_version",
            Self::Version => "version",
        }
    }

    /// Label of the counter of requests that were refused before they were routed.
    pub fn metric(self) -> RejectReason {
        match self {
            Self::BodyTimeout | Self::HeadTimeout => RejectReason::Timeout,
            Self::HeadBytes | Self::HeaderCount | Self::TargetBytes => RejectReason::HeaderTooLarge,
            _ => RejectReason::BadRequest,
        }
    }
}
