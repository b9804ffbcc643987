//! The page's listener: HTTP/1.1 for a browser on this machine.
//!
//! What a visitor may do is bounded: connections at once, bytes of a request's head, how long a connection lives. Whoever comes
//! when all places are taken waits in the kernel's queue.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

pub(crate) use super::answer::Site;
use super::answer::answer;

/// Connections at the same time: a browser makes six.
const CONNECTIONS: usize = 32;
/// Bytes of a request's head, and of an answer that wait for a slow reader.
const BUFFER: usize = 128 << 10;
/// Headers of a request.
const HEADERS: usize = 64;
/// How long a request's head may take to come, also the first one.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// After this a connection takes no further request.
const LIFE: Duration = Duration::from_secs(60);
/// And so much later it is cut, wherever it is.
const LAST_ANSWER: Duration = Duration::from_secs(60);
/// How much our threads stand back behind others, the capture and the services among them.
const NICE: i32 = 10;

/// Why the page can't be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PageError {
    /// The address can't be listened on.
    #[error("cannot serve the page on {address}: {source}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The system gave no thread or nothing to wait with.
    #[error("cannot start to serve the page: {0}")]
    Start(#[source] io::Error),
}

/// A server on a thread of its own; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct PageServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl PageServer {
    /// Listens on an address; port 0 is any that is free.
    ///
    /// # Errors
    /// When the address is taken or not this machine's.
    pub(crate) fn start(address: SocketAddr, site: Site) -> Result<PageServer, PageError> {
        let listen = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) = listen().map_err(|source| PageError::Address { address, source })?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .on_thread_start(stand_back)
            .build()
            .map_err(PageError::Start)?;
        let (stop, stopped) = oneshot::channel();
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::select! {
                served = accept(listener, Arc::new(site)) => served,
                _ = stopped => Ok(()),
            }
        };
        let thread = std::thread::Builder::new()
            .name("spanprof-page".to_owned())
            .spawn(move || {
                stand_back();
                // Serving ends by `stop` alone: what goes wrong with one connection is that connection's.
                let _: io::Result<()> = runtime.block_on(serve);
                // Work under way is for nobody any more.
                runtime.shutdown_background();
            })
            .map_err(PageError::Start)?;
        Ok(PageServer { address, stop: Some(stop), thread: Some(thread) })
    }

    /// What to open in a browser.
    pub(crate) fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            let loopback: std::net::IpAddr = match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            };
            address.set_ip(loopback);
        }
        format!("http://{address}/")
    }
}

impl Drop for PageServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panicked where this fails, which it said.
            let _ = thread.join();
        }
    }
}

/// Lets the calling thread yield to others.
fn stand_back() {
    // SAFETY: plain numbers go in; 0 is the calling thread. A refusal changes nothing.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

async fn accept(listener: tokio::net::TcpListener, site: Arc<Site>) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
        match listener.accept().await {
            Ok((stream, _)) => {
                let site = Arc::clone(&site);
                tokio::spawn(async move {
                    connection(stream, site).await;
                    drop(place);
                });
            }
            // Such as no descriptor being free: it may be over in a moment.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connection(stream: TcpStream, site: Arc<Site>) {
    let Ok(reached) = stream.local_addr() else { return };
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(answer(site, request, reached).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_headers(HEADERS)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let first = tokio::time::timeout(LIFE, connection.as_mut()).await;
    if first.is_err() {
        connection.as_mut().graceful_shutdown();
        // What goes wrong with a visitor's connection concerns that visitor.
        let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
    }
}

#[cfg(test)]
mod tests;
