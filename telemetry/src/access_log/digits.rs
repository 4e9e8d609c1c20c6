//! Numbers of a log line, appended without the formatter's detours.

use std::time::Duration;

/// Appends a whole number.
pub(super) fn put_number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(number).as_bytes());
}

/// Appends seconds to the microsecond, more being noise, without zeros at the end. `whole` stands
/// behind those that have no fraction.
pub(super) fn put_seconds(out: &mut Vec<u8>, duration: Duration, whole: &str) {
    let microseconds = (duration.as_nanos() + 500) / 1000;
    put_number(out, microseconds / 1_000_000);
    // A seventh digit in front keeps the zeros behind the point.
    let mut digits = itoa::Buffer::new();
    let fraction = &digits.format(1_000_000 + microseconds % 1_000_000)[1..];
    match fraction.trim_end_matches('0') {
        "" => out.extend_from_slice(whole.as_bytes()),
        significant => {
            out.push(b'.');
            out.extend_from_slice(significant.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_end_at_the_microsecond_or_before() {
        let cases = [
            (0, "0", "0.0"),
            (499, "0", "0.0"),
            (500, "0.000001", "0.000001"),
            (1_234_567, "0.001235", "0.001235"),
            (999_999_500, "1", "1.0"),
            (61_020_000_000, "61.02", "61.02"),
        ];
        for (nanoseconds, bare, pointed) in cases {
            for (whole, shown) in [("", bare), (".0", pointed)] {
                let mut out = Vec::new();
                put_seconds(&mut out, Duration::from_nanos(nanoseconds), whole);
                assert_eq!(String::from_utf8(out).unwrap(), shown);
            }
        }
    }
}
