//! What can shoppers change about who opens their profile, and what it pays from?
//!
//! Every verb takes the shopper's own [`Session`]. What changes who gets in needs a sign-in of the last
//! minutes, so that a borrowed phone is not enough.

use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding};
use protocol::ids::{AccountId, SessionId};
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Failure;
use super::pieces::{PIECES_MAX, in_pieces};
use super::sessions::Session;
use crate::app::App;
use crate::store::{
    BroughtAccount, Chore, Deleted, EndReason, Linked, PersonKey, Profile, ProfileAccount, Unlinked,
};

/// Sign-ins that a shopper is shown.
pub const SIGN_INS_SHOWN: u32 = 50;

/// Rows forgotten at a time.
const FORGET_BATCH: u32 = 1_000;

/// A profile as its page shows it.
#[derive(Debug, Clone)]
pub struct OwnProfile {
    pub identities: Vec<OwnIdentity>,
    /// The one that is offered first comes first.
    pub accounts: Vec<ProfileAccount>,
    /// Since when it pays nothing, and why.
    pub locked: Option<(Timestamp, String)>,
}

/// One account elsewhere that opens the profile. Says nothing of what it is called there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnIdentity {
    /// For forms: which one is meant.
    pub handle: String,
    /// The provider's name.
    pub provider: String,
    pub linked_at: Timestamp,
    /// The session asking came by it.
    pub is_current: bool,
}

/// What is about to be joined, for the page that asks.
#[derive(Debug, Clone)]
pub struct Joining {
    pub link: Uuid,
    /// The provider whose account joins.
    pub provider: String,
    pub accounts: Vec<BroughtAccount>,
    /// The profile it joins.
    pub profile: OwnProfile,
}

/// A sign-in of the past, or of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignInSeen {
    pub session: SessionId,
    pub provider: String,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
    pub ended: Option<(Timestamp, EndReason)>,
    pub is_current: bool,
}

/// Carries out what shoppers ask for.
pub struct Profiles {
    app: Arc<App>,
}

impl Profiles {
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    pub async fn of(&self, session: &Session) -> Result<OwnProfile, Failure> {
        let person = session.person().clone();
        let profile = self.app.store.profile(person).await?;
        let profile = profile.ok_or(ProblemType::SignInNeeded)?;
        Ok(self.shown(profile, session))
    }

    /// The latest first.
    pub async fn sign_ins(&self, session: &Session) -> Result<Vec<SignInSeen>, Failure> {
        let store = &self.app.store;
        let person = session.person().clone();
        let found = store.sessions_of(person, SIGN_INS_SHOWN).await?;
        let seen = found.into_iter().map(|record| SignInSeen {
            is_current: record.id == session.id(),
            session: record.id,
            provider: record.provider,
            started_at: record.started_at,
            seen_at: record.seen_at,
            ended: record.ended,
        });
        Ok(seen.collect())
    }

    /// What a sign-in for a link has brought: names what joins, and what it joins.
    pub async fn joining(
        &self,
        session: &Session,
        link: Uuid,
        now: Timestamp,
    ) -> Result<Joining, Failure> {
        let offered = self.app.store.offered_link(link, session.id(), now).await?;
        let offered = offered.ok_or(ProblemType::SignInOver)?;
        Ok(Joining {
            link,
            provider: offered.provider,
            accounts: offered.accounts,
            profile: self.of(session).await?,
        })
    }

    /// The shopper has seen which profile it is, and agrees.
    pub async fn join(&self, session: &Session, link: Uuid, now: Timestamp) -> Result<(), Failure> {
        match self.app.store.link(link, session.id(), now).await? {
            Linked::Done | Linked::Already => Ok(()),
            Linked::Unknown => Err(ProblemType::SignInOver.into()),
            Linked::Taken => Err(ProblemType::IdentityTaken.into()),
            Linked::Locked => Err(ProblemType::ProfileLocked.into()),
            Linked::TooMany => Err(Problem::new(ProblemType::ProfileInUse)
                .with_detail("it has as many accounts as it may: unlink one first")
                .into()),
        }
    }

    pub async fn unlink(
        &self,
        session: &Session,
        handle: &str,
        now: Timestamp,
    ) -> Result<(), Failure> {
        session.demand_fresh(now)?;
        let (store, person) = (&self.app.store, session.person().clone());
        let profile = store.profile(person.clone()).await?;
        let identities = profile.map_or(Vec::new(), |profile| profile.identities);
        let mut keys = identities.into_iter().map(|identity| identity.key);
        let identity = keys.find(|key| handle_of(key) == handle);
        let identity = identity.ok_or(ProblemType::Unknown)?;
        match store.unlink(person, identity, now).await? {
            Unlinked::Done => Ok(()),
            Unlinked::Unknown => Err(ProblemType::Unknown.into()),
            Unlinked::Last => Err(ProblemType::IdentityLast.into()),
            Unlinked::Locked => Err(ProblemType::ProfileLocked.into()),
        }
    }

    /// Offered first from now on.
    pub async fn set_default(
        &self,
        session: &Session,
        account: AccountId,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let person = session.person().clone();
        let store = &self.app.store;
        match store.set_default_account(person, account, now).await? {
            true => Ok(()),
            false => Err(ProblemType::Unknown.into()),
        }
    }

    /// The shopper leaves. The session is over, too.
    pub async fn delete(&self, session: &Session, now: Timestamp) -> Result<(), Failure> {
        session.demand_fresh(now)?;
        let person = session.person().clone();
        let in_use = |why: &str| {
            Err(Problem::new(ProblemType::ProfileInUse)
                .with_detail(why)
                .into())
        };
        match self.app.store.delete_profile(person, now).await? {
            Deleted::Done => Ok(()),
            Deleted::Unknown => Err(ProblemType::SignInNeeded.into()),
            Deleted::BalanceLeft => in_use("there is money left in the balance"),
            Deleted::Unsettled => in_use("a payment is under way"),
            Deleted::Locked => Err(ProblemType::ProfileLocked.into()),
        }
    }

    fn shown(&self, profile: Profile, session: &Session) -> OwnProfile {
        let identities = profile.identities.into_iter().map(|identity| OwnIdentity {
            handle: handle_of(&identity.key),
            provider: self.provider_name(&identity.key.issuer),
            linked_at: identity.linked_at,
            is_current: identity.key == *session.person(),
        });
        OwnProfile {
            identities: identities.collect(),
            accounts: profile.accounts,
            locked: profile.locked,
        }
    }

    /// As configured now; a provider that is configured no more is named by its issuer.
    pub fn provider_name(&self, issuer: &str) -> String {
        let mut configured = self.app.config.identity_providers.iter();
        let found = configured.find(|provider| provider.issuer == issuer);
        found.map_or_else(|| issuer.to_owned(), |provider| provider.name.clone())
    }
}

/// Forgets counters of identities that left long ago; answers how many.
pub async fn forget(app: &App, now: Timestamp) -> Result<usize, Failure> {
    let piece = || app.store.forget_parted(now, FORGET_BATCH);
    let whole = FORGET_BATCH as usize;
    in_pieces(app, Chore::Forgetting, PIECES_MAX, whole, piece).await
}

/// Names an identity towards its own shopper, without what the provider calls them.
fn handle_of(key: &PersonKey) -> String {
    let mut hash = Sha256::new();
    hash.update(b"m2key/identity/1\0");
    hash.update((key.issuer.len() as u64).to_be_bytes());
    hash.update(key.issuer.as_bytes());
    hash.update(key.subject.as_bytes());
    Base64UrlUnpadded::encode_string(&hash.finalize()[..16])
}
