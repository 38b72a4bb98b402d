//! Does a phone that can only text pay, through a real gateway, and nobody else from its bill?
//!
//! bearerbox, smsbox and fakesmsc as Debian has them, the real authority with SoftHSM, a real agent's screen.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use demo_bank::{RailAccount, RailConfig};
use harness::World;
use harness::authority::Pace;
use harness::bank::Bank;
use harness::kannel::{HOME, Kannel, ROAMING, SHORT_NUMBER};
use harness::world::Site;
use protocol::ids::{AccountId, ChargeId};
use protocol::jws;
use protocol::money::{Currency, Money};
use protocol::receipt::ReceiptClaims;
use tempfile::TempDir;

const ANN: &str = "+33612345678";
const BOB: &str = "+33698765432";
const ISSUER: &str = "urn:m2key:sms:home";
/// 4.20 EUR.
const PRICE: i64 = 420;
/// What is on each account: 500.00 EUR.
const OPENING: i64 = 50_000;

/// A world with a gateway, and a terminal that has a screen.
struct Texting {
    kannel: Kannel,
    world: World,
    /// What the phones pay from in the ledger.
    accounts: Vec<(&'static str, AccountId)>,
    carrier: Option<Bank>,
    _dir: TempDir,
}

impl Texting {
    /// Both phones pay from an account in the ledger.
    async fn on_the_ledger() -> Self {
        let dir = TempDir::new().unwrap();
        let site = Site::prepare(dir.path(), Pace::Default).await.unwrap();
        let mut texting = Self::build(dir, site, "ledger", None).await;
        let open = |number| {
            let authority = &texting.world.authority;
            let account = authority.open_account(ISSUER, number, OPENING);
            (number, account.unwrap())
        };
        texting.accounts = vec![open(ANN), open(BOB)];
        texting
    }

    /// Nobody has an account here: the carrier, a process of its own, keeps them.
    async fn on_the_invoice() -> Self {
        let dir = TempDir::new().unwrap();
        let site = Site::prepare(dir.path(), Pace::Default).await.unwrap();
        let account = |number: &str| RailAccount {
            reference: number.into(),
            amount: Money::new(OPENING, Currency::EUR).unwrap(),
        };
        let rail = RailConfig {
            authority_keys: site.authority.jwks_url().unwrap(),
            authority_ca: Some(site.authority.root()),
            books: dir.path().join("carrier.jsonl"),
            payment_max_minor: Some(5_000),
            month_max_minor: Some(30_000),
            mishaps: None,
            accounts: vec![account(ANN), account(BOB)],
        };
        let (place, logs) = (dir.path().join("carrier"), dir.path().join("carrier-logs"));
        std::fs::create_dir_all(&logs).unwrap();
        let carrier = Bank::open_with(&place, &logs, "https://pay.example", &[], Some(rail));
        let carrier = carrier.await.unwrap();
        let section = format!(
            "\n[[rails]]\nname = \"carrier\"\nkind = \"invoice\"\nurl = \"{}\"\nca_file = \"{}\"\n",
            carrier.rail_url(),
            carrier.ca().display()
        );
        site.authority.configure(&section).unwrap();
        Self::build(dir, site, "carrier", Some(carrier)).await
    }

    async fn build(dir: TempDir, mut site: Site, rail: &str, carrier: Option<Bank>) -> Self {
        let logs = dir.path().join("logs");
        let mut kannel = Kannel::prepare(&dir.path().join("kannel"), &logs).unwrap();
        site.authority.configure(&kannel.section(rail)).unwrap();
        site.authority.serve().await.unwrap();
        let loopback = site.authority.loopback_url().unwrap();
        kannel
            .start(loopback.trim_start_matches("http://"))
            .await
            .unwrap();
        let mut world = site.settle().unwrap();
        world.add_screen(world.merchant).await.unwrap();
        Self {
            kannel,
            world,
            accounts: Vec::new(),
            carrier,
            _dir: dir,
        }
    }

    /// The till asks for this much; the charge, and the code that the screen shows for it.
    async fn asked_for(&self, minor: i64) -> (ChargeId, String) {
        let terminal = self.world.terminal();
        let charge = terminal
            .till()
            .unwrap()
            .must_start(minor, "sale 1")
            .await
            .unwrap();
        terminal.kiosk().shows("offered").await.unwrap();
        let faces = terminal.kiosk().faces().await.unwrap();
        (charge.charge, faces.code)
    }

