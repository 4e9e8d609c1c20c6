//! Addresses: of sockets and collectors.

use super::{Syntax, scalar};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

scalar! {
    /// An IP address.
    IpAddress(IpAddr)
}
scalar! {
    /// An IP address and a port.
    SocketAddress(SocketAddr)
}
scalar! {
    /// An `http://` or `https://` URL.
    HttpUrl(String)
}

impl Syntax for IpAddress {
    const FORMAT: &'static str = "ip-address";
    const EXPECTED: &'static str = "an IP address such as 127.0.0.1 or ::1";
    const SAMPLE: &'static str = "127.0.0.1";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

impl fmt::Display for IpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Syntax for SocketAddress {
    const FORMAT: &'static str = "socket-address";
    const EXPECTED: &'static str = "an IP address and a port such as 127.0.0.1:8080 or [::1]:8080";
    const SAMPLE: &'static str = "127.0.0.1:1";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Syntax for HttpUrl {
    const FORMAT: &'static str = "http-url";
    const EXPECTED: &'static str = "a URL that begins with http:// or https://";
    const SAMPLE: &'static str = "http://127.0.0.1:1";

    fn parse(text: &str) -> Option<Self> {
        let uri: http::Uri = text.parse().ok()?;
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        (scheme && uri.host().is_some_and(|host| !host.is_empty())).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
