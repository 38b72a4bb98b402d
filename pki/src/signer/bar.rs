//! Did operators consent to this step of an issuing key?
//!
//! The signer knows by itself how many it wants (`[consents]`), which roots and issuing keys are
//! believed, whom it listed as revoked last, and with what a step was taken before.

use std::collections::BTreeSet;

use super::log::Entry;
use super::state::State;
use super::steps::done;
use super::{AdminAnswer, Signer, read_chain};
use crate::certificate::hex;
use crate::chain::certificates_from_pem;
use crate::consent::clear::clear;
use crate::consent::{Bar, IssuingKeys, IssuingStep, NotCleared, Warrant};
use crate::error::PkiError;
use crate::files;

/// How a step is asked for.
pub(super) struct How {
    /// Of the operating system; none if it is this process itself.
    pub(super) account: Option<u32>,
    pub(super) dry_run: bool,
    pub(super) transcript: Option<String>,
}

impl Signer {
    /// The only way into the log for a step: what is in it was cleared.
    pub(super) async fn begin(
        &self,
        state: &State,
        label: &str,
        step: &IssuingStep,
        how: &How,
    ) -> Result<Option<Warrant>, PkiError> {
        let cleared = clear(step, how.transcript.as_deref(), &self.bar(state, how)?)?;
        let warrant = cleared.warrant().cloned();
        let line = Entry::Step {
            key: label.into(),
            step: step.name().into(),
            account: how.account,
            consents: warrant.clone(),
        };
        self.log.write(self.clock.now(), line).await?;
        Ok(warrant)
    }

    /// What a dry run says: what would be done, and who consented or must.
    pub(super) fn plan(
        &self,
        state: &State,
        step: &IssuingStep,
        how: &How,
        mut said: Vec<String>,
    ) -> Result<AdminAnswer, PkiError> {
        match clear(step, how.transcript.as_deref(), &self.bar(state, how)?) {
            Ok(cleared) => said.extend(cleared.warrant().map(Warrant::words)),
            Err(needed @ NotCleared::Needed { .. }) => {
                said.push(needed.to_string());
                said.push(PkiError::from(needed).hint().to_owned());
            }
            Err(refused) => return Err(refused.into()),
        }
        Ok(done(said))
    }

    fn bar(&self, state: &State, how: &How) -> Result<Bar, PkiError> {
        let mut bar = Bar {
            required: self.consents.required,
            roots: Vec::new(),
            issuing: Vec::new(),
            domain: Some(self.domain.clone()),
            now: self.clock.now(),
            issuing_keys: IssuingKeys::Only(BTreeSet::new()),
            operators: self.consents.operators.clone(),
            revoked: BTreeSet::new(),
            used: used(state),
        };
        if how.transcript.is_some() {
            self.know(state, &mut bar)?;
        }
        Ok(bar)
    }

    /// What is in files.
    fn know(&self, state: &State, bar: &mut Bar) -> Result<(), PkiError> {
        let text = files::read_public(&self.roots)?;
        bar.roots = certificates_from_pem(&String::from_utf8_lossy(&text))?;
        let mut keys = BTreeSet::new();
        for key in state.keys.iter().filter(|key| key.state.is_believed()) {
            let Some(chain) = &key.chain else { continue };
            let issuing = read_chain(chain)?.issuing().clone();
            let listed = self.lists.listed(&key.label, &issuing)?;
            bar.revoked.extend(listed.into_iter().map(|it| it.serial));
            keys.insert(hex(&issuing.spki_sha256()));
            bar.issuing.push(issuing);
        }
        bar.issuing_keys = IssuingKeys::Only(keys);
        Ok(())
    }

    /// Whoever changes what operators must consent to leaves a line.
    pub(super) async fn note_consents(&self) -> Result<(), PkiError> {
        let mut state = self.state.lock().await;
        if state.consents == self.consents {
            return Ok(());
        }
        let line = Entry::Consents(self.consents.clone());
        self.log.write(self.clock.now(), line).await?;
        let mut next = state.clone();
        next.consents = self.consents.clone();
        next.save(&self.state_dir)?;
        *state = next;
        Ok(())
    }
}

fn used(state: &State) -> BTreeSet<String> {
    let all = state.keys.iter().flat_map(|key| &key.consents);
    all.map(|it| it.warrant.request_sha256.clone()).collect()
}
