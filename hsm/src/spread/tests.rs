//! What do callers see of a spread whose members misbehave?

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::{HealthState, MemoryHsm, conformance};

const DIGEST: [u8; 32] = [7; 32];

#[tokio::test]
async fn two_doors_to_one_hsm_conform() {
    let hsm = Arc::new(MemoryHsm::new());
    conformance::all(&spread([hsm.clone(), hsm]).await).await;
}

#[tokio::test]
async fn hsm_tokens_that_do_not_share_fresh_keys_conform() {
    let members = [Arc::new(MemoryHsm::new()), Arc::new(MemoryHsm::new())];
    conformance::all(&spread(members).await).await;
}

#[tokio::test]
async fn requests_are_spread_over_all() {
    let world = World::new().await;
    for _ in 0..10 {
        world.sign().await.unwrap();
    }
    assert_eq!(world.counts(), [5, 5]);
}

#[tokio::test]
async fn whoever_fails_one_of_them_has_its_answer_from_the_other() {
    let world = World::new().await;
    for failing in 0..2 {
        world.members[failing].hsm.fail_after(0, lost());
        for _ in 0..10 {
            world.sign().await.unwrap();
            world.mac().await.unwrap();
        }
        world.members[failing].hsm.heal();
    }
    for member in &world.members {
        member.hsm.fail_after(0, lost());
    }
    assert_eq!(world.sign().await, Err(lost()), "nobody is left");
}

#[tokio::test]
async fn one_that_is_down_is_passed_over_and_comes_back_by_itself() {
    let world = World::new().await;
    let away = &world.members[0];
    away.hsm.set_health(HealthState::Down, Some("test".into()));
    away.hsm.fail_after(0, lost());
    let before = away.signed.load(Ordering::SeqCst);
    for _ in 0..10 {
        world.sign().await.unwrap();
    }
    assert_eq!(away.signed.load(Ordering::SeqCst), before, "it was asked");
    let health = world.spread.health();
    assert_eq!(health.state, HealthState::Degraded);
    assert!(health.reason.unwrap().contains("one: "));
    away.hsm.heal();
    away.hsm.set_health(HealthState::Ready, None);
    world.until_ready().await;
    for _ in 0..4 {
        world.sign().await.unwrap();
    }
    assert!(away.signed.load(Ordering::SeqCst) > before, "it is asked");
}

#[tokio::test]
async fn another_key_under_the_same_label_is_never_used() {
    let (one, other) = (Arc::new(MemoryHsm::new()), Arc::new(MemoryHsm::new()));
    for hsm in [&one, &other] {
        conformance::sealing_keys(hsm.as_ref(), "k").await;
        conformance::made(hsm.as_ref(), KeyKind::Signing, "s").await;
        conformance::made(hsm.as_ref(), KeyKind::Cmac, "c").await;
    }
    let (signing, cmac) = (label("s"), label("c"));
    let point = one.public_key(&signing).await.unwrap();
    let spread = spread([one, other.clone()]).await;
    let keys = sealing_keys();
    let seed = spread.seal_new_seed(&keys, b"header".to_vec(), Priority::Payment);
    let seed = seed.await.unwrap();
    let mut answers = BTreeSet::new();
    for _ in 0..6 {
        assert_eq!(spread.public_key(&signing).await, Ok(point));
        let macs = spread.cmac_batch(&cmac, vec![Vec::new()], Priority::Payment);
        answers.insert(macs.await.unwrap()[0].0);
        let macs = spread.hmac_batch(&keys, &seed, vec![Vec::new()], Priority::Payment);
        macs.await.unwrap();
    }
    assert_eq!(answers.len(), 1);
    let remarks = spread.health().remarks.join("; ");
    assert!(remarks.contains("two does not share"), "{remarks}");
    assert!(remarks.contains("another key has this label"), "{remarks}");
    let reports = spread.inventory().await.unwrap();
    assert_eq!(reports.len(), 4);
    for report in reports {
        let found = report.findings.join("; ");
        assert!(found.contains("on two: another key"), "{report:?}");
    }
    other.fail_after(0, lost());
    assert_eq!(spread.public_key(&signing).await, Ok(point));
}

