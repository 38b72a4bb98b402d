//! Does money go back only with the PIN, and does a day close with what the ledger says?

use std::sync::Arc;

use authority::ids;
use authority::services::Failure;
use authority::services::operators::{RefundGive, carry_out};
use authority::services::rails::{Rail, Rails};
use authority::services::settlements::{self, file::Form};
use authority::services::{history, pins, refunds};
use authority::store::{
    HistoryOf, Ledger, NewServiceAccount, PIN_TRIES_MAX, Refunds, ServiceAccounts, Settlements,
    Terminals, Terms,
};
use protocol::ids::{AccountId, ChargeId, RefundId, TerminalId};
use protocol::jws;
use protocol::money::Currency;
use protocol::problem::ProblemType;
use protocol::refund::RefundClaims;
use protocol::settlement::SettlementClaims;
use protocol::wire::claims::ApprovalResponse;
use protocol::wire::history::{EntryKind, HistoryEntry, HistoryPage, HistoryQuery};
use protocol::wire::refunds::{Pin, RefundRequest, RefundResponse, RefundStage};
use sha2::{Digest, Sha256};

use crate::fake_rail::{FakeRail, Mishap};
use crate::world::{MINUTE, START, World, eur};

const PIN: &str = "480317";
const DAY: i64 = 24 * 60 * MINUTE;

/// A charge of `minor` that `person` has paid.
async fn sold(world: &World, person: &str, minor: i64) -> (ChargeId, ApprovalResponse) {
    let charge = world.charge(minor).await.charge;
    let link = world.shown(protocol::token::Channel::Qr).await;
    let phone = world.claimed(&link, None).await;
    let paid = world.approve(&phone, person, minor).await;
    assert_eq!(paid.status, 200, "{paid:?}");
    // What comes next is later.
    world.advance(1);
    (charge, serde_json::from_slice(&paid.body).unwrap())
}

async fn set_pin(world: &World) {
    let pin = pins::hash(&world.app, Pin::parse(PIN).unwrap())
        .await
        .unwrap();
    assert!(
        world
            .store
            .set_pin(world.merchant, pin, world.now())
            .await
            .unwrap()
    );
}

fn request(world: &World, charge: ChargeId, minor: i64, pin: &str) -> RefundRequest {
    RefundRequest {
        refund: ids::fresh(world.now(), RefundId::from_parts),
        charge,
        amount: eur(minor),
        reason: Some("wrong size".into()),
        pin: Pin::parse(pin).unwrap(),
    }
}

async fn ask(world: &World, request: &RefundRequest) -> Result<RefundResponse, Failure> {
    ask_at(world, world.terminal, request).await
}

async fn ask_at(
    world: &World,
    terminal: TerminalId,
    request: &RefundRequest,
) -> Result<RefundResponse, Failure> {
    let refunds = &world.journey.refunds;
    refunds
        .by_till(terminal, request.clone(), world.now())
        .await
}

#[track_caller]
fn refused(asked: Result<RefundResponse, Failure>, problem: ProblemType) {
    let found = match &asked {
        Err(Failure::Refused(refused)) => refused.problem_type(),
        other => panic!("{other:?}"),
    };
    assert_eq!(found, Some(problem), "{asked:?}");
}

