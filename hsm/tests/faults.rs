//! What do callers see when the HSM token, its PIN or the process misbehaves?
#![allow(clippy::unwrap_used)]

use std::{path::Path, sync::Arc, time::Duration};

use cryptoki::{
    error::{Error, RvError},
    session::{Session, UserType},
    types::AuthPin,
};
use hsm::{
    HealthState, Hsm, HsmError, KeyKind, KeyLabel, Module, Pkcs11Hsm, Priority, SealedSeed,
    SealingKeys,
};

mod support;

use support::{ALONE, Maker, SIDE, close_all_sessions, run_alone, run_alone_on, start};

on_both! {
    a_stray_logout_is_not_noticed_by_callers
    after_a_stray_logout_keys_are_still_found_and_not_made_twice
    closed_sessions_are_opened_again
    a_module_ended_behind_our_back_is_started_again
    a_wrong_pin_is_refused_and_the_right_one_still_opens
    a_refused_pin_is_never_tried_again_not_even_when_it_would_fit
    an_unknown_hsm_token_is_named
    an_hsm_token_label_is_taken_once
    two_hsm_tokens_keep_their_keys_and_pins_apart
    a_tampered_blob_does_not_bring_the_hsm_down
    a_blob_that_does_not_unwrap_is_not_a_lost_device
    every_lock_holds
}

async fn a_stray_logout_is_not_noticed_by_callers(maker: Maker) {
    let world = World::on_maker(maker, "logout").await;
    let session = stray_session(maker, "logout");
    session.logout().unwrap();
    world.everything_works().await;
    assert_eq!(world.hsm.health().state, HealthState::Ready);
}

async fn after_a_stray_logout_keys_are_still_found_and_not_made_twice(maker: Maker) {
    let world = World::on_maker(maker, "logout-2").await;
    stray_session(maker, "logout-2").logout().unwrap();
    let keys = world.hsm.inventory().await.unwrap();
    assert_eq!(keys.len(), 3, "private keys are invisible while logged out");
    stray_session(maker, "logout-2").logout().unwrap();
    let again = world
        .hsm
        .generate_key(KeyKind::Signing, &world.signing)
        .await;
    assert_eq!(again.unwrap_err().outcome(), "label-taken");
    let fresh = maker.try_open(support::options("logout-2")).unwrap();
    stray_session(maker, "logout-2").logout().unwrap();
    let signed = fresh.sign(&world.signing, [1; 32], Priority::Payment).await;
    assert!(signed.is_ok(), "{signed:?}");
}

async fn closed_sessions_are_opened_again(maker: Maker) {
    let world = World::on_maker(maker, "closed").await;
    close_all_sessions(maker, "closed");
    world.everything_works().await;
}

async fn a_module_ended_behind_our_back_is_started_again(maker: Maker) {
    if std::env::var_os(ALONE).is_none() {
        return run_alone_on(maker, "a_module_ended_behind_our_back_is_started_again");
    }
    let world = World::on_maker(maker, "finalized").await;
    let other = World::on_maker(maker, "finalized-other").await;
    let generation = maker.module().generation();
    maker.raw().finalize().unwrap();
    world.everything_works().await;
    other.everything_works().await;
    assert_eq!(
        maker.module().generation(),
        generation + 1,
        "once, for both"
    );
}

#[tokio::test]
async fn processes_that_start_side_by_side_all_get_in() {
    let test = "processes_that_start_side_by_side_all_get_in";
    match std::env::var(ALONE).as_deref() {
        // In a directory of its own: the starts would disturb the raw calls of tests beside it.
        Err(_) => return run_alone(test),
        Ok(SIDE) => {
            let hsm = Pkcs11Hsm::open(&support::shared_module(), support::options("side-by-side"));
            hsm.unwrap().random(8).await.unwrap();
            return;
        }
        Ok(_) => support::new_token("side-by-side"),
    }
    for _ in 0..STARTS {
        let children: Vec<_> = (0..SIDE_BY_SIDE).map(|_| start(test, SIDE)).collect();
        for mut child in children {
            let status = child.wait().unwrap();
            assert!(status.success(), "one did not get in: {status}");
        }
    }
}

