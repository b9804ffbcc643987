//! What a thread has entered, and what it publishes for it.
//!
//! Two ways through an enter or an exit. Where the thread knows the span, nothing is made, looked up or freed, and so nothing
//! is called either: what is entered is used where it lies. All else takes it out, since an allocator may have spans of
//! its own, uses it and puts it back.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

use spanprof_context::thread::{self, SetAside};

use super::Published;
use crate::publish;

/// Spans that a thread finds without a look-up.
const CACHED: usize = 64;

/// A span of one layer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) layer: u64,
    pub(super) span: u64,
}

/// What a thread has entered.
struct Entered {
    spans: Vec<Name>,
    known: Known,
    /// What guards published before the outermost span was entered.
    outside: Option<Box<SetAside>>,
}

/// The spans that the thread used last, each at its place.
struct Known([Option<(Name, Arc<Published>)>; CACHED]);

thread_local! {
    /// Made at the thread's first span, so that a library needs no thread-local room for it. Null before, after the thread's
    /// end, and while it is taken out: what spans do in the middle of that finds none.
    ///
    /// A constant without destructor: as fast as such a thing gets.
    static ENTERED: Cell<*mut Entered> = const { Cell::new(ptr::null_mut()) };
    /// Frees it when the thread ends.
    static AT_EXIT: Free = const { Free };
}

struct Free;

impl Drop for Free {
    fn drop(&mut self) {
        drop(replace(None));
    }
}

/// The span is entered, if that takes nothing but to publish it; else nothing is done, and `false`.
#[inline(always)]
pub(super) fn enter_known(name: Name) -> bool {
    // SAFETY: it calls nothing but the context's writer.
    unsafe { in_place(|entered| entered.enter_known(name)) }
}

/// The span is left, if that takes nothing but to publish the outer one; else nothing is done, and `false`.
#[inline(always)]
pub(super) fn exit_known(name: Name) -> bool {
    // SAFETY: it calls nothing but the context's writer.
    unsafe { in_place(|entered| entered.exit_known(name)) }
}

/// The span is entered.
pub(super) fn enter(name: Name, look_up: impl FnOnce() -> Option<Arc<Published>>) {
    // A thread that is about to end, its storage gone, publishes no more.
    let _ = taken_out(|entered| entered.enter(name, look_up));
}

/// The span is left.
pub(super) fn exit(name: Name, look_up: impl FnOnce(Name) -> Option<Arc<Published>>) {
    if taken_out(|entered| entered.exit(name, look_up)).is_none() {
        publish::clear();
    }
}

/// What is published for the span has changed.
pub(super) fn renew(name: Name, look_up: impl FnOnce() -> Option<Arc<Published>>) {
    let _ = taken_out(|entered| {
        if entered.spans.last() == Some(&name) {
            entered.publish(name, look_up);
        }
    });
}

/// Uses what the thread has entered where it lies. `false` if it isn't there, or nothing has changed.
///
/// # Safety
/// The action calls nothing that might enter or leave a span, as an allocator might.
#[inline(always)]
unsafe fn in_place(action: impl FnOnce(&mut Entered) -> bool) -> bool {
    // SAFETY: null, or a box that `replace` has given away and alone takes back. This pointer alone leads to it, and by the
    // caller's promise nobody follows it meanwhile.
    let is_changed = unsafe { ENTERED.get().as_mut() }.is_some_and(action);
    if is_changed {
        publish::changed();
    }
    is_changed
}

/// Takes out what the thread has entered, and puts it back after use. `None` on a thread that is about to end, its storage
/// gone.
fn taken_out<T>(action: impl FnOnce(&mut Entered) -> T) -> Option<T> {
    AT_EXIT.try_with(|_| {}).ok()?;
    let mut entered = replace(None).unwrap_or_else(Entered::new);
    let result = action(&mut entered);
    // Spans in the middle of that may have left another.
    drop(replace(Some(entered)));
    Some(result)
}

