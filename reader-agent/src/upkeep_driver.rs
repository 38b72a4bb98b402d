//! Who carries out what the upkeep decides?
//!
//! One task owns the [`Keeper`]. It takes its steps one after the other, each with one file or one call,
//! and tells everybody through the [`Line`] under which identity and roots calls are made.

use std::sync::Arc;
use std::time::Duration;

use pki::Certificate;
use protocol::problem::ProblemType;
use protocol::time::{Millis, Timestamp};
use tokio::sync::watch;

use crate::authority::line::{Footing, Line, Standing};
use crate::authority::push::Noticed;
use crate::authority::{AuthorityClient, CallError, renew};
use crate::clock::Clock;
use crate::error::AgentError;
use crate::identity::Identity;
use crate::identity::disk::{IdentityFiles, Next};
use crate::metrics::Metrics;
use crate::trust::{BadTrust, Trust, TrustFiles};
use crate::upkeep::{At, Done, Failed, Keeper, Life, Stage, Step, Trouble};

/// Looks at the clock at least this often: a timer does not run while the machine sleeps.
pub const TICK: Duration = Duration::from_millis(1_000);

/// What the upkeep works with.
pub struct UpkeepDriver {
    keeper: Keeper,
    line: Arc<Line>,
    identity_files: IdentityFiles,
    trust_files: TrustFiles,
    /// What the authority answered, until it is on the disk.
    answer: Vec<Certificate>,
    /// Whom calls were made as before the renewed certificate was tried.
    before: Arc<Identity>,
    clock: Arc<Clock>,
    metrics: Arc<Metrics>,
    noticed: watch::Receiver<Noticed>,
    kept: watch::Sender<Kept>,
    stop: watch::Receiver<bool>,
}

/// How the upkeep stands, for readiness, status and screen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    pub renews_at: Option<Timestamp>,
    pub is_renewing: bool,
    pub troubles: Vec<Trouble>,
}

/// What the driver is made of.
pub struct Supplies {
    pub spread_ms: Millis,
    pub line: Arc<Line>,
    pub next: Next,
    pub identity_files: IdentityFiles,
    pub trust_files: TrustFiles,
    pub clock: Arc<Clock>,
    pub metrics: Arc<Metrics>,
    pub noticed: watch::Receiver<Noticed>,
    pub kept: watch::Sender<Kept>,
    pub stop: watch::Receiver<bool>,
}

impl UpkeepDriver {
    pub fn new(supplies: Supplies) -> Self {
        let footing = supplies.line.now();
        let stage = match &supplies.next {
            Next::None => Stage::Rest,
            Next::Key => Stage::Key,
            Next::Certified(identity) => Stage::Certified(Life::of(identity)),
        };
        Self {
            keeper: Keeper::new(Life::of(&footing.identity), stage, footing.trust.sequence())
                .spread_over(supplies.spread_ms),
            before: footing.identity.clone(),
            line: supplies.line,
            identity_files: supplies.identity_files,
            trust_files: supplies.trust_files,
            answer: Vec::new(),
            clock: supplies.clock,
            metrics: supplies.metrics,
            noticed: supplies.noticed,
            kept: supplies.kept,
            stop: supplies.stop,
        }
    }

    /// Until told to stop, also in the middle of a step: wherever that is, the next start goes on.
    pub async fn run(mut self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            _ = stop.wait_for(|told| *told) => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&mut self) {
        loop {
            self.hear();
            let step = self.keeper.poll(self.at());
            if let Some(step) = step {
                self.take(step).await;
            }
            self.show();
            if step.is_none() {
                let changed = tokio::time::timeout(TICK, self.noticed.changed()).await;
                if matches!(changed, Ok(Err(_))) {
                    // The stream is gone, and the agent about to stop.
                    tokio::time::sleep(TICK).await;
                }
            }
        }
    }

