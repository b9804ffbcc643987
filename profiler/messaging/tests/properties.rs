//! Round trips of every codec on any context, and the parsers on any bytes.

use std::collections::HashMap;

use opentelemetry::trace::TraceState;
use proptest::collection::vec;
use proptest::prelude::*;
use spanprof_context::{SpanId, TraceId};
use spanprof_messaging::carrier::LastWins;
use spanprof_messaging::mqtt::{envelope, json};
use spanprof_messaging::rocketmq::{LONGEST_PROPERTIES, Properties, append_property};
use spanprof_messaging::{LONGEST_TRACESTATE, TraceContext};

fn context() -> impl Strategy<Value = TraceContext<'static>> {
    (any::<[u8; 16]>(), any::<[u8; 8]>(), 0..=3u8).prop_filter_map("all zero", |(trace, span, flags)| {
        TraceContext::new(TraceId(trace), SpanId(span), flags)
    })
}

/// Well-formed, as the standard's grammar says.
fn tracestate() -> impl Strategy<Value = String> {
    vec(("[a-z0-9][a-z0-9_*/@-]{0,20}", "[!-+.-<>-~--]{1,20}"), 1..10).prop_map(|members| {
        members.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    })
}

/// Any JSON value, and within it.
fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Into::into),
            vec((".{0,8}", inner), 0..5)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Text that looks like the real thing, so that parsers get beyond its first byte.
