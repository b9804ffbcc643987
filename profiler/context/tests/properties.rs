//! Properties of the parsers on arbitrary bytes, and of the writer on arbitrary calls.

use proptest::collection::vec;
use proptest::prelude::*;
use spanprof_context::process::{self, Value};
use spanprof_context::record::{HEADER_SIZE, MAXIMUM_SIZE, VALID_OFFSET};
use spanprof_context::{Attributes, Key, Record, SpanContext, SpanId, TraceId, maps, thread};

const ALL_KEYS: [Key; 4] = [
    Key::LocalRootSpanId,
    Key::MessagingDestinationName,
    Key::MessagingConsumerGroupName,
    Key::MessagingOperationName,
];

fn span() -> impl Strategy<Value = SpanContext> {
    (any::<[u8; 16]>(), any::<[u8; 8]>(), any::<u8>())
        .prop_map(|(trace, span, flags)| SpanContext::new(TraceId(trace), SpanId(span), flags))
}

/// A step of a thread's life: publish, or enter and leave with what happens in between.
#[derive(Clone, Debug)]
enum Step {
    Enter(SpanContext, Option<(usize, String)>, Vec<Step>),
    Nothing,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let attributes = prop::option::of((0..ALL_KEYS.len(), ".{0,120}"));
    let leaf = Just(Step::Nothing);
    let step = leaf.prop_recursive(5, 40, 4, move |inner| {
        let span = prop_oneof![4 => span(), 1 => Just(SpanContext::default())];
        (span, attributes.clone(), vec(inner, 0..4))
            .prop_map(|(span, attributes, inner)| Step::Enter(span, attributes, inner))
    });
    vec(step, 0..4)
}

/// Walks the steps, with what is to be published as the model says.
fn walk(steps: &[Step], expected: Option<SpanContext>) {
    for step in steps {
        let Step::Enter(span, attributes, inner) = step else { continue };
        let attributes = attributes.as_ref().map(|(key, text)| Attributes::new().with(ALL_KEYS[*key], text));
        {
            let _guard = match &attributes {
                Some(attributes) => thread::enter_with_attributes(span, attributes),
                None => thread::enter(span),
            };
            let now = span.is_valid().then_some(*span);
            assert_eq!(thread::current(), now);
            walk(inner, now);
        }
        assert_eq!(thread::current(), expected);
    }
}

proptest! {
    #[test]
    fn any_bytes_parse_or_not_as_a_record(bytes in vec(any::<u8>(), 0..800)) {
        match Record::parse(&bytes) {
            None => prop_assert!(bytes.len() < HEADER_SIZE || bytes[VALID_OFFSET] != 1),
            Some(record) => {
                let total: usize = record.attributes().map(|(_, value)| 2 + value.len()).sum();
                prop_assert!(HEADER_SIZE + total <= bytes.len().min(MAXIMUM_SIZE));
                prop_assert_eq!(record.attributes().last().map(|(key, _)| key).is_some(), total > 0);
            }
        }
    }

    #[test]
    fn the_last_of_a_key_is_the_one_found(values in vec((0u8..4, "[a-z]{0,20}"), 0..12)) {
        let mut bytes = vec![7; HEADER_SIZE];
        bytes[VALID_OFFSET] = 1;
        let attributes: Vec<u8> = values
            .iter()
            .flat_map(|(key, text)| [&[*key, text.len() as u8][..], text.as_bytes()].concat())
            .collect();
        bytes[26..28].copy_from_slice(&(attributes.len() as u16).to_ne_bytes());
        bytes.extend(attributes);
        let record = Record::parse(&bytes).unwrap();
        for key in 0..4 {
            let last = values.iter().rev().find(|(candidate, _)| *candidate == key).map(|(_, text)| text.as_str());
            prop_assert_eq!(record.attribute(key), last);
        }
    }

    #[test]
    fn encoded_attributes_come_back(values in vec((0..ALL_KEYS.len(), ".{0,80}"), 0..6)) {
        let attributes = values.iter().fold(Attributes::new(), |all, (key, text)| all.with(ALL_KEYS[*key], text));
        let mut bytes = vec![7; HEADER_SIZE];
        bytes[VALID_OFFSET] = 1;
        bytes[26..28].copy_from_slice(&(attributes.as_bytes().len() as u16).to_ne_bytes());
        bytes.extend(attributes.as_bytes());
        prop_assert!(bytes.len() <= MAXIMUM_SIZE);
        let record = Record::parse(&bytes).unwrap();
        for (_, value) in record.attributes() {
            prop_assert!(std::str::from_utf8(value).is_ok(), "values are cut between characters");
        }
        if attributes.is_complete() {
            prop_assert_eq!(record.attributes().count(), values.len());
        }
    }

    #[test]
    fn any_bytes_decode_or_not_as_a_process_context(bytes in vec(any::<u8>(), 0..600)) {
        if let Some(context) = process::decode(&bytes) {
            prop_assert!(context.resource.len() + context.attributes.len() <= bytes.len());
            prop_assert!(context.key_map().names().len() <= 256);
        }
    }

    #[test]
    fn any_line_parses_or_not_as_a_mapping(line in ".{0,80}") {
        if let Some(mapping) = maps::parse_line(&line) {
            prop_assert!(line.contains(&mapping.name));
        }
    }

    #[test]
    fn guards_always_restore(steps in steps()) {
        thread::clear();
        walk(&steps, None);
    }
}

#[test]
fn a_context_of_the_largest_size_is_published_and_read() {
    let long = "x".repeat(60_000);
    let mut context = process::ProcessContext::for_service("large");
    context.resource.push(("long".to_owned(), Value::String(long.clone())));
    process::publish(&context).unwrap();
    let first = process::read(std::process::id()).unwrap().unwrap();
    assert_eq!(first.context.resource_attribute("long").and_then(Value::as_str), Some(long.as_str()));

    context.resource.push(("more".to_owned(), Value::String(long)));
    assert!(process::publish(&context).is_err(), "more than readers accept");
    let second = process::read(std::process::id()).unwrap().unwrap();
    assert_eq!(second, first, "a refused update changes nothing");
}
