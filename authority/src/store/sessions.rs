//! Which browser is signed in, and which sign-ins are under way?

use async_trait::async_trait;
use protocol::ids::{ClaimId, SessionId, TerminalId};
use protocol::time::{Millis, Timestamp};

use super::{Brought, PersonKey, Result};

/// Most sessions of one profile; one more ends the oldest.
pub const SESSIONS_MAX: u32 = 20;
/// Most sign-ins under way, and of one browser.
pub const ATTEMPTS_MAX: u32 = 20_000;
pub const ATTEMPTS_OF_VISITOR_MAX: u32 = 8;

/// What somebody signs in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To pay, now or later.
    Pay,
    /// So that one more identity opens the profile of a session.
    Link,
    /// To look at the profile.
    Profile,
}

/// A sign-in that begins.
#[derive(Debug, Clone)]
pub struct BeginSignIn {
    /// SHA-256 of the state that goes to the provider and comes back.
    pub state: [u8; 32],
    /// SHA-256 of the browser's secret.
    pub visitor: [u8; 32],
    /// The provider's id in the configuration.
    pub provider: String,
    pub purpose: Purpose,
    pub claim: Option<ClaimId>,
    /// Whose profile the identity is to join; with [`Purpose::Link`] alone.
    pub session: Option<SessionId>,
    /// The provider is told to ask for the password, however lately it did.
    pub fresh: bool,
    pub at: Timestamp,
    pub expires_at: Timestamp,
    /// The claim's hold lasts so long from the claim on, at least, because signing in takes a while.
    pub hold_ms: Millis,
    /// Most that wait, [`ATTEMPTS_MAX`] outside tests: then the oldest without a claim makes room.
    pub waiting_max: u32,
}

/// What [`Sessions::begin_sign_in`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// With the terminal that hears of a longer hold.
    Begun(Option<TerminalId>),
    /// Too many are under way.
    TooMany,
}

/// A sign-in under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub provider: String,
    pub purpose: Purpose,
    pub claim: Option<ClaimId>,
    pub session: Option<SessionId>,
    pub fresh: bool,
}

/// What [`Sessions::take_attempt`] answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// The first time.
    Taken(Attempt),
    /// Again; with the session that came of it, if one did.
    Again(Attempt, Option<SessionId>),
    /// Nobody began it, another browser did, or it took too long.
    Unknown,
}

/// A sign-in that is complete.
#[derive(Debug, Clone)]
pub struct NewSession {
    pub id: SessionId,
    /// SHA-256 of the browser's new secret.
    pub secret: [u8; 32],
    /// SHA-256 of its secret before; a session of that ends.
    pub instead_of: [u8; 32],
    /// The attempt it came of; the same as in [`BeginSignIn::state`].
    pub state: [u8; 32],
    pub person: PersonKey,
    /// The provider's name.
    pub provider: String,
    pub provider_session: Option<String>,
    pub authenticated_at: Timestamp,
    pub strong: bool,
    /// The claim whose hold is now [`NewSession::hold_ms`] from `at` on, once; not if the profile is locked,
    /// or holds [`NewSession::held_max`] others.
    pub claim: Option<ClaimId>,
    pub hold_ms: Millis,
    pub held_max: u32,
    /// The service accounts that come with it; none if the provider brings none.
    pub brought: Option<Brought>,
    pub at: Timestamp,
}

/// What [`Sessions::start_session`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The terminal that hears of a longer hold.
    pub held: Option<TerminalId>,
}

/// A session as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    pub id: SessionId,
    pub person: PersonKey,
    pub provider: String,
    pub authenticated_at: Timestamp,
    pub strong: bool,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
    pub ended: Option<(Timestamp, EndReason)>,
}

/// Why a session ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    SignedOut,
    /// By another sign-in of the same browser.
    Replaced,
    /// The identity provider said so, or is none of ours any more.
    Provider,
    Everywhere,
    TooMany,
    Unlinked,
    Deleted,
}

/// An identity provider ended sessions of its own.
#[derive(Debug, Clone)]
pub struct ProviderLogout {
    pub issuer: String,
    /// Whom it names; none: everybody in `provider_session`.
    pub subject: Option<String>,
    /// Which of its sessions; none: all of `subject`.
    pub provider_session: Option<String>,
    pub jti: String,
    pub at: Timestamp,
    /// From when on the same `jti` would be refused as too old anyway.
    pub forget_at: Timestamp,
}

/// What [`Sessions::end_by_provider`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoggedOut {
    /// How many sessions ended.
    Ended(u32),
    /// It was said before: nothing changed.
    Replayed,
}

#[async_trait]
pub trait Sessions {
    /// Records that a browser goes to a provider. Strangers cause it, so it has no audit row.
    async fn begin_sign_in(&self, begin: BeginSignIn) -> Result<Begun>;

    /// The browser is back. Only the one that began, and only the first time.
    async fn take_attempt(
        &self,
        state: [u8; 32],
        visitor: [u8; 32],
        at: Timestamp,
    ) -> Result<Taken>;

    /// In one transaction: the person, the accounts they bring, the session, the end of the one
    /// before, and the claim's longer hold.
    async fn start_session(&self, session: NewSession) -> Result<Started>;

    /// The session of this secret, ended or not.
    async fn session(&self, secret: [u8; 32]) -> Result<Option<SessionRecord>>;

    /// It was used. No fact, so it has no audit row.
    async fn touch_session(&self, id: SessionId, at: Timestamp) -> Result<()>;

    /// False if it had ended.
    async fn end_session(&self, id: SessionId, at: Timestamp) -> Result<bool>;

    /// Ends every session of the profile; answers how many.
    async fn end_all_sessions(&self, person: PersonKey, at: Timestamp) -> Result<u32>;

    /// Ends sessions that were opened at no one of these issuers, at most so many; answers how many.
    async fn end_sessions_of_others(
        &self,
        issuers: Vec<String>,
        at: Timestamp,
        limit: u32,
    ) -> Result<u32>;

    async fn end_by_provider(&self, logout: ProviderLogout) -> Result<LoggedOut>;

    /// Sign-ins of this profile, the latest first.
    async fn sessions_of(&self, person: PersonKey, limit: u32) -> Result<Vec<SessionRecord>>;

    /// Forgets what is over: sign-ins and links that took too long, logout tokens that are too old,
    /// and sessions that began before `sessions_before`. Answers how many rows.
    async fn forget_sign_ins(
        &self,
        sessions_before: Timestamp,
        now: Timestamp,
        limit: u32,
    ) -> Result<u32>;
}
