//! A marked envelope around a payload, where both ends are one's own and the payload is not JSON.
//!
//! | offset | bytes | value |
//! |---|---|---|
//! | 0 | 4 | the mark: f5 53 50 01; f5 stands in no UTF-8 text, so no text or JSON is taken for it; 01 is the version |
//! | 4 | 29 | the context: see [`binary`] |
//! | 33 | | the payload |
//!
//! [`unwrap()`] gives back every payload that isn't marked, and every one whose context can't be read, as it was. Nobody
//! marks or unwraps by default.
//!
//! ```
//! # use spanprof_messaging::{Instrumentation, Message, System};
//! use spanprof_messaging::mqtt::envelope;
//! # let mqtt = Instrumentation::new(System::Mqtt);
//! let publish = mqtt.producer("readings").send(&mut (), &Message::new());
//! let payload = envelope::wrap(b"\x15\x20", publish.trace_context().as_ref());
//! // … and at the other end:
//! let (context, payload) = envelope::unwrap(&payload);
//! let carrier = context.map(|context| context.to_traceparent());
//! let process = mqtt.consumer("readings", None).process(&carrier, &Message::new());
//! # assert_eq!(payload, b"\x15\x20");
//! ```

use std::borrow::Cow;

use crate::TraceContext;
use crate::binary;

/// What a marked payload begins with.
pub const MARK: [u8; 4] = [0xf5, b'S', b'P', 0x01];

/// How much an envelope adds, in bytes.
pub const OVERHEAD: usize = MARK.len() + binary::SIZE;

/// The payload in an envelope; without a context, the payload.
pub fn wrap<'p>(payload: &'p [u8], context: Option<&TraceContext<'_>>) -> Cow<'p, [u8]> {
    let Some(context) = context else { return Cow::Borrowed(payload) };
    Cow::Owned([&MARK[..], &context.to_binary(), payload].concat())
}

/// The context and the payload of an envelope; of any other payload, none and itself.
pub fn unwrap(payload: &[u8]) -> (Option<TraceContext<'static>>, &[u8]) {
    let marked = payload.strip_prefix(&MARK).and_then(|rest| rest.split_at_checked(binary::SIZE));
    match marked.and_then(|(context, inner)| Some((TraceContext::from_binary(context)?, inner))) {
        Some((context, inner)) => (Some(context), inner),
        None => (None, payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> TraceContext<'static> {
        TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap()
    }

    #[test]
    fn payloads_come_back() {
        for payload in [&b""[..], b"{}", b"\x00\xff", &MARK, &wrap(b"nested", Some(&context()))] {
            let wrapped = wrap(payload, Some(&context()));
            assert_eq!(wrapped.len(), payload.len() + OVERHEAD);
            assert_eq!(unwrap(&wrapped), (Some(context()), payload));
        }
    }

    #[test]
    fn without_a_context_nothing_is_touched() {
        assert!(matches!(wrap(b"21", None), Cow::Borrowed(b"21")));
    }

    #[test]
    fn payloads_of_others_stay_as_they_are() {
        let wrapped = wrap(b"payload", Some(&context())).into_owned();
        let cut_off = &wrapped[..OVERHEAD - 1];
        let other_version = &[&wrapped[..3], &[2], &wrapped[4..]].concat();
        let no_context = &[&MARK[..], &[0; 40]].concat();
        for payload in [&b""[..], b"21", &MARK, cut_off, other_version, no_context] {
            assert_eq!(unwrap(payload), (None, payload));
        }
    }

    #[test]
    fn the_mark_is_no_text() {
        assert!(std::str::from_utf8(&wrap(b"{}", Some(&context()))).is_err());
    }
}