fn receipt(response: &RefundResponse) -> &str {
    match &response.stage {
        RefundStage::Refunded { receipt, .. } => receipt,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refund_has_a_receipt_of_its_own_and_is_given_once() {
    let world = World::new().await;
    set_pin(&world).await;
    let (charge, paid) = sold(&world, "ann", 420).await;
    let request = request(&world, charge, 120, PIN);
    let given = ask(&world, &request).await.unwrap();
    assert_eq!(world.balance("ann").await, 4_700);
    let ring = world.app.keyring();
    let verified = jws::verify::<RefundClaims>(receipt(&given), ring.jwks()).unwrap();
    let claims = verified.claims();
    assert_eq!((claims.amount, claims.paid), (eur(120), eur(420)));
    assert_eq!((claims.payment, claims.charge), (paid.payment, charge));
    assert_eq!(claims.payment_receipt, paid.receipt_id);
    assert_eq!(claims.terminal, Some(world.terminal));
    assert_eq!(claims.reason.as_deref(), Some("wrong size"));
    assert_eq!(claims.payee.name, "Corner Café");
    assert!(jws::verify::<protocol::receipt::ReceiptClaims>(receipt(&given), ring.jwks()).is_err());
    world.advance(MINUTE);
    assert_eq!(ask(&world, &request).await.unwrap(), given);
    assert_eq!(world.balance("ann").await, 4_700);
}

#[tokio::test]
async fn no_money_goes_back_without_the_pin() {
    let world = World::new().await;
    let (charge, _) = sold(&world, "ann", 420).await;
    refused(
        ask(&world, &request(&world, charge, 420, PIN)).await,
        ProblemType::PinMissing,
    );
    set_pin(&world).await;
    for _ in 0..PIN_TRIES_MAX {
        let wrong = ask(&world, &request(&world, charge, 420, "480318")).await;
        refused(wrong, ProblemType::PinRefused);
    }
    // The right one comes too late now.
    let right = request(&world, charge, 420, PIN);
    refused(ask(&world, &right).await, ProblemType::PinLocked);
    assert_eq!(world.balance("ann").await, 4_580);
    world.advance(15 * MINUTE);
    ask(&world, &right).await.unwrap();
    assert_eq!(world.balance("ann").await, 5_000);
}

#[tokio::test]
async fn a_hundred_guesses_at_once_are_no_more_than_five() {
    let world = World::new().await;
    let (charge, _) = sold(&world, "ann", 420).await;
    set_pin(&world).await;
    let guesses: Vec<_> = (0..40)
        .map(|n| request(&world, charge, 1, &format!("{:06}", 100_000 + n)))
        .collect();
    let all = guesses.iter().map(|guess| ask(&world, guess));
    let answers = futures_util::future::join_all(all).await;
    let compared = answers.iter().filter(|answer| {
        let Err(Failure::Refused(problem)) = answer else {
            panic!("{answer:?}")
        };
        problem.problem_type() == Some(ProblemType::PinRefused)
    });
    assert!(compared.count() <= PIN_TRIES_MAX as usize);
    let terms = world.store.terms(world.merchant).await.unwrap();
    assert!(terms.pin_misses <= PIN_TRIES_MAX, "{terms:?}");
}

#[tokio::test]
async fn refunds_are_refused_in_words_of_their_own() {
    let world = World::new().await;
    set_pin(&world).await;
    let (charge, _) = sold(&world, "ann", 420).await;
    let ask_for = |charge, minor| ask_once(&world, charge, minor);
    refused(ask_for(charge, 421).await, ProblemType::RefundTooMuch);
    let nothing = ids::fresh(world.now(), ChargeId::from_parts);
    refused(ask_for(nothing, 1).await, ProblemType::ChargeUnknown);
    let unpaid = world.charge(100).await.charge;
    refused(ask_for(unpaid, 1).await, ProblemType::ChargeUnpaid);
    let terms = authority::store::NewTerms {
        refund_day_max_minor: Some(100),
        zone: None,
    };
    world
        .store
        .set_terms(world.merchant, terms, world.now())
        .await
        .unwrap();
    refused(ask_for(charge, 101).await, ProblemType::RefundCap);
    let first = request(&world, charge, 60, PIN);
    ask(&world, &first).await.unwrap();
    let mut other = first.clone();
    other.amount = eur(61);
    refused(ask(&world, &other).await, ProblemType::RefundDiffers);
    refused(ask_for(charge, 41).await, ProblemType::RefundCap);
    world.advance(DAY);
    ask_for(charge, 41).await.unwrap();
    world
        .store
        .ban_terminal(world.terminal, "lost".into(), world.now())
        .await
        .unwrap();
    refused(ask_for(charge, 1).await, ProblemType::TerminalRefused);
    assert_eq!(world.balance("ann").await, 4_681);
}

async fn ask_once(world: &World, charge: ChargeId, minor: i64) -> Result<RefundResponse, Failure> {
    ask(world, &request(world, charge, minor, PIN)).await
}

#[tokio::test]
async fn money_given_back_while_the_hsm_was_down_gets_its_receipt() {
    let world = World::new().await;
    set_pin(&world).await;
    let (charge, _) = sold(&world, "ann", 420).await;
    let request = request(&world, charge, 420, PIN);
    world.hsm_fails_once();
    refused(ask(&world, &request).await, ProblemType::Busy);
    assert_eq!(world.balance("ann").await, 5_000);
    let world = world.restart().await;
    assert_eq!(world.journey.resume(world.now()).await.unwrap(), 1);
    assert!(world.store.refund_receipts_due(9).await.unwrap().is_empty());
    let again = ask(&world, &request).await.unwrap();
    let stored = world
        .store
        .refund_of(request.refund)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored.receipt_jws.as_deref(), Some(receipt(&again)));
    assert_eq!(world.balance("ann").await, 5_000);
}

async fn own_history(world: &World, person: &str, query: &str) -> HistoryPage {
    let answer = world
        .get_signed_in(&format!("/v1/history{query}"), person)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn shopper_and_merchant_read_the_same() {
    let world = World::new().await;
    set_pin(&world).await;
    let (charge, _) = sold(&world, "ann", 420).await;
    sold(&world, "ann", 30).await;
    sold(&world, "bob", 7).await;
    ask_once(&world, charge, 20).await.unwrap();
    world
        .get("/v1/history")
        .await
        .refused(401, "sign-in-needed");
    let first = own_history(&world, "ann", "?limit=2").await;
    assert_eq!(first.entries.len(), 2);
    let rest = own_history(&world, "ann", &format!("?cursor={}", first.next.unwrap())).await;
    assert_eq!((rest.entries.len(), rest.next), (1, None));
    let shopper: Vec<HistoryEntry> = first.entries.into_iter().chain(rest.entries).collect();
    let merchants = HistoryOf::Merchant(world.merchant);
    let all = HistoryQuery::default();
    let page = history::page(&world.app, merchants, &all).await.unwrap();
    let mine = shopper[0].pseudonym.clone();
    let shop: Vec<_> = page
        .entries
        .iter()
        .filter(|it| it.pseudonym == mine)
        .cloned()
        .collect();
    assert_eq!(shop, shopper);
    assert_eq!(page.entries.len(), 4);
    assert_eq!(shopper[0].kind, EntryKind::Refund);
    let receipt = history::receipt(&world.app, world.person("ann"), shopper[0].receipt);
    assert!(receipt.await.unwrap().is_some());
    let foreign = history::receipt(&world.app, world.person("bob"), shopper[0].receipt);
    assert_eq!(foreign.await.unwrap(), None);
    let nonsense = world.get_signed_in("/v1/history?cursor=x", "ann").await;
    nonsense.refused(400, "malformed-request");
    let day = history::day(&world.app, world.terminal, world.now())
        .await
        .unwrap();
    assert_eq!((day.totals.credits, day.totals.credit_minor), (3, 457));
    assert_eq!((day.totals.debits, day.totals.debit_minor), (1, 20));
    assert_eq!((day.zone.as_str(), day.day.as_str()), ("UTC", "2026-11-23"));
}

/// The whole file, piece by piece.
async fn file(world: &World, number: u64, form: Form) -> String {
    let settlement = world
        .store
        .settlement(world.merchant, number)
        .await
        .unwrap()
        .unwrap();
    let (mut all, mut after) = (String::new(), None);
    loop {
        let piece = settlements::piece(&world.app, &settlement, form, after);
        let (text, next) = piece.await.unwrap();
        all += &text;
        after = next;
        if after.is_none() {
            return all;
        }
    }
}

fn sha256(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_day_closes_by_itself_when_it_is_over_and_its_file_is_signed() {
    let world = World::new().await;
    set_pin(&world).await;
    let (charge, _) = sold(&world, "ann", 420).await;
    sold(&world, "bob", 30).await;
    ask_once(&world, charge, 20).await.unwrap();
    assert_eq!(world.journey.settle(world.now()).await.unwrap(), 0);
    let midnight = START.ms() / DAY * DAY + DAY;
    world.advance(midnight - world.now().ms() + 5 * MINUTE - 1);
    assert_eq!(world.journey.settle(world.now()).await.unwrap(), 0);
    world.advance(1);
    assert_eq!(world.journey.settle(world.now()).await.unwrap(), 1);
    assert_eq!(world.journey.settle(world.now()).await.unwrap(), 0);
    let closed = world
        .store
        .settlement(world.merchant, 1)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (closed.day.as_str(), closed.to.ms()),
        ("2026-11-23", midnight)
    );
    let ring = world.app.keyring();
    let statement = closed.statement.as_deref().unwrap();
    let verified = jws::verify::<SettlementClaims>(statement, ring.jwks()).unwrap();
    let claims = verified.claims();
    assert_eq!((claims.number, claims.totals.closing_minor), (1, 430));
    let (csv, json) = (
        file(&world, 1, Form::Csv).await,
        file(&world, 1, Form::Json).await,
    );
    assert_eq!(
        (sha256(&csv), sha256(&json)),
        (claims.csv_sha256.clone(), claims.json_sha256.clone())
    );
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    let sum: i64 = read["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let sign = if entry["credit_debit"] == "CRDT" {
                1
            } else {
                -1
            };
            sign * entry["amount_minor"].as_i64().unwrap()
        })
        .sum();
    assert_eq!(
        (sum, read["balances"][1]["amount_minor"].as_i64()),
        (430, Some(430))
    );
    assert_eq!(
        csv.lines()
            .filter(|line| line.starts_with("entry,"))
            .count(),
        3
    );
    assert!(
        csv.lines().all(|line| line.split(',').count() == 19),
        "{csv}"
    );
    // What happens later changes no byte of it.
    ask_once(&world, charge, 30).await.unwrap();
    assert_eq!(sha256(&file(&world, 1, Form::Csv).await), claims.csv_sha256);
    world.advance(1);
    let closed = settlements::close(&world.app, world.merchant, "ann", true, world.now());
    let closed = closed.await.unwrap();
    assert_eq!((closed.len(), closed[0].number), (1, 2));
    assert_eq!(closed[0].totals.closing_minor, 400);
    assert_eq!(closed[0].day, "2026-11-24");
}

