//! MQTT: user properties in version 5, and by choice the payload in 3.1.1.
//!
//! **Version 5**: user properties `traceparent` and `tracestate` of the PUBLISH packet, which brokers hand on unchanged and
//! in their order. A key may stand more than once; writers replace, readers take the **first**. A `Vec<(String, String)>`,
//! which is what clients have, carries as it is.
//!
//! **Version 3.1.1** has nowhere to put a context, and a broker drops the user properties of a version 5 publisher for a
//! 3.1.1 subscriber. So nothing goes on the wire unless it is asked for: carry `()`, and let the gateway start the trace.
//! Who owns both ends may choose one of two, both of which change the payload:
//!
//! * [`json`]: members of the payload's outermost object. Other consumers see two members that they don't know.
//! * [`envelope`]: a mark and the binary context before the payload. **Other consumers can't read the payload**, so all of
//!   them have to know it.
//!
//! Refused: a trailer behind the payload (a parser that reads to the end breaks just as well, and it can't be seen from the
//! front), and parts of the topic (they multiply topics).
//!
//! ```
//! use spanprof_messaging::{Instrumentation, Message, System, TraceContext};
//! let readings = Instrumentation::new(System::Mqtt).producer("sensors/7/temperature");
//! let mut user_properties = Vec::<(String, String)>::new(); // version 5
//! let publish = readings.send(&mut user_properties, &Message::new());
//! publish.done();
//! let publish = readings.send(&mut (), &Message::new()); // 3.1.1
//! let payload = spanprof_messaging::mqtt::json::insert(b"{\"celsius\":21}", publish.trace_context().as_ref());
//! publish.done();
//! # assert_eq!(&payload[..], b"{\"celsius\":21}");
//! ```

pub mod envelope;
pub mod json;

/// The error that a reason code of version 5 tells, by the standard's name for it; `None` for success, which includes that
/// nobody subscribes.
pub fn reason_error(code: u8) -> Option<&'static str> {
    Some(match code {
        0..0x80 => return None,
        0x80 => "UNSPECIFIED_ERROR",
        0x81 => "MALFORMED_PACKET",
        0x82 => "PROTOCOL_ERROR",
        0x83 => "IMPLEMENTATION_SPECIFIC_ERROR",
        0x87 => "NOT_AUTHORIZED",
        0x88 => "SERVER_UNAVAILABLE",
        0x89 => "SERVER_BUSY",
        0x8b => "SERVER_SHUTTING_DOWN",
        0x8d => "KEEP_ALIVE_TIMEOUT",
        0x8e => "SESSION_TAKEN_OVER",
        0x8f => "TOPIC_FILTER_INVALID",
        0x90 => "TOPIC_NAME_INVALID",
        0x91 => "PACKET_IDENTIFIER_IN_USE",
        0x92 => "PACKET_IDENTIFIER_NOT_FOUND",
        0x93 => "RECEIVE_MAXIMUM_EXCEEDED",
        0x94 => "TOPIC_ALIAS_INVALID",
        0x95 => "PACKET_TOO_LARGE",
        0x96 => "MESSAGE_RATE_TOO_HIGH",
        0x97 => "QUOTA_EXCEEDED",
        0x99 => "PAYLOAD_FORMAT_INVALID",
        0x9a => "RETAIN_NOT_SUPPORTED",
        0x9b => "QOS_NOT_SUPPORTED",
        _ => crate::conventions::OTHER_ERROR,
    })
}
