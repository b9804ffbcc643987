//! A `tokio` server that echoes what 1,000 connections of another process send, each message under a span of its own.
//!
//! The other process is this program again (`--client ADDRESS`), so that the server's CPU time is its alone. The variant is
//! chosen by the features it is built with. It measures itself after half a second, for `--seconds N`, and tells one JSON
//! object.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use spanprof_benches::clock;
use spanprof_benches::variants::argument;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

const CONNECTIONS: usize = 1_000;
const MESSAGE: usize = 64;

static MESSAGES: AtomicU64 = AtomicU64::new(0);

fn main() {
    let client = std::env::args().skip_while(|word| word != "--client").nth(1);
    match client {
        Some(address) => runtime(1).block_on(send(&address)),
        None => serve(),
    }
}

fn runtime(threads: usize) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    runtime.expect("a runtime")
}

fn serve() {
    let seconds = argument("--seconds", 2);
    #[cfg(feature = "publishing")]
    let _agent = start_agent();
    let provider = SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("echo"));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))
        .expect("the first one");
    let runtime = runtime(2);
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port of the loopback");
    let address = listener.local_addr().expect("it is bound").to_string();
    runtime.spawn(accept(listener));
    let mut client = Command::new(std::env::current_exe().expect("a program knows its path"))
        .args(["--client", &address])
        .stdin(Stdio::null())
        .spawn()
        .expect("the client starts");
    while MESSAGES.load(Ordering::Relaxed) < 10 * CONNECTIONS as u64 {
        assert!(client.try_wait().expect("our child").is_none(), "the client has ended");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(500));
    let read = || [MESSAGES.load(Ordering::Relaxed), clock::process_cpu_ns(), clock::monotonic_ns()];
    let before = read();
    std::thread::sleep(Duration::from_secs(seconds));
    let after = read();
    client.kill().and_then(|()| client.wait()).expect("our child");
    let [messages, cpu, wall] = [0, 1, 2].map(|which| after[which] - before[which]);
    println!("{}", serde_json::json!({ "messages": messages, "cpu_ns": cpu, "wall_ns": wall }));
}

#[cfg(feature = "publishing")]
fn start_agent() -> spanprof::Agent {
    let builder = spanprof::Agent::builder().service_name("echo");
    #[cfg(feature = "self-profile")]
    let builder =
        builder.directory(std::env::temp_dir().join(format!("spanprof-echo-{}", std::process::id())));
    builder.start().expect("nothing wrong was set")
}

async fn accept(listener: TcpListener) {
    while let Ok((connection, _)) = listener.accept().await {
        connection.set_nodelay(true).expect("a TCP connection");
        #[cfg(not(feature = "self-profile"))]
        tokio::spawn(serve_connection(connection));
        #[cfg(feature = "self-profile")]
        tokio::spawn(spanprof::await_points::watch(serve_connection(connection)));
    }
}

async fn serve_connection(mut connection: TcpStream) {
    let mut message = [0; MESSAGE];
    loop {
        let span = tracing::info_span!("echo");
        if echo(&mut connection, &mut message).instrument(span).await.is_err() {
            return;
        }
        MESSAGES.fetch_add(1, Ordering::Relaxed);
    }
}

async fn echo(connection: &mut TcpStream, message: &mut [u8; MESSAGE]) -> std::io::Result<()> {
    connection.read_exact(message).await?;
    connection.write_all(message).await
}

async fn send(address: &str) {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let connection = TcpStream::connect(address).await.expect("the server listens");
        connection.set_nodelay(true).expect("a TCP connection");
        connections.push(tokio::spawn(ask(connection)));
    }
    for connection in connections {
        connection.await.expect("no connection panics");
    }
}

/// Sends and reads until the server is gone.
async fn ask(mut connection: TcpStream) {
    let mut message = [7; MESSAGE];
    while connection.write_all(&message).await.is_ok() && connection.read_exact(&mut message).await.is_ok() {}
}