#[tokio::test]
async fn a_swapped_hsm_token_is_looked_at_before_it_is_used_again() {
    let world = World::new().await;
    let away = &world.members[1];
    away.hsm.set_health(HealthState::Down, Some("test".into()));
    world.sign().await.unwrap();
    // Somebody initialises it anew and makes keys of its own.
    away.hsm.destroy_key(&label("s")).await.unwrap();
    conformance::made(away.hsm.as_ref(), KeyKind::Signing, "s").await;
    away.hsm.set_health(HealthState::Ready, None);
    world.until_ready().await;
    let before = away.signed.load(Ordering::SeqCst);
    for _ in 0..6 {
        world.sign().await.unwrap();
    }
    assert_eq!(away.signed.load(Ordering::SeqCst), before);
    assert!(world.spread.health().remarks[0].contains("another key has this label"));
}

#[tokio::test]
async fn a_fresh_key_is_used_where_it_was_made_and_named_as_lacking_elsewhere() {
    let world = World::new().await;
    let fresh = conformance::made(&world.spread, KeyKind::Signing, "fresh").await;
    for _ in 0..4 {
        let signed = world.spread.sign(&fresh, DIGEST, Priority::Payment);
        signed.await.unwrap();
    }
    assert_eq!(world.spread.health().state, HealthState::Ready);
    let remarks = world.spread.health().remarks;
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(remarks[0].starts_with("two does not share conformance-fresh: "));
    let (one, two) = (&world.members[0].hsm, &world.members[1].hsm);
    assert!(one.public_key(&fresh).await.is_ok() && two.public_key(&fresh).await.is_err());
    let reports = world.spread.inventory().await.unwrap();
    let report = reports.iter().find(|it| it.label == fresh).unwrap();
    assert_eq!(report.lacked_by, ["two"]);
    two.put_keys_of(one);
    world.spread.inventory().await.unwrap();
    assert!(world.spread.health().remarks.is_empty(), "it has it now");
    one.fail_after(0, lost());
    let signed = world.spread.sign(&fresh, DIGEST, Priority::Payment);
    signed.await.expect("the other one has it");
}

#[tokio::test]
async fn a_key_made_through_another_node_has_failover_once_it_was_met() {
    for kind in [KeyKind::Signing, KeyKind::Cmac] {
        let world = World::new().await;
        let (one, two) = (&world.members[0].hsm, &world.members[1].hsm);
        let fresh = conformance::made(one.as_ref(), kind, "elsewhere").await;
        two.put_keys_of(one);
        use_key(&world.spread, kind, &fresh).await.unwrap();
        // Whoever answered is known to hold it, and the other one is asked by itself.
        world.soon(|it| it.health().remarks.is_empty()).await;
        for failing in [one, two] {
            failing.fail_after(0, lost());
            use_key(&world.spread, kind, &fresh).await.unwrap();
            failing.heal();
        }
    }
}

#[tokio::test]
async fn a_key_met_while_others_cannot_say_is_told_of_and_asked_for_again() {
    let world = World::new().await;
    let (one, two) = (&world.members[0].hsm, &world.members[1].hsm);
    let fresh = conformance::made(one.as_ref(), KeyKind::Signing, "elsewhere").await;
    two.put_keys_of(one);
    two.fail_after(0, lost());
    use_key(&world.spread, KeyKind::Signing, &fresh)
        .await
        .unwrap();
    let remarks = world.spread.health().remarks.join("; ");
    let told = "two has not shown so far whether it holds conformance-elsewhere";
    assert!(remarks.contains(told), "{remarks}");
    let reports = world.spread.inventory().await.unwrap();
    let report = reports.iter().find(|it| it.label == fresh).unwrap();
    assert_eq!(
        report.unseen_on,
        ["two"],
        "nobody knows whether it lacks it"
    );
    assert!(report.lacked_by.is_empty());
    two.heal();
    world.until(|it| it.health().remarks.is_empty()).await;
}

