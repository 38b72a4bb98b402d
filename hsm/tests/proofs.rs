//! Is another key under a known label found out before anything made with it goes out?
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hsm::{
    HealthState, Hsm, HsmError, KeyKind, KeyLabel, Observer, Pkcs11Hsm, Priority, SealedSeed,
    SealingKeys, VERIFIED_EVERY,
};
use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};

mod support;

use support::{ALONE, Maker, close_all_sessions, run_alone};

on_both! {
    other_keys_are_found_out_within_the_call_that_lost_its_session
    the_same_keys_are_proven_once_for_each_session
    a_binding_that_held_is_not_computed_again
    what_held_under_one_binding_key_is_not_known_under_another
    a_key_destroyed_and_made_anew_by_us_is_no_other_key
    what_the_books_say_is_believed_before_what_an_hsm_token_shows
}

async fn other_keys_are_found_out_within_the_call_that_lost_its_session(maker: Maker) {
    for call in Call::ALL {
        let token = format!("swap-{call:?}");
        let world = World::on(maker, &token).await;
        world.everything_works().await;
        world.make_other_keys(maker).await;
        close_all_sessions(maker, &token);
        let label = call.needs().0;
        let refused = world
            .call(call)
            .await
            .expect_err("another key has answered");
        assert_eq!(
            refused,
            HsmError::KeyDiffers {
                label: label.clone()
            },
            "{call:?}"
        );
        let health = world.hsm.health();
        assert_eq!(health.state, HealthState::Down, "{call:?}");
        assert!(health.reason.unwrap().contains(&label), "{call:?}");
        for again in Call::ALL {
            let refused = world.call(again).await.expect_err("nor at any later time");
            assert_eq!(refused.outcome(), "key-differs", "{again:?} after {call:?}");
        }
        world
            .hsm
            .random(8)
            .await
            .expect("what needs no key is served");
        let health = world.hsm.health();
        assert_eq!(
            health.state,
            HealthState::Down,
            "an answer does not clear it"
        );
    }
}

async fn the_same_keys_are_proven_once_for_each_session(maker: Maker) {
    let world = World::on(maker, "proven").await;
    world.everything_works().await;
    world.commands.take();
    for _ in 0..20 {
        world.everything_works().await;
    }
    let steady = world.commands.take();
    assert_eq!(
        steady.get("proof"),
        None,
        "the usual way costs nothing: {steady:?}"
    );
    close_all_sessions(maker, "proven");
    world.everything_works().await;
    let after = world.commands.take();
    assert!(after["proof"] > 0, "{after:?}");
    // A mac of each of two keys, and an unwrap, a mac and a destroyed seed of the sealing key.
    assert!(after["proof"] <= 5, "{after:?}");
    assert_eq!(world.hsm.health().state, HealthState::Ready);
}

async fn a_binding_that_held_is_not_computed_again(maker: Maker) {
    let world = World::on(maker, "binding").await;
    let macs = async |what| {
        world.commands.take();
        world.call(Call::Mac).await.expect(what);
        world.commands.take()["mac"]
    };
    assert_eq!(macs("the first time").await, 2, "its binding, its message");
    assert_eq!(macs("the second time").await, 1, "its message");
    close_all_sessions(maker, "binding");
    assert_eq!(macs("in another session").await, 1, "the keys were proven");
    world.hsm.disown(&KeyLabel(BINDING.into()));
    assert_eq!(macs("learnt anew, and the same").await, 1);
}

async fn what_held_under_one_binding_key_is_not_known_under_another(maker: Maker) {
    let binding = KeyLabel(BINDING.into());
    for (token, destroyed_by_us) in [("anew-ours", true), ("anew-theirs", false)] {
        let world = World::on(maker, token).await;
        world.call(Call::Mac).await.unwrap();
        match destroyed_by_us {
            true => world.hsm.destroy_key(&binding).await.unwrap(),
            false => {
                let others = maker.try_open(support::options(token)).unwrap();
                others.destroy_key(&binding).await.unwrap();
            }
        }
        let made = world.hsm.generate_key(KeyKind::Binding, &binding);
        made.await.unwrap();
        for _ in 0..2 {
            let refused = world.call(Call::Mac).await.unwrap_err();
            assert_eq!(refused.outcome(), "not-our-key", "{token}: {refused}");
        }
    }
}

