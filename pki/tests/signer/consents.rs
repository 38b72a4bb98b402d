//! Does the signer take a step that operators did not consent to?

use std::sync::atomic::Ordering;

use pki::consent::clear::Doubt;
use pki::consent::transcript::BadTranscript;
use pki::consent::{BadStatement, IssuingStep, NotCleared};
use pki::crl::{CrlRequest, Reason, Revoked};
use pki::signer::{AdminAnswer, AdminAsk, AdminStep, Entry, KeyView};
use pki::{Certificate, PkiError, csr};

use crate::people::{Asked, Person, hex, json, tampered};
use crate::world::{DAY, NOW, World};

const FIRST: &str = "m2key-issuing-1";
const SECOND: &str = "m2key-issuing-2";

/// A signer that wants one consent besides the one who asks.
struct Desk {
    world: World,
    ann: Person,
    bob: Person,
    /// Under it are both.
    above: Certificate,
}

impl Desk {
    async fn new() -> Self {
        let mut world = World::new().await;
        let above = world.signer.issuing_cas()[0].chain.issuing().clone();
        let (ann, bob) = (person(&world, "ann").await, person(&world, "bob").await);
        world.config.consents.required = 1;
        world.restart().await;
        Self {
            world,
            ann,
            bob,
            above,
        }
    }

    async fn agreed(&self, step: &IssuingStep) -> String {
        let asked = Asked::of(step, self.world.clock.0.load(Ordering::SeqCst));
        let others = [&self.bob];
        json(&asked.transcript(&self.world.root, &self.ann, &others).await)
    }

    async fn step(
        &self,
        step: AdminStep,
        transcript: Option<&str>,
    ) -> Result<AdminAnswer, PkiError> {
        let ask = AdminAsk::Step {
            step,
            dry_run: false,
            transcript: transcript.map(str::to_owned),
        };
        self.world.ask(ask).await
    }

    #[track_caller]
    fn is_done(&self, outcome: Result<AdminAnswer, PkiError>) -> (Vec<String>, Option<String>) {
        match outcome.unwrap() {
            AdminAnswer::Done { said, request } => (said, request),
            AdminAnswer::Keys(keys) => panic!("{keys:?}"),
        }
    }

