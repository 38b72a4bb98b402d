//! Who is this browser, and does this form come from a page that we gave it?
//!
//! ```text
//! cookie ─▶ SessionCookie ─▶ SHA-256 ─▶ a row in force? ─▶ Visitor with a Session
//!    └─ none, or not ours ─▶ a fresh secret ────────────▶ Visitor without: its forms are known, it is not
//! ```
//! Every visitor has a secret, so that forms are guarded before anybody signs in; it gets a new one at
//! sign-in, so that a secret somebody planted opens nothing.

use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding};
use protocol::ids::SessionId;
use protocol::problem::ProblemType;
use protocol::time::{Millis, Timestamp};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::Failure;
use super::sign_in::{By, SignedIn};
use crate::app::App;
use crate::config::Config;
use crate::ids;
use crate::store::{PersonKey, SessionRecord};

/// The cookie that is a browser's secret.
pub const SESSION_COOKIE: &str = "__Host-m2key-session";
/// Use is noted no more often than that.
pub const SEEN_EVERY_MS: Millis = 60_000;

const SECRET_BYTES: usize = 32;
const FORM_DOMAIN: &[u8] = b"m2key/form/1\0";
const CLAIM_DOMAIN: &[u8] = b"m2key/phone/1\0";

/// A browser's secret. Mute.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SessionCookie([u8; SECRET_BYTES]);

impl SessionCookie {
    pub fn generate() -> Self {
        Self(ids::random())
    }

    /// The value of the cookie.
    pub fn parse(value: &str) -> Option<Self> {
        let mut bytes = [0; SECRET_BYTES];
        let decoded = Base64UrlUnpadded::decode(value, &mut bytes).ok()?.len();
        (decoded == SECRET_BYTES).then_some(Self(bytes))
    }

    /// What the database keeps of it.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// Another value that only this browser can have, for one purpose and one occasion.
    pub(super) fn derived(&self, domain: &[u8], occasion: &[u8]) -> String {
        let mut hash = Sha256::new();
        hash.update(domain);
        hash.update(self.0);
        hash.update(occasion);
        Base64UrlUnpadded::encode_string(&hash.finalize())
    }

    /// The whole `Set-Cookie` value.
    pub fn set_cookie(&self) -> String {
        let value = Base64UrlUnpadded::encode_string(&self.0);
        format!("{SESSION_COOKIE}={value}; Secure; HttpOnly; SameSite=Lax; Path=/")
    }
}

impl std::fmt::Debug for SessionCookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionCookie(..)")
    }
}

/// A browser that is signed in. Only [`Sessions`] makes one.
#[derive(Debug, Clone)]
pub struct Session {
    id: SessionId,
    person: PersonKey,
    provider: String,
    authenticated_at: Timestamp,
    strong: bool,
    started_at: Timestamp,
}

impl Session {
    /// Of its row.
    pub fn id(&self) -> SessionId {
        self.id
    }

    pub fn person(&self) -> &PersonKey {
        &self.person
    }

    /// The provider's name.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// When the provider last asked for a password or a finger.
    pub fn authenticated_at(&self) -> Timestamp {
        self.authenticated_at
    }

    /// Whether it asked for two independent things.
    pub fn strong(&self) -> bool {
        self.strong
    }

    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    pub fn signed_in(&self) -> SignedIn {
        SignedIn::of_session(self)
    }

    pub fn is_fresh(&self, now: Timestamp) -> bool {
        self.signed_in().is_fresh(now)
    }

    /// For what changes who gets in: refused unless the sign-in is young.
    pub fn demand_fresh(&self, now: Timestamp) -> Result<(), Failure> {
        self.signed_in().demand_fresh(now)
    }
}

impl From<&Session> for SignedIn {
    fn from(session: &Session) -> Self {
        session.signed_in()
    }
}

/// Whoever asks with a browser.
#[derive(Debug, Clone)]
pub struct Visitor {
    cookie: SessionCookie,
    is_new: bool,
    session: Option<Session>,
}

impl Visitor {
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// The session, or that one is needed.
    pub fn demand_session(&self) -> Result<&Session, Failure> {
        self.session()
            .ok_or_else(|| ProblemType::SignInNeeded.into())
    }

    /// Who is signed in, or that it is needed.
    pub fn signed_in(&self) -> Result<SignedIn, Failure> {
        self.demand_session().map(Session::signed_in)
    }

    /// What every form on a page for this visitor carries as `form_token`.
    pub fn form_token(&self) -> String {
        self.cookie.derived(FORM_DOMAIN, &[])
    }

    /// Was this form on a page that we gave to this visitor?
    pub fn check_form(&self, form_token: &str) -> Result<(), Failure> {
        let expected = self.form_token();
        match bool::from(expected.as_bytes().ct_eq(form_token.as_bytes())) {
            true => Ok(()),
            false => Err(ProblemType::FormRefused.into()),
        }
    }