#[tokio::test]
async fn news_of_a_key_is_enough_for_its_failover() {
    let world = World::new().await;
    let (one, two) = (&world.members[0].hsm, &world.members[1].hsm);
    let fresh = conformance::made(one.as_ref(), KeyKind::Signing, "told").await;
    two.put_keys_of(one);
    let point = one.public_key(&fresh).await.unwrap();
    world.spread.believe(&fresh, &point);
    let inner = &world.spread.0;
    world.spread.random(1).await.unwrap();
    world.soon(|_| inner.keys.holders(&fresh) == [0, 1]).await;
    for failing in [one, two] {
        failing.fail_after(0, lost());
        use_key(&world.spread, KeyKind::Signing, &fresh)
            .await
            .unwrap();
        failing.heal();
    }
}

#[tokio::test]
async fn the_books_are_believed_before_the_first_hsm_token() {
    let (one, two) = (Arc::new(MemoryHsm::new()), Arc::new(MemoryHsm::new()));
    for hsm in [&one, &two] {
        conformance::made(hsm.as_ref(), KeyKind::Signing, "s").await;
    }
    let signing = label("s");
    let point = two.public_key(&signing).await.unwrap();
    let spread = spread([one, two]).await;
    spread.believe(&signing, &point);
    spread.inventory().await.unwrap();
    assert_eq!(spread.0.keys.holders(&signing), [1]);
    let remarks = spread.health().remarks.join("; ");
    assert!(
        remarks.contains("one does not share conformance-s (another key"),
        "{remarks}"
    );
}

#[tokio::test]
async fn one_that_comes_back_with_another_key_is_set_aside_and_the_other_answers() {
    let world = World::new().await;
    let differs = HsmError::KeyDiffers {
        label: label("s").0,
    };
    let swapped = &world.members[1];
    swapped.hsm.destroy_key(&label("s")).await.unwrap();
    conformance::made(swapped.hsm.as_ref(), KeyKind::Signing, "s").await;
    // What a real one says by itself.
    swapped.hsm.fail_after(0, differs.clone());
    for _ in 0..6 {
        world.sign().await.unwrap();
    }
    let asked = swapped.signed.load(Ordering::SeqCst);
    assert!(asked <= 1, "set aside at the first refusal");
    let remarks = world.spread.health().remarks.join("; ");
    assert!(
        remarks.contains("two does not share conformance-s (another key"),
        "{remarks}"
    );
    world.members[0].hsm.fail_after(0, lost());
    assert_eq!(world.sign().await, Err(lost()), "nobody else has this key");
    swapped.hsm.heal();
    assert_eq!(world.sign().await, Err(lost()), "nor after a look");
}

#[tokio::test]
async fn making_a_key_is_not_tried_on_another_member() {
    let world = World::new().await;
    world.members[0].hsm.fail_next(lost());
    let once = label("once");
    let made = world.spread.generate_key(KeyKind::Signing, &once);
    assert_eq!(made.await, Err(lost()));
    for member in &world.members {
        let unknown = member.hsm.public_key(&once).await;
        assert_eq!(unknown.unwrap_err().outcome(), "key-unknown");
    }
}

#[tokio::test]
async fn a_label_that_any_member_has_is_taken() {
    let world = World::new().await;
    conformance::made(world.members[1].hsm.as_ref(), KeyKind::Signing, "theirs").await;
    let theirs = label("theirs");
    let made = world.spread.generate_key(KeyKind::Cmac, &theirs);
    assert_eq!(made.await.unwrap_err().outcome(), "label-taken");
}

#[tokio::test]
async fn a_key_is_destroyed_on_all_or_the_caller_hears_of_it() {
    let world = World::new().await;
    let signing = label("s");
    world.members[1].hsm.fail_next(lost());
    assert_eq!(world.spread.destroy_key(&signing).await, Err(lost()));
    assert_eq!(world.spread.destroy_key(&signing).await, Ok(()));
    for member in &world.members {
        assert!(member.hsm.public_key(&signing).await.is_err());
    }
    let again = world.spread.destroy_key(&signing).await;
    assert_eq!(again.unwrap_err().outcome(), "key-unknown");
    assert_eq!(world.sign().await.unwrap_err().outcome(), "key-unknown");
}

#[tokio::test]
async fn a_foreign_seed_is_foreign_only_if_everybody_says_so() {
    let world = World::new().await;
    let faulty = HsmError::NotOurKey {
        detail: "UnwrapKey: GeneralError".into(),
    };
    for _ in 0..4 {
        world.members[0].hsm.fail_next(faulty.clone());
        world.mac().await.unwrap();
    }
    world.members[0].hsm.heal();
    let mut tampered = world.seed.clone();
    tampered.blob[3] ^= 1;
    let keys = sealing_keys();
    let macs = world
        .spread
        .hmac_batch(&keys, &tampered, vec![Vec::new()], Priority::Payment);
    assert_eq!(macs.await.unwrap_err().outcome(), "not-our-key");
}

