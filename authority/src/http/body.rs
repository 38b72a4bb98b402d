//! How much does a request bring, and is it JSON?

use std::pin::pin;
use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use protocol::problem::{Problem, ProblemType};
use serde::de::DeserializeOwned;
use warp::Filter;
use warp::filters::BoxedFilter;

use super::problem::refuse;

/// How long a body may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// The whole body, at most `max` bytes of it, chunked or not.
pub fn bytes(max: u64) -> BoxedFilter<(Vec<u8>,)> {
    warp::body::stream()
        .and_then(move |stream| async move {
            match tokio::time::timeout(BODY_TIMEOUT, collect(stream, max)).await {
                Ok(collected) => collected.map_err(refuse),
                Err(_) => Err(refuse(malformed("the body did not arrive in time"))),
            }
        })
        .boxed()
}

/// A body that has arrived whole, and the media type that it is said to have.
#[derive(Debug)]
pub struct Arrived {
    media: Option<String>,
    bytes: Vec<u8>,
}

/// Every body of at most `max` bytes, read later: so that the filters in front have one type.
pub fn arrived(max: u64) -> BoxedFilter<(Arrived,)> {
    warp::header::optional::<String>("content-type")
        .and(bytes(max))
        .map(|media: Option<String>, bytes: Vec<u8>| Arrived { media, bytes })
        .boxed()
}

/// A JSON body of at most `max` bytes. The media type must say so, which a form of a foreign page
/// cannot.
pub fn json<T>(max: u64) -> BoxedFilter<(T,)>
where
    T: DeserializeOwned + Send + 'static,
{
    arrived(max)
        .and_then(|body: Arrived| async move { body.json().map_err(refuse) })
        .boxed()
}

impl Arrived {
    /// What stands in it, if it is JSON and says so.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let media = self.media.as_deref().unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default();
        if !media.trim().eq_ignore_ascii_case("application/json") {
            return Err(malformed("the body must be application/json"));
        }
        serde_json::from_slice(&self.bytes).map_err(malformed)
    }
}

async fn collect<S, B>(stream: S, max: u64) -> Result<Vec<u8>, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let mut stream = pin!(stream);
    let mut body = Vec::new();
    while let Some(chunk) = stream.next().await {
        let mut chunk = chunk.map_err(|_| malformed("the body broke off"))?;
        if body.len() as u64 + chunk.remaining() as u64 > max {
            let detail = format!("at most {max} bytes");
            return Err(Problem::new(ProblemType::BodyTooLarge).with_detail(detail));
        }
        while chunk.has_remaining() {
            let part = chunk.chunk();
            body.extend_from_slice(part);
            let taken = part.len();
            chunk.advance(taken);
        }
    }
    Ok(body)
}

fn malformed(detail: impl std::fmt::Display) -> Problem {
    Problem::new(ProblemType::MalformedRequest).with_detail(detail)
}
