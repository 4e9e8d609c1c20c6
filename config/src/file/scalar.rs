//! Texts with a syntax of their own: durations, sizes, names.
//!
//! Each is a `format` of the JSON Schema, so that a bad one is reported with
//! the errors of the file's shape.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time;

/// A text with a syntax of its own.
trait Syntax: Sized {
    /// Value of `format` in the JSON Schema.
    const FORMAT: &'static str;
    /// What to write, for error messages and the reference.
    const EXPECTED: &'static str;
    /// A valid one, that stands in for an invalid one.
    const SAMPLE: &'static str;

    fn parse(text: &str) -> Option<Self>;
}

/// How to check one `format`.
pub(crate) struct Check {
    /// Value of `format` in the JSON Schema.
    pub(crate) format: &'static str,
    /// What to write.
    pub(crate) expected: &'static str,
    /// A valid one.
    pub(crate) sample: &'static str,
    /// Whether a text is one.
    pub(crate) accepts: fn(&str) -> bool,
}

impl Check {
    const fn of<T: Syntax>() -> Self {
        Self {
            format: T::FORMAT,
            expected: T::EXPECTED,
            sample: T::SAMPLE,
            accepts: |text| T::parse(text).is_some(),
        }
    }
}

/// All formats there are.
pub(crate) const SYNTAXES: [Check; 10] = [
    Check::of::<Duration>(),
    Check::of::<Size>(),
    Check::of::<Percentage>(),
    Check::of::<Name>(),
    Check::of::<HostPattern>(),
    Check::of::<HeaderName>(),
    Check::of::<HeaderValue>(),
    Check::of::<IpAddress>(),
    Check::of::<SocketAddress>(),
    Check::of::<HttpUrl>(),
];

macro_rules! scalar {
    ($(#[$doc:meta])* $type:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(pub $inner);

        impl TryFrom<String> for $type {
            type Error = Malformed;

            fn try_from(text: String) -> Result<Self, Malformed> {
                Self::parse(&text).ok_or(Malformed(Self::EXPECTED))
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": Self::FORMAT })
            }
        }
    };
}

/// Why a text was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct Malformed(&'static str);

scalar! {
    /// A duration as the Gateway API writes it (GEP-2257): one to four numbers
    /// of at most five digits, each with its unit `h`, `m`, `s` or `ms`.
    Duration(time::Duration)
}
scalar! {
    /// A number of bytes: `512`, `60Ki`, `10Mi`.
    Size(u64)
}
scalar! {
    /// A share from `0%` to `100%`.
    Percentage(u8)
}
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

const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Syntax for Duration {
    const FORMAT: &'static str = "gateway-duration";
    const EXPECTED: &'static str = "a duration such as 10s, 1m30s or 250ms";
    const SAMPLE: &'static str = "1s";

    fn parse(text: &str) -> Option<Self> {
        let (mut rest, mut total, mut parts) = (text, 0_u64, 0);
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let (number, tail) = rest.split_at(digits);
            let letters = tail
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
            if digits == 0 || digits > 5 {
                return None;
            }
            total += number.parse::<u64>().ok()? * factor;
            (rest, parts) = (tail, parts + 1);
        }
        (1..=4)
            .contains(&parts)
            .then(|| Self(time::Duration::from_millis(total)))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in UNITS {
            if rest >= factor {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

impl Syntax for Size {
    const FORMAT: &'static str = "byte-size";
    const EXPECTED: &'static str = "a size in bytes such as 512, 60Ki or 10Mi";
    const SAMPLE: &'static str = "64Ki";

    fn parse(text: &str) -> Option<Self> {
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let shift = match unit {
            "" => 0,
            "Ki" => 10,
            "Mi" => 20,
            "Gi" => 30,
            _ => return None,
        };
        number
            .parse::<u64>()
            .ok()?
            .checked_mul(1 << shift)
            .map(Self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes > 0 && bytes % (1 << 20) == 0 => write!(f, "{}Mi", bytes >> 20),
            bytes if bytes > 0 && bytes % (1 << 10) == 0 => write!(f, "{}Ki", bytes >> 10),
            bytes => write!(f, "{bytes}"),
        }
    }
}

impl Syntax for Percentage {
    const FORMAT: &'static str = "percentage";
    const EXPECTED: &'static str = "a percentage from 0% to 100%";
    const SAMPLE: &'static str = "10%";

    fn parse(text: &str) -> Option<Self> {
        let number = text.strip_suffix('%')?;
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        number.parse().ok().filter(|n| *n <= 100).map(Self)
    }
}

impl fmt::Display for Percentage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
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

#[cfg(test)]
mod tests {
    use super::{Duration, HeaderName, HostPattern, Percentage, SYNTAXES, Size, Syntax};
    use std::time;

    #[test]
    fn durations_are_those_of_the_gateway_api() {
        let parse = |text| Duration::parse(text).map(|d| d.0);
        assert_eq!(parse("1m30s"), Some(time::Duration::from_secs(90)));
        assert_eq!(parse("250ms"), Some(time::Duration::from_millis(250)));
        assert_eq!(parse("0s"), Some(time::Duration::ZERO));
        for bad in [
            "",
            "10",
            "10 s",
            "1d",
            "s",
            "-1s",
            "1.5s",
            "100000s",
            "1s1s1s1s1s",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for text in ["1h1m1s1ms", "30s", "5m", "250ms", "0s"] {
            assert_eq!(Duration::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn sizes_are_binary_and_bounded() {
        assert_eq!(Size::parse("10Mi").unwrap().0, 10 << 20);
        assert_eq!(Size::parse("60Ki").unwrap().to_string(), "60Ki");
        assert_eq!(Size::parse("10MB"), None);
        assert_eq!(Size::parse("99999999999Gi"), None);
    }

    #[test]
    fn percentages_end_at_a_hundred() {
        assert_eq!(Percentage::parse("100%").unwrap().0, 100);
        assert_eq!(Percentage::parse("101%"), None);
        assert_eq!(Percentage::parse("10"), None);
        assert_eq!(Percentage::parse("+1%"), None);
    }

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

    #[test]
    fn samples_are_valid() {
        for check in SYNTAXES {
            assert!((check.accepts)(check.sample), "{}", check.format);
        }
    }
}
