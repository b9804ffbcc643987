//! Problems that repeat, told once each and then at most once a minute.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Between two lines of the same kind.
const INTERVAL: Duration = Duration::from_secs(60);

/// Remembers what was told when.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    told: HashMap<&'static str, Told>,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    kept_back: u64,
}

impl Complaints {
    /// The line to print for a problem of this kind, if one is due.
    pub(crate) fn line(&mut self, kind: &'static str, words: &str, now: Instant) -> Option<String> {
        match self.told.get_mut(kind) {
            None => {
                self.told.insert(kind, Told { at: now, kept_back: 0 });
                Some(format!("warning: {words}"))
            }
            Some(told) if now.duration_since(told.at) < INTERVAL => {
                told.kept_back += 1;
                None
            }
            Some(told) => {
                let more = std::mem::take(&mut told.kept_back);
                told.at = now;
                Some(match more {
                    0 => format!("warning: {words}"),
                    more => format!("warning: {words} ({more} more of this kind since)"),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_told_once_a_minute_with_what_was_kept_back() {
        let mut complaints = Complaints::default();
        let begin = Instant::now();
        let mut say =
            |kind, seconds| complaints.line(kind, "no answer", begin + Duration::from_secs(seconds));
        assert_eq!(say("unreachable", 0).as_deref(), Some("warning: no answer"));
        assert_eq!(say("unreachable", 10), None);
        assert_eq!(say("unreachable", 59), None);
        assert_eq!(say("rejected", 59).as_deref(), Some("warning: no answer"));
        assert_eq!(say("unreachable", 60).as_deref(), Some("warning: no answer (2 more of this kind since)"));
        assert_eq!(say("unreachable", 120).as_deref(), Some("warning: no answer"));
    }
}
