//! A stretch of a thread under one span, or several short ones together, with the exact times of it.

use spanprof_context::{SpanContext, SpanId, TraceId, thread};

use super::clock::ThreadId;

/// The most that an episode keeps of its span's attributes, in bytes; whole entries.
pub(super) const ATTRIBUTES_KEPT: usize = 96;

/// A span and its attributes, as they stand in a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct ActiveSpan {
    pub(super) context: SpanContext,
    length: u8,
    attributes: [u8; ATTRIBUTES_KEPT],
}

impl ActiveSpan {
    /// A span with the first `length` bytes of attributes.
    pub(super) fn new(context: SpanContext, attributes: [u8; ATTRIBUTES_KEPT], length: usize) -> ActiveSpan {
        ActiveSpan { context, length: length.min(ATTRIBUTES_KEPT) as u8, attributes }
    }

    /// What a thread has that has no span.
    pub(super) const NOBODY: ActiveSpan = ActiveSpan {
        context: SpanContext { trace_id: TraceId([0; 16]), span_id: SpanId([0; 8]), flags: 0 },
        length: 0,
        attributes: [0; ATTRIBUTES_KEPT],
    };

    /// Takes over what the calling thread publishes; `false`, and nothing is taken, if that is nothing.
    ///
    /// In place, as is [`copy_from`](Self::copy_from): a span without attributes shouldn't pay for moving room for them.
    #[inline]
    pub(super) fn take_published(&mut self) -> bool {
        let Some((context, length)) = thread::current_with_attributes(&mut self.attributes) else {
            return false;
        };
        self.context = context;
        self.length = length as u8;
        true
    }

    /// Becomes a copy.
    #[inline]
    pub(super) fn copy_from(&mut self, other: &ActiveSpan) {
        self.context = other.context;
        self.length = other.length;
        let attributes = other.attributes();
        if !attributes.is_empty() {
            self.attributes[..attributes.len()].copy_from_slice(attributes);
        }
    }

    /// Its attributes.
    pub(super) fn attributes(&self) -> &[u8] {
        self.attributes.get(..usize::from(self.length)).unwrap_or(&[])
    }

    /// Whether it is the same span; attributes don't count.
    pub(super) fn is(&self, other: &SpanContext) -> bool {
        are_one(&self.context, other)
    }
}

/// Whether it is the same span, whatever its flags.
fn are_one(one: &SpanContext, other: &SpanContext) -> bool {
    (one.trace_id, one.span_id) == (other.trace_id, other.span_id)
}

impl PartialEq for ActiveSpan {
    fn eq(&self, other: &ActiveSpan) -> bool {
        self.context == other.context && self.attributes() == other.attributes()
    }
}

impl Eq for ActiveSpan {}

/// Times are nanoseconds; begin and end are of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Episode {
    pub(super) span: ActiveSpan,
    pub(super) begin: u64,
    pub(super) end: u64,
    /// How long the thread had the span from begin to end: less than all of it for short stretches together.
    pub(super) wall: u64,
    /// The thread's CPU time at the begin and at the end.
    pub(super) cpu: (u64, u64),
    /// The thread's time in the run queue at the begin and at the end.
    pub(super) run_queue: (u64, u64),
}

impl Episode {
    /// Whether it is one stretch.
    pub(super) fn is_one(&self) -> bool {
        self.wall == self.end - self.begin
    }

    /// How its time splits: CPU, blocked, run queue. They add up to the time that the thread had the span.
    pub(super) fn split(&self) -> (u64, u64, u64) {
        let cpu = self.cpu.1.saturating_sub(self.cpu.0).min(self.wall);
        let run_queue = self.run_queue.1.saturating_sub(self.run_queue.0).min(self.wall - cpu);
        (cpu, self.wall - cpu - run_queue, run_queue)
    }

