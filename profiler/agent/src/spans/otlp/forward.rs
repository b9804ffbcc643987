//! Hands requests on to a collector, one after the other and in order, on a thread of its own.
//!
//! While the collector is away requests wait in the [`Spool`], compressed as they will be sent; when that is full, senders are sent away and keep what they
//! have. So nothing is lost that either has room for, and what is given up is counted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use spanprof_exporter::otlp::TraceForwarder;
use tokio::sync::oneshot;

use super::spool::Spool;

/// What waits at the end is sent on for so long at most.
const AT_THE_END: Duration = Duration::from_secs(2);

/// What became of requests since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForwardCounts {
    /// Taken by the collector.
    pub forwarded: u64,
    /// Refused by it for good, or not taken within patience.
    pub given_up: u64,
    /// Still waiting.
    pub waiting: u64,
}

/// Hands on until it is dropped, and a little longer.
#[derive(Debug)]
pub struct Forwarding {
    spool: Arc<Spool>,
    counts: Arc<Counts>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    forwarded: AtomicU64,
    given_up: AtomicU64,
}

impl Forwarding {
    /// Begins to hand on what is in the spool.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(spool: Arc<Spool>, forwarder: TraceForwarder) -> io::Result<Forwarding> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let counts = Arc::new(Counts::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let work = {
            let (spool, counts) = (Arc::clone(&spool), Arc::clone(&counts));
            async move {
                tokio::select! {
                    () = hand_on(&spool, &forwarder, &counts) => {}
                    () = ended(stopped, &spool) => {}
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("spanprof-forward".to_owned())
            .spawn(move || runtime.block_on(work))?;
        Ok(Forwarding { spool, counts, stop: Some(stop), thread: Some(thread) })
    }

    /// What became of requests so far.
    pub fn counts(&self) -> ForwardCounts {
        ForwardCounts {
            forwarded: self.counts.forwarded.load(Ordering::Relaxed),
            given_up: self.counts.given_up.load(Ordering::Relaxed),
            waiting: self.spool.len() as u64,
        }
    }

    /// Hands on what waits, for two seconds at most, and ends.
    pub fn finish(mut self) -> ForwardCounts {
        self.end();
        self.counts()
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.end();
    }
}

async fn hand_on(spool: &Spool, forwarder: &TraceForwarder, counts: &Counts) {
    loop {
        let request = spool.first().await;
        let count = match forwarder.forward(request).await.given_up {
            None => &counts.forwarded,
            Some(_) => &counts.given_up,
        };
        count.fetch_add(1, Ordering::Relaxed);
        spool.done();
    }
}

/// Once it was said that it is the end: when nothing waits any more, or time is up.
async fn ended(stopped: oneshot::Receiver<()>, spool: &Spool) {
    let _ = stopped.await;
    let _ = tokio::time::timeout(AT_THE_END, spool.emptied()).await;
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Mutex;

    use axum::Router;
    use axum::body::Bytes;
    use axum::extract::State;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::post;
    use spanprof_exporter::delivery::Credentials;
    use spanprof_exporter::otlp::packed;

    use super::*;

    /// A collector that keeps what it takes, unpacked.
    #[derive(Clone, Default)]
    struct Collector(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Collector {
        /// Serves for as long as the runtime lives, on an address that is given or free.
        fn serve(&self, runtime: &tokio::runtime::Runtime, address: Option<SocketAddr>) -> SocketAddr {
            let address = address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
            let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).expect("it is free");
            let address = listener.local_addr().expect("it listens");
            let router = Router::new().route("/v1/traces", post(Self::take)).with_state(self.clone());
            runtime.spawn(async move { axum::serve(listener, router).await });
            address
        }

        async fn take(State(collector): State<Self>, headers: HeaderMap, body: Bytes) -> StatusCode {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            let mut plain = Vec::new();
            let read = io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*body), &mut plain);
            read.expect("it is gzip");
            if plain == b"refused" {
                return StatusCode::BAD_REQUEST;
            }
            collector.0.lock().expect("nobody panics").push(plain);
            StatusCode::OK
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        let builder = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        builder.expect("it can be had")
    }

    fn forwarder(address: SocketAddr) -> TraceForwarder {
        let url = format!("http://{address}");
        TraceForwarder::new(&url, &Credentials::None, Duration::from_secs(60)).expect("it is an address")
    }

    #[test]
    fn requests_arrive_as_they_came_and_in_order() {
        let (runtime, collector) = (runtime(), Collector::default());
        let address = collector.serve(&runtime, None);
        let spool = Arc::new(Spool::new(1 << 20));
        let forwarding = Forwarding::start(Arc::clone(&spool), forwarder(address)).expect("a thread");
        for text in ["one", "refused", "two"] {
            assert!(spool.push(packed(text.as_bytes())));
        }
        let counts = forwarding.finish();
        assert_eq!(counts, ForwardCounts { forwarded: 2, given_up: 1, waiting: 0 });
        assert_eq!(*collector.0.lock().expect("nobody panics"), [b"one", b"two"]);
    }

    #[test]
    fn a_collector_that_was_away_gets_everything() {
        let (first, collector) = (runtime(), Collector::default());
        // Its address, and nobody there.
        let address = Collector::default().serve(&first, None);
        drop(first);
        let spool = Arc::new(Spool::new(1 << 20));
        let forwarding = Forwarding::start(Arc::clone(&spool), forwarder(address)).expect("a thread");
        for number in 0..100_u8 {
            assert!(spool.push(packed(&[number])));
        }
        let second = runtime();
        collector.serve(&second, Some(address));
        second.block_on(spool.emptied());
        assert_eq!(forwarding.finish().forwarded, 100);
        let taken = collector.0.lock().expect("nobody panics");
        assert_eq!(*taken, (0..100_u8).map(|number| vec![number]).collect::<Vec<_>>());
    }
}
