//! Where the return addresses between a waker's clone and the root's poll lie, by the unwinder that std links anyway.
//!
//! Slow (about a microsecond per frame), so it runs once per place; [`places`](super::places) then checks what it found.
//! Only addresses are asked for: no frame is entered, no lock of ours held, and of the C library's at most the one that
//! a panic would take too.

/// Frames above this are no place that a person reads; the walk stops and the place stays unknown.
pub(super) const MAXIMUM_FRAMES: usize = 256;

/// A return address and where it lies: bytes below the root.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Slot {
    pub(super) below_root: usize,
    pub(super) return_address: usize,
}

/// The return addresses that lie between two addresses of the calling thread's stack, leaf first; the last one leads
/// into the frame in which `high` itself lies.
///
/// `None` where the walk didn't arrive there, or an address wasn't where the unwinder said. With it, how many frames were
/// visited.
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(super) fn slots(low: usize, high: usize, slots: &mut [Slot; MAXIMUM_FRAMES]) -> (Option<&[Slot]>, u64) {
    let mut walk = Walk { low, high, slots, length: 0, arrived: false, visited: 0 };
    // SAFETY: the callback takes exactly this argument and neither unwinds nor keeps it.
    unsafe { _Unwind_Backtrace(visit, (&raw mut walk).cast()) };
    let (arrived, length, visited) = (walk.arrived, walk.length, walk.visited);
    ((arrived && length > 0).then(|| &slots[..length]), visited)
}

/// Other architectures keep a return address in a register until a function stores it wherever it likes.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
pub(super) fn slots(_: usize, _: usize, _: &mut [Slot; MAXIMUM_FRAMES]) -> (Option<&[Slot]>, u64) {
    (None, 0)
}

/// The word at an address of the calling thread's stack.
///
/// # Safety
/// The address is aligned, above the stack pointer, and below the thread's outermost frame.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
pub(super) unsafe fn stack_word(address: usize) -> usize {
    // SAFETY: the caller's promise. The compiler knows of no object there, hence an exposed address and a volatile read.
    unsafe { std::ptr::with_exposed_provenance::<usize>(address).read_volatile() }
}

/// No place is ever known there, so none is checked.
///
/// # Safety
/// None needed.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
pub(super) unsafe fn stack_word(_: usize) -> usize {
    0
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
struct Walk<'a> {
    low: usize,
    high: usize,
    slots: &'a mut [Slot; MAXIMUM_FRAMES],
    length: usize,
    arrived: bool,
    visited: u64,
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
const CONTINUE: libc::c_int = 0;
/// Any other answer ends the walk.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const STOP: libc::c_int = 4;

/// Told of each frame from the innermost on. The frame's canonical address is, for both unwinders in use, the stack
/// pointer with which its callee returns to it; the call left the return address right below.
#[cfg(all(target_arch = "x86_64", not(miri)))]
extern "C" fn visit(context: *mut Context, argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `slots` passes its own walk, and the unwinder a context that is valid during the call.
    let (walk, address, return_address) =
        unsafe { (&mut *argument.cast::<Walk<'_>>(), _Unwind_GetCFA(context), _Unwind_GetIP(context)) };
    walk.visited += 1;
    let Some(slot) = address.checked_sub(size_of::<usize>()) else {
        return STOP;
    };
    if slot < walk.low {
        return CONTINUE;
    }
    if slot >= walk.high {
        walk.arrived = true;
        return STOP;
    }
    // SAFETY: between two addresses of live frames of this thread.
    let lies_there = slot.is_multiple_of(size_of::<usize>()) && unsafe { stack_word(slot) } == return_address;
    let (true, Some(free)) = (lies_there, walk.slots.get_mut(walk.length)) else {
        return STOP;
    };
    *free = Slot { below_root: walk.high - slot, return_address };
    walk.length += 1;
    CONTINUE
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[repr(C)]
struct Context {
    _opaque: [u8; 0],
}

// The Itanium C++ ABI's unwinder, which std is linked to for panics (libgcc's, or LLVM's with musl).
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe extern "C" {
    fn _Unwind_Backtrace(
        visit: extern "C" fn(*mut Context, *mut libc::c_void) -> libc::c_int,
        argument: *mut libc::c_void,
    ) -> libc::c_int;
    fn _Unwind_GetCFA(context: *mut Context) -> usize;
    fn _Unwind_GetIP(context: *mut Context) -> usize;
}
