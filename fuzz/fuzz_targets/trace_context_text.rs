//! Bytes as `traceparent` and `tracestate`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanprof_messaging::{LONGEST_TRACESTATE, TraceContext};

fuzz_target!(|bytes: &[u8]| {
    // The two texts, parted by the first zero byte.
    let parts = bytes.iter().position(|byte| *byte == 0).map_or((bytes, &[][..]), |at| bytes.split_at(at));
    let (traceparent, tracestate) = (parts.0, parts.1.get(1..).unwrap_or_default());
    if let Some(context) = TraceContext::parse(traceparent) {
        let context = context.with_tracestate(tracestate);
        if let Some(kept) = context.tracestate() {
            assert!(kept.len() <= LONGEST_TRACESTATE && kept.is_ascii());
        }
        let mut properties = Vec::<(String, Vec<u8>)>::new();
        context.inject(&mut properties);
        assert_eq!(TraceContext::extract(&properties), Some(context));
        assert_eq!(TraceContext::from_binary(&context.to_binary()), Some(context.without_tracestate()));
        let _ = context.to_opentelemetry();
    }
    let context = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    if let Some(kept) =
        context.map(|context| context.with_tracestate(bytes)).and_then(|context| context.tracestate())
    {
        assert!(bytes.windows(kept.len()).any(|window| window == kept.as_bytes()));
    }
});
