//! Is this the phone that made the claim?
//!
//! The claim's id opens nothing; the secret in the cookie does, and only its hash is stored.

use base64ct::{Base64UrlUnpadded, Encoding};
use protocol::dpop::Thumbprint;
use protocol::ids::ClaimId;
use protocol::problem::ProblemType;
use protocol::wire::claims::CLAIM_COOKIE;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::Failure;
use crate::ids;
use crate::store::{ClaimRecord, Store};

const SECRET_BYTES: usize = 32;
const KEY_DOMAIN: &[u8] = b"m2key/wallet-claim/1\0";

/// What a phone keeps of its claim. Mute.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PhoneCookie {
    #[zeroize(skip)]
    claim: ClaimId,
    secret: [u8; SECRET_BYTES],
}

impl PhoneCookie {
    pub fn generate(claim: ClaimId) -> Self {
        Self::of(claim, ids::random())
    }

    /// With a secret of the caller's: of a browser's claim, or in place of a cookie where the phone keeps
    /// none, in a claim by SMS.
    pub fn of(claim: ClaimId, secret: [u8; SECRET_BYTES]) -> Self {
        Self { claim, secret }
    }

    /// The value of the cookie, `<claim>.<secret>`.
    pub fn parse(value: &str) -> Option<Self> {
        let (claim, secret) = value.split_once('.')?;
        let mut bytes = [0; SECRET_BYTES];
        let decoded = Base64UrlUnpadded::decode(secret, &mut bytes).ok()?.len();
        (decoded == SECRET_BYTES).then_some(Self {
            claim: claim.parse().ok()?,
            secret: bytes,
        })
    }

    pub fn claim(&self) -> ClaimId {
        self.claim
    }

    /// What the database keeps of the secret.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret).into()
    }

    /// `<claim>.<secret>`, for the one header that carries it to the phone.
    pub fn expose(&self) -> String {
        let secret = Base64UrlUnpadded::encode_string(&self.secret);
        format!("{}.{secret}", self.claim)
    }

    /// The whole `Set-Cookie` value.
    pub fn set_cookie(&self) -> String {
        let value = self.expose();
        format!("{CLAIM_COOKIE}={value}; Secure; HttpOnly; SameSite=Lax; Path=/")
    }
}

impl std::fmt::Debug for PhoneCookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PhoneCookie({}, ..)", self.claim)
    }
}

/// A claim that this phone made; only [`find`] makes one.
#[derive(Debug, Clone)]
pub struct OwnClaim(ClaimRecord);

impl OwnClaim {
    pub fn record(&self) -> &ClaimRecord {
        &self.0
    }
}

/// The claim, if the phone that asks made it. Strangers are not told whether it exists.
pub async fn find(
    store: &dyn Store,
    claim: ClaimId,
    cookie: Option<&PhoneCookie>,
) -> Result<OwnClaim, Failure> {
    let unknown = ProblemType::ClaimUnknown;
    let cookie = cookie.filter(|it| it.claim() == claim).ok_or(unknown)?;
    let record = store.claim_record(claim).await?.ok_or(unknown)?;
    if !bool::from(record.phone.ct_eq(&cookie.hash())) {
        return Err(unknown.into());
    }
    Ok(OwnClaim(record))
}

/// What the database keeps of a wallet where a browser has its cookie: no cookie has this hash, because
/// its secret would have to be longer.
pub fn hash_of_key(key: Thumbprint) -> [u8; 32] {
    Sha256::digest([KEY_DOMAIN, key.as_bytes()].concat()).into()
}

/// The claim, if the wallet that holds this key made it.
pub async fn find_by_key(
    store: &dyn Store,
    claim: ClaimId,
    key: Thumbprint,
) -> Result<Option<OwnClaim>, Failure> {
    let record = store.claim_record(claim).await?;
    let own = record.filter(|record| record.phone == hash_of_key(key));
    Ok(own.map(OwnClaim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_reads_back_and_says_nothing_in_logs() {
        let claim = ClaimId::from_parts(1, &[0; 10]);
        let cookie = PhoneCookie::of(claim, crate::ids::random());
        let read = PhoneCookie::parse(&cookie.expose()).expect("just written");
        assert_eq!(read.claim(), claim);
        assert_eq!(read.hash(), cookie.hash());
        let secret = cookie.expose();
        let secret = secret.split_once('.').expect("with a dot").1;
        assert!(!format!("{cookie:?}").contains(secret));
        assert!(PhoneCookie::parse(&format!("{claim}.{}", &secret[1..])).is_none());
        assert!(PhoneCookie::parse("").is_none());
    }
}
