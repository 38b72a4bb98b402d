//! What happens, in which order, when people gather around the root?
//!
//! ```text
//!   <dir>/root.key       the key, unless it is in an HSM token
//!         root.pem       the certificate that everyone trusts
//!         issued/        every issuing certificate signed here, by serial number
//!         root.crl       the last revocation list
//!         consents.toml  how many operators must consent              [bar]
//!         ceremony.log   every step                                   [log]
//! ```
//! Planning and signing are two steps, so that people see what they will sign. Nothing leaves before
//! it is in the log; what is in the log and nowhere else was lost in a crash and never left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::log::{Entry, Log};
use super::plans::{CrlPlan, CrlWish, IssuingPlan};
use super::{BadCeremony, KeyPlace, RootSigner};
use crate::certificate::{Certificate, hex};
use crate::crl::{CrlRequest, Reason, RevocationList, Revoked, SignedCrl};
use crate::csr::{self, CheckedCsr};
use crate::dates::in_words;
use crate::error::PkiError;
use crate::files::{self, BadFile, Replace};
use crate::verify;

pub(super) const CERTIFICATE_FILE: &str = "root.pem";
const CRL_FILE: &str = "root.crl";
const LOG_FILE: &str = "ceremony.log";
const ISSUED_DIRECTORY: &str = "issued";

const KEY_INTENDED: &str = "key-intended";
const ROOT_MADE: &str = "root-made";
const ROOT_ADOPTED: &str = "root-adopted";
pub(super) const ISSUING_SIGNED: &str = "issuing-signed";
pub(super) const REVOKED: &str = "revoked";
const CRL_SIGNED: &str = "crl-signed";

/// The directory of one root, while someone works with it.
pub struct Ceremony {
    dir: PathBuf,
    now: u64,
    log: Log,
}

impl Ceremony {
    /// Opens the directory of a root; `now` in Unix seconds.
    pub fn open(dir: &Path, now: u64) -> Result<Self, PkiError> {
        Certificate::load(&dir.join(CERTIFICATE_FILE))?;
        Self::enter(dir, now)
    }

    /// Opens the directory of a root to come, and makes it if need be.
    pub fn begin(dir: &Path, now: u64) -> Result<Self, PkiError> {
        files::make_private_directory(dir)?;
        Self::enter(dir, now)
    }

    fn enter(dir: &Path, now: u64) -> Result<Self, PkiError> {
        let log = Log::open(&dir.join(LOG_FILE))?;
        if let Some(last) = log.last_at().filter(|last| *last > now) {
            let last = in_words(last);
            return Err(BadCeremony::ClockBehind { last }.into());
        }
        Ok(Self {
            dir: dir.into(),
            now,
            log,
        })
    }

    /// Makes key and certificate of a new root. Interrupted at any point, it may be called again.
    pub async fn init(&mut self, place: KeyPlace) -> Result<Certificate, PkiError> {
        if self.at(CERTIFICATE_FILE).exists() {
            return Err(BadCeremony::RootThere.into());
        }
        let intended = place.to_string();
        let begun = self.log.entries.iter().any(|entry| {
            entry.step == KEY_INTENDED && entry.fact("place") == Some(intended.as_str())
        });
        if !begun {
            self.note(KEY_INTENDED, &[("place", &intended)])?;
        }
        let signer = place.make(begun).await?;
        let root = signer.certificate(self.now).await?;
        let pem = root.pem();
        files::write_public(&self.at(CERTIFICATE_FILE), pem.as_bytes(), Replace::Never)?;
        self.note_root(ROOT_MADE, &root)?;
        Ok(root)
    }

    /// Unix seconds, as they were when it was opened.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// The certificate of this root, if it is valid now.
    pub fn root(&self) -> Result<Certificate, PkiError> {
        let root = Certificate::load(&self.at(CERTIFICATE_FILE))?;
        verify::check_root(&root)?;
        if (root.not_before()..=root.not_after()).contains(&self.now) {
            Ok(root)
        } else {
            let now = in_words(self.now);
            Err(BadCeremony::RootNotValid { now }.into())
        }
    }

    /// What the request in `body` would get. A key that has a certificate gets another only `again`.
    pub fn plan_issuing(&self, body: &[u8], again: bool) -> Result<IssuingPlan, PkiError> {
        let root = self.root()?;
        let request = csr::check(body)?;
        request.asks_only_for(&[])?;
        if request.spki_sha256() == root.spki_sha256() {
            return Err(BadCeremony::OwnKey.into());
        }
        self.refuse_revoked_key(&request)?;
        if !again {
            self.refuse_second(&request)?;
        }
        Ok(IssuingPlan {
            root,
            request,
            crl_base: None,
            again,
            now: self.now,
            transcript: None,
        })
    }