#[tokio::test]
async fn an_hsm_token_initialised_anew_brings_us_down_and_says_why() {
    if std::env::var_os(ALONE).is_none() {
        return run_alone("an_hsm_token_initialised_anew_brings_us_down_and_says_why");
    }
    let world = World::on("renewed").await;
    close_all_sessions(Maker::SoftHsm, "renewed");
    let so_pin = AuthPin::from(support::SO_PIN.to_owned());
    Maker::SoftHsm
        .raw()
        .init_token(Maker::SoftHsm.raw_slot("renewed"), &so_pin, "renewed")
        .unwrap();
    for _ in 0..3 {
        let error = world.sign().await.unwrap_err();
        assert_eq!(error.outcome(), "device-lost");
        assert!(
            error.to_string().contains("UserPinNotInitialized"),
            "{error}"
        );
    }
    assert_eq!(world.hsm.health().state, HealthState::Down);
}

#[tokio::test]
async fn an_hsm_token_that_went_away_does_not_hide_the_others() {
    if std::env::var_os(ALONE).is_none() {
        return run_alone("an_hsm_token_that_went_away_does_not_hide_the_others");
    }
    let world = World::on("hidden-1").await;
    let clone = support::clone_token("hidden-1", "hidden-2");
    Maker::SoftHsm.raw().finalize().unwrap();
    world.everything_works().await;
    let generation = support::module().generation();
    clone.take_away();
    close_all_sessions(Maker::SoftHsm, "hidden-1");
    world.everything_works().await;
    support::try_open(support::options("hidden-1")).unwrap();
    let now = support::module().generation();
    assert_eq!(now, generation, "nothing had to be started again");
}

async fn a_wrong_pin_is_refused_and_the_right_one_still_opens(maker: Maker) {
    maker.new_token("wrong-pin");
    let mut options = support::options("wrong-pin");
    options.pin = support::pin("000000");
    options.workers = 4;
    let error = maker.try_open(options).err().unwrap();
    assert!(matches!(error, HsmError::PinRefused { .. }), "{error}");
    assert!(!error.to_string().contains("000000"));
    let open = maker.try_open(support::options("wrong-pin"));
    assert!(open.is_ok(), "the right PIN still opens it");
}

async fn a_refused_pin_is_never_tried_again_not_even_when_it_would_fit(maker: Maker) {
    const OTHER: &str = "161803";
    // Whoever's module is started again beside it takes its own sessions away.
    if std::env::var_os(ALONE).is_none() {
        return run_alone_on(
            maker,
            "a_refused_pin_is_never_tried_again_not_even_when_it_would_fit",
        );
    }
    let world = World::on_maker(maker, "refused").await;
    change_pin(maker, "refused", support::USER_PIN, OTHER);
    let error = world.sign().await.unwrap_err();
    assert_eq!(error.outcome(), "pin-refused", "{error}");
    change_pin(maker, "refused", OTHER, support::USER_PIN);
    let trials_of_the_breaker = async {
        loop {
            let error = world.sign().await.expect_err("the PIN was tried again");
            assert_eq!(error.outcome(), "pin-refused", "{error}");
            tokio::task::yield_now().await;
        }
    };
    let several_pauses = Duration::from_secs(1);
    let ended = tokio::time::timeout(several_pauses, trials_of_the_breaker).await;
    assert!(ended.is_err(), "the loop has no other end");
    let open = maker.try_open(support::options("refused"));
    assert!(open.is_ok(), "who opens it anew gets in");
}

async fn an_unknown_hsm_token_is_named(maker: Maker) {
    if std::env::var_os(ALONE).is_none() {
        return run_alone_on(maker, "an_unknown_hsm_token_is_named");
    }
    let open = maker.try_open(support::options("nobody"));
    let name = "labelled \"nobody\"".to_owned();
    assert_eq!(open.err().unwrap(), HsmError::TokenUnknown { name });
}

