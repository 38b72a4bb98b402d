//! What does the wallet sign with?

use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::DecodePrivateKey;
use protocol::dpop::{ProofClaims, Thumbprint, UnsignedProof, access_token_hash};
use protocol::jwk::Jwk;
use protocol::jws::{Purpose, Unsigned};
use protocol::time::Timestamp;
use uuid::Uuid;

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct NoRandom;

/// Not a P-256 private key, PKCS#8 in PEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a P-256 private key in PKCS#8 PEM")]
pub struct BadKey;

/// A P-256 key, and the public half that goes into every proof. Mute; wiped when it is dropped.
#[derive(Clone)]
pub struct WalletKey {
    secret: SigningKey,
    public: Jwk,
}

impl std::fmt::Debug for WalletKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WalletKey({}, ..)", self.thumbprint())
    }
}

impl WalletKey {
    pub fn generate() -> Result<Self, NoRandom> {
        loop {
            // All but one in 2^32 draws lie below the order of the curve.
            if let Ok(secret) = SigningKey::from_slice(&random::<32>()?) {
                return Ok(Self::of(secret));
            }
        }
    }

    /// From a file that `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` wrote.
    pub fn from_pem(pem: &str) -> Result<Self, BadKey> {
        let secret = SigningKey::from_pkcs8_pem(pem);
        secret.map(Self::of).map_err(|_| BadKey)
    }

    fn of(secret: SigningKey) -> Self {
        let point = secret.verifying_key().to_sec1_point(false);
        let point = point.as_bytes().try_into();
        let point = point.expect("an uncompressed P-256 point has 65 bytes");
        let public = Jwk::from_point(point).expect("the point of a key lies on its curve");
        Self { secret, public }
    }

    pub fn public(&self) -> &Jwk {
        &self.public
    }

    /// What an access token for this wallet is bound to (`cnf.jkt`).
    pub fn thumbprint(&self) -> Thumbprint {
        Thumbprint::of(&self.public)
    }

    /// A proof for one request. Without an access token: for asking for one.
    pub fn prove(
        &self,
        method: &str,
        address: &str,
        access_token: Option<&str>,
        nonce: Option<&str>,
        now: Timestamp,
    ) -> Result<String, NoRandom> {
        Ok(self.sign_proof(&ProofClaims {
            jti: fresh_id()?,
            htm: method.into(),
            htu: address.into(),
            iat: now.secs(),
            ath: access_token.map(access_token_hash),
            nonce: nonce.map(Into::into),
        }))
    }

    /// Signs any claims of a proof: tests make wrong ones.
    pub fn sign_proof(&self, claims: &ProofClaims) -> String {
        let unsigned = UnsignedProof::new(claims, &self.public);
        let signature = self.sign_digest(&unsigned.digest());
        unsigned.with_signature(&signature)
    }

    /// Signs a statement, e.g. an approval.
    pub fn sign<C: Purpose>(&self, claims: &C) -> String {
        let unsigned = Unsigned::new(claims, &self.public.thumbprint());
        let signature = self.sign_digest(&unsigned.digest());
        unsigned.with_signature(&signature)
    }

    fn sign_digest(&self, digest: &[u8; 32]) -> [u8; 64] {
        let signature: Signature = self
            .secret
            .sign_prehash(digest)
            .expect("a SHA-256 digest is long enough for P-256");
        signature.to_bytes().into()
    }
}

/// Random, for one proof, approval or payment alone.
pub(crate) fn fresh_id() -> Result<String, NoRandom> {
    let id: Uuid = uuid::Builder::from_random_bytes(random()?).into_uuid();
    Ok(id.to_string())
}

fn random<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}
