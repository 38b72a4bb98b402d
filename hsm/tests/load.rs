//! Does every one of many callers get an answer, whatever the HSM is going through?
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use hsm::{
    BATCH_MAX, HealthState, Hsm, HsmError, Observer, Pkcs11Hsm, Priority, SealedSeed, SealingKeys,
    conformance,
};
use tokio::task::JoinSet;

mod support;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_of_two_hsm_tokens_are_all_answered_while_the_module_is_recycled() {
    let module = support::module();
    let one = World::on(support::open_with("load-1", |options| options.workers = 3)).await;
    let two = World::on(support::open_with("load-2", |options| options.workers = 1)).await;
    let generation = module.generation();
    module.set_recycle_after(20);
    let mut calls = JoinSet::new();
    for n in 0..300u32 {
        let world = if n % 2 == 0 { one.clone() } else { two.clone() };
        calls.spawn(async move { world.mac(1).await });
    }
    let answers = calls.join_all().await;
    module.set_recycle_after(hsm::RECYCLE_AFTER_DESTROYED);
    for answer in answers {
        answer.unwrap();
    }
    assert!(module.generation() > generation + 5, "it was recycled");
    assert_eq!(one.hsm.health().state, HealthState::Ready);
}

#[tokio::test]
async fn a_full_queue_answers_busy_and_the_others_are_served() {
    let world = World::on(support::open_with("full", |options| options.queue_max = 2)).await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let world = world.clone();
        calls.spawn(async move { world.mac(BATCH_MAX).await });
    }
    let answers = calls.join_all().await;
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
    let refused: Vec<_> = refused.map(HsmError::outcome).collect();
    assert!(
        !refused.is_empty() && refused.len() < 20,
        "{}",
        refused.len()
    );
    assert!(refused.iter().all(|outcome| *outcome == "busy"));
    assert_eq!(
        world.hsm.health().state,
        HealthState::Ready,
        "full is not broken"
    );
    world.mac(1).await.unwrap();
}

#[tokio::test]
async fn a_deadline_answers_the_caller_while_the_device_still_works() {
    let patient = World::on(support::open("deadline")).await;
    let mut options = support::options("deadline");
    options.deadline = Duration::from_millis(1);
    let hasty = World {
        hsm: Arc::new(support::try_open(options).unwrap()),
        ..patient.clone()
    };
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let hasty = hasty.clone();
        calls.spawn(async move { hasty.mac(BATCH_MAX).await });
    }
    let answers = calls.join_all().await;
    let late: Vec<_> = answers.iter().filter_map(|it| it.as_ref().err()).collect();
    assert!(!late.is_empty());
    assert!(late.iter().all(|error| error.outcome() == "busy"));
    assert_ne!(
        hasty.hsm.health().state,
        HealthState::Down,
        "slow is not down"
    );
    patient.mac(BATCH_MAX).await.unwrap();
}

#[tokio::test]
async fn a_caller_that_gives_up_leaves_the_worker_to_the_others() {
    let world = World::on(support::open("gives-up")).await;
    for _ in 0..50 {
        let given_up = world.clone();
        let call = tokio::spawn(async move { given_up.mac(BATCH_MAX).await });
        tokio::task::yield_now().await;
        call.abort();
    }
    world.mac(1).await.unwrap();
    assert_eq!(world.hsm.health().queued, 0);
}

#[tokio::test]
async fn the_observer_hears_of_every_call_and_how_it_ended() {
    let heard = Arc::new(Heard::default());
    let observer: Arc<dyn Observer> = heard.clone();
    let hsm = support::open_with("observed", |options| options.observer = Some(observer));
    hsm.random(8).await.unwrap();
    let nobody = hsm::KeyLabel("nobody".into());
    hsm.public_key(&nobody).await.unwrap_err();
    let calls = heard.0.lock().unwrap().clone();
    assert_eq!(calls, [("random", "ok"), ("public_key", "key-unknown")]);
}

#[tokio::test]
async fn the_observer_hears_of_commands_by_their_names() {
    let heard = Arc::new(Kinds::default());
    let observer: Arc<dyn Observer> = heard.clone();
    let hsm = support::open_with("commands", |options| options.observer = Some(observer));
    conformance::all(&hsm).await;
    let kinds = heard.0.lock().unwrap().clone();
    assert_eq!(kinds, BTreeSet::from(hsm::COMMANDS));
}

