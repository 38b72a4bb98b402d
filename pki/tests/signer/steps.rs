//! Does every step come to its end whatever breaks, and is nobody left without a CA?

use pki::signer::{AdminAnswer, AdminAsk, AdminStep, Entry, SignerError};
use pki::{KeyState, PkiError, RootKey};

use crate::world::{DAY, NOW, World, signer_error};

const FIRST: &str = "m2key-issuing-1";
const SECOND: &str = "m2key-issuing-2";

#[tokio::test]
async fn a_signer_without_an_active_ca_issues_nothing_and_says_what_to_do() {
    let world = World::empty().await;
    assert_eq!(signer_error(world.issue(1).await), SignerError::NoneActive);
    let request = world.prepare().await.unwrap();
    assert_eq!(signer_error(world.issue(1).await), SignerError::NoneActive);
    world.install(world.sign(&request)).await.unwrap();
    assert_eq!(signer_error(world.issue(1).await), SignerError::NoneActive);
    world.activate(None).await.unwrap();
    world.issue(1).await.unwrap();
}

#[tokio::test]
async fn a_new_ca_takes_over_and_the_former_one_signs_its_list_and_nothing_else() {
    let world = World::new().await;
    let before = world.issue(1).await.unwrap();
    world.next_ca().await.unwrap();
    let after = world.issue(1).await.unwrap();
    let states = world.states().await;
    assert_eq!(
        states,
        [format!("{FIRST} superseded"), format!("{SECOND} active")]
    );
    let cas = world.signer.issuing_cas();
    assert_eq!(cas[0].state, KeyState::Active);
    let issuers = [&cas[1], &cas[0]].map(|ca| ca.chain.issuing().clone());
    for (issued, issuer) in [before, after].iter().zip(issuers) {
        let leaf = pki::Certificate::from_der(&issued.der).unwrap();
        pki::verify_chain(&leaf, &[issuer], &world.root, NOW).unwrap();
    }
    for ca in [0, 1] {
        assert_eq!(world.crl(ca, 1).await, Ok(1));
    }
}

#[tokio::test]
async fn an_active_ca_is_neither_tainted_nor_retired_before_another_takes_its_place() {
    let world = World::new().await;
    for refused in [world.taint(FIRST).await, world.retire(FIRST).await] {
        let refused = signer_error(refused);
        assert!(matches!(refused, SignerError::Step(_)), "{refused}");
    }
    world.issue(1).await.unwrap();
}

#[tokio::test]
async fn a_ca_whose_certificates_are_not_replaced_yet_is_not_retired_and_the_holders_are_named() {
    let world = World::new().await;
    for number in 1..=25 {
        world.issue(number).await.unwrap();
    }
    world.next_ca().await.unwrap();
    let refused = signer_error(world.retire(FIRST).await);
    let SignerError::WouldStrand { count, holders, .. } = &refused else {
        panic!("{refused}")
    };
    assert_eq!((*count, holders.len()), (25, 20));
    assert!(refused.to_string().contains("and 5 more"), "{refused}");
    for number in 1..=24 {
        world.issue(number).await.unwrap();
    }
    let refused = signer_error(world.retire(FIRST).await);
    let last = crate::world::terminal(25).spiffe_id();
    let last = last.uri(world.signer.trust_domain());
    assert_eq!(
        refused,
        SignerError::WouldStrand {
            label: FIRST.into(),
            count: 1,
            holders: vec![last]
        }
    );
    // A terminal that stays away is not waited for longer than its certificate lives.
    let later = NOW + 8 * DAY;
    world
        .clock
        .0
        .store(later, std::sync::atomic::Ordering::SeqCst);
    world.retire(FIRST).await.unwrap();
}

#[tokio::test]
async fn a_tainted_ca_is_retired_without_asking_who_is_left_and_its_key_is_destroyed() {
    let world = World::new().await;
    world.issue(1).await.unwrap();
    world.next_ca().await.unwrap();
    world.taint(FIRST).await.unwrap();
    assert_eq!(world.crl(1, 1).await, Ok(1));
    assert_eq!(world.signer.issuing_cas()[1].state, KeyState::Tainted);
    world.retire(FIRST).await.unwrap();
    let label = hsm::KeyLabel(FIRST.into());
    let gone = hsm::Hsm::public_key(world.hsm.as_ref(), &label).await;
    assert!(
        matches!(gone, Err(hsm::HsmError::KeyUnknown { .. })),
        "{gone:?}"
    );
    assert_eq!(world.signer.issuing_cas().len(), 1);
}

