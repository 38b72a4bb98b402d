//! Which identities open one shopper's profile, and what do they pay from?

use async_trait::async_trait;
use protocol::ids::{AccountId, SessionId};
use protocol::money::Currency;
use protocol::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{PersonKey, Result};

/// Most identities of one profile.
pub const IDENTITIES_MAX: u32 = 8;
/// Most accounts that one identity brings.
pub const ACCOUNTS_BROUGHT_MAX: usize = 16;

/// How long counters of a profile go on to count for an identity that left it.
pub const PARTED_KEPT_MS: Millis = 35 * 24 * 3_600_000;

/// What a provider says its customer can pay from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brought {
    /// What moves the money.
    pub rail: String,
    pub accounts: Vec<BroughtAccount>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BroughtAccount {
    /// What the rail calls it.
    pub reference: String,
    /// What the shopper calls it.
    pub name: String,
    pub currency: Currency,
}

/// One shopper, as they see themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The oldest first.
    pub identities: Vec<ProfileIdentity>,
    /// The open ones: the default first, then the oldest.
    pub accounts: Vec<ProfileAccount>,
    /// Since when it pays nothing, and why.
    pub locked: Option<(Timestamp, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileIdentity {
    pub key: PersonKey,
    pub linked_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileAccount {
    pub id: AccountId,
    pub rail: String,
    pub name: String,
    pub currency: Currency,
    /// The issuer of the identity that brought it; none in the built-in ledger.
    pub issuer: Option<String>,
    pub is_default: bool,
}

/// An identity has signed in to join the profile of a session.
#[derive(Debug, Clone)]
pub struct OfferLink {
    pub id: Uuid,
    pub session: SessionId,
    pub identity: PersonKey,
    /// The provider's name.
    pub provider: String,
    pub brought: Option<Brought>,
    pub at: Timestamp,
    pub expires_at: Timestamp,
}

/// The same as the confirming page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedLink {
    pub id: Uuid,
    pub identity: PersonKey,
    pub provider: String,
    pub accounts: Vec<BroughtAccount>,
}

/// What [`Profiles::link`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linked {
    Done,
    /// It opens this profile already.
    Already,
    /// No such offer for this session, or it took too long.
    Unknown,
    /// It opens another profile, and that one is in use.
    Taken,
    /// The profile is locked.
    Locked,
    /// The profile has as many as it may.
    TooMany,
}

/// What [`Profiles::unlink`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlinked {
    Done,
    /// It does not open this profile.
    Unknown,
    /// It is the only one.
    Last,
    /// The profile is locked, and an identity that left it would not be.
    Locked,
}

/// What [`Profiles::delete_profile`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    Done,
    Unknown,
    /// Money of theirs lies in the built-in ledger.
    BalanceLeft,
    /// A claim of theirs is held.
    Unsettled,
    /// It is locked, and who comes back would not be.
    Locked,
}

#[async_trait]
pub trait Profiles {
    /// None before the first sign-in.
    async fn profile(&self, person: PersonKey) -> Result<Option<Profile>>;

    /// Waits for the session's confirmation.
    async fn offer_link(&self, offer: OfferLink) -> Result<()>;

    async fn offered_link(
        &self,
        id: Uuid,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Option<OfferedLink>>;

    /// The identity joins the profile of the session, with the accounts it brings. One that opens
    /// another profile moves only if nothing else is in that.
    async fn link(&self, id: Uuid, session: SessionId, at: Timestamp) -> Result<Linked>;

    /// The identity opens `person`'s profile no more; its accounts close and its sessions end. What counts
    /// against limits goes on to count for it, wherever it comes next, for [`PARTED_KEPT_MS`].
    async fn unlink(
        &self,
        person: PersonKey,
        identity: PersonKey,
        at: Timestamp,
    ) -> Result<Unlinked>;

    /// Offered first from now on. False if it is not an open account of theirs.
    async fn set_default_account(
        &self,
        person: PersonKey,
        account: AccountId,
        at: Timestamp,
    ) -> Result<bool>;

    /// The shopper leaves: no identity opens the profile any more, its salts are new ones that
    /// nobody has seen, its accounts close, its sessions end. Its counters stay as with `unlink`.
    async fn delete_profile(&self, person: PersonKey, at: Timestamp) -> Result<Deleted>;

    /// Forgets counters of identities that left long ago, at most so many; answers how many.
    async fn forget_parted(&self, now: Timestamp, limit: u32) -> Result<usize>;
}
