//! Notifications, which must not be sent too fast.

use std::hint::black_box;

use crate::orders::Order;
use crate::story::Cause;

/// Waits until the customer may be notified; the slow kind sleeps in here.
#[inline(never)]
pub fn throttle(order: &Order) {
    let pause = order.trouble_for(Cause::Sleep);
    if !pause.is_zero() {
        std::thread::sleep(pause);
        // Keeps this function's frame on the stack: the sleep would become its last jump.
        black_box(&pause);
    }
}
