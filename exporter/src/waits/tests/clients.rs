//! The waits of the clients that we know, by their own functions.

use super::*;

const CND: [&str; 4] = [
    "c:__futex_abstimed_wait_common",
    "c:___pthread_cond_timedwait",
    "c:cnd_timedwait",
    "c:cnd_timedwait_abs",
];

fn kafka_queue<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    futex(&[&CND[..], rest].concat())
}

/// Each rule that is told by the stack of a blocked thread, by the clients as they are called.
#[test]
fn threads_of_messaging_clients() {
    use Activity::*;
    let rust_poll = "rdkafka::consumer::base_consumer::BaseConsumer<C>::poll_queue::<core::time::Duration>";
    let own = "orders::main";
    for (names, activity, expected) in [
        // librdkafka's C functions alone, and below rdkafka.
        (kafka_queue(&["c:rd_kafka_q_pop_serve", "c:rd_kafka_consumer_poll", own]), Idle, Wait::LongPoll),
        (
            kafka_queue(&["c:rd_kafka_q_pop_serve", "c:rd_kafka_queue_poll", rust_poll, own]),
            Span,
            Wait::LongPoll,
        ),
        (
            kafka_queue(&["c:rd_kafka_q_serve_rkmessages", "c:rd_kafka_consume_batch_queue", own]),
            Span,
            Wait::LongPoll,
        ),
        (
            kafka_queue(&["c:rd_kafka_q_pop", "c:rd_kafka_op_req0", "c:rd_kafka_assign0", own]),
            Span,
            Wait::BrokerReply,
        ),
        (
            kafka_queue(&["c:rd_kafka_q_pop", "c:rd_kafka_q_wait_result", "c:rd_kafka_commit", own]),
            Span,
            Wait::BrokerReply,
        ),
        (kafka_queue(&["c:rd_kafka_q_serve", "c:rd_kafka_flush", own]), Span, Wait::BrokerReply),
        (kafka_queue(&["c:rd_kafka_msg_new0", "c:rd_kafka_producev", own]), Asking, Wait::FlowControl),
        (kafka_queue(&["c:rd_kafka_q_serve", "c:rd_kafka_thread_main"]), Untold, Wait::QueueEmpty),
        (
            kafka_queue(&[
                "c:rd_kafka_q_pop",
                "c:rd_kafka_broker_ops_serve",
                "c:rd_kafka_broker_thread_main",
            ]),
            Idle,
            Wait::QueueEmpty,
        ),
        (
            poll(&[
                "c:rd_kafka_transport_poll",
                "c:rd_kafka_broker_consumer_serve",
                "c:rd_kafka_broker_thread_main",
            ]),
            Idle,
            Wait::LongPoll,
        ),
        (
            poll(&[
                "c:rd_kafka_transport_poll",
                "c:rd_kafka_broker_producer_serve",
                "c:rd_kafka_broker_thread_main",
            ]),
            Idle,
            Wait::QueueEmpty,
        ),
        (
            kafka_queue(&[
                "c:rd_kafka_queue_poll",
                "rdkafka::producer::base_producer::BaseProducer<C>::poll",
                own,
            ]),
            Span,
            Wait::BrokerReply,
        ),
        (
            kafka_queue(&[
                "c:rd_kafka_queue_poll",
                "rdkafka::producer::base_producer::BaseProducer<C, Part>::poll",
                "rdkafka::producer::base_producer::ThreadedProducer<C>::from_config_and_context::{closure#0}",
            ]),
            Idle,
            Wait::QueueEmpty,
        ),
        // As glibc's own debug information names them.
        (
            futex(&[
                "c:__futex_abstimed_wait_common64",
                "c:__pthread_cond_wait_common",
                "c:___pthread_cond_timedwait64",
                "c:__cnd_timedwait",
                "c:cnd_timedwait_ms",
                "c:rd_kafka_q_serve0",
                "c:rd_kafka_thread_main",
                "c:start_thread",
            ]),
            Idle,
            Wait::QueueEmpty,
        ),
        (
            futex(&[
                "c:futex_wait",
                "c:__GI___lll_lock_wait",
                "c:lll_mutex_lock_optimized",
                "c:___pthread_mutex_lock",
                "c:__mtx_lock",
                "c:rd_kafka_q_pop_serve0",
                "c:rd_kafka_broker_thread_main",
            ]),
            Idle,
            Wait::Lock,
        ),
        // A lock in the client is a lock, and not what the client is about.
        (
            futex(&["c:___pthread_mutex_lock", "c:mtx_lock", "c:rd_kafka_consumer_poll", own]),
            Idle,
            Wait::Lock,
        ),
        // The others in Rust; a handler that a client calls is not the client.
        (
            futex(&[
                "syscall",
                "<std::thread::thread::Thread>::park",
                "<tokio::runtime::park::CachedParkThread>::block_on::<F>",
                "<rumqttc::v5::client::Iter as core::iter::Iterator>::next",
                own,
            ]),
            Idle,
            Wait::LongPoll,
        ),
        (
            futex(&[
                "syscall",
                "<flume::signal::SyncSignal as flume::signal::Signal>::wait",
                "<flume::Sender<rumqttc::v5::Request>>::send",
                "<rumqttc::v5::client::Client>::publish::<&str, Vec<u8>>",
                own,
            ]),
            Asking,
            Wait::FlowControl,
        ),
        (
            futex(&[
                "std::sync::poison::mutex::Mutex<T>::lock",
                "<orders::Listener as rocketmq_client_rust::MessageListenerConcurrently>::consume_message",
                "rocketmq_client_rust::consumer::consumer_impl::pull_message_service::PullMessageService::run",
            ]),
            Span,
            Wait::Lock,
        ),
        // C.
        (
            futex(&["c:sem_timedwait", "c:Thread_wait_sem", "c:MQTTClient_waitForCompletion", own]),
            Asking,
            Wait::BrokerReply,
        ),
        (
            poll(&["c:Socket_getReadySocket", "c:MQTTClient_cycle", "c:MQTTClient_receive", own]),
            Untold,
            Wait::LongPoll,
        ),
        (poll(&["c:MQTTClient_cycle", "c:MQTTClient_receive", own]), Untold, Wait::LongPoll),
        (poll(&["c:mosquitto_loop", "c:mosquitto_loop_forever", own]), Untold, Wait::LongPoll),
    ] {
        assert_eq!(waited(&names, SampleKind::OffCpu, activity), Some(expected), "{activity:?} {names:?}");
    }
}

