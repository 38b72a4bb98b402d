//! Is this database the latest there ever was, and what if it is not?
//!
//! ```text
//! start:  journal ──what it knows──▶ compare with the database ──▶ nothing missing: serve
//!                                                             └──▶ behind: fenced
//! later:  a terminal shows a checkpoint of ours that the database does not contain ──▶ fenced
//! ```
//! Fenced, the process runs and says why, and does nothing else: every route refuses, no background
//! work goes on, until operators raise the generation and start it again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pki::consent::Policy;
use protocol::audit::{CheckpointClaims, Head};
use protocol::problem::{Problem, ProblemType};
use protocol::time::{Millis, Timestamp};
use protocol::wire::upkeep::CHECKPOINT_MAX;
use tokio::sync::watch;

use super::Failure;
use crate::app::App;
use crate::journal::{Fact, Found, Journal, Known, SHOWN_MAX, hex};
use crate::store::{Missing, StoreError};

mod compare;
mod lost_keys;
mod unknown;

pub use compare::Reason;
pub(super) use compare::lost;
pub(super) use lost_keys::{LostKeys, lost_keys};

/// How often, at most, a terminal is told a checkpoint for the checkpoint's own sake.
pub const CHECKPOINT_TOLD_EVERY_MS: Millis = 60_000;

/// Whether this process serves, and what stands outside of its database.
#[derive(Debug)]
pub struct Fence {
    up: watch::Sender<Option<Arc<Fenced>>>,
    journal: OnceLock<Journal>,
    told: Mutex<Told>,
    outside: OnceLock<Outside>,
    unknown: unknown::Unknown,
}

/// What the journal knows and the database does not: it holds for whoever asks for the raise, too.
#[derive(Debug)]
struct Outside {
    /// Serials of revoked certificates.
    revoked: HashSet<String>,
    /// Names of revoked operators.
    operators: HashSet<String>,
    policy: Option<Policy>,
}

/// Why nothing is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fenced {
    pub since: Timestamp,
    pub reasons: Vec<Reason>,
}

/// The last checkpoint, for terminals to keep.
#[derive(Debug, Default)]
struct Told {
    checkpoint: Option<String>,
    /// Rises at most every [`CHECKPOINT_TOLD_EVERY_MS`].
    round: u64,
    since: Option<Timestamp>,
}

impl Default for Fence {
    fn default() -> Self {
        Self {
            up: watch::Sender::new(None),
            journal: OnceLock::new(),
            told: Mutex::default(),
            outside: OnceLock::new(),
            unknown: unknown::Unknown::default(),
        }
    }
}

impl Fence {
    pub fn fenced(&self) -> Option<Arc<Fenced>> {
        self.up.borrow().clone()
    }

    /// Returns once nothing is served any more.
    pub async fn until_fenced(&self) {
        let mut up = self.up.subscribe();
        // The sender is part of `self`, so it cannot be gone while this waits.
        let _ = up.wait_for(Option::is_some).await;
    }

    /// The answer to everything while fenced. Strangers do not hear why.
    pub fn problem(&self) -> Option<Problem> {
        self.fenced().map(|_| Problem::new(ProblemType::Fenced))
    }

    /// The same for operators, with the reasons.
    pub fn operator_problem(&self) -> Option<Problem> {
        let fenced = self.fenced()?;
        let reasons: Vec<String> = fenced.reasons.iter().map(ToString::to_string).collect();
        Some(Problem::new(ProblemType::Fenced).with_detail(reasons.join("; ")))
    }

    /// The last signed checkpoint, and a number that changes when terminals should hear of it.
    pub fn checkpoint(&self) -> (Option<String>, u64) {
        let told = self.told();
        (told.checkpoint.clone(), told.round)
    }

    /// Call after the checkpoint is stored and journalled.
    pub fn checkpoint_taken(&self, jws: String, at: Timestamp) {
        let mut told = self.told();
        told.checkpoint = Some(jws);
        let is_due = |since| at - since >= CHECKPOINT_TOLD_EVERY_MS;
        if told.since.is_none_or(is_due) {
            told.since = Some(at);
            told.round += 1;
        }
    }

    /// None where nobody keeps one, in tests.
    pub fn journal(&self) -> Option<&Journal> {
        self.journal.get()
    }

    /// Whether the journal knows this certificate to be revoked, when the database has lost that.
    pub fn is_revoked_outside(&self, serial: &str) -> bool {
        let outside = self.outside.get();
        outside.is_some_and(|it| it.revoked.contains(serial))
    }

    /// The same of an operator.
    pub fn is_operator_revoked_outside(&self, name: &str) -> bool {
        let outside = self.outside.get();
        outside.is_some_and(|it| it.operators.contains(name))
    }

