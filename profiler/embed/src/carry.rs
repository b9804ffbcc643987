//! A span carried to another thread: blocking tasks, thread pools and threads of one's own.
//!
//! Runtimes and pools don't hand on what the thread that gave them work was doing. What it published is captured there and
//! published on the thread that does the work, for as long as that takes. With OpenTelemetry its context is carried
//! too, so that spans started over there have the right parent.
//!
//! Refused: hooks into runtimes and pools. tokio's are behind an unstable cfg, rayon has none, and both would also give a
//! span to work that belongs to none.

use std::fmt;
use std::marker::PhantomData;

use spanprof_context::{Attributes, SpanContext, thread};

use crate::publish::{self, Guard};

/// Captures what the calling thread works on: the span that it publishes, its attributes and, with the feature
/// `opentelemetry`, the current context.
///
/// ```
/// # fn work_on(_: &u64) {}
/// // A thread of one's own, or tokio's: tokio::task::spawn_blocking(spanprof::carry().wrap(…)).
/// std::thread::spawn(spanprof::carry().wrap(|| { /* … */ })).join().unwrap();
///
/// // A pool, such as rayon's: `items.par_iter().for_each(|item| carried.run(|| work_on(item)))`.
/// let items = [1, 2, 3];
/// let carried = spanprof::carry();
/// items.iter().for_each(|item| carried.run(|| work_on(item)));
/// ```
///
/// In a pool whose threads take up other work while they wait, as rayon's do, give the span to each piece of work rather
/// than to a piece that waits for others: what is taken up meanwhile would be seen under its span.
pub fn carry() -> Carried {
    Carried {
        published: thread::capture(),
        #[cfg(feature = "opentelemetry")]
        context: opentelemetry::Context::current(),
    }
}

/// What a thread worked on when [`carry`] was called. Cheap to clone; may be used any number of times, on any threads.
#[derive(Clone)]
pub struct Carried {
    published: Option<(SpanContext, Attributes)>,
    #[cfg(feature = "opentelemetry")]
    context: opentelemetry::Context,
}

impl fmt::Debug for Carried {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Carried").field("span", &self.span()).finish_non_exhaustive()
    }
}

impl Carried {
    /// The span, if there was one.
    pub fn span(&self) -> Option<SpanContext> {
        self.published.as_ref().map(|(span, _)| *span)
    }

    /// Publishes the span for the calling thread while `work` runs; then, what was published before. If there was no
    /// span, none is published meanwhile.
    #[inline]
    pub fn run<R>(&self, work: impl FnOnce() -> R) -> R {
        let _entered = self.enter();
        work()
    }

    /// A closure that does the same wherever it is called.
    #[inline]
    pub fn wrap<R>(self, work: impl FnOnce() -> R) -> impl FnOnce() -> R {
        move || self.run(work)
    }

    /// Publishes the span for the calling thread until the guard is dropped.
    #[inline]
    pub fn enter(&self) -> CarriedGuard {
        #[cfg(feature = "opentelemetry")]
        let attached = self.context.clone().attach();
        CarriedGuard {
            _published: self.publish(),
            #[cfg(feature = "opentelemetry")]
            _attached: attached,
            not_send: PhantomData,
        }
    }

    /// By a guard of its own where following OpenTelemetry has not published it already: a span that was marked by hand,
    /// one of `tracing` alone, or no observer.
    fn publish(&self) -> Option<Guard> {
        if thread::current() == self.span() {
            return None;
        }
        Some(match &self.published {
            Some((span, attributes)) => publish::enter(span, Some(attributes)),
            None => publish::enter(&SpanContext::default(), None),
        })
    }
}

/// Keeps a carried span published; made by [`Carried::enter`].
#[must_use = "the span is published only as long as the guard lives"]
#[derive(Debug)]
pub struct CarriedGuard {
    /// Dropped first: below it lies what the context publishes.
    _published: Option<Guard>,
    #[cfg(feature = "opentelemetry")]
    _attached: opentelemetry::ContextGuard,
    /// What it restores belongs to the thread that it was made on.
    not_send: PhantomData<*const ()>,
}
