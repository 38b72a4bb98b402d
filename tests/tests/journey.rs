//! Does one token's journey hold, from the seed to the receipt, also when parts of it die on the way?
//!
//! Every test has a whole world of its own: HSM, authority, bank, pcscd, reader, tag, agent.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "journey/enrolling.rs"]
mod enrolling;
#[path = "../../authority/tests/journey/fake_rail.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "its mishaps are for the authority's own tests"
)]
mod fake_rail;
#[path = "journey/killing.rs"]
mod killing;
#[path = "journey/load.rs"]
mod load;
#[path = "journey/rail_suite.rs"]
mod rail_suite;
#[path = "journey/rails.rs"]
mod rails;
#[path = "journey/refunding.rs"]
mod refunding;
#[path = "journey/restoring.rs"]
mod restoring;
#[path = "journey/signing.rs"]
mod signing;
#[path = "journey/tapping.rs"]
mod tapping;

use harness::World;
use harness::pcsc::VirtualNtag424;
use harness::terminal::Terminal;
use protocol::charge::ChargeKind;
use protocol::derive::EpochKey;
use protocol::ids::TerminalId;
use protocol::jwk::JwkSet;
use protocol::jws::{self, Verified};
use protocol::presented::Presented;
use protocol::problem::{Problem, ProblemType};
use protocol::receipt::ReceiptClaims;
use protocol::schedule::{self, Schedule, ScheduleClaims};
use protocol::token::Channel;
use protocol::window::{EpochClock, WindowPlan};
use protocol::wire::claims::ClaimState;
use protocol::wire::push::ChargeState;
use protocol::wire::schedules::{EpochKeyEntry, ScheduleResponse};

/// 4.20 EUR.
const PRICE: i64 = 420;
/// Turns that a window may have reached in a test: one spend of each channel, and a few charges.
const TURNS: u16 = 16;

#[tokio::test]
async fn one_token_travels_from_its_seed_to_a_receipt() {
    // 1 · Seed: made in the HSM when the operator added the terminal; outside it is a sealed block.
    let world = World::new().await.unwrap();
    let terminal = world.terminal();
    let till = terminal.till().unwrap();
    till.must_start(PRICE, "sale 1").await.unwrap();
    terminal.kiosk().shows("offered").await.unwrap();

    // 2 · Epoch keys: one an hour, which the terminal gets over mutual TLS.
    let issued = terminal.schedule().await.unwrap();

    // 4 · Schedule: signed, for this terminal, and with a check value for every key beside it.
    let keys = published_keys(&world).await;
    let schedule = accepted(&issued, &keys, terminal.id());
    let checks = &schedule.claims().epochs;
    assert_eq!(checks.len(), issued.epoch_keys.len());
    let fits = |(entry, check): (&EpochKeyEntry, &schedule::EpochCheck)| check.fits(&entry.key);
    assert!(issued.epoch_keys.iter().zip(checks).all(fits));

    // 3, 5 · Windows and tokens: tag, screen and code show what follows from an epoch key.
    let phone = world.signed_in_phone("shopper-one").await.unwrap();
    let link = phone.tap(terminal).await.unwrap();
    let faces = terminal.kiosk().faces().await.unwrap();
    let shown = [
        (Channel::Nfc, &link),
        (Channel::Qr, &faces.link),
        (Channel::Code, &faces.code),
    ];
    for (channel, text) in shown {
        assert!(follows(&issued, &schedule, channel, text), "{channel}");
    }

    // 6 · Claim: the token is spent, and this phone holds the charge.
    let claim = phone.must_claim(&link).await.unwrap();
    assert_eq!(claim.view.channel, Channel::Nfc);
    assert_eq!(claim.view.kind, ChargeKind::Till);
    assert_eq!(claim.view.amount.unwrap().to_string(), "4.20 EUR");
    let screen = terminal.kiosk().shows("held").await.unwrap();
    assert_eq!(screen.mark, Some(claim.view.mark.to_string()));

    // 7 · Approval: amount and payee as the shopper saw them.
    let approved = phone.must_approve(&claim).await.unwrap();

    // 8 · Receipt: the same for phone and till, and it says what was agreed.
    let receipt = verified(&approved.response.receipt, &keys);
    let claims = receipt.claims();
    assert_eq!(Some(claims.amount), claim.view.amount);
    assert_eq!(claims.payee, claim.view.payee);
    assert_eq!(claims.mark, claim.view.mark);
    assert_eq!(claims.terminal, terminal.id());
    let at_till = till.paid(claims.charge).await.unwrap();
    assert_eq!(at_till, approved.response.receipt);
    let screen = terminal.kiosk().shows("paid").await.unwrap();
    assert_eq!(screen.mark, Some(claims.mark.to_string()));
}

