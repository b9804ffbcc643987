//! What the examples share: where the broker is, and the runtime that the client wants to own.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::global;
use opentelemetry_sdk::trace::SdkTracerProvider;
use rocketmq_client_rust::{ClientResult, ClientRuntime, ClientRuntimeConfig};
use rocketmq_observability::TelemetryRuntimeGuard;
use rocketmq_runtime::{RuntimeConfig, RuntimeOwner};

/// Where RocketMQ's name server is: as `ROCKETMQ_NAME_SERVER` says, or on its usual port.
#[must_use]
pub fn name_server() -> String {
    std::env::var("ROCKETMQ_NAME_SERVER").unwrap_or_else(|_| "127.0.0.1:9876".to_owned())
}

/// After how many messages a consumer ends: its argument, or never.
#[must_use]
pub fn messages_wanted() -> usize {
    std::env::args().nth(1).and_then(|number| number.parse().ok()).unwrap_or(usize::MAX)
}

/// Runs a service: its threads publish the span that they work on, for any profiler, and it has the clients' runtime.
///
/// # Errors
/// The service's own; or what its runtime failed with.
pub fn run<F: Future<Output = ClientResult<()>>>(
    name: &str,
    service: impl FnOnce(Arc<ClientRuntime>) -> F,
) -> Result<(), Box<dyn Error>> {
    let _spanprof = spanprof::Agent::builder().service_name(name).start()?;
    // A service has an exporter here too, such as `opentelemetry-otlp`.
    let spans = SdkTracerProvider::builder().with_span_processor(spanprof::ProfileProcessor::new()).build();
    global::set_tracer_provider(spans);

    let owner = RuntimeOwner::plan(configuration(name))?.build()?;
    let clients = ClientRuntime::try_new(
        owner.root_context().component("clients"),
        ClientRuntimeConfig::default(),
        // The client's own telemetry has names of its own: off.
        TelemetryRuntimeGuard::noop().handle(),
    )?;
    let result = owner.block_on(async {
        let result = service(Arc::clone(&clients)).await;
        clients.shutdown().await;
        owner.shutdown_tasks().await;
        result
    });
    owner.shutdown_background();
    Ok(result?)
}

/// Room for all listeners that are called at once, and for as long as the client's own `consume_timeout`. Without it
/// the client sends messages back, to come again, whose listener has had no chance yet.
fn configuration(name: &str) -> RuntimeConfig {
    let mut configuration = RuntimeConfig {
        // Each of its threads has this name, those of listeners too.
        thread_name: name.to_owned(),
        max_blocking_threads: 64,
        ..RuntimeConfig::default()
    };
    let listeners = &mut configuration.blocking_lane_policies.metadata_io;
    listeners.max_concurrency = 32; // more than the consumer's `consume_thread_min`, which is 20
    listeners.max_queue_depth = 256;
    listeners.queue_timeout = Duration::from_secs(15 * 60);
    listeners.task_timeout = Duration::from_secs(15 * 60);
    configuration
}
