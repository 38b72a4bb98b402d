//! Where do others learn which certificates are no longer good?
//!
//! ```text
//! every hour, for a new issuing CA, and seconds after a revocation ──▶ number from the store ──▶ list ──▶ signed ──▶ published
//! ```
//! One list per issuing CA, made beside the requests and served from memory: neither an issuance nor
//! who asks for a list waits for it. Inside this system nobody needs one, the store is asked.
//!
//! Certificates that were renewed are not on it. Nobody has lost their key, they end within days, and
//! with every terminal renewing twice a week they would be nearly all of the list.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use pki::crl::{BadCrl, CrlRequest, Revoked, SignedCrl};
use pki::{Certificate, KeyState, PkiError};
use protocol::time::{Millis, Timestamp};
use sha2::{Digest, Sha256};

use super::Failure;
use crate::app::App;
use crate::clock::unix_seconds;
use crate::store::RevokedSerial;

/// How often a list is made although nothing was revoked.
pub const CRL_EVERY: Duration = Duration::from_secs(3_600);
/// How long a list is good: those who read it last an hour ago may be without us for a day.
pub const CRL_LIFE_MS: Millis = 24 * 3_600_000;
/// A list that is older than this is late, and readiness warns.
pub const CRL_LATE_MS: Millis = 3 * 3_600_000;
/// From a revocation to its list, so that many make one. With the time to sign below ten seconds.
pub const CRL_DEBOUNCE: Duration = Duration::from_secs(5);
/// How often is looked whether there is an issuing CA without a list.
const CA_LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a list that could not be made.
pub const CRL_RETRY: Duration = Duration::from_secs(30);
/// Times a number is taken anew because the signer has seen a higher one.
const NUMBERS_MAX: u32 = 3;
/// How long others may keep a list without asking, in seconds.
pub const CRL_MAX_AGE_S: u32 = 300;

/// A list as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub der: Bytes,
    pub number: u64,
    /// For If-None-Match, quotes included.
    pub etag: String,
    pub this_update: Timestamp,
    pub next_update: Timestamp,
}

/// The lists of this authority.
pub struct Crls {
    app: Arc<App>,
    /// By the key identifier of the issuing CA, lower-case hex.
    published: RwLock<HashMap<String, Arc<Published>>>,
}

impl Crls {
    pub fn new(app: Arc<App>) -> Self {
        Self {
            app,
            published: RwLock::default(),
        }
    }

    /// The list of the issuing CA with this key identifier; none for a CA that is not ours, or before
    /// the first list of this process.
    pub fn get(&self, issuer_key: &str) -> Option<Arc<Published>> {
        let published = self.published.read();
        let published = published.unwrap_or_else(PoisonError::into_inner);
        published.get(issuer_key).cloned()
    }

    /// Whether this process has not made the list of that issuing CA yet, and will.
    pub fn is_awaited(&self, issuer_key: &str) -> bool {
        let cas = self.app.issuer.issuing_cas().into_iter();
        let keys = cas.filter(|ca| ca.state != KeyState::Retired);
        keys.filter_map(|ca| ca.chain.issuing().key_id_hex())
            .any(|key| key == issuer_key)
            && self.get(issuer_key).is_none()
    }

