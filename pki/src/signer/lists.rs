//! What may a revocation list say, and what must it go on saying, whoever asks for it?
//!
//! The authority decides what is revoked. But who takes it over must not take revocation with it: so its
//! numbers rise in steps, a list is good for days at most, and what one list named is named by every later
//! one until that certificate has ended. If the asker leaves it out, it is put back in: an authority that
//! was restored from an old copy has forgotten it in good faith.
//!
//! ```text
//!  asked for ─▶ + what the last list named ─▶ number used up ─▶ line ─▶ signature ─▶ kept ─▶ given away
//! ```
//! Only certificates of our own log are put back. Otherwise a hundred thousand made-up numbers, asked for
//! once, would leave no place for the true ones.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex as StdMutex, PoisonError};

use tokio::sync::{Mutex, OnceCell};

use super::log::{self, Entry};
use super::{Ca, LOG_FOLDER, Signer, SignerError};
use crate::certificate::{Certificate, hex};
use crate::crl::{self, BadCrl, CRL_MAX_BYTES, CrlRequest, RevocationList, Revoked, SignedCrl};
use crate::error::PkiError;
use crate::files::{self, Replace};

/// Longest time from one list to the next; the authority makes one every hour, good for a day.
pub const LIST_LIFETIME_MAX_SECONDS: u64 = 3 * 24 * 60 * 60;
/// Furthest that a number may be above the last one: a list every second for twelve days.
pub const LIST_NUMBER_STEP_MAX: u64 = 1 << 20;
/// Highest number: what every database holds.
pub const LIST_NUMBER_MAX: u64 = i64::MAX as u64;
const FILE_END: &str = ".crl";

/// What was named by the last list of each issuing key.
pub(super) struct Lists {
    folder: PathBuf,
    /// By label, once it was needed. Held while a list is made: one after the other.
    named: Mutex<HashMap<String, Vec<Revoked>>>,
    issued: Issued,
}

/// Certificates of our log that have not ended.
#[derive(Default)]
struct Issued {
    /// By serial number: Unix seconds of the end.
    ends: StdMutex<HashMap<String, u64>>,
    /// The log was read once; what came since then was added as it came.
    read: OnceCell<()>,
}

impl Signer {
    /// Signs the revocation list of one issuing CA, with a number above all before it.
    pub async fn sign_crl(&self, request: CrlRequest) -> Result<SignedCrl, PkiError> {
        let now = self.agree_on(request.this_update)?;
        if request.next_update > request.this_update + LIST_LIFETIME_MAX_SECONDS {
            return Err(BadCrl::LastsTooLong.into());
        }
        let ca = self.ca_with(request.issuer).await?;
        let mut named = self.lists.named.lock().await;
        let before = self.lists.last(&named, &ca)?;
        let request = self.lists.completed(request, before, now).await?;
        let number = request.number;
        // A long list is work for the processor; certificates are issued meanwhile.
        let issuer = ca.issuer.clone();
        let built = tokio::task::spawn_blocking(move || {
            let unsigned = crl::Unsigned::new(issuer.certificate(), &request)?;
            Ok::<_, PkiError>((unsigned, request.revoked))
        });
        let (unsigned, revoked) = built.await.map_err(PkiError::bug)??;
        self.burn_crl_number(&ca.label, number).await?;
        let line = Entry::Crl {
            key: ca.label.clone(),
            number,
            revoked: revoked.len() as u64,
            digest: hex(&unsigned.digest()),
        };
        self.log.write(now, line).await?;
        let signed = ca.issuer.sign_list(unsigned).await?;
        self.lists.keep(&ca.label, &signed)?;
        named.insert(ca.label, revoked);
        Ok(signed)
    }

    async fn ca_with(&self, key: [u8; 32]) -> Result<Ca, BadCrl> {
        let cas = self.cas.read().await;
        let asked = |ca: &&Ca| ca.issuer.certificate().spki_sha256() == key;
        cas.iter().find(asked).cloned().ok_or(BadCrl::ForeignIssuer)
    }

