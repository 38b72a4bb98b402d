//! What is asked for, and what does an operator sign to say yes or no?

use protocol::jws::Purpose;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::policy::Policy;
use super::statement::{BadStatement, Dated, Signed};
use crate::names::{SpiffeId, TrustDomain};

/// How far the clocks of an operator's machine and of the authority may be apart, in seconds.
pub const SKEW_MAX_S: i64 = 300;
/// Largest body that can be asked for, in bytes of JSON. Most have some hundred; a trust bundle has every
/// list of roots there ever was.
pub const BODY_MAX_BYTES: usize = 160 * 1024;
/// Longest reason of a refusal, in bytes.
pub const REASON_MAX_BYTES: usize = 200;

/// Exactly what will be carried out. Signed by the operator who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// SPIFFE ID of the authority that is asked.
    pub iss: String,
    /// Of this request; carried out once.
    pub jti: String,
    /// The life of the authority's database: after a restore nothing asked for before is good.
    pub generation: u32,
    pub verb: String,
    pub body: Value,
    /// Name of the operator who asks.
    pub asked_by: String,
    /// Unix seconds by the authority's clock.
    pub iat: i64,
    pub exp: i64,
    /// How many must consent besides the one who asks.
    pub required: u32,
    /// What says so.
    pub policy: Policy,
}

/// An operator wants exactly this request to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// The `jti` of the request.
    pub request: String,
    /// SHA-256 of the request's bytes (the JWS payload), lower-case hex.
    pub request_sha256: String,
    /// Name of the operator.
    pub by: String,
    /// Unix seconds by the operator's clock.
    pub iat: i64,
}

/// An operator does not want it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    pub request: String,
    pub request_sha256: String,
    pub by: String,
    pub iat: i64,
    pub reason: String,
}

impl Purpose for Request {
    const TYP: &'static str = protocol::typ::REQUEST;
}

impl Purpose for Consent {
    const TYP: &'static str = protocol::typ::CONSENT;
}

impl Purpose for Refusal {
    const TYP: &'static str = protocol::typ::REFUSAL;
}

impl Dated for Request {
    fn said_at(&self) -> i64 {
        self.iat
    }
    fn said_by(&self) -> &str {
        &self.asked_by
    }
}

impl Dated for Consent {
    fn said_at(&self) -> i64 {
        self.iat
    }
    fn said_by(&self) -> &str {
        &self.by
    }
}

impl Dated for Refusal {
    fn said_at(&self) -> i64 {
        self.iat
    }
    fn said_by(&self) -> &str {
        &self.by
    }
}

impl Request {
    /// Whether it keeps its own rules; `domain` is the one it must belong to.
    pub fn check(&self, domain: &TrustDomain) -> Result<(), BadStatement> {
        let life_s = i64::from(self.policy.life_h) * 3600;
        let authority = SpiffeId::parse(&self.iss, domain);
        let in_order = matches!(authority, Ok(SpiffeId::Authority(_)))
            && self.policy.check().is_ok()
            && self.exp.saturating_sub(self.iat) == life_s
            && self.required == self.policy.required_for(&self.verb)
            && self.body.to_string().len() <= BODY_MAX_BYTES;
        match in_order {
            true => Ok(()),
            false => Err(BadStatement::Claims),
        }
    }

    /// The trust domain in `iss`: nobody vouches for it before the request is verified in it.
    pub fn domain(&self) -> Option<TrustDomain> {
        let rest = self.iss.strip_prefix("spiffe://")?;
        rest.split_once('/')?.0.parse().ok()
    }
}

impl Signed<Request> {
    /// The consent of `by` to this request.
    pub fn consent(&self, by: &str, iat: i64) -> Consent {
        Consent {
            request: self.claims().jti.clone(),
            request_sha256: self.sha256_hex(),
            by: by.to_owned(),
            iat,
        }
    }

    /// The refusal of `by`.
    pub fn refusal(&self, by: &str, reason: &str, iat: i64) -> Refusal {
        let Consent {
            request,
            request_sha256,
            by,
            iat,
        } = self.consent(by, iat);
        Refusal {
            request,
            request_sha256,
            by,
            iat,
            reason: reason.to_owned(),
        }
    }

    /// Whether a statement about `request` and `sha256` is about this one, made in its time.
    pub fn is_meant(&self, request: &str, sha256: &str, iat: i64) -> Result<(), BadStatement> {
        if request != self.claims().jti || sha256 != self.sha256_hex() {
            return Err(BadStatement::OtherRequest);
        }
        let (from, until) = (
            self.claims().iat - SKEW_MAX_S,
            self.claims().exp + SKEW_MAX_S,
        );
        match (from..=until).contains(&iat) {
            true => Ok(()),
            false => Err(BadStatement::OutOfTime),
        }
    }
}