#[test]
fn a_file_that_is_no_module_is_refused_by_name() {
    let error = Module::load(Path::new("/etc/hostname")).err().unwrap();
    assert_eq!(error.outcome(), "module-absent");
    assert!(error.to_string().contains("/etc/hostname"), "{error}");
}

#[tokio::test]
async fn a_module_is_one_per_process() {
    let (one, two) = (support::module(), support::module());
    assert!(Arc::ptr_eq(&one, &two));
    let other_spelling = support::MODULE.replace("/softhsm/", "/softhsm/../softhsm/");
    let again = Module::load(Path::new(&other_spelling)).expect("the same library");
    assert!(Arc::ptr_eq(&support::module(), &again));
}

async fn an_hsm_token_label_is_taken_once(maker: Maker) {
    maker.new_token("taken");
    let pin = support::pin(support::USER_PIN);
    let again = maker.module().init_token("taken", &pin, &pin);
    assert_eq!(again.unwrap_err().outcome(), "label-taken");
    let long = maker.module().init_token(&"x".repeat(33), &pin, &pin);
    assert_eq!(long.unwrap_err().outcome(), "caller-fault");
}

async fn two_hsm_tokens_keep_their_keys_and_pins_apart(maker: Maker) {
    let one = World::on_maker(maker, "apart-1").await;
    let two = maker.open("apart-2");
    let error = two.sign(&one.signing, [1; 32], Priority::Payment).await;
    assert_eq!(error.unwrap_err().outcome(), "key-unknown");
    one.everything_works().await;
}

async fn a_tampered_blob_does_not_bring_the_hsm_down(maker: Maker) {
    let world = World::on_maker(maker, "tampered").await;
    let mut seed = world.seed.clone();
    seed.blob[20] ^= 1;
    for _ in 0..20 {
        let error = world.mac(&seed).await.unwrap_err();
        assert_eq!(error.outcome(), "not-our-key");
    }
    assert_eq!(world.hsm.health().state, HealthState::Ready);
}

async fn a_blob_that_does_not_unwrap_is_not_a_lost_device(maker: Maker) {
    let world = World::on_maker(maker, "foreign").await;
    let mut seed = world.seed.clone();
    seed.blob[20] ^= 1;
    seed.binding = bind_as_the_pin_holder(maker, "foreign", &world.keys, &seed);
    for time in ["when its binding is computed", "when it is known"] {
        let error = world.mac(&seed).await.unwrap_err();
        assert_eq!(error.outcome(), "not-our-key", "{time}: {error}");
        assert!(
            error.to_string().contains("UnwrapKey"),
            "the binding held {time}: {error}"
        );
        assert_eq!(world.hsm.health().state, HealthState::Ready);
    }
}

async fn every_lock_holds(maker: Maker) {
    let requirements = maker.open("requirements").check().await.unwrap();
    assert_eq!(requirements.len(), 12);
    for requirement in requirements {
        assert_eq!(requirement.missing, None, "{}", requirement.name);
    }
}

#[test]
fn impossible_options_are_refused() {
    support::new_token("options");
    let changes: [fn(&mut hsm::OpenOptions); 4] = [
        |options| options.workers = 0,
        |options| options.workers = hsm::WORKERS_MAX + 1,
        |options| options.queue_max = 0,
        |options| options.deadline = Duration::ZERO,
    ];
    for change in changes {
        let mut options = support::options("options");
        change(&mut options);
        let error = support::try_open(options).err().unwrap();
        assert_eq!(error.outcome(), "caller-fault");
    }
}

#[tokio::test]
async fn no_refusal_and_no_health_shows_a_pin() {
    const WRONG: &str = "1234567890";
    let world = World::on("mute").await;
    let mut options = support::options("mute");
    options.pin = support::pin(WRONG);
    close_all_sessions(Maker::SoftHsm, "mute");
    let refused = support::try_open(options).err().unwrap();
    let texts = [
        format!("{:?} {refused:?} {refused}", support::pin(WRONG)),
        format!("{:?}", world.hsm.health()),
        format!("{:?}", world.sign().await),
    ];
    for text in texts {
        assert!(
            !text.contains(WRONG) && !text.contains(support::USER_PIN),
            "{text}"
        );
    }
}

