//! From `ExportTraceServiceRequest` to [`FinishedSpan`]s: what the agent cares for, and nothing else.

use std::sync::Arc;

use super::fields::{Fields, Malformed, Value};
use crate::ActiveSpan;
use crate::spans::{Class, FinishedSpan, Messaging, SpanKind};

/// Spans that one request may hold; senders' batches have 512 by default.
pub const MAX_SPANS: usize = 65_536;

/// Links that are read of one span. The index keeps fewer.
const MAX_LINKS: usize = 4_096;

/// Calls `each` for every span of a request, and says how many there were.
///
/// Unknown fields are passed over. A span whose ids are not 16 and 8 bytes long has ids of zeros, which are nobody's. Attributes
/// that messaging's conventions renamed are known by their older names, too, where there is none of the newer.
///
/// # Errors
/// When the bytes are no such message, or it holds too much; spans before the place have been given then.
pub fn spans(request: &[u8], mut each: impl FnMut(FinishedSpan)) -> Result<usize, Malformed> {
    let mut number = 0;
    for resource_spans in messages(request, 1) {
        let resource_spans = resource_spans?;
        let service = service(resource_spans)?;
        for scope_spans in messages(resource_spans, 2) {
            for span in messages(scope_spans?, 2) {
                number += 1;
                if number > MAX_SPANS {
                    return Err(Malformed::TooManySpans(MAX_SPANS));
                }
                each(self::span(span?, &service)?);
            }
        }
    }
    Ok(number)
}

/// The messages in a field that repeats.
fn messages(message: &[u8], wanted: u32) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    Fields(message).filter_map(move |field| match field {
        Ok((number, Value::Bytes(bytes))) if number == wanted => Some(Ok(bytes)),
        Ok(_) => None,
        Err(malformed) => Some(Err(malformed)),
    })
}

/// The resource's `service.name`. It may stand behind the spans.
fn service(resource_spans: &[u8]) -> Result<Arc<str>, Malformed> {
    let mut service = Class::text("");
    for resource in messages(resource_spans, 1) {
        for attribute in messages(resource?, 1) {
            let attribute = Attribute::read(attribute?)?;
            if attribute.key == b"service.name" {
                service = attribute.value.class_text();
            }
        }
    }
    Ok(service)
}

fn span(span: &[u8], service: &Arc<str>) -> Result<FinishedSpan, Malformed> {
    let mut read = FinishedSpan {
        span: ActiveSpan { trace_id: [0; 16], span_id: [0; 8] },
        parent: None,
        kind: SpanKind::Internal,
        start_unix_ns: 0,
        end_unix_ns: 0,
        failed: false,
        class: Class { service: Arc::clone(service), ..Class::default() },
        messaging: Messaging::default(),
        links: Vec::new(),
    };
    let mut said = Said::default();
    for field in Fields(span) {
        match field? {
            (1, value) => read.span.trace_id = id(value),
            (2, value) => read.span.span_id = id(value),
            (4, value) => read.parent = Some(id(value)).filter(|parent| *parent != [0; 8]),
            (5, value) => read.class.name = text(value.bytes()),
            (6, value) => read.kind = kind(value.number()),
            (7, value) => read.start_unix_ns = value.number(),
            (8, value) => read.end_unix_ns = value.number(),
            (9, value) => said.take(&Attribute::read(value.bytes())?),
            (13, value) if read.links.len() < MAX_LINKS => read.links.push(link(value.bytes())?),
            (15, value) => read.failed = is_error(value.bytes())?,
            _ => {}
        }
    }
    read.class.destination = said.destination.of();
    read.class.group = said.group.of();
    read.class.operation = said.operation.of();
    read.messaging = said.messaging;
    Ok(read)
}

/// An id of this length, or zeros.
fn id<const N: usize>(value: Value<'_>) -> [u8; N] {
    value.bytes().try_into().unwrap_or([0; N])
}

fn text(bytes: &[u8]) -> Arc<str> {
    // No longer than what is kept of it, before anything is copied: a character has four bytes at most.
    Class::text(&String::from_utf8_lossy(&bytes[..bytes.len().min(1_024)]))
}

