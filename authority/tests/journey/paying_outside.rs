//! Is money that somebody else moves moved once or certainly not, whatever goes wrong, and when?

use std::sync::Arc;

use authority::ids;
use authority::services::operators::{IntentList, IntentShow, carry_out};
use authority::services::payments::DOUBT_MAX_MS;
use authority::services::rails::{Rail, Rails};
use authority::store::{
    Intent, IntentState, Intents, Ledger, Merchants, NewServiceAccount, Reason, ServiceAccounts,
};
use protocol::ids::{AccountId, ClaimId};
use protocol::jws;
use protocol::money::Currency;
use protocol::receipt::ReceiptClaims;
use protocol::token::Channel;
use serde_json::Value;

use crate::fake_rail::{FakeRail, Mishap};
use crate::world::{Answer, MINUTE, Phone, World, eur};

/// Past the time after which an intent is taken up again, and before it is in doubt for too long.
const LATER: i64 = 10_000;
const IBAN: &str = "ann-at-the-bank";

/// A world with a bank as its rail, where ann has 50.00 EUR.
struct Banked {
    world: World,
    bank: Arc<FakeRail>,
    account: AccountId,
}

impl Banked {
    async fn new() -> Self {
        let bank = Arc::new(FakeRail::with_account(IBAN, 5_000));
        let rail: Arc<dyn Rail> = bank.clone();
        let world = World::with_rails(Rails::new([("bank".to_owned(), rail)])).await;
        let brought = world.store.bring_service_account(NewServiceAccount {
            id: ids::fresh(world.now(), AccountId::from_parts),
            person: world.person("ann"),
            rail: "bank".into(),
            reference: IBAN.into(),
            name: "Everyday".into(),
            currency: Currency::EUR,
            at: world.now(),
        });
        let account = brought.await.unwrap().id;
        Self {
            world,
            bank,
            account,
        }
    }

    /// A new process whose configuration has the bank no more.
    async fn without_the_bank(self) -> Self {
        let world = self.world.restart_with(Rails::default()).await;
        Self { world, ..self }
    }

    /// A new process that has it again.
    async fn with_the_bank(self) -> Self {
        let rail: Arc<dyn Rail> = self.bank.clone();
        let rails = Rails::new([("bank".to_owned(), rail)]);
        let world = self.world.restart_with(rails).await;
        Self { world, ..self }
    }

    /// The same database, a new process; the bank has gone on.
    async fn restart(self) -> Self {
        let world = self.world.restart().await;
        Self { world, ..self }
    }

    fn approval(&self, minor: i64) -> Value {
        let mut approval = self.world.approval(minor);
        approval["account"] = serde_json::json!(self.account);
        approval
    }

    async fn approve(&self, phone: &Phone, minor: i64) -> Answer {
        let (token, body) = (self.world.sign_in("ann"), self.approval(minor));
        let cookie = Some(phone.cookie.as_str());
        self.world
            .approve_with(phone, cookie, Some(&token), &body)
            .await
    }

    /// Approves in a task of its own, until the bank hangs in the middle of it.
    async fn approve_until_it_hangs(&self, phone: &Phone, minor: i64) {
        let approving = self.approve(phone, minor);
        tokio::select! {
            answer = approving => panic!("{answer:?}"),
            () = self.bank.hangs() => {}
        }
    }

    async fn reconcile(&self) -> usize {
        let world = &self.world;
        world.journey.reconcile(world.now()).await.unwrap()
    }

    async fn intents(&self, phone: &Phone) -> Vec<Intent> {
        let claim: ClaimId = phone.claim.parse().unwrap();
        self.world.store.intents_of(claim).await.unwrap()
    }

    async fn last_state(&self, phone: &Phone) -> IntentState {
        self.intents(phone).await.last().unwrap().state
    }

    async fn earned(&self) -> i64 {
        let merchants = self.world.store.merchants(None, 9).await.unwrap();
        let store = &self.world.store;
        store.merchant_balance(merchants[0].account).await.unwrap()
    }

    /// Both sides' books: what the bank took is what the merchant has, and ours sum to zero.
    async fn books_agree(&self, minor: i64) {
        assert_eq!(self.bank.balance(IBAN), 5_000 - minor);
        assert_eq!(self.earned().await, minor);
        let report = self.world.store.ledger_report().await.unwrap();
        assert!(report.sums.iter().all(|(_, sum)| *sum == 0), "{report:?}");
        assert!(report.wrong_accounts.is_empty());
        assert_eq!(self.bank.authorised(), 0, "something stays set aside");
        assert!(
            self.world
                .store
                .open_intents(None, 9)
                .await
                .unwrap()
                .is_empty()
        );
    }
}

