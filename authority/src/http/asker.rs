//! What does a request on the public listener say of who sends it?
//!
//! An access token by the scheme DPoP, with its proof, or by the scheme Bearer. Which of them will do is
//! for [`crate::services::sign_in`] to judge.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, Method};
use protocol::dpop::{NONCE_HEADER, PROOF_HEADER};
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::path::FullPath;
use warp::reply::Response;

use super::problem::{Answer, answer};
use super::public::insert;
use crate::services::Failure;
use crate::services::journey::Journey;
use crate::services::sign_in::{Shown, SignedIn};

/// The parts of a request that say who sends it, and what a proof must name.
pub struct Asked {
    pub method: Method,
    pub path: FullPath,
    pub headers: HeaderMap,
}

/// Takes every request.
pub fn asked() -> BoxedFilter<(Asked,)> {
    warp::method()
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .map(|method, path, headers| Asked {
            method,
            path,
            headers,
        })
        .boxed()
}

impl Asked {
    /// Nobody without an access token, and nobody with one that is not good.
    pub async fn signed_in(
        &self,
        journey: &Journey,
        now: Timestamp,
    ) -> Result<Option<SignedIn>, Failure> {
        match self.shown()? {
            None => Ok(None),
            Some(shown) => journey.sign_in.verify(&shown, now).await.map(Some),
        }
    }

    pub async fn must_be_signed_in(
        &self,
        journey: &Journey,
        now: Timestamp,
    ) -> Result<SignedIn, Failure> {
        let signed_in = self.signed_in(journey, now).await?;
        signed_in.ok_or_else(|| ProblemType::SignInNeeded.into())
    }

    fn shown(&self) -> Result<Option<Shown<'_>>, Failure> {
        let refused = || Failure::from(ProblemType::SignInRefused);
        let Some(header) = self.only(AUTHORIZATION).map_err(|Several| refused())? else {
            return Ok(None);
        };
        let (scheme, access_token) = header.split_once(' ').ok_or_else(refused)?;
        let proof = match scheme.to_ascii_lowercase().as_str() {
            "dpop" => Some(self.proof()?),
            "bearer" => None,
            _ => return Err(refused()),
        };
        Ok(Some(Shown {
            access_token: access_token.trim(),
            proof,
            method: self.method.as_str(),
            path: self.path.as_str(),
        }))
    }

    fn proof(&self) -> Result<&str, Failure> {
        let refused = |detail: &str| {
            let problem = Problem::new(ProblemType::ProofRefused).with_detail(detail);
            Failure::from(problem)
        };
        let proof = self.only(HeaderName::from_static(PROOF_HEADER));
        let proof = proof.map_err(|Several| refused("more than one proof"))?;
        proof.ok_or_else(|| refused("the DPoP header is missing"))
    }

    /// The text of a header that stands there once; what is no text stands for nothing good.
    pub(super) fn only(&self, name: HeaderName) -> Result<Option<&str>, Several> {
        let mut values = self.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => Ok(Some(value.to_str().unwrap_or_default())),
            (Some(_), Some(_)) => Err(Several),
        }
    }
}

/// A header that stands there more than once.
pub(super) struct Several;

/// The answer to a request that may carry a proof: with the nonce for the next one (RFC 9449, 8.2).
pub async fn answered(journey: &Arc<Journey>, result: Answer) -> Response {
    let mut response = answer(result);
    match journey.sign_in.nonce(journey.app.clock.now()).await {
        Ok(nonce) => insert(&mut response, HeaderName::from_static(NONCE_HEADER), &nonce),
        Err(error) => tracing::warn!(%error, "no nonce for the next proof"),
    }
    response
}
