//! Does a provider really say that a session of its own has ended?

use protocol::time::{Millis, Timestamp};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::id_token::SID_MAX;
use super::trouble::Trouble;
use crate::services::sign_in::token::{Audience, BadToken, LEEWAY_MS, NumericDate, check_subject};
use crate::store::ProviderLogout;

/// Nobody mistakes an ID token for one: it has an event, and no nonce.
pub(super) const TAKEN: &[&str] = &["logout+jwt", "jwt", ""];
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// How long a logout token may be good, and is good if it does not say.
const LIFE_MAX_MS: Millis = 10 * 60_000;
/// Longest name of one, in bytes.
const JTI_MAX: usize = 128;

#[derive(Deserialize)]
pub(super) struct LogoutToken {
    iss: String,
    sub: Option<String>,
    aud: Audience,
    iat: NumericDate,
    exp: Option<NumericDate>,
    jti: String,
    events: Map<String, Value>,
    sid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    nonce: bool,
}

impl LogoutToken {
    /// OpenID Connect Back-Channel Logout, section 2.6.
    pub(super) fn check(
        self,
        issuer: &str,
        client_id: &str,
        now: Timestamp,
    ) -> Result<ProviderLogout, Trouble> {
        if self.iss != issuer {
            return Err(BadToken::Issuer.into());
        }
        if !self.aud.contains(client_id) {
            return Err(BadToken::Audience.into());
        }
        let forget_at = self.check_time(now)?;
        let event = self.events.get(EVENT).is_some_and(Value::is_object);
        if !event || self.nonce {
            return Err(Trouble::Refused("it is no logout token".into()));
        }
        let fits = |text: &str, max: usize| (1..=max).contains(&text.len());
        let sid = self.sid.as_deref();
        if !fits(&self.jti, JTI_MAX) || sid.is_some_and(|sid| !fits(sid, SID_MAX)) {
            return Err(BadToken::Malformed.into());
        }
        self.sub.as_deref().map_or(Ok(()), check_subject)?;
        if self.sub.is_none() && self.sid.is_none() {
            return Err(BadToken::Subject.into());
        }
        Ok(ProviderLogout {
            issuer: self.iss,
            subject: self.sub,
            provider_session: self.sid,
            jti: self.jti,
            at: now,
            forget_at,
        })
    }

    /// In its time; answers when it is too old for sure.
    fn check_time(&self, now: Timestamp) -> Result<Timestamp, BadToken> {
        let issued = self.iat.at()?;
        let last = issued + LIFE_MAX_MS;
        let expires = self.exp.map_or(Ok(last), NumericDate::at)?.min(last) + LEEWAY_MS;
        if issued > now + LEEWAY_MS {
            return Err(BadToken::Early);
        }
        match now < expires {
            true => Ok(expires),
            false => Err(BadToken::Expired),
        }
    }
}

/// True for whatever stands there, `null` too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}
