//! How is a trust bundle written down?
//!
//! `{"lists": [ {"payload": …, "signatures": [ {"protected": …, "signature": …}, … ]}, … ]}`; the
//! payload is base64url of `{"sequence": 2, "iat": …, "roots": [{"state": "active", "x5c": […]}]}`, with
//! `"denied": ["<key id>", …]` once there is one.

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use p256::ecdsa::Signature;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use protocol::jwk::Jwk;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    BadTrust, Denied, KeyId, LISTS_MAX, ROOTS_MAX, RootList, TRUST_MAX_BYTES, TYP, TrustedRoot,
};
use crate::certificate::Certificate;

/// A payload and signatures over it, as they travel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signed {
    payload: String,
    signatures: Vec<OneSignature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OneSignature {
    protected: String,
    signature: String,
}

#[derive(Serialize, Deserialize)]
struct Document {
    lists: Vec<Signed>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
    /// Nothing critical is understood here (RFC 7515, 4.1.11).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crit: Option<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sequence: u64,
    iat: u64,
    roots: Vec<RootClaim>,
    /// Hexadecimal; lists from before there was such a thing have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    denied: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct RootClaim {
    state: String,
    /// The one certificate, base64 DER (as RFC 7517, 4.7 has it).
    x5c: [String; 1],
}

/// The lists of a document; their signatures are not verified yet.
pub(super) fn read(text: &str) -> Result<Vec<RootList>, BadTrust> {
    if text.len() > TRUST_MAX_BYTES {
        return Err(BadTrust::TooLarge);
    }
    let document: Document = serde_json::from_str(text).map_err(|_| BadTrust::Malformed)?;
    if document.lists.len() > LISTS_MAX {
        return Err(BadTrust::Count);
    }
    document.lists.into_iter().map(read_list).collect()
}

pub(super) fn write(lists: &[RootList]) -> String {
    let lists = lists.iter().map(|list| list.signed.clone()).collect();
    serde_json::to_string_pretty(&Document { lists }).expect("strings in lists serialize")
}

fn read_list(signed: Signed) -> Result<RootList, BadTrust> {
    // Twice as many as can be needed: those believed before, and those believed from now on.
    if signed.signatures.len() > 2 * ROOTS_MAX {
        return Err(BadTrust::Count);
    }
    let claims = unbase64url(&signed.payload)?;
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| BadTrust::Malformed)?;
    if claims.roots.len() > ROOTS_MAX {
        return Err(BadTrust::Count);
    }
    let roots: Result<_, _> = claims.roots.iter().map(read_root).collect();
    Ok(RootList {
        sequence: claims.sequence,
        issued_at: claims.iat,
        roots: roots?,
        denied: read_denied(&claims.denied)?,
        signed,
    })
}

fn read_root(claim: &RootClaim) -> Result<TrustedRoot, BadTrust> {
    let der = Base64::decode_vec(&claim.x5c[0]).map_err(|_| BadTrust::Malformed)?;
    Ok(TrustedRoot {
        certificate: Certificate::from_der(&der).map_err(BadTrust::Root)?,
        state: claim.state.parse().map_err(|_| BadTrust::Malformed)?,
    })
}

fn read_denied(claimed: &[String]) -> Result<Denied, BadTrust> {
    let keys: Result<Vec<KeyId>, _> = claimed.iter().map(|key| key.parse()).collect();
    Denied::of(keys.map_err(|_| BadTrust::Malformed)?)
}

impl Signed {
    /// The claims of one list, with no signature yet.
    pub(super) fn unsigned(
        sequence: u64,
        issued_at: u64,
        roots: &[TrustedRoot],
        denied: &Denied,
    ) -> Self {
        let claim = |root: &TrustedRoot| RootClaim {
            state: root.state.name().into(),
            x5c: [Base64::encode_string(root.certificate.der())],
        };
        let claims = Claims {
            sequence,
            iat: issued_at,
            roots: roots.iter().map(claim).collect(),
            denied: denied.keys().iter().map(KeyId::to_string).collect(),
        };
        Self {
            payload: base64url(&claims),
            signatures: Vec::new(),
        }
    }

    /// What `root` signs: SHA-256 of its signing input (RFC 7515, 5.1).
    pub(super) fn digest(&self, root: &Certificate) -> [u8; 32] {
        self.digest_under(&protected(root))
    }

    pub(super) fn payload_sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.payload).into()
    }

    pub(super) fn add(&mut self, root: &Certificate, signature: &[u8; 64]) {
        let protected = protected(root);
        // Signing again after an interruption replaces, so that it may be repeated.
        self.signatures.retain(|one| one.protected != protected);
        self.signatures.push(OneSignature {
            protected,
            signature: Base64UrlUnpadded::encode_string(signature),
        });
    }

    /// Whether `root` has signed this.
    pub(super) fn check_by(&self, root: &Certificate) -> Result<(), BadTrust> {
        let kid = kid(root);
        for one in &self.signatures {
            if one.header()?.kid == kid {
                return self.verify(one, root);
            }
        }
        Err(BadTrust::NotSigned(root.fingerprint()))
    }

    fn verify(&self, one: &OneSignature, root: &Certificate) -> Result<(), BadTrust> {
        let refused = || BadTrust::Signature(root.fingerprint());
        let raw = Base64UrlUnpadded::decode_vec(&one.signature).map_err(|_| refused())?;
        let signature = Signature::from_slice(&raw).map_err(|_| refused())?;
        root.verifying_key()
            .verify_prehash(&self.digest_under(&one.protected), &signature)
            .map_err(|_| refused())
    }

    fn digest_under(&self, protected: &str) -> [u8; 32] {
        let hash = Sha256::new().chain_update(protected).chain_update(".");
        hash.chain_update(&self.payload).finalize().into()
    }
}

impl OneSignature {
    fn header(&self) -> Result<Header, BadTrust> {
        let json = unbase64url(&self.protected)?;
        let header: Header = serde_json::from_slice(&json).map_err(|_| BadTrust::Header)?;
        if header.alg == "ES256" && header.typ == TYP && header.crit.is_none() {
            Ok(header)
        } else {
            Err(BadTrust::Header)
        }
    }
}

fn protected(root: &Certificate) -> String {
    base64url(&Header {
        alg: "ES256".into(),
        typ: TYP.into(),
        kid: kid(root),
        crit: None,
    })
}

fn kid(root: &Certificate) -> String {
    let jwk = Jwk::from_point(&root.public_point());
    jwk.expect("a certificate holds a P-256 key").thumbprint()
}

fn base64url(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).expect("plain structs with string keys serialize");
    Base64UrlUnpadded::encode_string(&json)
}

fn unbase64url(text: &str) -> Result<Vec<u8>, BadTrust> {
    Base64UrlUnpadded::decode_vec(text).map_err(|_| BadTrust::Malformed)
}
