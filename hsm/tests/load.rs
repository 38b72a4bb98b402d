//! Does every one of many callers get an answer, whatever the HSM is going through?
#![allow(clippy::unwrap_used)]

use std::{
    sync::{Arc, Mutex},
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
        let messages = vec![b"message".to_vec(); messages];
        let macs = self
            .hsm
            .hmac_batch(&self.keys, &self.seed, messages, Priority::Payment);
        macs.await.map(drop)
    }
}
