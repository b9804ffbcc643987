//! The writer: publishes what the calling thread works on.
//!
//! Two ways, for two kinds of caller:
//!
//! * [`set`] and [`clear`] state what holds from now on. For hooks that are told of every change, such as
//!   OpenTelemetry's context observer.
//! * [`enter`] publishes until its [`Guard`] is dropped, then restores what was there before. For code that marks
//!   its own spans.
//!
//! A thread uses one of them: a `set` or `clear` takes the thread over, and guards still open then restore nothing.
//!
//! **How a reader is kept from half a record.** A reader interrupts the thread, so only the order of the stores
//! counts, as with a signal handler: the pointer is null while the record is rewritten, compiler fences keep the
//! order, no CPU barrier is needed. Null instead of `valid = 0`, because a reader that sees null is done in one read;
//! `valid` stays 1.
//!
//! **How a reader may skip the record.** The sequence word takes a new value whenever a record is made visible. A thread starts it at
//! four times the monotonic clock in nanoseconds and a change costs more than a quarter of one, so no value comes
//! again at the same address either, when a later thread gets the memory of one that ended. A pair (pointer,
//! sequence) seen twice means the same contents. Clearing leaves the sequence as it is: a null pointer is all there is to
//! know then.
//!
//! No function of the writer allocates, locks or calls the kernel, but for one clock read at a thread's first use. None may
//! be called from a signal handler: it might interrupt itself. For handlers there is [`reading`](crate::reading).

use std::marker::PhantomData;
use std::mem;
use std::ptr;
use std::sync::atomic::{Ordering, compiler_fence};

use crate::attributes::Attributes;
use crate::ids::{SpanContext, SpanId, TraceId};
use crate::reading::whole_entries;
use crate::record::{MAXIMUM_ATTRIBUTES_SIZE, VALID};
use crate::slot::{self, Block, State};

/// Publishes a span without attributes for the calling thread. An invalid one (an id all zero) clears.
#[inline]
pub fn set(span: &SpanContext) {
    let block = slot::block();
    if !span.is_valid() {
        return clear();
    }
    // SAFETY: the block is this thread's own and nothing else in the process refers to it.
    unsafe {
        hide(block);
        (*block).guard = 0;
        publish(block, Header::new(span, 0));
    }
}

/// Publishes a span with attributes for the calling thread. An invalid span clears.
#[inline]
pub fn set_with_attributes(span: &SpanContext, attributes: &Attributes) {
    let block = slot::block();
    if !span.is_valid() {
        return clear();
    }
    // SAFETY: the block is this thread's own and nothing else in the process refers to it.
    unsafe {
        hide(block);
        (*block).guard = 0;
        let size = append(block, 0, attributes);
        publish(block, Header::new(span, size));
    }
}

/// Publishes that the calling thread works on nothing.
#[inline]
pub fn clear() {
    let block = slot::block();
    // SAFETY: the block is this thread's own and nothing else in the process refers to it.
    unsafe {
        hide(block);
        (*block).guard = 0;
    }
}

/// What the calling thread publishes now.
#[inline]
pub fn current() -> Option<SpanContext> {
    let block = slot::block();
    // SAFETY: the block is this thread's own; the record is whole, as no writer is on the way on this thread.
    unsafe {
        let record = &raw const (*block).record;
        if (*block).pointer.load(Ordering::Relaxed).is_null() {
            return None;
        }
        Some(SpanContext::new(TraceId((*record).trace_id), SpanId((*record).span_id), (*record).state.flags))
    }
}

/// What the calling thread publishes now, and its attributes as they stand in the record: whole entries, as many as
/// fit into `attributes`. Returns the span and how many bytes were written.
#[inline]
pub fn current_with_attributes(attributes: &mut [u8]) -> Option<(SpanContext, usize)> {
    let span = current()?;
    let block = slot::block();
    // SAFETY: the block is this thread's own; what is published is whole and its size within bounds. The borrow ends
    // before anything can write to the record again.
    let bytes = unsafe {
        let size = usize::from((*block).record.state.attributes_size);
        std::slice::from_raw_parts((&raw const (*block).record.attributes).cast::<u8>(), size)
    };
    let kept = whole_entries(bytes, attributes.len());
    attributes[..kept.len()].copy_from_slice(kept);
    Some((span, kept.len()))
}

/// What the calling thread publishes now, whole, to be published elsewhere. Allocates if there are attributes.
pub fn capture() -> Option<(SpanContext, Attributes)> {
    let mut attributes = [0; MAXIMUM_ATTRIBUTES_SIZE];
    let (span, size) = current_with_attributes(&mut attributes)?;
    Some((span, Attributes::from_record(&attributes[..size])))
}

/// Whether `otel_thread_ctx_v1` in this program or library is our slot.
///
/// `false` when another library linked beside us defines the symbol too; readers that go by the symbol then see that
/// library's records, readers that go by our process context see ours.
pub fn owns_standard_symbol() -> bool {
    slot::owns_standard_symbol()
}

