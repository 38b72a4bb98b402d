//! Which operator signed this, and under which certificate?
//!
//! JWS compact serialization (RFC 7515), ES256 only, one `typ` per purpose (RFC 8725), and the
//! signer's certificates in `x5c`, leaf first: no key is looked up anywhere.

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use p256::ecdsa::Signature;
use p256::ecdsa::signature::Verifier;
use protocol::jws::{Parts, Purpose};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::certificate::{BadCertificate, Certificate, hex};
use crate::names::{SpiffeId, TrustDomain};
use crate::verify::{INTERMEDIATES_MAX, peer, verify_chain};

/// Longest statement that is looked at, in bytes.
pub const STATEMENT_MAX_BYTES: usize = 240 * 1024;
/// Most certificates in `x5c`.
pub const X5C_MAX: usize = 1 + INTERMEDIATES_MAX;

/// Claims that say who says them, and when.
pub trait Dated {
    /// Unix seconds.
    fn said_at(&self) -> i64;
    /// Name of an operator.
    fn said_by(&self) -> &str;
}

/// What a signer's certificate must lead to.
#[derive(Debug, Clone)]
pub struct Anchors<'a> {
    /// Any of them.
    pub roots: &'a [Certificate],
    /// Issuing certificates that are known besides those in the statement: after a root was rotated,
    /// the same issuing key has a newer one.
    pub issuing: &'a [Certificate],
    pub domain: &'a TrustDomain,
}

/// When the signer's certificate must be good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// Unix seconds of somebody's clock.
    Time(u64),
    /// The same, but the signer's own certificate may have ended: who renews it proves to hold its key.
    TimeOrEnded(u64),
    /// When the statement says that it was made: for evidence that was kept.
    Statement,
}

/// Claims that an operator signed; only [`verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<C> {
    claims: C,
    name: String,
    certificate: Certificate,
    issuing_key: Option<[u8; 32]>,
    payload_sha256: [u8; 32],
    text: String,
}

/// Claims that wait for their signature.
#[derive(Debug, Clone)]
pub struct Unsigned {
    signing_input: String,
}

/// Why a statement does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadStatement {
    #[error("it is not a compact JWS with certificates in it")]
    Malformed,
    #[error("it is larger than {STATEMENT_MAX_BYTES} bytes")]
    TooLarge,
    #[error("it is signed with another algorithm than ES256")]
    Algorithm,
    #[error("it was signed for another purpose")]
    Purpose,
    #[error("it has a critical header that is not understood")]
    Critical,
    #[error("its signature does not fit its certificate")]
    Signature,
    #[error("its certificate is refused: {0}")]
    Certificate(BadCertificate),
    #[error("its certificate is not that of an operator")]
    NotOperator,
    #[error("it says another name than its certificate")]
    OtherName,
    #[error("its claims are not in order")]
    Claims,
    #[error("it is about another request")]
    OtherRequest,
    #[error("it was not made while the request was open")]
    OutOfTime,
    #[error("nobody consents to their own request")]
    Own,
    #[error("the root's word is not, or no longer, good")]
    VouchOver,
}

impl BadStatement {
    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Certificate(error) => error.hint(),
            Self::OutOfTime => "compare the clocks of both machines; if they are right, ask anew",
            Self::Own => "another operator signs it",
            Self::VouchOver => {
                "compare the clocks of both machines; if they are right, have the root sign again"
            }
            Self::NotOperator | Self::OtherName => "sign with your own operator's certificate",
            Self::OtherRequest => "show the request again, and sign what is shown",
            Self::Malformed
            | Self::TooLarge
            | Self::Algorithm
            | Self::Purpose
            | Self::Critical
            | Self::Signature
            | Self::Claims => "it was changed or made by something else: do not rely on it",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    typ: String,
    /// Base64 DER, leaf first (RFC 7515, 4.1.6).
    x5c: Vec<String>,
    #[serde(default, skip_serializing)]
    crit: Option<IgnoredAny>,
}

impl Unsigned {
    /// `certificates`: the signer's own, then those above it without the root.
    pub fn new<C: Purpose>(claims: &C, certificates: &[Certificate]) -> Self {
        let header = Header {
            alg: "ES256".into(),
            typ: C::TYP.into(),
            x5c: certificates
                .iter()
                .map(|certificate| Base64::encode_string(certificate.der()))
                .collect(),
            crit: None,
        };
        let part = |json: Vec<u8>| Base64UrlUnpadded::encode_string(&json);
        let header = serde_json::to_vec(&header).expect("a header of strings serializes");
        let payload = serde_json::to_vec(claims).expect("claims are plain structs");
        Self {
            signing_input: format!("{}.{}", part(header), part(payload)),
        }
    }

    /// What is signed, ECDSA P-256 with SHA-256.
    pub fn message(&self) -> &[u8] {
        self.signing_input.as_bytes()
    }

    /// The compact serialization; `signature` is `r || s`.
    pub fn with_signature(self, signature: &[u8; 64]) -> String {
        let signature = Base64UrlUnpadded::encode_string(signature);
        format!("{}.{signature}", self.signing_input)
    }
}

