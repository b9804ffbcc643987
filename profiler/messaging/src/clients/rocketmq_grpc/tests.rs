//! Messages of the client's own, without a broker.

use std::collections::HashMap;

use rocketmq::model::message::{Message as ClientMessage, MessageBuilder};

use super::{Outgoing, error_type};
use crate::carrier::{Carrier, CarrierMut};
use crate::{System, TRACEPARENT};

/// What the client would send.
fn sent(mut message: impl ClientMessage) -> String {
    let mut properties: Vec<_> = message.take_properties().into_iter().collect();
    properties.sort();
    format!(
        "{:?}",
        (
            message.take_topic(),
            message.take_body(),
            message.take_tag(),
            message.take_keys(),
            properties,
            message.take_message_group(),
            message.take_delivery_timestamp(),
            message.transaction_enabled(),
        )
    )
}

fn builders() -> [fn() -> MessageBuilder; 4] {
    [
        || {
            MessageBuilder::builder()
                .set_topic("orders")
                .set_body(vec![1, 2])
                .set_tag("placed")
                .set_keys(vec!["a", "b"])
                .set_properties(HashMap::from([("own", "property")]))
        },
        || MessageBuilder::fifo_message_builder("orders", vec![1], "customer-7"),
        || MessageBuilder::delay_message_builder("orders", vec![1], 1_700_000_000),
        || MessageBuilder::transaction_message_builder("orders", vec![1]),
    ]
}

#[test]
fn a_message_is_what_it_was_when_it_is_put_together_again() {
    for builder in builders() {
        let message = builder().build().expect("it is complete");
        let again = Outgoing::new(builder().build().expect("it is complete"));
        assert_eq!(sent(again), sent(message));
    }
}

#[test]
fn its_id_stays_too() {
    let mut message = builders()[0]().build().expect("it is complete");
    let id = message.take_message_id();
    assert_eq!(Outgoing::new(message).take_message_id(), id);
}

#[test]
fn a_context_stands_beside_its_own_properties() {
    let mut outgoing = Outgoing::new(builders()[0]().build().expect("it is complete"));
    outgoing.set_value(TRACEPARENT, "a context");
    assert_eq!(outgoing.value("own"), Some(&b"property"[..]));
    let properties = outgoing.take_properties();
    assert_eq!(properties.len(), 2);
    assert_eq!(properties[TRACEPARENT], "a context");
}

#[test]
fn spans_tell_each_type_of_message() {
    use crate::conventions::attribute;
    let types = builders().map(|builder| {
        let outgoing = Outgoing::new(builder().build().expect("it is complete"));
        let attributes = outgoing.facts().attributes(System::RocketMq);
        let said = attributes.iter().find(|said| said.key.as_str() == attribute::ROCKETMQ_TYPE);
        said.map(|said| said.value.to_string()).unwrap_or_default()
    });
    assert_eq!(types, ["normal", "fifo", "delay", "transaction"]);
}

#[test]
fn errors_before_the_proxy_have_the_clients_name() {
    let error = MessageBuilder::builder().build().err().expect("there is no topic");
    assert_eq!(error_type(&error), "InvalidMessage");
}