#[tokio::test]
async fn while_one_hangs_the_other_answers() {
    let world = World::new().await;
    let hanging = &world.members[0];
    hanging.mute.store(true, Ordering::SeqCst);
    for _ in 0..6 {
        world.sign().await.unwrap();
    }
    assert_eq!(world.spread.health().state, HealthState::Degraded);
    let asked = hanging.signed.load(Ordering::SeqCst);
    for _ in 0..6 {
        world.sign().await.unwrap();
    }
    assert_eq!(hanging.signed.load(Ordering::SeqCst), asked, "passed over");
}

#[tokio::test]
async fn who_is_away_at_the_start_is_used_once_it_has_shown_its_keys() {
    let one = Arc::new(MemoryHsm::new());
    conformance::made(one.as_ref(), KeyKind::Signing, "s").await;
    let two = Arc::new(MemoryHsm::clone_of(&one));
    two.fail_next(lost());
    let spread = spread([one.clone(), two]).await;
    assert_eq!(spread.health().state, HealthState::Degraded);
    let remarks = spread.health().remarks.join("; ");
    assert!(remarks.contains("two has not shown so far whether it holds conformance-s"));
    while spread.health().state != HealthState::Ready {
        spread.random(1).await.unwrap();
        tokio::task::yield_now().await;
    }
    one.fail_after(0, lost());
    let signed = spread.sign(&label("s"), DIGEST, Priority::Payment).await;
    assert!(signed.is_ok(), "{signed:?}");
    assert!(spread.health().remarks.is_empty());
}

#[tokio::test]
async fn nobody_opens_a_spread_that_is_all_away_or_empty() {
    let one = Arc::new(MemoryHsm::new());
    one.fail_after(0, lost());
    let opened = Spread::open(vec![member("one", one)], DEADLINE).await;
    assert_eq!(opened.err(), Some(lost()));
    let empty = Spread::open(Vec::new(), DEADLINE).await;
    assert_eq!(empty.err().unwrap().outcome(), "caller-fault");
}

/// So long that only a member that hangs comes near it.
const DEADLINE: Duration = Duration::from_millis(200);

/// Turns of the one thread that a look needs, many times over.
const TURNS_MAX: usize = 10_000;

struct World {
    members: [Arc<Watched>; 2],
    spread: Spread,
    seed: SealedSeed,
}

/// A member that counts its signatures, and hangs if it is told to.
struct Watched {
    hsm: Arc<MemoryHsm>,
    signed: AtomicUsize,
    mute: AtomicBool,
}

impl World {
    async fn new() -> Self {
        let one = Arc::new(MemoryHsm::new());
        let keys = conformance::sealing_keys(one.as_ref(), "k").await;
        conformance::made(one.as_ref(), KeyKind::Signing, "s").await;
        let sealed = one.seal_new_seed(&keys, b"header".to_vec(), Priority::Renewal);
        let seed = sealed.await.unwrap();
        let two = Arc::new(MemoryHsm::clone_of(&one));
        let members = [one, two].map(|hsm| {
            Arc::new(Watched {
                hsm,
                signed: AtomicUsize::new(0),
                mute: AtomicBool::new(false),
            })
        });
        let spread = spread(members.clone()).await;
        for member in &members {
            member.signed.store(0, Ordering::SeqCst);
        }
        Self {
            members,
            spread,
            seed,
        }
    }

    async fn sign(&self) -> Result<(), HsmError> {
        let signing = label("s");
        let signed = self.spread.sign(&signing, DIGEST, Priority::Payment);
        signed.await.map(drop)
    }

    async fn mac(&self) -> Result<(), HsmError> {
        let (keys, messages) = (sealing_keys(), vec![b"message".to_vec()]);
        let macs = self
            .spread
            .hmac_batch(&keys, &self.seed, messages, Priority::Payment);
        macs.await.map(drop)
    }

