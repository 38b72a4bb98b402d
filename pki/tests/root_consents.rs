//! Does a root sign alone what operators must consent to, or anything else than they consented to?
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/people.rs"]
mod people;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use common::{DAY, NOW, OneKeyHsm, domain, label};
use people::{Asked, Person, hex, json, tampered};
use pki::consent::clear::{Doubt, TRANSCRIPT_MAX_BYTES};
use pki::consent::transcript::BadTranscript;
use pki::consent::{BadStatement, NotCleared, RootStep, Transcript};
use pki::crl::Reason;
use pki::root::{CONSENTS_FILE, Ceremony, CrlWish, IssuingPlan, KeyPlace, TrustPlan};
use pki::trust::{Change, Draft};
use pki::{
    Certificate, Chain, HsmIssuer, Issuer, Passphrase, PkiError, RootKey, RootSigner, SoftwareKey,
    csr,
};

/// A root that has signed an issuing CA, and three operators under that.
struct Table {
    dir: tempfile::TempDir,
    root: Certificate,
    issuing: Certificate,
    issuing_key: SoftwareKey,
    ann: Person,
    bob: Person,
    cleo: Person,
}

impl Table {
    /// `consents`: the text of consents.toml.
    async fn new(consents: &str) -> Self {
        Self::made_at(NOW, consents).await
    }

    async fn made_at(now: u64, consents: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("passphrase"), "correct horse battery").unwrap();
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(dir.path().join("passphrase"), owner_only).unwrap();
        let mut ceremony = Ceremony::begin(&dir.path().join("root"), now).unwrap();
        let place = place(
            dir.path().join("root/root.key"),
            dir.path().join("passphrase"),
        );
        let root = ceremony.init(place).await.unwrap();
        let place = self::place(
            dir.path().join("root/root.key"),
            dir.path().join("passphrase"),
        );
        let signer = place.open().await.unwrap();
        let key = SoftwareKey::generate().unwrap();
        let request = csr::new_unnamed(&key, &"issuing".parse().unwrap()).unwrap();
        let plan = ceremony.plan_issuing(&request, false).unwrap();
        let issuing = ceremony.sign_issuing(plan, &signer).await.unwrap();
        drop(ceremony);
        let chain = Chain::new(issuing.clone(), root.clone()).unwrap();
        let hsm = Arc::new(OneKeyHsm::holding(&key));
        let issuer = HsmIssuer::open(hsm, label(), chain, domain())
            .await
            .unwrap();
        let person = async |name| {
            let issue = async |asked| issuer.issue(asked).await.unwrap();
            Person::under(&issuing, issue, name, now).await
        };
        let table = Self {
            ann: person("ann").await,
            bob: person("bob").await,
            cleo: person("cleo").await,
            issuing: issuing.clone(),
            issuing_key: key,
            dir,
            root,
        };
        table.set(consents);
        table
    }

    /// Two operators whom nobody made one, in disguise.
    async fn thief(&self) -> [Person; 2] {
        let chain = Chain::new(self.issuing.clone(), self.root.clone()).unwrap();
        let hsm = Arc::new(OneKeyHsm::holding(&self.issuing_key));
        let issuer = HsmIssuer::open(hsm, label(), chain, domain())
            .await
            .unwrap();
        let person = async |name| {
            let issue = async |asked| issuer.issue(asked).await.unwrap();
            let person = Person::under(&self.issuing, issue, name, NOW).await;
            disguised(person, &self.issuing_key)
        };
        [person("ann").await, person("bob").await]
    }

    fn set(&self, consents: &str) {
        fs::write(self.dir.path().join("root").join(CONSENTS_FILE), consents).unwrap();
    }

    fn at(&self, now: u64) -> Ceremony {
        Ceremony::open(&self.dir.path().join("root"), now).unwrap()
    }

    async fn signer(&self) -> RootSigner {
        let at = |name: &str| self.dir.path().join(name);
        place(at("root/root.key"), at("passphrase"))
            .open()
            .await
            .unwrap()
    }

    /// The plan to sign the request of a new issuing CA.
    fn plan(&self, ceremony: &Ceremony) -> IssuingPlan {
        let key = SoftwareKey::generate().unwrap();
        let request = csr::new_unnamed(&key, &"issuing".parse().unwrap()).unwrap();
        ceremony.plan_issuing(&request, false).unwrap()
    }

    /// Ann asks for `step`, bob consents.
    async fn agreed(&self, step: &RootStep) -> Transcript {
        let asked = Asked::of(step, NOW);
        asked.transcript(&self.root, &self.ann, &[&self.bob]).await
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("root/ceremony.log")).unwrap()
    }

    fn refuse(&self, now: u64, step: &RootStep, transcript: &str) -> NotCleared {
        why(self.at(now).clear(step, Some(transcript)))
    }
}