    /// Of no span, and no time.
    pub(super) const EMPTY: Episode =
        Episode { span: ActiveSpan::NOBODY, begin: 0, end: 0, wall: 0, cpu: (0, 0), run_queue: (0, 0) };

    /// The part of one stretch after `seen`, of which an earlier window has told already.
    pub(super) fn after(self, seen: &Episode) -> Episode {
        let begin = seen.end.min(self.end);
        Episode {
            begin,
            wall: self.end - begin,
            cpu: (seen.cpu.1, self.cpu.1),
            run_queue: (seen.run_queue.1, self.run_queue.1),
            ..self
        }
    }
}

/// What a window keeps of an episode, of which there may be many: how its time split, without the span's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) span: SpanContext,
    pub(super) thread: ThreadId,
    /// Nanoseconds of the monotonic clock.
    pub(super) begin: u64,
    pub(super) end: u64,
    wall: u64,
    cpu: u64,
    run_queue: u64,
}

impl Stretch {
    /// What is kept of a thread's episode.
    pub(super) fn new(thread: ThreadId, episode: &Episode) -> Stretch {
        let (cpu, _, run_queue) = episode.split();
        let Episode { span, begin, end, wall, .. } = episode;
        Stretch { span: span.context, thread, begin: *begin, end: *end, wall: *wall, cpu, run_queue }
    }

    /// Whether it is one, and not several short ones together.
    pub(super) fn is_one(&self) -> bool {
        self.wall == self.end - self.begin
    }

    /// How long the thread had the span, in nanoseconds.
    pub(super) fn wall(&self) -> u64 {
        self.wall
    }

    /// Whether it is that span's.
    pub(super) fn is_of(&self, span: &SpanContext) -> bool {
        are_one(&self.span, span)
    }

    /// How its time splits: CPU, blocked, run queue.
    pub(super) fn split(&self) -> (u64, u64, u64) {
        (self.cpu, self.wall - self.cpu - self.run_queue, self.run_queue)
    }

    /// Adds later short ones of the same thread and span.
    pub(super) fn add(&mut self, later: &Stretch) {
        self.end = self.end.max(later.end);
        self.wall += later.wall;
        self.cpu += later.cpu;
        self.run_queue += later.run_queue;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A span whose ids are all this number.
    pub(in super::super) fn span(number: u8) -> SpanContext {
        SpanContext::new(TraceId([number; 16]), SpanId([number; 8]), 0)
    }

    /// One without attributes.
    pub(in super::super) fn active(number: u8) -> ActiveSpan {
        ActiveSpan::new(span(number), [0; ATTRIBUTES_KEPT], 0)
    }

    #[test]
    fn what_an_earlier_window_told_is_not_told_again() {
        let whole =
            Episode { span: active(5), begin: 100, end: 900, wall: 800, cpu: (10, 310), run_queue: (5, 105) };
        let seen = Episode { end: 400, wall: 300, cpu: (10, 110), run_queue: (5, 25), ..whole };
        let rest = whole.after(&seen);
        assert!(rest.is_one());
        assert_eq!(rest.split(), (200, 220, 80));
        let (first, second, all) = (seen.split(), rest.split(), whole.split());
        assert_eq!((first.0 + second.0, first.1 + second.1, first.2 + second.2), all);
        assert_eq!(Stretch::new(7, &whole).split(), all);
    }

    #[test]
    fn short_ones_together_are_not_one() {
        let short =
            Episode { span: active(5), begin: 100, end: 200, wall: 100, cpu: (10, 60), run_queue: (5, 15) };
        let mut sum = Stretch::new(7, &short);
        assert!(sum.is_one() && sum.is_of(&span(5)) && !sum.is_of(&span(6)));
        sum.add(&Stretch::new(7, &Episode { begin: 700, end: 800, ..short }));
        assert!(!sum.is_one());
        assert_eq!((sum.begin, sum.end, sum.split()), (100, 800, (100, 80, 20)));
    }
}