#[tokio::test]
async fn the_merchants_own_zone_says_when_its_day_is_over() {
    let world = World::new().await;
    let terms = authority::store::NewTerms {
        zone: Some("Pacific/Auckland".into()),
        refund_day_max_minor: None,
    };
    world
        .store
        .set_terms(world.merchant, terms, world.now())
        .await
        .unwrap();
    sold(&world, "ann", 420).await;
    // 18:42 UTC is 07:42 of the next day there; its midnight is 11:00 UTC.
    world.advance(16 * 60 * MINUTE);
    assert_eq!(world.journey.settle(world.now()).await.unwrap(), 0);
    world.advance(25 * MINUTE);
    assert_eq!(world.journey.settle(world.now()).await.unwrap(), 1);
    let closed = world
        .store
        .settlement(world.merchant, 1)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (closed.day.as_str(), closed.zone.as_str()),
        ("2026-11-24", "Pacific/Auckland")
    );
}

/// A merchant in front of all others whose books hold a time that no calendar has.
fn break_another_merchant(world: &World) {
    let database = rusqlite::Connection::open(world.database()).unwrap();
    let copy = "PRAGMA foreign_keys = OFF;
        CREATE TEMP TABLE one AS SELECT * FROM merchants LIMIT 1;
        UPDATE one SET id = x'00000000000000000000000000000001', account = zeroblob(16);
        INSERT INTO merchants SELECT * FROM one;
        CREATE TEMP TABLE booked AS SELECT * FROM bookings LIMIT 1;
        UPDATE booked SET merchant = x'00000000000000000000000000000001',
            movement = zeroblob(16), booked_at_ms = 9000000000000000;
        INSERT INTO bookings SELECT * FROM booked;";
    database.execute_batch(copy).unwrap();
}

