//! Bytes as a payload that may be in an envelope.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanprof_messaging::TraceContext;
use spanprof_messaging::mqtt::envelope::{MARK, OVERHEAD, unwrap, wrap};

fuzz_target!(|bytes: &[u8]| {
    let (context, payload) = unwrap(bytes);
    match context {
        Some(_) => {
            assert!(bytes.starts_with(&MARK));
            assert_eq!(payload, &bytes[OVERHEAD..]);
        }
        None => assert_eq!(payload, bytes),
    }
    let context = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let wrapped = wrap(bytes, context.as_ref());
    assert_eq!(unwrap(&wrapped), (context, bytes));
    assert_eq!(wrap(bytes, None), bytes);
});
