//! RocketMQ over gRPC: Apache's own client, the crate `rocketmq` 5.0.
//!
//! The client has no hooks, and the message that its builder makes shows nothing and takes nothing any more. So
//! messages are taken apart and put together again ([`Outgoing`]), and the client's calls are made within spans. The
//! client stays the caller's: it is configured, started and shut down as ever, and whatever is not here is called on
//! it.
//!
//! ```no_run
//! use rocketmq::conf::{ClientOption, ProducerOption, SimpleConsumerOption};
//! use rocketmq::model::common::{FilterExpression, FilterType};
//! use rocketmq::model::message::MessageBuilder;
//! use spanprof_messaging::clients::rocketmq_grpc::{Consumer, Delivery, Producer};
//! use spanprof_messaging::{Instrumentation, System};
//!
//! # async fn bill(_: &Delivery) -> Result<(), std::io::Error> { Ok(()) }
//! # async fn service() -> Result<(), Box<dyn std::error::Error>> {
//! let rocketmq = Instrumentation::new(System::RocketMq);
//! let mut client = rocketmq::Producer::new(ProducerOption::default(), ClientOption::default())?;
//! client.start().await?;
//! let orders = Producer::new(&rocketmq, "orders");
//! let message = MessageBuilder::builder().set_topic("orders").set_body(b"7 tins".to_vec()).build()?;
//! orders.send(&client, message).await?; // instead of client.send(message)
//!
//! let mut option = SimpleConsumerOption::default();
//! option.set_consumer_group("billing");
//! let mut client = rocketmq::SimpleConsumer::new(option, ClientOption::default())?;
//! client.start().await?;
//! let orders = Consumer::new(&rocketmq, "orders", "billing");
//! let all = FilterExpression::new(FilterType::Tag, "*");
//! for delivery in orders.receive(&client, &all).await? {
//!     if let Err(error) = orders.handle(&client, &delivery, bill(&delivery)).await {
//!         eprintln!("{}: {error}", delivery.message_id());
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What to know of the client
//!
//! - Topics and groups must be there: over gRPC neither comes into being by use.
//! - It has no push consumer; a loop like the above in a few tasks is one. Nor has it a call by which a message is
//!   refused: one that isn't acknowledged comes again when its invisible time is over, which is 10 s at least.
//! - It does not tell when a message was stored or in which queue, and births are in whole seconds: no queueing time is
//!   measured over gRPC.
//! - Leave its long polling timeout at the default of 40 s, or well above the proxy's longest poll (20 s): the same
//!   time is the deadline of the call, and a poll that runs into it is an error and not an empty poll.

mod consumer;
mod delivery;
mod error;
mod outgoing;
mod producer;
#[cfg(test)]
mod tests;

pub use consumer::Consumer;
pub use delivery::{Delivery, facts};
pub use error::{Unsettled, error_type};
pub use outgoing::Outgoing;
pub use producer::Producer;

use std::time::{Duration, SystemTime};

/// The client's times.
fn time(seconds: i64) -> SystemTime {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}
