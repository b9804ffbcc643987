//! MQTT's topic filters.
//!
//! Refused: the client's own `matches`. It cuts the topic after its first byte, and panics where a device's topic
//! begins with a letter of more than one.

use std::fmt;
use std::str::FromStr;

/// A topic filter that is well-formed: `sensors/+/celsius`, `alarms/#`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Filter(String);

/// Why a text is no topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Nothing is between the quotes.
    #[error("it is empty")]
    Empty,
    /// Longer than MQTT allows.
    #[error("it is longer than 65535 bytes")]
    TooLong,
    /// MQTT forbids U+0000.
    #[error("it holds a NUL character")]
    Nul,
    /// `#` stands for all further levels.
    #[error("`#` has to be the last level, and alone in it")]
    Hash,
    /// `+` stands for a whole level.
    #[error("`+` has to be alone in its level")]
    Plus,
    /// Messages that a shared subscription loses to another bridge come out of order.
    #[error("shared subscriptions (`$share/…`) are not supported")]
    Shared,
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Err(FilterError::Empty);
        }
        if text.len() > usize::from(u16::MAX) {
            return Err(FilterError::TooLong);
        }
        if text.contains('\0') {
            return Err(FilterError::Nul);
        }
        if text.starts_with("$share/") {
            return Err(FilterError::Shared);
        }
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err(FilterError::Hash);
            }
            if level.contains('+') && level != "+" {
                return Err(FilterError::Plus);
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl Filter {
    /// Whether a topic is among those that it stands for. Topics that begin with `$` are not meant by wildcards.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        if topic.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.split('/');
        for wanted in self.0.split('/') {
            match (wanted, levels.next()) {
                // Also of the level above: `alarms/#` stands for `alarms`.
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (wanted, Some(level)) if wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_mean_what_the_standard_says() {
        for (filter, matched, others) in [
            ("a/b", &["a/b"][..], &["a", "a/b/", "a/b/c", "A/b"][..]),
            ("a/+/c", &["a/b/c", "a//c"], &["a/b", "a/b/c/d", "a/c"]),
            ("a/#", &["a", "a/", "a/b", "a/b/c"], &["b", "ab", "/a"]),
            ("#", &["a", "/", "a/b", "ß"], &["$SYS/broker"]),
            ("+", &["a", ""], &["/", "a/b", "$SYS"]),
            ("+/+", &["/", "a/b", "é/b"], &["a", "$SYS/a"]),
            ("$SYS/#", &["$SYS/broker"], &["SYS/broker"]),
        ] {
            let filter: Filter = filter.parse().expect("it is well-formed");
            for topic in matched {
                assert!(filter.matches(topic), "{filter} {topic}");
            }
            for topic in others {
                assert!(!filter.matches(topic), "{filter} {topic}");
            }
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let long = "a".repeat(65_536);
        for (text, error) in [
            ("", FilterError::Empty),
            ("a/#/b", FilterError::Hash),
            ("a#", FilterError::Hash),
            ("##", FilterError::Hash),
            ("a/b+", FilterError::Plus),
            ("++", FilterError::Plus),
            ("a\0b", FilterError::Nul),
            ("$share/group/a", FilterError::Shared),
            (&long, FilterError::TooLong),
        ] {
            assert_eq!(text.parse::<Filter>(), Err(error));
        }
    }
}