    /// What the stream noticed since the last look. Saying it again changes nothing.
    fn hear(&mut self) {
        let at = self.at();
        let noticed = self.noticed.borrow_and_update().clone();
        let present = self.line.now().number;
        self.keeper.handle_told(&noticed.told, at);
        // Whoever came up last counts: a stream, or a stranger after it.
        let up_under = noticed
            .up_under
            .filter(|_| noticed.stranger_under.is_none());
        if let Some(footing) = up_under {
            self.keeper.handle_proven(footing);
        }
        if let Some((_, error)) = noticed.refused.filter(|(by, _)| *by == present) {
            self.keeper.handle_refused(&error.to_string(), at);
        }
        if noticed.stranger_under == Some(present) {
            self.keeper.handle_stranger();
        }
    }

    /// Carries one step out and tells the keeper.
    async fn take(&mut self, step: Step) {
        let result = self.carry_out(step).await;
        let at = self.at();
        match result {
            Ok(done) => {
                self.count_done(step);
                self.keeper.handle_done(step, done, at);
            }
            Err(failed) => {
                self.count_failed(step, &failed);
                self.keeper.handle_failed(step, failed, at);
            }
        }
    }

    async fn carry_out(&mut self, step: Step) -> Result<Done, Failed> {
        let files = &self.identity_files;
        match step {
            Step::MakeKey => files.make_next_key()?,
            Step::Ask => self.answer = self.ask().await?,
            Step::KeepAnswer => return self.keep_answer(),
            Step::Try => return self.try_next(),
            Step::PromoteKey => files.promote_key()?,
            Step::PromoteChain => self.promote_chain()?,
            Step::GoBack => {
                self.line.identify(self.before.clone(), Standing::Taken)?;
            }
            Step::DropNext => files.drop_next()?,
            Step::FetchTrust => return self.follow(&self.line.now().client.clone()).await,
            Step::Rebootstrap => return self.follow(&self.line.believing_anybody()?).await,
        }
        Ok(Done::Plainly)
    }

    async fn ask(&self) -> Result<Vec<Certificate>, Failed> {
        let (key, footing) = (self.identity_files.next_key()?, self.line.now());
        let (client, trust) = (&footing.client, footing.trust.anchors());
        let now = self.clock.now_or_wall();
        Ok(renew::ask(client, &footing.identity, &key, trust, now).await?)
    }

    fn keep_answer(&self) -> Result<Done, Failed> {
        self.identity_files.keep_next_chain(&self.answer)?;
        let next = self.identity_files.next_identity()?;
        Ok(Done::Kept(Life::of(&next)))
    }

    fn try_next(&self) -> Result<Done, Failed> {
        let next = Arc::new(self.identity_files.next_identity()?);
        let footing = self.line.identify(next, Standing::OnTrial)?;
        Ok(Done::Trying { footing })
    }

    fn promote_chain(&mut self) -> Result<(), Failed> {
        self.identity_files.promote_chain()?;
        let (mut promoted, now) = (self.line.now().identity.clone(), self.line.now());
        if promoted.leaf() == self.before.leaf() {
            // It was never tried, because both have expired.
            promoted = Arc::new(self.identity_files.load()?.current);
            self.line.identify(promoted.clone(), now.standing)?;
        }
        self.before = promoted;
        Ok(())
    }

    /// Follows the bundle that this server shows, if the roots trusted so far prove it.
    async fn follow(&mut self, client: &AuthorityClient) -> Result<Done, Failed> {
        let footing = self.line.now();
        let trust = footing.trust.accept(&client.trust().await?)?;
        let identity = self.led_to(client, &footing, &trust).await;
        self.trust_files.save(&trust)?;
        if let Some(identity) = &identity {
            self.identity_files.keep_chain(identity)?;
            self.before = identity.clone();
        }
        let sequence = trust.sequence();
        let identity = identity.unwrap_or_else(|| footing.identity.clone());
        self.line.step_onto(identity, trust, footing.standing)?;
        Ok(Done::Following { sequence })
    }

