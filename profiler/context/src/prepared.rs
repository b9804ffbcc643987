//! A record made ready, for hooks that publish the same span again and again.
//!
//! [`set_with_attributes`] puts a record together from parts in three places, of sizes that it learns on the way. Here that
//! is done once, and publishing copies one or two pieces of 64 bytes, whatever they hold: what stands beyond the record's end
//! nobody reads.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::attributes::Attributes;
use crate::ids::SpanContext;
use crate::record::{
    ATTRIBUTES_OFFSET, ATTRIBUTES_SIZE_OFFSET, FLAGS_OFFSET, MAXIMUM_SIZE, SPAN_ID_OFFSET, TRACE_ID_OFFSET,
    VALID, VALID_OFFSET,
};
use crate::slot;
use crate::thread::{self, set_with_attributes};

/// What is copied at once.
type Piece = [u8; 64];

/// The second makes room for topic, group and operation, at 1 ns. A record longer than both costs 3 ns more than the first
/// alone.
const PIECES: usize = 2;

const _: () = assert!(PIECES * size_of::<Piece>() <= MAXIMUM_SIZE);

/// A span with its attributes, and the record that they make.
#[derive(Clone, Debug)]
pub struct Prepared {
    image: [Piece; PIECES],
    /// How many the record takes. 0 if that is more than there are, or the span is not valid.
    pieces: u8,
    span: SpanContext,
    attributes: Arc<Attributes>,
}

impl Prepared {
    /// Makes the record.
    pub fn new(span: SpanContext, attributes: Arc<Attributes>) -> Self {
        let bytes = attributes.as_bytes();
        let size = ATTRIBUTES_OFFSET + bytes.len();
        let mut image = [[0; _]; PIECES];
        let mut pieces = 0;
        if span.is_valid() && size <= size_of_val(&image) {
            let record = image.as_flattened_mut();
            record[TRACE_ID_OFFSET..][..16].copy_from_slice(&span.trace_id.0);
            record[SPAN_ID_OFFSET..][..8].copy_from_slice(&span.span_id.0);
            record[VALID_OFFSET] = VALID;
            record[FLAGS_OFFSET] = span.flags;
            record[ATTRIBUTES_SIZE_OFFSET..][..2].copy_from_slice(&(bytes.len() as u16).to_ne_bytes());
            record[ATTRIBUTES_OFFSET..size].copy_from_slice(bytes);
            pieces = size.div_ceil(size_of::<Piece>()) as u8;
        }
        Self { image, pieces, span, attributes }
    }

    /// The span.
    pub fn span(&self) -> &SpanContext {
        &self.span
    }

    /// Its attributes.
    pub fn attributes(&self) -> &Arc<Attributes> {
        &self.attributes
    }

    /// Publishes the record for the calling thread: the same as [`set_with_attributes`], in less time.
    #[inline]
    pub fn set(&self) {
        let block = slot::block();
        // SAFETY: the block is this thread's own and nothing else in the process refers to it. The image is no longer than
        // the room for a record, and holds all of this one.
        unsafe {
            let sequence = (*block).sequence.load(Ordering::Relaxed);
            if self.pieces == 0 || sequence == 0 {
                return self.set_by_parts();
            }
            thread::hide(block);
            (*block).guard = 0;
            let [first, second] = &self.image;
            let record = (&raw mut (*block).record).cast::<Piece>();
            record.write(*first);
            if self.pieces > 1 {
                record.add(1).write(*second);
            }
            thread::show(block, sequence + 1);
        }
    }

    /// For a long record, an invalid span, and the first one that the thread publishes. It stands at the end of the way, so
    /// that nobody has to save registers for a call in its middle: that would cost 1.5 ns.
    #[cold]
    #[inline(never)]
    fn set_by_parts(&self) {
        set_with_attributes(&self.span, &self.attributes);
    }
}
