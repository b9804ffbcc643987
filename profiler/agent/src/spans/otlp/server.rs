//! The receiver: OTLP over HTTP and over gRPC on one port, as OpenTelemetry's exporters speak them.
//!
//! What a sender may do is bounded: bytes of a request, compressed and not; requests at once; how long one may take to come.
//! Who is refused for want of room is told so by the status that the protocol has for it, and sends again.
//!
//! The requests' messages are not decoded by the framework: they are handed on byte for byte.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use flate2::read::GzDecoder;
use tokio::sync::{Semaphore, oneshot};
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::UnaryService;

use super::intake::{Intake, Refusal};

/// The largest request, compressed or not: what gRPC's own default allows.
const MAX_REQUEST: usize = 4 << 20;
/// Bytes of requests that are read at the same time.
const ROOM: usize = 16 << 20;
/// What room is given out in, in bytes.
const ROOM_UNIT: usize = 1 << 10;
/// How long a request waits for room before it is sent away.
const PATIENCE: Duration = Duration::from_secs(1);
/// From a request's first byte to its answer.
const MAX_DURATION: Duration = Duration::from_secs(10);
/// gRPC's path for OTLP's traces.
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// HTTP's.
const HTTP_PATH: &str = "/v1/traces";
const PROTOBUF: &str = "application/x-protobuf";

/// Why the receiver does not start.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// The address can't be listened on.
    #[error("cannot listen for spans on {address}: {source}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The system gave no thread or nothing to wait with.
    #[error("cannot start to receive spans: {0}")]
    Start(#[source] io::Error),
}

