//! What does the agent ask of the authority once it has a certificate?

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pki::{Certificate, TrustAnchors, est};
use protocol::ids::{ChargeId, EventId};
use protocol::jwk::JwkSet;
use protocol::problem::Problem;
use protocol::time::Timestamp;
use protocol::wire::charges::{CHARGES_PATH, ChargeRequest};
use protocol::wire::claims::JWKS_PATH;
use protocol::wire::history::{
    DAY_PATH, DayReport, HISTORY_MAX, HISTORY_PATH, HistoryPage, HistoryQuery,
};
use protocol::wire::push::{ChargeState, EVENTS_PATH};
use protocol::wire::refunds::{REFUNDS_PATH, RefundRequest, RefundResponse};
use protocol::wire::reports::{REPORTS_PATH, ReportRequest, ReportResponse, TerminalEvent};
use protocol::wire::schedules::{PACES_FOLLOWED, PACES_HEADER, SCHEDULE_PATH, ScheduleResponse};
use protocol::wire::upkeep::{CHECKPOINT_HEADER, INSTANCE_HEADER, TRUST_HEADER, TRUST_PATH};
use reqwest::{RequestBuilder, Response};
use serde::de::DeserializeOwned;

use super::failure::CallError;
use super::names::Names;
use super::tls;
use crate::clock::{self, Clock};
use crate::error::AgentError;
use crate::identity::Identity;
use crate::rotation::Fetch;

/// How long a connection may take to come up.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one call may take (the push stream is no call).
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest answer that is read, in bytes.
pub(crate) const ANSWER_MAX: usize = 1_048_576;

pub(crate) const CACERTS_PATH: &str = "/.well-known/est/cacerts";

/// What the till asks of the authority.
#[async_trait]
pub trait ChargeDesk: Send + Sync {
    async fn start(&self, request: &ChargeRequest) -> Result<ChargeState, CallError>;
    async fn look(&self, charge: ChargeId) -> Result<ChargeState, CallError>;
    async fn cancel(&self, charge: ChargeId) -> Result<ChargeState, CallError>;
}

/// What the till asks of the merchant's books.
#[async_trait]
pub trait BooksDesk: Send + Sync {
    async fn refund(&self, request: &RefundRequest) -> Result<RefundResponse, CallError>;
    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, CallError>;
    async fn day(&self) -> Result<DayReport, CallError>;
}

/// What a terminal says of itself when it opens the push stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Greeting {
    /// The last revision it heard.
    pub last: Option<String>,
    /// The trust bundle it follows.
    pub trust_sequence: u64,
    /// The last audit checkpoint it saw.
    pub checkpoint: Option<String>,
    /// Which process of this terminal asks.
    pub instance: String,
}

/// The authority, over TLS with both sides' certificates.
#[derive(Clone)]
pub struct AuthorityClient {
    http: reqwest::Client,
    base: String,
}

impl AuthorityClient {
    pub(crate) fn new(
        base: &str,
        identity: &Identity,
        trust: &TrustAnchors,
        clock: Option<Arc<Clock>>,
        names: &Names,
    ) -> Result<Self, AgentError> {
        Self::with_tls(base, tls::verified(trust, Some(identity), clock)?, names)
    }

    /// Believes whoever answers: for what proves itself.
    pub(super) fn believing_anybody(base: &str, names: &Names) -> Result<Self, AgentError> {
        Self::with_tls(base, tls::unverified()?, names)
    }