#[tokio::test]
async fn only_a_certificate_of_the_root_for_a_key_in_the_hsm_is_installed() {
    let world = World::empty().await;
    let request = world.prepare().await.unwrap();
    let other_root = RootKey::generate().unwrap();
    let own_point = pki::csr::check(request.as_bytes()).unwrap().public_point();
    let foreign_root = other_root
        .sign_issuing(&other_root.certificate(NOW).unwrap(), &own_point, NOW)
        .unwrap();
    let refused = signer_error(world.install(foreign_root).await);
    assert_eq!(refused, SignerError::ForeignRoot);
    let other = World::empty().await;
    let foreign_key = world.sign(&other.prepare().await.unwrap());
    let refused = signer_error(world.install(foreign_key).await);
    assert_eq!(refused, SignerError::ForeignCertificate);
    let leaf = World::new().await.issue(1).await.unwrap();
    let leaf = pki::Certificate::from_der(&leaf.der).unwrap();
    assert!(world.install(leaf).await.is_err());
    let early = NOW - 400 * DAY;
    world
        .clock
        .0
        .store(early, std::sync::atomic::Ordering::SeqCst);
    let refused = world.install(world.sign(&request)).await;
    assert_eq!(refused, Err(PkiError::IssuerNotValid));
    assert_eq!(world.states().await, [format!("{FIRST} prepared")]);
}