fn replace(entered: Option<Box<Entered>>) -> Option<Box<Entered>> {
    let before = ENTERED.replace(entered.map_or(ptr::null_mut(), Box::into_raw));
    // SAFETY: nothing else puts pointers there, and this one is there no longer.
    (!before.is_null()).then(|| unsafe { Box::from_raw(before) })
}

impl Entered {
    fn new() -> Box<Self> {
        Box::new(Self { spans: Vec::new(), known: Known([const { None }; CACHED]), outside: None })
    }

    #[inline(always)]
    fn enter_known(&mut self, name: Name) -> bool {
        let Some(published) = self.known.find(name) else { return false };
        if self.spans.is_empty() && thread::has_guards() {
            return false;
        }
        let length = self.spans.len();
        let Some(room) = self.spans.spare_capacity_mut().first_mut() else { return false };
        room.write(name);
        // SAFETY: one more is there. Not `push`: the compiler doesn't see that it has room, and it might call the allocator.
        unsafe { self.spans.set_len(length + 1) };
        // Last, so that there is nothing to keep for later where it has to make a call.
        published.record.set();
        true
    }

    #[inline(always)]
    fn exit_known(&mut self, name: Name) -> bool {
        let [outer @ .., innermost] = &*self.spans else { return false };
        if *innermost != name {
            return false;
        }
        match outer.last() {
            Some(outer) => {
                let Some(published) = self.known.find(*outer) else { return false };
                self.spans.pop();
                published.record.set();
            }
            None if self.outside.is_none() => {
                self.spans.pop();
                thread::clear();
            }
            None => return false,
        }
        true
    }

    fn enter(&mut self, name: Name, look_up: impl FnOnce() -> Option<Arc<Published>>) {
        if self.spans.is_empty() {
            self.outside = thread::set_aside();
        }
        self.spans.push(name);
        self.publish(name, look_up);
    }

    /// As a rule the innermost span is left, but guards may be dropped in any order.
    fn exit(&mut self, name: Name, look_up: impl FnOnce(Name) -> Option<Arc<Published>>) {
        if self.spans.last() != Some(&name) {
            return self.exit_within(name);
        }
        self.spans.pop();
        match self.spans.last() {
            Some(&outer) => self.publish(outer, || look_up(outer)),
            None => match self.outside.take() {
                None => publish::clear(),
                Some(outside) => {
                    thread::put_back(outside);
                    publish::changed();
                }
            },
        }
    }

    /// The innermost span stays what it is. A span that isn't there was entered before the layer was, or its filter has
    /// changed.
    fn exit_within(&mut self, name: Name) {
        if let Some(position) = self.spans.iter().rposition(|entered| *entered == name) {
            self.spans.remove(position);
        }
    }

    fn publish(&mut self, name: Name, look_up: impl FnOnce() -> Option<Arc<Published>>) {
        match self.known.find_or(name, look_up) {
            Some(published) => publish::set_prepared(&published.record),
            // The span is unknown here; better nothing than the outer one.
            None => publish::clear(),
        }
    }
}

impl Known {
    fn place(name: Name) -> usize {
        // The lower bits count a thread's spans, those from 38 on tell the threads that made them.
        ((name.span ^ name.span >> 38) % CACHED as u64) as usize
    }

    #[inline(always)]
    fn find(&self, name: Name) -> Option<&Published> {
        match &self.0[Self::place(name)] {
            Some((known, published)) if *known == name && !published.is_over() => Some(published),
            _ => None,
        }
    }

    fn find_or(
        &mut self,
        name: Name,
        look_up: impl FnOnce() -> Option<Arc<Published>>,
    ) -> Option<&Published> {
        let place = Self::place(name);
        if self.find(name).is_none() {
            self.0[place] = look_up().map(|published| (name, published));
        }
        self.0[place].as_ref().map(|(_, published)| &**published)
    }
}