async fn a_key_destroyed_and_made_anew_by_us_is_no_other_key(maker: Maker) {
    let world = World::on(maker, "anew").await;
    for _ in 0..3 {
        world.everything_works().await;
        for (label, kind) in keys() {
            world.hsm.destroy_key(&label).await.unwrap();
            world.hsm.generate_key(kind, &label).await.unwrap();
        }
        *world.seed.lock().unwrap() = world.sealed().await.unwrap();
        close_all_sessions(maker, "anew");
    }
    assert_eq!(world.hsm.health().state, HealthState::Ready);
}

async fn what_the_books_say_is_believed_before_what_an_hsm_token_shows(maker: Maker) {
    let world = World::on(maker, "books").await;
    let signing = KeyLabel(SIGNING.into());
    let point = world.hsm.public_key(&signing).await.unwrap();
    world.call(Call::Sign).await.unwrap();
    world.hsm.believe(&signing, &point);
    world.call(Call::Sign).await.unwrap();
    let other = maker.open("books-2");
    other
        .generate_key(KeyKind::Signing, &signing)
        .await
        .unwrap();
    other.believe(&signing, &point);
    // Its very first signature.
    let signed = other.sign(&signing, [1; 32], Priority::Payment).await;
    assert_eq!(signed.unwrap_err().outcome(), "key-differs");
    let shown = other.public_key(&signing).await;
    assert_eq!(shown.unwrap_err().outcome(), "key-differs");
    // Told while its session is in use.
    let theirs = maker.open("books-3");
    theirs
        .generate_key(KeyKind::Signing, &signing)
        .await
        .unwrap();
    theirs
        .sign(&signing, [1; 32], Priority::Payment)
        .await
        .unwrap();
    theirs.believe(&signing, &point);
    let signed = theirs.sign(&signing, [1; 32], Priority::Payment).await;
    assert_eq!(signed.unwrap_err().outcome(), "key-differs");
}

