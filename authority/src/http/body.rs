//! How much does a request bring, and is it JSON?

use std::pin::pin;
use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use protocol::problem::{Problem, ProblemType};
use serde::de::DeserializeOwned;
use warp::{Filter, Rejection};

use super::problem::refuse;

/// How long a body may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// The whole body, at most `max` bytes of it, chunked or not.
pub fn bytes(max: u64) -> impl Filter<Extract = (Vec<u8>,), Error = Rejection> + Clone {
    warp::body::stream().and_then(move |stream| async move {
        match tokio::time::timeout(BODY_TIMEOUT, collect(stream, max)).await {
            Ok(collected) => collected.map_err(refuse),
            Err(_) => Err(refuse(malformed("the body did not arrive in time"))),
        }
    })
}

/// A JSON body of at most `max` bytes. The media type must say so, which a form of a foreign page
/// cannot.
pub fn json<T>(max: u64) -> impl Filter<Extract = (T,), Error = Rejection> + Clone
where
    T: DeserializeOwned + Send,
{
    warp::header::optional::<String>("content-type")
        .and(bytes(max))
        .and_then(|media: Option<String>, body: Vec<u8>| async move {
            read(media.as_deref(), &body).map_err(refuse)
        })
}

fn read<T: DeserializeOwned>(media: Option<&str>, body: &[u8]) -> Result<T, Problem> {
    let media = media
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    if !media.trim().eq_ignore_ascii_case("application/json") {
        return Err(malformed("the body must be application/json"));
    }
    serde_json::from_slice(body).map_err(malformed)
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
