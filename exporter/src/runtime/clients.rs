//! Which functions are a messaging client's, and what it stands on: not the application's, wherever their source lies.

use spanprof_symbolizer::{Frame, FrameKind};

use super::java::java_name;
use super::namespace;

/// Crates.
const CRATES: &[&str] = &[
    "async_nats",
    "lapin",
    "paho_mqtt",
    "rdkafka",
    "rdkafka_sys",
    "rocketmq",
    "rocketmq_client_rust",
    "rocketmq_common",
    "rocketmq_protocol",
    "rocketmq_remoting",
    "rocketmq_runtime",
    "rocketmq_transport",
    "rumqttc",
    "spanprof_messaging",
];

/// Beginnings of C functions. The last ones are of the threads that librdkafka brings along, `Socket_` and `Thread_` Paho's.
const C_PREFIXES: &[&str] = &[
    "rd_kafka_",
    "MQTTClient_",
    "MQTTAsync_",
    "MQTTPacket_",
    "Socket_getReadySocket",
    "Thread_wait_",
    "mosquitto_",
    "natsConnection_",
    "natsSubscription_",
    "cnd_wait",
    "cnd_timedwait",
    "mtx_lock",
    "thrd_",
    "_thrd_wrapper_function",
];

/// Packages.
const JAVA_PACKAGES: &[&str] = &[
    "org.apache.kafka.clients.",
    "org.apache.kafka.common.",
    "org.apache.rocketmq.client.",
    "org.apache.rocketmq.common.",
    "org.apache.rocketmq.remoting.",
    "org.apache.rocketmq.shaded.",
    "org.eclipse.paho.",
    "com.google.common.util.concurrent.",
    "io.grpc.",
    "io.netty.",
];

/// Whether a frame is a messaging client's.
pub(crate) fn is_client(frame: &Frame) -> bool {
    let function = &*frame.function;
    match frame.kind {
        FrameKind::Kernel | FrameKind::Synthetic => false,
        FrameKind::Jvm => {
            let name = java_name(function);
            JAVA_PACKAGES.iter().any(|package| name.starts_with(package))
        }
        FrameKind::Native | FrameKind::Rust => {
            C_PREFIXES.iter().any(|prefix| function.starts_with(prefix))
                || namespace(function).is_some_and(|part| CRATES.contains(&part))
        }
    }
}
