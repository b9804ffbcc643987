//! Rules: what the wait was for, where what it is blocked on says nothing by itself.
//!
//! The first row that matches wins. Clients' own functions come first, because they say most; then the operation of the
//! active span, which holds whatever the client is made of; then what is behind a request that no operation covers, and
//! last who waits for work. A name of a client is written so that it is found on both of librdkafka's sides, the
//! library's own and `rdkafka`'s, as either may lack its symbols.

use super::stack::Plumbing;
use super::{Activity, Wait};

/// One row; every part that is not empty must match.
struct Purpose {
    wait: Wait,
    /// On one of these it must be blocked.
    objects: &'static [Wait],
    /// With one of these.
    activities: &'static [Activity],
    /// Parts of names; one of the functions must have one of them.
    parts: &'static [&'static str],
    /// Whole names, in the same way.
    whole: &'static [&'static str],
}

/// What says nothing by itself.
const ANYTHING: &[Wait] = &[Wait::Condition, Wait::Channel, Wait::Events, Wait::Socket, Wait::Unknown];

const WITHOUT_SPAN: &[Activity] = &[Activity::Idle, Activity::Untold];

const fn client(wait: Wait, parts: &'static [&'static str], whole: &'static [&'static str]) -> Purpose {
    Purpose { wait, objects: ANYTHING, activities: &[], parts, whole }
}

