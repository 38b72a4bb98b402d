//! Where do the root, the issuing CA and the first certificates under it come from?

use std::sync::Arc;

use hsm::{Hsm, KeyLabel};
use pki::{
    Certificate, Chain, HsmIssuer, IssueRequest, IssueTo, IssuedCertificate, Issuer, Passphrase,
    RootKey, SoftwareKey, csr,
};

use super::hsm_tokens::random_pin;
use super::{ISSUING_KEY_LABEL, InitError, Plan, Workplace};
use crate::services::enrolment::record;
use crate::store::{self, Subject};

/// Makes the root, signs the issuing CA, and forgets the root key: it stays in its file.
pub(super) fn make_root(
    place: &Workplace,
    issuing_point: &[u8; 65],
    now: u64,
) -> Result<Chain, InitError> {
    place.private("root/passphrase", random_pin().as_bytes())?;
    let passphrase = Passphrase::from_file(&place.at("root/passphrase"))?;
    let key = RootKey::generate()?;
    key.save(&place.at("root/root.key"), &passphrase)?;
    let root = key.certificate(now)?;
    let issuing = key.sign_issuing(&root, issuing_point, now)?;
    place.public("root.pem", root.pem().as_bytes())?;
    place.public("issuing.pem", issuing.pem().as_bytes())?;
    Ok(Chain::new(issuing, root).map_err(pki::PkiError::from)?)
}

/// The certificates this machine and its operator begin with.
pub(super) struct First<'a> {
    pub(super) place: &'a Workplace,
    pub(super) issuer: HsmIssuer,
    pub(super) now: u64,
}

impl<'a> First<'a> {
    pub(super) async fn open(
        plan: &Plan,
        place: &'a Workplace,
        hsm: Arc<dyn Hsm>,
        chain: Chain,
        now: u64,
    ) -> Result<Self, InitError> {
        let label = KeyLabel(ISSUING_KEY_LABEL.into());
        let issuer = HsmIssuer::open(hsm, label, chain, plan.domain.clone()).await?;
        Ok(Self { place, issuer, now })
    }

    /// Agents' listener, operator, and the public listener if it has no other certificate.
    pub(super) async fn make(&self, plan: &Plan) -> Result<Vec<store::Certificate>, InitError> {
        let server = || IssueTo::Authority {
            node: plan.node.clone(),
            dns: plan.dns.clone(),
            addresses: plan.addresses.clone(),
        };
        let operator = IssueTo::Operator(plan.operator.clone());
        let mut records = vec![
            self.issue("agents", server()).await?,
            self.issue("operator", operator).await?,
        ];
        if plan.public.is_none() {
            records.push(self.issue("public", server()).await?);
        }
        Ok(records)
    }

    /// `<name>.key` and `<name>.pem`, the issuing certificate after its own.
    async fn issue(&self, name: &str, to: IssueTo) -> Result<store::Certificate, InitError> {
        let key = SoftwareKey::generate()?;
        key.save(&self.place.at(&format!("{name}.key")))?;
        let request = csr::new(&key, &to.spiffe_id(), self.issuer.trust_domain())?;
        let request = IssueRequest {
            csr: csr::check(&request).map_err(pki::PkiError::from)?,
            to: to.clone(),
            now: self.now,
        };
        let issued = self.issuer.issue(request).await?;
        let chain = issued.pem.clone() + &self.issuer.chain().issuing().pem();
        self.place
            .public(&format!("{name}.pem"), chain.as_bytes())?;
        Ok(record_of(&issued, &to))
    }

    pub(super) fn root(&self) -> Certificate {
        self.issuer.chain().root().clone()
    }
}

fn record_of(issued: &IssuedCertificate, to: &IssueTo) -> store::Certificate {
    let subject = match to {
        IssueTo::Terminal(id) => Subject::Terminal(*id),
        IssueTo::Operator(name) => Subject::Operator(name.to_string()),
        IssueTo::Authority { node, .. } | IssueTo::Statement(node) => {
            Subject::Authority(node.to_string())
        }
    };
    record(issued, subject)
}