    /// Signs what was planned, and keeps a copy.
    pub async fn sign_issuing(
        &mut self,
        plan: IssuingPlan,
        signer: &RootSigner,
    ) -> Result<Certificate, PkiError> {
        let consents = self.clear_now(&plan.step(), plan.transcript.as_deref())?;
        self.adopt(&plan.root)?;
        let signed = signer
            .sign_issuing(&plan.root, &plan.request, plan.crl_base.as_ref(), plan.now)
            .await?;
        let serial = signed.serial_hex();
        let mut facts = vec![
            ("serial", serial.clone()),
            ("key", hex(&signed.spki_sha256())),
            ("until", in_words(signed.not_after())),
        ];
        facts.extend(consents);
        self.note_all(ISSUING_SIGNED, &facts)?;
        let kept = self.kept(&serial)?;
        files::write_public(&kept, signed.pem().as_bytes(), Replace::Never)?;
        Ok(signed)
    }

    /// What the next revocation list would say.
    pub fn plan_crl(&self, wish: &CrlWish) -> Result<CrlPlan, PkiError> {
        let root = self.root()?;
        let last = self.last_list(&root)?;
        let mut revoked = self.revoked_before(last.as_ref());
        let (mut fresh, mut keys) = (Vec::new(), BTreeMap::new());
        for what in &wish.revoke {
            let (serial, key) = self.issued(what, &root)?;
            keys.extend(key.map(|key| (serial.clone(), key)));
            match revoked.iter_mut().find(|known| known.serial == serial) {
                // That others may have its key is news, also of a certificate that nobody used any more.
                Some(known) if tells_of_theft(wish.reason) && !tells_of_theft(known.reason) => {
                    known.reason = wish.reason;
                    fresh.push(known.clone());
                }
                Some(_) => {}
                None => {
                    let entry = Revoked {
                        serial,
                        at: self.now,
                        reason: wish.reason,
                    };
                    fresh.push(entry.clone());
                    revoked.push(entry);
                }
            }
        }
        let highest = self.highest_number(last.as_ref()).max(wish.above);
        let lifetime = u64::from(wish.next_days) * 24 * 60 * 60;
        let request = CrlRequest {
            issuer: root.spki_sha256(),
            number: highest.saturating_add(1),
            this_update: self.now,
            next_update: self.now.saturating_add(lifetime),
            revoked,
        };
        Ok(CrlPlan {
            root,
            fresh,
            keys,
            next_days: wish.next_days,
            request,
            transcript: None,
        })
    }

    /// Signs what was planned, and keeps it as the last list.
    pub async fn sign_crl(
        &mut self,
        plan: CrlPlan,
        signer: &RootSigner,
    ) -> Result<SignedCrl, PkiError> {
        let consents = self.clear_now(&plan.step(), plan.transcript.as_deref())?;
        self.adopt(&plan.root)?;
        let signed = signer.sign_crl(&plan.root, &plan.request).await?;
        for entry in &plan.fresh {
            let mut facts = vec![
                ("serial", entry.serial.as_str()),
                ("reason", entry.reason.name()),
            ];
            // By which the key is known again in another request.
            let key = plan.keys.get(&entry.serial);
            facts.extend(key.map(|key| ("key", key.as_str())));
            self.note(REVOKED, &facts)?;
        }
        let mut facts = vec![
            ("number", signed.number.to_string()),
            ("entries", plan.request.revoked.len().to_string()),
            ("next", in_words(plan.request.next_update)),
        ];
        facts.extend(consents);
        self.note_all(CRL_SIGNED, &facts)?;
        files::write_public(&self.at(CRL_FILE), signed.pem().as_bytes(), Replace::Yes)?;
        Ok(signed)
    }

    /// Notes a step that is none of the above. Facts hold no blank.
    pub fn note(&mut self, step: &str, facts: &[(&str, &str)]) -> Result<(), PkiError> {
        self.log.note(self.now, step, facts)
    }

    pub(super) fn note_all(
        &mut self,
        step: &str,
        facts: &[(&str, String)],
    ) -> Result<(), PkiError> {
        let facts = facts.iter().map(|(key, value)| (*key, value.as_str()));
        self.note(step, &facts.collect::<Vec<_>>())
    }

    /// What people note on paper: it stands for all steps so far.
    pub fn log_head(&self) -> &str {
        self.log.chain()
    }

    /// Every step so far, one line each.
    pub fn steps(&self) -> String {
        let lines = self
            .log
            .entries
            .iter()
            .map(|entry| format!("  {}\n", entry.words()));
        lines.collect()
    }

    /// A root made by `init` of an authority, or in a ceremony that crashed, is in no log yet.
    pub(super) fn adopt(&mut self, root: &Certificate) -> Result<(), PkiError> {
        let fingerprint = hex(root.fingerprint().as_bytes());
        let known = |entry: &Entry| entry.fact("fingerprint") == Some(fingerprint.as_str());
        if self.log.entries.iter().any(known) {
            return Ok(());
        }
        self.note_root(ROOT_ADOPTED, root)
    }

