//! How does a whole fleet get new seeds without anybody noticing, or at once?
//!
//! In batches in order of terminal: seeds are made in the HSM, then stored with the progress in one
//! transaction. A batch that was not stored is made again; its first seeds exist nowhere.

use futures_util::future::try_join_all;
use hsm::Priority;
use protocol::ids::TerminalId;
use protocol::problem::ProblemType;

use super::{Advance, refused, say_whose};
use crate::app::App;
use crate::services::changes::Change;
use crate::services::{Failure, seeds};
use crate::store::{NewSeed, Operation, Reseed, Reseeded, ToReseed, When, Whose};

/// Terminals that get a new seed in one transaction.
const RESEED_BATCH: u32 = 64;

/// The next batch of these terminals.
pub(super) async fn batch(
    app: &App,
    operation: &Operation,
    whose: Whose,
    when: When,
) -> Result<Advance, Failure> {
    let (id, now) = (operation.id, app.clock.now());
    let total = total(app, operation, &whose).await?;
    let store = &app.store;
    let next = store.to_reseed(id, whose.clone(), operation.after, now, RESEED_BATCH);
    let next = next.await?;
    if next.is_empty() {
        app.metrics.seeds_to_replace.set(0);
        let said = say_whose(&whose);
        return Ok(Advance::Done(format!(
            "new seeds: {} ({said})",
            operation.done
        )));
    }
    let terminals: Vec<TerminalId> = next.iter().map(|it| it.terminal).collect();
    let batch = Reseed {
        operation: id,
        seeds: seal_all(app, &next).await?,
        when,
        lift_ban: matches!(whose, Whose::Banned(_)),
        total,
        at: app.clock.now(),
    };
    let stored = store.reseed(batch).await?;
    if stored == Reseeded::Done {
        told(app, operation, terminals, when, total);
    }
    Ok(Advance::More)
}

/// A banned terminal comes back under a seed that nobody has seen.
pub(super) async fn unban(
    app: &App,
    operation: &Operation,
    terminal: TerminalId,
) -> Result<Advance, Failure> {
    let done = batch(app, operation, Whose::Banned(terminal), When::Compromised);
    match done.await? {
        Advance::Done(_) if operation.done == 0 => {
            let detail = format!("terminal {terminal} is not banned");
            Err(refused(ProblemType::AlreadyExists, detail))
        }
        Advance::Done(_) => Ok(Advance::Done(format!("terminal {terminal} is unbanned"))),
        Advance::More => Ok(Advance::More),
    }
}

/// Counted once; terminals that are added or banned meanwhile do not change it.
async fn total(app: &App, operation: &Operation, whose: &Whose) -> Result<u64, Failure> {
    match operation.total {
        Some(total) => Ok(total),
        None => {
            let now = app.clock.now();
            let counted = app.store.count_to_reseed(operation.id, whose.clone(), now);
            Ok(counted.await?)
        }
    }
}

async fn seal_all(app: &App, next: &[ToReseed]) -> Result<Vec<NewSeed>, Failure> {
    let keys = app.keyring().sealing().clone();
    let keys = &keys;
    let seal = |it: &ToReseed| {
        let ToReseed { terminal, version } = *it;
        let header = seeds::context(terminal, version, version);
        async move {
            // Payments and renewals of schedules go before; nobody waits for this.
            let sealed = app.hsm.seal_new_seed(keys, header, Priority::Renewal);
            Ok::<_, Failure>(NewSeed {
                terminal,
                version,
                sealed: sealed.await?,
                keys: keys.clone(),
            })
        }
    };
    try_join_all(next.iter().map(seal)).await
}

fn told(app: &App, operation: &Operation, terminals: Vec<TerminalId>, when: When, total: u64) {
    let done = operation.done.saturating_add(terminals.len() as u64);
    let left = i64::try_from(total.saturating_sub(done)).unwrap_or(i64::MAX);
    app.metrics.seeds_to_replace.set(left);
    tracing::info!(operation = %operation.id, done, total, "new seeds stored");
    if when == When::Compromised {
        app.changes.announce(Change::Terminals(terminals.into()));
    }
}