    /// This policy, made as strict as one that the database has lost.
    pub fn stricter(&self, here: Policy) -> Policy {
        let lost = self.outside.get().and_then(|it| it.policy.as_ref());
        lost.map_or_else(|| here.clone(), |lost| here.stricter(lost))
    }

    /// Who showed a checkpoint that is ahead of this database and that nobody here can verify.
    pub fn unknown_shown_by(&self) -> Vec<String> {
        self.unknown.shown_by()
    }

    /// Nothing is served from now on, for these reasons and those before.
    pub(super) fn put_up(&self, reasons: Vec<Reason>, now: Timestamp) {
        for reason in &reasons {
            tracing::error!(%reason, "fenced: nothing is served until the generation is raised");
        }
        self.up.send_modify(|up| {
            let before = up.take();
            let since = before.as_ref().map_or(now, |fenced| fenced.since);
            let mut all = before.map_or_else(Vec::new, |fenced| fenced.reasons.clone());
            all.extend(
                reasons
                    .into_iter()
                    .filter(|it| !all.contains(it))
                    .collect::<Vec<_>>(),
            );
            *up = Some(Arc::new(Fenced {
                since,
                reasons: all,
            }));
        });
    }

    /// This process has the old generation and must not go on with it.
    pub(super) fn put_up_raised(&self, generation: u32, now: Timestamp) {
        self.put_up(vec![Reason::Raised { generation }], now);
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why it cannot even be said whether the database is the latest.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{path}: {error}")]
    Io { path: String, error: std::io::Error },
    #[error(transparent)]
    Unwritten(#[from] crate::journal::Unwritten),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was found where the journal should be, and the handle to go on with.
pub struct Beginning {
    pub found: Found,
    pub journal: Journal,
}

/// Reads the journal; one that is not there yet gets a name, and no file.
pub fn begin(app_node: &str, path: &std::path::Path) -> Result<Beginning, JournalError> {
    let failed = |error| JournalError::Io {
        path: path.display().to_string(),
        error,
    };
    let found = crate::journal::read(path).map_err(failed)?;
    let known = match &found {
        Found::Journal(contents) => contents.known.clone(),
        Found::Nothing => Known::nothing(fresh_name(), app_node.into()),
    };
    let journal = Journal::open(path, known).map_err(failed)?;
    Ok(Beginning { found, journal })
}

/// Compares the database with the journal. Either they agree, and what a crash kept from the journal is
/// written now; or the database is behind, and the fence is up.
pub async fn judge(app: &App, beginning: Beginning) -> Result<(), JournalError> {
    let Beginning { found, journal } = beginning;
    let known = Arc::new(journal.known().await?);
    let difference = app.store.differs_from(known.clone()).await?;
    let reasons = compare::reasons(&found, &difference, app.config.node.as_str(), &known);
    if let Some(last) = app.store.last_checkpoint().await? {
        app.fence.checkpoint_taken(last.jws, last.at);
    }
    if reasons.is_empty() {
        journal.written(difference.unjournalled).await?;
        app.store.remember_journal(journal.last()).await?;
    } else {
        keep_outside(app, difference.missing);
        app.fence.put_up(reasons, app.clock.now());
    }
    let _ = app.fence.journal.set(journal);
    Ok(())
}

/// Writes into this node's journal what the database holds and it does not: what other nodes did.
pub async fn catch_up(app: &App) -> Result<(), JournalError> {
    let Some(journal) = app.fence.journal() else {
        return Ok(());
    };
    let known = Arc::new(journal.known().await?);
    let owed = app.store.differs_from(known).await?.unjournalled;
    if !owed.is_empty() {
        journal.written(owed).await?;
    }
    Ok(())
}

/// What the database has lost holds for whoever asks for the raise.
pub(super) fn keep_outside(app: &App, missing: Missing) {
    // Once: whoever sets it puts up the fence, and then nothing compares again.
    let _ = app.fence.outside.set(Outside {
        revoked: missing.revocations.into_iter().collect(),
        operators: missing.operators.into_iter().collect(),
        policy: missing.policy.map(|lost| lost.policy),
    });
}

/// Somebody with a certificate of ours shows the last checkpoint they saw. If we signed it and our
/// database does not contain it, there was a later database than this one.
pub async fn look_at(app: &App, shown_by: &str, compact: &str) -> Result<(), Failure> {
    if compact.len() > CHECKPOINT_MAX {
        return Ok(());
    }
    let Some(claims) = unknown::verify(app, shown_by, compact).await? else {
        return Ok(());
    };
    if !is_ahead(app, &claims).await? {
        return Ok(());
    }
    let generation = claims.generation;
    let reason = Reason::Shown {
        by: shown_by.into(),
        generation,
        at: Timestamp::from_secs(claims.iat),
    };
    let known = app.fence.fenced();
    let is_news = known.is_none_or(|fenced| is_news(&fenced.reasons, &reason, generation));
    if is_news {
        app.metrics.fence_alarms.inc();
        app.fence.put_up(vec![reason], app.clock.now());
        keep_evidence(app, shown_by, claims).await;
    }
    Ok(())
}

/// A whole fleet comes back to a restored authority, and each terminal shows a checkpoint of its own: a
/// few say enough, and whoever knows a later generation.
fn is_news(before: &[Reason], reason: &Reason, generation: u32) -> bool {
    let shown = before.iter().filter_map(|it| match it {
        Reason::Shown { generation, .. } => Some(*generation),
        _ => None,
    });
    let raises = shown.clone().all(|before| before < generation);
    (raises || shown.count() < SHOWN_MAX) && !before.contains(reason)
}

async fn is_ahead(app: &App, claims: &CheckpointClaims) -> Result<bool, Failure> {
    if claims.generation != app.generation {
        return Ok(claims.generation > app.generation);
    }
    for head in &claims.heads {
        if !contains(app, head).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn contains(app: &App, head: &Head) -> Result<bool, Failure> {
    let before = head.sequence.saturating_sub(1);
    let rows = app.store.audit_rows(&head.node, before, 1).await?;
    Ok(rows
        .first()
        .is_some_and(|it| it.row.sequence == head.sequence && hex(&it.hash) == head.hash))
}

/// So that the next start knows it, too.
async fn keep_evidence(app: &App, shown_by: &str, claims: CheckpointClaims) {
    let Some(journal) = app.fence.journal() else {
        return;
    };
    // One that is itself in doubt is left as it is, and fences the next start anyway.
    let fenced = app.fence.fenced();
    if fenced.is_some_and(|it| it.reasons.iter().any(Reason::is_of_journal)) {
        return;
    }
    let fact = Fact::Shown {
        terminal: shown_by.into(),
        generation: claims.generation,
        heads: claims.heads,
    };
    if let Err(error) = journal.written(vec![(app.clock.now(), fact)]).await {
        tracing::error!(%error, "the next start may not know why this one was fenced");
    }
}

/// 128 random bits.
pub(super) fn fresh_name() -> String {
    hex(&crate::ids::random::<16>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_795_459_200_000);

    #[test]
    fn a_fleet_that_shows_what_it_saw_fills_no_memory() {
        let shown = |n: usize, generation| Reason::Shown {
            by: format!("{n:08}"),
            generation,
            at: NOW,
        };
        let all: Vec<_> = (0..SHOWN_MAX).map(|n| shown(n, 2)).collect();
        let next = shown(SHOWN_MAX, 2);
        assert!(is_news(&all[1..], &next, 2));
        assert!(!is_news(&all[1..], &all[1], 2), "said before");
        assert!(!is_news(&all, &next, 2));
        assert!(
            is_news(&all, &shown(0, 3), 3),
            "a later life is always news"
        );
    }

    #[test]
    fn terminals_hear_of_a_checkpoint_at_most_once_a_minute_and_always_the_latest() {
        let fence = Fence::default();
        assert_eq!(fence.checkpoint(), (None, 0));
        let mut rounds = Vec::new();
        for second in 0..=120 {
            fence.checkpoint_taken(format!("jws {second}"), NOW + second * 1_000);
            let (latest, round) = fence.checkpoint();
            assert_eq!(latest, Some(format!("jws {second}")));
            rounds.push(round);
        }
        rounds.dedup();
        assert_eq!(rounds, [1, 2, 3]);
    }

    #[test]
    fn a_fence_stays_up_with_its_first_moment_and_every_reason_once() {
        let fence = Fence::default();
        assert_eq!(fence.problem(), None);
        fence.put_up(vec![Reason::JournalGone], NOW);
        fence.put_up(vec![Reason::JournalGone, Reason::JournalForeign], NOW + 1);
        let fenced = fence.fenced().expect("it is up");
        assert_eq!(fenced.since, NOW);
        assert_eq!(
            fenced.reasons,
            [Reason::JournalGone, Reason::JournalForeign]
        );
        assert_eq!(
            fence.problem().and_then(|it| it.detail),
            None,
            "strangers hear no reason"
        );
        assert!(
            fence
                .operator_problem()
                .is_some_and(|it| it.detail.is_some())
        );
    }
}