struct World {
    hsm: Pkcs11Hsm,
    keys: SealingKeys,
    signing: KeyLabel,
    seed: SealedSeed,
}

impl World {
    async fn on(token: &str) -> Self {
        Self::on_maker(Maker::SoftHsm, token).await
    }

    async fn on_maker(maker: Maker, token: &str) -> Self {
        let hsm = maker.open(token);
        let keys = SealingKeys {
            sealing: KeyLabel("sealing".into()),
            binding: KeyLabel("binding".into()),
        };
        let signing = KeyLabel("signing".into());
        hsm.generate_key(KeyKind::Sealing, &keys.sealing)
            .await
            .unwrap();
        hsm.generate_key(KeyKind::Binding, &keys.binding)
            .await
            .unwrap();
        hsm.generate_key(KeyKind::Signing, &signing).await.unwrap();
        let sealed = hsm.seal_new_seed(&keys, b"header".to_vec(), Priority::Renewal);
        let seed = sealed.await.unwrap();
        let world = Self {
            hsm,
            keys,
            signing,
            seed,
        };
        world.everything_works().await;
        world
    }

    async fn everything_works(&self) {
        self.mac(&self.seed).await.unwrap();
        self.sign().await.unwrap();
        self.hsm.public_key(&self.signing).await.unwrap();
        self.hsm.random(16).await.unwrap();
    }

    async fn sign(&self) -> Result<[u8; 64], HsmError> {
        self.hsm
            .sign(&self.signing, [1; 32], Priority::Payment)
            .await
    }

    async fn mac(&self, seed: &SealedSeed) -> Result<[u8; 32], HsmError> {
        let messages = vec![b"message".to_vec()];
        let macs = self
            .hsm
            .hmac_batch(&self.keys, seed, messages, Priority::Payment);
        Ok(macs.await?[0].0)
    }
}

/// Processes that start at once, and how often: a start fails in about one of thirteen without care.
const SIDE_BY_SIDE: usize = 8;
const STARTS: usize = 5;

/// Of somebody else in this process.
fn stray_session(maker: Maker, token: &str) -> Session {
    let slot = maker.raw_slot(token);
    maker.raw().open_rw_session(slot).unwrap()
}

/// Changes the PIN and logs everybody out.
fn change_pin(maker: Maker, token: &str, from: &str, to: &str) {
    let session = stray_session(maker, token);
    let (from, to) = (AuthPin::from(from.to_owned()), AuthPin::from(to.to_owned()));
    match session.login(UserType::User, Some(&from)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
        Err(error) => panic!("{error}"),
    }
    session.set_pin(&from, &to).unwrap();
    close_all_sessions(maker, token);
}

/// Computes a binding with the PIN, as a thief of PIN and database would.
fn bind_as_the_pin_holder(
    maker: Maker,
    token: &str,
    keys: &SealingKeys,
    seed: &SealedSeed,
) -> [u8; 32] {
    use cryptoki::{mechanism::Mechanism, object::Attribute};
    let session = stray_session(maker, token);
    let _ = session.login(
        UserType::User,
        Some(&AuthPin::from(support::USER_PIN.to_owned())),
    );
    let label = Attribute::Label(keys.binding.0.clone().into_bytes());
    let key = session.find_objects(&[label]).unwrap()[0];
    let mut input = b"m2key sealed seed 1".to_vec();
    for part in [keys.sealing.0.as_bytes(), &seed.context, &seed.blob] {
        input.extend_from_slice(&u32::try_from(part.len()).unwrap().to_be_bytes());
        input.extend_from_slice(part);
    }
    let mac = session.sign(&Mechanism::Sha256Hmac, key, &input).unwrap();
    mac.try_into().unwrap()
}
