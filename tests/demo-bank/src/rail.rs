//! What does a bank do when M2Key asks it for money?
//!
//! ```text
//! POST /rail/<verb> ─▶ signature, digest, freshness, nonce (`signatures.rs`) ─▶ books ─▶ answer
//! ```
//! The same file plays a carrier: then the account is a phone number, and the books have caps.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use protocol::wire::rails::{
    AUTHORISE, CAPTURE, OrderCall, QUERY, RAIL_BODY_MAX, REFUND, REVERSE, RailAnswer, RefundCall,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use warp::filters::BoxedFilter;

use warp::reply::{Response, json as json_reply, with_status};
use warp::{Filter, Reply};

use crate::books::{Books, Caps};
use crate::signatures::{Arrived, Refused, Signatures};
use crate::{RailConfig, now};

/// The rail side of the bank.
pub(crate) struct RailDesk {
    books: Mutex<Books>,
    signatures: Signatures,
    /// Where the verbs lie, as the authority calls it.
    url: String,
    mishaps: Option<PathBuf>,
    counts: Mutex<HashMap<String, u64>>,
}

/// For tests alone: what goes wrong on purpose with calls of one verb.
#[derive(Deserialize)]
struct Mishap {
    how: How,
    /// Every so many calls.
    every: u64,
    #[serde(default)]
    ms: u64,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum How {
    /// Carried out, and answered with an error.
    Unanswered,
    /// Carried out, and answered late.
    Late,
    /// Carried out twice, as if the network had doubled the call.
    Twice,
    /// Not carried out, and answered with nonsense.
    Nonsense,
}

/// Why a call is not answered as it should be.
enum Failure {
    Refused(Refused),
    Unreadable,
    NoSuchVerb,
    Books,
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl RailDesk {
    pub(crate) fn open(config: &RailConfig, issuer: &str) -> std::io::Result<Arc<Self>> {
        let caps = Caps {
            payment_minor: config.payment_max_minor,
            month_minor: config.month_max_minor,
        };
        let accounts: Vec<_> = config
            .accounts
            .iter()
            .map(|it| (it.reference.clone(), it.amount))
            .collect();
        Ok(Arc::new(Self {
            books: Mutex::new(Books::open(&config.books, caps, &accounts)?),
            signatures: Signatures::new(config),
            url: format!("{issuer}/rail"),
            mishaps: config.mishaps.clone(),
            counts: Mutex::default(),
        }))
    }

    async fn serve(&self, verb: String, headers: HeaderMap, body: Bytes) -> Response {
        let mishap = self.mishap(&verb);
        if let Some(How::Nonsense) = mishap.as_ref().map(|it| it.how) {
            return "your call is important to us".into_response();
        }
        let done = self.carry_out(&verb, &headers, &body).await;
        match mishap.map(|it| (it.how, it.ms)) {
            Some((How::Unanswered, _)) => return StatusCode::BAD_GATEWAY.into_response(),
            Some((How::Late, ms)) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Some((How::Twice, _)) => {
                // The signature is checked once: what is doubled behind it must not matter.
                let again = self.ask_books(&verb, &body);
                if let (Ok(first), Ok(second)) = (&done, &again) {
                    assert_eq!(first, second, "the same call, answered differently");
                }
            }
            Some((How::Nonsense, _)) | None => {}
        }
        match done {
            Ok(answer) => json_reply(&answer).into_response(),
            Err(failure) => refusal(&verb, &failure),
        }
    }

    async fn carry_out(
        &self,
        verb: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<RailAnswer, Failure> {
        let url = format!("{}/{verb}", self.url);
        let arrived = Arrived {
            url: &url,
            headers,
            body,
        };
        self.signatures.check(&arrived, now()).await?;
        let answer = self.ask_books(verb, body)?;
        // The header is signed, and so is the body: they must say the same.
        let expected = format!("\"{}\"", answer.key);
        let given = headers
            .get("idempotency-key")
            .and_then(|it| it.to_str().ok());
        match given == Some(expected.as_str()) {
            true => Ok(answer),
            false => Err(Failure::Unreadable),
        }
    }

    fn ask_books(&self, verb: &str, body: &[u8]) -> Result<RailAnswer, Failure> {
        let mut books = self.books();
        let answered = match verb {
            AUTHORISE => books.authorise(&read::<OrderCall>(body)?, now()),
            CAPTURE => books.capture(&read::<OrderCall>(body)?, now()),
            REVERSE => books.reverse(&read::<OrderCall>(body)?, now()),
            QUERY => Ok(books.query(&read::<OrderCall>(body)?)),
            REFUND => books.refund(&read::<RefundCall>(body)?, now()),
            _ => return Err(Failure::NoSuchVerb),
        };
        answered.map_err(|error| {
            tracing::error!(%error, "the books cannot be written");
            Failure::Books
        })
    }

    /// Read anew at every call, so that a test can change its mind.
    fn mishap(&self, verb: &str) -> Option<Mishap> {
        let text = std::fs::read_to_string(self.mishaps.as_ref()?).ok()?;
        let mut all: HashMap<String, Mishap> = serde_json::from_str(&text).ok()?;
        let mishap = all.remove(verb)?;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(verb.to_owned()).or_default();
        *count += 1;
        count.is_multiple_of(mishap.every.max(1)).then_some(mishap)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `POST /rail/<verb>`.
pub(crate) fn routes(desk: &Arc<RailDesk>) -> BoxedFilter<(Response,)> {
    let desk = desk.clone();
    warp::path!("rail" / String)
        .and(warp::post())
        .and(warp::header::headers_cloned())
        .and(warp::body::content_length_limit(RAIL_BODY_MAX as u64))
        .and(warp::body::bytes())
        .then(move |verb, headers, body| {
            let desk = desk.clone();
            async move { desk.serve(verb, headers, body).await }
        })
        .boxed()
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|_| Failure::Unreadable)
}

fn refusal(verb: &str, failure: &Failure) -> Response {
    let (status, title) = match failure {
        Failure::Refused(refused) => (StatusCode::UNAUTHORIZED, refused.to_string()),
        Failure::Unreadable => (StatusCode::BAD_REQUEST, "not a call of a rail".to_owned()),
        Failure::NoSuchVerb => (StatusCode::NOT_FOUND, "no such verb".to_owned()),
        Failure::Books => {
            let title = "the books cannot be written".to_owned();
            (StatusCode::SERVICE_UNAVAILABLE, title)
        }
    };
    tracing::warn!(verb, %status, title, "a call was not carried out");
    with_status(json_reply(&json!({ "title": title })), status).into_response()
}