#[tokio::test]
async fn an_hsm_token_that_comes_back_with_other_keys_is_used_again_once_it_has_the_right_ones() {
    if std::env::var_os(ALONE).is_none() {
        return run_alone(
            "an_hsm_token_that_comes_back_with_other_keys_is_used_again_once_it_has_the_right_ones",
        );
    }
    let world = World::on(Maker::SoftHsm, "back").await;
    world.everything_works().await;
    let directory = support::token_directory("back");
    // Not beside it, where it would be an HSM token of its own.
    let kept = directory.parent().unwrap().with_file_name("kept");
    copy(&directory, &kept);
    world.make_other_keys(Maker::SoftHsm).await;
    Maker::SoftHsm.raw().finalize().unwrap();
    for call in Call::ALL {
        let refused = world.call(call).await.unwrap_err();
        assert_eq!(refused.outcome(), "key-differs", "{call:?}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::rename(&kept, &directory).unwrap();
    Maker::SoftHsm.raw().finalize().unwrap();
    // Nobody asks for the keys themselves.
    while world.hsm.health().state != HealthState::Ready {
        world.hsm.random(8).await.unwrap();
        tokio::task::yield_now().await;
    }
    world.everything_works().await;
}

#[tokio::test]
async fn a_device_that_goes_wrong_within_a_session_is_found_out_after_a_number_of_signatures() {
    let hsm = support::open("wrong");
    let mut private = Vec::new();
    for label in ["right", "other"] {
        let before = support::files("wrong");
        let label = KeyLabel(label.into());
        hsm.generate_key(KeyKind::Signing, &label).await.unwrap();
        let fresh = support::files("wrong").into_iter();
        let mut fresh = fresh.filter(|it| !before.contains(it));
        // The public half tells its label to everybody.
        let is_private = |it: &PathBuf| !support::mentions(it, &label.0);
        private.push(fresh.find(is_private).unwrap());
    }
    let right = KeyLabel("right".into());
    let point = hsm.public_key(&right).await.unwrap();
    hsm.sign(&right, [1; 32], Priority::Payment).await.unwrap();
    put_over(&private[1], &private[0]);
    let mut wrong = 0;
    let refused = loop {
        match hsm.sign(&right, [1; 32], Priority::Payment).await {
            Ok(signature) => wrong += u32::from(!verifies(&point, &signature)),
            Err(refused) => break refused,
        }
        assert!(wrong <= VERIFIED_EVERY, "nobody looks");
    };
    assert_eq!(refused.outcome(), "key-differs");
    assert!(wrong > 0, "the session went wrong: {wrong}");
    assert_eq!(hsm.health().state, HealthState::Down);
}

const SIGNING: &str = "signing";
const SEALING: &str = "sealing";
const BINDING: &str = "binding";
const CMAC: &str = "cmac";

#[derive(Debug, Clone, Copy)]
enum Call {
    Sign,
    Mac,
    Seal,
    Cmac,
    Point,
}

impl Call {
    const ALL: [Self; 5] = [Self::Sign, Self::Mac, Self::Seal, Self::Cmac, Self::Point];

    /// The key that is compared first.
    fn needs(self) -> KeyLabel {
        let label = match self {
            Self::Sign | Self::Point => SIGNING,
            Self::Mac => BINDING,
            Self::Seal => SEALING,
            Self::Cmac => CMAC,
        };
        KeyLabel(label.into())
    }
}

fn keys() -> [(KeyLabel, KeyKind); 4] {
    [
        (SIGNING, KeyKind::Signing),
        (SEALING, KeyKind::Sealing),
        (BINDING, KeyKind::Binding),
        (CMAC, KeyKind::Cmac),
    ]
    .map(|(label, kind)| (KeyLabel(label.into()), kind))
}

struct World {
    token: String,
    hsm: Pkcs11Hsm,
    seed: Mutex<SealedSeed>,
    commands: Arc<Commands>,
}

impl World {
    async fn on(maker: Maker, token: &str) -> Self {
        let commands = Arc::new(Commands::default());
        let observer: Arc<dyn Observer> = commands.clone();
        let hsm = maker.open_with(token, |options| options.observer = Some(observer));
        for (label, kind) in keys() {
            hsm.generate_key(kind, &label).await.unwrap();
        }
        let keys = sealing_keys();
        let sealed = hsm.seal_new_seed(&keys, b"header".to_vec(), Priority::Renewal);
        let seed = Mutex::new(sealed.await.unwrap());
        let token = token.to_owned();
        Self {
            token,
            hsm,
            seed,
            commands,
        }
    }

    /// As somebody who initialised it anew would, and nobody told us.
    async fn make_other_keys(&self, maker: Maker) {
        let others = maker.try_open(support::options(&self.token)).unwrap();
        for (label, kind) in keys() {
            others.destroy_key(&label).await.unwrap();
            others.generate_key(kind, &label).await.unwrap();
        }
    }

    async fn everything_works(&self) {
        for call in Call::ALL {
            self.call(call).await.unwrap();
        }
    }

    async fn call(&self, call: Call) -> Result<(), HsmError> {
        let (signing, message) = (KeyLabel(SIGNING.into()), vec![b"message".to_vec()]);
        match call {
            Call::Sign => {
                let signed = self.hsm.sign(&signing, [1; 32], Priority::Payment);
                signed.await.map(drop)
            }
            Call::Mac => {
                let seed = self.seed.lock().unwrap().clone();
                let keys = sealing_keys();
                let macs = self
                    .hsm
                    .hmac_batch(&keys, &seed, message, Priority::Payment);
                macs.await.map(drop)
            }
            Call::Seal => self.sealed().await.map(drop),
            Call::Cmac => {
                let label = KeyLabel(CMAC.into());
                let macs = self.hsm.cmac_batch(&label, message, Priority::Payment);
                macs.await.map(drop)
            }
            Call::Point => self.hsm.public_key(&signing).await.map(drop),
        }
    }

    async fn sealed(&self) -> Result<SealedSeed, HsmError> {
        let (keys, context) = (sealing_keys(), b"header".to_vec());
        self.hsm
            .seal_new_seed(&keys, context, Priority::Renewal)
            .await
    }
}

fn sealing_keys() -> SealingKeys {
    SealingKeys {
        sealing: KeyLabel(SEALING.into()),
        binding: KeyLabel(BINDING.into()),
    }
}

/// By their kinds.
#[derive(Default)]
struct Commands(Mutex<BTreeMap<&'static str, u32>>);

impl Commands {
    /// Since the last time.
    fn take(&self) -> BTreeMap<&'static str, u32> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Observer for Commands {
    fn observe(&self, _: &'static str, _: &'static str, _: f64) {}

    fn command(&self, kind: &'static str) {
        *self.0.lock().unwrap().entry(kind).or_default() += 1;
    }
}

fn verifies(point: &[u8; 65], signature: &[u8; 64]) -> bool {
    let key = VerifyingKey::from_sec1_bytes(point).unwrap();
    let signature = Signature::from_slice(signature).unwrap();
    key.verify_prehash(&[1; 32], &signature).is_ok()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// One object becomes another one. SoftHSM reads it again, because its number of changes is another.
fn put_over(from: &Path, to: &Path) {
    let mut bytes = std::fs::read(from).unwrap();
    bytes[6] ^= 1;
    std::fs::write(to, bytes).unwrap();
}
