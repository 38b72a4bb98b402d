//! How does a shopper sign in with an account that they already have?
//!
//! ```text
//! POST /sign-in/{provider} ─▶ attempt (state, browser, claim) ─▶ PAR ─▶ 303 to the provider
//!                                                                        └── password, finger
//! GET /sign-in/callback ◀── state, code, iss ────────────────────────────────┘
//!   ─▶ same browser, first time? ─▶ iss ─▶ code for ID token ─▶ nonce, aud, exp … ─▶ session
//! ```
//! OpenID Connect with the authorization code, PKCE, `nonce`, and `state` that belongs to one browser.
//! `nonce` and PKCE verifier follow from the browser's own secret and the state, so that nothing here
//! keeps them: whoever brings back the state of another browser has neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64ct::{Base64UrlUnpadded, Encoding};
use protocol::charge::{HOLD_SIGNED_IN_MS, HOLD_SIGNING_IN_MS};
use protocol::ids::{ClaimId, SessionId};
use protocol::problem::ProblemType;
use protocol::time::{Millis, Timestamp};
use sha2::{Digest, Sha256};
use uuid::Uuid;

mod accounts;
mod client;
mod flow;
mod id_token;
mod logout;
mod metadata;
mod trouble;

use self::accounts::Who;
use self::flow::{Asked, Provider};
use self::trouble::Trouble;
use super::Failure;
use super::phone::OwnClaim;
use super::pieces::{PIECES_MAX, in_pieces};
use super::push::Push;
use super::sessions::{SessionCookie, Visitor};
use super::sign_in::ProviderError;
use crate::app::App;
use crate::config::ProviderKind;
use crate::ids;
use crate::store::{
    ATTEMPTS_MAX, Attempt, BeginSignIn, Begun, Chore, LoggedOut, NewSession, OfferLink, Purpose,
    Taken,
};

/// Where providers send browsers back to.
pub const CALLBACK_PATH: &str = "/sign-in/callback";
/// How long somebody may take to sign in.
pub const SIGN_IN_MAX_MS: Millis = 10 * 60_000;
/// How long somebody may take to confirm a link.
pub const LINK_MAX_MS: Millis = 5 * 60_000;
/// How long sign-ins are listed for the shopper.
pub const SIGN_INS_KEPT_MS: Millis = 90 * 24 * 3_600_000;
/// Rows forgotten at a time.
const FORGET_BATCH: u32 = 1_000;
/// Longest state and code that are looked at, in bytes.
const STATE_MAX: usize = 64;
const CODE_MAX: usize = 4_096;

const NONCE_DOMAIN: &[u8] = b"m2key/nonce/1\0";
const VERIFIER_DOMAIN: &[u8] = b"m2key/pkce/1\0";

/// A provider as shoppers choose it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// In `POST /sign-in/{id}`.
    pub id: String,
    pub name: String,
    pub issuer: String,
    pub kind: ProviderKind,
}

/// What somebody signs in for.
#[derive(Debug)]
pub enum What {
    /// To pay; with the claim, if there is one already.
    Pay(Option<Box<OwnClaim>>),
    /// To look at the profile.
    Profile,
    /// So that this account opens the profile of the browser's session, too.
    Link,
}

/// What a provider sends back with the browser.
#[derive(Clone, Default, serde::Deserialize)]
#[serde(default)]
pub struct Callback {
    pub state: String,
    pub code: Option<String>,
    pub iss: Option<String>,
    pub error: Option<String>,
}

/// Where the browser goes from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Start,
    Pay(ClaimId),
    Profile,
    /// A link waits for its confirmation.
    Confirm(Uuid),
}

/// A sign-in came back.
#[derive(Debug)]
pub struct Back {
    /// The browser's new secret, if somebody is signed in now.
    pub cookie: Option<SessionCookie>,
    pub next: Next,
}

/// Sends browsers to identity providers, and believes what they bring back or does not.
pub struct RelyingParty {
    app: Arc<App>,
    push: Arc<Push>,
    providers: Vec<Provider>,
    /// Sessions of others have ended: the configuration is the same as long as the process.
    are_others_over: AtomicBool,
}