#[tokio::test]
async fn the_same_key_may_get_a_certificate_under_a_new_root_while_it_issues() {
    let world = World::new().await;
    let new_root_key = RootKey::generate().unwrap();
    let new_root = new_root_key.certificate(NOW).unwrap();
    let ask = AdminAsk::Request {
        label: Some(FIRST.into()),
    };
    let AdminAnswer::Done { request, .. } = world.ask(ask).await.unwrap() else {
        panic!("no request")
    };
    let request = pki::csr::check(request.unwrap().as_bytes()).unwrap();
    let again = new_root_key
        .sign_issuing(&new_root, &request.public_point(), NOW)
        .unwrap();
    let refused = signer_error(world.install(again.clone()).await);
    assert_eq!(refused, SignerError::ForeignRoot);
    let both = world.root.pem() + &new_root.pem();
    std::fs::write(&world.config.roots, both).unwrap();
    world.install(again.clone()).await.unwrap();
    let issued = world.issue(1).await.unwrap();
    let leaf = pki::Certificate::from_der(&issued.der).unwrap();
    pki::verify_chain(&leaf, &[again], &new_root, NOW).unwrap();
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_says_what_would_happen() {
    let mut world = World::new().await;
    world.next_ca().await.unwrap();
    let request = world.prepare().await.unwrap();
    let certificate = world.sign(&request).pem();
    world.restart().await;
    let files = || [world.state_file(), world.log_file()].map(|file| std::fs::read(file).unwrap());
    let before = files();
    let (first, third) = (FIRST.to_owned(), "m2key-issuing-3".to_owned());
    let steps = [
        AdminStep::Install { certificate },
        AdminStep::Taint {
            label: third.clone(),
        },
        AdminStep::Retire { label: third },
        AdminStep::Taint {
            label: first.clone(),
        },
        AdminStep::Retire { label: first },
    ];
    for step in steps {
        let ask = AdminAsk::Step {
            step,
            dry_run: true,
            transcript: None,
        };
        let AdminAnswer::Done { said, .. } = world.ask(ask).await.unwrap() else {
            panic!("no sentence")
        };
        assert!(said[0].starts_with("would"), "{said:?}");
    }
    assert_eq!(files(), before);
}

#[tokio::test]
async fn a_key_that_a_crash_left_in_the_hsm_is_taken_over_if_it_is_as_we_make_it() {
    let mut world = World::empty().await;
    let label = hsm::KeyLabel(FIRST.into());
    let made = hsm::Hsm::generate_key(world.hsm.as_ref(), hsm::KeyKind::Signing, &label).await;
    made.unwrap();
    world
        .hsm
        .findings
        .lock()
        .unwrap()
        .push("extractable".into());
    let refused = signer_error(world.prepare().await);
    assert!(matches!(refused, SignerError::WeakKey { .. }), "{refused}");
    world.hsm.findings.lock().unwrap().clear();
    let request = world.prepare().await.unwrap();
    world.restart().await;
    assert_eq!(world.states().await, [format!("{FIRST} prepared")]);
    world.install(world.sign(&request)).await.unwrap();
}

#[tokio::test]
async fn every_step_is_in_the_log() {
    let world = World::new().await;
    world.next_ca().await.unwrap();
    world.taint(FIRST).await.unwrap();
    world.retire(FIRST).await.unwrap();
    let steps = world.log().into_iter().filter_map(|entry| match entry {
        Entry::Step { key, step, .. } => Some(format!("{step} {}", &key[key.len() - 1..])),
        _ => None,
    });
    let expected = [
        "prepare 1",
        "install 1",
        "activate 1",
        "prepare 2",
        "install 2",
        "activate 2",
        "taint 1",
        "retire 1",
    ];
    assert_eq!(Vec::from_iter(steps), expected);
}

/// A life of two issuing keys as a list of steps, each of which may break anywhere.
const LIFE: [Do; 9] = [
    Do::Prepare,
    Do::Install,
    Do::Activate,
    Do::Prepare,
    Do::Install,
    Do::Activate,
    Do::Taint,
    Do::Retire,
    Do::Retire,
];

#[derive(Debug, Clone, Copy)]
enum Do {
    Prepare,
    Install,
    Activate,
    Taint,
    Retire,
}

impl Do {
    async fn at(self, world: &World) -> Result<(), PkiError> {
        match self {
            Self::Prepare => world.prepare().await.map(drop),
            Self::Install => {
                // The request stays what it was, so whoever lost it asks for it again.
                let ask = AdminAsk::Request { label: None };
                match world.ask(ask).await? {
                    AdminAnswer::Done { request, .. } => {
                        world.install(world.sign(&request.unwrap())).await
                    }
                    other => panic!("{other:?}"),
                }
            }
            Self::Activate => world.activate(None).await.or_else(is_done),
            Self::Taint => world.taint(FIRST).await,
            Self::Retire => world.retire(FIRST).await,
        }
    }
}

/// Without a label `activate` asks for a prepared key; after it was done there is none.
fn is_done(error: PkiError) -> Result<(), PkiError> {
    match error {
        PkiError::Signer(SignerError::NonePrepared) => Ok(()),
        error => Err(error),
    }
}

async fn end_of_life(world: &mut World) {
    world.restart().await;
    let states = world.states().await;
    assert_eq!(
        states,
        [format!("{FIRST} retired"), format!("{SECOND} active")]
    );
    world.issue(1).await.unwrap();
    let label = hsm::KeyLabel(FIRST.into());
    let gone = hsm::Hsm::public_key(world.hsm.as_ref(), &label).await;
    assert!(
        matches!(gone, Err(hsm::HsmError::KeyUnknown { .. })),
        "{gone:?}"
    );
}

#[tokio::test]
async fn every_step_comes_to_its_end_when_the_hsm_goes_in_the_middle_and_the_signer_restarts() {
    let mut interrupted = 0;
    for broken in 0..LIFE.len() {
        for calls in 0.. {
            let mut world = World::empty().await;
            let mut missed = false;
            for (place, step) in LIFE.iter().enumerate() {
                if place == broken {
                    world.hsm.gone_after(calls);
                    let outcome = step.at(&world).await;
                    missed = world.hsm.is_back() && outcome.is_err();
                    interrupted += u32::from(missed);
                    world.restart().await;
                }
                let outcome = step.at(&world).await;
                assert!(
                    outcome.is_ok(),
                    "{step:?} after {calls} calls of it: {outcome:?}"
                );
            }
            end_of_life(&mut world).await;
            if !missed {
                break;
            }
        }
    }
    assert!(interrupted > 10, "the HSM went {interrupted} times");
}

#[tokio::test]
async fn every_step_that_the_disk_refuses_is_not_done_and_may_be_repeated() {
    for broken in 0..LIFE.len() - 1 {
        let mut world = World::empty().await;
        for (place, step) in LIFE.iter().enumerate() {
            if place == broken {
                let states = world.states().await;
                let (state, aside) = (world.state_file(), world.dir.path().join("aside"));
                if state.exists() {
                    std::fs::rename(&state, &aside).unwrap();
                }
                // Nothing can be renamed to where a directory is.
                std::fs::create_dir(&state).unwrap();
                assert!(step.at(&world).await.is_err(), "{step:?}");
                assert_eq!(world.states().await, states);
                std::fs::remove_dir(&state).unwrap();
                if aside.exists() {
                    std::fs::rename(&aside, &state).unwrap();
                }
                world.restart().await;
            }
            let outcome = step.at(&world).await;
            assert!(outcome.is_ok(), "{step:?}: {outcome:?}");
        }
        end_of_life(&mut world).await;
    }
}
