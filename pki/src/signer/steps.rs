//! How does an issuing key come, rule and go, and what does its administrator hear?
//!
//! Each step has its line in the log first, then takes effect in one write of the state, so that it may
//! be repeated after a crash at any point. `prepare` makes the key in the HSM before the state knows of
//! it: a key that a crash left there is taken over by the next one. `retire` destroys the key after the
//! state has let go of it: repeating it destroys what a crash left. Whether operators consented is
//! judged before the line ([`bar`](super::bar)), and their transcript is used up by the write of the
//! state: a crash in between costs nobody a second round. What is done already needs no consent: it is
//! said, and nothing else.

use hsm::{HsmError, KeyKind, KeyLabel, Priority};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::bar::How;
use super::log::{self, Entry};
use super::state::{IssuingKey, LIVE_KEYS_MAX, State, StepConsents};
use super::{AdminAsk, AdminStep, Ca, LOG_FOLDER, STATEMENT, Signer, SignerError};
use crate::certificate::{Certificate, hex};
use crate::chain::{Chain, certificates_from_pem};
use crate::consent::{IssuingStep, Warrant};
use crate::csr::{self, UnsignedRequest};
use crate::dates;
use crate::error::PkiError;
use crate::files;
use crate::hsm_issuer::HsmIssuer;
use crate::lifecycle::{KeyState, Step};

/// What an administrator hears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AdminAnswer {
    Keys(Vec<KeyView>),
    /// What was done, or would be, in sentences.
    Done {
        said: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<String>,
    },
}

/// One issuing key as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyView {
    pub label: String,
    pub state: String,
    /// SHA-256 of its subject public key info, hexadecimal.
    pub key_id: String,
    /// Unix seconds.
    pub made_at: u64,
    pub changed_at: u64,
    /// The last number of its revocation lists; 0 if there was none.
    pub crl_number: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateView>,
    /// What operators consented to, step by step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consents: Vec<StepConsents>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateView {
    pub serial: String,
    /// Unix seconds.
    pub not_before: u64,
    pub not_after: u64,
    /// SHA-256 of the root it hangs on, hexadecimal.
    pub root: String,
}

/// Who asks for a step, for the log.
pub(super) struct By {
    /// The account's number; none if it is this process itself.
    pub(super) account: Option<u32>,
}

impl Signer {
    /// One question of an administrator in this process.
    pub async fn administer(&self, ask: AdminAsk) -> Result<AdminAnswer, PkiError> {
        self.carry_out(ask, By { account: None }).await
    }

    pub(super) async fn carry_out(&self, ask: AdminAsk, by: By) -> Result<AdminAnswer, PkiError> {
        let (step, how) = match ask {
            AdminAsk::List => return Ok(AdminAnswer::Keys(self.keys().await?)),
            AdminAsk::Request { label } => return self.request(label).await,
            AdminAsk::Step {
                step,
                dry_run,
                transcript,
            } => (
                step,
                How {
                    account: by.account,
                    dry_run,
                    transcript,
                },
            ),
        };
        match step {
            AdminStep::Prepare => self.prepare_key(&how).await,
            AdminStep::Install { certificate } => self.install(&how, &certificate).await,
            AdminStep::Activate { label } => self.activate(&how, label).await,
            AdminStep::Taint { label } => self.taint(&how, &label).await,
            AdminStep::Retire { label } => self.retire(&how, &label).await,
        }
    }

    async fn keys(&self) -> Result<Vec<KeyView>, PkiError> {
        let state = self.state.lock().await;
        state.keys.iter().map(view).collect()
    }

    async fn prepare_key(&self, how: &How) -> Result<AdminAnswer, PkiError> {
        let _alone = self.cas.write().await;
        let state = self.state.lock().await.clone();
        if let Some(key) = state.in_state(KeyState::Prepared) {
            let said = vec![format!("{} is prepared already; its request:", key.label)];
            let request = Some(self.request_for(&key.label).await?);
            return Ok(AdminAnswer::Done { said, request });
        }
        if state.live() >= LIVE_KEYS_MAX {
            return Err(SignerError::TooManyKeys { max: LIVE_KEYS_MAX }.into());
        }
        let label = state.next_label();
        let step = IssuingStep::Prepare {
            label: label.clone(),
        };
        if how.dry_run {
            let said = format!(
                "would make the key {label} in the HSM token and print its certificate request"
            );
            return self.plan(&state, &step, how, vec![said]);
        }
        let warrant = self.begin(&state, &label, &step, how).await?;
        let point = self.make_or_take_over(&label).await?;
        let now = self.clock.now();
        let mut next = state;
        next.keys.push(IssuingKey {
            label: label.clone(),
            key_id: hex(&csr::point_spki_sha256(&point)?),
            state: KeyState::Prepared,
            chain: None,
            crl_number: 0,
            made_at: now,
            changed_at: now,
            consents: consents("prepare", now, warrant.clone())
                .into_iter()
                .collect(),
        });
        self.commit(next).await?;
        let request = Some(self.request_for(&label).await?);
        let mut said = told(&warrant);
        said.push(format!(
            "{label} is in the HSM token; its request for the root:"
        ));
        Ok(AdminAnswer::Done { said, request })
    }

