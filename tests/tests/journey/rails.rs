//! Does every rail pass the same suite: the fake, and HTTP against a bank with books of its own?

use std::path::{Path, PathBuf};
use std::sync::Arc;

use authority::clock::SystemClock;
use authority::config::{RailConfig, RailKind};
use authority::services::keyring::{KeyPurpose, SigningKey};
use authority::services::rails::{Answer, HttpRail, Order, Rail, RailKey};
use authority::services::requests::Requests;
use demo_bank::RailAccount;
use harness::bank::Bank;
use hsm::{Hsm, KeyKind, KeyLabel, MemoryHsm};
use protocol::ids::{ChargeId, MerchantId, PaymentId, TerminalId};
use protocol::jwk::{Jwk, JwkSet};
use protocol::money::{Currency, Money};
use protocol::typ;
use tempfile::TempDir;

use crate::fake_rail::FakeRail;
use crate::rail_suite::{FACTS, IN_ACCOUNT, Subject, check};

const DEADLINE_MS: u64 = 5_000;

/// A bank in a process of its own, and the keys of an authority that it believes.
struct Site {
    _dir: TempDir,
    bank: Bank,
    hsm: Arc<MemoryHsm>,
    key: SigningKey,
    mishaps: PathBuf,
}

impl Site {
    async fn new(accounts: usize, change: impl FnOnce(&mut demo_bank::RailConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (hsm, key, jwk) = request_key(KeyPurpose::Request).await;
        let keys = dir.path().join("jwks.json");
        publish(&keys, vec![jwk]);
        let mishaps = dir.path().join("mishaps.json");
        let account = |n| RailAccount {
            reference: account(n),
            amount: eur(IN_ACCOUNT),
        };
        let mut rail = demo_bank::RailConfig {
            authority_keys: keys.display().to_string(),
            authority_ca: None,
            books: dir.path().join("books.jsonl"),
            payment_max_minor: None,
            month_max_minor: None,
            mishaps: Some(mishaps.clone()),
            accounts: (0..accounts).map(account).collect(),
        };
        change(&mut rail);
        let (place, logs) = (dir.path().join("bank"), dir.path());
        let bank = Bank::open_with(&place, logs, "https://pay.example", &[], Some(rail));
        Self {
            bank: bank.await.unwrap(),
            _dir: dir,
            hsm,
            key,
            mishaps,
        }
    }

    /// The bank as the authority asks it.
    fn rail(&self, deadline_ms: u64) -> Arc<dyn Rail> {
        self.rail_signing_with(self.hsm.clone(), self.key.clone(), deadline_ms)
    }

    fn rail_signing_with(
        &self,
        hsm: Arc<MemoryHsm>,
        key: SigningKey,
        deadline_ms: u64,
    ) -> Arc<dyn Rail> {
        let config = RailConfig {
            name: "bank".into(),
            kind: RailKind::Account,
            url: self.bank.rail_url(),
            ca_file: Some(self.bank.ca().to_owned()),
            deadline_ms,
            calls_max: 64,
        };
        let key = Arc::new(move || Some(key.clone()));
        let requests = Requests::new(hsm, Arc::new(SystemClock), key);
        Arc::new(HttpRail::new(&config, requests).unwrap())
    }

    fn goes_wrong(&self, mishaps: &str) {
        std::fs::write(&self.mishaps, mishaps).unwrap();
    }

    fn balance(&self, n: usize) -> i64 {
        let books = self.bank.books().unwrap();
        books.balance_minor(&account(n)).unwrap()
    }
}

/// A key in an HSM of its own, and its public half as it is published.
async fn request_key(purpose: KeyPurpose) -> (Arc<MemoryHsm>, SigningKey, Jwk) {
    let (hsm, label) = (Arc::new(MemoryHsm::new()), purpose.label(1));
    hsm.generate_key(KeyKind::Signing, &label).await.unwrap();
    let mut jwk = Jwk::from_point(&hsm.public_key(&label).await.unwrap()).unwrap();
    jwk.m2key_typ = vec![typ::RAIL_REQUEST.into()];
    let key = SigningKey {
        kid: jwk.thumbprint(),
        label: KeyLabel(label.0.clone()),
    };
    (hsm, key, jwk)
}

fn publish(path: &Path, keys: Vec<Jwk>) {
    std::fs::write(path, serde_json::to_vec(&JwkSet { keys }).unwrap()).unwrap();
}

fn account(n: usize) -> String {
    format!("account {n}")
}

fn eur(minor: i64) -> Money {
    Money::new(minor, Currency::EUR).unwrap()
}

fn order(n: usize, minor: i64) -> Order {
    let mut random = [0; 16];
    getrandom::fill(&mut random).unwrap();
    Order {
        key: RailKey::from_random(random),
        payment: PaymentId::from_parts(1, &[1; 10]),
        account: account(n),
        amount: eur(minor),
        payee: MerchantId::from_parts(1, &[2; 10]),
        payee_name: "Corner Café".into(),
        terminal: TerminalId::from_number(4_711_042).unwrap(),
        charge: ChargeId::from_parts(1, &[3; 10]),
    }
}

#[track_caller]
fn is_unknown(answer: &Answer) {
    assert!(matches!(answer, Answer::Unknown { .. }), "{answer:?}");
}

#[tokio::test]
async fn the_fake_rail_passes_the_suite() {
    check(|n| {
        let fake = Arc::new(FakeRail::with_account(&account(n), IN_ACCOUNT));
        let books = fake.clone();
        Subject {
            rail: fake,
            account: account(n),
            balance: Box::new(move || books.balance(&account(n))),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_over_http_passes_the_suite() {
    let site = Arc::new(Site::new(FACTS.len(), |_| {}).await);
    check(|n| {
        let books = site.clone();
        Subject {
            rail: site.rail(DEADLINE_MS),
            account: account(n),
            balance: Box::new(move || books.balance(n)),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_the_authority_did_not_sign_moves_nothing() {
    let site = Site::new(1, |_| {}).await;
    let (hsm, mut key, _) = request_key(KeyPurpose::Request).await;
    let stranger = site.rail_signing_with(hsm.clone(), key.clone(), DEADLINE_MS);
    is_unknown(&stranger.authorise(&order(0, 420)).await);
    // Under the authority's name, with another key.
    key.kid = site.key.kid.clone();
    let forger = site.rail_signing_with(hsm, key, DEADLINE_MS);
    is_unknown(&forger.authorise(&order(0, 420)).await);
    assert_eq!(site.balance(0), IN_ACCOUNT);
    let good = site.rail(DEADLINE_MS).authorise(&order(0, 420)).await;
    assert!(matches!(good, Answer::Done { .. }), "{good:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_bank_answers_wrongly_is_unknown_and_the_same_call_again_is_done_once() {
    let site = Site::new(3, |_| {}).await;
    let wrong = [
        r#"{ "authorise": { "how": "unanswered", "every": 1 } }"#,
        r#"{ "authorise": { "how": "late", "every": 1, "ms": 3000 } }"#,
        r#"{ "authorise": { "how": "nonsense", "every": 1 } }"#,
    ];
    for (n, mishaps) in wrong.into_iter().enumerate() {
        site.goes_wrong(mishaps);
        let order = order(n, 420);
        is_unknown(&site.rail(1_000).authorise(&order).await);
        site.goes_wrong("{}");
        let rail = site.rail(DEADLINE_MS);
        let again = rail.authorise(&order).await;
        assert!(matches!(again, Answer::Done { .. }), "{again:?}");
        assert_eq!(site.balance(n), IN_ACCOUNT - 420);
    }
    site.goes_wrong(r#"{ "capture": { "how": "twice", "every": 1 } }"#);
    let (rail, order) = (site.rail(DEADLINE_MS), order(0, 1));
    rail.authorise(&order).await;
    let taken = rail.capture(&order).await;
    assert!(matches!(taken, Answer::Done { .. }), "{taken:?}");
    assert_eq!(site.balance(0), IN_ACCOUNT - 421);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_keeps_its_own_caps() {
    let site = Site::new(1, |rail| {
        rail.payment_max_minor = Some(1_000);
        rail.month_max_minor = Some(1_500);
    })
    .await;
    let rail = site.rail(DEADLINE_MS);
    let reason = authority::services::rails::Reason::OverLimit;
    let over = Answer::Declined { reason };
    assert_eq!(rail.authorise(&order(0, 1_001)).await, over);
    let first = order(0, 1_000);
    assert!(matches!(rail.authorise(&first).await, Answer::Done { .. }));
    assert_eq!(rail.authorise(&order(0, 501)).await, over);
    assert!(matches!(
        rail.authorise(&order(0, 500)).await,
        Answer::Done { .. }
    ));
    rail.reverse(&first).await;
    assert!(matches!(
        rail.authorise(&order(0, 1_000)).await,
        Answer::Done { .. }
    ));
}
