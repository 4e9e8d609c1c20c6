//! Peculiarities of Go's JSON: `null` for empty lists and maps, durations as text or nanoseconds.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Deserializer, Serializer, de};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Keys that this client doesn't know, kept so that callers can refuse what they don't understand.
pub type Unknown = BTreeMap<String, Value>;

/// Reads `null` as the empty value: Go writes nil slices, maps and pointers so.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Reads a list as [`nullable`] does, without room for more.
pub(crate) fn exact<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let mut list: Vec<T> = nullable(deserializer)?;
    list.shrink_to_fit();
    Ok(list)
}

/// Reads a duration: Go's text (`1m30s`) or an integer of nanoseconds, which Consul writes in
/// places (`RequestTimeout` of a resolver). Zero and below are Consul's way to say "not set".
pub(crate) fn duration<'de, D>(deserializer: D) -> Result<Option<Duration>, D::Error>
where
    D: Deserializer<'de>,
{
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Number(n) => n
            .as_i64()
            .map(|nanos| {
                u64::try_from(nanos)
                    .ok()
                    .filter(|n| *n > 0)
                    .map(Duration::from_nanos)
            })
            .ok_or_else(|| de::Error::custom("a duration in nanoseconds must be an integer")),
        Value::String(text) => parse_duration(&text)
            .map(|d| d.filter(|d| !d.is_zero()))
            .ok_or_else(|| de::Error::custom(format!("`{text}` is not a duration"))),
        other => Err(de::Error::custom(format!("`{other}` is not a duration"))),
    }
}

/// A moment as Go writes it.
pub(crate) fn rfc3339(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(Into::into)
}

/// A limit of time that can be turned off: Consul takes a negative duration for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeLimit {
    /// Not set: the proxy's default holds.
    #[default]
    Unset,
    /// There is none.
    Off,
    /// This long.
    After(Duration),
}

impl TimeLimit {
    /// The limit that holds where `default` is the proxy's own; `None` is no limit.
    #[must_use]
    pub fn over(self, default: Option<Duration>) -> Option<Duration> {
        match self {
            Self::Unset => default,
            Self::Off => None,
            Self::After(limit) => Some(limit),
        }
    }
}

impl<'de> Deserialize<'de> for TimeLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let negative = match &value {
            Value::Number(nanos) => nanos.as_i64().is_some_and(|nanos| nanos < 0),
            Value::String(text) => text.starts_with('-') && parse_duration(text) == Some(None),
            _ => false,
        };
        if negative {
            return Ok(Self::Off);
        }
        let limit = duration(value).map_err(de::Error::custom)?;
        Ok(limit.map_or(Self::Unset, Self::After))
    }
}

/// Writes a duration as Go reads it.
pub(crate) fn write_duration<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_str(&go_duration(*duration)),
        None => serializer.serialize_none(),
    }
}

/// Go's text of a duration: exact, in the largest unit that divides it.
pub(crate) fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")]
        .into_iter()
        .find(|(unit, _)| nanos.is_multiple_of(*unit))
    {
        Some((unit, suffix)) => format!("{}{suffix}", nanos / unit),
        None => format!("{nanos}ns"),
    }
}

/// A positive duration as Go writes it (`1m30s`), such as free-form settings hold.
#[must_use]
pub fn positive_duration(text: &str) -> Option<Duration> {
    parse_duration(text)?.filter(|duration| !duration.is_zero())
}

/// Go's `time.ParseDuration`: `Some(None)` for a negative duration, `None` for other text.
fn parse_duration(text: &str) -> Option<Option<Duration>> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        // An unset duration that was written without `omitempty`.
        return text.is_empty().then_some(None);
    }
    while rest != "0" && !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let nanos = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60 * 1_000_000_000,
            "h" => 3_600 * 1_000_000_000,
            _ => return None,
        };
        total = total.checked_add(scaled(number, nanos)?)?;
        rest = tail;
    }
    Some((!negative).then_some(total))
}

/// `number` (decimal, perhaps with a fraction) times `unit` nanoseconds, without going by float.
fn scaled(number: &str, unit: u64) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut nanos = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.chars() {
        place /= 10;
        nanos = nanos.checked_add(u64::from(digit.to_digit(10)?) * place)?;
    }
    Some(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Holder(#[serde(deserialize_with = "duration")] Option<Duration>);

    fn read(json: &str) -> Option<Duration> {
        serde_json::from_str::<Holder>(json).unwrap().0
    }

    #[test]
    fn durations_are_text_or_nanoseconds() {
        assert_eq!(read(r#""5s""#), Some(Duration::from_secs(5)));
        assert_eq!(read("7000000000"), Some(Duration::from_secs(7)));
        assert_eq!(
            read(r#""1h2m3.5s""#),
            Some(Duration::from_millis(3_723_500))
        );
        assert_eq!(read(r#""1.5ms""#), Some(Duration::from_micros(1_500)));
        assert_eq!(read(r#""10µs""#), Some(Duration::from_micros(10)));
    }

    #[test]
    fn zero_negative_and_null_mean_unset() {
        for json in ["0", r#""0""#, r#""0s""#, r#""-1s""#, "-5", "null", r#""""#] {
            assert_eq!(read(json), None, "{json}");
        }
    }

    #[test]
    fn a_negative_limit_is_none_at_all() {
        let read = |json: &str| serde_json::from_str::<TimeLimit>(json).unwrap();
        for json in [r#""-1s""#, "-5"] {
            assert_eq!(read(json), TimeLimit::Off, "{json}");
        }
        for json in ["0", r#""0s""#, "null"] {
            assert_eq!(read(json), TimeLimit::Unset, "{json}");
        }
        assert_eq!(read(r#""2s""#), TimeLimit::After(Duration::from_secs(2)));
        assert!(
            serde_json::from_str::<TimeLimit>(r#""-x""#).is_err(),
            "no duration"
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for json in [
            r#""5""#, r#""s""#, r#""5 s""#, r#""5d""#, "1.5", "true", r#"".s""#,
        ] {
            assert!(serde_json::from_str::<Holder>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn written_durations_are_read_back() {
        for nanos in [1, 1_500, 2_000_000, 15_000_000_000, 90_000_000_001] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(parse_duration(&go_duration(duration)), Some(Some(duration)));
        }
    }
}
