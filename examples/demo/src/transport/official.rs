//! What a service on an official broker has to write itself where helpers make its spans: the handler, and no more.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use opentelemetry::Context;
use opentelemetry::trace::SpanId;
use spanprof_messaging::{Carrier, TraceContext};

use crate::consumer::{Ids, Shop, handle};

/// Runs an order's handlers, which block, on a thread for that, within the span that is current here.
pub(crate) async fn work(shop: Arc<Shop>, producer_span: SpanId, payload: Vec<u8>) -> io::Result<()> {
    let began = Instant::now();
    let process = Context::current();
    let ids = Ids::of(&process, producer_span);
    let shop_of_handler = Arc::clone(&shop);
    let handler = tokio::task::spawn_blocking(move || {
        let _entered = process.attach();
        handle(&shop_of_handler, &payload)
    });
    match handler.await.map_err(io::Error::from).and_then(|handled| handled) {
        Ok(handled) => {
            shop.finish(handled, &ids, began);
            Ok(())
        }
        Err(error) => {
            shop.fail(&error);
            Err(error)
        }
    }
}

/// The span that sent a message; an invalid one where it carries none.
pub(crate) fn producer_span(message: &impl Carrier) -> SpanId {
    TraceContext::extract(message).map_or(SpanId::INVALID, |context| context.to_opentelemetry().span_id())
}

/// Where a fixture says that its broker is.
pub(crate) fn address(told: &str) -> SocketAddr {
    told.parse().expect("a fixture tells an address and a port")
}