    /// The `Set-Cookie` value that the answer must carry, if the browser does not have its secret yet.
    pub fn set_cookie(&self) -> Option<String> {
        self.is_new.then(|| self.cookie.set_cookie())
    }

    /// What this browser keeps of a claim with this token: the same each time, so that a press that
    /// comes twice is one claim.
    pub fn secret_for(&self, token: &str) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(CLAIM_DOMAIN);
        hash.update(self.cookie.0);
        hash.update(token.trim());
        hash.finalize().into()
    }

    pub(super) fn cookie(&self) -> &SessionCookie {
        &self.cookie
    }
}

/// Tells browsers apart.
pub struct Sessions {
    app: Arc<App>,
}

impl Sessions {
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    /// The visitor whose [`SESSION_COOKIE`] has this value; whoever has none is a new one.
    pub async fn of(&self, cookie: Option<&str>, now: Timestamp) -> Result<Visitor, Failure> {
        let Some(cookie) = cookie.and_then(SessionCookie::parse) else {
            return Ok(Self::unknown(None));
        };
        let record = self.app.store.session(cookie.hash()).await?;
        let in_force = record.filter(|it| is_in_force(it, &self.app.config, now));
        if let Some(record) = &in_force {
            self.touch(record, now).await;
        }
        Ok(Visitor {
            cookie,
            is_new: false,
            session: in_force.map(session_of),
        })
    }

    /// The same without a look at the books: nobody is signed in. For whoever asks too much.
    pub fn unknown(cookie: Option<&str>) -> Visitor {
        let brought = cookie.and_then(SessionCookie::parse);
        Visitor {
            is_new: brought.is_none(),
            cookie: brought.unwrap_or_else(SessionCookie::generate),
            session: None,
        }
    }

    /// The session is over, now.
    pub async fn end(&self, session: &Session, now: Timestamp) -> Result<(), Failure> {
        // One that ended in between has what it wanted.
        self.app.store.end_session(session.id, now).await?;
        Ok(())
    }

    /// Every session of this shopper's profile is over, this one too; answers how many that were.
    pub async fn end_everywhere(&self, session: &Session, now: Timestamp) -> Result<u32, Failure> {
        let person = session.person.clone();
        Ok(self.app.store.end_all_sessions(person, now).await?)
    }

    /// A page is not refused because its use cannot be noted.
    async fn touch(&self, record: &SessionRecord, now: Timestamp) {
        if now - record.seen_at < SEEN_EVERY_MS {
            return;
        }
        if let Err(error) = self.app.store.touch_session(record.id, now).await {
            tracing::warn!(%error, "that a session was used is not noted");
        }
    }
}

/// What a provider opened that the configuration names no more is over with it.
fn is_in_force(record: &SessionRecord, config: &Config, now: Timestamp) -> bool {
    let (limits, issuer) = (&config.sessions, &record.person.issuer);
    record.ended.is_none()
        && config
            .browser_issuers()
            .any(|configured| configured == issuer)
        && now - record.seen_at < limits.idle_ms
        && now - record.started_at < limits.longest_ms
}

fn session_of(record: SessionRecord) -> Session {
    Session {
        id: record.id,
        person: record.person,
        provider: record.provider,
        authenticated_at: record.authenticated_at,
        strong: record.strong,
        started_at: record.started_at,
    }
}

impl SignedIn {
    fn of_session(session: &Session) -> Self {
        Self {
            person: session.person.clone(),
            provider: session.provider.clone(),
            authenticated_at: session.authenticated_at,
            strong: session.strong,
            by: By::Session(session.id),
            key: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn visitor() -> Visitor {
        Visitor {
            cookie: SessionCookie::generate(),
            is_new: true,
            session: None,
        }
    }

    #[test]
    fn a_cookie_reads_back_and_says_nothing_in_logs() {
        let cookie = SessionCookie::generate();
        let set = cookie.set_cookie();
        let (name, rest) = set.split_once('=').unwrap();
        assert_eq!(name, SESSION_COOKIE);
        let (value, attributes) = rest.split_once(';').unwrap();
        assert_eq!(attributes, " Secure; HttpOnly; SameSite=Lax; Path=/");
        assert_eq!(SessionCookie::parse(value).unwrap().hash(), cookie.hash());
        assert!(!format!("{cookie:?}").contains(value));
        assert!(SessionCookie::parse(&value[1..]).is_none());
        assert!(SessionCookie::parse("").is_none());
    }

    #[test]
    fn a_form_belongs_to_one_visitor_and_its_token_is_not_the_secret() {
        let (ann, bob) = (visitor(), visitor());
        ann.check_form(&ann.form_token()).unwrap();
        assert!(bob.check_form(&ann.form_token()).is_err());
        assert!(ann.check_form("").is_err());
        assert!(!ann.cookie.set_cookie().contains(&ann.form_token()));
    }
}
