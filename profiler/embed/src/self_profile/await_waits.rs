//! Takes what the await points have recorded into the window.

use super::window::{StackEnd, Suspended, Window};
use crate::await_points::{self, Lost};

/// Takes all that was recorded since the last call, and what was lost; `told` of the losses has been taken before.
pub(super) fn collect(window: &mut Window, told: &mut Lost) {
    await_points::drain(&mut |wait| {
        let stack = (!wait.place.is_empty()).then(|| window.stack(wait.place, StackEnd::Root)).flatten();
        let waits = Suspended {
            span: wait.span,
            attributes: None,
            stack,
            suspended: wait.suspended,
            ready: wait.ready,
            count: wait.count,
        };
        window.suspended(waits, wait.attributes);
    });
    let lost = await_points::lost();
    window.losses.suspensions += lost.suspensions - told.suspensions;
    window.losses.suspensions_folded += lost.spans - told.spans;
    window.losses.await_places += lost.places - told.places;
    window.losses.attributes += lost.attributes - told.attributes;
    *told = lost;
}
