//! Producers and consumers by topic, for clients that learn topics while they run.
//!
//! Each is made at a topic's first message and kept. There is a bound, as topics can be as many as devices: beyond it they
//! are made anew each time, which costs a few microseconds and grows nothing.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::poll::Poll;
use crate::{Consumer, Instrumentation, Producer};

/// How many are kept. A service with more topics than this names them by a template.
const MOST: usize = 1024;

/// What was made, by destination.
#[derive(Debug)]
struct Kept<T>(RwLock<HashMap<Box<str>, Arc<T>>>);

impl<T> Kept<T> {
    fn new() -> Self {
        Self(RwLock::default())
    }

    fn get_or_make(&self, destination: &str, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(kept) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(destination) {
            return Arc::clone(kept);
        }
        // Made without the lock; if another thread was faster, its one stays.
        let made = Arc::new(make());
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST && !kept.contains_key(destination) {
            return made;
        }
        Arc::clone(kept.entry(destination.into()).or_insert(made))
    }
}

/// Producers by destination. Made by [`Instrumentation::producers`].
///
/// ```
/// use spanprof_messaging::{Instrumentation, Message, System};
/// let producers = Instrumentation::new(System::RocketMq).producers();
/// let topic = "orders"; // as the message says
/// let mut properties = Vec::<(String, String)>::new();
/// producers.of(topic).send(&mut properties, &Message::new()).done();
/// ```
#[derive(Debug)]
pub struct Producers {
    instrumentation: Instrumentation,
    kept: Kept<Producer>,
}

impl Producers {
    pub(crate) fn new(instrumentation: Instrumentation) -> Self {
        Self { instrumentation, kept: Kept::new() }
    }

    /// The producer of a destination.
    pub fn of(&self, destination: &str) -> Arc<Producer> {
        self.kept.get_or_make(destination, || self.instrumentation.producer(destination))
    }
}

/// Consumers of one group by destination. Made by [`Instrumentation::consumers`].
///
/// ```
/// # use std::collections::HashMap;
/// use spanprof_messaging::{Instrumentation, Message, System};
/// # let polled: Vec<(String, HashMap<String, String>)> = vec![];
/// let consumers = Instrumentation::new(System::Kafka).consumers("billing");
/// let poll = consumers.poll();
/// // let polled = the client's own call
/// poll.many(polled.iter().map(|(topic, headers)| (headers, Message::new().destination(topic))));
/// for (topic, headers) in &polled {
///     let process = consumers.of(topic).process(headers, &Message::new());
///     process.done();
/// }
/// ```
#[derive(Debug)]
pub struct Consumers {
    instrumentation: Instrumentation,
    group: Option<String>,
    /// Of no destination in particular.
    any: Consumer,
    kept: Kept<Consumer>,
}

impl Consumers {
    pub(crate) fn new(instrumentation: Instrumentation, group: Option<&str>) -> Self {
        let any = instrumentation.consumer("", group);
        Self { instrumentation, group: group.map(str::to_owned), any, kept: Kept::new() }
    }

    /// Begins to ask for messages from all of them: see [`Consumer::poll`].
    pub fn poll(&self) -> Poll<'_> {
        self.any.poll()
    }

    /// The consumer of a destination.
    pub fn of(&self, destination: &str) -> Arc<Consumer> {
        self.kept.get_or_make(destination, || {
            self.instrumentation.consumer(destination, self.group.as_deref()).counting_with(&self.any)
        })
    }

    /// The consumer of no destination in particular, for batches of several of them: see
    /// [`Message::destination`](crate::Message::destination).
    pub fn any(&self) -> &Consumer {
        &self.any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_made_once_up_to_the_bound() {
        let kept = Kept::new();
        let mut made = 0;
        for _ in 0..3 {
            for number in 0..MOST + 10 {
                kept.get_or_make(&number.to_string(), || made += 1);
            }
        }
        assert_eq!(made, MOST + 3 * 10);
        assert_eq!(kept.0.read().unwrap().len(), MOST);
    }
}