#[tokio::test]
async fn an_account_at_a_bank_pays_and_the_receipt_names_it() {
    let at = Banked::new().await;
    let phone = at.world.held(420).await;
    let answer = at.approve(&phone, 420).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let receipt = answer.json()["receipt"].as_str().unwrap().to_owned();
    let keyring = at.world.app.keyring();
    let receipt = jws::verify::<ReceiptClaims>(&receipt, keyring.jwks()).unwrap();
    assert_eq!(receipt.claims().rail, "bank");
    assert!(receipt.claims().rail_reference.starts_with("fake-"));
    at.books_agree(420).await;
    let again = at.approve(&phone, 420).await;
    assert_eq!((again.status, &again.body), (200, &answer.body));
    assert_eq!(at.bank.calls("capture"), 1);
    assert_eq!(at.world.balance("ann").await, 5_000);
}

#[tokio::test]
async fn without_a_choice_the_oldest_account_pays() {
    let at = Banked::new().await;
    let phone = at.world.held(420).await;
    assert_eq!(at.world.approve(&phone, "ann", 420).await.status, 200);
    assert_eq!(at.world.balance("ann").await, 4_580);
    assert_eq!(at.bank.calls("authorise"), 0);
    let accounts = at.world.store.service_accounts(at.world.person("ann"));
    let rails: Vec<_> = accounts
        .await
        .unwrap()
        .into_iter()
        .map(|it| it.rail)
        .collect();
    assert_eq!(rails, ["ledger", "bank"]);
}

#[tokio::test]
async fn an_account_of_somebody_else_does_not_pay() {
    let at = Banked::new().await;
    let phone = at.world.held(420).await;
    let (token, body) = (at.world.sign_in("bob"), at.approval(420));
    let cookie = Some(phone.cookie.as_str());
    let answer = at
        .world
        .approve_with(&phone, cookie, Some(&token), &body)
        .await;
    answer.refused(403, "no-account");
    at.books_agree(0).await;
}

