//! Bytes as a payload that may be a JSON object, with another parser as the judge.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, from_slice};
use spanprof_messaging::TraceContext;
use spanprof_messaging::mqtt::json::{insert, read};

/// What the grammar allows and the judge can't hold.
fn is_beyond_the_judge(error: &serde_json::Error) -> bool {
    let error = error.to_string();
    ["number out of range", "surrogate", "recursion limit"].iter().any(|reason| error.contains(reason))
}

fuzz_target!(|bytes: &[u8]| {
    let _ = read(bytes);
    let context = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
    let inserted = insert(bytes, Some(&context));
    let judged = from_slice::<Map<String, Value>>(bytes);
    if inserted.len() == bytes.len() {
        assert_eq!(inserted, bytes);
        if let Ok(members) = judged {
            let ours = members.keys().any(|key| key == "traceparent" || key == "tracestate");
            assert!(ours, "an object was left alone");
        }
        return;
    }
    assert_eq!(read(&inserted), Some(context));
    match judged {
        Err(error) => assert!(is_beyond_the_judge(&error), "{error}"),
        Ok(mut members) => {
            let after = from_slice::<Map<String, Value>>(&inserted).expect("it was an object before");
            // A key in escapes may mean the same and came later, so that for others it counts.
            members.entry("traceparent").or_insert_with(|| context.to_traceparent().as_str().into());
            assert_eq!(after, members);
        }
    }
    assert_eq!(insert(&inserted, Some(&context)), &inserted[..]);
});
