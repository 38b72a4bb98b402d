//! How does the root make somebody an operator, when the operators cannot?

use sha2::{Digest, Sha256};

use super::{Ceremony, RootSigner};
use crate::certificate::{Certificate, hex};
use crate::consent::vouch::Vouch;
use crate::consent::{BadStatement, Unsigned};
use crate::csr;
use crate::dates::in_words;
use crate::error::PkiError;
use crate::names::{Segment, SpiffeId, TrustDomain};

const OPERATOR_VOUCHED: &str = "operator-vouched";

/// A vouch that people have not agreed to yet.
#[derive(Debug, Clone)]
pub struct VouchPlan {
    root: Certificate,
    vouch: Vouch,
}

impl VouchPlan {
    /// What people are asked to agree to.
    pub fn words(&self) -> String {
        let until = u64::try_from(self.vouch.exp).unwrap_or(0);
        let today = u64::try_from(self.vouch.iat).unwrap_or(0);
        format!(
            "A vouch: with it somebody becomes an operator whom no other operator consented to:\n\
             \x20 operator    {} of {}\n\
             \x20 for key     SHA-256 {}\n\
             \x20 until       {}\n\
             \x20 by root     {}\n\
             \x20 today is    {} by the clock of this machine\n",
            self.vouch.operator,
            self.vouch.domain,
            self.vouch.key_sha256,
            in_words(until),
            self.root.fingerprint(),
            in_words(today),
        )
    }
}

impl Ceremony {
    /// A vouch for whoever holds the key of the request in `body`.
    pub fn plan_vouch(
        &self,
        body: &[u8],
        operator: &Segment,
        domain: &TrustDomain,
    ) -> Result<VouchPlan, PkiError> {
        let root = self.root()?;
        let request = csr::check(body)?;
        request.agrees_with(&SpiffeId::Operator(operator.clone()), domain)?;
        let vouch = Vouch::new(operator, domain, &request, self.now());
        Ok(VouchPlan { root, vouch })
    }

    /// Signs what was agreed to; it is in the log before it leaves.
    pub async fn sign_vouch(
        &mut self,
        plan: VouchPlan,
        signer: &RootSigner,
    ) -> Result<String, PkiError> {
        let VouchPlan { root, vouch } = plan;
        let unsigned = Unsigned::new(&vouch, std::slice::from_ref(&root));
        let digest = Sha256::digest(unsigned.message()).into();
        let text = unsigned.with_signature(&signer.sign_digest(digest).await?);
        // Another key than the root's, or a fault of the HSM: it does not leave.
        let verified = Vouch::verify(&text, std::slice::from_ref(&root), vouch.iat);
        if verified != Ok(vouch.clone()) {
            return Err(BadStatement::Signature.into());
        }
        self.adopt(&root)?;
        let facts = [
            ("operator", vouch.operator.as_str()),
            ("domain", vouch.domain.as_str()),
            ("key", vouch.key_sha256.as_str()),
            ("sha256", &hex(&Sha256::digest(text.as_bytes()))),
        ];
        self.note(OPERATOR_VOUCHED, &facts)?;
        Ok(text)
    }
}
