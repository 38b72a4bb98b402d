//! What happens to the part of a request that no route reads?
//!
//! A refusal often comes before the body was read. Closing then resets the stream, and the client may
//! lose the refusal with it; so a reasonable rest is read and thrown away first.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// How much of a rest is read, in bytes, and for how long.
const REST_MAX: usize = 512 * 1024;
const REST_TIMEOUT: Duration = Duration::from_secs(2);

/// A body that comes back to its [`Owner`] when whoever read it is done.
pub(super) struct Lent {
    body: Option<Incoming>,
    owner: Arc<Mutex<Option<Incoming>>>,
}

pub(super) struct Owner(Arc<Mutex<Option<Incoming>>>);

pub(super) fn lend(body: Incoming) -> (Lent, Owner) {
    let owner = Arc::new(Mutex::new(None));
    let lent = Lent {
        body: Some(body),
        owner: owner.clone(),
    };
    (lent, Owner(owner))
}

impl Owner {
    /// Reads what is left, within limits.
    pub(super) async fn read_the_rest(self) {
        let back = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(body) = back.filter(|body| !body.is_end_stream()) {
            // A client that sends on for longer than this does not wait for an answer.
            let _ = tokio::time::timeout(REST_TIMEOUT, discard(body)).await;
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut read = 0;
    while read < REST_MAX {
        match body.frame().await {
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => return,
        }
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        *owner = self.body.take();
    }
}