#[tokio::test]
async fn the_books_of_one_merchant_keep_no_other_from_closing_its_day() {
    let world = World::new().await;
    sold(&world, "ann", 420).await;
    break_another_merchant(&world);
    world.advance(2 * DAY);
    let settled = world.journey.settle(world.now()).await;
    assert!(settled.is_err(), "{settled:?}");
    let closed = world.store.settlement(world.merchant, 1).await.unwrap();
    assert_eq!(closed.unwrap().totals.credit_minor, 420);
}

#[tokio::test]
async fn an_operators_refund_needs_no_pin_and_keeps_the_limits() {
    let world = World::new().await;
    let (charge, _) = sold(&world, "ann", 420).await;
    let asked = |minor| refunds::Asked {
        refund: ids::fresh(world.now(), RefundId::from_parts),
        charge,
        amount: eur(minor),
        reason: None,
    };
    let given = refunds::by_operator(&world.app, "olga", asked(400), world.now()).await;
    let given = given.unwrap();
    let ring = world.app.keyring();
    let verified = jws::verify::<RefundClaims>(receipt(&given), ring.jwks()).unwrap();
    assert_eq!(verified.claims().terminal, None);
    let more = refunds::by_operator(&world.app, "olga", asked(21), world.now()).await;
    refused(more, ProblemType::RefundTooMuch);
    assert_eq!(world.balance("ann").await, 4_980);
}