    /// Makes the lists when they are due, until the drain starts.
    pub async fn run(&self) {
        loop {
            // Before the store is read: what is heard from here on may not be on this list yet, and what
            // was heard before is.
            let mut bans = self.app.bans.listen();
            let mut revoked = self.app.bans.listen_revoked();
            let wait = match self.publish_all(self.app.clock.now()).await {
                Ok(_) => CRL_EVERY,
                Err(why) => {
                    tracing::warn!(error = %why, "a revocation list could not be made");
                    CRL_RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => continue,
                // A list that could not be made is missing, too: then only after the pause.
                () = self.until_one_is_missing(), if wait == CRL_EVERY => continue,
                _ = bans.next() => {}
                _ = revoked.next() => {}
                () = self.app.draining() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(CRL_DEBOUNCE) => {}
                () = self.app.draining() => return,
            }
        }
    }

    /// Whoever is shown a certificate of a new issuing CA may ask for its list at once.
    async fn until_one_is_missing(&self) {
        let has_none = |issuing: &Certificate| {
            issuing
                .key_id_hex()
                .is_some_and(|key| self.get(&key).is_none())
        };
        loop {
            tokio::time::sleep(CA_LOOK_EVERY).await;
            let cas = self.app.issuer.issuing_cas();
            let mut live = cas.iter().filter(|ca| ca.state != KeyState::Retired);
            if live.any(|ca| has_none(ca.chain.issuing())) {
                return;
            }
        }
    }

    /// Makes and publishes the list of every issuing CA that is not retired; answers how many. One
    /// that fails keeps its last list, and does not stop the others.
    pub async fn publish_all(&self, now: Timestamp) -> Result<usize, Failure> {
        let (mut made, mut failed) = (0, None);
        for ca in self.app.issuer.issuing_cas() {
            if ca.state == KeyState::Retired {
                continue;
            }
            let published = self.publish(ca.chain.issuing(), now).await;
            let outcome = super::outcome(&published, "signed");
            self.app.metrics.crls.with_label_values(&[outcome]).inc();
            match published {
                Ok(()) => made += 1,
                Err(why) => failed = Some(why),
            }
        }
        failed.map_or(Ok(made), Err)
    }

    async fn publish(&self, issuing: &Certificate, now: Timestamp) -> Result<(), Failure> {
        let key = issuing
            .key_id_hex()
            .ok_or(PkiError::Certificate(pki::BadCertificate::Extension))?;
        let store = &self.app.store;
        let last = store.crl(&key).await?.and_then(|crl| crl.this_update);
        let revoked = store.revoked(&key, kept_from(last, now)).await?;
        let (entries, next_update) = (revoked.len() as u64, now + CRL_LIFE_MS);
        let signed = self.sign(&key, issuing, revoked, now).await?;
        store
            .crl_signed(&key, signed.number, entries, now, next_update)
            .await?;
        let number = signed.number;
        let published = Published {
            etag: etag(&signed),
            der: signed.der.into(),
            number,
            this_update: now,
            next_update,
        };
        let mut all = self
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        all.insert(key, Arc::new(published));
        tracing::info!(number, entries, "revocation list published");
        Ok(())
    }

    /// The signer keeps a number of its own: when ours is behind, as after a restore, we go on above it.
    async fn sign(
        &self,
        key: &str,
        issuing: &Certificate,
        revoked: Vec<RevokedSerial>,
        now: Timestamp,
    ) -> Result<SignedCrl, Failure> {
        let mut request = CrlRequest {
            issuer: issuing.spki_sha256(),
            number: 0,
            this_update: unix_seconds(now),
            next_update: unix_seconds(now + CRL_LIFE_MS),
            revoked: revoked.into_iter().map(entry).collect(),
        };
        let mut above = 0;
        for _ in 0..NUMBERS_MAX {
            request.number = self.app.store.next_crl_number(key, above, now).await?;
            match self.app.issuer.sign_crl(request.clone()).await {
                Err(PkiError::Crl(BadCrl::NumberGoesBack { last })) => above = last,
                signed => return Ok(signed?),
            }
        }
        Err(PkiError::Crl(BadCrl::NumberGoesBack { last: above }).into())
    }
}

/// A revoked certificate stays on until one list, and an hour of lists, past its end (RFC 5280, 3.3).
fn kept_from(last: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let hour_ago = now - Millis::try_from(CRL_EVERY.as_millis()).unwrap_or(0);
    last.map_or(hour_ago, |last| last.min(hour_ago))
}

fn entry(revoked: RevokedSerial) -> Revoked {
    Revoked {
        serial: revoked.serial,
        at: unix_seconds(revoked.revocation.at),
        reason: revoked.revocation.reason,
    }
}

fn etag(signed: &SignedCrl) -> String {
    let hash = Sha256::digest(&signed.der);
    let tag: String = hash[..8].iter().map(|b| format!("{b:02x}")).collect();
    format!("\"{}-{tag}\"", signed.number)
}
