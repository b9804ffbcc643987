//! What of a stack goes to readers that lose samples without one and cut long ones at the leaf, where the answer is.

use crate::profile::LocationId;

/// The longest stack that servers take whole.
pub(crate) const LONGEST_STACK: usize = 1000;

/// The frame that stands for the middle of a long stack.
pub(crate) const LEFT_OUT: &str = "[frames left out]";

/// One place of a bounded stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// One of the profile's own.
    Location(LocationId),
    /// Something that is no code and only says what is missing.
    Note(&'static str),
}

/// The stack, leaf first: an empty one gets a frame that says so, one longer than `longest` loses its middle.
pub(crate) fn bounded(stack: &[LocationId], longest: usize) -> impl Iterator<Item = Place> + '_ {
    let (leaves, roots) = match stack.len() > longest {
        true => (longest - longest / 10 - 1, longest / 10),
        false => (stack.len(), 0),
    };
    let note = match stack.len() {
        0 => Some(Place::Note(crate::folded::NO_STACK)),
        length if length > longest => Some(Place::Note(LEFT_OUT)),
        _ => None,
    };
    let location = |location: &LocationId| Place::Location(*location);
    stack[..leaves].iter().map(location).chain(note).chain(stack[stack.len() - roots..].iter().map(location))
}