    async fn until_ready(&self) {
        self.until(|it| it.health().state == HealthState::Ready)
            .await;
    }

    /// Without anybody asking for anything.
    async fn soon(&self, is_so: impl Fn(&Spread) -> bool) {
        for _ in 0..TURNS_MAX {
            if is_so(&self.spread) {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("nobody looks");
    }

    /// Looks happen in the background, because somebody asks something.
    async fn until(&self, is_so: impl Fn(&Spread) -> bool) {
        while !is_so(&self.spread) {
            self.spread.random(1).await.unwrap();
            tokio::task::yield_now().await;
        }
    }

    fn counts(&self) -> [usize; 2] {
        [0, 1].map(|n| self.members[n].signed.load(Ordering::SeqCst))
    }
}

impl Watched {
    async fn hangs(&self) {
        if self.mute.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Hsm for Watched {
    async fn seal_new_seed(
        &self,
        keys: &SealingKeys,
        context: Vec<u8>,
        priority: Priority,
    ) -> Result<SealedSeed, HsmError> {
        self.hsm.seal_new_seed(keys, context, priority).await
    }

    async fn hmac_batch(
        &self,
        keys: &SealingKeys,
        seed: &SealedSeed,
        messages: Vec<Vec<u8>>,
        priority: Priority,
    ) -> Result<Vec<Mac>, HsmError> {
        self.hsm.hmac_batch(keys, seed, messages, priority).await
    }

    async fn prove_binding(
        &self,
        keys: &SealingKeys,
        seed: &SealedSeed,
        priority: Priority,
    ) -> Result<(), HsmError> {
        self.hsm.prove_binding(keys, seed, priority).await
    }

    async fn sign(
        &self,
        key: &KeyLabel,
        digest: [u8; 32],
        priority: Priority,
    ) -> Result<[u8; 64], HsmError> {
        if digest == DIGEST {
            self.signed.fetch_add(1, Ordering::SeqCst);
        }
        self.hangs().await;
        self.hsm.sign(key, digest, priority).await
    }

    async fn cmac_batch(
        &self,
        key: &KeyLabel,
        messages: Vec<Vec<u8>>,
        priority: Priority,
    ) -> Result<Vec<Cmac>, HsmError> {
        self.hsm.cmac_batch(key, messages, priority).await
    }

    async fn public_key(&self, key: &KeyLabel) -> Result<[u8; 65], HsmError> {
        self.hsm.public_key(key).await
    }

    async fn random(&self, len: usize) -> Result<Vec<u8>, HsmError> {
        self.hangs().await;
        self.hsm.random(len).await
    }

    async fn generate_key(&self, kind: KeyKind, label: &KeyLabel) -> Result<(), HsmError> {
        self.hsm.generate_key(kind, label).await
    }

    async fn destroy_key(&self, label: &KeyLabel) -> Result<(), HsmError> {
        self.hsm.destroy_key(label).await
    }

    async fn inventory(&self) -> Result<Vec<KeyReport>, HsmError> {
        self.hsm.inventory().await
    }

    fn health(&self) -> Health {
        self.hsm.health()
    }
}

async fn use_key(spread: &Spread, kind: KeyKind, label: &KeyLabel) -> Result<(), HsmError> {
    match kind {
        KeyKind::Cmac => {
            let macs = spread.cmac_batch(label, vec![Vec::new()], Priority::Payment);
            macs.await.map(drop)
        }
        _ => spread
            .sign(label, DIGEST, Priority::Payment)
            .await
            .map(drop),
    }
}

async fn spread<H: Hsm>(members: [Arc<H>; 2]) -> Spread {
    let [one, two] = members;
    let members = vec![member("one", one), member("two", two)];
    Spread::open(members, DEADLINE).await.unwrap()
}

fn member<H: Hsm>(name: &str, hsm: Arc<H>) -> Member {
    Member {
        name: name.into(),
        hsm,
    }
}

fn label(name: &str) -> KeyLabel {
    KeyLabel(format!("conformance-{name}"))
}

fn sealing_keys() -> SealingKeys {
    SealingKeys {
        sealing: label("k-sealing"),
        binding: label("k-binding"),
    }
}

fn lost() -> HsmError {
    HsmError::DeviceLost {
        detail: "test".into(),
    }
}
