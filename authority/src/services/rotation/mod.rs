//! How is what an operator asked for carried to its end, whatever happens in between?
//!
//! ```text
//! verb ─▶ plan (says, refuses) ─▶ operation recorded ─▶ advance ─▶ advance ─▶ … ─▶ ended
//!                                      (running)          ▲ one step, or one batch of seeds
//!                       crash, or the HSM is gone ────────┘ whoever finds it running goes on
//! ```
//! Every step may be repeated: it looks at the database and the HSM, and does what is missing. One
//! step at a time is in hand in the whole house; what is urgent goes first.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::problem::{Problem, ProblemType};
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};

use super::Failure;
use crate::app::{App, AssembleError};
use crate::ids;
use crate::store::{
    Chore, Operation, OperationId, OperationState, StoreError, Stranded, Whose, Work,
};

pub mod due;
mod plan;
mod reseed;
mod statements;
mod steps;
pub mod transcript;

pub use steps::successor;

pub use plan::{Plan, SeedsWanted, StepWanted, Verb as KeyVerb, plan_seeds, plan_step, plan_unban};

/// How long a verb waits for the end of what it began; longer ones are looked at with `operation`.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How often what is in trouble is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// Most steps of one inline call: far more than a million terminals take.
const STEPS_MAX: u32 = 1_000_000;

/// What is being carried out in this process.
pub struct Operations {
    in_hand: AsyncMutex<()>,
    has_runner: AtomicBool,
    /// A signing key may lack its certificate, and the last try to get one did not fail.
    uncertified: AtomicBool,
    wake: Notify,
    moved: watch::Sender<()>,
    troubles: Mutex<BTreeMap<OperationId, String>>,
}

impl Default for Operations {
    fn default() -> Self {
        Self {
            in_hand: AsyncMutex::default(),
            has_runner: AtomicBool::new(false),
            uncertified: AtomicBool::new(true),
            wake: Notify::new(),
            moved: watch::Sender::new(()),
            troubles: Mutex::default(),
        }
    }
}

impl Operations {
    /// Why it does not get on at the moment.
    pub fn trouble(&self, id: OperationId) -> Option<String> {
        self.troubles().get(&id).cloned()
    }

    /// Everything that does not get on, in words.
    pub fn troubles_in_words(&self) -> Vec<String> {
        let say = |(id, why): (&OperationId, &String)| format!("operation {id} waits: {why}");
        self.troubles().iter().map(say).collect()
    }

    /// Another node began or ended one.
    pub fn moved_elsewhere(&self) {
        self.wake.notify_one();
        self.moved.send_replace(());
    }

    fn note(&self, id: OperationId, trouble: Option<String>) {
        match trouble {
            Some(why) => self.troubles().insert(id, why),
            None => self.troubles().remove(&id),
        };
        self.moved.send_replace(());
    }

    fn troubles(&self) -> MutexGuard<'_, BTreeMap<OperationId, String>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who asks for it, under which name, and what others agreed to.
#[derive(Debug, Clone)]
pub struct Asked {
    pub verb: &'static str,
    pub by: String,
    pub consent: Option<String>,
}

/// Records `work` and carries it out; answers how far it is after a while at most.
pub async fn carry_out(app: &App, asked: Asked, work: Work) -> Result<Operation, Failure> {
    let at = app.clock.now();
    let operation = Operation {
        id: ids::fresh(at, OperationId::from_parts),
        verb: asked.verb.to_owned(),
        work,
        asked_by: asked.by,
        consent: asked.consent,
        state: OperationState::Running,
        outcome: None,
        total: None,
        done: 0,
        after: None,
        started_at: at,
        ended_at: None,
    };
    let id = app.store.begin_operation(operation).await?;
    let is_another_s = !app.store.leads(Chore::Operations);
    let now = match is_another_s || app.operations.has_runner.load(Ordering::SeqCst) {
        true => wait(app, id).await,
        false => drive(app, id).await,
    };
    judge(now?)
}

/// Carries out what is running, on the one node that does, until the drain starts.
pub async fn run(app: &App) {
    app.operations.has_runner.store(true, Ordering::SeqCst);
    let mut rested = true;
    while !app.is_draining() {
        let passed = match app.store.leads(Chore::Operations) {
            true => pass_over(app, rested).await,
            false => Ok(0),
        };
        if let Err(why) = &passed {
            tracing::warn!(error = %why, "operations cannot be looked at, and are tried again");
        }
        rested = false;
        if passed.is_ok_and(|moved| moved > 0) {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY_EVERY) => rested = true,
            () = app.operations.wake.notified() => {}
            () = app.draining() => {}
        }
    }
    app.operations.has_runner.store(false, Ordering::SeqCst);
}

