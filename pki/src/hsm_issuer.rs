//! How does an issuing CA sign when its key is in an HSM?

use std::sync::Arc;

use async_trait::async_trait;
use hsm::{HealthState, Hsm, KeyLabel, Priority};

use crate::chain::Chain;
use crate::crl::{self, CrlRequest, SignedCrl};
use crate::error::PkiError;
use crate::issuer::{IssueRequest, IssuedCertificate, Issuer, IssuerHealth, IssuingCa};
use crate::lifecycle::KeyState;
use crate::names::TrustDomain;
use crate::profiles::CrlBase;
use crate::signing::{Period, Unsigned};

/// The issuing CA with its key in an HSM.
pub struct HsmIssuer {
    hsm: Arc<dyn Hsm>,
    key: KeyLabel,
    chain: Chain,
    domain: TrustDomain,
    crl_base: Option<CrlBase>,
}

impl HsmIssuer {
    /// Refuses to start when the HSM's key is not the one in the issuing certificate.
    pub async fn open(
        hsm: Arc<dyn Hsm>,
        key: KeyLabel,
        chain: Chain,
        domain: TrustDomain,
    ) -> Result<Self, PkiError> {
        if hsm.public_key(&key).await? != chain.issuing().public_point() {
            return Err(PkiError::ForeignIssuingKey { label: key.0 });
        }
        Ok(Self {
            hsm,
            key,
            chain,
            domain,
            crl_base: None,
        })
    }

    /// The same, and every certificate says where the revocation list of its issuer is.
    pub fn listed_at(mut self, base: Option<CrlBase>) -> Self {
        self.crl_base = base;
        self
    }

    fn prepare(&self, request: &IssueRequest) -> Result<Unsigned, PkiError> {
        let profile = request.to.profile(&self.domain)?;
        let profile = profile.listed_at(self.crl_base.as_ref());
        request.csr.asks_only_for(profile.names())?;
        let issuing = self.chain.issuing();
        if !(issuing.not_before()..=issuing.not_after()).contains(&request.now) {
            return Err(PkiError::IssuerNotValid);
        }
        let period = Period::of(&profile, request.now, issuing.not_after());
        let issuer = issuing.x509().tbs_certificate().subject().clone();
        Unsigned::new(
            profile,
            issuer,
            *issuing.verifying_key(),
            request.csr.key(),
            period,
        )
    }
}

#[async_trait]
impl Issuer for HsmIssuer {
    async fn issue(&self, request: IssueRequest) -> Result<IssuedCertificate, PkiError> {
        let unsigned = self.prepare(&request)?;
        let digest = unsigned.digest();
        let signature = self.hsm.sign(&self.key, digest, Priority::Renewal).await?;
        Ok(unsigned.assemble(signature)?.into())
    }

    async fn sign_crl(&self, request: CrlRequest) -> Result<SignedCrl, PkiError> {
        let unsigned = crl::Unsigned::new(self.chain.issuing(), &request)?;
        let digest = unsigned.digest();
        let signature = self.hsm.sign(&self.key, digest, Priority::Renewal).await?;
        unsigned.assemble(signature)
    }

    fn chain(&self) -> Chain {
        self.chain.clone()
    }

    fn issuing_cas(&self) -> Vec<IssuingCa> {
        vec![IssuingCa {
            chain: self.chain.clone(),
            state: KeyState::Active,
        }]
    }

    fn health(&self) -> IssuerHealth {
        let health = self.hsm.health();
        let reason = health.reason.unwrap_or_else(|| "no reason given".into());
        match health.state {
            HealthState::Ready => IssuerHealth::Ready,
            HealthState::Degraded => IssuerHealth::Degraded(reason),
            HealthState::Down | HealthState::Recovering => IssuerHealth::Down(reason),
        }
    }

    fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }
}
