//! Did a passkey of ours sign exactly this?
//!
//! ```text
//! registration: clientDataJSON ─▶ type challenge origin ─▶ attestationObject ─▶ authData ─▶ NewCredential
//! assertion:    clientDataJSON ─▶ type challenge origin ─▶ authData ─▶ signature ─▶ user verified ─▶ Signed
//! ```
//! Of WebAuthn Level 3 (sections 7.1 and 7.2) what a payment needs, and nothing else: ES256, the user
//! present and verified, our origin at the top. Attestation is taken and not looked at: who made the
//! authenticator decides nothing here. Whether a counter may be what it is, is the database's to judge.

use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

mod authenticator;
mod client_data;

pub use authenticator::CREDENTIAL_ID_MAX;

use self::authenticator::AuthenticatorData;
use self::client_data::{Ceremony, ClientData};

/// Longest `clientDataJSON` that is read, in bytes.
pub const CLIENT_DATA_MAX: usize = 2_048;
/// Longest attestation object that is read, in bytes.
pub const ATTESTATION_MAX: usize = 3_072;
/// Longest authenticator data of an assertion, in bytes: 37 and some extensions.
pub const AUTHENTICATOR_DATA_MAX: usize = 512;

/// Whom passkeys are made for: the host in our links, and pages under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelyingParty {
    id: String,
    origin: String,
}

/// A credential as its authenticator described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCredential {
    pub id: Vec<u8>,
    /// Uncompressed point on P-256, checked.
    pub public_point: [u8; 65],
    pub counter: u32,
}

/// What a phone brings of an assertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    pub authenticator_data: Vec<u8>,
    pub client_data: Vec<u8>,
    /// DER, as WebAuthn has it.
    pub signature: Vec<u8>,
}

/// An assertion that holds; only [`verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub brought: Brought,
    /// What the authenticator says its counter is; 0 of one that keeps none.
    pub counter: u32,
}

/// Why what an authenticator or browser says does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    #[error("the client data cannot be read")]
    ClientData,
    #[error("it is of another ceremony")]
    Ceremony,
    #[error("it answers another challenge")]
    Challenge,
    #[error("it was made for another origin")]
    Origin,
    #[error("it was made in a page within another page")]
    Embedded,
    #[error("the attestation object cannot be read")]
    Attestation,
    #[error("the authenticator data cannot be read")]
    AuthenticatorData,
    #[error("it was made for another relying party")]
    RelyingParty,
    #[error("nobody was present at the authenticator")]
    NotPresent,
    #[error("the authenticator did not verify who was there")]
    NotVerified,
    #[error("the key is not one of ES256")]
    Key,
    #[error("the signature is not of this passkey")]
    Signature,
}

impl RelyingParty {
    /// `host` as it stands in links, perhaps with a port.
    pub fn of_host(host: &str) -> Self {
        Self {
            id: host.split(':').next().unwrap_or(host).to_owned(),
            origin: format!("https://{host}"),
        }
    }

    /// The RP ID, a host name.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    fn id_hash(&self) -> [u8; 32] {
        Sha256::digest(self.id.as_bytes()).into()
    }
}

/// Which challenge this answers, to look it up; nothing is verified by that.
pub fn challenge_in(client_data: &[u8]) -> Result<[u8; 32], Bad> {
    ClientData::read(client_data)?.challenge()
}

/// A new passkey, made for this challenge. (WebAuthn 7.1)
pub fn register(
    party: &RelyingParty,
    challenge: &[u8; 32],
    client_data: &[u8],
    attestation_object: &[u8],
) -> Result<NewCredential, Bad> {
    let client = ClientData::read(client_data)?;
    client.check(party, Ceremony::Create, challenge)?;
    let data = authenticator::in_attestation(attestation_object)?;
    let data = AuthenticatorData::read(&data)?;
    data.check(&party.id_hash())?;
    data.check_verified()?;
    let credential = data.credential.ok_or(Bad::AuthenticatorData)?;
    Ok(NewCredential {
        id: credential.id,
        public_point: credential.public_point,
        counter: data.counter,
    })
}

/// This challenge, signed by the passkey with this public point. (WebAuthn 7.2)
pub fn verify(
    party: &RelyingParty,
    challenge: &[u8; 32],
    public_point: &[u8],
    brought: Brought,
) -> Result<Signed, Bad> {
    let client = ClientData::read(&brought.client_data)?;
    client.check(party, Ceremony::Get, challenge)?;
    if brought.authenticator_data.len() > AUTHENTICATOR_DATA_MAX {
        return Err(Bad::AuthenticatorData);
    }
    let data = AuthenticatorData::read(&brought.authenticator_data)?;
    data.check(&party.id_hash())?;
    if data.credential.is_some() {
        return Err(Bad::AuthenticatorData);
    }
    check_signature(public_point, &brought)?;
    data.check_verified()?;
    Ok(Signed {
        counter: data.counter,
        brought,
    })
}

/// Over the authenticator data and the hash of the client data, byte for byte as they came.
fn check_signature(public_point: &[u8], brought: &Brought) -> Result<(), Bad> {
    let key = VerifyingKey::from_sec1_bytes(public_point).map_err(|_| Bad::Key)?;
    let signature = Signature::from_der(&brought.signature).map_err(|_| Bad::Signature)?;
    let mut message = brought.authenticator_data.clone();
    message.extend_from_slice(&Sha256::digest(&brought.client_data));
    key.verify(&message, &signature).map_err(|_| Bad::Signature)
}