/// One step of every running operation, unless an urgent one is there: then of the urgent ones. How
/// many got on.
pub async fn pass(app: &App) -> Result<usize, Failure> {
    pass_over(app, true).await
}

/// What is in trouble is tried only by a runner that has `rested`.
async fn pass_over(app: &App, rested: bool) -> Result<usize, Failure> {
    publish(app).await?;
    if rested || app.operations.uncertified.load(Ordering::SeqCst) {
        let went_well = statements::certify_one(app).await;
        app.operations
            .uncertified
            .store(went_well, Ordering::SeqCst);
    }
    let mut running = app.store.running_operations().await?;
    running.retain(|operation| rested || is_free(app, operation));
    if running
        .iter()
        .any(|it| it.work.is_urgent() && is_free(app, it))
    {
        running.retain(|operation| operation.work.is_urgent());
    }
    let mut moved = 0;
    for operation in running {
        match take_step(app, operation.id).await {
            Ok(()) => moved += 1,
            Err(why) => {
                tracing::warn!(operation = %operation.id, error = %why, "an operation waits");
            }
        }
    }
    Ok(moved)
}

/// One in trouble does not hold up the others.
fn is_free(app: &App, operation: &Operation) -> bool {
    app.operations.trouble(operation.id).is_none()
}

/// Without a runner: a stopped authority, or a test.
async fn drive(app: &App, id: OperationId) -> Result<Operation, Failure> {
    for _ in 0..STEPS_MAX {
        let operation = find(app, id).await?;
        if operation.state != OperationState::Running {
            return Ok(operation);
        }
        take_step(app, id).await.map_err(|why| waits(id, &why))?;
    }
    find(app, id).await
}

async fn wait(app: &App, id: OperationId) -> Result<Operation, Failure> {
    let mut moved = app.operations.moved.subscribe();
    app.operations.wake.notify_one();
    let over = async {
        loop {
            moved.borrow_and_update();
            let operation = find(app, id).await?;
            if operation.state != OperationState::Running {
                return Ok(operation);
            }
            if let Some(why) = app.operations.trouble(id) {
                return Err(waits(id, &why));
            }
            // The sender is part of the app, so it cannot be gone.
            let _ = moved.changed().await;
        }
    };
    match tokio::time::timeout(WAIT_MAX, over).await {
        Ok(ended) => ended,
        Err(_) => find(app, id).await,
    }
}

/// What it came to, as the answer to whoever asked.
fn judge(operation: Operation) -> Result<Operation, Failure> {
    match (operation.state, &operation.outcome) {
        (OperationState::Refused, Some(why)) => Err(refused(ProblemType::WrongKeyState, why)),
        _ => Ok(operation),
    }
}

