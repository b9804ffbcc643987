//! What is with the bridge between receipt and acknowledgement: a bounded number of messages, in lanes.
//!
//! A lane sends one message after the other, and all of an MQTT topic are in one lane. Acknowledgements go out in the
//! order of receipt, as MQTT wants them, each when RocketMQ has the message.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use opentelemetry::Context;
use opentelemetry::trace::FutureExt;
use rumqttc::v5::AsyncClient;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Publish;
use spanprof_messaging::clients::mqtt::v5;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::message;
use crate::rocketmq::RocketMq;
use crate::routes::{Route, Routes};
use crate::stop::{Stop, Stopper, stop};

/// How many messages are on their way to RocketMQ at the same time.
const LANES: usize = 16;

/// The messages of one connection. Their number is bounded by permits, so that the channels don't have to be.
#[derive(Debug)]
pub struct Forwarding {
    routes: Arc<Routes>,
    lanes: Vec<mpsc::UnboundedSender<Job>>,
    receipts: mpsc::UnboundedSender<Receipt>,
    /// For messages that are acknowledged: as many as the MQTT broker was told that it may send.
    acknowledged: Arc<Semaphore>,
    /// For messages that are not (QoS 0), of which the broker may send any number.
    unacknowledged: Arc<Semaphore>,
    closing: Stopper,
    tasks: JoinSet<()>,
}

/// A message for a lane.
#[derive(Debug)]
struct Job {
    publish: Publish,
    route: Arc<Route>,
    received: Instant,
    /// Takes the context of its process span when RocketMQ has it.
    forwarded: oneshot::Sender<Context>,
    /// Of a message that is not acknowledged.
    _room: Option<OwnedSemaphorePermit>,
}

/// A message that waits to be acknowledged.
#[derive(Debug)]
struct Receipt {
    publish: Publish,
    /// `None` where no rule matches.
    route: Option<Arc<Route>>,
    forwarded: oneshot::Receiver<Context>,
    room: OwnedSemaphorePermit,
}

/// What became of a message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is in a lane.
    Forwarded,
    /// No rule matches its topic: it is acknowledged, for it has no place to go to.
    Unmatched,
    /// It has QoS 0, and there was no room.
    Dropped,
}

impl Forwarding {
    /// Starts the lanes of a connection.
    #[must_use]
    pub fn start(
        routes: &Arc<Routes>,
        rocketmq: &Arc<RocketMq>,
        client: AsyncClient,
        in_flight: u16,
    ) -> Self {
        let (closing, is_closing) = stop();
        let mut tasks = JoinSet::new();
        let lanes = (0..LANES).map(|_| {
            let (lane, jobs) = mpsc::unbounded_channel();
            tasks.spawn(run_lane(Arc::clone(rocketmq), jobs, is_closing.clone()));
            lane
        });
        let lanes = lanes.collect();
        let (receipts, pending) = mpsc::unbounded_channel();
        tasks.spawn(acknowledge(client, pending));
        Self {
            routes: Arc::clone(routes),
            lanes,
            receipts,
            acknowledged: Arc::new(Semaphore::new(in_flight.into())),
            unacknowledged: Arc::new(Semaphore::new(in_flight.into())),
            closing,
            tasks,
        }
    }

    /// Takes a message that came; waits for room, if it is to be acknowledged.
    pub async fn take(&self, publish: Publish) -> Taken {
        let route = self.routes.of(&v5::topic(&publish)).cloned();
        let (forwarded, is_forwarded) = oneshot::channel();
        if publish.qos == QoS::AtMostOnce {
            let room = Arc::clone(&self.unacknowledged).try_acquire_owned();
            return match room {
                Ok(room) => self.hand_on(publish, route, forwarded, Some(room)),
                Err(_) => Taken::Dropped,
            };
        }
        let room = Arc::clone(&self.acknowledged).acquire_owned().await.expect("nobody closes it");
        let receipt =
            Receipt { publish: publish.clone(), route: route.clone(), forwarded: is_forwarded, room };
        // Nobody takes it where the connection has broken: then the broker sends it again.
        let _ = self.receipts.send(receipt);
        self.hand_on(publish, route, forwarded, None)
    }

    fn hand_on(
        &self,
        publish: Publish,
        route: Option<Arc<Route>>,
        forwarded: oneshot::Sender<Context>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Taken {
        let Some(route) = route else {
            let _ = forwarded.send(Context::new());
            return Taken::Unmatched;
        };
        let mut hasher = DefaultHasher::new();
        publish.topic.hash(&mut hasher);
        let lane = hasher.finish() as usize % self.lanes.len();
        let _ =
            self.lanes[lane].send(Job { publish, route, received: Instant::now(), forwarded, _room: room });
        Taken::Forwarded
    }

    /// Lets messages that are on their way arrive, gives up those that are not, and acknowledges what has arrived.
    pub async fn close(self) {
        let Self { lanes, receipts, closing, mut tasks, .. } = self;
        closing.stop();
        drop((lanes, receipts));
        while tasks.join_next().await.is_some() {}
    }
}

async fn run_lane(rocketmq: Arc<RocketMq>, mut jobs: mpsc::UnboundedReceiver<Job>, mut closing: Stop) {
    while let Some(job) = jobs.recv().await {
        let Some(context) = forward(&rocketmq, &job, &mut closing).await else { return };
        // One of QoS 0 has nobody who waits for it.
        let _ = job.forwarded.send(context);
    }
}

/// Sends a message within its process span, whose context is given back. `None` if the lane was closed before.
async fn forward(rocketmq: &RocketMq, job: &Job, closing: &mut Stop) -> Option<Context> {
    let route = &*job.route;
    let process = route.process(&job.publish, job.received);
    let message = process.enter(|| message::outgoing(&job.publish, &v5::topic(&job.publish), route.topic()));
    let context = process.context().clone();
    if rocketmq.send(&route.producer, &message, closing).with_context(context.clone()).await {
        process.done();
        Some(context)
    } else {
        process.retried("closed", "the connection to the MQTT broker ended before RocketMQ had it");
        None
    }
}

/// Ends at the first message that did not arrive: to acknowledge one behind it would be out of order.
async fn acknowledge(client: AsyncClient, mut pending: mpsc::UnboundedReceiver<Receipt>) {
    while let Some(Receipt { publish, route, forwarded, room }) = pending.recv().await {
        let Ok(context) = forwarded.await else { return };
        let acknowledged = match &route {
            Some(route) => v5::acknowledge(&route.consumer, &client, &publish).with_context(context).await,
            None => client.ack(&publish).await,
        };
        if acknowledged.is_err() {
            return;
        }
        drop(room);
    }
}
