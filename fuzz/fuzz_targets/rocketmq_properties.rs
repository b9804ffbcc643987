//! Bytes as the raw properties of a RocketMQ message, and as a broker's remark.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanprof_messaging::rocketmq::{LONGEST_PROPERTIES, Properties, answers, append_property, facts};
use spanprof_messaging::{Carrier, TraceContext};

fuzz_target!(|bytes: &[u8]| {
    let properties = Properties::new(bytes);
    let total: usize = properties.iter().map(|(key, value)| key.len() + value.len() + 1).sum();
    assert!(total <= bytes.len().min(LONGEST_PROPERTIES));
    for (key, _) in properties.iter() {
        if let Ok(key) = std::str::from_utf8(key) {
            let first = properties.iter().find(|(name, _)| *name == key.as_bytes()).map(|(_, value)| value);
            assert_eq!(properties.value(key), first);
        }
    }
    let _ = facts(&properties);
    let before = TraceContext::extract(&properties);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = answers::error_of_remark(text);
    // Appending never takes the first place from what is there.
    let mut more = text.to_owned();
    let context = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
    if append_property(&mut more, "traceparent", context.to_traceparent().as_str()) {
        assert!(more.len() <= LONGEST_PROPERTIES && more.starts_with(text));
        let has_own = properties.value("traceparent").is_some();
        let more = Properties::new(&more);
        let after = TraceContext::extract(&more).map(|context| context.without_tracestate());
        let expected = if has_own { before.map(|before| before.without_tracestate()) } else { Some(context) };
        assert_eq!(after, expected);
    } else {
        assert_eq!(more, text);
    }
});
