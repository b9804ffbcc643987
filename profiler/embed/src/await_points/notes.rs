//! Where a suspended task waits: a note per branch, made at the clone of the waker.
//!
//! Numbers go round, and a branch remembers the poll that it was noted in: a waker left over from an earlier poll is
//! told from one of this poll, unless a whole round lies between. Where the branch that woke isn't known, or nobody woke,
//! the last one stands for the suspension: a leaf that registered and was ready at once, and so isn't waited for, is
//! followed by another one.

use super::packed_span::PackedSpan;
use super::places::Place;
use super::shared::NUMBERS;
use super::{calling_thread, losses};

/// Attributes kept per span. A topic, a group and an operation take half of it.
pub(super) const MAXIMUM_ATTRIBUTES: usize = 128;

/// Branches that need no further allocation; number 0 isn't one.
const FEW: usize = 8;
/// Spans that one poll may suspend under.
const MAXIMUM_CONTEXTS: usize = 8;

pub(super) struct Notes {
    poll: u32,
    /// The number given last.
    last: u8,
    /// How many branches of this poll are noted.
    count: u8,
    /// How many spans of this poll are noted.
    contexts: u8,
    context: Context,
    branches: [Branch; FEW],
    more_branches: Option<Box<[Branch; NUMBERS - FEW]>>,
    more_contexts: Vec<Context>,
}

#[derive(Clone, Copy)]
struct Branch {
    poll: u32,
    context: u8,
    place: Option<&'static Place>,
}

/// The span that suspends, and its attributes as encoded in the record.
pub(super) struct Context {
    pub(super) span: PackedSpan,
    length: u8,
    attributes: [u8; MAXIMUM_ATTRIBUTES],
}

const NO_BRANCH: Branch = Branch { poll: 0, context: 0, place: None };

impl Context {
    const NONE: Self = Self { span: PackedSpan::NONE, length: 0, attributes: [0; MAXIMUM_ATTRIBUTES] };

    #[inline]
    fn take(&mut self) {
        let (span, length) = calling_thread::span_with_attributes(&mut self.attributes);
        (self.span, self.length) = (span, length as u8);
    }

    #[inline]
    pub(super) fn attributes(&self) -> &[u8] {
        &self.attributes[..usize::from(self.length)]
    }
}

impl Notes {
    pub(super) const fn new() -> Self {
        Self {
            poll: 1,
            last: 0,
            count: 0,
            contexts: 0,
            context: Context::NONE,
            branches: [NO_BRANCH; FEW],
            more_branches: None,
            more_contexts: Vec::new(),
        }
    }

    /// From here on notes belong to a new poll.
    #[inline]
    pub(super) fn begin_poll(&mut self) {
        self.poll = self.poll.wrapping_add(1);
        self.count = 0;
        self.contexts = 0;
    }

    /// Notes that the poll waits at a place, under the calling thread's span, and numbers that branch. 0 if the poll has
    /// more branches than there are numbers.
    #[inline]
    pub(super) fn add(&mut self, place: Option<&'static Place>) -> usize {
        let context = self.context_now();
        let mut limit = if self.more_branches.is_some() { NUMBERS } else { FEW };
        if usize::from(self.count) + 1 == limit {
            if limit == NUMBERS {
                return 0;
            }
            limit = NUMBERS;
            // The numbers of this poll lie among the few, wherever it started.
            self.last = FEW as u8 - 1;
            self.more_branches = Some(Box::new([NO_BRANCH; NUMBERS - FEW]));
        }
        let number = if usize::from(self.last) + 1 < limit { usize::from(self.last) + 1 } else { 1 };
        self.last = number as u8;
        self.count += 1;
        let branch = Branch { poll: self.poll, context, place };
        if number < FEW {
            self.branches[number] = branch;
        } else if let Some(more) = &mut self.more_branches {
            more[number - FEW] = branch;
        }
        number
    }

    /// Where and under which span the task waited, given the branch that woke it.
    #[inline]
    pub(super) fn waited(&self, number: Option<usize>) -> (Option<&'static Place>, &Context) {
        let branch = number.and_then(|number| self.branch(number)).or_else(|| self.branch(self.last.into()));
        match branch {
            Some(branch) => (branch.place, self.context(branch.context)),
            None => (None, &self.context),
        }
    }

    /// Notes the calling thread's span for a poll in which nobody cloned the waker.
    #[inline]
    pub(super) fn end_poll(&mut self) {
        if self.contexts == 0 {
            self.context.take();
            self.contexts = 1;
        }
    }

    fn branch(&self, number: usize) -> Option<&Branch> {
        let branch = match number {
            0 => None,
            few if few < FEW => Some(&self.branches[few]),
            more => self.more_branches.as_ref().map(|branches| &branches[more - FEW]),
        };
        branch.filter(|branch| branch.poll == self.poll)
    }

    fn context(&self, number: u8) -> &Context {
        static UNKNOWN: Context = Context::NONE;
        match number {
            0 => &self.context,
            more => self.more_contexts.get(usize::from(more) - 1).unwrap_or(&UNKNOWN),
        }
    }

    /// The number of the calling thread's span among those of this poll.
    #[inline]
    fn context_now(&mut self) -> u8 {
        if self.contexts == 0 {
            self.context.take();
            self.contexts = 1;
            return 0;
        }
        let span = calling_thread::span();
        if self.context.span.is(&span) { 0 } else { self.further_context(span) }
    }

    #[cold]
    fn further_context(&mut self, span: PackedSpan) -> u8 {
        for number in 1..self.contexts {
            if self.context(number).span.is(&span) {
                return number;
            }
        }
        let number = self.contexts;
        if usize::from(number) == MAXIMUM_CONTEXTS {
            losses::span();
            return u8::MAX;
        }
        if self.more_contexts.len() < usize::from(number) {
            self.more_contexts.push(Context::NONE);
        }
        self.more_contexts[usize::from(number) - 1].take();
        self.contexts += 1;
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_round_and_old_ones_are_told_apart() {
        let mut notes = Notes::new();
        assert_eq!((notes.add(None), notes.add(None)), (1, 2));
        assert!(notes.branch(1).is_some() && notes.branch(2).is_some() && notes.branch(3).is_none());
        notes.begin_poll();
        assert!(notes.branch(1).is_none());
        let numbers: Vec<_> = (0..6).map(|_| notes.add(None)).collect();
        assert_eq!(numbers, [3, 4, 5, 6, 7, 1]);
        assert!(notes.branch(1).is_some() && notes.branch(2).is_none());
    }

    #[test]
    fn a_poll_of_many_branches_numbers_sixty_three() {
        let mut notes = Notes::new();
        for _ in 0..3 {
            notes.begin_poll();
            let mut numbers: Vec<_> = (0..63).map(|_| notes.add(None)).collect();
            assert!(numbers.iter().all(|number| notes.branch(*number).is_some()));
            assert_eq!(notes.add(None), 0);
            assert!(notes.branch(0).is_none());
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), 63);
        }
    }
}
