//! What a thread publishes against what OpenTelemetry and `tracing` say is active, on threads and in tasks that hop
//! between them.
#![cfg(feature = "opentelemetry")]

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::task::{Context as TaskContext, Poll};
use std::thread;

use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext as OtelSpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
    TracerProvider,
};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use spanprof::context::thread::current;
use spanprof::{Attributes, Key, SpanContext};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

fn install() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let agent = spanprof::Agent::builder().service_name("test").start().expect("nothing wrong was set");
        assert!(agent.notes().is_empty());
        let layer = tracing_opentelemetry::layer().with_tracer(tracer());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::set_global_default(subscriber).expect("no other subscriber");
    });
}

fn tracer() -> SdkTracer {
    SdkTracerProvider::builder().build().tracer("test")
}

fn ids(span: &OtelSpanContext) -> SpanContext {
    SpanContext::new(
        spanprof::TraceId(span.trace_id().to_bytes()),
        spanprof::SpanId(span.span_id().to_bytes()),
        span.trace_flags().to_u8(),
    )
}

/// The truth: what OpenTelemetry holds for active on this thread.
fn active() -> Option<SpanContext> {
    Context::map_current(|context| context.has_active_span().then(|| ids(context.span().span_context())))
}

fn remote(number: u8) -> OtelSpanContext {
    let (trace, span) = (TraceId::from_bytes([number; 16]), SpanId::from_bytes([number; 8]));
    OtelSpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::NONE)
}

#[test]
fn attach_and_detach_are_followed() {
    install();
    let tracer = tracer();
    assert_eq!(current(), None);
    let outer = Context::new().with_span(tracer.start("outer"));
    let outer_ids = ids(outer.span().span_context());
    let attached = outer.clone().attach();
    assert_eq!(current(), Some(outer_ids));
    {
        let inner = outer.with_span(tracer.start_with_context("inner", &outer));
        let inner_ids = ids(inner.span().span_context());
        assert_ne!(inner_ids.span_id, outer_ids.span_id);
        assert_eq!(inner_ids.trace_id, outer_ids.trace_id);
        let _inner = inner.attach();
        assert_eq!(current(), Some(inner_ids));
        {
            let _empty = Context::new().attach();
            assert_eq!(current(), None, "a context without a span publishes nothing");
        }
        assert_eq!(current(), Some(inner_ids));
    }
    assert_eq!(current(), Some(outer_ids));
    drop(attached);
    assert_eq!(current(), None);
}

#[test]
fn a_remote_parent_is_published_and_an_invalid_one_is_not() {
    install();
    let attached = Context::new().with_remote_span_context(remote(7)).attach();
    assert_eq!(current(), Some(ids(&remote(7))));
    {
        let _invalid = Context::new().with_remote_span_context(OtelSpanContext::NONE).attach();
        assert_eq!(current(), None);
    }
    drop(attached);
    assert_eq!(current(), None);
}

#[test]
fn guards_dropped_out_of_order_leave_what_opentelemetry_says() {
    install();
    let first = Context::new().with_remote_span_context(remote(1)).attach();
    let second = Context::new().with_remote_span_context(remote(2)).attach();
    drop(first);
    assert_eq!(current(), active());
    assert_eq!(current(), Some(ids(&remote(2))));
    drop(second);
    assert_eq!(current(), active());
    assert_eq!(current(), None);
}

#[test]
fn a_panic_leaves_nothing() {
    install();
    let result = std::panic::catch_unwind(|| {
        let _attached = Context::new().with_remote_span_context(remote(3)).attach();
        let _span = tracing::info_span!("panicking").entered();
        assert_eq!(current(), active());
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(result.is_err());
    assert_eq!(current(), None);
}

#[test]
fn attributes_follow_the_contexts_derived_from_theirs() {
    install();
    let destination = || published_attribute(Key::MessagingDestinationName);
    let orders = Arc::new(Attributes::new().with(Key::MessagingDestinationName, "orders"));
    {
        let _consumer = spanprof::with_attributes(&Context::new(), &orders).attach();
        assert_eq!(destination(), None, "without a span there is no record");
        {
            let _span = tracing::info_span!("process orders").entered();
            assert_eq!(destination().as_deref(), Some("orders"));
            let _inner = tracing::info_span!("parse").entered();
            assert_eq!(destination().as_deref(), Some("orders"));
            {
                let _other = Context::new().with_remote_span_context(remote(4)).attach();
                assert_eq!(destination(), None, "another context has no part in them");
            }
            assert_eq!(destination().as_deref(), Some("orders"));
        }
    }
    assert_eq!(current(), None);
}

/// What a reader sees of this thread's attributes.
fn published_attribute(key: Key) -> Option<String> {
    use spanprof::context::{locate, memory::ProcessMemory};
    let process = std::process::id();
    let slot = locate::thread_slot(process).unwrap().expect("installed");
    let mut buffer = [0; 640];
    let record =
        locate::read_thread(&ProcessMemory::new(process), thread_pointer(), &slot, &mut buffer).unwrap()?;
    record.attribute(key as u8).map(str::to_owned)
}

fn thread_pointer() -> u64 {
    let pointer: u64;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the ABI keeps the thread pointer itself at fs:0.
    unsafe {
        std::arch::asm!("mov {}, fs:0", out(reg) pointer);
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads a register that user code may read.
    unsafe {
        std::arch::asm!("mrs {}, tpidr_el0", out(reg) pointer);
    }
    pointer
}

#[test]
fn threads_publish_each_their_own() {
    install();
    let tracer = tracer();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let outer = Context::new().with_span(tracer.start("outer"));
                    let expected = ids(outer.span().span_context());
                    let _outer = outer.attach();
                    assert_eq!(current(), Some(expected));
                    let _inner = tracing::info_span!("inner").entered();
                    assert_eq!(current(), active());
                    assert_ne!(current(), Some(expected));
                }
            });
        }
    });
}

