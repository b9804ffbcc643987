//! Processes that come and go while a capture runs.
//!
//! Polled, once a second by default, because a name or a group can match after an exec, which no single
//! kernel event tells: `comm` may change without one (`prctl`). Forks of a target are followed by the
//! capture itself; this finds what has no parent among the targets.

use std::collections::BTreeMap;

use super::process::{Process, ProcessKey};
use super::procfs::ProcFs;
use super::selector::Selector;

/// Which of the selected processes are known.
#[derive(Debug)]
pub struct Watch {
    procfs: ProcFs,
    selector: Selector,
    known: BTreeMap<ProcessKey, Process>,
}

/// What changed since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Processes that match now and did not before.
    pub joined: Vec<Process>,
    /// Processes that ended.
    pub left: Vec<ProcessKey>,
}

impl Watch {
    /// Begins with nothing known; the first [`look`](Watch::look) gives all that match.
    pub fn new(procfs: ProcFs, selector: Selector) -> Watch {
        Watch { procfs, selector, known: BTreeMap::new() }
    }

    /// Looks again. A process that once matched stays until it ends, whatever it is called later.
    pub fn look(&mut self) -> Changes {
        let mut changes = Changes::default();
        self.known.retain(|key, process| {
            let alive = process.is_alive(&self.procfs);
            if !alive {
                changes.left.push(*key);
            }
            alive
        });
        for process in self.selector.find(&self.procfs).processes {
            if self.known.insert(process.key, process.clone()).is_none() {
                changes.joined.push(process);
            }
        }
        changes
    }

    /// The processes that matched and live, as of the last look.
    pub fn known(&self) -> impl Iterator<Item = &Process> {
        self.known.values()
    }

    /// Where it looks.
    pub fn procfs(&self) -> &ProcFs {
        &self.procfs
    }

    /// Whether waiting can bring another process.
    pub fn can_grow(&self) -> bool {
        self.selector.can_match_later()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn tells_who_joined_and_who_left() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut watch = Watch::new(ProcFs::host(), Selector::new().pid(child.id()));
        let first = watch.look();
        assert_eq!(first.joined.len(), 1);
        let key = first.joined[0].key;
        assert_eq!(key.pid, child.id());
        assert_eq!(watch.look(), Changes::default(), "nothing happened");

        child.kill().unwrap();
        child.wait().unwrap();
        let last = watch.look();
        assert_eq!((last.joined, last.left), (vec![], vec![key]));
        assert_eq!(watch.known().count(), 0);
        assert!(!watch.can_grow());
    }
}