impl<C> Signed<C> {
    pub fn claims(&self) -> &C {
        &self.claims
    }

    /// The operator who signed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Under which of their certificates.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Whose signature is on that certificate: SHA-256 of the public key, lower-case hex. What the
    /// certificate says of it is the word of whoever made it.
    pub fn issuing_key_hex(&self) -> Option<String> {
        self.issuing_key.map(|key| hex(&key))
    }

    /// SHA-256 of exactly the bytes that were signed as claims, lower-case hex.
    pub fn sha256_hex(&self) -> String {
        hex(&self.payload_sha256)
    }

    /// The statement as it came.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Verifies signature, purpose, certificate and name, then hands out the claims.
pub fn verify<C: Purpose + Dated>(
    text: &str,
    anchors: &Anchors<'_>,
    as_of: AsOf,
) -> Result<Signed<C>, BadStatement> {
    if text.len() > STATEMENT_MAX_BYTES {
        return Err(BadStatement::TooLarge);
    }
    let parts = Parts::split(text).map_err(|_| BadStatement::Malformed)?;
    let chain = signers(&parts.header, C::TYP)?;
    let (leaf, others) = chain.split_first().ok_or(BadStatement::Malformed)?;
    check_signature(leaf, &parts)?;
    let claims: C = serde_json::from_slice(&parts.payload).map_err(|_| BadStatement::Claims)?;
    let at = match as_of {
        AsOf::Time(at) | AsOf::TimeOrEnded(at) => at,
        AsOf::Statement => u64::try_from(claims.said_at()).map_err(|_| BadStatement::Claims)?,
    };
    let may_have_ended = matches!(as_of, AsOf::TimeOrEnded(_));
    let above = [others, anchors.issuing].concat();
    check_chain(leaf, &above, anchors.roots, at, may_have_ended)?;
    let name = operator_of(leaf, anchors.domain)?;
    if claims.said_by() != name {
        return Err(BadStatement::OtherName);
    }
    let issuing = above.iter().find(|issuing| leaf.is_issued_by(issuing));
    Ok(Signed {
        claims,
        name,
        certificate: leaf.clone(),
        issuing_key: issuing.map(Certificate::spki_sha256),
        payload_sha256: Sha256::digest(&parts.payload).into(),
        text: text.to_owned(),
    })
}

/// Reads claims that nobody has verified: only to find out what to verify them with.
pub(super) fn peek<C: Purpose>(text: &str) -> Result<C, BadStatement> {
    let parts = Parts::split(text).map_err(|_| BadStatement::Malformed)?;
    serde_json::from_slice(&parts.payload).map_err(|_| BadStatement::Claims)
}

pub(super) fn signers(header: &[u8], typ: &str) -> Result<Vec<Certificate>, BadStatement> {
    let header: Header = serde_json::from_slice(header).map_err(|_| BadStatement::Malformed)?;
    if header.crit.is_some() {
        return Err(BadStatement::Critical);
    }
    if header.alg != "ES256" {
        return Err(BadStatement::Algorithm);
    }
    if header.typ != typ {
        return Err(BadStatement::Purpose);
    }
    if header.x5c.len() > X5C_MAX {
        return Err(BadStatement::Malformed);
    }
    let read = |text: &String| {
        let der = Base64::decode_vec(text).map_err(|_| BadStatement::Malformed)?;
        Certificate::from_der(&der).map_err(BadStatement::Certificate)
    };
    header.x5c.iter().map(read).collect()
}

pub(super) fn check_signature(leaf: &Certificate, parts: &Parts<'_>) -> Result<(), BadStatement> {
    let signature = Signature::from_slice(&parts.signature).map_err(|_| BadStatement::Signature)?;
    leaf.verifying_key()
        .verify(parts.signing_input.as_bytes(), &signature)
        .map_err(|_| BadStatement::Signature)
}

fn check_chain(
    leaf: &Certificate,
    others: &[Certificate],
    roots: &[Certificate],
    at: u64,
    may_have_ended: bool,
) -> Result<(), BadStatement> {
    let mut refusal = BadCertificate::ForeignRoot;
    for root in roots {
        match verify_chain(leaf, others, root, at) {
            Ok(_) => return Ok(()),
            // Whoever is told of an expiry knows that everything else was in order.
            Err(BadCertificate::Expired { .. }) if may_have_ended => return Ok(()),
            // Of several roots only one is the signer's: that one's reason is the one to tell.
            Err(BadCertificate::ForeignRoot) => {}
            Err(other) => refusal = other,
        }
    }
    Err(BadStatement::Certificate(refusal))
}

fn operator_of(leaf: &Certificate, domain: &TrustDomain) -> Result<String, BadStatement> {
    match peer(leaf, domain).map_err(BadStatement::Certificate)?.id {
        SpiffeId::Operator(name) => Ok(name.to_string()),
        SpiffeId::Terminal(_) | SpiffeId::Authority(_) => Err(BadStatement::NotOperator),
    }
}
