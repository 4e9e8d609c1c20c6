//! Header values that a route writes.

use http::{HeaderName, HeaderValue};

/// What a header is given as its value.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderText {
    /// The same for every message.
    Fixed(HeaderValue),
    /// Put together for each message, in order. Where nothing comes of it, the header is not
    /// written.
    Composed(Vec<HeaderPart>),
}

/// A part of a header's value. What is not known is empty.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderPart {
    /// As it stands.
    Text(String),
    /// One of the client's end of the connection.
    Client(AddressPart),
    /// One of our end of the client's connection.
    Local(AddressPart),
    /// The SPIFFE ID in the client's certificate.
    ClientIdentity,
    /// The host name that the client asked for in its TLS handshake.
    ServerName,
    /// The request's version: `HTTP/1.1`, `HTTP/2`.
    Protocol,
    /// The request's authority, port included.
    Authority,
    /// The request's method.
    Method,
    /// The request's path with its query, as the client wrote it.
    Path,
    /// `http` or `https`, as the client came.
    Scheme,
    /// A header of the request; the first of several.
    RequestHeader(HeaderName),
}

/// What is wanted of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressPart {
    /// IP address and port.
    Whole,
    /// The IP address.
    Ip,
    /// The port.
    Port,
}

impl From<HeaderValue> for HeaderText {
    fn from(value: HeaderValue) -> Self {
        Self::Fixed(value)
    }
}