    /// A text over the carrier's own link, and the answer: the `count`th SMS in all.
    async fn told(&mut self, from: &str, text: &str, count: usize) -> String {
        self.kannel.text(HOME, from, text).unwrap();
        let told = self.kannel.hears(count).await.unwrap();
        assert_eq!(told.to, from);
        told.text
    }

    /// The receipt of a charge at the till, verified.
    async fn receipt(&self, charge: ChargeId) -> ReceiptClaims {
        let till = self.world.terminal().till().unwrap();
        let receipt = till.paid(charge).await.unwrap();
        let keys = self.world.authority.jwks().await.unwrap();
        let keys = serde_json::from_slice(&keys).unwrap();
        jws::verify::<ReceiptClaims>(&receipt, &keys)
            .unwrap()
            .claims()
            .clone()
    }

    /// The credit that opened the account, asked for again, changes nothing and says what is left.
    fn balance(&self, number: &str) -> i64 {
        let (_, account) = self.accounts.iter().find(|(of, _)| *of == number).unwrap();
        let (account, reference) = (account.to_string(), format!("opening {number}"));
        let opening = OPENING.to_string();
        let credit = [
            "account",
            "credit",
            "--account",
            &account,
            "--reference",
            &reference,
        ];
        let credit = [&credit[..], &["--amount-minor", &opening]].concat();
        let view = self.world.authority.verb(&credit).unwrap();
        view["balance_minor"]
            .as_i64()
            .unwrap_or_else(|| panic!("{view}"))
    }
}

/// The number in an offer.
fn number_in(offer: &str) -> String {
    let digits = |word: &&str| word.len() == 6 && word.bytes().all(|it| it.is_ascii_digit());
    let number = offer.split(' ').find(digits);
    number.unwrap_or_else(|| panic!("{offer}")).to_owned()
}

#[tokio::test]
async fn a_code_from_the_screen_is_texted_answered_replied_to_and_on_the_carriers_invoice() {
    let mut texting = Texting::on_the_invoice().await;
    let (charge, code) = texting.asked_for(PRICE).await;
    let offer = texting.told(ANN, &code, 1).await;
    assert!(offer.contains("Pay 4.20 EUR to Corner Shop?"), "{offer}");
    let paid = texting.told(ANN, &number_in(&offer), 2).await;
    let receipt = texting.receipt(charge).await;
    assert!(paid.contains(&receipt.jti), "{paid}");
    assert_eq!(receipt.rail, "carrier");
    let books = texting.carrier.as_ref().unwrap().books().unwrap();
    assert_eq!(books.balance_minor(ANN), Some(OPENING - PRICE));
    assert_eq!(books.balance_minor(BOB), Some(OPENING));
}

#[tokio::test]
async fn a_code_from_the_screen_is_texted_answered_replied_to_and_paid_from_the_ledger() {
    let mut texting = Texting::on_the_ledger().await;
    let (charge, code) = texting.asked_for(PRICE).await;
    // As the carrier's centre may name the sender; the gateway makes it +33….
    let national = ANN.replace("+33", "0");
    texting
        .kannel
        .text(HOME, &national, &format!("pay {code}"))
        .unwrap();
    let offer = texting.kannel.hears(1).await.unwrap();
    assert_eq!(offer.to, ANN);
    let offer = offer.text;
    assert!(offer.contains("Pay 4.20 EUR to Corner Shop?"), "{offer}");
    let screen = texting
        .world
        .terminal()
        .kiosk()
        .shows("held")
        .await
        .unwrap();
    assert!(
        offer.contains(&format!("Mark {}", screen.mark.unwrap())),
        "{offer}"
    );
    let paid = texting.told(ANN, &number_in(&offer), 2).await;
    let receipt = texting.receipt(charge).await;
    assert!(paid.contains("Paid 4.20 EUR to Corner Shop"), "{paid}");
    assert!(paid.contains(&receipt.jti), "{paid}");
    assert_eq!(texting.balance(ANN), OPENING - PRICE);
    texting
        .world
        .terminal()
        .kiosk()
        .shows("paid")
        .await
        .unwrap();
}

#[tokio::test]
async fn what_comes_twice_is_charged_once() {
    let mut texting = Texting::on_the_ledger().await;
    let (charge, code) = texting.asked_for(PRICE).await;
    // Two messages to the gateway, the same words: as a message centre that repeats itself.
    texting
        .kannel
        .text_to(HOME, ANN, SHORT_NUMBER, &code, 2)
        .unwrap();
    let offer = texting.kannel.hears(1).await.unwrap().text;
    let number = number_in(&offer);
    texting
        .kannel
        .text_to(HOME, ANN, SHORT_NUMBER, &number, 2)
        .unwrap();
    texting.kannel.hears(2).await.unwrap();
    texting.receipt(charge).await;
    // The next answer is the third SMS: nothing was said twice.
    let help = texting.told(ANN, "help", 3).await;
    assert!(help.starts_with("Text the code"), "{help}");
    assert_eq!(texting.balance(ANN), OPENING - PRICE);
}

#[tokio::test]
async fn a_forged_sender_a_foreign_link_and_a_wrong_number_pay_nothing() {
    let mut texting = Texting::on_the_ledger().await;
    let (_, code) = texting.asked_for(PRICE).await;
    // Off-net: neither heard nor answered, and the code is not spent.
    texting.kannel.text(ROAMING, ANN, &code).unwrap();
    texting.kannel.text(HOME, "+447911123456", &code).unwrap();
    // The forger writes as Ann; what is said goes to Ann's phone.
    let offer = texting.told(ANN, &code, 1).await;
    let number = number_in(&offer);
    // From the forger's own phone the number is good for nothing, were it known there.
    let nothing = texting.told(BOB, &number, 2).await;
    assert!(nothing.contains("nothing to approve"), "{nothing}");
    // As Ann, the forger can only guess.
    let wrong = |n: u32| format!("{:06}", (number.parse::<u32>().unwrap() + n) % 1_000_000);
    for n in 1..=3 {
        texting.told(ANN, &wrong(n), 2 + n as usize).await;
    }
    texting
        .world
        .terminal()
        .kiosk()
        .shows("offered")
        .await
        .unwrap();
    let late = texting.told(ANN, &number, 6).await;
    assert!(late.contains("nothing to approve"), "{late}");
    assert_eq!(
        (texting.balance(ANN), texting.balance(BOB)),
        (OPENING, OPENING)
    );
}

#[tokio::test]
async fn gateway_and_authority_go_down_and_come_back_and_the_receipt_still_comes() {
    let mut texting = Texting::on_the_ledger().await;
    let (charge, code) = texting.asked_for(PRICE).await;
    // The authority is away when the text comes: the gateway keeps it.
    texting.world.authority.kill();
    texting.kannel.text(HOME, ANN, &code).unwrap();
    texting.world.authority.serve().await.unwrap();
    let offer = texting.kannel.hears(1).await.unwrap();
    // The gateway is away when the receipt goes: the authority keeps it.
    texting
        .kannel
        .text(HOME, ANN, &number_in(&offer.text))
        .unwrap();
    texting.kannel.kill();
    let loopback = texting.world.authority.loopback_url().unwrap();
    texting
        .kannel
        .start(loopback.trim_start_matches("http://"))
        .await
        .unwrap();
    // Whether the reply was brought before the gateway died is not known here: the shopper asks again.
    texting
        .kannel
        .text(HOME, ANN, &number_in(&offer.text))
        .unwrap();
    texting.receipt(charge).await;
    let paid = harness::wait::until("the receipt by SMS", async || {
        let told = texting.kannel.told().ok()?;
        told.into_iter()
            .find(|it| it.text.contains("Paid 4.20 EUR"))
    });
    assert_eq!(paid.await.unwrap().to, ANN);
    assert_eq!(texting.balance(ANN), OPENING - PRICE);
}

#[tokio::test]
async fn more_than_fifty_euros_is_refused_by_sms() {
    let mut texting = Texting::on_the_ledger().await;
    let (_, code) = texting.asked_for(5_001).await;
    let refused = texting.told(ANN, &code, 1).await;
    assert!(refused.contains("at most 50.00 EUR at a time"), "{refused}");
    texting
        .world
        .terminal()
        .kiosk()
        .shows("offered")
        .await
        .unwrap();
    assert_eq!(texting.balance(ANN), OPENING);
}