    pub(super) fn with_tls(
        base: &str,
        config: rustls::ClientConfig,
        names: &Names,
    ) -> Result<Self, AgentError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .https_only(true)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .dns_resolver(names.clone())
            .build()
            .map_err(AgentError::bug)?;
        Ok(Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
        })
    }

    pub async fn schedule(&self, fetch: Fetch) -> Result<ScheduleResponse, CallError> {
        let path = match fetch {
            Fetch::Whole => SCHEDULE_PATH.to_owned(),
            Fetch::After(epoch) => format!("{SCHEDULE_PATH}?after={epoch}"),
        };
        let request = self.get(&path).header(PACES_HEADER, PACES_FOLLOWED);
        json(self.send(request).await?).await
    }

    pub async fn keys(&self) -> Result<JwkSet, CallError> {
        json(self.send(self.get(JWKS_PATH)).await?).await
    }

    /// What time it is there, to a second; none if the answer does not say. Asks for the keys, which costs
    /// nobody anything and tells nobody anything new.
    pub async fn time(&self) -> Result<Option<Timestamp>, CallError> {
        let answer = self.send(self.get(JWKS_PATH)).await?;
        let date = answer.headers().get(http::header::DATE);
        let date = date.and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        Ok(date.and_then(clock::of_system))
    }

    /// The trust bundle in force, as text; it proves itself.
    pub async fn trust(&self) -> Result<String, CallError> {
        let body = body(self.send(self.get(TRUST_PATH)).await?).await?;
        let text = std::str::from_utf8(&body).map_err(CallError::answer)?;
        Ok(text.to_owned())
    }

    /// Issuing CAs and roots, as EST shows them.
    pub(super) async fn cacerts(&self) -> Result<Vec<Certificate>, CallError> {
        let body = body(self.send(self.get(CACERTS_PATH)).await?).await?;
        est::decode(&body).map_err(CallError::answer)
    }

    pub async fn report(&self, events: Vec<TerminalEvent>) -> Result<Vec<EventId>, CallError> {
        let request = self
            .http
            .post(self.url(REPORTS_PATH))
            .json(&ReportRequest { events });
        let response: ReportResponse = json(self.send(request).await?).await?;
        Ok(response.stored)
    }

    /// The push stream; its body never ends by itself.
    pub async fn events(&self, greeting: &Greeting) -> Result<Response, CallError> {
        let mut request = self
            .http
            .get(self.url(EVENTS_PATH))
            .header(http::header::ACCEPT, "text/event-stream");
        request = request.header(TRUST_HEADER, greeting.trust_sequence);
        request = request.header(INSTANCE_HEADER, &greeting.instance);
        if let Some(last) = &greeting.last {
            request = request.header("last-event-id", last);
        }
        if let Some(checkpoint) = &greeting.checkpoint {
            request = request.header(CHECKPOINT_HEADER, checkpoint);
        }
        let response = tokio::time::timeout(CALL_TIMEOUT, request.send())
            .await
            .map_err(|_| timed_out())?
            .map_err(|e| CallError::of(&e))?;
        accepted(response).await
    }

    pub(super) fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(self.url(path))
    }

    pub(super) fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(self.url(path))
    }

    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, CallError> {
        let sent = request.timeout(CALL_TIMEOUT).send().await;
        accepted(sent.map_err(|e| CallError::of(&e))?).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

#[async_trait]
impl ChargeDesk for AuthorityClient {
    async fn start(&self, request: &ChargeRequest) -> Result<ChargeState, CallError> {
        json(self.send(self.post(CHARGES_PATH).json(request)).await?).await
    }

    async fn look(&self, charge: ChargeId) -> Result<ChargeState, CallError> {
        json(
            self.send(self.get(&format!("{CHARGES_PATH}/{charge}")))
                .await?,
        )
        .await
    }

    async fn cancel(&self, charge: ChargeId) -> Result<ChargeState, CallError> {
        let request = self
            .http
            .delete(self.url(&format!("{CHARGES_PATH}/{charge}")));
        json(self.send(request).await?).await
    }
}

#[async_trait]
impl BooksDesk for AuthorityClient {
    async fn refund(&self, request: &RefundRequest) -> Result<RefundResponse, CallError> {
        json(self.send(self.post(REFUNDS_PATH).json(request)).await?).await
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, CallError> {
        let mut path = format!(
            "{HISTORY_PATH}?limit={}",
            query.limit.unwrap_or(HISTORY_MAX)
        );
        if let Some(cursor) = query.cursor.as_deref().filter(|cursor| is_plain(cursor)) {
            path += &format!("&cursor={cursor}");
        }
        json(self.send(self.get(&path)).await?).await
    }

    async fn day(&self) -> Result<DayReport, CallError> {
        json(self.send(self.get(DAY_PATH)).await?).await
    }
}

/// Cursors are digits, letters and dots; nothing else goes into an address.
pub(crate) fn is_plain(cursor: &str) -> bool {
    cursor
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'.')
}

/// A refusal becomes its problem.
async fn accepted(response: Response) -> Result<Response, CallError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    if status.is_redirection() || status == http::StatusCode::NETWORK_AUTHENTICATION_REQUIRED {
        // An authority sends nobody elsewhere; a network that asks people to sign in does.
        let detail = format!("it answers with HTTP status {status}");
        return Err(CallError::Elsewhere { detail });
    }
    let body = body(response).await?;
    Err(match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => CallError::Refused(Box::new(problem)),
        Err(_) => CallError::answer(format!("HTTP status {status} without an explanation")),
    })
}

async fn json<T: DeserializeOwned>(response: Response) -> Result<T, CallError> {
    // The error of a secret's reader says where it stumbled, never over what.
    serde_json::from_slice(&body(response).await?).map_err(CallError::answer)
}

pub(super) async fn body(mut response: Response) -> Result<zeroize::Zeroizing<Vec<u8>>, CallError> {
    let mut all = zeroize::Zeroizing::new(Vec::new());
    while let Some(part) = response.chunk().await.map_err(|e| CallError::of(&e))? {
        if all.len() + part.len() > ANSWER_MAX {
            return Err(CallError::answer(format!("longer than {ANSWER_MAX} bytes")));
        }
        all.extend_from_slice(&part);
    }
    Ok(all)
}

fn timed_out() -> CallError {
    CallError::Unreachable {
        detail: "no answer in time".into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn whoever_sends_a_terminal_elsewhere_is_not_said_to_have_been_sent_nothing() {
        for status in [301, 302, 307, 511] {
            let answer = http::Response::builder().status(status).body("").unwrap();
            let error = accepted(answer.into()).await.unwrap_err();
            let hint = error.hint();
            assert!(error.is_stranger() && hint.contains("sign in"), "{status}");
            assert!(hint.contains("may have read"), "{status}: {hint}");
            assert!(!hint.contains("nothing was sent"), "{status}: {hint}");
        }
    }
}