    async fn key(&self, label: &str) -> KeyView {
        match self.world.ask(AdminAsk::List).await.unwrap() {
            AdminAnswer::Keys(keys) => keys.into_iter().find(|key| key.label == label).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The second key, prepared with everybody's consent, and the certificate for it.
    async fn prepared(&self) -> Certificate {
        let label = SECOND.to_owned();
        let consents = self.agreed(&IssuingStep::Prepare { label }).await;
        let outcome = self.step(AdminStep::Prepare, Some(&consents)).await;
        let (_, request) = self.is_done(outcome);
        self.world.sign(&request.unwrap())
    }

    /// A step that must not happen, with this transcript.
    async fn refuse(&self, step: AdminStep, transcript: Option<&str>) -> NotCleared {
        let files =
            || [self.world.state_file(), self.world.log_file()].map(|f| std::fs::read(f).unwrap());
        let before = files();
        let refused = why(self.step(step, transcript).await);
        assert_eq!(files(), before, "refused, and yet something changed");
        refused
    }
}

async fn person(world: &World, name: &str) -> Person {
    let above = world.signer.issuing_cas()[0].chain.issuing().clone();
    let issue = async |asked| world.signer.issue(asked).await.unwrap();
    Person::under(&above, issue, name, world.clock.0.load(Ordering::SeqCst)).await
}

#[track_caller]
fn why<T: std::fmt::Debug>(outcome: Result<T, PkiError>) -> NotCleared {
    match outcome {
        Err(PkiError::NotCleared(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn fingerprint(certificate: &Certificate) -> String {
    hex(certificate.fingerprint().as_bytes())
}

#[tokio::test]
async fn every_step_of_a_key_needs_the_others_and_is_taken_with_them() {
    let desk = Desk::new().await;
    let said = desk.refuse(AdminStep::Prepare, None).await;
    let hint = PkiError::from(said).hint().to_owned();
    assert!(
        hint.contains("ceremony issuing prepare m2key-issuing-2"),
        "{hint}"
    );
    let certificate = desk.prepared().await;
    let (pem, sha256) = (certificate.pem(), fingerprint(&certificate));
    let key_id = desk.key(SECOND).await.key_id;
    let label = || SECOND.to_owned();
    let first = desk.key(FIRST).await.key_id;
    let walk = [
        (
            AdminStep::Install { certificate: pem },
            IssuingStep::Install {
                certificate: sha256,
            },
        ),
        (
            AdminStep::Activate { label: None },
            IssuingStep::Activate { key_id },
        ),
        (
            AdminStep::Taint {
                label: FIRST.into(),
            },
            IssuingStep::Taint {
                key_id: first.clone(),
            },
        ),
    ];
    for (step, consented) in walk {
        let alone = desk.refuse(step.clone(), None).await;
        assert!(
            matches!(alone, NotCleared::Needed { required: 1, .. }),
            "{alone}"
        );
        let consents = desk.agreed(&consented).await;
        desk.is_done(desk.step(step, Some(&consents)).await);
    }
    // Ann and Bob are under the first key, which nobody believes now.
    let retire = || AdminStep::Retire {
        label: FIRST.into(),
    };
    let consents = desk
        .agreed(&IssuingStep::Retire {
            key_id: first.clone(),
        })
        .await;
    let refused = desk.refuse(retire(), Some(&consents)).await;
    assert!(
        matches!(
            refused,
            NotCleared::Asker {
                doubt: Doubt::IssuingKey,
                ..
            }
        ),
        "{refused}"
    );
    let (ann, bob) = (
        person(&desk.world, "ann").await,
        person(&desk.world, "bob").await,
    );
    let desk = Desk { ann, bob, ..desk };
    let alone = desk.refuse(retire(), None).await;
    assert!(matches!(alone, NotCleared::Needed { .. }), "{alone}");
    let consents = desk.agreed(&IssuingStep::Retire { key_id: first }).await;
    desk.is_done(desk.step(retire(), Some(&consents)).await);
    let (one, two) = (desk.key(FIRST).await, desk.key(&label()).await);
    let steps = |key: &KeyView| -> Vec<String> {
        let each = key.consents.iter();
        each.map(|it| format!("{} {}", it.step, it.warrant.consented.join(",")))
            .collect()
    };
    assert_eq!(steps(&two), ["prepare bob", "install bob", "activate bob"]);
    assert_eq!(steps(&one), ["taint bob", "retire bob"]);
}

#[tokio::test]
async fn the_log_names_who_asked_and_who_consented_and_is_whole() {
    let desk = Desk::new().await;
    desk.prepared().await;
    let log = desk.world.log();
    let Some(Entry::Step { step, consents, .. }) = log.last() else {
        panic!("{log:?}")
    };
    let warrant = consents.as_ref().unwrap();
    assert_eq!(
        (step.as_str(), warrant.asked_by.as_str()),
        ("prepare", "ann")
    );
    assert_eq!(warrant.consented, ["bob"]);
    assert_eq!(warrant.request_sha256.len(), 64);
}

#[tokio::test]
async fn a_transcript_for_another_step_or_another_key_is_refused() {
    let desk = Desk::new().await;
    let certificate = desk.prepared().await;
    let key_id = desk.key(SECOND).await.key_id;
    let first = desk.key(FIRST).await.key_id;
    let taint = || AdminStep::Taint {
        label: SECOND.into(),
    };
    for other in [
        IssuingStep::Retire {
            key_id: key_id.clone(),
        },
        IssuingStep::Activate {
            key_id: key_id.clone(),
        },
        IssuingStep::Taint { key_id: first },
        IssuingStep::Prepare {
            label: SECOND.into(),
        },
    ] {
        let consents = desk.agreed(&other).await;
        let refused = desk.refuse(taint(), Some(&consents)).await;
        assert!(matches!(refused, NotCleared::OtherStep { .. }), "{refused}");
    }
    let other = fingerprint(&desk.above);
    let consents = desk
        .agreed(&IssuingStep::Install { certificate: other })
        .await;
    let certificate = certificate.pem();
    let refused = desk
        .refuse(AdminStep::Install { certificate }, Some(&consents))
        .await;
    assert!(matches!(refused, NotCleared::OtherStep { .. }), "{refused}");
    let label = "m2key-issuing-3".to_owned();
    let consents = desk.agreed(&IssuingStep::Prepare { label }).await;
    desk.step(
        taint(),
        Some(&desk.agreed(&IssuingStep::Taint { key_id }).await),
    )
    .await
    .unwrap();
    desk.is_done(desk.step(AdminStep::Prepare, Some(&consents)).await);
}

#[tokio::test]
async fn what_has_ended_was_changed_or_is_nobodys_but_the_askers_is_refused() {
    let desk = Desk::new().await;
    let step = IssuingStep::Prepare {
        label: SECOND.into(),
    };
    let asked = Asked::of(&step, NOW);
    let root = &desk.world.root;
    let own = asked.transcript(root, &desk.ann, &[&desk.ann]).await;
    let refused = desk.refuse(AdminStep::Prepare, Some(&json(&own))).await;
    let why = BadTranscript::Consent {
        nth: 1,
        why: BadStatement::Own,
    };
    assert_eq!(refused, NotCleared::Transcript(why));
    let nobody = asked.transcript(root, &desk.ann, &[]).await;
    let refused = desk.refuse(AdminStep::Prepare, Some(&json(&nobody))).await;
    assert!(matches!(refused, NotCleared::TooFew { .. }), "{refused}");
    let good = asked.transcript(root, &desk.ann, &[&desk.bob]).await;
    let changed = tampered(&good, SECOND, "m2key-issuing-9");
    let refused = desk.refuse(AdminStep::Prepare, Some(&changed)).await;
    let why = BadTranscript::Request(BadStatement::Signature);
    assert_eq!(refused, NotCleared::Transcript(why));
    desk.world.clock.0.store(NOW + DAY + 1, Ordering::SeqCst);
    let refused = desk.refuse(AdminStep::Prepare, Some(&json(&good))).await;
    assert!(matches!(refused, NotCleared::Expired { .. }), "{refused}");
}

#[tokio::test]
async fn a_transcript_serves_once_also_after_a_restart() {
    let mut desk = Desk::new().await;
    let certificate = desk.prepared().await;
    let install = |certificate: &Certificate| AdminStep::Install {
        certificate: certificate.pem(),
    };
    let sha256 = fingerprint(&certificate);
    let consents = desk
        .agreed(&IssuingStep::Install {
            certificate: sha256,
        })
        .await;
    desk.step(install(&certificate), Some(&consents))
        .await
        .unwrap();
    desk.world.restart().await;
    // Whoever did not hear the answer asks again: it is done, and nothing more is.
    let files =
        || [desk.world.state_file(), desk.world.log_file()].map(|it| std::fs::read(it).unwrap());
    let before = files();
    for transcript in [Some(consents.as_str()), None] {
        let (said, _) = desk.is_done(desk.step(install(&certificate), transcript).await);
        assert!(said[0].contains("already"), "{said:?}");
    }
    assert_eq!(files(), before);
    // A second certificate of the same key, then back to the first one: that is a step, too.
    let (_, request) = desk.is_done(desk.world.ask(AdminAsk::Request { label: None }).await);
    let request = csr::check(request.unwrap().as_bytes()).unwrap();
    let point = request.public_point();
    let second = desk
        .world
        .root_key
        .sign_issuing(&desk.world.root, &point, NOW)
        .unwrap();
    let sha256 = fingerprint(&second);
    let more = desk
        .agreed(&IssuingStep::Install {
            certificate: sha256,
        })
        .await;
    desk.step(install(&second), Some(&more)).await.unwrap();
    let refused = desk.refuse(install(&certificate), Some(&consents)).await;
    assert_eq!(refused, NotCleared::Used);
}

#[tokio::test]
async fn an_install_that_the_hsm_cut_off_goes_on_with_the_same_transcript_and_its_key_issues() {
    for calls in 0.. {
        let desk = Desk::new().await;
        let certificate = desk.prepared().await;
        let agreed = async |step| Some(desk.agreed(&step).await);
        let consents = agreed(IssuingStep::install(&certificate)).await;
        let install = || AdminStep::Install {
            certificate: certificate.pem(),
        };
        desk.world.hsm.gone_after(calls);
        let first = desk.step(install(), consents.as_deref()).await;
        let missed = desk.world.hsm.is_back() && first.is_err();
        desk.is_done(desk.step(install(), consents.as_deref()).await);
        let key_id = desk.key(SECOND).await.key_id;
        let consents = agreed(IssuingStep::Activate { key_id }).await;
        let activate = AdminStep::Activate { label: None };
        desk.is_done(desk.step(activate, consents.as_deref()).await);
        let issued = desk.world.issue(1).await.unwrap();
        let issued = Certificate::from_der(&issued.der).unwrap();
        assert!(issued.is_issued_by(&certificate), "after {calls} calls");
        if !missed {
            return;
        }
    }
}

#[tokio::test]
async fn a_step_that_a_crash_cut_off_goes_on_with_the_same_transcript() {
    let mut desk = Desk::new().await;
    let label = SECOND.to_owned();
    let consents = desk.agreed(&IssuingStep::Prepare { label }).await;
    desk.world.hsm.gone_after(0);
    desk.step(AdminStep::Prepare, Some(&consents))
        .await
        .unwrap_err();
    assert!(desk.world.hsm.is_back());
    desk.world.restart().await;
    desk.is_done(desk.step(AdminStep::Prepare, Some(&consents)).await);
    // Done before: nothing is left to consent to.
    let (_, request) = desk.is_done(desk.step(AdminStep::Prepare, None).await);
    assert!(request.is_some());
}

#[tokio::test]
async fn an_operator_on_the_last_revocation_list_does_not_count() {
    let mut desk = Desk::new().await;
    let request = CrlRequest {
        issuer: desk.above.spki_sha256(),
        number: 1,
        this_update: NOW,
        next_update: NOW + DAY,
        revoked: vec![Revoked {
            serial: desk.bob.chain[0].serial_hex(),
            at: NOW,
            reason: Reason::KeyCompromise,
        }],
    };
    let label = SECOND.to_owned();
    let consents = desk.agreed(&IssuingStep::Prepare { label }).await;
    desk.world.signer.sign_crl(request).await.unwrap();
    desk.world.restart().await;
    let refused = desk.refuse(AdminStep::Prepare, Some(&consents)).await;
    let NotCleared::TooFew { doubts, .. } = &refused else {
        panic!("{refused}")
    };
    assert_eq!(doubts, &[("bob".to_owned(), Doubt::Revoked)]);
    assert!(
        refused
            .to_string()
            .ends_with("bob does not count: the certificate is revoked")
    );
}

#[tokio::test]
async fn whoever_has_operators_made_has_no_voice_where_operators_are_listed() {
    let mut desk = Desk::new().await;
    let listed = [&desk.ann, &desk.bob].map(|it| (it.name.clone(), it.key_id()));
    desk.world.config.consents.operators = listed.into_iter().collect();
    desk.world.restart().await;
    let (ann, bob) = (
        person(&desk.world, "ann").await,
        person(&desk.world, "bob").await,
    );
    let made = Desk { ann, bob, ..desk };
    let step = IssuingStep::Prepare {
        label: SECOND.into(),
    };
    let refused = made
        .refuse(AdminStep::Prepare, Some(&made.agreed(&step).await))
        .await;
    assert!(
        matches!(
            refused,
            NotCleared::Asker {
                doubt: Doubt::NotListed,
                ..
            }
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn a_dry_run_says_who_must_consent_and_with_a_transcript_who_did() {
    let desk = Desk::new().await;
    let step = IssuingStep::Prepare {
        label: SECOND.into(),
    };
    let plan = async |transcript: Option<String>| {
        let ask = AdminAsk::Step {
            step: AdminStep::Prepare,
            dry_run: true,
            transcript,
        };
        desk.world.ask(ask).await
    };
    let (said, _) = desk.is_done(plan(None).await);
    assert!(
        said.join("\n").contains("ceremony issuing prepare"),
        "{said:?}"
    );
    let consents = desk.agreed(&step).await;
    let (said, _) = desk.is_done(plan(Some(consents.clone())).await);
    assert!(
        said[1].starts_with("asked by ann, consented bob"),
        "{said:?}"
    );
    let other = desk
        .agreed(&IssuingStep::Prepare {
            label: FIRST.into(),
        })
        .await;
    assert!(matches!(
        why(plan(Some(other)).await),
        NotCleared::OtherStep { .. }
    ));
    desk.is_done(desk.step(AdminStep::Prepare, Some(&consents)).await);
}

#[tokio::test]
async fn whoever_changes_what_is_needed_leaves_a_line() {
    let mut desk = Desk::new().await;
    let lines = |desk: &Desk| -> Vec<u32> {
        let log = desk.world.log().into_iter();
        log.filter_map(|entry| match entry {
            Entry::Consents(consents) => Some(consents.required),
            _ => None,
        })
        .collect()
    };
    assert_eq!(lines(&desk), [1]);
    desk.world.restart().await;
    assert_eq!(lines(&desk), [1]);
    desk.world.config.consents.required = 0;
    desk.world.restart().await;
    desk.step(AdminStep::Prepare, None).await.unwrap();
    desk.world.config.consents.required = 1;
    desk.world.restart().await;
    assert_eq!(lines(&desk), [1, 0, 1]);
}
