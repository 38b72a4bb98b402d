//! Why does the authority serve nothing, and how does it serve again?

use std::path::PathBuf;
use std::sync::Arc;

use pki::lifecycle::KeyState;
use protocol::ids::TerminalId;
use protocol::problem::ProblemType;
use protocol::sun::TagUid;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Asker, Gate, Verb, check_name, refused};
use crate::app::App;
use crate::journal::{Journal, Known, Renewal, Unwritten};
use crate::services::fence::{LostKeys, Reason, fresh_name, lost_keys};
use crate::services::{Failure, rotation};
use crate::store::{KeyRecord, Raise, RaiseRecord, Raised, StoreError};

/// Raises that are shown.
const RAISES_SHOWN: u32 = 10;

/// Looks at database and journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FenceStatus {}

/// Raises the generation: what was shown before is void, what was refused stays refused.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FenceRaise {
    pub reason: String,
    /// Although nothing speaks against this database.
    #[serde(default)]
    pub anyway: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct FenceView {
    pub fenced: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<Timestamp>,
    /// What speaks against this database, in words.
    pub reasons: Vec<String>,
    pub generation: u32,
    pub journal: JournalView,
    /// Latest first.
    pub raises: Vec<RaiseView>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct JournalView {
    pub path: PathBuf,
    pub lines: u64,
    pub bans: usize,
    pub revocations: usize,
    pub tainted_keys: usize,
    /// Terminals with a seed that a compromise replaced.
    pub void_seeds: usize,
    pub revoked_operators: usize,
    #[serde(default)]
    pub retired_tags: usize,
    /// Why it cannot be written at the moment.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct RaiseView {
    pub generation: u32,
    pub at: Timestamp,
    pub reason: String,
    pub lost_rows: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct RaisedView {
    pub was: u32,
    pub generation: u32,
    pub banned_again: Vec<TerminalId>,
    pub revoked_again: u64,
    /// Labels of lost keys that the HSM holds: they verify what they signed, and sign no more.
    #[serde(default)]
    pub keys_found: Vec<String>,
    /// Labels of lost keys that it does not hold: what they signed is called foreign.
    #[serde(default)]
    pub keys_gone: Vec<String>,
    /// Labels; what was active has a successor, and seeds under it are replaced after the next start.
    pub keys_tainted_again: Vec<String>,
    /// Terminals that are refused until they have a new seed, which the next start makes.
    pub seeds_void: u64,
    #[serde(default)]
    pub shoppers_locked_again: u64,
    #[serde(default)]
    pub passkeys_removed_again: u64,
    #[serde(default)]
    pub tags_retired_again: Vec<TagUid>,
    pub operators_revoked_again: Vec<String>,
    pub policy_set_again: bool,
    pub join_tokens_ended: u64,
    pub charges_ended: u64,
    #[serde(default)]
    pub sessions_ended: u64,
    /// Of merchants: no till of theirs refunds until it is set again.
    #[serde(default)]
    pub pins_cleared: u64,
    pub lost_rows: u64,
    /// Where the journal that could not be believed is now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub journal_set_aside: Option<PathBuf>,
}

impl Verb for FenceStatus {
    const NAME: &'static str = "fence-status";
    const CHANGES: bool = false;
    const WHILE_FENCED: bool = true;
    type Answer = FenceView;

    async fn run(self, app: &App) -> Result<FenceView, Failure> {
        let journal = journal(app)?;
        let known = journal.known().await.map_err(unwritten)?;
        let fenced = app.fence.fenced();
        let raises = app.store.raises(RAISES_SHOWN).await?;
        Ok(FenceView {
            fenced: fenced.is_some(),
            since: fenced.as_ref().map(|fenced| fenced.since),
            reasons: fenced.map_or_else(Vec::new, |fenced| {
                fenced.reasons.iter().map(ToString::to_string).collect()
            }),
            generation: app.store.generation().await?,
            journal: JournalView {
                path: journal.path().into(),
                lines: known.last.0,
                bans: known.bans.len(),
                revocations: known.revoked.len(),
                tainted_keys: known.tainted.len(),
                void_seeds: known.voided.len(),
                revoked_operators: known.operators.len(),
                retired_tags: known.tags.len(),
                failure: journal.failure(),
            },
            raises: raises.into_iter().map(RaiseView::from).collect(),
        })
    }
}

impl Verb for FenceRaise {
    const NAME: &'static str = "fence-raise";
    const CHANGES: bool = true;
    const WHILE_FENCED: bool = true;
    type Answer = RaisedView;

    fn gate(&self) -> Gate {
        Gate::Consented
    }

    async fn run(self, app: &App) -> Result<RaisedView, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    async fn run_as(self, app: &App, asker: &Asker) -> Result<RaisedView, Failure> {
        check_name(&self.reason)?;
        let reasons = reasons(app);
        if reasons.is_empty() && !self.anyway {
            return Err(refused(
                ProblemType::WouldStrand,
                "nothing speaks against this database, and a raise voids every token and schedule \
                 and ends every open charge; if you know better, add --anyway",
            ));
        }
        let journal = journal(app)?;
        let set_aside = renew(app, journal, &reasons).await?;
        let raised = raise(app, journal, &reasons, self.reason, &asker.by).await?;
        Ok(RaisedView {
            journal_set_aside: set_aside,
            ..raised
        })
    }
}

/// A journal that cannot be believed, or is lost, makes way for a new one; what could be read of it
/// goes on to count, because it can only refuse more.
async fn renew(
    app: &App,
    journal: &Journal,
    reasons: &[Reason],
) -> Result<Option<PathBuf>, Failure> {
    if !reasons.iter().any(Reason::is_of_journal) {
        return Ok(None);
    }
    let renewal = Renewal {
        journal: fresh_name(),
        keeps: true,
        at: app.clock.now(),
    };
    journal.renew(renewal).await.map_err(unwritten)
}

async fn raise(
    app: &App,
    journal: &Journal,
    reasons: &[Reason],
    why: String,
    by: &str,
) -> Result<RaisedView, Failure> {
    let known = Arc::new(journal.known().await.map_err(unwritten)?);
    let here = app.store.generation().await?;
    let shown = reasons.iter().filter_map(Reason::generation);
    let highest = shown.fold(known.highest_generation().max(here), u32::max);
    let generation = highest.checked_add(1).ok_or_else(|| {
        let detail =
            "the journal speaks of the last generation there can be: it was written by hand";
        refused(ProblemType::NotReady, detail)
    })?;
    let LostKeys { found, gone } = lost_keys(app, &known).await?;
    // A journal that was away, or that another node's raise never saw, may know of bans that no raise has
    // carried out.
    let since = match reasons.iter().any(Reason::is_of_journal) {
        true => 0,
        false => here.min(known.generation),
    };
    let successors = successors(app, &known).await?;
    let keys_found = found.iter().map(|key| key.label.0.clone()).collect();
    let now = app.clock.now();
    let order = Raise {
        generation,
        known,
        since,
        reason: why,
        by: by.into(),
        successors,
        found,
    };
    let raised = app.store.raise(order, now).await?.ok_or_else(|| {
        refused(
            ProblemType::Busy,
            "somebody else raised the generation just now",
        )
    })?;
    tracing::warn!(generation, was = raised.was, "the generation was raised");
    app.fence.put_up_raised(generation, now);
    catch_up(app, journal).await?;
    let keys_gone = gone.into_iter().map(|key| key.label).collect();
    Ok(RaisedView {
        keys_found,
        keys_gone,
        ..view_of(raised, generation)
    })
}

/// One for each active key that the journal knows to be tainted: nobody is left without.
async fn successors(app: &App, known: &Known) -> Result<Vec<KeyRecord>, Failure> {
    let keyring = app.keyring();
    let forgotten = keyring.records().iter().filter(|key| {
        key.state == KeyState::Active
            && key.tainted_at.is_none()
            && known.tainted.contains_key(&key.kid)
    });
    let mut made = Vec::new();
    for key in forgotten {
        made.push(rotation::successor(app, key.purpose).await?);
    }
    Ok(made)
}

/// A new journal knows nothing of what the database has held all along.
async fn catch_up(app: &App, journal: &Journal) -> Result<(), Failure> {
    let known = Arc::new(journal.known().await.map_err(unwritten)?);
    let difference = app.store.differs_from(known).await?;
    let owed = difference.unjournalled;
    journal.written(owed).await.map_err(unwritten)?;
    Ok(app.store.remember_journal(journal.last()).await?)
}

fn reasons(app: &App) -> Vec<Reason> {
    let fenced = app.fence.fenced();
    fenced.map_or_else(Vec::new, |fenced| fenced.reasons.clone())
}

fn journal(app: &App) -> Result<&Journal, Failure> {
    let none = || refused(ProblemType::Internal, "this process keeps no journal");
    app.fence.journal().ok_or_else(none)
}

pub(super) fn unwritten(error: Unwritten) -> Failure {
    Failure::Store(StoreError::Unjournalled {
        detail: error.to_string(),
    })
}

fn view_of(raised: Raised, generation: u32) -> RaisedView {
    RaisedView {
        was: raised.was,
        generation,
        banned_again: raised.bans,
        revoked_again: raised.revocations,
        keys_found: Vec::new(),
        keys_gone: Vec::new(),
        keys_tainted_again: raised.keys,
        seeds_void: raised.seeds,
        shoppers_locked_again: raised.locks,
        passkeys_removed_again: raised.passkeys,
        tags_retired_again: raised.tags,
        operators_revoked_again: raised.operators,
        policy_set_again: raised.policy,
        join_tokens_ended: raised.join_tokens,
        charges_ended: raised.charges,
        sessions_ended: raised.sessions,
        pins_cleared: raised.pins,
        lost_rows: raised.lost_rows,
        journal_set_aside: None,
    }
}

impl From<RaiseRecord> for RaiseView {
    fn from(record: RaiseRecord) -> Self {
        Self {
            generation: record.generation,
            at: record.at,
            reason: record.reason,
            lost_rows: record.lost_rows,
        }
    }
}
