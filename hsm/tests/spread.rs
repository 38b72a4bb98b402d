//! Does a spread of real HSM tokens lose a call when one of them is lost?
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hsm::{
    HealthState, Hsm, HsmError, KeyKind, KeyLabel, Member, Observer, Pkcs11Hsm, Priority,
    SealedSeed, SealingKeys, Spread, conformance,
};
use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
use tokio::task::JoinSet;

mod support;

use support::Maker;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_is_lost_under_load_and_comes_back_and_nobody_notices() {
    let world = World::of_clones("lost-1", "lost-2").await;
    let load = world.under_load();
    world.until(|it| it.commands() == [true, true]).await;
    world.clone.take_away();
    world
        .until(|it| it.spread.health().state == HealthState::Degraded)
        .await;
    let health = world.spread.health();
    assert_eq!(health.members[0].1.state, HealthState::Ready, "{health:?}");
    assert!(health.reason.unwrap().contains("lost-2"));
    world.clone.put_back();
    world
        .until(|it| it.spread.health().state == HealthState::Ready)
        .await;
    world.counters[1].store(0, Ordering::SeqCst);
    world.until(|it| it.commands() == [true, true]).await;
    let (answered, lost) = load.end().await;
    assert_eq!(lost, Vec::<HsmError>::new(), "of {answered}");
    assert!(answered > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_comes_back_with_other_keys_under_load_and_nothing_it_made_goes_out() {
    if std::env::var_os(support::ALONE).is_none() {
        return support::run_alone(
            "one_of_two_comes_back_with_other_keys_under_load_and_nothing_it_made_goes_out",
        );
    }
    let world = World::of_clones("other-1", "other-2").await;
    world.make_other_keys("other-3").await;
    // Another one is in its place, under its name, and the next call loses the session.
    world.clone.take_away();
    support::folder("other-3").rename("other-3", "other-2");
    Maker::SoftHsm.raw().finalize().unwrap();
    let signatures = world.signatures().await;
    for signature in signatures {
        assert!(world.verifies(&signature.unwrap()), "a wrong one went out");
    }
    let load = world.under_load();
    let differs = "another key has this label";
    world
        .until(|it| it.spread.health().remarks.join("; ").contains(differs))
        .await;
    world.counters[0].store(0, Ordering::SeqCst);
    world.until(|it| it.commands()[0]).await;
    let (answered, lost) = load.end().await;
    assert_eq!(lost, Vec::<HsmError>::new(), "of {answered}");
    let remarks = world.spread.health().remarks.join("; ");
    assert!(remarks.contains("other-2 does not share"), "{remarks}");
}

#[tokio::test]
async fn a_key_of_one_that_others_destroyed_is_lacked_also_where_its_bindings_held() {
    let world = World::of_clones("less-1", "less-2").await;
    for _ in 0..4 {
        let messages = vec![b"message".to_vec()];
        let (keys, seed) = (&world.keys, &world.seed);
        let macs = world
            .spread
            .hmac_batch(keys, seed, messages, Priority::Payment);
        macs.await.unwrap();
    }
    assert_eq!(world.commands(), [true, true]);
    let others = support::try_open(support::options("less-2")).unwrap();
    others.destroy_key(&world.keys.binding).await.unwrap();
    let reports = world.spread.inventory().await.unwrap();
    let binding = reports.iter().find(|it| it.label == world.keys.binding);
    assert_eq!(binding.unwrap().lacked_by, ["less-2"]);
}

#[tokio::test]
async fn hsm_tokens_of_two_makers_whose_fresh_keys_are_not_shared_conform() {
    let one = Maker::SoftHsm.open("conform-1");
    let two = Maker::Kryoptic.open("conform-2");
    let members = vec![member("conform-1", one), member("conform-2", two)];
    let spread = Spread::open(members, DEADLINE).await.unwrap();
    conformance::all(&spread).await;
    let fresh = KeyLabel("conformance-one".into());
    let reports = spread.inventory().await.unwrap();
    let report = reports.iter().find(|it| it.label == fresh).unwrap();
    assert_eq!(report.lacked_by, ["conform-2"]);
}

#[tokio::test]
async fn a_key_that_two_makers_hold_is_asked_of_both() {
    let (makers, label) = ([Maker::SoftHsm, Maker::Kryoptic], KeyLabel("known".into()));
    let counters = makers.map(|_| Arc::new(AtomicUsize::new(0)));
    let mut members = Vec::new();
    for (maker, counter) in makers.into_iter().zip(&counters) {
        let token = format!("both-{maker:?}");
        let observer = Arc::new(Commands(counter.clone()));
        let hsm = maker.open_with(&token, |options| options.observer = Some(observer));
        maker.put_in_cmac_key(&token, &label.0, vec![7; 16]);
        members.push(member(&token, hsm));
    }
    let spread = Spread::open(members, DEADLINE).await.unwrap();
    assert_eq!(spread.health().remarks, Vec::<String>::new());
    let before = counters.each_ref().map(|it| it.load(Ordering::SeqCst));
    for _ in 0..4 {
        let macs = spread.cmac_batch(&label, vec![Vec::new()], Priority::Payment);
        macs.await.unwrap();
    }
    let after = counters.each_ref().map(|it| it.load(Ordering::SeqCst));
    assert_eq!([after[0] - before[0], after[1] - before[1]], [2, 2]);
}

#[tokio::test]
async fn one_that_is_away_at_the_start_is_found_later() {
    let world = World::of_clones("away--1", "away--2").await;
    world.clone.take_away();
    restart().await;
    let mut options = support::options("away--2");
    assert!(support::try_open(support::options("away--2")).is_err());
    options.may_be_away = true;
    let members = vec![
        member(
            "away--1",
            support::try_open(support::options("away--1")).unwrap(),
        ),
        member("away--2", support::try_open(options).unwrap()),
    ];
    let spread = Spread::open(members, DEADLINE).await.unwrap();
    assert_eq!(spread.health().state, HealthState::Degraded);
    world.clone.put_back();
    while spread.health().state != HealthState::Ready {
        spread.random(1).await.unwrap();
        tokio::task::yield_now().await;
    }
    let remarks = spread.health().remarks;
    assert!(remarks.is_empty(), "{remarks:?}");
}

#[tokio::test]
async fn one_label_and_two_serial_numbers_are_two_hsm_tokens() {
    let original = support::open("twin--1");
    conformance::made(&original, KeyKind::Signing, "twin").await;
    // The same label: as if the maker's tool had copied it, too.
    support::clone_token("twin--1", "twin--2").rename("twin--2", "twin--1");
    restart().await;
    let both = support::try_open(support::options("twin--1"))
        .err()
        .unwrap();
    assert!(both.to_string().contains("serial numbers"), "{both}");
    let serials = support::serials("twin--1");
    assert_eq!(serials.len(), 2);
    for serial in serials {
        let mut options = support::options("twin--1");
        options.serial = Some(serial);
        let hsm = support::try_open(options).unwrap();
        let key = KeyLabel("conformance-twin".into());
        hsm.sign(&key, [1; 32], Priority::Payment).await.unwrap();
    }
}

const DEADLINE: Duration = Duration::from_secs(60);
/// Callers at once.
const CALLERS: usize = 8;

struct World {
    spread: Arc<Spread>,
    clone: support::Clone,
    counters: [Arc<AtomicUsize>; 2],
    keys: SealingKeys,
    signing: KeyLabel,
    seed: SealedSeed,
    point: [u8; 65],
    mac: [u8; 32],
}

impl World {
    async fn of_clones(label: &str, copy: &str) -> Arc<Self> {
        let original = support::open(label);
        let keys = conformance::sealing_keys(&original, "spread").await;
        let signing = conformance::made(&original, KeyKind::Signing, "spread").await;
        let sealed = original.seal_new_seed(&keys, b"header".to_vec(), Priority::Renewal);
        let seed = sealed.await.unwrap();
        let point = original.public_key(&signing).await.unwrap();
        let message = vec![b"message".to_vec()];
        let macs = original.hmac_batch(&keys, &seed, message, Priority::Renewal);
        let mac = macs.await.unwrap()[0].0;
        drop(original);
        let clone = support::clone_token(label, copy);
        restart().await;
        let counters = [label, copy].map(|_| Arc::new(AtomicUsize::new(0)));
        let mut members = Vec::new();
        for (name, counter) in [label, copy].into_iter().zip(&counters) {
            let mut options = support::options(name);
            options.observer = Some(Arc::new(Commands(counter.clone())));
            members.push(member(name, support::try_open(options).unwrap()));
        }
        let spread = Arc::new(Spread::open(members, DEADLINE).await.unwrap());
        assert_eq!(spread.health().remarks, Vec::<String>::new());
        for counter in &counters {
            counter.store(0, Ordering::SeqCst);
        }
        Arc::new(Self {
            spread,
            clone,
            counters,
            keys,
            signing,
            seed,
            point,
            mac,
        })
    }

    /// An HSM token with keys of its own under the labels of ours.
    async fn make_other_keys(&self, token: &str) {
        let others = support::open(token);
        let pair = &self.keys;
        for (label, kind) in [
            (&self.signing, KeyKind::Signing),
            (&pair.sealing, KeyKind::Sealing),
            (&pair.binding, KeyKind::Binding),
        ] {
            others.generate_key(kind, label).await.unwrap();
        }
    }

    fn verifies(&self, signature: &[u8; 64]) -> bool {
        let key = VerifyingKey::from_sec1_bytes(&self.point).unwrap();
        let signature = Signature::from_slice(signature).unwrap();
        key.verify_prehash(&[7; 32], &signature).is_ok()
    }

    /// Several at once.
    async fn signatures(self: &Arc<Self>) -> Vec<Result<[u8; 64], HsmError>> {
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let world = self.clone();
            callers.spawn(async move {
                let signed = world
                    .spread
                    .sign(&world.signing, [7; 32], Priority::Payment);
                signed.await
            });
        }
        callers.join_all().await
    }

    /// Signatures and macs from now on.
    fn under_load(self: &Arc<Self>) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (world, stop) = (self.clone(), stop.clone());
            callers.spawn(async move { world.call_until(&stop).await });
        }
        Load { stop, callers }
    }

    async fn call_until(&self, stop: &AtomicBool) -> (usize, Vec<HsmError>) {
        let (mut answered, mut lost) = (0, Vec::new());
        while !stop.load(Ordering::SeqCst) {
            let signed = self.spread.sign(&self.signing, [7; 32], Priority::Payment);
            match signed.await {
                Ok(signature) => assert!(self.verifies(&signature), "a wrong one went out"),
                Err(error) => lost.push(error),
            }
            let messages = vec![b"message".to_vec()];
            let macs = self
                .spread
                .hmac_batch(&self.keys, &self.seed, messages, Priority::Renewal);
            match macs.await {
                Ok(macs) => assert_eq!(macs[0].0, self.mac, "a wrong one went out"),
                Err(error) => lost.push(error),
            }
            answered += 2;
        }
        (answered, lost)
    }

    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            tokio::task::yield_now().await;
        }
    }

    /// Who worked.
    fn commands(&self) -> [bool; 2] {
        [0, 1].map(|n| self.counters[n].load(Ordering::SeqCst) > 0)
    }
}

struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<(usize, Vec<HsmError>)>,
}

impl Load {
    async fn end(self) -> (usize, Vec<HsmError>) {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.callers.join_all().await;
        let (answered, lost): (Vec<usize>, Vec<_>) = ended.into_iter().unzip();
        (answered.iter().sum(), lost.into_iter().flatten().collect())
    }
}

/// Counts signatures and macs.
struct Commands(Arc<AtomicUsize>);

impl Observer for Commands {
    fn observe(&self, _: &'static str, _: &'static str, _: f64) {}

    fn command(&self, kind: &'static str) {
        if matches!(kind, "sign" | "mac") {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn member(name: &str, hsm: Pkcs11Hsm) -> Member {
    Member {
        name: name.into(),
        hsm: Arc::new(hsm),
    }
}

/// The library looks for HSM tokens when it starts.
async fn restart() {
    let module = support::module();
    let generation = module.generation();
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let label = format!("restart-{}", NEXT.fetch_add(1, Ordering::SeqCst));
    let hsm = support::open(&label);
    let keys = conformance::sealing_keys(&hsm, "restart").await;
    module.set_recycle_after(1);
    while module.generation() == generation {
        let sealed = hsm.seal_new_seed(&keys, Vec::new(), Priority::Renewal);
        sealed.await.unwrap();
    }
    module.set_recycle_after(hsm::RECYCLE_AFTER_DESTROYED);
}