fn place(path: PathBuf, passphrase: PathBuf) -> KeyPlace {
    KeyPlace::File {
        path,
        passphrase: Passphrase::from_file(&passphrase).unwrap(),
    }
}

#[track_caller]
fn why<T: std::fmt::Debug>(outcome: Result<T, PkiError>) -> NotCleared {
    match outcome {
        Err(PkiError::NotCleared(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn crl_wish(revoke: &[String]) -> CrlWish {
    CrlWish {
        revoke: revoke.to_vec(),
        reason: Reason::CaCompromise,
        next_days: 180,
        above: 0,
    }
}

fn next_list(root: &Certificate) -> Draft {
    let other = RootKey::generate().unwrap().certificate(NOW).unwrap();
    Draft::first(root.clone(), &Change::Prepare(Box::new(other)), NOW).unwrap()
}

/// Whoever has the key of the issuing CA lets a certificate say that another key issued it.
fn disguised(mut person: Person, issuing_key: &SoftwareKey) -> Person {
    let der = person.chain[0].der();
    let honest = person.chain[1].key_id_hex().unwrap();
    let honest: Vec<u8> = (0..honest.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&honest[at..at + 2], 16).unwrap())
        .collect();
    // SEQUENCE { SEQUENCE { to be signed }, SEQUENCE { algorithm }, BIT STRING }, lengths of two bytes.
    let length = |at: usize| usize::from(u16::from_be_bytes([der[at + 2], der[at + 3]]));
    let (begin, end) = (4, 4 + 4 + length(4));
    let mut signed = der[begin..end].to_vec();
    let mut windows = signed.windows(honest.len());
    let place = windows.position(|it| it == honest).unwrap();
    signed[place..place + honest.len()].fill(0x42);
    let algorithm_end = end + 2 + usize::from(der[end + 1]);
    let signature = p256::ecdsa::Signature::from_slice(&issuing_key.sign(&signed)).unwrap();
    let signature = signature.to_der();
    let bits = signature.as_bytes();
    let mut content = signed;
    content.extend_from_slice(&der[end..algorithm_end]);
    content.extend([0x03, u8::try_from(bits.len() + 1).unwrap(), 0]);
    content.extend_from_slice(bits);
    let mut forged = vec![0x30, 0x82];
    forged.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
    forged.extend(content);
    person.chain[0] = Certificate::from_der(&forged).unwrap();
    person
}

#[tokio::test]
async fn alone_nothing_is_signed_and_what_to_ask_for_is_said() {
    let table = Table::new("required = 1").await;
    let (mut ceremony, signer) = (table.at(NOW), table.signer().await);
    let before = table.log();
    let plan = table.plan(&ceremony);
    let refused = ceremony.sign_issuing(plan, &signer).await.unwrap_err();
    assert_eq!(refused.whose_move(), pki::Move::Operator);
    let command = "m2key-authority ceremony root sign ";
    assert!(refused.hint().contains(command), "{}", refused.hint());
    assert!(matches!(
        why::<()>(Err(refused)),
        NotCleared::Needed { required: 1, .. }
    ));
    let plan = ceremony.plan_crl(&crl_wish(&[])).unwrap();
    let refused = why(ceremony.sign_crl(plan, &signer).await);
    assert!(matches!(refused, NotCleared::Needed { .. }));
    let mut draft = next_list(&table.root);
    let refused = why(ceremony
        .sign_trust(TrustPlan::new(&mut draft, false), &signer)
        .await);
    assert!(matches!(refused, NotCleared::Needed { .. }));
    assert_eq!((table.log(), draft.missing().len()), (before, 2));
}

#[tokio::test]
async fn what_others_consented_to_is_signed_once_and_their_names_stand_in_the_log() {
    let table = Table::new("required = 1").await;
    let (mut ceremony, signer) = (table.at(NOW), table.signer().await);
    let plan = table.plan(&ceremony);
    let transcript = table.agreed(&plan.step()).await;
    let step = plan.step();
    let plan = plan.consented(Some(json(&transcript)));
    ceremony.sign_issuing(plan, &signer).await.unwrap();
    let plan = ceremony.plan_crl(&crl_wish(&[])).unwrap();
    let transcript_of_list = json(&table.agreed(&plan.step()).await);
    let plan = plan.consented(Some(transcript_of_list));
    ceremony.sign_crl(plan, &signer).await.unwrap();
    let mut draft = next_list(&table.root);
    let mut plan = TrustPlan::new(&mut draft, false);
    plan.transcript = Some(json(&table.agreed(&plan.step(&table.root)).await));
    ceremony.sign_trust(plan, &signer).await.unwrap();
    let shown = ceremony.steps();
    let by = "asked-by ann, consented bob";
    assert_eq!(shown.matches(by).count(), 3, "{shown}");
    // However the file is written, it is the same transcript.
    let rewritten = serde_json::to_string_pretty(&transcript).unwrap();
    drop(ceremony);
    for used in [json(&transcript), rewritten] {
        assert_eq!(table.refuse(NOW + DAY, &step, &used), NotCleared::Used);
    }
}

#[tokio::test]
async fn a_transcript_serves_for_exactly_its_step() {
    let table = Table::new("required = 1").await;
    let ceremony = table.at(NOW);
    let plan = table.plan(&ceremony);
    let transcript = json(&table.agreed(&plan.step()).await);
    let serial = [table.issuing.serial_hex()];
    let list = ceremony.plan_crl(&crl_wish(&serial)).unwrap().step();
    let other_list = ceremony.plan_crl(&crl_wish(&[])).unwrap().step();
    let mut steps = vec![
        table.plan(&ceremony).step(),
        plan.clone()
            .listed_at(Some("http://x/".parse().unwrap()))
            .step(),
        other_list,
    ];
    let RootStep::Sign { root, key_id, .. } = plan.step() else {
        panic!("it is one")
    };
    let sign = |root: &str, again| RootStep::Sign {
        root: root.into(),
        key_id: key_id.clone(),
        crl_base: None,
        again,
    };
    steps.extend([sign(&root, true), sign(&key_id, false)]);
    drop(ceremony);
    for step in steps {
        let refused = table.refuse(NOW, &step, &transcript);
        assert!(matches!(refused, NotCleared::OtherStep { .. }), "{refused}");
    }
    table
        .at(NOW)
        .clear(&sign(&root, false), Some(&transcript))
        .unwrap();
    let of_list = json(&table.agreed(&list).await);
    for (from, to) in [
        (&*serial[0], "0a"),
        ("ca-compromise", "superseded"),
        ("180", "366"),
    ] {
        let text = serde_json::to_string(&list).unwrap().replace(from, to);
        let step: RootStep = serde_json::from_str(&text).unwrap();
        assert_ne!(step, list);
        let refused = table.refuse(NOW, &step, &of_list);
        assert!(matches!(refused, NotCleared::OtherStep { .. }), "{refused}");
    }
}

#[tokio::test]
async fn a_step_of_the_same_body_under_another_verb_is_not_the_one() {
    let table = Table::new("required = 1").await;
    let step = table.plan(&table.at(NOW)).step();
    let mut asked = Asked::of(&step, NOW);
    asked.verb = "issuing-step".into();
    let transcript = asked
        .transcript(&table.root, &table.ann, &[&table.bob])
        .await;
    let refused = table.refuse(NOW, &step, &json(&transcript));
    assert!(matches!(refused, NotCleared::OtherStep { .. }), "{refused}");
}

#[tokio::test]
async fn a_transcript_ends_by_the_clock_of_the_machine_and_does_not_begin_before_it() {
    let table = Table::new("required = 1").await;
    let step = table.plan(&table.at(NOW)).step();
    let transcript = json(&table.agreed(&step).await);
    table.at(NOW + DAY).clear(&step, Some(&transcript)).unwrap();
    let late = table.refuse(NOW + DAY + 1, &step, &transcript);
    assert!(matches!(late, NotCleared::Expired { .. }), "{late}");
    let asked = Asked::of(&step, NOW + 301);
    let transcript = asked
        .transcript(&table.root, &table.ann, &[&table.bob])
        .await;
    let early = table.refuse(NOW, &step, &json(&transcript));
    assert!(matches!(early, NotCleared::NotYet { .. }), "{early}");
}

#[tokio::test]
async fn the_higher_of_both_numbers_is_in_force() {
    let table = Table::new("required = 2").await;
    let step = table.plan(&table.at(NOW)).step();
    let transcript = json(&table.agreed(&step).await);
    let refused = table.refuse(NOW, &step, &transcript);
    let too_few = |refused: &NotCleared| match refused {
        NotCleared::TooFew { too_few, .. } => (too_few.by.clone(), too_few.required),
        other => panic!("{other}"),
    };
    assert_eq!(too_few(&refused), (vec!["bob".to_owned()], 2));
    table.set("required = 0");
    let mut asked = Asked::of(&step, NOW);
    asked.required = 2;
    let others = [&table.bob, &table.cleo];
    let mut transcript = asked.transcript(&table.root, &table.ann, &others).await;
    table
        .at(NOW)
        .clear(&step, Some(&json(&transcript)))
        .unwrap();
    transcript.consents.truncate(1);
    let refused = table.refuse(NOW, &step, &json(&transcript));
    assert_eq!(too_few(&refused).1, 2);
    // Two certificates of one operator are one voice.
    transcript.consents.push(transcript.consents[0].clone());
    let refused = table.refuse(NOW, &step, &json(&transcript));
    assert_eq!(too_few(&refused).0, ["bob"]);
}

#[tokio::test]
async fn own_foreign_and_changed_consents_are_refused() {
    let table = Table::new("required = 1").await;
    let step = table.plan(&table.at(NOW)).step();
    let asked = Asked::of(&step, NOW);
    let own = asked
        .transcript(&table.root, &table.ann, &[&table.ann])
        .await;
    let refused = |text: &str| match table.refuse(NOW, &step, text) {
        NotCleared::Transcript(why) => why,
        other => panic!("{other}"),
    };
    let consent = |why| BadTranscript::Consent { nth: 1, why };
    assert_eq!(refused(&json(&own)), consent(BadStatement::Own));
    let good = table.agreed(&step).await;
    let changed = tampered(&good, "ann", "bob");
    assert_eq!(
        refused(&changed),
        BadTranscript::Request(BadStatement::Signature)
    );
    let mut other = Asked::of(&step, NOW);
    other.id = "0194";
    let mut mixed = other.transcript(&table.root, &table.ann, &[]).await;
    mixed.consents = good.consents.clone();
    assert_eq!(refused(&json(&mixed)), consent(BadStatement::OtherRequest));
    assert_eq!(refused("{}"), BadTranscript::Malformed);
    let padded = json(&good) + &" ".repeat(TRANSCRIPT_MAX_BYTES);
    assert_eq!(refused(&padded), BadTranscript::Malformed);
    // Operators of another root are nobody here.
    let elsewhere = Table::new("").await;
    let foreign = asked
        .transcript(&elsewhere.root, &elsewhere.ann, &[&elsewhere.bob])
        .await;
    let why = refused(&json(&foreign));
    assert!(
        matches!(why, BadTranscript::Request(BadStatement::Certificate(_))),
        "{why}"
    );
    // Unless this root is told that they are: the new root of a change.
    fs::write(table.dir.path().join("root/old.pem"), elsewhere.root.pem()).unwrap();
    table.set("required = 1\nroots = \"old.pem\"");
    table.at(NOW).clear(&step, Some(&json(&foreign))).unwrap();
}

#[tokio::test]
async fn only_listed_operators_count_if_any_are_listed_and_only_with_their_keys() {
    let table = Table::new("").await;
    let step = table.plan(&table.at(NOW)).step();
    let transcript = json(&table.agreed(&step).await);
    let list = |ann: &str, bob: &str| {
        table.set(&format!(
            "required = 1\n[operators]\nann = \"{ann}\"\nbob = \"{bob}\"\n"
        ));
    };
    let (ann, bob) = (table.ann.key_id(), table.bob.key_id());
    list(&ann, &bob);
    table.at(NOW).clear(&step, Some(&transcript)).unwrap();
    list(&ann, &ann);
    let refused = table.refuse(NOW, &step, &transcript);
    let NotCleared::TooFew { doubts, .. } = &refused else {
        panic!("{refused}")
    };
    assert_eq!(doubts, &[("bob".to_owned(), Doubt::NotListed)]);
    list(&bob, &bob);
    let refused = table.refuse(NOW, &step, &transcript);
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
async fn operators_under_an_issuing_key_that_this_root_called_compromised_do_not_count() {
    let table = Table::new("").await;
    let step = table.plan(&table.at(NOW)).step();
    let transcript = json(&table.agreed(&step).await);
    table.at(NOW).clear(&step, Some(&transcript)).unwrap();
    let (mut ceremony, signer) = (table.at(NOW), table.signer().await);
    let plan = ceremony.plan_crl(&crl_wish(&[table.issuing.serial_hex()]));
    ceremony.sign_crl(plan.unwrap(), &signer).await.unwrap();
    drop(ceremony);
    let doubted = |transcript: &str| {
        let refused = table.refuse(NOW, &step, transcript);
        let by_key = Doubt::IssuingKey;
        assert!(
            matches!(&refused, NotCleared::Asker { doubt, .. } if *doubt == by_key),
            "{refused}"
        );
    };
    doubted(&transcript);
    // What a certificate says of its issuing key is the thief's word.
    let thief = table.thief().await;
    let asked = Asked::of(&step, NOW);
    let forged = asked.transcript(&table.root, &thief[0], &[&thief[1]]).await;
    doubted(&json(&forged));
    // Nor does it hang on a copy that somebody cleared away.
    fs::remove_dir_all(table.dir.path().join("root/issued")).unwrap();
    doubted(&transcript);
}

#[tokio::test]
async fn operators_whose_certificates_have_ended_do_not_count() {
    let table = Table::new("required = 1").await;
    let late = table.bob.chain[0].not_after() + 1;
    let step = table.plan(&table.at(NOW)).step();
    let asked = Asked::of(&step, late - DAY);
    let transcript = asked
        .transcript(&table.root, &table.ann, &[&table.bob])
        .await;
    let refused = table.refuse(late, &step, &json(&transcript));
    assert!(
        matches!(
            refused,
            NotCleared::Asker {
                doubt: Doubt::Statement(_),
                ..
            }
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn whoever_changes_what_is_needed_leaves_a_line_at_the_next_signature() {
    let table = Table::new("required = 1").await;
    let signer = table.signer().await;
    let sign = async |consents: &str| {
        table.set(consents);
        let mut ceremony = table.at(NOW);
        let plan = ceremony.plan_crl(&crl_wish(&[])).unwrap();
        let transcript = json(&table.agreed(&plan.step()).await);
        ceremony
            .sign_crl(plan.consented(Some(transcript)), &signer)
            .await
            .unwrap();
        drop(ceremony);
        table.log().matches("consents-required number=").count()
    };
    assert_eq!(sign("required = 1").await, 1);
    assert_eq!(sign("required = 1").await, 1);
    assert_eq!(sign("required = 0").await, 2);
    assert_eq!(sign("required = 1").await, 3);
    assert_eq!(sign("required = 1\n# or so").await, 4);
}

#[tokio::test]
async fn a_file_that_says_nonsense_stops_the_root() {
    let table = Table::new("required = 99").await;
    let ceremony = table.at(NOW);
    let refused = ceremony
        .clear(&table.plan(&ceremony).step(), None)
        .unwrap_err();
    assert_eq!(refused.whose_move(), pki::Move::Operator);
    let said = refused.to_string();
    assert!(
        said.contains("consents.toml: required: at most 15"),
        "{said}"
    );
}

#[tokio::test]
async fn the_command_refuses_with_whose_move_it_is_and_signs_what_was_consented_to() {
    let dir = tempfile::tempdir().unwrap();
    let now = common::today(dir.path());
    let table = Table::made_at(now, "required = 1").await;
    let file = |name: &str, text: &str| fs::write(table.dir.path().join(name), text).unwrap();
    let says = |more: &str| {
        let line = "root crl --dir root --passphrase-file passphrase --yes --out";
        let output = Command::new(env!("CARGO_BIN_EXE_m2key-pki"))
            .args(line.split(' ').chain(more.split(' ')))
            .current_dir(table.dir.path())
            .output()
            .unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), words)
    };
    let step = |number| RootStep::Crl {
        root: hex(table.root.fingerprint().as_bytes()),
        number,
        revoke: Vec::new(),
        reason: None,
        next_days: 180,
    };
    let asked = |number| Asked::of(&step(number), now);
    let by = (&table.root, &table.ann);
    let good = asked(1).transcript(by.0, by.1, &[&table.bob]).await;
    let too_few = asked(1).transcript(by.0, by.1, &[]).await;
    let own = asked(1).transcript(by.0, by.1, &[&table.ann]).await;
    let other = asked(2).transcript(by.0, by.1, &[&table.bob]).await;
    for (name, transcript) in [
        ("good", &good),
        ("few", &too_few),
        ("own", &own),
        ("2", &other),
    ] {
        file(name, &json(transcript));
    }
    file("changed", &tampered(&good, "180", "366"));
    file("nonsense", "{}");
    for (more, code, error) in [
        ("x", 4, "needs the consent of 1 besides"),
        ("x --transcript few", 4, "0 of 1 operators have consented"),
        (
            "x --transcript own",
            1,
            "nobody consents to their own request",
        ),
        (
            "x --transcript 2",
            1,
            "the transcript is for something else",
        ),
        ("x --transcript changed", 1, "signature does not fit"),
        ("x --transcript nonsense", 1, "it is not a transcript"),
        ("x --transcript absent", 4, "no such file"),
    ] {
        let (found, words) = says(more);
        assert_eq!(found, code, "{more}: {words}");
        assert!(
            words.contains("error: ") && words.contains(error),
            "{words}"
        );
        assert!(words.contains("\nhint: "), "{words}");
    }
    assert!(!table.log().contains("crl-signed"), "{}", table.log());
    assert_eq!(says("1.crl --transcript good").0, 0);
    let (code, words) = says("2.crl --transcript good");
    assert!(code == 1 && words.contains("something else"), "{words}");
    assert_eq!(says("2.crl --transcript 2").0, 0);
}