/// Publishes a span for the calling thread until the guard is dropped. Attributes of the span entered before stay:
/// an inner span works on the same message.
#[inline]
pub fn enter(span: &SpanContext) -> Guard {
    enter_and_append(span, None)
}

/// Publishes a span with attributes for the calling thread until the guard is dropped.
///
/// Attributes of the span entered before stay where these don't set the same key anew. If the record has no room
/// for all, those entries that don't fit are left out.
#[inline]
pub fn enter_with_attributes(span: &SpanContext, attributes: &Attributes) -> Guard {
    enter_and_append(span, Some(attributes))
}

#[inline]
fn enter_and_append(span: &SpanContext, attributes: Option<&Attributes>) -> Guard {
    let block = slot::block();
    // SAFETY: the block is this thread's own and nothing else in the process refers to it.
    unsafe {
        let before = Header::of(block);
        let was_published = withdraw(block);
        // Behind a guard that publishes nothing the outer attributes still lie in wait for their own guard.
        let is_in_use = was_published || (*block).guard != 0;
        let mut size = if is_in_use { before.state.attributes_size } else { 0 };
        if span.is_valid() {
            if let Some(attributes) = attributes {
                size = append(block, size, attributes);
            }
            publish(block, Header::new(span, size));
        } else {
            (*block).record.state.attributes_size = size;
            advance(block);
        }
        let stamp = (*block).sequence.load(Ordering::Relaxed);
        let outer = mem::replace(&mut (*block).guard, stamp);
        Guard { before, was_published, outer, stamp, not_send: PhantomData }
    }
}

/// Keeps a span published; made by [`enter`]. Dropping it restores what was published before.
///
/// Guards of a thread are to be dropped in the reverse order of their making, which scopes do by themselves. If one
/// is dropped while a later one is alive, nothing is published until the next change: better unknown than wrong.
#[must_use = "the span is published only as long as the guard lives"]
#[derive(Debug)]
pub struct Guard {
    before: Header,
    was_published: bool,
    outer: u64,
    stamp: u64,
    /// What it restores belongs to the thread that it was made on.
    not_send: PhantomData<*const ()>,
}

/// The fixed part of a record. Moved in the pieces in which it is written, so that reading it back soon after does not
/// make the processor wait for a store that it can't forward.
#[derive(Clone, Copy, Debug)]
struct Header {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    state: State,
}

impl Header {
    #[inline(always)]
    fn new(span: &SpanContext, attributes_size: u16) -> Self {
        let state = State { valid: VALID, flags: span.flags, attributes_size };
        Self { trace_id: span.trace_id.0, span_id: span.span_id.0, state }
    }

    /// What the block holds, whether visible or not.
    ///
    /// # Safety
    /// `block` is the calling thread's.
    #[inline(always)]
    unsafe fn of(block: *const Block) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let record = &raw const (*block).record;
            Self { trace_id: (*record).trace_id, span_id: (*record).span_id, state: (*record).state }
        }
    }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        let block = slot::block();
        // SAFETY: the block is this thread's own and nothing else in the process refers to it.
        unsafe {
            if (*block).guard == 0 {
                (*block).strays += 1;
                return;
            }
            hide(block);
            if (*block).guard != self.stamp {
                (*block).strays += 1;
                (*block).guard = 0;
                return;
            }
            (*block).guard = self.outer;
            if self.was_published {
                publish(block, self.before);
            } else {
                (*block).record.state = self.before.state;
            }
        }
    }
}

/// What open guards publish, while somebody else states by [`set`] what holds; made by [`set_aside`].
#[derive(Debug)]
pub struct SetAside {
    header: Header,
    was_published: bool,
    guard: u64,
    strays: u64,
    attributes: Vec<u8>,
    /// It belongs to the thread that it was made on.
    not_send: PhantomData<*const ()>,
}

/// Remembers what open guards of this thread publish, so that a hook that is told of every change of *its* spans may use
/// [`set`] for them and [`put_back`] what was there when the last of them is left. `None`, at the cost of a load,
/// if no guard is open. Changes nothing.
#[inline]
pub fn set_aside() -> Option<Box<SetAside>> {
    has_guards().then(|| Box::new(set_aside_guards()))
}

/// Whether guards are open on this thread, so that there is something for [`set_aside`].
#[inline]
pub fn has_guards() -> bool {
    let block = slot::block();
    // SAFETY: the block is this thread's own.
    unsafe { (*block).guard != 0 }
}

#[cold]
fn set_aside_guards() -> SetAside {
    let block = slot::block();
    // SAFETY: the block is this thread's own, and the attributes' size within bounds, as our writer alone writes it.
    unsafe {
        let header = Header::of(block);
        let size = usize::from(header.state.attributes_size);
        let attributes = (&raw const (*block).record.attributes).cast::<u8>();
        SetAside {
            header,
            was_published: !(*block).pointer.load(Ordering::Relaxed).is_null(),
            guard: (*block).guard,
            strays: (*block).strays,
            attributes: std::slice::from_raw_parts(attributes, size).to_vec(),
            not_send: PhantomData,
        }
    }
}