#[tokio::test]
async fn a_crash_at_any_point_leaves_a_payment_that_the_next_start_finishes() {
    use Mishap::{HangsAfter, HangsBefore};
    let points = [
        ("authorise", HangsBefore),
        ("authorise", HangsAfter),
        ("capture", HangsBefore),
        ("capture", HangsAfter),
    ];
    for (verb, mishap) in points {
        let at = Banked::new().await;
        at.bank.script(verb, &[mishap]);
        let phone = at.world.held(420).await;
        at.approve_until_it_hangs(&phone, 420).await;
        assert!(
            at.last_state(&phone).await.holds_claim(),
            "{verb} {mishap:?}"
        );
        let at = at.restart().await;
        assert_eq!(
            at.reconcile().await,
            0,
            "taken up before anybody else may be at it"
        );
        at.world.advance(LATER);
        assert_eq!(at.reconcile().await, 1, "{verb} {mishap:?}");
        at.books_agree(420).await;
        assert_eq!(at.bank.captured(), 1);
        let receipts = at.world.journey.resume(at.world.now()).await.unwrap();
        assert_eq!(receipts, 1);
        let answer = at.approve(&phone, 420).await;
        assert_eq!(answer.status, 200, "{verb} {mishap:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_crash_while_it_is_taken_back_leaves_nothing_taken() {
    for mishap in [Mishap::HangsBefore, Mishap::HangsAfter] {
        let at = Banked::new().await;
        at.bank.script("authorise", &[Mishap::Unanswered]);
        at.bank.script("reverse", &[mishap]);
        let phone = at.world.held(420).await;
        assert_eq!(at.approve(&phone, 420).await.status, 202);
        at.world.advance(DOUBT_MAX_MS);
        tokio::select! {
            ended = at.reconcile() => panic!("{ended} ended"),
            () = at.bank.hangs() => {}
        }
        assert_eq!(at.last_state(&phone).await, IntentState::Reversing);
        let at = at.restart().await;
        assert_eq!(at.reconcile().await, 1, "{mishap:?}");
        at.books_agree(0).await;
    }
}

#[tokio::test]
async fn a_lost_answer_is_pending_until_the_rail_has_said_which() {
    for (verb, mishap) in [
        ("authorise", Mishap::Lost),
        ("authorise", Mishap::Unanswered),
        ("capture", Mishap::Lost),
        ("capture", Mishap::Unanswered),
    ] {
        let at = Banked::new().await;
        at.bank.script(verb, &[mishap]);
        at.bank.script("query", &[Mishap::Lost]);
        let phone = at.world.held(420).await;
        let answer = at.approve(&phone, 420).await;
        assert_eq!((answer.status, answer.retry_after), (202, Some(2)));
        assert_eq!(answer.json()["state"], "pending");
        let view = at.world.view(&phone).await.json();
        assert_eq!(
            (&view["state"], &view["paying"]),
            (&"held".into(), &true.into())
        );
        // Asking again asks nobody but us.
        assert_eq!(at.approve(&phone, 420).await.status, 202);
        at.world.advance(LATER);
        assert_eq!(at.reconcile().await, 0, "the query is lost as well");
        at.world.advance(LATER);
        assert_eq!(at.reconcile().await, 1, "{verb} {mishap:?}");
        assert_eq!(at.approve(&phone, 420).await.status, 200);
        at.books_agree(420).await;
        assert_eq!(at.bank.captured(), 1);
    }
}

#[tokio::test]
async fn a_declined_account_is_asked_once_and_another_may_pay() {
    let at = Banked::new().await;
    let phone = at.world.held(5_000).await;
    at.bank.script("authorise", &[Mishap::Declines]);
    let answer = at.approve(&phone, 5_000).await;
    answer.refused(402, "rail-declined");
    at.approve(&phone, 5_000)
        .await
        .refused(402, "rail-declined");
    assert_eq!(at.bank.calls("authorise"), 1);
    let view = at.world.view(&phone).await.json();
    assert_eq!((&view["state"], view.get("paying")), (&"held".into(), None));
    assert_eq!(at.world.approve(&phone, "ann", 5_000).await.status, 200);
    at.bank_took_nothing().await;
}

impl Banked {
    async fn bank_took_nothing(&self) {
        assert_eq!(self.bank.balance(IBAN), 5_000);
        assert_eq!(self.bank.captured() + self.bank.authorised(), 0);
        assert!(
            self.world
                .store
                .open_intents(None, 9)
                .await
                .unwrap()
                .is_empty()
        );
    }
}

#[tokio::test]
async fn a_refused_capture_gives_back_what_was_set_aside() {
    let at = Banked::new().await;
    let phone = at.world.held(420).await;
    at.bank.script("capture", &[Mishap::Declines]);
    at.approve(&phone, 420).await.refused(402, "rail-declined");
    at.bank_took_nothing().await;
    assert_eq!(at.last_state(&phone).await, IntentState::Reversed);
}

#[tokio::test]
async fn a_rail_that_stays_silent_holds_up_neither_shopper_nor_till() {
    for verb in ["authorise", "capture"] {
        let at = Banked::new().await;
        at.bank.script(verb, &[Mishap::Unanswered]);
        at.bank.script("query", &[Mishap::Lost; 9]);
        at.bank.script("reverse", &[Mishap::Lost]);
        let phone = known_phone(&at).await;
        assert_eq!(at.approve(&phone, 420).await.status, 202);
        at.world.advance(DOUBT_MAX_MS);
        assert_eq!(at.reconcile().await, 0);
        let intent = at.intents(&phone).await.remove(0);
        assert_eq!(intent.state, IntentState::Reversing);
        assert_eq!(intent.reason, Some(Reason::Silent));
        // Nobody waits for the reversal: another account pays at once.
        at.approve(&phone, 420).await.refused(504, "rail-silent");
        assert_eq!(at.world.approve(&phone, "ann", 420).await.status, 200);
        at.world.advance(LATER);
        assert_eq!(at.reconcile().await, 1);
        at.bank_took_nothing().await;
        assert_eq!(at.earned().await, 420);
    }
}

#[tokio::test]
async fn what_was_taken_is_paid_however_late_it_is_heard_of() {
    for verb in ["authorise", "capture"] {
        let at = Banked::new().await;
        at.bank.script(verb, &[Mishap::Unanswered]);
        let phone = at.world.held(420).await;
        assert_eq!(at.approve(&phone, 420).await.status, 202);
        if verb == "authorise" {
            // As in a restored copy: the bank has heard of more than we know.
            let intent = at.intents(&phone).await.remove(0);
            let order = authority::services::rails::Order::of(&intent);
            at.bank.capture(&order).await;
        }
        at.world.advance(60 * MINUTE);
        assert_eq!(at.reconcile().await, 1, "{verb}");
        at.books_agree(420).await;
    }
}

/// A claim that is held for minutes, because its shopper is known.
async fn known_phone(at: &Banked) -> Phone {
    at.world.charge(420).await;
    let link = at.world.shown(Channel::Qr).await;
    at.world
        .claimed(&link, Some(&at.world.sign_in("ann")))
        .await
}

#[tokio::test]
async fn what_a_rail_works_on_is_not_released_when_its_time_is_over() {
    let at = Banked::new().await;
    at.bank.script("authorise", &[Mishap::Unanswered]);
    let phone = at.world.held(420).await;
    at.world.advance(MINUTE - 5_000);
    assert_eq!(at.approve(&phone, 420).await.status, 202);
    at.world.advance(LATER);
    assert_eq!(at.world.journey.sweep(at.world.now()).await.unwrap(), 0);
    assert_eq!(at.world.view(&phone).await.json()["state"], "held");
    assert_eq!(at.reconcile().await, 1);
    assert_eq!(at.approve(&phone, 420).await.status, 200);
    at.books_agree(420).await;
}

#[tokio::test]
async fn a_till_that_cancels_stops_a_payment_until_it_is_being_taken() {
    let (authorising, capturing) = ("authorise", "capture");
    for verb in [authorising, capturing] {
        let at = Banked::new().await;
        at.bank.script(verb, &[Mishap::Unanswered]);
        let charge = at.world.charge(420).await.charge;
        let link = at.world.shown(Channel::Qr).await;
        let phone = at.world.claimed(&link, None).await;
        assert_eq!(at.approve(&phone, 420).await.status, 202);
        let (charges, now) = (&at.world.journey.charges, at.world.now());
        let terminal = at.world.terminal;
        let state = charges.cancel(terminal, charge, now).await.unwrap();
        at.world.advance(LATER);
        assert_eq!(at.reconcile().await, 1);
        if verb == authorising {
            at.approve(&phone, 420).await.refused(410, "claim-over");
            at.books_agree(0).await;
        } else {
            assert!(matches!(
                state.stage,
                protocol::wire::push::ChargeStage::Held { .. }
            ));
            assert_eq!(at.approve(&phone, 420).await.status, 200);
            at.books_agree(420).await;
        }
    }
}

#[tokio::test]
async fn a_ban_does_not_lose_what_was_taken() {
    use authority::store::Terminals;
    let at = Banked::new().await;
    at.bank.script("capture", &[Mishap::Unanswered]);
    let phone = at.world.held(420).await;
    assert_eq!(at.approve(&phone, 420).await.status, 202);
    let (terminal, now) = (at.world.terminal, at.world.now());
    let banned = at.world.store.ban_terminal(terminal, "stolen".into(), now);
    banned.await.unwrap();
    at.world.advance(LATER);
    assert_eq!(at.reconcile().await, 1);
    at.books_agree(420).await;
    assert_eq!(at.approve(&phone, 420).await.status, 200);
}

#[tokio::test]
async fn only_who_pays_hears_how_it_goes() {
    let at = Banked::new().await;
    at.bank.script("authorise", &[Mishap::Unanswered]);
    let phone = at.world.held(420).await;
    assert_eq!(at.approve(&phone, 420).await.status, 202);
    at.world
        .approve(&phone, "bob", 420)
        .await
        .refused(410, "claim-over");
    at.approve(&phone, 421).await.refused(409, "amount-differs");
}

#[tokio::test]
async fn approvals_that_race_ask_the_rail_once_and_answer_the_same_bytes() {
    let at = Banked::new().await;
    let phone = at.world.held(420).await;
    let racing: Vec<_> = (0..6).map(|_| at.approve(&phone, 420)).collect();
    let answers = futures_util::future::join_all(racing).await;
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (200, &answers[0].body));
    }
    assert_eq!(
        (at.bank.calls("authorise"), at.bank.calls("capture")),
        (1, 1)
    );
    at.books_agree(420).await;
}