/// A receiver on a thread of its own; ends when it is dropped.
#[derive(Debug)]
pub struct OtlpReceiver {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl OtlpReceiver {
    /// Listens on an address; port 0 is any that is free.
    ///
    /// # Errors
    /// When the address is taken or not this machine's.
    pub fn start(address: SocketAddr, intake: Arc<Intake>) -> Result<OtlpReceiver, ReceiverError> {
        let listen = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) = listen().map_err(|source| ReceiverError::Address { address, source })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(ReceiverError::Start)?;
        let (stop, stopped) = oneshot::channel();
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let router = router(intake);
            tokio::select! {
                served = axum::serve(listener, router) => served,
                _ = stopped => Ok(()),
            }
        };
        let thread = std::thread::Builder::new()
            .name("spanprof-otlp".to_owned())
            .spawn(move || {
                // Serving ends by `stop` alone: what goes wrong with one connection is that connection's.
                let _: io::Result<()> = runtime.block_on(serve);
            })
            .map_err(ReceiverError::Start)?;
        Ok(OtlpReceiver { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for OtlpReceiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn router(intake: Arc<Intake>) -> Router {
    let room = Arc::new(Semaphore::new(ROOM / ROOM_UNIT));
    Router::new()
        .route(HTTP_PATH, post(take_http))
        .route(GRPC_PATH, post(take_grpc))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .layer(middleware::from_fn_with_state((room, Arc::clone(&intake)), bounded))
        .with_state(intake)
}

/// Refuses what is too much at once, and ends what takes too long.
async fn bounded(
    State((room, intake)): State<(Arc<Semaphore>, Arc<Intake>)>,
    request: Request,
    next: Next,
) -> Response {
    let is_grpc = request.uri().path() == GRPC_PATH;
    // Not a number of requests: a few slow senders of much would keep out many quick ones of little.
    let Ok(Ok(_room)) = tokio::time::timeout(PATIENCE, room.acquire_many(room_for(&request))).await else {
        let busy = intake.sent_away();
        return refuse(&busy, is_grpc);
    };
    match tokio::time::timeout(MAX_DURATION, next.run(request)).await {
        Ok(response) => response,
        Err(_) if is_grpc => {
            tonic::Status::deadline_exceeded("the request took too long to come").into_http()
        }
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the request took too long to come\n").into_response(),
    }
}

/// In units. A request that does not say its length, as with gRPC, may be of any.
fn room_for(request: &Request) -> u32 {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let length = length.and_then(|length| length.parse().ok()).unwrap_or(MAX_REQUEST);
    length.min(MAX_REQUEST).div_ceil(ROOM_UNIT).max(1) as u32
}

fn refuse(refusal: &Refusal, is_grpc: bool) -> Response {
    if is_grpc {
        return status_of(refusal).into_http();
    }
    match refusal {
        Refusal::Malformed(_) => (StatusCode::BAD_REQUEST, format!("{refusal}\n")).into_response(),
        Refusal::Busy => {
            let later = [(header::RETRY_AFTER, "1")];
            (StatusCode::SERVICE_UNAVAILABLE, later, format!("{refusal}\n")).into_response()
        }
    }
}

fn status_of(refusal: &Refusal) -> tonic::Status {
    match refusal {
        Refusal::Malformed(_) => tonic::Status::invalid_argument(refusal.to_string()),
        Refusal::Busy => tonic::Status::unavailable(refusal.to_string()),
    }
}

async fn take_http(State(intake): State<Arc<Intake>>, headers: HeaderMap, body: Bytes) -> Response {
    let value = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content_type = value(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    if content_type != PROTOBUF {
        let words = "only protobuf is understood here: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf\n";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, words).into_response();
    }
    let body = match value(header::CONTENT_ENCODING) {
        "" | "identity" => body,
        "gzip" => match gunzip(&body) {
            Ok(body) => body,
            Err(refused) => return refused.into_response(),
        },
        _ => {
            let words = "only gzip is understood here: set OTEL_EXPORTER_OTLP_COMPRESSION=gzip\n";
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, words).into_response();
        }
    };
    match intake.take(&body) {
        // An empty `ExportTraceServiceResponse`: all was taken.
        Ok(()) => ([(header::CONTENT_TYPE, PROTOBUF)], Bytes::new()).into_response(),
        Err(refusal) => refuse(&refusal, false),
    }
}

fn gunzip(body: &[u8]) -> Result<Bytes, (StatusCode, &'static str)> {
    let mut plain = Vec::new();
    let read = GzDecoder::new(body).take(MAX_REQUEST as u64 + 1).read_to_end(&mut plain);
    match read {
        Ok(length) if length <= MAX_REQUEST => Ok(plain.into()),
        Ok(_) => Err((StatusCode::PAYLOAD_TOO_LARGE, "more than 4 MB unpacked\n")),
        Err(_) => Err((StatusCode::BAD_REQUEST, "not gzip, or cut off\n")),
    }
}

async fn take_grpc(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    let mut grpc = tonic::server::Grpc::new(AsItCame)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MAX_REQUEST);
    grpc.unary(Export(intake), request).await.map(axum::body::Body::new)
}

/// The service's one call.
struct Export(Arc<Intake>);

impl UnaryService<Bytes> for Export {
    type Response = Bytes;
    type Future = std::future::Ready<Result<tonic::Response<Bytes>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let taken = self.0.take(request.get_ref());
        std::future::ready(match taken {
            Ok(()) => Ok(tonic::Response::new(Bytes::new())),
            Err(refusal) => Err(status_of(&refusal)),
        })
    }
}

/// Messages as bytes.
#[derive(Debug, Clone, Copy)]
struct AsItCame;

impl Codec for AsItCame {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = AsItCame;
    type Decoder = AsItCame;

    fn encoder(&mut self) -> AsItCame {
        AsItCame
    }

    fn decoder(&mut self) -> AsItCame {
        AsItCame
    }
}

impl Encoder for AsItCame {
    type Item = Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        bytes::BufMut::put(into, message);
        Ok(())
    }
}

impl Decoder for AsItCame {
    type Item = Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        let length = bytes::Buf::remaining(from);
        Ok(Some(bytes::Buf::copy_to_bytes(from, length)))
    }
}

#[cfg(test)]
mod tests;