#[test]
fn threads_of_java() {
    use Activity::*;
    let park =
        ["c:___pthread_cond_wait", "c:Unsafe_Park", "j:void java.util.concurrent.locks.LockSupport.park()"];
    let parked = |rest: &[&'static str]| futex(&[&park[..], rest].concat());
    let select = |rest: &[&'static str]| epoll(&[&["j:sun.nio.ch.EPoll.wait"][..], rest].concat());
    for (names, activity, expected) in [
        (
            select(&[
                "j:int org.apache.kafka.common.network.Selector.select(long)",
                "j:void org.apache.kafka.clients.consumer.internals.ConsumerNetworkClient.poll(long)",
                "j:org.apache.kafka.clients.consumer.KafkaConsumer.poll",
                "j:com.acme.Orders.run",
            ]),
            Untold,
            Wait::LongPoll,
        ),
        (
            select(&[
                "j:void org.apache.kafka.clients.consumer.internals.ConsumerNetworkClient.poll(long)",
                "j:Lorg/apache/kafka/clients/consumer/KafkaConsumer;::commitSync",
                "j:com.acme.Orders.run",
            ]),
            Span,
            Wait::BrokerReply,
        ),
        (
            parked(&[
                "j:java.util.concurrent.locks.AbstractQueuedSynchronizer$ConditionObject.await",
                "j:org.apache.kafka.clients.producer.internals.BufferPool.allocate",
                "j:org.apache.kafka.clients.producer.KafkaProducer.send",
                "j:com.acme.Orders.run",
            ]),
            Asking,
            Wait::FlowControl,
        ),
        (
            parked(&[
                "j:java.util.concurrent.CountDownLatch.await",
                "j:org.apache.rocketmq.remoting.netty.ResponseFuture.waitResponse",
                "j:org.apache.rocketmq.client.producer.DefaultMQProducer.send",
                "j:com.acme.Orders.run",
            ]),
            Untold,
            Wait::BrokerReply,
        ),
        (
            parked(&[
                "j:java.util.concurrent.LinkedBlockingQueue.take",
                "j:java.util.concurrent.ThreadPoolExecutor.getTask",
                "j:java.util.concurrent.ThreadPoolExecutor.runWorker",
                "j:java.lang.Thread.run",
            ]),
            Untold,
            Wait::QueueEmpty,
        ),
        (
            parked(&[
                "j:java.util.concurrent.locks.AbstractQueuedSynchronizer.acquire",
                "j:java.util.concurrent.locks.ReentrantLock.lock",
                "j:com.acme.Shelves.reserve",
            ]),
            Span,
            Wait::Lock,
        ),
        (
            futex(&[
                "c:___pthread_cond_timedwait",
                "c:JVM_Sleep",
                "j:java.lang.Thread.sleep",
                "j:com.acme.Throttle.wait",
            ]),
            Span,
            Wait::Sleep,
        ),
        (
            futex(&[
                "c:___pthread_cond_wait",
                "c:ObjectMonitor::wait(long, bool, JavaThread*)",
                "j:com.acme.X.y",
            ]),
            Span,
            Wait::Condition,
        ),
        (
            futex(&["c:___pthread_cond_wait", "c:ObjectMonitor::enter(JavaThread*)", "j:com.acme.X.y"]),
            Asking,
            Wait::Lock,
        ),
        (futex(&["c:___pthread_cond_wait", "j:com.acme.X.y"]), Asking, Wait::BrokerReply),
        (
            epoll(&[
                "j:io.netty.channel.epoll.Native.epollWait",
                "j:io.netty.channel.epoll.EpollEventLoop.run",
            ]),
            Untold,
            Wait::QueueEmpty,
        ),
        (
            poll(&["j:sun.nio.ch.Net.poll", "j:sun.nio.ch.NioSocketImpl.park", "j:com.acme.Pay.ask"]),
            Span,
            Wait::Socket,
        ),
    ] {
        assert_eq!(waited(&names, SampleKind::OffCpu, activity), Some(expected), "{activity:?} {names:?}");
    }
}

#[test]
fn awaits_of_tasks() {
    use Activity::*;
    let own = "orders::settle::{closure#0}";
    for (names, activity, expected) in [
        (&["<tokio::time::sleep::Sleep as Future>::poll", own][..], Span, Wait::Sleep),
        (&["<tokio::sync::oneshot::Receiver<T> as Future>::poll", own], Span, Wait::Channel),
        (
            &[
                "<tokio::sync::batch_semaphore::Acquire as Future>::poll",
                "<tokio::sync::mutex::Mutex<T>>::lock::{closure#0}",
                own,
            ],
            Span,
            Wait::Lock,
        ),
        (
            &[
                "<tokio::sync::batch_semaphore::Acquire as Future>::poll",
                "<tokio::sync::semaphore::Semaphore>::acquire_owned::{closure#0}",
                own,
            ],
            Span,
            Wait::FlowControl,
        ),
        (
            &[
                "<tokio::sync::mpsc::bounded::Sender<T>>::send::{closure#0}",
                "<async_nats::client::Client>::publish::<S>::{closure#0}",
                own,
            ],
            Asking,
            Wait::FlowControl,
        ),
        (&["<tokio::runtime::task::join::JoinHandle<T> as Future>::poll", own], Span, Wait::Join),
        (&["<tokio::net::tcp::stream::TcpStream as AsyncRead>::poll_read", own], Span, Wait::Socket),
        (
            &[
                "<futures_channel::oneshot::Receiver<T> as Future>::poll",
                "<rdkafka::producer::future_producer::FutureProducer<C, R>>::send::<K, P, T>::{closure#0}",
                "spanprof_messaging::clients::kafka::send::{closure#0}",
                own,
            ],
            Span,
            Wait::BrokerReply,
        ),
        (
            &[
                "<tokio::time::sleep::Sleep as Future>::poll",
                "<rdkafka::producer::future_producer::FutureProducer<C, R>>::send::<K, P, T>::{closure#0}",
                own,
            ],
            Asking,
            Wait::FlowControl,
        ),
        (
            &["<rdkafka::consumer::stream_consumer::StreamConsumer<C>>::recv::{closure#0}", own],
            Span,
            Wait::LongPoll,
        ),
        (
            &[
                "<tokio::sync::oneshot::Receiver<T> as Future>::poll",
                "<hyper::client::conn::ResponseFuture as Future>::poll",
                "<tonic::client::grpc::Grpc<T>>::server_streaming::{closure#0}",
                "<rocketmq::client::Client<rocketmq::session::Session>>::receive_message::{closure#0}",
                "<rocketmq::simple_consumer::SimpleConsumer>::receive_with::{closure#0}",
                own,
            ],
            Span,
            Wait::LongPoll,
        ),
        (
            &[
                "<tokio::sync::oneshot::Receiver<T> as Future>::poll",
                "<tonic::client::grpc::Grpc<T>>::unary::{closure#0}",
                "<rocketmq::client::Client<rocketmq::session::Session>>::ack_message::{closure#0}",
                own,
            ],
            Span,
            Wait::BrokerReply,
        ),
        (
            &[
                "<tokio::sync::oneshot::Receiver<T> as Future>::poll",
                "<reqwest::async_impl::client::Pending as Future>::poll",
                own,
            ],
            Span,
            Wait::Socket,
        ),
        (&[own], Span, Wait::Unknown),
        (&["[await at an unknown place]"], Asking, Wait::Unknown),
    ] {
        assert_eq!(waited(names, SampleKind::Suspended, activity), Some(expected), "{activity:?} {names:?}");
    }
}
