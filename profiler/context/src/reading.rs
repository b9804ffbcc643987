//! A slot of this process, read past the linker: by a signal handler on its own thread, or by another thread from a copy.
//!
//! The ordinary way to a thread-local may allocate at a thread's first use and so has no place in a signal handler.
//! Where the slot lies at the same distance from every thread pointer ([`static_offset`]) none is needed: it is there since
//! the thread began, and so is the record, at [`RECORD_DISTANCE`] in the same block. One copy of [`SLOT_COPY_SIZE`]
//! bytes gets both.

use std::mem::offset_of;
use std::sync::atomic::{Ordering, compiler_fence};

use crate::ids::SpanContext;
use crate::locate::own::{self, OwnSlot};
use crate::record::{HEADER_SIZE, MAXIMUM_SIZE, Record, SEQUENCE_OFFSET};
use crate::slot::{self, Block, SLOT_OFFSET};

/// From a slot to the record that our writer publishes there, in bytes.
pub const RECORD_DISTANCE: usize = offset_of!(Block, record) - SLOT_OFFSET;

/// A slot with its record: how many bytes from the slot on tell all.
pub const SLOT_COPY_SIZE: usize = RECORD_DISTANCE + MAXIMUM_SIZE;

/// The slot's distance from the thread pointer, if it is the same on all threads of this process.
///
/// In a program it is known at once. In a library a second thread, started for this, has to show the same one, so the
/// first call belongs into the start-up; later ones are a load. `None` in a library that was loaded when the room for
/// static thread-local storage was used up.
pub fn static_offset() -> Option<isize> {
    match own::slot()? {
        OwnSlot::Static { offset } => isize::try_from(offset).ok(),
        OwnSlot::Dynamic { .. } => None,
    }
}

/// The calling thread's thread pointer, from which [`static_offset`] counts. One instruction; safe in a signal handler.
#[inline]
pub fn thread_pointer() -> usize {
    slot::thread_pointer()
}

/// What a thread published at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The span.
    pub span: SpanContext,
    /// The sequence word: the same for the same thread means the same record.
    pub sequence: u64,
    /// How many bytes of attributes the record has, as [`Attributes`](crate::Attributes) encode them.
    pub attributes_size: u16,
}

/// Reads the calling thread's slot; `None` if the thread publishes nothing now, also while it is about to.
///
/// For signal handlers: neither allocates nor locks nor calls anything. Of the attributes as many whole entries are
/// copied as fit; the snapshot's `attributes_size` tells how many bytes that are.
///
/// # Safety
/// `slot` is the calling thread's [`thread_pointer`] plus [`static_offset`].
#[inline]
pub unsafe fn read_slot(slot: *const u8, attributes: &mut [u8]) -> Option<Snapshot> {
    // SAFETY: by the caller's promise this is within the thread's block. The writer is this thread itself, interrupted
    // or done: the record is whole wherever the pointer is set, and nothing changes it meanwhile.
    let copy = unsafe {
        if slot.cast::<usize>().read_volatile() == 0 {
            return None;
        }
        compiler_fence(Ordering::SeqCst);
        &*slot.cast::<[u8; SLOT_COPY_SIZE]>()
    };
    let (mut snapshot, bytes) = Snapshot::parse(copy, slot as usize)?;
    let kept = whole_entries(bytes, attributes.len());
    // Not more than the buffer's length by construction; `get_mut` spares the panic's code.
    attributes.get_mut(..kept.len())?.copy_from_slice(kept);
    snapshot.attributes_size = kept.len() as u16;
    Some(snapshot)
}

impl Snapshot {
    /// Understands a copy of a slot and what follows it, [`SLOT_COPY_SIZE`] bytes, taken at the address `slot` of this
    /// process. Returns the attributes' bytes too.
    ///
    /// `None` if nothing is published there, or the copy is too short for its record. A copy of a thread that was running
    /// meanwhile may be torn; that is for the caller to rule out.
    #[inline]
    pub fn parse(copy: &[u8], slot: usize) -> Option<(Self, &[u8])> {
        let (pointer, rest) = copy.split_first_chunk::<SEQUENCE_OFFSET>()?;
        let (sequence, _) = rest.split_first_chunk::<8>()?;
        // Anything else than the block's own record was written by somebody else.
        if usize::from_ne_bytes(*pointer) != slot.wrapping_add(RECORD_DISTANCE) {
            return None;
        }
        let record = Record::parse(copy.get(RECORD_DISTANCE..)?)?;
        let size = record.declared_attributes_size();
        let begin = RECORD_DISTANCE + HEADER_SIZE;
        let attributes = copy.get(begin..begin + size)?;
        let snapshot = Self {
            span: record.span_context()?,
            sequence: u64::from_ne_bytes(*sequence),
            attributes_size: size as u16,
        };
        Some((snapshot, attributes))
    }
}

/// The attributes' first whole entries that fit into `room` bytes.
#[inline]
pub(crate) fn whole_entries(bytes: &[u8], room: usize) -> &[u8] {
    if bytes.len() <= room {
        return bytes;
    }
    let mut end = 0;
    while let Some(length) = bytes.get(end + 1) {
        let next = end + 2 + usize::from(*length);
        if next > room {
            break;
        }
        end = next;
    }
    &bytes[..end]
}