/// Checks, in each poll, before and after polling a future, that the thread publishes what is true.
struct Checked<F> {
    future: F,
    truth: SpanContext,
    watch: Arc<Watch>,
}

#[derive(Default)]
struct Watch {
    checks: AtomicU64,
    wrong: AtomicU64,
    hops: AtomicU64,
}

impl Watch {
    fn check(&self, expected: Option<SpanContext>) {
        self.checks.fetch_add(1, Ordering::Relaxed);
        if current() != expected {
            self.wrong.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<F: Future + Unpin> Future for Checked<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<F::Output> {
        let truth = self.truth;
        self.watch.check(Some(truth));
        let result = Pin::new(&mut self.future).poll(task);
        self.watch.check(Some(truth));
        result
    }
}

/// Pending once; woken by itself, so that any thread may take the task.
async fn hop() {
    tokio::task::yield_now().await;
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("a runtime")
}

#[test]
fn tasks_that_hop_threads_are_never_published_wrong() {
    install();
    const TASKS: usize = 64;
    const STEPS: u64 = 400;
    let watch = Arc::new(Watch::default());
    let threads = Arc::new(Mutex::new(HashSet::new()));
    runtime().block_on(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (watch, outside, threads) = (watch.clone(), watch.clone(), threads.clone());
                let span = tracing::info_span!(parent: None, "process message");
                let body = async move {
                    let truth = active().expect("inside the span");
                    for step in 0..STEPS {
                        let before = thread::current().id();
                        watch.check(Some(truth));
                        Checked { future: Box::pin(hop()), truth, watch: watch.clone() }.await;
                        watch.check(Some(truth));
                        if thread::current().id() != before {
                            watch.hops.fetch_add(1, Ordering::Relaxed);
                            threads.lock().unwrap().insert(thread::current().id());
                        }
                        if step % 4 == 0 {
                            let inner = tracing::info_span!("parse");
                            async {
                                let truth = active().expect("inside the span");
                                Checked { future: Box::pin(hop()), truth, watch: watch.clone() }.await;
                            }
                            .instrument(inner)
                            .await;
                        }
                    }
                };
                tokio::spawn(async move {
                    outside.check(None);
                    body.instrument(span).await;
                    outside.check(None);
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no task panics");
        }
    });
    let checks = watch.checks.load(Ordering::Relaxed);
    assert_eq!(watch.wrong.load(Ordering::Relaxed), 0, "of {checks}");
    assert!(checks >= 100_000, "only {checks} checks");
    assert!(watch.hops.load(Ordering::Relaxed) > 0, "no task hopped, so nothing was tested");
}

#[test]
fn cancelled_and_panicking_tasks_leave_nothing() {
    install();
    let runtime = runtime();
    let watch = Arc::new(Watch::default());
    runtime.block_on(async {
        for round in 0..500u32 {
            let started = Arc::new(tokio::sync::Notify::new());
            let signal = started.clone();
            let task = tokio::spawn(
                async move {
                    signal.notify_one();
                    if round % 2 == 0 {
                        std::future::pending::<()>().await;
                    }
                    std::panic::resume_unwind(Box::new(()));
                }
                .instrument(tracing::info_span!(parent: None, "doomed")),
            );
            started.notified().await;
            task.abort();
            let result = task.await;
            assert!(result.is_err());
            // Whichever thread takes this task ran doomed ones before.
            let watch = watch.clone();
            tokio::spawn(async move { watch.check(None) }).await.expect("it only looks");
        }
    });
    assert_eq!(watch.wrong.load(Ordering::Relaxed), 0);
    assert_eq!(watch.checks.load(Ordering::Relaxed), 500);
}

#[test]
fn a_second_installation_updates_the_process_context() {
    install();
    let instance = || {
        let found = spanprof::context::process::read(std::process::id()).unwrap().unwrap();
        let id = found.context.resource_attribute("service.instance.id");
        id.and_then(|value| value.as_str().map(str::to_owned)).expect("every service has an instance id")
    };
    let before = instance();
    assert_eq!(before.len(), 36);
    let again = spanprof::Agent::builder().service_name("test").service_version("2").start();
    assert!(again.expect("nothing wrong was set").notes().is_empty(), "the observer is ours already");
    let found = spanprof::context::process::read(std::process::id()).unwrap().unwrap();
    let version = found
        .context
        .resource_attribute("service.version")
        .and_then(|value| value.as_str().map(str::to_owned));
    assert_eq!(version.as_deref(), Some("2"));
    assert_eq!(instance(), before, "it is the same instance still");
    assert_eq!(found.context.service_name(), Some("test"));
}