const PURPOSES: &[Purpose] = &[
    // What producers are held back by: in these functions they wait for room and nothing else.
    client(
        Wait::FlowControl,
        &[
            "rd_kafka_curr_msgs_add",
            "rd_kafka_msg_new",
            "org.apache.kafka.clients.producer.internals.BufferPool.allocate",
            "org.apache.rocketmq.client.impl.producer.DefaultMQProducerImpl.executeAsyncMessageSend",
        ],
        &["rd_kafka_produce", "rd_kafka_producev", "rd_kafka_produceva", "rd_kafka_produce_batch"],
    ),
    Purpose {
        wait: Wait::FlowControl,
        // When its queue is full, it tries again every 100 ms.
        objects: &[Wait::Sleep],
        activities: &[],
        parts: &["rdkafka::producer::future_producer::FutureProducer::send"],
        whole: &[],
    },
    // librdkafka's own threads. A fetch is under way nearly always, and the broker keeps it until there is something.
    client(Wait::LongPoll, &["rd_kafka_broker_consumer_serve"], &[]),
    client(
        Wait::QueueEmpty,
        &[
            "rd_kafka_broker_thread_main",
            "rd_kafka_background_thread_main",
            "rd_kafka_thread_main",
            "rdkafka::producer::base_producer::ThreadedProducer::from_config_and_context",
        ],
        &[],
    ),
    client(
        Wait::LongPoll,
        &[
            "rdkafka::consumer::base_consumer::BaseConsumer::poll",
            "rdkafka::consumer::base_consumer::PartitionQueue::poll",
            "rdkafka::consumer::base_consumer::Iter::next",
            "rdkafka::consumer::stream_consumer::MessageStream::poll_next",
            "rdkafka::consumer::stream_consumer::StreamConsumer::recv",
            "rdkafka::consumer::stream_consumer::StreamPartitionQueue::recv",
            "rocketmq::simple_consumer::SimpleConsumer::receive",
            "rocketmq::client::Client::receive_message",
            "MessagingServiceClient::receive_message",
            "rocketmq_client_rust::consumer::default_lite_pull_consumer::DefaultLitePullConsumer::poll",
            "DefaultLitePullConsumerImpl::poll",
            "DefaultMQPullConsumer::pull",
            "rocketmq_client_rust::consumer::consumer_impl::pull_api_wrapper::",
            "rocketmq_client_rust::consumer::consumer_impl::pull_message_service::",
            "MQClientAPIImpl::pull_message",
            "MQClientAPIImpl::pop_message",
            "rumqttc::eventloop::EventLoop::poll",
            "rumqttc::v5::eventloop::EventLoop::poll",
            "rumqttc::client::Connection::recv",
            "rumqttc::v5::client::Connection::recv",
            "rumqttc::client::Iter::next",
            "rumqttc::v5::client::Iter::next",
            "async_nats::Subscriber::",
            "async_nats::jetstream::consumer::pull::",
            "async_nats::jetstream::consumer::push::",
            "org.apache.kafka.clients.consumer.KafkaConsumer.poll",
            "org.apache.kafka.clients.consumer.KafkaShareConsumer.poll",
            "org.apache.kafka.clients.consumer.internals.ClassicKafkaConsumer.poll",
            "org.apache.kafka.clients.consumer.internals.AsyncKafkaConsumer.poll",
            "org.apache.kafka.clients.consumer.internals.ShareConsumerImpl.poll",
            "org.apache.kafka.clients.consumer.internals.ConsumerNetworkThread.run",
            "org.apache.rocketmq.client.consumer.DefaultLitePullConsumer.poll",
            "org.apache.rocketmq.client.impl.consumer.DefaultLitePullConsumerImpl.poll",
            "org.apache.rocketmq.client.impl.consumer.DefaultLitePullConsumerImpl$PullTaskImpl.",
            "org.apache.rocketmq.client.impl.consumer.DefaultMQPullConsumerImpl.pull",
            "org.apache.rocketmq.client.impl.MQClientAPIImpl.pullMessage",
            "org.apache.rocketmq.client.impl.MQClientAPIImpl.popMessage",
            "org.apache.rocketmq.client.java.impl.consumer.SimpleConsumerImpl.receive",
            "MQTTAsync_receiveThread",
            "mosquitto_loop",
        ],
        &[
            "rd_kafka_consumer_poll",
            "rd_kafka_consume",
            "rd_kafka_consume0",
            "rd_kafka_consume_queue",
            "rd_kafka_consume_batch",
            "rd_kafka_consume_batch0",
            "rd_kafka_consume_batch_queue",
            "rd_kafka_consume_callback",
            "rd_kafka_consume_callback0",
            "rd_kafka_q_serve_rkmessages",
            "MQTTClient_receive",
            "MQTTClient_run",
            "MQTTClient_yield",
            "natsSubscription_NextMsg",
        ],
    ),
    client(
        Wait::BrokerReply,
        &[
            "rd_kafka_flush",
            "rd_kafka_commit",
            "rd_kafka_op_req",
            "rd_kafka_q_wait_result",
            "rd_kafka_metadata",
            "rd_kafka_query_watermark_offsets",
            "rd_kafka_get_watermark_offsets",
            "rd_kafka_offsets_for_times",
            "rd_kafka_list_groups",
            "rd_kafka_consumer_close",
            "rd_kafka_seek",
            "rd_kafka_init_transactions",
            "rd_kafka_abort_transaction",
            "rd_kafka_send_offsets_to_transaction",
            "rd_kafka_txn_curr_api",
            "rdkafka::producer::future_producer::FutureProducer::send",
            "rdkafka::producer::future_producer::DeliveryFuture",
            "rdkafka::producer::base_producer::BaseProducer::flush",
            "rocketmq::producer::Producer::",
            "rocketmq::simple_consumer::SimpleConsumer::ack",
            "rocketmq::simple_consumer::SimpleConsumer::start",
            "rocketmq::client::Client::",
            "rocketmq::session::",
            "MessagingServiceClient::",
            "rocketmq_client_rust::producer::",
            "rocketmq_client_rust::implementation::",
            "rocketmq_transport::clients::",
            "rocketmq_transport::rpc::",
            "rocketmq_remoting::clients::",
            "async_nats::client::Client::request",
            "async_nats::client::Client::send_request",
            "async_nats::client::Client::flush",
            "async_nats::jetstream::",
            "org.apache.kafka.clients.consumer.KafkaConsumer.commit",
            "org.apache.kafka.clients.consumer.internals.ConsumerCoordinator.commitOffsetsSync",
            "org.apache.kafka.clients.producer.KafkaProducer.",
            "org.apache.kafka.clients.producer.internals.FutureRecordMetadata.get",
            "org.apache.kafka.clients.producer.internals.ProduceRequestResult.await",
            "org.apache.kafka.clients.admin.",
            "org.apache.rocketmq.remoting.netty.NettyRemotingAbstract.invokeSync",
            "org.apache.rocketmq.remoting.netty.ResponseFuture.waitResponse",
            "org.apache.rocketmq.client.producer.",
            "org.apache.rocketmq.client.impl.producer.DefaultMQProducerImpl.",
            "org.apache.rocketmq.client.java.impl.producer.ProducerImpl.",
            "org.apache.rocketmq.client.java.impl.consumer.",
            "MQTTClient_",
            "MQTTAsync_waitForCompletion",
            "natsConnection_",
        ],
        &[],
    ),
    Purpose {
        wait: Wait::BrokerReply,
        objects: ANYTHING,
        activities: &[Activity::Asking],
        parts: &[],
        whole: &[],
    },
    Purpose {
        wait: Wait::LongPoll,
        objects: ANYTHING,
        activities: &[Activity::Receiving],
        parts: &[],
        whole: &[],
    },
    // The answer to a request is a channel or a condition to whoever asked.
    client(
        Wait::Socket,
        &[
            "tonic::client::",
            "hyper::client::",
            "hyper_util::client::",
            "h2::client::",
            "reqwest::",
            "h2::share::",
        ],
        &[],
    ),
    // Workers of runtimes and pools; within a span they wait for what its own code waits for.
    Purpose {
        wait: Wait::QueueEmpty,
        objects: &[Wait::Condition, Wait::Channel, Wait::Events, Wait::Unknown],
        activities: WITHOUT_SPAN,
        parts: &[
            "tokio::runtime::scheduler::multi_thread::worker::Context::park",
            "tokio::runtime::scheduler::multi_thread::park::Parker::park",
            "tokio::runtime::scheduler::current_thread::Context::park",
            "tokio::runtime::blocking::pool::Inner::run",
            "rayon_core::sleep::Sleep::sleep",
            "async_executor::",
            "async_io::driver::",
            "blocking::Executor::",
            "rd_kafka_poll",
            "rd_kafka_queue_poll",
            "java.util.concurrent.ThreadPoolExecutor.getTask",
            "java.util.concurrent.ForkJoinPool.awaitWork",
            "java.util.concurrent.ForkJoinPool.runWorker",
            "java.util.TimerThread.mainLoop",
            "java.lang.ref.ReferenceQueue.remove",
            "io.netty.channel.nio.NioEventLoop.",
            "io.netty.channel.epoll.EpollEventLoop.",
            "io.netty.util.concurrent.SingleThreadEventExecutor.",
            "org.apache.kafka.clients.producer.internals.Sender.run",
            "org.apache.kafka.clients.consumer.internals.AbstractCoordinator$HeartbeatThread.run",
            "org.apache.rocketmq.common.ServiceThread.waitForRunning",
            "org.apache.rocketmq.client.impl.consumer.PullMessageService.run",
        ],
        whole: &[],
    },
    // A process that publishes spans has none where it does no work.
    Purpose {
        wait: Wait::QueueEmpty,
        objects: &[Wait::Channel, Wait::Events],
        activities: &[Activity::Idle],
        parts: &[],
        whole: &[],
    },
    // Within a span, what librdkafka's application asks for is the broker's.
    Purpose {
        wait: Wait::BrokerReply,
        objects: ANYTHING,
        activities: &[],
        parts: &["rd_kafka_poll", "rd_kafka_queue_poll"],
        whole: &[],
    },
];

/// What the wait was for, where a rule knows.
pub(super) fn of(object: Wait, plumbing: &Plumbing<'_>, activity: Activity) -> Option<Wait> {
    // Without any code, an operation alone would explain what nobody saw.
    if plumbing.calls.is_empty() && plumbing.kernel.is_empty() {
        return None;
    }
    PURPOSES.iter().find(|purpose| purpose.explains(object, plumbing, activity)).map(|purpose| purpose.wait)
}

impl Purpose {
    fn explains(&self, object: Wait, plumbing: &Plumbing<'_>, activity: Activity) -> bool {
        self.objects.contains(&object)
            && (self.activities.is_empty() || self.activities.contains(&activity))
            && (self.parts.is_empty() && self.whole.is_empty() || self.names_one_of(&plumbing.calls))
    }

    fn names_one_of(&self, calls: &[String]) -> bool {
        calls.iter().any(|call| {
            self.whole.contains(&call.as_str()) || self.parts.iter().any(|part| call.contains(part))
        })
    }
}