fn nearly(valid: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (valid, vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), any::<prop::sample::Index>()).prop_map(
        |(mut bytes, changes, cut)| {
            for (index, byte) in changes {
                if !bytes.is_empty() {
                    let at = index.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            let cut = cut.index(bytes.len() * 2 + 1);
            bytes.truncate(cut.max(bytes.len() / 2));
            bytes
        },
    )
}

proptest! {
    #[test]
    fn text_comes_back(context in context()) {
        let text = context.to_traceparent();
        prop_assert_eq!(text.as_str().len(), 55);
        prop_assert_eq!(TraceContext::parse(text), Some(context));
    }

    #[test]
    fn text_that_is_read_is_written_alike(bytes in nearly(context().prop_map(|context| {
        context.to_traceparent().as_str().as_bytes().to_vec()
    }))) {
        if let Some(context) = TraceContext::parse(&bytes) {
            let written = context.to_traceparent();
            // All but the version and the flags that it doesn't know are what was read.
            let read = bytes.trim_ascii();
            prop_assert_eq!(&written.as_bytes()[2..53], &read[2..53]);
            prop_assert_eq!(TraceContext::parse(written), Some(context));
        }
    }

    #[test]
    fn binary_comes_back_whatever_follows(context in context(), more in vec(any::<u8>(), 0..40)) {
        let bytes = [&context.to_binary()[..], &more].concat();
        prop_assert_eq!(TraceContext::from_binary(&bytes), Some(context));
    }

    #[test]
    fn binary_that_is_read_is_written_alike(
        bytes in nearly(context().prop_map(|context| context.to_binary().to_vec())),
    ) {
        if let Some(context) = TraceContext::from_binary(&bytes) {
            prop_assert_eq!(TraceContext::from_binary(&context.to_binary()), Some(context));
        }
    }

    #[test]
    fn carriers_give_back_what_was_injected(context in context(), tracestate in prop::option::of(tracestate())) {
        let context = match &tracestate {
            Some(tracestate) => context.with_tracestate(tracestate),
            None => context,
        };
        prop_assert_eq!(context.tracestate(), tracestate.as_deref());
        let mut map = HashMap::<String, Vec<u8>>::from([("tracestate".to_owned(), b"old=1".to_vec())]);
        context.inject(&mut map);
        prop_assert_eq!(TraceContext::extract(&map), Some(context));
        let mut pairs = vec![("other".to_owned(), "1".to_owned())];
        context.inject(&mut pairs);
        prop_assert_eq!(TraceContext::extract(&pairs), Some(context));
        let headers = LastWins(&pairs[..]);
        prop_assert_eq!(TraceContext::extract(&headers), Some(context));
        // And through OpenTelemetry's own type, which is stricter with keys and drops what it doesn't like as a whole.
        let kept = context.tracestate().is_none_or(|state| state.parse::<TraceState>().is_ok());
        let expected = if kept { context } else { context.without_tracestate() };
        let mut again = Vec::<(String, String)>::new();
        prop_assert!(spanprof_messaging::inject_span(&context.to_opentelemetry(), &mut again));
        prop_assert_eq!(TraceContext::extract(&again), Some(expected));
    }

    #[test]
    fn tracestates_are_bounded(bytes in vec(any::<u8>(), 0..600), context in context()) {
        if let Some(kept) = context.with_tracestate(&bytes).tracestate() {
            prop_assert!(kept.len() <= LONGEST_TRACESTATE && kept.is_ascii());
        }
    }

    #[test]
    fn raw_properties_give_back_the_first_of_a_key(
        pairs in vec(("[a-d]{1,2}", "[^\u{1}\u{2}]{0,20}"), 0..20),
    ) {
        let mut raw = String::new();
        for (key, value) in &pairs {
            prop_assert!(append_property(&mut raw, key, value));
        }
        let properties = Properties::new(&raw);
        prop_assert_eq!(properties.iter().count(), pairs.len());
        for (key, _) in &pairs {
            let first = pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_bytes());
            prop_assert_eq!(spanprof_messaging::Carrier::value(&properties, key), first);
        }
        // The last separator may be missing.
        prop_assert!(raw.is_empty() || Properties::new(&raw[..raw.len() - 1]).iter().eq(properties.iter()));
    }

    #[test]
    fn raw_properties_of_any_bytes_stay_within_them(bytes in vec(prop_oneof![0..4u8, any::<u8>()], 0..200)) {
        let total: usize = Properties::new(&bytes).iter().map(|(key, value)| key.len() + value.len() + 1).sum();
        prop_assert!(total <= bytes.len().min(LONGEST_PROPERTIES));
    }

    #[test]
    fn envelopes_give_back_context_and_payload(context in context(), payload in vec(any::<u8>(), 0..100)) {
        let wrapped = envelope::wrap(&payload, Some(&context));
        prop_assert_eq!(envelope::unwrap(&wrapped), (Some(context), &payload[..]));
        let twice = envelope::wrap(&wrapped, Some(&context));
        prop_assert_eq!(envelope::unwrap(&twice).1, &wrapped[..]);
    }

    #[test]
    fn unmarked_payloads_stay_as_they_are(payload in vec(any::<u8>(), 0..100)) {
        prop_assume!(!payload.starts_with(&envelope::MARK));
        prop_assert_eq!(envelope::unwrap(&payload), (None, &payload[..]));
    }

    #[test]
    fn objects_get_the_context_and_lose_nothing(context in context(), payload in value(), pretty: bool) {
        let text = if pretty { serde_json::to_vec_pretty(&payload) } else { serde_json::to_vec(&payload) }.unwrap();
        let inserted = json::insert(&text, Some(&context));
        let serde_json::Value::Object(members) = &payload else {
            prop_assert_eq!(&inserted[..], &text[..]);
            return Ok(());
        };
        prop_assume!(!members.contains_key("traceparent") && !members.contains_key("tracestate"));
        prop_assert_eq!(json::read(&inserted), Some(context));
        let mut expected: serde_json::Map<_, _> = serde_json::from_slice(&text).unwrap();
        expected.insert("traceparent".to_owned(), context.to_traceparent().as_str().into());
        prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&inserted).unwrap(), serde_json::Value::Object(expected));
        // All bytes of the payload are there, in their order.
        let front = inserted.len() - text.len();
        let member = format!("\"traceparent\":\"{}\"", context.to_traceparent());
        prop_assert_eq!(front, member.len() + usize::from(!members.is_empty()));
        // Once is enough.
        prop_assert_eq!(json::insert(&inserted, Some(&context)), &inserted[..]);
    }

    #[test]
    fn what_others_do_not_take_for_json_is_left_alone(bytes in nearly(value().prop_map(|value| {
        serde_json::to_vec(&serde_json::json!({ "a": value, "b": [1.5, true] })).unwrap()
    })), context in context()) {
        let inserted = json::insert(&bytes, Some(&context));
        let is_object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes).is_ok();
        if is_object {
            prop_assert!(inserted.len() > bytes.len());
        }
        if inserted.len() > bytes.len() {
            prop_assert_eq!(json::read(&inserted), Some(context));
            // We follow the grammar; serde also refuses what it can't hold.
            if let Err(error) = serde_json::from_slice::<serde_json::Value>(&inserted) {
                let error = error.to_string();
                let too_narrow = ["number out of range", "surrogate"].iter().any(|reason| error.contains(reason));
                prop_assert!(too_narrow, "{}: {}", error, String::from_utf8_lossy(&bytes));
            }
        }
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in vec(any::<u8>(), 0..100)) {
        let _ = TraceContext::parse(&bytes);
        let _ = TraceContext::from_binary(&bytes);
        let _ = json::read(&bytes);
        let _ = envelope::unwrap(&bytes);
        let _ = spanprof_messaging::rocketmq::facts(&Properties::new(&bytes));
    }
}