impl RelyingParty {
    pub fn new(app: Arc<App>, push: Arc<Push>) -> Result<Self, ProviderError> {
        let redirect_uri = format!("{}{CALLBACK_PATH}", app.config.public.origin());
        let configured = app.config.identity_providers.iter();
        let provider = |config| Provider::new(config, &redirect_uri).transpose();
        let providers = configured.filter_map(provider).collect::<Result<_, _>>()?;
        Ok(Self {
            app,
            push,
            providers,
            are_others_over: AtomicBool::new(false),
        })
    }

    /// The providers that browsers can sign in with, as configured.
    pub fn choices(&self) -> Vec<Choice> {
        self.providers.iter().map(Provider::choice).collect()
    }

    /// Our public key at a provider that knows us by one, as a JWK set.
    pub async fn client_keys(&self, id: &str) -> Result<protocol::jwk::JwkSet, Failure> {
        let provider = self.provider(id).ok_or(ProblemType::NotFound)?;
        let keys = provider.client_keys().await;
        keys.map_err(|trouble| trouble.told(provider.name()))
    }

    /// The address at the provider where this browser goes to sign in. `fresh`: the provider is to ask for
    /// the password even if it knows the browser.
    pub async fn begin(
        &self,
        visitor: &Visitor,
        id: &str,
        what: What,
        fresh: bool,
        now: Timestamp,
    ) -> Result<String, Failure> {
        let provider = self.provider(id).ok_or(ProblemType::NotFound)?;
        let begun = async {
            let session = linking(visitor, &what, now)?;
            let metadata = provider.metadata(now).await;
            let metadata = metadata.map_err(|trouble| trouble.told(provider.name()))?;
            let state = random_state();
            let asked = Asked {
                nonce: visitor.cookie().derived(NONCE_DOMAIN, state.as_bytes()),
                verifier: visitor.cookie().derived(VERIFIER_DOMAIN, state.as_bytes()),
                fresh: fresh || session.is_some(),
                state,
            };
            self.record(visitor, id, &what, session, &asked, now)
                .await?;
            let address = provider.authorization(&metadata, &asked, now).await;
            address.map_err(|trouble| trouble.told(provider.name()))
        };
        self.counted("begun", begun.await)
    }

    async fn record(
        &self,
        visitor: &Visitor,
        id: &str,
        what: &What,
        session: Option<SessionId>,
        asked: &Asked,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let (purpose, claim) = match what {
            What::Pay(claim) => (Purpose::Pay, claim.as_ref()),
            What::Profile => (Purpose::Profile, None),
            What::Link => (Purpose::Link, None),
        };
        let begin = BeginSignIn {
            state: hash(&asked.state),
            visitor: visitor.cookie().hash(),
            provider: id.into(),
            purpose,
            claim: claim.map(|claim| claim.record().claimed.claim),
            session,
            fresh: asked.fresh,
            at: now,
            expires_at: now + SIGN_IN_MAX_MS,
            hold_ms: HOLD_SIGNING_IN_MS,
            waiting_max: ATTEMPTS_MAX,
        };
        match self.app.store.begin_sign_in(begin).await? {
            Begun::Begun(terminal) => {
                terminal.into_iter().for_each(|it| self.push.changed(it));
                Ok(())
            }
            Begun::TooMany => Err(ProblemType::Busy.into()),
        }
    }

    /// The browser is back from the provider.
    pub async fn complete(
        &self,
        visitor: &Visitor,
        back: &Callback,
        now: Timestamp,
    ) -> Result<Back, Failure> {
        let completed = self.judge(visitor, back, now).await;
        self.counted("completed", completed)
    }

