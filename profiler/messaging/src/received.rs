//! Messages of a batch, and what they have in common.

use opentelemetry::KeyValue;
use opentelemetry::trace::{Link, SpanContext};

use crate::TraceContext;
use crate::carrier::Carrier;
use crate::conventions::{System, attribute};
use crate::message::Message;
use crate::span::Start;

/// The messages of one batch.
pub(crate) struct Received<'a> {
    messages: Vec<(Option<SpanContext>, Message<'a>, Vec<KeyValue>)>,
    /// What all of them have in common; not among their own attributes any more.
    common: Vec<KeyValue>,
}

impl<'a> Received<'a> {
    pub(crate) fn of<C: Carrier + ?Sized + 'a>(
        messages: impl IntoIterator<Item = (&'a C, Message<'a>)>,
        system: System,
    ) -> Self {
        let mut messages: Vec<_> = messages
            .into_iter()
            .map(|(carrier, message)| {
                let created = TraceContext::extract(carrier).map(|context| context.to_opentelemetry());
                let mut attributes = message.attributes(system);
                let destination = message.destination.map(|name| name.to_owned());
                attributes.extend(destination.map(|name| KeyValue::new(attribute::DESTINATION_NAME, name)));
                (created, message, attributes)
            })
            .collect();
        // An id names one message, even if the batch has no other.
        let mut common = messages.first().map(|(.., attributes)| attributes.clone()).unwrap_or_default();
        common.retain(|shared| {
            shared.key.as_str() != attribute::MESSAGE_ID
                && messages.iter().all(|(.., attributes)| attributes.contains(shared))
        });
        for (.., attributes) in &mut messages {
            attributes.retain(|own| !common.contains(own));
        }
        Self { messages, common }
    }

    pub(crate) fn count(&self) -> u64 {
        self.messages.len() as u64
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = &Message<'a>> {
        self.messages.iter().map(|(_, message, _)| message)
    }

    /// Makes links of the messages and attributes of what they share.
    pub(crate) fn describe(&self, start: &mut Start<'_>) {
        let count = i64::try_from(self.messages.len()).unwrap_or(i64::MAX);
        start.attributes.push(KeyValue::new(attribute::BATCH_COUNT, count));
        for shared in &self.common {
            match start.attributes.iter_mut().find(|known| known.key == shared.key) {
                Some(known) => known.value = shared.value.clone(),
                None => start.attributes.push(shared.clone()),
            }
        }
        start.links.extend(self.messages.iter().filter_map(|(created, _, attributes)| {
            created.clone().map(|created| Link::new(created, attributes.clone(), 0))
        }));
    }
}