#[tokio::test]
async fn an_operator_who_asks_again_gives_nothing_twice_and_without_an_id_nothing_at_all() {
    let world = World::new().await;
    let (charge, _) = sold(&world, "ann", 420).await;
    let id = ids::fresh(world.now(), RefundId::from_parts);
    let body = serde_json::json!({ "charge": charge, "amount": eur(120), "refund": id });
    // A consented body is read in the same way, and so stands for one refund.
    let give = || async {
        let verb = serde_json::from_value::<RefundGive>(body.clone()).unwrap();
        carry_out(&world.app, "olga", verb).await
    };
    world.hsm_fails_once();
    refused(give().await, ProblemType::Busy);
    let given = give().await.unwrap();
    assert_eq!(given.refund, id);
    world.advance(MINUTE);
    assert_eq!(give().await.unwrap(), given);
    assert_eq!(world.balance("ann").await, 4_700);
    let without = serde_json::json!({ "charge": charge, "amount": eur(120) });
    assert!(serde_json::from_value::<RefundGive>(without).is_err());
}

const ANN_AT_THE_BANK: &str = "ann-at-the-bank";

/// What ann paid from her bank, and the bank.
async fn sold_by_bank(minor: i64) -> (World, Arc<FakeRail>, ChargeId) {
    let bank = Arc::new(FakeRail::with_account(ANN_AT_THE_BANK, 5_000));
    let world = World::with_rails(rails_of(&bank)).await;
    let charge = sold_on(&world, "bank", ANN_AT_THE_BANK, minor).await;
    set_pin(&world).await;
    (world, bank, charge)
}

/// What ann paid from an account of hers on this rail.
async fn sold_on(world: &World, rail: &str, reference: &str, minor: i64) -> ChargeId {
    let brought = world.store.bring_service_account(NewServiceAccount {
        id: ids::fresh(world.now(), AccountId::from_parts),
        person: world.person("ann"),
        rail: rail.into(),
        reference: reference.into(),
        name: "Everyday".into(),
        currency: Currency::EUR,
        at: world.now(),
    });
    let account = brought.await.unwrap().id;
    let charge = world.charge(minor).await.charge;
    let link = world.shown(protocol::token::Channel::Qr).await;
    let phone = world.claimed(&link, None).await;
    let mut approval = world.approval(minor);
    approval["account"] = serde_json::json!(account);
    let (cookie, token) = (phone.cookie.as_str(), world.sign_in("ann"));
    let paid = world
        .approve_with(&phone, Some(cookie), Some(&token), &approval)
        .await;
    assert_eq!(paid.status, 200, "{paid:?}");
    charge
}

#[tokio::test]
async fn a_refund_that_a_rail_does_not_answer_is_asked_for_until_it_does() {
    let (world, bank, charge) = sold_by_bank(420).await;
    assert_eq!(bank.balance(ANN_AT_THE_BANK), 4_580);
    // Carried out, and the answer lost; then it never arrives.
    bank.script("refund", &[Mishap::Unanswered, Mishap::Lost]);
    let request = request(&world, charge, 400, PIN);
    let asked = ask(&world, &request).await.unwrap();
    assert_eq!(asked.stage, RefundStage::Asked);
    // It counts already.
    refused(
        ask_once(&world, charge, 21).await,
        ProblemType::RefundTooMuch,
    );
    world.advance(MINUTE);
    assert_eq!(
        world.journey.refunds.reconcile(world.now()).await.unwrap(),
        0
    );
    let world = world.restart_with(rails_of(&bank)).await;
    world.advance(MINUTE);
    assert_eq!(
        world.journey.refunds.reconcile(world.now()).await.unwrap(),
        1
    );
    assert_eq!(bank.balance(ANN_AT_THE_BANK), 4_980, "given back once");
    let given = ask(&world, &request).await.unwrap();
    let ring = world.app.keyring();
    let verified = jws::verify::<RefundClaims>(receipt(&given), ring.jwks()).unwrap();
    assert_eq!(verified.claims().rail, "bank");
    let report = world.store.ledger_report().await.unwrap();
    assert!(report.sums.iter().all(|(_, sum)| *sum == 0), "{report:?}");
    assert_eq!(world.balance("ann").await, 5_000, "not to the ledger");
    world.advance(DAY);
    assert_eq!(world.journey.settle(world.now()).await.unwrap(), 1);
    let closed = world
        .store
        .settlement(world.merchant, 1)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (closed.totals.closing_minor, closed.rails[0].rail.as_str()),
        (20, "bank")
    );
}