fn kind(number: u64) -> SpanKind {
    match number {
        2 => SpanKind::Server,
        3 => SpanKind::Client,
        4 => SpanKind::Producer,
        5 => SpanKind::Consumer,
        _ => SpanKind::Internal,
    }
}

fn link(link: &[u8]) -> Result<ActiveSpan, Malformed> {
    let mut linked = ActiveSpan { trace_id: [0; 16], span_id: [0; 8] };
    for field in Fields(link) {
        match field? {
            (1, value) => linked.trace_id = id(value),
            (2, value) => linked.span_id = id(value),
            _ => {}
        }
    }
    Ok(linked)
}

/// `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;

fn is_error(status: &[u8]) -> Result<bool, Malformed> {
    let mut code = 0;
    for field in Fields(status) {
        if let (3, value) = field? {
            code = value.number();
        }
    }
    Ok(code == ERROR)
}

/// An attribute whose value is text or a whole number; others have none.
struct Attribute<'a> {
    key: &'a [u8],
    value: AttributeValue<'a>,
}

#[derive(Clone, Copy)]
enum AttributeValue<'a> {
    None,
    Text(&'a [u8]),
    Number(u64),
}

impl<'a> Attribute<'a> {
    fn read(bytes: &'a [u8]) -> Result<Attribute<'a>, Malformed> {
        let mut attribute = Attribute { key: b"", value: AttributeValue::None };
        for field in Fields(bytes) {
            match field? {
                (1, key) => attribute.key = key.bytes(),
                (2, value) => attribute.value = AttributeValue::read(value.bytes())?,
                _ => {}
            }
        }
        Ok(attribute)
    }
}

impl<'a> AttributeValue<'a> {
    fn read(any: &'a [u8]) -> Result<AttributeValue<'a>, Malformed> {
        let mut read = AttributeValue::None;
        for field in Fields(any) {
            match field? {
                (1, value) => read = AttributeValue::Text(value.bytes()),
                (3, value) => read = AttributeValue::Number(value.number()),
                _ => {}
            }
        }
        Ok(read)
    }

    fn class_text(self) -> Arc<str> {
        match self {
            AttributeValue::Text(bytes) => text(bytes),
            _ => Class::text(""),
        }
    }

    /// Some tracers write numbers as text.
    fn number(self) -> Option<u32> {
        match self {
            AttributeValue::Number(number) => u32::try_from(number).ok(),
            AttributeValue::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            AttributeValue::None => None,
        }
    }
}

/// What the attributes say, by the newest name that is there.
#[derive(Default)]
struct Said {
    destination: Named,
    group: Named,
    operation: Named,
    messaging: Messaging,
}

/// A text that has had several names: the value under the newest.
#[derive(Default)]
struct Named(Option<(usize, Arc<str>)>);

impl Named {
    fn take(&mut self, names: &[&str], attribute: &Attribute<'_>) {
        let Some(age) = names.iter().position(|name| name.as_bytes() == attribute.key) else { return };
        if self.0.as_ref().is_none_or(|(known, _)| age <= *known) {
            self.0 = Some((age, attribute.value.class_text()));
        }
    }

    fn of(self) -> Arc<str> {
        self.0.map_or_else(|| Class::text(""), |(_, text)| text)
    }
}

/// The names of the conventions 1.44, then older ones (1.24 and before), the newest first.
const DESTINATION: [&str; 2] = ["messaging.destination.name", "messaging.destination"];
const GROUP: [&str; 4] = [
    "messaging.consumer.group.name",
    "messaging.kafka.consumer.group",
    "messaging.rocketmq.client_group",
    "messaging.consumer_group",
];
const OPERATION: [&str; 2] = ["messaging.operation.name", "messaging.operation"];

impl Said {
    fn take(&mut self, attribute: &Attribute<'_>) {
        self.destination.take(&DESTINATION, attribute);
        self.group.take(&GROUP, attribute);
        self.operation.take(&OPERATION, attribute);
        match attribute.key {
            b"messaging.batch.message_count" => self.messaging.batch_size = attribute.value.number(),
            b"spanprof.messaging.delivery.attempt" => self.messaging.attempt = attribute.value.number(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
