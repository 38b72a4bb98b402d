//! Where do the root and the first certificates under it come from?

use pki::root::{Ceremony, KeyPlace};
use pki::signer::Signer;
use pki::{
    Certificate, CheckedCsr, IssueRequest, IssueTo, IssuedCertificate, Passphrase, SoftwareKey, csr,
};

use super::hsm_tokens::random_pin;
use super::{InitError, Plan, Workplace};
use crate::app::load_certificate;
use crate::services::enrolment::record;
use crate::store::{self, Subject};

/// Makes the root and signs the issuing CA, in a ceremony as any other: what was signed stands in its log.
/// The root key is forgotten here, and stays in its file.
pub(super) async fn make_root(
    place: &Workplace,
    request: &CheckedCsr,
    now: u64,
) -> Result<Certificate, InitError> {
    place.private("root/passphrase", random_pin().as_bytes())?;
    let mut ceremony = Ceremony::begin(&place.at("root"), now)?;
    let root = ceremony.init(root_key(place)?).await?;
    let plan = ceremony.plan_issuing(request.der(), false)?;
    let signer = root_key(place)?.open().await?;
    let issuing = ceremony.sign_issuing(plan, &signer).await?;
    for name in ["root.pem", "signer/roots.pem"] {
        place.public(name, root.pem().as_bytes())?;
    }
    place.public("issuing.pem", issuing.pem().as_bytes())?;
    Ok(issuing)
}

fn root_key(place: &Workplace) -> Result<KeyPlace, InitError> {
    Ok(KeyPlace::File {
        path: place.at("root/root.key"),
        passphrase: Passphrase::from_file(&place.at("root/passphrase"))?,
    })
}

/// The certificates this machine and its operator begin with.
pub(super) struct First<'a> {
    pub(super) place: &'a Workplace,
    pub(super) signer: Signer,
    pub(super) now: u64,
}

impl First<'_> {
    /// Agents' listener, operator, and the public listener if it has no other certificate.
    pub(super) async fn make(&self, plan: &Plan) -> Result<(), InitError> {
        for (name, to) in wanted(plan) {
            self.issue(name, to).await?;
        }
        Ok(())
    }

    /// `<name>.key` and `<name>.pem`, the issuing certificate after its own.
    async fn issue(&self, name: &str, to: IssueTo) -> Result<(), InitError> {
        let key = SoftwareKey::generate()?;
        key.save(&self.place.at(&format!("{name}.key")))?;
        let request = csr::new(&key, &to.spiffe_id(), self.signer.trust_domain())?;
        let csr = csr::check(&request).map_err(pki::PkiError::from)?;
        let now = self.now;
        let issued = self.signer.issue(IssueRequest { csr, to, now }).await?;
        let above = self.signer.issuing_cas();
        let above: String = above.iter().map(|ca| ca.chain.issuing().pem()).collect();
        let chain = issued.pem + &above;
        self.place.public(&format!("{name}.pem"), chain.as_bytes())
    }
}

/// What the store keeps of the certificates that [`First`] made.
pub(super) fn records(
    plan: &Plan,
    place: &Workplace,
) -> Result<Vec<store::Certificate>, InitError> {
    let read = |(name, to): (&str, IssueTo)| {
        let certificate = load_certificate(&place.at(&format!("{name}.pem")))?;
        Ok(record_of(&certificate.into(), &to))
    };
    wanted(plan).into_iter().map(read).collect()
}

fn wanted(plan: &Plan) -> Vec<(&'static str, IssueTo)> {
    let server = || IssueTo::Authority {
        node: plan.node.clone(),
        dns: plan.dns.clone(),
        addresses: plan.addresses.clone(),
    };
    let operator = IssueTo::Operator(plan.operator.clone());
    let mut wanted = vec![("agents", server()), ("operator", operator)];
    if plan.public.is_none() {
        wanted.push(("public", server()));
    }
    wanted
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