    /// The identity with what leads to the new roots above it, if that is other than before; while a
    /// renewal is on trial, that one brings its own.
    async fn led_to(
        &self,
        client: &AuthorityClient,
        footing: &Footing,
        trust: &Trust,
    ) -> Option<Arc<Identity>> {
        let now = self.clock.now_or_wall();
        let leaf = footing.identity.leaf();
        let issuing = renew::issuing(client, leaf, trust.anchors(), now).await;
        let issuing = issuing.inspect_err(|error| {
            tracing::warn!("what leads to the new roots comes with the next renewal: {error}");
        });
        let is_settled = Arc::ptr_eq(&footing.identity, &self.before);
        let issuing = issuing.ok().filter(|_| is_settled)?;
        (issuing != footing.identity.issuing()).then(|| Arc::new(footing.identity.under(issuing)))
    }

    fn at(&self) -> At {
        At {
            now: self.clock.now_or_wall(),
            ticks: self.clock.ticks_ms(),
        }
    }

    /// Tells readiness, status and screen.
    fn show(&self) {
        let kept = Kept {
            renews_at: Some(self.keeper.renews_at()),
            is_renewing: self.keeper.is_renewing(),
            troubles: self.keeper.troubles(),
        };
        let left = self.keeper.renews_at() - self.clock.now_or_wall();
        self.metrics
            .upkeep(left / 1000, self.line.now().trust.sequence());
        self.kept.send_if_modified(|held| {
            let changed = *held != kept;
            *held = kept;
            changed
        });
    }

    fn count_done(&self, step: Step) {
        let footing = self.line.now();
        match step {
            Step::PromoteChain => {
                self.metrics.renewal("renewed");
                let (serial, until) = (
                    footing.identity.leaf().serial_hex(),
                    footing.identity.not_after(),
                );
                tracing::info!(serial, %until, "the certificate was renewed");
            }
            Step::GoBack => self.metrics.renewal("not-taken"),
            Step::FetchTrust | Step::Rebootstrap => {
                let (sequence, roots) = (footing.trust.sequence(), footing.trust.roots().len());
                tracing::info!(sequence, roots, "other roots are trusted from now on");
            }
            _ => tracing::debug!(?step, "upkeep"),
        }
    }

    fn count_failed(&self, step: Step, failed: &Failed) {
        let is_trust = matches!(step, Step::FetchTrust | Step::Rebootstrap);
        if !is_trust {
            self.metrics.renewal(failed.name());
        }
        match failed {
            Failed::Later { words, .. } => {
                tracing::warn!(?step, "upkeep is tried again later: {words}")
            }
            Failed::Refused { words } => tracing::error!(?step, "upkeep is refused: {words}"),
            Failed::Key => tracing::warn!(?step, "the authority takes another key only"),
        }
    }
}

impl From<AgentError> for Failed {
    fn from(error: AgentError) -> Self {
        Self::Later {
            words: format!("{error}. Next: {}", error.hint()),
            wait_ms: 0,
        }
    }
}

impl From<BadTrust> for Failed {
    fn from(error: BadTrust) -> Self {
        Self::Later {
            words: format!("the roots shown there are not believed: {error}"),
            wait_ms: 0,
        }
    }
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        let words = format!("{error}. Next: {}", error.hint());
        if error.is(ProblemType::KeyReused) {
            return Self::Key;
        }
        let needs_somebody = [
            ProblemType::SuccessorExists,
            ProblemType::RenewalTooLate,
            ProblemType::TerminalRefused,
        ];
        if error.is_about_certificate() || needs_somebody.into_iter().any(|p| error.is(p)) {
            return Self::Refused { words };
        }
        Self::Later {
            words,
            wait_ms: error.retry_after_ms(),
        }
    }
}

#[cfg(test)]
mod tests;