/// One step under the lock; a refusal ends the operation, trouble leaves it running.
async fn take_step(app: &App, id: OperationId) -> Result<(), Failure> {
    let _in_hand = app.operations.in_hand.lock().await;
    let operation = find(app, id).await?;
    if operation.state != OperationState::Running {
        return Ok(());
    }
    let stepped = match advance(app, &operation).await {
        Ok(Advance::More) => Ok(()),
        Ok(Advance::Done(outcome)) => match unjournalled(app, &operation) {
            None => end(app, id, OperationState::Done, outcome).await,
            Some(why) => Err(why),
        },
        Err(Failure::Refused(problem)) => {
            let why = Failure::Refused(problem).to_string();
            end(app, id, OperationState::Refused, why).await
        }
        Err(why) => Err(why),
    };
    let trouble = stepped.as_ref().err().map(ToString::to_string);
    app.operations.note(id, trouble);
    stepped
}

/// What a compromise made necessary is not done before a restore would remember it.
fn unjournalled(app: &App, operation: &Operation) -> Option<Failure> {
    let journal = app.fence.journal().filter(|_| operation.work.is_urgent())?;
    let detail = journal.failure()?;
    Some(Failure::Store(StoreError::Unjournalled { detail }))
}

/// Whether there is more to do.
enum Advance {
    More,
    /// And what came of it, in words.
    Done(String),
}

async fn advance(app: &App, operation: &Operation) -> Result<Advance, Failure> {
    match &operation.work {
        Work::Prepare { purpose, label } => steps::prepare(app, operation, *purpose, label).await,
        Work::Activate { kid } => steps::activate(app, operation, kid).await,
        Work::Taint { kid } => steps::taint(app, operation, kid).await,
        Work::Retire { kid } => steps::retire(app, operation, kid).await,
        Work::Reseed { whose, when, .. } => {
            reseed::batch(app, operation, whose.clone(), *when).await
        }
        Work::Unban { terminal, .. } => reseed::unban(app, operation, *terminal).await,
    }
}

async fn end(
    app: &App,
    id: OperationId,
    state: OperationState,
    outcome: String,
) -> Result<(), Failure> {
    tracing::info!(operation = %id, state = state.name(), outcome, "operation ended");
    let at = app.clock.now();
    Ok(app.store.end_operation(id, state, outcome, at).await?)
}

async fn find(app: &App, id: OperationId) -> Result<Operation, Failure> {
    let found = app.store.operation(id).await?;
    found.ok_or_else(|| refused(ProblemType::Unknown, format!("no operation {id}")))
}

/// Whoever runs the listeners tells others of the keys; activating waits for it.
async fn publish(app: &App) -> Result<(), Failure> {
    let keys = app.keyring();
    if keys.records().iter().all(|key| key.published_at.is_some()) {
        return Ok(());
    }
    app.store.publish_keys(app.clock.now()).await?;
    reload(app).await
}

async fn reload(app: &App) -> Result<(), Failure> {
    app.reload_keyring().await.map_err(|error| match error {
        AssembleError::Store(error) => error.into(),
        AssembleError::Keys(error) => refused(ProblemType::Internal, error),
    })
}

fn waits(id: OperationId, why: &impl ToString) -> Failure {
    let why = why.to_string();
    refused(
        ProblemType::NotReady,
        format!("operation {id} is recorded and goes on by itself as soon as it can: {why}"),
    )
}

fn refused(problem: ProblemType, detail: impl std::fmt::Display) -> Failure {
    Problem::new(problem).with_detail(detail).into()
}

/// The first few by name, the others by number.
fn name_all(stranded: &Stranded) -> String {
    let names: Vec<String> = stranded.first.iter().map(ToString::to_string).collect();
    let more = stranded.count.saturating_sub(names.len() as u64);
    let names = names.join(", ");
    match more {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

fn say_whose(whose: &Whose) -> String {
    match whose {
        Whose::Terminal(id) | Whose::Banned(id) => format!("terminal {id}"),
        Whose::Merchant(id) => format!("every terminal of merchant {id}"),
        Whose::All => "every terminal".into(),
        Whose::Void => "every terminal whose seed is void since a restore".into(),
        Whose::NotUnder { sealing, .. } => {
            format!("every terminal whose newest seed is not under {sealing}")
        }
        Whose::Under(label) => format!("every terminal with a seed in force under {label}"),
    }
}