    async fn judge(
        &self,
        visitor: &Visitor,
        back: &Callback,
        now: Timestamp,
    ) -> Result<Back, Failure> {
        if back.state.len() > STATE_MAX {
            return Err(ProblemType::SignInOver.into());
        }
        let (state, browser) = (hash(&back.state), visitor.cookie().hash());
        let attempt = match self.app.store.take_attempt(state, browser, now).await? {
            Taken::Taken(attempt) => attempt,
            Taken::Again(attempt, opened) => return again(visitor, &attempt, opened),
            Taken::Unknown => return Err(ProblemType::SignInOver.into()),
        };
        let provider = self.provider(&attempt.provider);
        let provider = provider.ok_or(ProblemType::SignInOver)?;
        let told = |trouble: Trouble| trouble.told(provider.name());
        let metadata = provider.metadata(now).await.map_err(told)?;
        metadata.check_issuer(back.iss.as_deref()).map_err(told)?;
        let Some(code) = answered(back).map_err(told)? else {
            tracing::info!(provider = provider.name(), "a sign-in was given up there");
            let next = next(&attempt);
            return Ok(Back { cookie: None, next });
        };
        let asked = Asked {
            nonce: visitor
                .cookie()
                .derived(NONCE_DOMAIN, back.state.as_bytes()),
            verifier: visitor
                .cookie()
                .derived(VERIFIER_DOMAIN, back.state.as_bytes()),
            state: back.state.clone(),
            fresh: attempt.fresh,
        };
        let who = provider.who(&metadata, &asked, code, now).await;
        let who = who.map_err(told)?;
        match attempt.session {
            Some(session) => self.offer(visitor, provider, session, who, now).await,
            None => {
                self.open(visitor, provider, &attempt, state, who, now)
                    .await
            }
        }
    }

    /// The identity waits for the session's own confirmation.
    async fn offer(
        &self,
        visitor: &Visitor,
        provider: &Provider,
        session: SessionId,
        who: Who,
        now: Timestamp,
    ) -> Result<Back, Failure> {
        // Signed out, or signed in anew, in between.
        if visitor.session().is_none_or(|own| own.id() != session) {
            return Err(ProblemType::SignInOver.into());
        }
        let offer = OfferLink {
            id: ids::fresh(now, SessionId::from_parts).0,
            session,
            identity: who.person,
            provider: provider.name().into(),
            brought: who.brought,
            at: now,
            expires_at: now + LINK_MAX_MS,
        };
        let next = Next::Confirm(offer.id);
        self.app.store.offer_link(offer).await?;
        Ok(Back { cookie: None, next })
    }

    async fn open(
        &self,
        visitor: &Visitor,
        provider: &Provider,
        attempt: &Attempt,
        state: [u8; 32],
        who: Who,
        now: Timestamp,
    ) -> Result<Back, Failure> {
        let cookie = SessionCookie::generate();
        let session = NewSession {
            id: ids::fresh(now, SessionId::from_parts),
            secret: cookie.hash(),
            instead_of: visitor.cookie().hash(),
            state,
            person: who.person,
            provider: provider.name().into(),
            provider_session: who.provider_session,
            authenticated_at: who.authenticated_at,
            strong: who.strong,
            claim: attempt.claim,
            hold_ms: HOLD_SIGNED_IN_MS,
            held_max: self.app.config.spending.traffic.claims_per_shopper,
            brought: who.brought,
            at: now,
        };
        let started = self.app.store.start_session(session).await?;
        started
            .held
            .into_iter()
            .for_each(|it| self.push.changed(it));
        tracing::info!(provider = provider.name(), "a shopper signed in");
        Ok(Back {
            cookie: Some(cookie),
            next: next(attempt),
        })
    }

    /// A provider says that a session of its own has ended (OpenID Connect Back-Channel Logout).
    pub async fn log_out(
        &self,
        id: &str,
        logout_token: &str,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let provider = self.provider(id).ok_or(ProblemType::NotFound)?;
        let logout = provider.logout(logout_token, now).await;
        let logout = logout.map_err(|trouble| trouble.told_provider(provider.name()))?;
        match self.app.store.end_by_provider(logout).await? {
            LoggedOut::Ended(sessions) => {
                tracing::info!(provider = provider.name(), sessions, "logged out there")
            }
            LoggedOut::Replayed => {
                tracing::info!(provider = provider.name(), "a logout was said again")
            }
        }
        Ok(())
    }

