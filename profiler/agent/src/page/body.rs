//! An answer's body: bytes that are there, handed out piece by piece, so that it is known when the last of them has gone.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

/// What is given to the connection at once, in bytes. A slow reader's connection holds two or three of these, and the rest
/// stays shared with the cache.
const PIECE: usize = 64 << 10;

/// A body with the room that its bytes take, which is given back when they have gone.
#[derive(Debug)]
pub(super) struct Whole {
    bytes: Bytes,
    room: Option<OwnedSemaphorePermit>,
}

impl Whole {
    /// A body of these bytes that holds a permit until it is sent.
    pub(super) fn holding(bytes: Bytes, room: Option<OwnedSemaphorePermit>) -> Whole {
        Whole { bytes, room }
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.bytes.is_empty() {
            self.room = None;
            return Poll::Ready(None);
        }
        let piece = self.bytes.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.bytes.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}
