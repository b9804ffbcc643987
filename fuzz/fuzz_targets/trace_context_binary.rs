//! Bytes as the binary form of a context.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanprof_messaging::TraceContext;

fuzz_target!(|bytes: &[u8]| {
    let Some(context) = TraceContext::from_binary(bytes) else { return };
    assert!(context.span().is_valid() && context.flags() <= 3);
    assert_eq!(TraceContext::from_binary(&context.to_binary()), Some(context));
    assert_eq!(TraceContext::parse(context.to_traceparent()), Some(context));
    // What follows the known front doesn't matter.
    let more = [&context.to_binary()[..], bytes].concat();
    assert_eq!(TraceContext::from_binary(&more), Some(context));
});
