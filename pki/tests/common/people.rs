//! Operators who ask for a step and consent to it, as at their own machines.

use pki::consent::{Anchors, AsOf, verify};
use pki::consent::{CeremonyStep, Dated, Policy, Request, Signed, Transcript};
use pki::{
    Certificate, CheckedCsr, IssueRequest, IssueTo, IssuedCertificate, OperatorKey, SoftwareKey,
    TrustDomain, csr,
};
use protocol::jws::Purpose;
use serde_json::Value;

const HOUR: i64 = 3600;

/// An operator with a key and a certificate.
pub(crate) struct Person {
    pub(crate) name: String,
    key: OperatorKey,
    pub(crate) chain: Vec<Certificate>,
}

impl Person {
    /// Under the issuing CA `above`, which `issue` asks.
    pub(crate) async fn under(
        above: &Certificate,
        issue: impl AsyncFnOnce(IssueRequest) -> IssuedCertificate,
        name: &str,
        now: u64,
    ) -> Self {
        let key = OperatorKey::File(SoftwareKey::generate().unwrap());
        let to = IssueTo::Operator(name.parse().unwrap());
        let csr = asks(&key, &to).await;
        let issued = issue(IssueRequest { csr, to, now }).await;
        Self {
            name: name.into(),
            key,
            chain: vec![Certificate::from_der(&issued.der).unwrap(), above.clone()],
        }
    }

    pub(crate) async fn state<C: Purpose>(&self, claims: &C) -> String {
        self.key.state(claims, &self.chain).await.unwrap()
    }

    /// SHA-256 of the public key, as configurations have it.
    pub(crate) fn key_id(&self) -> String {
        hex(&self.chain[0].spki_sha256())
    }
}

async fn asks(key: &OperatorKey, to: &IssueTo) -> CheckedCsr {
    let domain = TrustDomain::default();
    let request = key.request(&to.spiffe_id(), &domain).await.unwrap();
    csr::check(&request).unwrap()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is asked for; each field can be made wrong.
pub(crate) struct Asked {
    pub(crate) verb: String,
    pub(crate) body: Value,
    pub(crate) at: u64,
    /// What the policy of the authority says.
    pub(crate) required: u32,
    pub(crate) id: &'static str,
}

impl Asked {
    pub(crate) fn of<S: CeremonyStep>(step: &S, at: u64) -> Self {
        Self {
            verb: S::VERB.into(),
            body: step.body(),
            at,
            required: 1,
            id: "0193",
        }
    }

    fn request(&self, by: &Person) -> Request {
        let iat = self.at as i64;
        let policy = Policy {
            required: self.required,
            ..Policy::default()
        };
        Request {
            iss: "spiffe://m2key.example/authority/node-1".into(),
            jti: self.id.into(),
            generation: 1,
            verb: self.verb.clone(),
            body: self.body.clone(),
            asked_by: by.name.clone(),
            iat,
            exp: iat + i64::from(policy.life_h) * HOUR,
            required: self.required,
            policy,
        }
    }

    /// Signed by `by` and consented to by `others`, under `root`.
    pub(crate) async fn transcript(
        &self,
        root: &Certificate,
        by: &Person,
        others: &[&Person],
    ) -> Transcript {
        let text = by.state(&self.request(by)).await;
        let signed: Signed<Request> = believed(&text, root, self.at);
        let mut consents = Vec::new();
        for other in others {
            let consent = signed.consent(&other.name, self.at as i64);
            consents.push(other.state(&consent).await);
        }
        Transcript {
            request: text,
            consents,
            refusals: Vec::new(),
            outcome: None,
        }
    }
}

fn believed<C: Purpose + Dated>(text: &str, root: &Certificate, at: u64) -> Signed<C> {
    let (roots, domain) = ([root.clone()], TrustDomain::default());
    let anchors = Anchors {
        roots: &roots,
        issuing: &[],
        domain: &domain,
    };
    verify(text, &anchors, AsOf::Time(at)).unwrap()
}

pub(crate) fn json(transcript: &Transcript) -> String {
    serde_json::to_string(transcript).unwrap()
}

/// The same with something else in the body of the request, and the old signature.
pub(crate) fn tampered(transcript: &Transcript, from: &str, to: &str) -> String {
    use base64ct::{Base64UrlUnpadded as Base64, Encoding};
    let mut parts: Vec<String> = transcript.request.split('.').map(str::to_owned).collect();
    let payload = String::from_utf8(Base64::decode_vec(&parts[1]).unwrap()).unwrap();
    assert!(payload.contains(from), "{payload}");
    parts[1] = Base64::encode_string(payload.replace(from, to).as_bytes());
    json(&Transcript {
        request: parts.join("."),
        ..transcript.clone()
    })
}
