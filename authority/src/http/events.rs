//! How is a push stream an answer?
//!
//! The route answers with a head and the subscription; whoever has the connection decides how the frames
//! are written: as the body of the answer, or straight to the connection once it carries nothing else.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use protocol::wire::push::STATE_EVENT;
use tokio_stream::wrappers::ReceiverStream;
use warp::Reply;
use warp::reply::Response;
use warp::sse::Event;

use super::public::insert;
use crate::services::push::{Frame, Subscription};

/// The subscription on its way from the route to the connection.
#[derive(Clone)]
struct Pushing(Arc<Mutex<Option<Subscription>>>);

/// An answer whose body is still to be made.
pub(super) fn answer(subscription: Subscription) -> Response {
    let mut response = Response::default();
    insert(&mut response, CONTENT_TYPE, "text/event-stream");
    insert(&mut response, CACHE_CONTROL, "no-cache");
    let pushing = Pushing(Arc::new(Mutex::new(Some(subscription))));
    response.extensions_mut().insert(pushing);
    response
}

/// What this answer streams, if it does.
pub(crate) fn taken_from(response: &mut Response) -> Option<Subscription> {
    let Pushing(pushing) = response.extensions_mut().remove::<Pushing>()?;
    pushing
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
}

/// The same answer with the frames as its body.
pub(crate) fn with_body(mut response: Response, subscription: Subscription) -> Response {
    let frames = ReceiverStream::new(subscription.into_channel());
    let events = frames.map(|frame| Ok::<_, Infallible>(event(&frame)));
    *response.body_mut() = warp::sse::reply(events).into_response().into_body();
    response
}

fn event(frame: &Frame) -> Event {
    match frame {
        Frame::State(state) => Event::default()
            .id(state.revision.to_string())
            .event(STATE_EVENT)
            .json_data(state)
            .expect(SERIALIZES),
        Frame::KeepAlive => Event::default().comment(""),
    }
}

const SERIALIZES: &str = "a state serializes: its times are the clock's and the store's";

/// One frame as it stands on the wire (HTML, 9.2.6).
pub(crate) fn text(frame: &Frame) -> String {
    match frame {
        Frame::State(state) => {
            let data = serde_json::to_string(state).expect(SERIALIZES);
            format!(
                "id: {}\nevent: {STATE_EVENT}\ndata: {data}\n\n",
                state.revision
            )
        }
        Frame::KeepAlive => ":\n\n".into(),
    }
}