    fn note_root(&mut self, step: &str, root: &Certificate) -> Result<(), PkiError> {
        let fingerprint = hex(root.fingerprint().as_bytes());
        let until = in_words(root.not_after());
        self.note(step, &[("fingerprint", &fingerprint), ("until", &until)])
    }

    /// A key that others may have gets no certificate again, whoever asks. A revocation names its key;
    /// an older one names a serial number only, which leads to the key if it was signed here.
    fn refuse_revoked_key(&self, request: &CheckedCsr) -> Result<(), PkiError> {
        let key = hex(&request.spki_sha256());
        let serials = self.serials_of_key(request);
        let of_this_key = |entry: &&Entry| {
            let serial = entry.fact("serial").unwrap_or_default();
            entry.fact("key") == Some(key.as_str()) || serials.contains(&serial)
        };
        let mut revoked = self.steps_of(REVOKED).filter(of_this_key);
        match revoked.find(|entry| is_compromise(entry)) {
            None => Ok(()),
            Some(entry) => {
                let serial = entry.fact("serial").unwrap_or_default().into();
                Err(BadCeremony::RevokedKey { serial }.into())
            }
        }
    }

    fn refuse_second(&self, request: &CheckedCsr) -> Result<(), PkiError> {
        for serial in self.serials_of_key(request) {
            let file = self.kept(serial)?;
            // In the log and not here: it was lost in a crash and never left.
            if file.exists() {
                let file = file.display().to_string();
                return Err(BadCeremony::AlreadySigned { file }.into());
            }
        }
        Ok(())
    }

    fn serials_of_key(&self, request: &CheckedCsr) -> Vec<&str> {
        let key = hex(&request.spki_sha256());
        let signed = self.steps_of(ISSUING_SIGNED);
        let same = signed.filter(|entry| entry.fact("key") == Some(key.as_str()));
        same.filter_map(|entry| entry.fact("serial")).collect()
    }

    fn revoked_before(&self, last: Option<&RevocationList>) -> Vec<Revoked> {
        let mut all = last.map(|list| list.revoked.clone()).unwrap_or_default();
        for entry in self.steps_of(REVOKED) {
            let serial = entry.fact("serial").unwrap_or_default().to_owned();
            let reason = entry.fact("reason").and_then(|name| name.parse().ok());
            let reason = reason.unwrap_or(Reason::Unspecified);
            match all.iter_mut().find(|known| known.serial == serial) {
                Some(known) if tells_of_theft(reason) => known.reason = reason,
                Some(_) => {}
                None => all.push(Revoked {
                    serial,
                    at: entry.at,
                    reason,
                }),
            }
        }
        all
    }

    fn highest_number(&self, last: Option<&RevocationList>) -> u64 {
        let logged = self
            .steps_of(CRL_SIGNED)
            .filter_map(|entry| entry.fact("number")?.parse().ok());
        logged
            .chain(last.map(|list| list.number))
            .max()
            .unwrap_or(0)
    }

    fn last_list(&self, root: &Certificate) -> Result<Option<RevocationList>, PkiError> {
        let path = self.at(CRL_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let der = crate::crl::from_file(&path)?;
        Ok(Some(RevocationList::verified(&der, root)?))
    }

    /// Serial number and key of a certificate in a file, or of one that the log knows.
    fn issued(&self, what: &str, root: &Certificate) -> Result<(String, Option<String>), PkiError> {
        let foreign = || BadCeremony::NotIssuedHere { what: what.into() };
        let path = Path::new(what);
        if path.exists() {
            let certificate = Certificate::load(path)?;
            // The root signed itself, too; nobody would look for it on its own list.
            if certificate == *root || verify::check_link(&certificate, root, 1).is_err() {
                return Err(foreign().into());
            }
            let key = hex(&certificate.spki_sha256());
            return Ok((certificate.serial_hex(), Some(key)));
        }
        let known = self
            .steps_of(ISSUING_SIGNED)
            .find(|entry| entry.fact("serial") == Some(what))
            .ok_or_else(foreign)?;
        Ok((what.into(), known.fact("key").map(str::to_owned)))
    }

    pub(super) fn steps_of<'a>(&'a self, step: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.log
            .entries
            .iter()
            .filter(move |entry| entry.step == step)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.log.entries.iter()
    }

    pub(super) fn kept(&self, serial: &str) -> Result<PathBuf, PkiError> {
        let folder = self.at(ISSUED_DIRECTORY);
        let made = std::fs::create_dir_all(&folder);
        made.map_err(|error| BadFile::from(error).at(&folder))?;
        Ok(folder.join(format!("{serial}.pem")))
    }

    pub(super) fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }
}

fn tells_of_theft(reason: Reason) -> bool {
    matches!(reason, Reason::KeyCompromise | Reason::CaCompromise)
}

/// Whether a line says that others may have the key.
pub(super) fn is_compromise(revoked: &Entry) -> bool {
    let reason = revoked.fact("reason").and_then(|name| name.parse().ok());
    reason.is_some_and(tells_of_theft)
}
