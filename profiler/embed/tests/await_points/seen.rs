//! What was recorded, kept per trace, so that tests of one program don't take each other's.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{LazyLock, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use spanprof::await_points::{WokenBy, drain, lost};
use spanprof::{SpanContext, SpanId, TraceId};
use spanprof_symbolizer::{ObjectFile, Symbolizer};

/// An owned [`Suspension`](spanprof::await_points::Suspension).
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) span: SpanContext,
    pub(crate) attributes: Vec<u8>,
    pub(crate) place: Vec<u64>,
    pub(crate) count: u64,
    pub(crate) cancelled: u64,
    pub(crate) suspended: u64,
    pub(crate) ready: u64,
    pub(crate) longest: u64,
    pub(crate) woken_by: Option<WokenBy>,
}

/// By far more than a thread that lost its processor while it wrote needs to get it back.
const LONGEST_WRITE: Duration = Duration::from_secs(60);

static SEEN: LazyLock<Mutex<HashMap<TraceId, Vec<Seen>>>> = LazyLock::new(Mutex::default);

/// All that was recorded of a trace; `count` is how many suspensions there must be.
pub(crate) fn of(trace: u8, count: u64) -> Vec<Seen> {
    until(trace, |seen| {
        let so_far: u64 = seen.iter().map(|seen| seen.count).sum();
        assert!(so_far <= count, "{so_far} suspensions of {count}: {seen:?}");
        so_far == count
    })
}

/// What was recorded of a trace, as soon as that is enough.
///
/// A drain leaves out a table that a thread is just writing, so it is repeated.
pub(crate) fn until(trace: u8, is_enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
    let start = Instant::now();
    loop {
        let mut seen = SEEN.lock().unwrap();
        drain(&mut |suspension| {
            let Some(span) = suspension.span else { return };
            seen.entry(span.trace_id).or_default().push(Seen {
                span,
                attributes: suspension.attributes.to_vec(),
                place: suspension.place.to_vec(),
                count: suspension.count,
                cancelled: suspension.cancelled,
                suspended: suspension.suspended,
                ready: suspension.ready,
                longest: suspension.longest,
                woken_by: suspension.woken_by,
            });
        });
        let of_trace = seen.get(&TraceId([trace; 16])).cloned().unwrap_or_default();
        drop(seen);
        if is_enough(&of_trace) {
            return of_trace;
        }
        if start.elapsed() > LONGEST_WRITE {
            panic!("trace {trace}: not enough was recorded, but {}; {:?}", summary(&of_trace), lost());
        }
        std::thread::yield_now();
    }
}

/// How many suspensions there are, and one line for each of their sums.
fn summary(seen: &[Seen]) -> String {
    let total: u64 = seen.iter().map(|seen| seen.count).sum();
    let line = |seen: &Seen| {
        let (count, cancelled, span, frames) =
            (seen.count, seen.cancelled, seen.span.span_id, seen.place.len());
        format!("\n{count}, {cancelled} cancelled, under {span}, {frames} frames, by {:?}", seen.woken_by)
    };
    format!("{total} suspensions:{}\n", seen.iter().map(line).collect::<String>())
}

pub(crate) fn span(trace: u8, number: u64) -> SpanContext {
    SpanContext::new(TraceId([trace; 16]), SpanId(number.to_be_bytes()), 0)
}

/// A future that publishes a span while it is polled, as instrumented ones do.
pub(crate) struct InSpan<F> {
    span: SpanContext,
    future: Pin<Box<F>>,
}

pub(crate) fn in_span<F: Future>(span: SpanContext, future: F) -> InSpan<F> {
    InSpan { span, future: Box::pin(future) }
}

impl<F: Future> Future for InSpan<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _span = spanprof::enter(self.span.trace_id, self.span.span_id);
        self.future.as_mut().poll(context)
    }
}

/// The functions of a place, innermost first; only those of this program.
pub(crate) fn functions(place: &[u64]) -> Vec<String> {
    thread_local! {
        static SYMBOLIZER: RefCell<Symbolizer> = RefCell::new(Symbolizer::new());
    }
    let program = std::env::current_exe().unwrap();
    let object = ObjectFile::open(&program, "await_points").unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let address = |address: &u64| {
        maps.lines().find_map(|line| {
            let mut fields = line.split_whitespace();
            let (start, end) = fields.next()?.split_once('-')?;
            let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
            let hexadecimal = |text| u64::from_str_radix(text, 16).ok();
            let (start, end) = (hexadecimal(start)?, hexadecimal(end)?);
            let is_ours = (start..end).contains(address) && line.ends_with(program.to_str()?);
            is_ours.then(|| object.file_offset_to_address(address - start + offset))?
        })
    };
    let addresses: Vec<u64> = place.iter().filter_map(address).collect();
    let frames = SYMBOLIZER.with_borrow_mut(|symbolizer| symbolizer.symbolize(&object, &addresses));
    let names = frames.iter().flatten().map(|frame| frame.function.to_string());
    names.filter(|name| name.contains("await_points::")).collect()
}

/// The async functions of a place, innermost first, without their modules.
pub(crate) fn async_functions(place: &[u64]) -> Vec<String> {
    // Closures that the tests' leaves poll by.
    const LEAVES: [&str; 2] = ["wait", "turn"];
    // An async function is a closure in the function of its name: `{{closure}}` or `{closure#0}`, by the mangling.
    let outside = |name: &str| {
        let (outside, last) = name.rsplit_once("::")?;
        last.starts_with('{').then(|| outside.to_owned())
    };
    let name = |function: &String| {
        let name = outside(function).filter(|name| outside(name).is_none())?;
        let name = name.rsplit("::").next()?;
        (!LEAVES.contains(&name)).then(|| name.to_owned())
    };
    functions(place).iter().filter_map(name).collect()
}
