//! What do callers see when the HSM token, its PIN or the process misbehaves?
#![allow(clippy::unwrap_used)]

use std::{path::Path, sync::Arc, time::Duration};

use cryptoki::{
    context::Pkcs11,
    error::{Error, RvError},
    session::{Session, UserType},
    types::AuthPin,
};
use hsm::{
    HealthState, Hsm, HsmError, KeyKind, KeyLabel, Module, Pkcs11Hsm, Priority, SealedSeed,
    SealingKeys,
};

mod support;

#[tokio::test]
async fn a_stray_logout_is_not_noticed_by_callers() {
    let world = World::on("logout").await;
    let session = stray_session("logout");
    session.logout().unwrap();
    world.everything_works().await;
    assert_eq!(world.hsm.health().state, HealthState::Ready);
}

#[tokio::test]
async fn after_a_stray_logout_keys_are_still_found_and_not_made_twice() {
    let world = World::on("logout-2").await;
    stray_session("logout-2").logout().unwrap();
    let keys = world.hsm.inventory().await.unwrap();
    assert_eq!(keys.len(), 3, "private keys are invisible while logged out");
    stray_session("logout-2").logout().unwrap();
    let again = world
        .hsm
        .generate_key(KeyKind::Signing, &world.signing)
        .await;
    assert_eq!(again.unwrap_err().outcome(), "label-taken");
    let fresh = support::try_open(support::options("logout-2")).unwrap();
    stray_session("logout-2").logout().unwrap();
    let signed = fresh.sign(&world.signing, [1; 32], Priority::Payment).await;
    assert!(signed.is_ok(), "{signed:?}");
}

#[tokio::test]
async fn closed_sessions_are_opened_again() {
    let world = World::on("closed").await;
    close_all_sessions("closed");
    world.everything_works().await;
}

