//! Did the wallet's shopper agree to this, just now, and with this wallet's key?

use protocol::dpop::JTI_MAX;
use protocol::jwk::JwkSet;
use protocol::jws::{self, BadJws};
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;
use protocol::wire::wallet::{
    APPROVAL_FUTURE_MS, APPROVAL_PAST_MS, PaymentRequest, SignedApproval, token_hash,
};
use sha2::{Digest, Sha256};

use super::Holder;
use crate::services::Failure;
use crate::store::KeptApproval;

/// An approval that the wallet's key signed over this very token. Only [`Agreed::read`] makes one.
pub(super) struct Agreed {
    claims: SignedApproval,
    jws: String,
}

/// Why an approval does not count. The wallet hears it: it is its own statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum BadApproval {
    #[error(transparent)]
    Jws(#[from] BadJws),
    #[error("meant for another authority")]
    Audience,
    #[error("for another token")]
    Token,
    #[error("its jti is empty or too long")]
    Jti,
    #[error("signed too long ago, or not yet")]
    Time,
}

impl From<BadApproval> for Failure {
    fn from(bad: BadApproval) -> Self {
        tracing::info!(reason = %bad, "a signed approval is refused");
        let problem = Problem::new(ProblemType::ApprovalRefused);
        problem.with_detail(bad).into()
    }
}

impl Agreed {
    /// Everything but its time: a payment that is asked for again may be older.
    pub(super) fn read(
        request: &PaymentRequest,
        holder: &Holder,
        authority: &str,
    ) -> Result<Self, Failure> {
        let hash = token_hash(&request.token).map_err(|malformed| {
            Problem::new(ProblemType::MalformedToken).with_detail(malformed)
        })?;
        let keys = JwkSet {
            keys: vec![holder.key.jwk().clone()],
        };
        let verified = jws::verify::<SignedApproval>(&request.approval, &keys);
        let claims = verified.map_err(BadApproval::Jws)?.into_claims();
        if claims.aud != authority {
            return Err(BadApproval::Audience.into());
        }
        if claims.token_hash != hash {
            return Err(BadApproval::Token.into());
        }
        if !(1..=JTI_MAX).contains(&claims.jti.len()) {
            return Err(BadApproval::Jti.into());
        }
        Ok(Self {
            claims,
            jws: request.approval.clone(),
        })
    }

    pub(super) fn claims(&self) -> &SignedApproval {
        &self.claims
    }

    /// Signed a moment ago: what a shopper agreed to is not kept in a drawer.
    pub(super) fn check_time(&self, now: Timestamp) -> Result<(), Failure> {
        let at = Timestamp::from_secs(self.claims.iat);
        match at < now - APPROVAL_PAST_MS || at > now + APPROVAL_FUTURE_MS {
            true => Err(BadApproval::Time.into()),
            false => Ok(()),
        }
    }

    /// What is kept as evidence.
    pub(super) fn kept(&self, holder: &Holder) -> Result<KeptApproval, Failure> {
        let key = holder.key.jwk().verifying_key();
        let key = key.map_err(|_| ProblemType::Internal)?;
        let point = key.to_sec1_point(false);
        let point: [u8; 65] = point
            .as_bytes()
            .try_into()
            .expect("an uncompressed P-256 point has 65 bytes");
        Ok(KeptApproval {
            key: holder.thumbprint(),
            jti: Sha256::digest(self.claims.jti.as_bytes()).into(),
            public_point: point,
            jws: self.jws.clone(),
        })
    }
}