/// Publishes again what was [`set_aside`]; its guards go on as if nothing had been. If one of them was dropped meanwhile,
/// nothing is published until the next change.
#[allow(clippy::boxed_local, reason = "that is how it was handed out")]
pub fn put_back(aside: Box<SetAside>) {
    let block = slot::block();
    // SAFETY: the block is this thread's own and nothing else in the process refers to it. The attributes came from there.
    unsafe {
        hide(block);
        (*block).guard = 0;
        if (*block).strays != aside.strays {
            return;
        }
        let target = (&raw mut (*block).record.attributes).cast::<u8>();
        ptr::copy_nonoverlapping(aside.attributes.as_ptr(), target, aside.attributes.len());
        (*block).guard = aside.guard;
        if aside.was_published {
            publish(block, aside.header);
        } else {
            (*block).record.state = aside.header.state;
            advance(block);
        }
    }
}

/// Hides the record, and tells whether it was visible.
///
/// # Safety
/// `block` is the calling thread's.
#[inline(always)]
unsafe fn withdraw(block: *mut Block) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let published = !(*block).pointer.load(Ordering::Relaxed).is_null();
        hide(block);
        published
    }
}

/// Hides the record from readers, so that it may be written.
///
/// # Safety
/// `block` is the calling thread's.
#[inline(always)]
pub(crate) unsafe fn hide(block: *mut Block) {
    // SAFETY: the caller's promise.
    unsafe { (*block).pointer.store(ptr::null_mut(), Ordering::Relaxed) };
    compiler_fence(Ordering::SeqCst);
}

/// Writes attributes after the first `size` bytes and returns the new size. All of them where they fit, else as many
/// whole entries as do.
///
/// # Safety
/// `block` is the calling thread's, and withdrawn; `size` is at most [`MAXIMUM_ATTRIBUTES_SIZE`].
#[inline]
unsafe fn append(block: *mut Block, size: u16, attributes: &Attributes) -> u16 {
    let bytes = whole_entries(attributes.as_bytes(), MAXIMUM_ATTRIBUTES_SIZE - usize::from(size));
    // SAFETY: the caller's promise, and the bytes fit.
    unsafe {
        let target = (&raw mut (*block).record.attributes).cast::<u8>().add(usize::from(size));
        copy(bytes, target);
    }
    size + bytes.len() as u16
}

/// Copies bytes; the usual 16 to 64 without a call, by pieces that overlap in the middle. (`cargo bench -p spanprof-context`.)
///
/// # Safety
/// There is room for them at `target`, elsewhere.
#[inline(always)]
unsafe fn copy(bytes: &[u8], target: *mut u8) {
    type Piece = [u8; 16];
    const PIECE: usize = size_of::<Piece>();
    let (source, length) = (bytes.as_ptr(), bytes.len());
    // SAFETY: each piece lies within the length, in both places.
    let piece = |at: usize| unsafe {
        target.add(at).cast::<Piece>().write_unaligned(source.add(at).cast::<Piece>().read_unaligned())
    };
    if (PIECE..=4 * PIECE).contains(&length) {
        piece(0);
        piece(length - PIECE);
        if length > 2 * PIECE {
            piece(PIECE);
            piece(length - 2 * PIECE);
        }
    } else {
        // SAFETY: the caller's promise.
        unsafe { ptr::copy_nonoverlapping(source, target, length) };
    }
}

/// Writes the record's header and makes the record visible.
///
/// # Safety
/// `block` is the calling thread's, and withdrawn; the attributes are in place.
#[inline(always)]
unsafe fn publish(block: *mut Block, header: Header) {
    // SAFETY: the caller's promise.
    unsafe {
        let record = &raw mut (*block).record;
        (*record).trace_id = header.trace_id;
        (*record).span_id = header.span_id;
        (*record).state = header.state;
        show(block, next_sequence(block));
    }
}

/// Makes the record visible.
///
/// # Safety
/// `block` is the calling thread's, and withdrawn; the record is in place, and the sequence word never had the value.
#[inline(always)]
pub(crate) unsafe fn show(block: *mut Block, sequence: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        (*block).sequence.store(sequence, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        (*block).pointer.store(&raw mut (*block).record, Ordering::Relaxed);
    }
}

/// Gives the sequence word a value that it never had.
///
/// # Safety
/// `block` is the calling thread's.
#[inline(always)]
unsafe fn advance(block: *mut Block) {
    // SAFETY: the caller's promise.
    unsafe { (*block).sequence.store(next_sequence(block), Ordering::Relaxed) };
}

/// A value that the sequence word never had.
///
/// # Safety
/// `block` is the calling thread's.
#[inline(always)]
unsafe fn next_sequence(block: *const Block) -> u64 {
    // SAFETY: the caller's promise.
    let value = unsafe { (*block).sequence.load(Ordering::Relaxed) };
    1 + if value == 0 { first_sequence() } else { value }
}

#[cold]
fn first_sequence() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec. On failure the zero stays, which costs only the protection against reuse.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64).wrapping_mul(4)
}
