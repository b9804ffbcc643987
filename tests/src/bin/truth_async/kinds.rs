//! Futures and blocking work under spans, each kind with functions of its own.
//!
//! Even kinds attach an OpenTelemetry context at each poll, odd ones are instrumented by `tracing`: both as services do, by
//! the wrappers of those crates. Ours stand around and inside of theirs, so that the stack says what is going on.

use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll};

use opentelemetry::Context;
use opentelemetry::trace::{FutureExt, SpanId, TraceContextExt, TraceId};
use opentelemetry_sdk::trace::IdGenerator;
use tracing::Instrument;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::expected::{CHANGING, Expecting};

/// How many kinds there are.
pub(crate) const KINDS: usize = POLL.len();
/// Ids per kind; few, so that each gathers time enough to be kept by its id.
const IDS: u64 = 8;

pub(crate) static SPANS: AtomicU64 = AtomicU64::new(0);

type Inner = Pin<Box<dyn Future<Output = u64> + Send>>;

thread_local! {
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// A tracer's ids: what the creator of the span has chosen.
#[derive(Debug)]
pub(crate) struct ChosenIds;

impl IdGenerator for ChosenIds {
    fn new_trace_id(&self) -> TraceId {
        TraceId::from((u128::from(u64::from_be_bytes(*b"truth\0\0\0")) << 64) | u128::from(NEXT.get()))
    }

    fn new_span_id(&self) -> SpanId {
        SpanId::from(NEXT.get())
    }
}

fn next_id(kind: usize) -> u64 {
    let number = SPANS.fetch_add(1, Ordering::Relaxed) % IDS + 1;
    ((kind as u64 + 1) << 56) | number
}

fn context_of(id: u64) -> Context {
    NEXT.set(id);
    let ids = ChosenIds;
    let span = opentelemetry::trace::SpanContext::new(
        ids.new_trace_id(),
        ids.new_span_id(),
        opentelemetry::TraceFlags::SAMPLED,
        false,
        opentelemetry::trace::TraceState::NONE,
    );
    Context::new().with_remote_span_context(span)
}

fn tracing_span_of(id: u64) -> tracing::Span {
    NEXT.set(id);
    let span = tracing::info_span!(parent: None, "handle");
    // Its OpenTelemetry span is made when first needed; now, while the id is the one that is meant.
    let made = span.context().span().span_context().span_id();
    assert_eq!(made, SpanId::from(id), "the tracer asks for ids when its span is first needed");
    span
}

/// The functions of each kind. Every body holds its kind as a value that the compiler can't see through, as
/// equal bodies would be merged into one function.
macro_rules! kinds {
    ($($kind:literal $poll:ident $poll_under:ident $drop_under:ident $block:ident $block_under:ident;)*) => {
        const POLL: &[fn(&mut Inner, &mut TaskContext<'_>) -> Poll<u64>] = &[$($poll),*];
        const POLL_UNDER: &[fn(&mut Inner, u64, &mut TaskContext<'_>) -> Poll<u64>] = &[$($poll_under),*];
        const DROP_UNDER: &[fn(Option<Inner>, u64)] = &[$($drop_under),*];
        const BLOCK: &[fn(Context, u64, fn(u64) -> u64) -> u64] = &[$($block),*];
        $(
            #[inline(never)]
            fn $poll(wrapped: &mut Inner, task: &mut TaskContext<'_>) -> Poll<u64> {
                let _changing = Expecting::new(CHANGING);
                let kind: u64 = black_box($kind);
                black_box(wrapped.as_mut().poll(task)).map(|result| black_box(result ^ kind))
            }

            #[inline(never)]
            fn $poll_under(inner: &mut Inner, id: u64, task: &mut TaskContext<'_>) -> Poll<u64> {
                let _expecting = Expecting::new(id);
                let kind: u64 = black_box($kind);
                black_box(inner.as_mut().poll(task)).map(|result| black_box(result ^ kind))
            }

            #[inline(never)]
            fn $drop_under(inner: Option<Inner>, id: u64) {
                let _expecting = Expecting::new(id);
                black_box::<u64>($kind);
                drop(black_box(inner));
            }

            #[inline(never)]
            fn $block(context: Context, id: u64, work: fn(u64) -> u64) -> u64 {
                let _changing = Expecting::new(CHANGING);
                let attached = context.attach();
                let result = black_box($block_under(id, work));
                drop(attached);
                result ^ black_box($kind)
            }

            #[inline(never)]
            fn $block_under(id: u64, work: fn(u64) -> u64) -> u64 {
                let _expecting = Expecting::new(id);
                black_box(work(black_box($kind)))
            }
        )*
    };
}

kinds! {
    0 poll_span_00 poll_under_span_00 drop_under_span_00 block_span_00 block_under_span_00;
    1 poll_span_01 poll_under_span_01 drop_under_span_01 block_span_01 block_under_span_01;
    2 poll_span_02 poll_under_span_02 drop_under_span_02 block_span_02 block_under_span_02;
    3 poll_span_03 poll_under_span_03 drop_under_span_03 block_span_03 block_under_span_03;
    4 poll_span_04 poll_under_span_04 drop_under_span_04 block_span_04 block_under_span_04;
    5 poll_span_05 poll_under_span_05 drop_under_span_05 block_span_05 block_under_span_05;
    6 poll_span_06 poll_under_span_06 drop_under_span_06 block_span_06 block_under_span_06;
    7 poll_span_07 poll_under_span_07 drop_under_span_07 block_span_07 block_under_span_07;
    8 poll_span_08 poll_under_span_08 drop_under_span_08 block_span_08 block_under_span_08;
    9 poll_span_09 poll_under_span_09 drop_under_span_09 block_span_09 block_under_span_09;
}

/// Under which span a piece of blocking work is to run that a future hands on.
#[derive(Clone, Copy)]
pub(crate) struct Current {
    kind: usize,
    id: u64,
}

impl Current {
    /// Runs `work` under this span, which `context` carries, on whichever thread calls.
    pub(crate) fn block(self, context: Context, work: fn(u64) -> u64) -> u64 {
        BLOCK[self.kind](context, self.id, work)
    }
}

/// A future under a new span of a kind; `make` is told under which. From the outside in: ours, that of OpenTelemetry or
/// `tracing`, ours, the future.
pub(crate) fn under_span<F>(kind: usize, make: impl FnOnce(Current) -> F) -> Outside
where
    F: Future<Output = u64> + Send + 'static,
{
    let kind = kind % KINDS;
    let id = next_id(kind);
    let is_traced = kind % 2 == 1;
    let inside = Inside { kind, id, is_traced, inner: Some(Box::pin(make(Current { kind, id }))) };
    let wrapped: Inner = match is_traced {
        false => Box::pin(inside.with_context(context_of(id))),
        true => Box::pin(inside.instrument(tracing_span_of(id))),
    };
    Outside { kind, wrapped: Some(wrapped) }
}

/// Around the wrapper of the other crate: here the span changes.
pub(crate) struct Outside {
    kind: usize,
    wrapped: Option<Inner>,
}

impl Future for Outside {
    type Output = u64;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<u64> {
        let this = &mut *self;
        let wrapped = this.wrapped.as_mut().expect("there until dropped");
        POLL[this.kind](wrapped, task)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop_span(self.wrapped.take());
    }
}

/// `tracing` enters its span for a future that is dropped; OpenTelemetry attaches nothing.
#[inline(never)]
fn drop_span(wrapped: Option<Inner>) {
    let _changing = Expecting::new(CHANGING);
    drop(black_box(wrapped));
}

/// Inside of the wrapper of the other crate: here the span must be published.
struct Inside {
    kind: usize,
    id: u64,
    is_traced: bool,
    inner: Option<Inner>,
}

impl Future for Inside {
    type Output = u64;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<u64> {
        let this = &mut *self;
        POLL_UNDER[this.kind](this.inner.as_mut().expect("there until dropped"), this.id, task)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if self.is_traced {
            DROP_UNDER[self.kind](self.inner.take(), self.id);
        }
    }
}
