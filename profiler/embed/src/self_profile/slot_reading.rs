//! What a thread published, as a signal handler that interrupted it reads it.

use spanprof_context::record::MAXIMUM_ATTRIBUTES_SIZE;
use spanprof_context::{SpanContext, reading};

/// The span and the size of its attributes, whose bytes lie beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotReading {
    span: Option<SpanContext>,
    attributes: u16,
}

impl SlotReading {
    /// Reads the slot of the calling thread, which a handler interrupted. Safe there once
    /// [`reading::static_offset`] was asked for outside.
    pub(super) fn of_interrupted(attributes: &mut [u8; MAXIMUM_ATTRIBUTES_SIZE]) -> SlotReading {
        let Some(offset) = reading::static_offset() else { return SlotReading::default() };
        let slot = reading::thread_pointer().wrapping_add_signed(offset) as *const u8;
        // SAFETY: this thread's slot, at the place that all threads have it.
        match unsafe { reading::read_slot(slot, attributes) } {
            None => SlotReading::default(),
            Some(snapshot) => SlotReading { span: Some(snapshot.span), attributes: snapshot.attributes_size },
        }
    }

    /// The span, if the thread published one.
    pub(super) fn span(&self) -> Option<SpanContext> {
        self.span
    }

    /// The attributes' bytes, out of those that lie beside.
    pub(super) fn attributes<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(..usize::from(self.attributes)).unwrap_or(&[])
    }
}