    /// From here on this number counts as used, whatever becomes of the list.
    async fn burn_crl_number(&self, label: &str, number: u64) -> Result<(), PkiError> {
        let mut state = self.state.lock().await;
        let mut next = state.clone();
        let key = next.key_mut(label)?;
        let last = key.crl_number;
        if number <= last {
            return Err(BadCrl::NumberGoesBack { last }.into());
        }
        if number
            > last
                .saturating_add(LIST_NUMBER_STEP_MAX)
                .min(LIST_NUMBER_MAX)
        {
            return Err(BadCrl::NumberTooFar { last }.into());
        }
        key.crl_number = number;
        next.save(&self.state_dir)?;
        *state = next;
        Ok(())
    }
}

impl Lists {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            folder: state_dir.into(),
            named: Mutex::default(),
            issued: Issued::default(),
        }
    }

    /// To be told of every certificate.
    pub(super) fn issued(&self, serial: String, ends: u64) {
        self.issued.add([(serial, ends)]);
    }

    /// What the last list of this CA named.
    fn last(
        &self,
        known: &HashMap<String, Vec<Revoked>>,
        ca: &Ca,
    ) -> Result<Vec<Revoked>, PkiError> {
        match known.get(&ca.label) {
            Some(named) => Ok(named.clone()),
            None => self.listed(&ca.label, ca.issuer.certificate()),
        }
    }

    /// What the last list that was given away names.
    pub(super) fn listed(
        &self,
        label: &str,
        issuing: &Certificate,
    ) -> Result<Vec<Revoked>, PkiError> {
        read(&self.path(label), issuing)
    }

    /// The request, and what it must name besides; as it was named first.
    async fn completed(
        &self,
        mut request: CrlRequest,
        before: Vec<Revoked>,
        now: u64,
    ) -> Result<CrlRequest, PkiError> {
        self.issued
            .read_once(&self.folder.join(LOG_FOLDER), now)
            .await?;
        let mut must = self.issued.not_ended(before, now);
        for entry in &mut request.revoked {
            if let Some(first) = must.remove(&entry.serial) {
                *entry = first;
            }
        }
        if !must.is_empty() {
            let count = must.len();
            tracing::warn!(
                count,
                "the asker left out certificates that are revoked; they stay on the list"
            );
        }
        request.revoked.extend(must.into_values());
        Ok(request)
    }

    /// Before the list is given away: a crash after this loses an answer, never an entry.
    fn keep(&self, label: &str, signed: &SignedCrl) -> Result<(), PkiError> {
        files::write_public(&self.path(label), &signed.der, Replace::Yes)
    }

    fn path(&self, label: &str) -> PathBuf {
        self.folder.join(format!("{label}{FILE_END}"))
    }
}

impl Issued {
    fn add(&self, more: impl IntoIterator<Item = (String, u64)>) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.extend(more);
    }

    async fn read_once(&self, log: &Path, now: u64) -> Result<(), PkiError> {
        let read = || async {
            let log = log.to_path_buf();
            let read = tokio::task::spawn_blocking(move || not_ended_in(&log, now));
            self.add(read.await.map_err(PkiError::bug)??);
            Ok(())
        };
        self.read.get_or_try_init(read).await.map(drop)
    }

    /// Those of `before`, by serial number, whose certificate is ours and has not ended.
    fn not_ended(&self, before: Vec<Revoked>, now: u64) -> HashMap<String, Revoked> {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.retain(|_, end| *end >= now);
        before
            .into_iter()
            .filter(|entry| ends.contains_key(&entry.serial))
            .map(|entry| (entry.serial.clone(), entry))
            .collect()
    }
}

fn not_ended_in(log: &Path, now: u64) -> Result<Vec<(String, u64)>, SignerError> {
    let mut found = Vec::new();
    log::read_all(log, |line| {
        if let Entry::Certificate { serial, ends, .. } = &line.entry
            && *ends >= now
        {
            found.push((serial.clone(), *ends));
        }
    })?;
    Ok(found)
}

/// An absent file is that of a CA which has signed no list yet.
fn read(path: &Path, issuer: &Certificate) -> Result<Vec<Revoked>, PkiError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let der = files::read_public_up_to(path, CRL_MAX_BYTES as u64)?;
    let list = RevocationList::verified(&der, issuer).map_err(|error| SignerError::Damaged {
        path: path.into(),
        detail: error.to_string(),
    })?;
    Ok(list.revoked)
}
