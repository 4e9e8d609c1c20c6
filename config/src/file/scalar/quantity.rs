//! Quantities: durations, sizes and shares.

use super::{Syntax, scalar};
use std::{fmt, time};

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

#[cfg(test)]
mod tests {
    use super::{Duration, Percentage, Size, Syntax};
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
}