#[tokio::test]
async fn a_refund_that_a_rail_declines_moves_nothing_and_counts_for_nothing() {
    let (world, bank, charge) = sold_by_bank(420).await;
    bank.script("refund", &[Mishap::Declines]);
    let request = request(&world, charge, 420, PIN);
    let declined = ask(&world, &request).await.unwrap();
    assert!(
        matches!(declined.stage, RefundStage::Declined { .. }),
        "{declined:?}"
    );
    assert_eq!(ask(&world, &request).await.unwrap(), declined);
    assert_eq!(bank.balance(ANN_AT_THE_BANK), 4_580);
    ask_once(&world, charge, 420).await.unwrap();
    assert_eq!(bank.balance(ANN_AT_THE_BANK), 5_000);
}

/// A round that has not come by then does not come.
const HANGS: std::time::Duration = std::time::Duration::from_secs(20);
/// More than one round takes up.
const MANY: usize = 70;

#[tokio::test]
async fn a_rail_that_is_silent_holds_up_no_refund_of_another() {
    let bank = Arc::new(FakeRail::with_account(ANN_AT_THE_BANK, 50_000));
    let giro = Arc::new(FakeRail::with_account("ann-at-the-giro", 5_000));
    let rails: [(String, Arc<dyn Rail>); 2] =
        [("bank".into(), bank.clone()), ("giro".into(), giro.clone())];
    let world = World::with_rails(Rails::new(rails)).await;
    let ask = async |charge, minor| {
        let asked = refunds::Asked {
            refund: ids::fresh(world.now(), RefundId::from_parts),
            charge,
            amount: eur(minor),
            reason: None,
        };
        let given = refunds::by_operator(&world.app, "olga", asked, world.now()).await;
        assert_eq!(given.unwrap().stage, RefundStage::Asked);
    };
    let charge = sold_on(&world, "bank", ANN_AT_THE_BANK, 420).await;
    for _ in 0..MANY {
        ask(charge, 1).await;
    }
    world.advance(1);
    let charge = sold_on(&world, "giro", "ann-at-the-giro", 420).await;
    ask(charge, 20).await;
    bank.script("refund", &[Mishap::HangsBefore; MANY]);
    let running = tokio::spawn(world.journey.clone().run());
    let asked = async || {
        let asked = tokio::time::timeout(HANGS, giro.refunded()).await;
        asked.expect("the giro is not asked while the bank hangs");
    };
    bank.hangs().await;
    asked().await;
    // And what is asked for while the bank still hangs.
    ask(charge, 30).await;
    asked().await;
    assert_eq!(giro.balance("ann-at-the-giro"), 5_000 - 420 + 50);
    assert_eq!(bank.balance(ANN_AT_THE_BANK), 50_000 - 420);
    running.abort();
}

#[tokio::test]
async fn a_refund_on_a_rail_that_left_the_configuration_waits_until_it_is_back() {
    let (world, bank, charge) = sold_by_bank(420).await;
    bank.script("refund", &[Mishap::Lost]);
    ask_once(&world, charge, 400).await.unwrap();
    let world = world.restart_with(Rails::default()).await;
    world.advance(MINUTE);
    let reconciled = world.journey.refunds.reconcile(world.now()).await;
    assert_eq!(reconciled.unwrap(), 0);
    let tries = world.rows("SELECT tries FROM refunds");
    assert_eq!(tries, 2, "it was looked at, and waits longer");
    let world = world.restart_with(rails_of(&bank)).await;
    world.advance(MINUTE);
    let reconciled = world.journey.refunds.reconcile(world.now()).await;
    assert_eq!(reconciled.unwrap(), 1);
    assert_eq!(bank.balance(ANN_AT_THE_BANK), 4_980);
}

fn rails_of(bank: &Arc<FakeRail>) -> Rails {
    let rail: Arc<dyn Rail> = bank.clone();
    Rails::new([("bank".to_owned(), rail)])
}
