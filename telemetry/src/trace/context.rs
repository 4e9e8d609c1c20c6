//! `traceparent`: which trace a request belongs to (W3C Trace Context, level 1).

use std::fmt;

use http::HeaderValue;

/// Names a trace. Never all zeros.
pub type TraceId = [u8; 16];

/// Names a span within a trace. Never all zeros.
pub type SpanId = [u8; 8];

/// Length of a version 00 header: `00-<32 hex>-<16 hex>-<2 hex>`.
const LENGTH: usize = 55;

/// The one flag that level 1 defines. The others are not passed on (3.2.2.5.3).
const SAMPLED: u8 = 0x01;

/// A position in a trace: what `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace, the same from the first hop to the last.
    pub trace_id: TraceId,
    /// The span that the next hop's span hangs below.
    pub span_id: SpanId,
    /// Whether the spans of this trace are recorded.
    pub sampled: bool,
}

/// Which rule of the specification a `traceparent` broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Not 55 bytes, or a later version that does not go on with a dash.
    #[error("traceparent has the wrong length")]
    Length,
    /// A field is not separated by a dash.
    #[error("traceparent lacks a dash between two fields")]
    Separator,
    /// A digit outside `0-9a-f`: capitals are not allowed.
    #[error("traceparent holds something that is not a lower-case hex digit")]
    Digit,
    /// Version `ff`, which is forbidden.
    #[error("traceparent has version ff")]
    Version,
    /// Trace or span identifier of all zeros.
    #[error("traceparent holds an identifier of all zeros")]
    Zero,
}

impl TraceContext {
    /// Starts a trace. Identifiers come from this thread's generator: no lock.
    pub fn root(sampled: bool) -> Self {
        Self {
            // Zero is invalid, so it is not in the range.
            trace_id: fastrand::u128(1..).to_be_bytes(),
            span_id: new_span_id(),
            sampled,
        }
    }

    /// A new span below this one, in the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            span_id: new_span_id(),
            ..*self
        }
    }

    /// Reads a header value.
    ///
    /// A version above 00 is read as 00 as far as it goes, and whatever follows
    /// a dash after it is left out (W3C Trace Context 4.3).
    ///
    /// # Errors
    /// The first broken rule. The caller then starts a trace of its own.
    pub fn parse(header: &[u8]) -> Result<Self, ContextError> {
        let known = header.first_chunk::<LENGTH>().ok_or(ContextError::Length)?;
        if [2, 35, 52].iter().any(|&at| known[at] != b'-') {
            return Err(ContextError::Separator);
        }
        let [version] = unhex::<1>(&known[0..2])?;
        let trace_id = unhex(&known[3..35])?;
        let span_id = unhex(&known[36..52])?;
        let [flags] = unhex::<1>(&known[53..55])?;
        match (version, header.get(LENGTH)) {
            (0xff, _) => return Err(ContextError::Version),
            (_, None) => {}
            (1.., Some(b'-')) => {}
            (_, Some(_)) => return Err(ContextError::Length),
        }
        if trace_id == [0; 16] || span_id == [0; 8] {
            return Err(ContextError::Zero);
        }
        Ok(Self {
            trace_id,
            span_id,
            sampled: flags & SAMPLED != 0,
        })
    }

    /// The header's bytes, version 00, made without an allocation.
    pub fn to_bytes(&self) -> [u8; LENGTH] {
        let mut header = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hex(&self.trace_id, &mut header[3..35]);
        hex(&self.span_id, &mut header[36..52]);
        hex(&[u8::from(self.sampled)], &mut header[53..55]);
        header
    }

    /// The header's value.
    pub fn header_value(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.to_bytes())
            // It holds hex digits and dashes only, which any header value may.
            .expect("a traceparent is a valid header value")
    }

    /// The trace identifier as 32 hex digits, as logs show it.
    pub fn trace_id_hex(&self) -> impl fmt::Display + use<> {
        Hex(self.trace_id)
    }

    /// The span identifier as 16 hex digits.
    pub fn span_id_hex(&self) -> impl fmt::Display + use<> {
        Hex(self.span_id)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{}-{}-{:02x}",
            Hex(self.trace_id),
            Hex(self.span_id),
            u8::from(self.sampled)
        )
    }
}

fn new_span_id() -> SpanId {
    fastrand::u64(1..).to_be_bytes()
}

struct Hex<const N: usize>([u8; N]);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Writes each byte as two digits. `digits` is twice as long as `bytes`.
fn hex(bytes: &[u8], digits: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(digits.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0x0f)];
    }
}

/// Reads `N` bytes from twice as many digits.
fn unhex<const N: usize>(digits: &[u8]) -> Result<[u8; N], ContextError> {
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(bytes)
}

fn nibble(digit: u8) -> Result<u8, ContextError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(ContextError::Digit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parse(header: &str) -> Result<TraceContext, ContextError> {
        TraceContext::parse(header.as_bytes())
    }

    #[test]
    fn reads_and_writes_the_example_of_the_specification() {
        let context = parse(VALID).unwrap();
        assert!(context.sampled);
        assert_eq!(context.span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
        assert_eq!(context.to_bytes(), VALID.as_bytes());
        assert_eq!(context.header_value(), VALID);
        assert_eq!(context.to_string(), VALID);
    }

    #[test]
    fn passes_only_the_sampled_flag_on() {
        let context = parse(&VALID.replace("-01", "-fe")).unwrap();
        assert!(!context.sampled);
        assert!(context.to_string().ends_with("-00"));
        let context = parse(&VALID.replace("-01", "-03")).unwrap();
        assert!(context.to_string().ends_with("-01"));
    }

    #[test]
    fn refuses_what_the_specification_forbids() {
        let zero_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let zero_span = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
        let cases = [
            ("", ContextError::Length),
            (&VALID[..54], ContextError::Length),
            (&format!("{VALID}0"), ContextError::Length),
            (&format!("{VALID}-00"), ContextError::Length),
            (&VALID.replace('-', "_"), ContextError::Separator),
            (&VALID.to_uppercase(), ContextError::Digit),
            (&VALID.replace("0af7", "0ag7"), ContextError::Digit),
            (&VALID.replacen("00", "ff", 1), ContextError::Version),
            (zero_trace, ContextError::Zero),
            (zero_span, ContextError::Zero),
        ];
        for (header, error) in cases {
            assert_eq!(parse(header), Err(error), "{header}");
        }
    }

    #[test]
    fn reads_a_later_version_as_far_as_it_is_known() {
        let later = VALID.replacen("00", "cc", 1);
        assert_eq!(parse(&later), parse(VALID));
        assert_eq!(parse(&format!("{later}-what-is-this")), parse(VALID));
        assert_eq!(parse(&format!("{later}.")), Err(ContextError::Length));
    }

    #[test]
    fn keeps_the_trace_in_a_child() {
        let root = TraceContext::root(true);
        let child = root.child();
        assert_eq!((child.trace_id, child.sampled), (root.trace_id, true));
        assert_ne!(child.span_id, root.span_id);
    }
}