#[tokio::test]
async fn a_rail_that_is_configured_no_more_declines_what_it_was_never_asked() {
    let at = Banked::new().await;
    let Banked { world, account, .. } = at;
    let world = world.restart_with(Rails::default()).await;
    let phone = world.held(420).await;
    let mut body = world.approval(420);
    body["account"] = serde_json::json!(account);
    let token = world.sign_in("ann");
    let cookie = Some(phone.cookie.as_str());
    let answer = world
        .approve_with(&phone, cookie, Some(&token), &body)
        .await;
    answer.refused(402, "rail-declined");
    assert_eq!(world.approve(&phone, "ann", 420).await.status, 200);
}

#[tokio::test]
async fn what_was_asked_for_on_a_rail_that_left_is_never_called_declined_and_frees_the_till() {
    for mishap in [Mishap::HangsBefore, Mishap::HangsAfter] {
        let at = Banked::new().await;
        at.bank.script("authorise", &[mishap]);
        let phone = known_phone(&at).await;
        at.approve_until_it_hangs(&phone, 420).await;
        let at = at.without_the_bank().await;
        at.world.advance(LATER);
        assert_eq!(at.reconcile().await, 0);
        assert_eq!(at.last_state(&phone).await, IntentState::Authorising);
        at.world.advance(DOUBT_MAX_MS);
        assert_eq!(at.reconcile().await, 0, "only the bank can end it");
        let intent = at.intents(&phone).await.remove(0);
        assert_eq!(intent.state, IntentState::Reversing, "{mishap:?}");
        assert_eq!(intent.reason, Some(Reason::Silent));
        assert_eq!(at.world.approve(&phone, "ann", 420).await.status, 200);
        let at = at.with_the_bank().await;
        at.world.advance(LATER);
        assert_eq!(at.reconcile().await, 1);
        at.bank_took_nothing().await;
    }
}

