//! W3C's `traceparent`, read and written without allocation.
//!
//! [Trace Context, level 2](https://www.w3.org/TR/trace-context-2/): `version-trace id-span id-flags`, lower-case
//! hexadecimal. Each byte is looked up in a table: the reading of an id by the standard library's parsers costs several
//! times the hundred nanoseconds that a whole context may.

use spanprof_context::{SpanContext, SpanId, TraceId};

/// The key of the context's ids and flags.
pub const TRACEPARENT: &str = "traceparent";

/// The key of what vendors add.
pub const TRACESTATE: &str = "tracestate";

/// How long version 00 is, in bytes.
pub const TRACEPARENT_SIZE: usize = 55;

/// Later versions may be longer; longer than this, nothing is looked at.
const LONGEST: usize = 512;

/// Flags that version 00 defines: sampled and random.
const KNOWN_FLAGS: u8 = 0x03;

/// The one flag that later versions may not change.
const SAMPLED: u8 = 0x01;

/// A `traceparent` as text, in place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Traceparent([u8; TRACEPARENT_SIZE]);

impl Traceparent {
    #[inline]
    pub(crate) fn of(span: &SpanContext) -> Self {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write(&span.trace_id.0, &mut text[3..35]);
        write(&span.span_id.0, &mut text[36..52]);
        write(&[span.flags], &mut text[53..55]);
        Self(text)
    }

    /// The text.
    #[inline]
    pub fn as_str(&self) -> &str {
        // Always digits and hyphens.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The text's bytes, for protocols whose headers are bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8; TRACEPARENT_SIZE] {
        &self.0
    }
}

/// Carries itself: for contexts that don't come from properties or headers.
impl crate::Carrier for Traceparent {
    #[inline]
    fn value(&self, key: &str) -> Option<&[u8]> {
        (key == TRACEPARENT).then_some(&self.0)
    }
}

impl AsRef<str> for Traceparent {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<[u8]> for Traceparent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Display for Traceparent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl std::fmt::Debug for Traceparent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[inline]
fn write(bytes: &[u8], digits: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(digits.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0xf)];
    }
}

/// A digit's value, or [`NO_DIGIT`].
const VALUES: [u8; 256] = values();
/// Has bits that no digit has.
const NO_DIGIT: u8 = 0xff;

const fn values() -> [u8; 256] {
    let mut values = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
}

/// `None` if one is not a lower-case digit. All are looked at before one is judged: no branch per digit.
#[inline]
fn read<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut seen = 0;
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
        seen |= high | low;
        *byte = high << 4 | low & 0xf;
    }
    (seen <= 0xf).then_some(bytes)
}

/// The ids and flags of a `traceparent`: see [`TraceContext::parse`](crate::TraceContext::parse).
#[inline]
pub(crate) fn parse(text: &[u8]) -> Option<SpanContext> {
    if text.len() > LONGEST {
        return None;
    }
    let text = text.trim_ascii();
    let (known, more) = text.split_at_checked(TRACEPARENT_SIZE)?;
    let [version] = read(&known[..2])?;
    let known_flags = match (version, more.first()) {
        (0, None) => KNOWN_FLAGS,
        (1..=0xfe, None | Some(b'-')) => SAMPLED,
        _ => return None,
    };
    if [known[2], known[35], known[52]] != [b'-'; 3] {
        return None;
    }
    let trace_id = TraceId(read(&known[3..35])?);
    let span_id = SpanId(read(&known[36..52])?);
    let [flags] = read(&known[53..])?;
    let span = SpanContext::new(trace_id, span_id, flags & known_flags);
    span.is_valid().then_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_written_is_read() {
        let span = parse(GOOD.as_bytes()).unwrap();
        assert_eq!(span.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.span_id.to_string(), "b7ad6b7169203331");
        assert_eq!(span.flags, 1);
        assert_eq!(Traceparent::of(&span).as_str(), GOOD);
        assert_eq!(Traceparent::of(&span).to_string(), GOOD);
    }

    #[test]
    fn versions_are_read_as_the_standard_says() {
        let with = |front: &str, end: &str| format!("{front}{}{end}", &GOOD[2..53]);
        for (text, flags) in [
            (with("00", "00"), Some(0)),
            (with("00", "03"), Some(3)),
            // Bits that version 00 does not define are not handed on.
            (with("00", "ff"), Some(3)),
            (with("00", "01-"), None),
            (with("00", "01-more"), None),
            (with("01", "03"), Some(1)),
            (with("cc", "01-what the future brings"), Some(1)),
            (with("cc", "01."), None),
            (with("cc", "01.what"), None),
            (with("ff", "01"), None),
            (with("0A", "01"), None),
            (with("00", "0A"), None),
            (with("00", "0g"), None),
            (with("00", "1"), None),
        ] {
            assert_eq!(parse(text.as_bytes()).map(|span| span.flags), flags, "{text}");
        }
    }

    #[test]
    fn junk_is_refused() {
        let long = format!("01{}-{}", &GOOD[2..], "x".repeat(LONGEST));
        for text in [
            "",
            "00",
            "null",
            &GOOD.to_uppercase(),
            &GOOD.replace('-', "_"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319é-b7ad6b716920333-01",
            "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1-d",
            &format!("{GOOD},{GOOD}"),
            &long,
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn blanks_around_the_text_are_forgiven() {
        assert!(parse(format!(" \t{GOOD}\r\n").as_bytes()).is_some());
        assert_eq!(parse(" ".repeat(5_000_000).as_bytes()), None);
    }
}
