//! Which messages came, how often, and in which trace.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use rustix::time::{ClockId, clock_gettime};
use spanprof_context::{SpanId, TraceId};
use spanprof_messaging::TraceContext;

use crate::consumer::{Course, Report, work};

/// The context that a message is sent with: its trace is told by its number.
pub(crate) fn context(number: u32) -> TraceContext<'static> {
    let trace = TraceId((u128::from(number) + 1).to_be_bytes());
    let span = SpanId((u64::from(number) + 1).to_be_bytes());
    TraceContext::new(trace, span, 1).expect("neither id is zero")
}

/// What all handlers of a run count together.
#[derive(Debug)]
pub(crate) struct Tally {
    came: Vec<AtomicU32>,
    distinct: AtomicU32,
    astray: AtomicU64,
    turns: u64,
    began: std::sync::OnceLock<(Instant, u64)>,
    ended: std::sync::OnceLock<(Instant, u64)>,
}

impl Tally {
    pub(crate) fn new(course: &Course) -> Self {
        Self {
            came: (0..course.messages).map(|_| AtomicU32::new(0)).collect(),
            distinct: AtomicU32::new(0),
            astray: AtomicU64::new(0),
            turns: course.turns,
            began: std::sync::OnceLock::new(),
            ended: std::sync::OnceLock::new(),
        }
    }

    /// Messages have come: time counts from the first.
    pub(crate) fn begin(&self) {
        self.began.get_or_init(now);
    }

    /// What the handler of a message does.
    pub(crate) fn handle(&self, body: &[u8]) {
        black_box(work(self.turns));
        let number = body.try_into().map(u32::from_be_bytes).ok();
        let Some(came) = number.and_then(|number| self.came.get(number as usize)) else {
            self.astray.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if came.fetch_add(1, Ordering::Relaxed) == 0
            && self.distinct.fetch_add(1, Ordering::Relaxed) as usize + 1 == self.came.len()
        {
            self.ended.get_or_init(now);
        }
    }

    /// Looks whether the active span, which a message is processed in, is in the message's trace.
    pub(crate) fn check(&self, body: &[u8]) {
        let number = body.try_into().map(u32::from_be_bytes).ok();
        let sent = number.map(|number| context(number).to_opentelemetry().trace_id());
        let current = Context::current();
        if sent != Some(current.span().span_context().trace_id()) {
            self.astray.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether all have come.
    pub(crate) fn is_complete(&self) -> bool {
        self.ended.get().is_some()
    }

    /// How many distinct ones have come.
    pub(crate) fn distinct(&self) -> u32 {
        self.distinct.load(Ordering::Relaxed)
    }

    pub(crate) fn report(&self) -> Report {
        let times = self.began.get().zip(self.ended.get());
        let came = || self.came.iter().map(|came| came.load(Ordering::Relaxed));
        Report {
            nanoseconds: times.map_or(0, |(began, ended)| {
                u64::try_from(ended.0.duration_since(began.0).as_nanos()).unwrap_or(u64::MAX)
            }),
            cpu_nanoseconds: times.map_or(0, |(began, ended)| ended.1 - began.1),
            messages: self.came.len() as u64,
            lost: came().filter(|came| *came == 0).count() as u64,
            doubled: came().filter(|came| *came > 1).count() as u64,
            astray: self.astray.load(Ordering::Relaxed),
        }
    }
}

/// And the process's CPU time, in nanoseconds.
fn now() -> (Instant, u64) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    (Instant::now(), cpu.tv_sec.unsigned_abs() * 1_000_000_000 + cpu.tv_nsec.unsigned_abs())
}