#[tokio::test]
async fn what_is_being_taken_on_a_rail_that_left_waits_until_it_is_there_again() {
    let at = Banked::new().await;
    at.bank.script("capture", &[Mishap::HangsAfter]);
    let phone = at.world.held(420).await;
    at.approve_until_it_hangs(&phone, 420).await;
    let at = at.without_the_bank().await;
    at.world.advance(60 * MINUTE);
    assert_eq!(at.reconcile().await, 0);
    assert_eq!(at.last_state(&phone).await, IntentState::Capturing);
    let at = at.with_the_bank().await;
    at.world.advance(2 * LATER);
    assert_eq!(at.reconcile().await, 1);
    at.books_agree(420).await;
    assert_eq!(at.bank.captured(), 1);
}

#[tokio::test]
async fn after_a_start_a_rail_has_its_full_minute_to_answer() {
    for verb in ["authorise", "capture"] {
        let at = Banked::new().await;
        at.bank.script(verb, &[Mishap::Unanswered]);
        let phone = at.world.held(420).await;
        assert_eq!(at.approve(&phone, 420).await.status, 202);
        at.world.advance(60 * MINUTE);
        let at = at.restart().await;
        at.bank.script("query", &[Mishap::Lost]);
        assert_eq!(at.reconcile().await, 0);
        assert!(at.last_state(&phone).await.holds_claim(), "{verb}");
        at.world.advance(LATER);
        assert_eq!(at.reconcile().await, 1, "{verb}");
        at.books_agree(420).await;
    }
}

#[tokio::test]
async fn an_operator_sees_what_a_rail_owes_an_answer_for_and_what_is_over() {
    let at = Banked::new().await;
    let phone = at.world.held(420).await;
    at.bank.script("authorise", &[Mishap::Lost]);
    assert_eq!(at.approve(&phone, 420).await.status, 202);
    let list = async |rail: Option<&str>, all| {
        let rail = rail.map(str::to_owned);
        let list = IntentList {
            rail,
            all,
            before: None,
        };
        carry_out(&at.world.app, "olga", list).await.unwrap()
    };
    let open = list(None, false).await;
    let intent = at.intents(&phone).await.remove(0);
    let [sum] = &open.open[..] else {
        panic!("{open:?}")
    };
    assert_eq!(
        (sum.rail.as_str(), sum.state.as_str(), sum.count),
        ("bank", "authorising", 1)
    );
    assert!(
        !sum.configured,
        "the configuration of this test names no rail"
    );
    let [shown] = &open.intents[..] else {
        panic!("{open:?}")
    };
    assert_eq!((shown.payment, shown.amount), (intent.payment, eur(420)));
    assert_eq!((shown.tries, shown.since), (1, intent.changed_at));
    assert_eq!(shown.next_at, intent.next_at);
    assert!(!open.more);
    assert!(list(Some("giro"), false).await.intents.is_empty());

    at.world.advance(MINUTE / 4);
    assert_eq!(at.reconcile().await, 1);
    assert!(list(None, false).await.intents.is_empty());
    let over = list(Some("bank"), true).await;
    assert_eq!(over.intents[0].state, "paid");
    assert_eq!(over.intents[0].next_at, None);
    let earlier = IntentList {
        rail: None,
        all: true,
        before: Some(intent.payment),
    };
    let earlier = carry_out(&at.world.app, "olga", earlier).await.unwrap();
    assert!(earlier.intents.is_empty());
    let show = IntentShow {
        payment: intent.payment,
    };
    let shown = carry_out(&at.world.app, "olga", show).await.unwrap();
    assert_eq!(shown.rail_key, intent.key);
    let text = serde_json::to_string(&shown).unwrap();
    assert!(!text.contains(IBAN), "whose account it is stays out of it");
}
