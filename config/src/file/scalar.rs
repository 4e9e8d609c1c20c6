//! Texts with a syntax of their own: durations, sizes, names.
//!
//! Each is a `format` of the JSON Schema, so that a bad one is reported with
//! the errors of the file's shape.

mod address;
mod name;
mod quantity;

pub use address::{HttpUrl, IpAddress, SocketAddress};
pub use name::{HeaderName, HeaderValue, HostPattern, Name};
pub use quantity::{Duration, Percentage, Size};

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

/// Why a text was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct Malformed(&'static str);

/// A newtype that serde reads from text and the schema knows by its format.
macro_rules! scalar {
    ($(#[$doc:meta])* $type:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(pub $inner);

        impl TryFrom<String> for $type {
            type Error = super::Malformed;

            fn try_from(text: String) -> Result<Self, super::Malformed> {
                Self::parse(&text).ok_or(super::Malformed(Self::EXPECTED))
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "format": Self::FORMAT })
            }
        }
    };
}
use scalar;

#[cfg(test)]
mod tests {
    use super::SYNTAXES;

    #[test]
    fn samples_are_valid() {
        for check in SYNTAXES {
            assert!((check.accepts)(check.sample), "{}", check.format);
        }
    }
}