#[tokio::test]
async fn a_tag_that_only_its_terminal_can_write_pays() {
    let mut world = World::new().await.unwrap();
    let personalise = ["personalise", "--new-keys", "tag.keys"];
    let refused = world.terminal().tag_verb(&personalise).err().unwrap();
    assert!(refused.to_string().contains("stop it"), "{refused}");
    let terminal = world.terminal_mut();
    terminal.kill_agent();
    terminal.replace_tag(VirtualNtag424::new(7)).unwrap();
    terminal.tag_verb(&personalise).unwrap();
    terminal.run().await.unwrap();
    let terminal = world.terminal();
    offer(&world).await;
    let phone = world.signed_in_phone("shopper-one").await.unwrap();
    let link = phone.tap(terminal).await.unwrap();
    let claim = phone.must_claim(&link).await.unwrap();
    assert_eq!(claim.view.channel, Channel::Nfc);
    phone.must_approve(&claim).await.unwrap();
    let next = phone.tap_other_than(terminal, &link).await.unwrap();
    assert_ne!(next, link);
}

#[tokio::test]
async fn a_scanned_token_pays_without_signing_in_before_the_claim() {
    let world = World::new().await.unwrap();
    let charge = offer(&world).await;
    let mut phone = world.phone("shopper-one").unwrap();
    let link = phone.scan(world.terminal()).await.unwrap();
    let claim = phone.must_claim(&link).await.unwrap();
    assert_eq!(claim.view.channel, Channel::Qr);
    assert_refused(
        phone.approve(&claim).await.unwrap().err(),
        ProblemType::SignInNeeded,
    );
    phone.sign_in(&world.bank).await.unwrap();
    phone.must_approve(&claim).await.unwrap();
    let till = world.terminal().till().unwrap();
    till.paid(charge.charge).await.unwrap();
}

#[tokio::test]
async fn a_typed_code_pays_for_a_signed_in_shopper_only() {
    let world = World::new().await.unwrap();
    offer(&world).await;
    let mut phone = world.phone("shopper-one").unwrap();
    let code = phone.read_code(world.terminal()).await.unwrap();
    assert_refused(
        phone.claim(&code).await.unwrap().err(),
        ProblemType::SignInNeeded,
    );
    phone.sign_in(&world.bank).await.unwrap();
    // As people type: blanks for hyphens, and the letter for the digit.
    let typed = code.replace('-', " ").replace('0', "O");
    let claim = phone.must_claim(&typed).await.unwrap();
    assert_eq!(claim.view.channel, Channel::Code);
    phone.must_approve(&claim).await.unwrap();
}

#[tokio::test]
async fn a_token_pays_once_and_only_for_the_phone_that_claimed_it() {
    let world = World::new().await.unwrap();
    offer(&world).await;
    let phone = world.signed_in_phone("shopper-one").await.unwrap();
    let stranger = world.signed_in_phone("shopper-two").await.unwrap();
    let link = phone.tap(world.terminal()).await.unwrap();
    let claim = phone.must_claim(&link).await.unwrap();
    for thief in [&phone, &stranger] {
        let refused = thief.claim(&link).await.unwrap().err();
        assert_refused(refused, ProblemType::TokenSpent);
    }
    let stolen = claim.without_cookie();
    let refused = stranger.approve(&stolen).await.unwrap().err();
    assert_refused(refused, ProblemType::ClaimUnknown);
    phone.must_approve(&claim).await.unwrap();
}