#[derive(Default)]
struct Kinds(Mutex<BTreeSet<&'static str>>);

impl Observer for Kinds {
    fn observe(&self, _: &'static str, _: &'static str, _: f64) {}

    fn command(&self, kind: &'static str) {
        self.0.lock().unwrap().insert(kind);
    }
}

#[tokio::test]
async fn a_herd_of_renewals_leaves_room_for_payments_which_go_before_it() {
    const QUEUE_MAX: usize = 64;
    const PAYMENTS: usize = 16;
    let gate = Arc::new(Gate::default());
    let observer: Arc<dyn Observer> = gate.clone();
    let world = World::on(support::open_with("herd", |options| {
        (options.queue_max, options.observer) = (QUEUE_MAX, Some(observer));
    }))
    .await;
    let signing = conformance::made(world.hsm.as_ref(), hsm::KeyKind::Signing, "herd").await;
    gate.shut();
    let (held, hsm) = (world.clone(), world.hsm.clone());
    let held = tokio::spawn(async move { held.mac(1).await });
    until(|| gate.is_waited_at()).await;
    let mut renewals = JoinSet::new();
    for _ in 0..4 * QUEUE_MAX {
        let world = world.clone();
        renewals.spawn(async move { world.macs(25, Priority::Renewal).await });
    }
    until(|| hsm.health().queued == QUEUE_MAX * 3 / 4).await;
    let mut payments = JoinSet::new();
    for _ in 0..PAYMENTS {
        let (hsm, signing) = (hsm.clone(), signing.clone());
        payments.spawn(async move { hsm.sign(&signing, [7; 32], Priority::Payment).await });
    }
    until(|| hsm.health().queued == QUEUE_MAX).await;
    gate.open();
    held.await.unwrap().unwrap();
    for paid in payments.join_all().await {
        paid.expect("no payment is refused because of renewals");
    }
    let renewed = renewals.join_all().await;
    let served = renewed.iter().filter(|it| it.is_ok()).count();
    assert_eq!(
        served,
        QUEUE_MAX * 3 / 4,
        "the others were told to come later"
    );
    let order = gate.order();
    let last = order.iter().rposition(|it| *it == "sign").unwrap();
    let before = order[..last].iter().filter(|it| **it == "unwrap").count();
    // The one in hand, and one after every eight payments.
    assert_eq!(before, 1 + PAYMENTS / 8 - 1, "{order:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_renewals_never_end_every_payment_gets_through() {
    const PAYMENTS: usize = 200;
    let world = World::on(support::open_with("saturated", |options| {
        options.queue_max = 16;
    }))
    .await;
    let signing = conformance::made(world.hsm.as_ref(), hsm::KeyKind::Signing, "sat").await;
    let mut herd = JoinSet::new();
    for _ in 0..64 {
        let world = world.clone();
        herd.spawn(async move {
            loop {
                // Refused, it comes again at once: worse than any agent.
                let _ = world.macs(25, Priority::Renewal).await;
                tokio::task::yield_now().await;
            }
        });
    }
    for _ in 0..PAYMENTS {
        let signed = world.hsm.sign(&signing, [7; 32], Priority::Payment);
        signed.await.expect("no payment is lost to renewals");
    }
    herd.abort_all();
    assert_eq!(world.hsm.health().state, HealthState::Ready);
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::task::yield_now().await;
    }
}

/// Notes unwraps and signatures in the order in which the device gets them, and can hold the worker
/// before the next command.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    opened: Condvar,
}

#[derive(Default)]
struct GateState {
    is_shut: bool,
    is_waited_at: bool,
    order: Vec<&'static str>,
}

impl Gate {
    fn shut(&self) {
        *self.state.lock().unwrap() = GateState {
            is_shut: true,
            ..GateState::default()
        };
    }

    fn open(&self) {
        self.state.lock().unwrap().is_shut = false;
        self.opened.notify_all();
    }

    fn is_waited_at(&self) -> bool {
        self.state.lock().unwrap().is_waited_at
    }

    fn order(&self) -> Vec<&'static str> {
        self.state.lock().unwrap().order.clone()
    }
}

impl Observer for Gate {
    fn observe(&self, _: &'static str, _: &'static str, _: f64) {}

    fn command(&self, kind: &'static str) {
        let mut state = self.state.lock().unwrap();
        state.is_waited_at |= state.is_shut;
        state = self.opened.wait_while(state, |it| it.is_shut).unwrap();
        if matches!(kind, "unwrap" | "sign") {
            state.order.push(kind);
        }
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<(&'static str, &'static str)>>);

impl Observer for Heard {
    fn observe(&self, operation: &'static str, outcome: &'static str, seconds: f64) {
        assert!(seconds >= 0.0);
        self.0.lock().unwrap().push((operation, outcome));
    }
}

#[derive(Clone)]
struct World {
    hsm: Arc<Pkcs11Hsm>,
    keys: SealingKeys,
    seed: SealedSeed,
}

impl World {
    async fn on(hsm: Pkcs11Hsm) -> Self {
        let keys = conformance::sealing_keys(&hsm, "load").await;
        let sealed = hsm.seal_new_seed(&keys, b"header".to_vec(), Priority::Renewal);
        let seed = sealed.await.unwrap();
        Self {
            hsm: Arc::new(hsm),
            keys,
            seed,
        }
    }

    async fn mac(&self, messages: usize) -> Result<(), HsmError> {
        self.macs(messages, Priority::Payment).await
    }

    async fn macs(&self, messages: usize, priority: Priority) -> Result<(), HsmError> {
        let messages = vec![b"message".to_vec(); messages];
        let macs = self
            .hsm
            .hmac_batch(&self.keys, &self.seed, messages, priority);
        macs.await.map(drop)
    }
}
