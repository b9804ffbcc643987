//! Takes what the await points have recorded into the window.

use super::window::{StackEnd, Suspended, Window};
use crate::await_points;

/// Takes all that was recorded since the last call.
pub(super) fn collect(window: &mut Window) {
    await_points::drain(&mut |wait| {
        if let Some(span) = wait.span {
            window.attributes(span, wait.attributes);
        }
        let stack = (!wait.place.is_empty()).then(|| window.stack(wait.place, StackEnd::Root)).flatten();
        window.suspended(Suspended {
            span: wait.span,
            stack,
            suspended: wait.suspended,
            ready: wait.ready,
            count: wait.count,
        });
    });
}
