//! Bytes from the network as finished spans.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanprof_agent::spans::otlp::{MAX_SPANS, spans};

fuzz_target!(|bytes: &[u8]| {
    let mut given = 0;
    let read = spans(bytes, |span| {
        given += 1;
        let class = &span.class;
        for text in [&class.service, &class.name, &class.destination, &class.group, &class.operation] {
            assert!(text.len() <= 256);
        }
        // A link takes two bytes at least.
        assert!(span.links.len() <= 4_096.min(bytes.len() / 2));
    });
    assert!(given <= MAX_SPANS.min(bytes.len() / 2));
    if let Ok(number) = read {
        assert_eq!(number, given);
    }
});