#[tokio::test]
async fn an_authority_killed_between_claim_and_approval_pays_once_with_one_receipt() {
    let mut world = World::new().await.unwrap();
    offer(&world).await;
    let phone = world.signed_in_phone("shopper-one").await.unwrap();
    let link = phone.tap(world.terminal()).await.unwrap();
    let claim = phone.must_claim(&link).await.unwrap();

    world.authority.kill();
    assert!(phone.approve(&claim).await.is_err(), "nobody is there");
    world.authority.serve().await.unwrap();
    let first = phone.must_approve(&claim).await.unwrap();

    world.authority.kill();
    world.authority.serve().await.unwrap();
    let again = phone.must_approve(&claim).await.unwrap();
    assert_eq!(again.bytes, first.bytes);
    let refused = phone.claim(&link).await.unwrap().err();
    assert_refused(refused, ProblemType::TokenSpent);
    let view = phone.look(&claim).await.unwrap().unwrap();
    assert_eq!(view.state, ClaimState::Paid);
    let books = world.authority.verb(&["account", "check"]).unwrap();
    assert_eq!(books["balanced"], true);
    let audit = world.authority.verb(&["audit", "verify"]).unwrap();
    assert_eq!(audit["holds"], true);
}

#[tokio::test]
async fn an_agent_killed_while_a_charge_is_on_offer_comes_back_with_it() {
    let mut world = World::new().await.unwrap();
    let charge = offer(&world).await;
    world.terminal_mut().kill_agent();
    world.terminal_mut().run().await.unwrap();
    world.terminal().kiosk().shows("offered").await.unwrap();
    let phone = world.signed_in_phone("shopper-one").await.unwrap();
    let link = phone.scan(world.terminal()).await.unwrap();
    let claim = phone.must_claim(&link).await.unwrap();
    phone.must_approve(&claim).await.unwrap();
    let till = world.terminal().till().unwrap();
    till.paid(charge.charge).await.unwrap();
}

#[tokio::test]
async fn a_banned_terminals_token_is_refused_although_it_is_still_on_the_tag() {
    let world = World::new().await.unwrap();
    offer(&world).await;
    let phone = world.signed_in_phone("shopper-one").await.unwrap();
    let link = phone.tap(world.terminal()).await.unwrap();
    let id = world.terminal().id().to_string();
    let ban = ["terminal", "ban", &id, "--reason", "stolen"];
    world.authority.verb(&ban).unwrap();
    let refused = phone.claim(&link).await.unwrap().err();
    assert_refused(refused, ProblemType::TerminalRefused);
}

/// The till asks for 4.20 EUR, and the screen shows it.
async fn offer(world: &World) -> ChargeState {
    let terminal: &Terminal = world.terminal();
    let till = terminal.till().unwrap();
    let charge = till.must_start(PRICE, "sale 1").await.unwrap();
    terminal.kiosk().shows("offered").await.unwrap();
    charge
}

async fn published_keys(world: &World) -> JwkSet {
    serde_json::from_slice(&world.authority.jwks().await.unwrap()).unwrap()
}

fn verified(receipt: &str, keys: &JwkSet) -> Verified<ReceiptClaims> {
    jws::verify(receipt, keys).unwrap()
}

fn accepted(issued: &ScheduleResponse, keys: &JwkSet, terminal: TerminalId) -> Schedule {
    let signed = jws::verify::<ScheduleClaims>(&issued.schedule, keys).unwrap();
    schedule::accept(signed, terminal, None).unwrap()
}

/// Whether `text` is a token of one of the epochs, in one of its windows.
fn follows(issued: &ScheduleResponse, schedule: &Schedule, channel: Channel, text: &str) -> bool {
    let presented = Presented::parse(text).unwrap();
    let clock = EpochClock::of(presented.terminal());
    issued.epoch_keys.iter().any(|entry| {
        let plan = WindowPlan::draw(&entry.key, schedule.policy(), channel, &clock, entry.epoch);
        plan.windows().iter().any(|window| {
            (0..TURNS).any(|turn| is(&presented, &entry.key, channel, window.index, turn))
        })
    })
}

fn is(presented: &Presented, key: &EpochKey, channel: Channel, window: u16, turn: u16) -> bool {
    match presented {
        Presented::Machine { token, .. } => key.token(channel, window, turn).matches(token),
        Presented::Signed(link) => key.token(channel, window, turn).matches(link.token()),
        Presented::Typed(code) => code.matches(key.code(window, turn)),
    }
}

#[track_caller]
fn assert_refused(refused: Option<Problem>, expected: ProblemType) {
    let problem = refused.expect("it must be refused");
    assert_eq!(problem.problem_type(), Some(expected), "{problem:?}");
}