    /// A key of this label that nobody knows of was made by a step that did not come to its end.
    async fn make_or_take_over(&self, label: &str) -> Result<[u8; 65], PkiError> {
        let key = KeyLabel(label.into());
        match self.hsm.generate_key(KeyKind::Signing, &key).await {
            Ok(()) => {}
            Err(HsmError::LabelTaken { .. }) => {
                let reports = self.hsm.inventory().await?;
                let weak = reports
                    .iter()
                    .find(|report| report.label == key && !report.findings.is_empty());
                if let Some(report) = weak {
                    return Err(SignerError::WeakKey {
                        label: label.into(),
                        findings: report.findings.join("; "),
                    }
                    .into());
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(self.hsm.public_key(&key).await?)
    }

    async fn request(&self, label: Option<String>) -> Result<AdminAnswer, PkiError> {
        let label = match label {
            Some(label) => self.state.lock().await.key(&label)?.label.clone(),
            None => self.prepared_label().await?,
        };
        let request = Some(self.request_for(&label).await?);
        let said = vec![format!("the request of {label}:")];
        Ok(AdminAnswer::Done { said, request })
    }

    async fn request_for(&self, label: &str) -> Result<String, PkiError> {
        let label = KeyLabel(label.into());
        let point = self.hsm.public_key(&label).await?;
        let unsigned = UnsignedRequest::for_issuing(&point)?;
        let digest = unsigned.digest();
        let signature = self.hsm.sign(&label, digest, Priority::Renewal).await?;
        Ok(csr::to_pem(&unsigned.assemble(&signature)?))
    }

    async fn install(&self, how: &How, pem: &str) -> Result<AdminAnswer, PkiError> {
        let mut cas = self.cas.write().await;
        let issuing = certificates_from_pem(pem)?.swap_remove(0);
        let state = self.state.lock().await.clone();
        let key_id = hex(&issuing.spki_sha256());
        let own = |key: &&IssuingKey| key.key_id == key_id && key.state != KeyState::Retired;
        let key = state.keys.iter().find(own);
        let key = key.ok_or(SignerError::ForeignCertificate)?.clone();
        let label = key.label.clone();
        let chain = self.under_a_trusted_root(issuing)?;
        self.is_valid_now(chain.issuing())?;
        // That the HSM's key is the certificate's is seen before anything is changed, and nothing is asked
        // of the HSM afterwards: what the state says is what signs.
        let (hsm, hsm_label) = (self.hsm.clone(), KeyLabel(label.clone()));
        let issuer = HsmIssuer::open(hsm, hsm_label, chain.clone(), self.domain.clone()).await?;
        let serial = chain.issuing().serial_hex();
        let ends = dates::in_words(chain.issuing().not_after());
        let ca = Ca {
            label: label.clone(),
            state: key.state,
            issuer: Arc::new(issuer.listed_at(self.crl_base.clone())),
        };
        let what_next = match key.state {
            KeyState::Prepared => format!("next: m2key-pki issuing activate {label}"),
            state => format!("it stays {state}"),
        };
        if key.chain.as_ref() == Some(&chain.pem()) {
            let said = format!("{label} has the certificate {serial} already, good until {ends}");
            return Ok(done(vec![said, what_next]));
        }
        let step = IssuingStep::install(chain.issuing());
        if how.dry_run {
            let said =
                format!("would install the certificate {serial}, good until {ends}, for {label}");
            return self.plan(&state, &step, how, vec![said]);
        }
        let warrant = self.begin(&state, &label, &step, how).await?;
        let mut next = state;
        let now = self.clock.now();
        let key = next.key_mut(&label)?;
        key.consents
            .extend(consents("install", now, warrant.clone()));
        key.chain = Some(chain.pem());
        key.changed_at = now;
        next = self.commit(next).await?;
        put(&mut cas, ca);
        self.show(&next, &cas);
        let said = format!("{label} has the certificate {serial}, good until {ends}");
        let mut all = told(&warrant);
        all.extend([said, what_next]);
        Ok(done(all))
    }

    fn under_a_trusted_root(&self, issuing: Certificate) -> Result<Chain, PkiError> {
        let text = files::read_public(&self.roots)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut roots = certificates_from_pem(&text)?.into_iter();
        let chain = roots.find_map(|root| Chain::new(issuing.clone(), root).ok());
        Ok(chain.ok_or(SignerError::ForeignRoot)?)
    }

    fn is_valid_now(&self, certificate: &Certificate) -> Result<(), PkiError> {
        let valid = certificate.not_before()..=certificate.not_after();
        match valid.contains(&self.clock.now()) {
            true => Ok(()),
            false => Err(PkiError::IssuerNotValid),
        }
    }

    async fn activate(&self, how: &How, label: Option<String>) -> Result<AdminAnswer, PkiError> {
        let label = match label {
            Some(label) => label,
            None => self.prepared_label().await?,
        };
        let mut cas = self.cas.write().await;
        let mut next = self.state.lock().await.clone();
        let key = next.key(&label)?;
        let to = key.state.after(Step::Activate).map_err(SignerError::from)?;
        if key.state == to {
            return Ok(done(vec![format!("{label} is active already")]));
        }
        let chain = key.chain.as_ref();
        let chain = chain.ok_or_else(|| SignerError::NoCertificate(label.clone()))?;
        self.is_valid_now(super::read_chain(chain)?.issuing())?;
        let former = next.in_state(KeyState::Active).map(|k| k.label.clone());
        let mut said = vec![format!("{label} issues from now on")];
        said.extend(former.iter().map(|former| {
            format!("{former} is superseded: believed, and signs its revocation list, nothing else")
        }));
        let step = IssuingStep::Activate {
            key_id: key.key_id.clone(),
        };
        if how.dry_run {
            return self.plan(&next, &step, how, would(said));
        }
        let warrant = self.begin(&next, &label, &step, how).await?;
        let now = self.clock.now();
        if let Some(former) = former {
            let former = next.key_mut(&former)?;
            former.state = former
                .state
                .after(Step::Supersede)
                .map_err(SignerError::from)?;
            former.changed_at = now;
        }
        let key = next.key_mut(&label)?;
        (key.state, key.changed_at) = (to, now);
        key.consents
            .extend(consents("activate", now, warrant.clone()));
        self.take_over(next, &mut cas).await?;
        said.extend(told(&warrant));
        Ok(done(said))
    }

    async fn taint(&self, how: &How, label: &str) -> Result<AdminAnswer, PkiError> {
        let said = vec![
            format!(
                "{label} is tainted: terminals under it renew now, and it signs its revocation list"
            ),
            "who else holds its key is refused once the list of roots denies it: root trust deny"
                .into(),
        ];
        self.to_state(how, label, Step::Taint, said).await
    }

    async fn retire(&self, how: &How, label: &str) -> Result<AdminAnswer, PkiError> {
        let state = self.state.lock().await.key(label)?.state;
        if state == KeyState::Superseded {
            self.refuse_to_strand(label).await?;
        }
        let said = vec![
            format!("{label} is retired and its key destroyed: it signs nothing any more"),
            "receipts and other statements under its certificate still verify".into(),
        ];
        let answer = self.to_state(how, label, Step::Retire, said).await?;
        if !how.dry_run {
            match self.hsm.destroy_key(&KeyLabel(label.into())).await {
                Ok(()) | Err(HsmError::KeyUnknown { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(answer)
    }

    /// Taint or retire.
    async fn to_state(
        &self,
        how: &How,
        label: &str,
        step: Step,
        mut said: Vec<String>,
    ) -> Result<AdminAnswer, PkiError> {
        let mut cas = self.cas.write().await;
        let mut next = self.state.lock().await.clone();
        let key = next.key(label)?;
        let to = key.state.after(step).map_err(SignerError::from)?;
        let (before, key_id) = (key.state, key.key_id.clone());
        let (name, step) = match step {
            Step::Retire => ("retire", IssuingStep::Retire { key_id }),
            _ => ("taint", IssuingStep::Taint { key_id }),
        };
        if how.dry_run {
            return self.plan(&next, &step, how, would(said));
        }
        if before != to {
            let warrant = self.begin(&next, label, &step, how).await?;
            let (key, now) = (next.key_mut(label)?, self.clock.now());
            (key.state, key.changed_at) = (to, now);
            key.consents.extend(consents(name, now, warrant.clone()));
            self.take_over(next, &mut cas).await?;
            said.extend(told(&warrant));
        }
        Ok(done(said))
    }

    /// Whoever's newest certificate is of this CA would stand there with one that nobody revokes any
    /// more. Statements are not counted: they are verified by date, for years.
    async fn refuse_to_strand(&self, label: &str) -> Result<(), PkiError> {
        let (folder, now) = (self.state_dir.join(LOG_FOLDER), self.clock.now());
        let read = tokio::task::spawn_blocking(move || newest_by_holder(&folder));
        let newest = read.await.map_err(PkiError::bug)??;
        let held = newest
            .into_iter()
            .filter(|(_, (key, ends))| key == label && *ends >= now)
            .map(|(name, _)| name);
        let holders: Vec<String> = held.collect();
        match holders.is_empty() {
            true => Ok(()),
            false => Err(SignerError::would_strand(label, holders).into()),
        }
    }

    async fn prepared_label(&self) -> Result<String, SignerError> {
        let state = self.state.lock().await;
        let prepared = state.in_state(KeyState::Prepared);
        Ok(prepared.ok_or(SignerError::NonePrepared)?.label.clone())
    }

    /// The step is done once this returns. Only CRL numbers change beside the steps, and those are
    /// taken over.
    async fn commit(&self, mut next: State) -> Result<State, PkiError> {
        let mut state = self.state.lock().await;
        for key in &mut next.keys {
            let current = state.key(&key.label).map_or(0, |key| key.crl_number);
            key.crl_number = key.crl_number.max(current);
        }
        next.revision = state.revision + 1;
        next.save(&self.state_dir)?;
        *state = next.clone();
        Ok(next)
    }

    async fn take_over(&self, next: State, cas: &mut Vec<Ca>) -> Result<(), PkiError> {
        let next = self.commit(next).await?;
        cas.retain_mut(|ca| match next.key(&ca.label) {
            Ok(key) if key.state != KeyState::Retired => {
                ca.state = key.state;
                true
            }
            _ => false,
        });
        self.show(&next, cas);
        Ok(())
    }
}

/// In the place of what this key signed under before.
fn put(cas: &mut Vec<Ca>, ca: Ca) {
    match cas.iter_mut().find(|it| it.label == ca.label) {
        Some(before) => *before = ca,
        None => cas.push(ca),
    }
}

/// By name: the issuing key of the newest certificate, and its end.
fn newest_by_holder(
    folder: &std::path::Path,
) -> Result<BTreeMap<String, (String, u64)>, SignerError> {
    let mut newest = BTreeMap::new();
    log::read_all(folder, |line| {
        if let Entry::Certificate {
            key,
            kind,
            name,
            ends,
            ..
        } = &line.entry
            && kind != STATEMENT
        {
            newest.insert(name.clone(), (key.clone(), *ends));
        }
    })?;
    Ok(newest)
}

fn view(key: &IssuingKey) -> Result<KeyView, PkiError> {
    let chain = key.chain.as_deref().map(super::read_chain).transpose()?;
    let certificate = chain.map(|chain| CertificateView {
        serial: chain.issuing().serial_hex(),
        not_before: chain.issuing().not_before(),
        not_after: chain.issuing().not_after(),
        root: hex(chain.root().fingerprint().as_bytes()),
    });
    Ok(KeyView {
        label: key.label.clone(),
        state: key.state.name().into(),
        key_id: key.key_id.clone(),
        made_at: key.made_at,
        changed_at: key.changed_at,
        crl_number: key.crl_number,
        certificate,
        consents: key.consents.clone(),
    })
}

fn consents(step: &str, at: u64, warrant: Option<Warrant>) -> Option<StepConsents> {
    let step = step.to_owned();
    warrant.map(|warrant| StepConsents { step, at, warrant })
}

fn told(warrant: &Option<Warrant>) -> Vec<String> {
    warrant.iter().map(Warrant::words).collect()
}

pub(super) fn done(said: Vec<String>) -> AdminAnswer {
    AdminAnswer::Done {
        said,
        request: None,
    }
}

fn would(said: Vec<String>) -> Vec<String> {
    let plan = |sentence: String| format!("would come to this: {sentence}");
    said.into_iter().map(plan).collect()
}
