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
