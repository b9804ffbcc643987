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

/// Notes on one task, in three parts: with a thousand tasks each line of memory that a suspension touches has to be fetched,
/// so what a poll with one branch and no attributes needs lies beside what is touched anyway.
pub(super) struct Notes<'a> {
    pub(super) head: &'a mut Head,
    /// The first span of this poll.
    pub(super) span: &'a mut PackedSpan,
    pub(super) body: &'a mut Body,
}

/// What every poll needs.
#[repr(C)]
pub(super) struct Head {
    poll: u32,
    /// The number given last.
    last: u8,
    /// How many branches of this poll are noted.
    count: u8,
    /// How many spans of this poll are noted.
    contexts: u8,
    attributes_length: u8,
    /// The branch noted last; it moves to the others when another one follows.
    latest: Branch,
}

/// What few polls need.
pub(super) struct Body {
    /// Those of the first span, as encoded in the record.
    attributes: [u8; MAXIMUM_ATTRIBUTES],
    branches: [Branch; FEW],
    more_branches: Option<Box<[Branch; NUMBERS - FEW]>>,
    more_contexts: Vec<Context>,
}

#[derive(Clone, Copy)]
struct Branch {
    place: Option<&'static Place>,
    poll: u32,
    context: u8,
}

/// A span that suspends besides the first one, and its attributes.
struct Context {
    span: PackedSpan,
    length: u8,
    attributes: [u8; MAXIMUM_ATTRIBUTES],
}

/// Where and under which span a task waited.
pub(super) struct Waited<'a> {
    pub(super) place: Option<&'static Place>,
    pub(super) span: &'a PackedSpan,
    /// As encoded in the record.
    pub(super) attributes: &'a [u8],
}

const NO_BRANCH: Branch = Branch { poll: 0, context: 0, place: None };

impl Context {
    const NONE: Self = Self { span: PackedSpan::NONE, length: 0, attributes: [0; MAXIMUM_ATTRIBUTES] };
}

impl Head {
    pub(super) const fn new() -> Self {
        Self { poll: 1, last: 0, count: 0, contexts: 0, attributes_length: 0, latest: NO_BRANCH }
    }
}

impl Body {
    pub(super) const fn new() -> Self {
        Self {
            attributes: [0; MAXIMUM_ATTRIBUTES],
            branches: [NO_BRANCH; FEW],
            more_branches: None,
            more_contexts: Vec::new(),
        }
    }
}

impl<'a> Notes<'a> {
    /// From here on notes belong to a new poll.
    #[inline]
    pub(super) fn begin_poll(&mut self) {
        self.head.poll = self.head.poll.wrapping_add(1);
        self.head.count = 0;
        self.head.contexts = 0;
    }

    /// Notes that the poll waits at a place, under the calling thread's span, and numbers that branch. 0 if the poll has
    /// more branches than there are numbers.
    #[inline]
    pub(super) fn add(&mut self, place: Option<&'static Place>) -> usize {
        let context = self.context_now();
        let mut limit = FEW;
        if self.head.count > 0 {
            if self.body.more_branches.is_some() {
                limit = NUMBERS;
            }
            if usize::from(self.head.count) + 1 == limit {
                if limit == NUMBERS {
                    return 0;
                }
                limit = NUMBERS;
                self.make_room();
            }
            self.keep_latest();
        }
        let number =
            if usize::from(self.head.last) + 1 < limit { usize::from(self.head.last) + 1 } else { 1 };
        self.head.last = number as u8;
        self.head.count += 1;
        self.head.latest = Branch { poll: self.head.poll, context, place };
        number
    }

    /// Moves on to more numbers. Those of this poll lie among the few, wherever it started.
    #[cold]
    fn make_room(&mut self) {
        self.keep_latest();
        self.head.last = FEW as u8 - 1;
        self.head.latest = self.body.branches[FEW - 1];
        self.body.more_branches = Some(Box::new([NO_BRANCH; NUMBERS - FEW]));
    }

    fn keep_latest(&mut self) {
        let number = usize::from(self.head.last);
        if number < FEW {
            self.body.branches[number] = self.head.latest;
        } else if let Some(more) = &mut self.body.more_branches {
            more[number - FEW] = self.head.latest;
        }
    }

    /// Where and under which span the task waited, given the branch that woke it.
    #[inline]
    pub(super) fn waited(self, number: Option<usize>) -> Waited<'a> {
        let branch =
            number.and_then(|number| self.branch(number)).or_else(|| self.branch(self.head.last.into()));
        let (place, context) = branch.map_or((None, 0), |branch| (branch.place, branch.context));
        let Notes { head, span, body } = self;
        if context == 0 {
            let attributes = &body.attributes[..usize::from(head.attributes_length)];
            return Waited { place, span, attributes };
        }
        match body.more_contexts.get(usize::from(context) - 1) {
            Some(context) => {
                let attributes = &context.attributes[..usize::from(context.length)];
                Waited { place, span: &context.span, attributes }
            }
            None => Waited { place, span: &PackedSpan::NONE, attributes: &[] },
        }
    }

    /// Notes the calling thread's span for a poll in which nobody cloned the waker.
    #[inline]
    pub(super) fn end_poll(&mut self) {
        if self.head.contexts == 0 {
            self.take_first_span();
        }
    }

    #[inline]
    fn take_first_span(&mut self) {
        let (span, length) = calling_thread::span_with_attributes(&mut self.body.attributes);
        *self.span = span;
        self.head.attributes_length = length as u8;
        self.head.contexts = 1;
    }

    #[inline]
    fn branch(&self, number: usize) -> Option<Branch> {
        let branch = match number {
            0 => return None,
            latest if latest == usize::from(self.head.last) => self.head.latest,
            few if few < FEW => self.body.branches[few],
            more => self.body.more_branches.as_ref().map(|branches| branches[more - FEW])?,
        };
        (branch.poll == self.head.poll).then_some(branch)
    }

    /// The number of the calling thread's span among those of this poll.
    #[inline]
    fn context_now(&mut self) -> u8 {
        if self.head.contexts == 0 {
            self.take_first_span();
            return 0;
        }
        let span = calling_thread::span();
        if self.span.is(&span) { 0 } else { self.further_context(span) }
    }

    #[cold]
    fn further_context(&mut self, span: PackedSpan) -> u8 {
        let contexts = &mut self.body.more_contexts;
        let known = usize::from(self.head.contexts) - 1;
        if let Some(number) = contexts[..known].iter().position(|context| context.span.is(&span)) {
            return number as u8 + 1;
        }
        if known + 1 == MAXIMUM_CONTEXTS {
            losses::span();
            return u8::MAX;
        }
        if contexts.len() == known {
            contexts.push(Context::NONE);
        }
        let context = &mut contexts[known];
        let (span, length) = calling_thread::span_with_attributes(&mut context.attributes);
        (context.span, context.length) = (span, length as u8);
        self.head.contexts += 1;
        known as u8 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Whole(Head, PackedSpan, Body);

    impl Whole {
        fn new() -> Whole {
            Whole(Head::new(), PackedSpan::NONE, Body::new())
        }

        fn notes(&mut self) -> Notes<'_> {
            Notes { head: &mut self.0, span: &mut self.1, body: &mut self.2 }
        }
    }

    #[test]
    fn numbers_go_round_and_old_ones_are_told_apart() {
        let mut whole = Whole::new();
        let mut notes = whole.notes();
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
        let mut whole = Whole::new();
        let mut notes = whole.notes();
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
