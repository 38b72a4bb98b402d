//! Which passkeys does a shopper have, and what are they asked to sign?

use async_trait::async_trait;
use protocol::ids::{AccountId, ClaimId};
use protocol::time::Timestamp;

use super::{PersonKey, Result};

/// Most passkeys of one profile.
pub const PASSKEYS_MAX: usize = 8;
/// Most challenges of one profile that wait; one more takes the place of the oldest.
pub const CHALLENGES_MAX: u32 = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passkey {
    /// What its authenticator calls it.
    pub id: Vec<u8>,
    /// Uncompressed point on P-256.
    pub public_point: Vec<u8>,
    pub counter: u32,
    pub name: String,
    pub added_at: Timestamp,
    pub used_at: Option<Timestamp>,
}

/// A profile's passkeys, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passkeys {
    /// What authenticators know the profile by: random to everybody else.
    pub handle: [u8; 32],
    pub passkeys: Vec<Passkey>,
}

/// What a passkey is to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    pub challenge: [u8; 32],
    pub nonce: [u8; 32],
    pub about: About,
    pub ends_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// A new passkey.
    Registration,
    Payment {
        claim: ClaimId,
        amount_minor: i64,
        account: AccountId,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPasskey {
    pub person: PersonKey,
    pub challenge: [u8; 32],
    pub id: Vec<u8>,
    pub public_point: [u8; 65],
    pub counter: u32,
    pub name: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddPasskey {
    Added,
    /// The challenge was used, is over, or somebody else's.
    ChallengeOver,
    /// This credential id is known already, here or in another profile.
    Taken,
    TooMany,
}

#[async_trait]
pub trait PasskeyBook {
    /// None before the first sign-in.
    async fn passkeys(&self, person: PersonKey) -> Result<Option<Passkeys>>;

    /// One that is not removed, of this person.
    async fn passkey(&self, person: PersonKey, id: Vec<u8>) -> Result<Option<Passkey>>;

    /// Makes the profile if there is none yet.
    async fn add_challenge(
        &self,
        person: PersonKey,
        challenge: Challenge,
        at: Timestamp,
    ) -> Result<()>;

    /// One of this person that is not over.
    async fn challenge(
        &self,
        person: PersonKey,
        challenge: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Challenge>>;

    /// Uses the challenge up.
    async fn add_passkey(&self, passkey: NewPasskey) -> Result<AddPasskey>;

    async fn rename_passkey(
        &self,
        person: PersonKey,
        id: Vec<u8>,
        name: String,
        at: Timestamp,
    ) -> Result<bool>;

    /// It confirms nothing from then on.
    async fn remove_passkey(&self, person: PersonKey, id: Vec<u8>, at: Timestamp) -> Result<bool>;

    /// Its authenticator showed a counter that it had passed before: there may be two of it.
    async fn note_regression(
        &self,
        person: PersonKey,
        id: Vec<u8>,
        shown: u32,
        at: Timestamp,
    ) -> Result<()>;
}
