//! Names: of resources, hosts and headers.

use super::{Syntax, scalar};
use std::fmt;

scalar! {
    /// A name that stands in metrics and logs: letters, digits, `.`, `_`, `-`.
    Name(String)
}
scalar! {
    /// A host name, or `*.` and a host name for all names below it. Lower-cased.
    HostPattern(String)
}
scalar! {
    /// Name of a header that may be matched and changed.
    HeaderName(http::HeaderName)
}
scalar! {
    /// Value of a header: visible ASCII characters and spaces.
    HeaderValue(http::HeaderValue)
}

/// As long as a DNS name may be.
const LONGEST_NAME: usize = 253;

impl Syntax for Name {
    const FORMAT: &'static str = "name";
    const EXPECTED: &'static str = "a name of letters, digits and . _ -";
    const SAMPLE: &'static str = "unnamed";

    fn parse(text: &str) -> Option<Self> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        ((1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(legal))
            .then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Syntax for HostPattern {
    const FORMAT: &'static str = "host-pattern";
    const EXPECTED: &'static str = "a host name such as api.example.com or *.example.com";
    const SAMPLE: &'static str = "example.com";

    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let host = text.strip_prefix("*.").unwrap_or(&text);
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let label = |l: &str| (1..=63).contains(&l.len()) && l.bytes().all(legal);
        (host.len() <= LONGEST_NAME && host.split('.').all(label)).then_some(Self(text))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Headers that say how a message is framed and where it is going. Changing
/// them is request smuggling or does nothing.
const RESERVED: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Syntax for HeaderName {
    const FORMAT: &'static str = "header-name";
    const EXPECTED: &'static str =
        "a header name that does not frame the message (host, connection, content-length, …)";
    const SAMPLE: &'static str = "x-unnamed";

    fn parse(text: &str) -> Option<Self> {
        let name: http::HeaderName = text.parse().ok()?;
        (!RESERVED.contains(&name.as_str())).then_some(Self(name))
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl Syntax for HeaderValue {
    const FORMAT: &'static str = "header-value";
    const EXPECTED: &'static str = "a header value of visible ASCII characters and spaces";
    const SAMPLE: &'static str = "";

    fn parse(text: &str) -> Option<Self> {
        let legal = |b: u8| b == b' ' || b.is_ascii_graphic();
        if !text.bytes().all(legal) {
            return None;
        }
        text.parse().ok().map(Self)
    }
}

impl fmt::Display for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // ASCII, as `parse` made sure.
        f.write_str(&String::from_utf8_lossy(self.0.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::{HeaderName, HostPattern, Syntax};

    #[test]
    fn hosts_have_no_port_and_one_leading_star() {
        assert_eq!(
            HostPattern::parse("*.Example.com").unwrap().0,
            "*.example.com"
        );
        for bad in ["", "*", "a:80", "a.*.com", "a..b", "http://a", "a."] {
            assert_eq!(HostPattern::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn framing_headers_are_out_of_reach() {
        assert!(HeaderName::parse("Content-Length").is_none());
        assert!(HeaderName::parse("X-Beta").is_some());
    }
}
