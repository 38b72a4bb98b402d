//! How much does a request on loopback bring, and is it JSON?

use std::pin::pin;
use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use protocol::problem::{Problem, ProblemType};
use serde::de::DeserializeOwned;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reject::Rejection;
use zeroize::Zeroizing;

use crate::http::reject;

/// Largest body that is read, in bytes.
pub const BODY_MAX: usize = 4_096;
/// How much more is heard out and thrown away, in bytes: who still sends does not hear the refusal.
pub const HEARD_OUT_MAX: usize = 4_194_304;
/// How long a body may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The body as JSON, whole and not too large. The media type must say so, which a form of a foreign page
/// cannot.
pub fn json<T: DeserializeOwned + Send + 'static>() -> BoxedFilter<(T,)> {
    warp::header::optional::<String>("content-type")
        .and(warp::body::stream())
        .and_then(|media: Option<String>, stream| async move {
            let media = media.unwrap_or_default();
            match tokio::time::timeout(BODY_TIMEOUT, collected(stream)).await {
                Ok(body) => read(&media, &body.map_err(reject)?),
                Err(_) => Err(reject(malformed("the body did not arrive in time"))),
            }
        })
        .boxed()
}

fn read<T: DeserializeOwned>(media: &str, body: &[u8]) -> Result<T, Rejection> {
    let media = media.split(';').next().unwrap_or_default();
    if !media.trim().eq_ignore_ascii_case("application/json") {
        return Err(reject(malformed("the body must be application/json")));
    }
    serde_json::from_slice(body).map_err(|error| reject(malformed(error)))
}

/// It may hold a PIN.
async fn collected<S, B>(stream: S) -> Result<Zeroizing<Vec<u8>>, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let mut stream = pin!(stream);
    let mut body = Zeroizing::new(Vec::with_capacity(BODY_MAX));
    let mut length = 0;
    while let Some(part) = stream.next().await {
        let mut part = part.map_err(|_| malformed("the body broke off"))?;
        length += part.remaining();
        if length > HEARD_OUT_MAX {
            break;
        }
        if length <= BODY_MAX {
            let size = part.remaining();
            body.extend_from_slice(&part.copy_to_bytes(size));
        }
    }
    if length > BODY_MAX {
        let detail = format!("at most {BODY_MAX} bytes");
        return Err(Problem::new(ProblemType::BodyTooLarge).with_detail(detail));
    }
    Ok(body)
}

fn malformed(detail: impl std::fmt::Display) -> Problem {
    Problem::new(ProblemType::MalformedRequest).with_detail(detail)
}