#[tokio::test]
async fn a_module_ended_behind_our_back_is_started_again() {
    if std::env::var_os(ALONE).is_none() {
        return run_alone("a_module_ended_behind_our_back_is_started_again");
    }
    let world = World::on("finalized").await;
    let other = World::on("finalized-other").await;
    let generation = support::module().generation();
    raw().finalize().unwrap();
    world.everything_works().await;
    other.everything_works().await;
    assert_eq!(
        support::module().generation(),
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
    close_all_sessions("renewed");
    let so_pin = AuthPin::from(support::SO_PIN.to_owned());
    raw()
        .init_token(support::raw_slot("renewed"), &so_pin, "renewed")
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
    raw().finalize().unwrap();
    world.everything_works().await;
    let generation = support::module().generation();
    clone.take_away();
    close_all_sessions("hidden-1");
    world.everything_works().await;
    support::try_open(support::options("hidden-1")).unwrap();
    let now = support::module().generation();
    assert_eq!(now, generation, "nothing had to be started again");
}

#[tokio::test]
async fn a_wrong_pin_is_refused_and_the_right_one_still_opens() {
    support::new_token("wrong-pin");
    let mut options = support::options("wrong-pin");
    options.pin = support::pin("000000");
    options.workers = 4;
    let error = support::try_open(options).err().unwrap();
    assert!(matches!(error, HsmError::PinRefused { .. }), "{error}");
    assert!(!error.to_string().contains("000000"));
    let open = support::try_open(support::options("wrong-pin"));
    assert!(open.is_ok(), "the right PIN still opens it");
}

#[tokio::test]
async fn a_refused_pin_is_never_tried_again_not_even_when_it_would_fit() {
    const OTHER: &str = "161803";
    let world = World::on("refused").await;
    change_pin("refused", support::USER_PIN, OTHER);
    let error = world.sign().await.unwrap_err();
    assert_eq!(error.outcome(), "pin-refused", "{error}");
    change_pin("refused", OTHER, support::USER_PIN);
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
    let open = support::try_open(support::options("refused"));
    assert!(open.is_ok(), "who opens it anew gets in");
}

#[tokio::test]
async fn an_unknown_hsm_token_is_named() {
    if std::env::var_os(ALONE).is_none() {
        return run_alone("an_unknown_hsm_token_is_named");
    }
    let open = support::try_open(support::options("nobody"));
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

#[tokio::test]
async fn an_hsm_token_label_is_taken_once() {
    support::new_token("taken");
    let pin = support::pin(support::USER_PIN);
    let again = support::module().init_token("taken", &pin, &pin);
    assert_eq!(again.unwrap_err().outcome(), "label-taken");
    let long = support::module().init_token(&"x".repeat(33), &pin, &pin);
    assert_eq!(long.unwrap_err().outcome(), "caller-fault");
}

#[tokio::test]
async fn two_hsm_tokens_keep_their_keys_and_pins_apart() {
    let one = World::on("apart-1").await;
    let two = support::open("apart-2");
    let error = two.sign(&one.signing, [1; 32], Priority::Payment).await;
    assert_eq!(error.unwrap_err().outcome(), "key-unknown");
    one.everything_works().await;
}

#[tokio::test]
async fn a_tampered_blob_does_not_bring_the_hsm_down() {
    let world = World::on("tampered").await;
    let mut seed = world.seed.clone();
    seed.blob[20] ^= 1;
    for _ in 0..20 {
        let error = world.mac(&seed).await.unwrap_err();
        assert_eq!(error.outcome(), "not-our-key");
    }
    assert_eq!(world.hsm.health().state, HealthState::Ready);
}

#[tokio::test]
async fn a_blob_that_does_not_unwrap_is_not_a_lost_device() {
    let world = World::on("foreign").await;
    let mut seed = world.seed.clone();
    seed.blob[20] ^= 1;
    seed.binding = bind_as_the_pin_holder("foreign", &world.keys, &seed);
    let error = world.mac(&seed).await.unwrap_err();
    assert_eq!(error.outcome(), "not-our-key", "{error}");
    assert!(
        error.to_string().contains("UnwrapKey"),
        "the binding held: {error}"
    );
    assert_eq!(world.hsm.health().state, HealthState::Ready);
}

#[tokio::test]
async fn every_lock_of_softhsm_holds() {
    let requirements = support::open("requirements").check().await.unwrap();
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
    close_all_sessions("mute");
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
        let hsm = support::open(token);
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

/// Set in the process that has one test to itself: starting the library again ends the raw sessions
/// of every test beside it.
const ALONE: &str = "M2KEY_HSM_TEST_ALONE";
/// Its value in a process that shares the HSM token of the one that started it.
const SIDE: &str = "side";

fn run_alone(test: &str) {
    let status = start(test, "1").wait().unwrap();
    assert!(status.success(), "{test} failed alone");
}

fn start(test: &str, alone: &str) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env(ALONE, alone)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

/// Somebody else in this process who uses the library without knowing of us.
fn raw() -> Pkcs11 {
    Pkcs11::new(support::MODULE).unwrap()
}

fn stray_session(token: &str) -> Session {
    raw().open_rw_session(support::raw_slot(token)).unwrap()
}

/// Changes the PIN and logs everybody out.
fn change_pin(token: &str, from: &str, to: &str) {
    let session = stray_session(token);
    let (from, to) = (AuthPin::from(from.to_owned()), AuthPin::from(to.to_owned()));
    match session.login(UserType::User, Some(&from)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
        Err(error) => panic!("{error}"),
    }
    session.set_pin(&from, &to).unwrap();
    close_all_sessions(token);
}

/// C_CloseAllSessions, which cryptoki does not offer.
fn close_all_sessions(token: &str) {
    let id = support::raw_slot(token).id();
    // SAFETY: the library is loaded and initialised already; these are plain calls of its C
    // interface with a slot number that it gave out a moment ago.
    #[allow(unsafe_code)]
    let code = unsafe {
        let library = cryptoki_sys::Pkcs11::new(support::MODULE).unwrap();
        library.C_CloseAllSessions(id)
    };
    assert_eq!(code, cryptoki_sys::CKR_OK);
}

/// Computes a binding with the PIN, as a thief of PIN and database would.
fn bind_as_the_pin_holder(token: &str, keys: &SealingKeys, seed: &SealedSeed) -> [u8; 32] {
    use cryptoki::{mechanism::Mechanism, object::Attribute};
    let session = stray_session(token);
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
