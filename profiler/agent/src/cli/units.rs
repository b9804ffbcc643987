//! Times and sizes as people read and write them.

use std::time::Duration;

/// The longest capture or window that can be asked for: a week.
const MAX_SECONDS: f64 = 7.0 * 24.0 * 3600.0;
/// The shortest: below this a profile holds a handful of samples.
const MIN_SECONDS: f64 = 0.1;
const MIN_MILLISECONDS: f64 = 0.001;

/// Parses a number of seconds, whole or with a fraction.
///
/// # Errors
/// With a sentence for clap, when it is no number or out of range.
pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if !(MIN_SECONDS..=MAX_SECONDS).contains(&seconds) {
        return Err(format!("must be from {MIN_SECONDS} to {MAX_SECONDS} seconds"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Parses a number of milliseconds, whole or with a fraction.
///
/// # Errors
/// With a sentence for clap, when it is no number or out of range.
pub(crate) fn parse_milliseconds(text: &str) -> Result<Duration, String> {
    let milliseconds: f64 = text.parse().map_err(|_| "not a number of milliseconds".to_owned())?;
    if !(MIN_MILLISECONDS..=MAX_SECONDS * 1e3).contains(&milliseconds) {
        return Err(format!("must be from {MIN_MILLISECONDS} to {} milliseconds", MAX_SECONDS * 1e3));
    }
    Ok(Duration::from_secs_f64(milliseconds / 1e3))
}

/// Nanoseconds with the unit that leaves three or four digits: `430.2 ms`.
pub(crate) fn nanoseconds(value: u64) -> String {
    let value = value as f64;
    match value {
        v if v < 1e3 => format!("{v:.0} ns"),
        v if v < 1e6 => format!("{:.1} µs", v / 1e3),
        v if v < 1e9 => format!("{:.1} ms", v / 1e6),
        v if v < 1e12 => format!("{:.2} s", v / 1e9),
        v => format!("{:.0} s", v / 1e9),
    }
}

/// A count with thousands set apart: `1,234,567`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 process`, `2 processes`.
pub(crate) fn counted(value: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(value), if value == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_three_or_four_digits() {
        let texts =
            [0, 999, 1_500, 12_345_678, 430_200_000, 9_990_000_000, 3_600_000_000_000].map(nanoseconds);
        assert_eq!(texts, ["0 ns", "999 ns", "1.5 µs", "12.3 ms", "430.2 ms", "9.99 s", "3600 s"]);
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(counted(1, "process", "processes"), "1 process");
        assert_eq!(counted(1_000, "process", "processes"), "1,000 processes");
    }

    #[test]
    fn seconds_are_checked() {
        assert_eq!(parse_seconds("2.5"), Ok(Duration::from_millis(2_500)));
        for bad in ["", "ten", "0", "-1", "NaN", "inf", "1e9"] {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
    }
}