    /// Forgets what is over, batch by batch; answers how many rows.
    pub async fn forget(&self, now: Timestamp) -> Result<usize, Failure> {
        let before = now - SIGN_INS_KEPT_MS;
        let piece = || async move {
            let store = &self.app.store;
            let forgotten = store.forget_sign_ins(before, now, FORGET_BATCH).await?;
            Ok(forgotten as usize)
        };
        in_pieces(&self.app, Chore::Forgetting, PIECES_MAX, 1, piece).await
    }

    /// Ends what providers opened that the configuration does not name any more; answers how many sessions.
    pub async fn end_of_others(&self, now: Timestamp) -> Result<usize, Failure> {
        if self.are_others_over.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let issuers = self.app.config.browser_issuers();
        let issuers: Vec<String> = issuers.map(str::to_owned).collect();
        let store = &self.app.store;
        let mut ended = 0;
        for _ in 0..PIECES_MAX {
            let others = store.end_sessions_of_others(issuers.clone(), now, FORGET_BATCH);
            match others.await? {
                0 => {
                    self.are_others_over.store(true, Ordering::Relaxed);
                    break;
                }
                batch => ended += batch as usize,
            }
        }
        if ended > 0 {
            tracing::warn!(
                sessions = ended,
                "ended: their identity provider is not in the configuration any more"
            );
        }
        Ok(ended)
    }

    fn provider(&self, id: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.id() == id)
    }

    fn counted<T>(&self, step: &str, result: Result<T, Failure>) -> Result<T, Failure> {
        let outcome = super::outcome(&result, "accepted");
        let counter = &self.app.metrics.browser_sign_ins;
        counter.with_label_values(&[step, outcome]).inc();
        result
    }
}

/// The session whose profile is to be joined: only one that signed in a moment ago.
fn linking(visitor: &Visitor, what: &What, now: Timestamp) -> Result<Option<SessionId>, Failure> {
    match what {
        What::Pay(_) | What::Profile => Ok(None),
        What::Link => {
            let session = visitor.demand_session()?;
            session.demand_fresh(now)?;
            Ok(Some(session.id()))
        }
    }
}

/// The callback once more, by the back button or a second tab: whoever it signed in goes on.
fn again(visitor: &Visitor, attempt: &Attempt, opened: Option<SessionId>) -> Result<Back, Failure> {
    let own = visitor.session().map(|session| session.id());
    let it = opened.or(attempt.session);
    match own.is_some() && own == it {
        true => Ok(Back {
            cookie: None,
            next: next(attempt),
        }),
        false => Err(ProblemType::SignInOver.into()),
    }
}

fn next(attempt: &Attempt) -> Next {
    match (attempt.purpose, attempt.claim) {
        (Purpose::Pay, Some(claim)) => Next::Pay(claim),
        (Purpose::Pay, None) => Next::Start,
        (Purpose::Link | Purpose::Profile, _) => Next::Profile,
    }
}

/// The code; none if the shopper gave up at the provider.
fn answered(back: &Callback) -> Result<Option<&str>, Trouble> {
    match (back.error.as_deref(), back.code.as_deref()) {
        (Some("access_denied"), _) => Ok(None),
        (Some("temporarily_unavailable" | "server_error"), _) => {
            Err(Trouble::Down("it says that it cannot serve".into()))
        }
        (Some("login_required" | "interaction_required" | "consent_required"), _) => Ok(None),
        (Some(_), _) => Err(Trouble::Refused("it answered with an error".into())),
        (None, Some(code)) if (1..=CODE_MAX).contains(&code.len()) => Ok(Some(code)),
        (None, _) => Err(Trouble::Refused(
            "it answered neither code nor error".into(),
        )),
    }
}

fn random_state() -> String {
    Base64UrlUnpadded::encode_string(&ids::random::<32>())
}

fn hash(state: &str) -> [u8; 32] {
    Sha256::digest(state.as_bytes()).into()
}
