//! Does a phone that only texts pay once, what it was told, and nobody for it?

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use authority::services::rails::{Answer, Order, Rail, Rails, Reason, Refund, Standing};
use authority::store::{Caps, Intents, ServiceAccounts, Texts, Tokens};
use base64ct::{Base64UrlUnpadded, Encoding};
use protocol::token::Channel;
use protocol::wire::push::ChargeStage;
use serde_json::Value;

use crate::phones::{ANN, BOB, SECRET, SHORT, Texting, number_in, person};
use crate::world::{MINUTE, More, World, eur};

/// A till's charge, and the code that the screen shows for it.
async fn asked_for(world: &World, minor: i64) -> String {
    world.charge(minor).await;
    world.shown(Channel::Code).await
}

/// The till's charge as its terminal is told.
async fn stage(world: &World) -> ChargeStage {
    let state = world.store.push_state(world.terminal, 0).await.unwrap();
    state.unwrap().charge.unwrap().stage
}

#[tokio::test]
async fn a_code_is_answered_with_payee_amount_and_a_number_and_the_reply_pays() {
    let texting = Texting::new().await;
    let code = asked_for(&texting.world, 420).await;
    let offer = texting.told(ANN, &code).await;
    assert!(offer.contains("Pay 4.20 EUR to Corner Café?"), "{offer}");
    let ChargeStage::Held { mark, .. } = stage(&texting.world).await else {
        panic!("not held");
    };
    assert!(offer.contains(&format!("Mark {mark}.")), "{offer}");
    assert_eq!(texting.balance(ANN).await, 50_000);

    let paid = texting.told(ANN, &number_in(&offer)).await;
    assert!(paid.contains("Paid 4.20 EUR to Corner Café"), "{paid}");
    assert_eq!(texting.balance(ANN).await, 49_580);
    let ChargeStage::Paid { receipt, .. } = stage(&texting.world).await else {
        panic!("not paid");
    };
    let claims = receipt.split('.').nth(1).unwrap();
    let claims: Value =
        serde_json::from_slice(&Base64UrlUnpadded::decode_vec(claims).unwrap()).unwrap();
    assert!(
        paid.contains(claims["jti"].as_str().unwrap()),
        "{paid}: {claims}"
    );
    assert!(texting.work().await.is_empty(), "and that is all");
}

#[tokio::test]
async fn an_open_charge_is_paid_as_texted_or_as_asked() {
    let open = |merchant| authority::store::Merchant {
        open_cap: Some(eur(10_000)),
        ..merchant
    };
    let texting = Texting::with("ledger", More::default(), open).await;
    let code = texting.world.shown(Channel::Code).await;
    let offer = texting.told(ANN, &format!("4,20 {code}")).await;
    assert!(offer.contains("4.20 EUR"), "{offer}");
    texting.told(ANN, &number_in(&offer)).await;
    assert_eq!(texting.balance(ANN).await, 49_580);

    let code = texting.world.shown(Channel::Code).await;
    let question = texting.told(ANN, &code).await;
    assert!(
        question.contains("How much") && question.contains("50.00 EUR"),
        "{question}"
    );
    // The code once more, with the amount, is an answer as good as the amount.
    let offer = texting.told(ANN, &format!("{code} 5€")).await;
    texting.told(ANN, &number_in(&offer)).await;
    assert_eq!(texting.balance(ANN).await, 49_080);
}

#[tokio::test]
async fn an_amount_that_the_till_does_not_ask_for_is_refused() {
    let texting = Texting::new().await;
    let code = asked_for(&texting.world, 420).await;
    let refused = texting.told(ANN, &format!("{code} 4,00")).await;
    assert!(refused.contains("4.20 EUR is asked for"), "{refused}");
    assert!(matches!(
        stage(&texting.world).await,
        ChargeStage::Offered { .. }
    ));
    let code = texting.world.shown(Channel::Code).await;
    let refused = texting.told(ANN, &format!("{code} 4,20 USD")).await;
    assert!(refused.contains("4.20 EUR is asked for"), "{refused}");
    let code = texting.world.shown(Channel::Code).await;
    let offer = texting.told(ANN, &format!("{code} 4,20")).await;
    assert!(offer.contains("Pay 4.20 EUR"), "{offer}");
}

#[tokio::test]
async fn without_the_number_nothing_is_paid_and_after_three_wrong_ones_it_is_over() {
    let texting = Texting::new().await;
    let code = asked_for(&texting.world, 420).await;
    let offer = texting.told(ANN, &code).await;
    let right = number_in(&offer);
    let wrong = |n: u32| format!("{:06}", (right.parse::<u32>().unwrap() + n) % 1_000_000);
    for text in ["yes", "ok", "4,20"] {
        texting.say(ANN, text).await;
    }
    assert!(texting.told(ANN, &wrong(1)).await.contains("2 more tries"));
    assert!(texting.told(ANN, &wrong(2)).await.contains("One more try"));
    let over = texting.told(ANN, &wrong(3)).await;
    assert!(over.contains("Nothing was paid"), "{over}");
    assert!(matches!(
        stage(&texting.world).await,
        ChargeStage::Offered { .. }
    ));
    let late = texting.told(ANN, &right).await;
    assert!(late.contains("nothing to approve"), "{late}");
    assert_eq!(texting.balance(ANN).await, 50_000);
}

#[tokio::test]
async fn who_forges_a_sender_never_sees_the_number_and_pays_nothing() {
    let texting = Texting::new().await;
    // At the till, the forger texts the code as if from Ann's phone.
    let code = asked_for(&texting.world, 420).await;
    let sent = texting.say(ANN, &code).await;
    assert!(sent.iter().all(|it| it.to == ANN), "{sent:?}");
    let right = number_in(&sent[0].text);
    // The number is good for no other phone, not even one that has an offer of its own.
    let other = texting.told(BOB, &right).await;
    assert!(other.contains("nothing to approve"), "{other}");
    // And Ann ends it.
    assert_eq!(texting.told(ANN, "NO").await, "Nothing was paid.");
    let late = texting.told(ANN, &right).await;
    assert!(late.contains("nothing to approve"), "{late}");
    assert_eq!(
        (texting.balance(ANN).await, texting.balance(BOB).await),
        (50_000, 50_000)
    );
}

#[tokio::test]
async fn after_nine_wrong_numbers_in_a_day_a_phone_is_offered_nothing() {
    let texting = Texting::new().await;
    for _ in 0..3 {
        let code = asked_for(&texting.world, 420).await;
        let right = number_in(&texting.told(ANN, &code).await);
        for n in 1..4 {
            let wrong = (right.parse::<u32>().unwrap() + n) % 1_000_000;
            texting.say(ANN, &format!("{wrong:06}")).await;
        }
        texting.world.advance(61 * MINUTE);
        texting
            .world
            .journey
            .sweep(texting.world.now())
            .await
            .unwrap();
    }
    let code = asked_for(&texting.world, 420).await;
    let locked = texting.told(ANN, &code).await;
    assert!(locked.contains("tomorrow"), "{locked}");
    assert!(
        texting.told(BOB, &code).await.contains("Pay 4.20"),
        "nothing was spent"
    );
    texting.world.advance(24 * 60 * MINUTE);
    texting
        .world
        .journey
        .sweep(texting.world.now())
        .await
        .unwrap();
    let code = asked_for(&texting.world, 420).await;
    assert!(texting.told(ANN, &code).await.contains("Pay 4.20"));
}

#[tokio::test]
async fn what_the_gateway_delivers_twice_is_charged_and_told_once() {
    let texting = Texting::new().await;
    let code = asked_for(&texting.world, 420).await;
    for id in ["a", "a", "b"] {
        assert_eq!(texting.bring(id, "home", ANN, SHORT, &code).await, 200);
    }
    let sent = texting.work().await;
    assert_eq!(sent.len(), 1, "{sent:?}");
    let number = number_in(&sent[0].text);
    for id in ["c", "c", "d"] {
        texting.bring(id, "home", ANN, SHORT, &number).await;
    }
    let sent = texting.work().await;
    assert_eq!(sent.len(), 1, "{sent:?}");
    // Much later, when the words count again, the id still does not.
    texting.world.advance(10 * MINUTE);
    texting.bring("c", "home", ANN, SHORT, &number).await;
    assert!(texting.work().await.is_empty());
    assert_eq!(texting.balance(ANN).await, 49_580);
}

#[tokio::test]
async fn a_shopper_who_heard_nothing_may_text_the_code_again() {
    let texting = Texting::new().await;
    let code = asked_for(&texting.world, 420).await;
    let first = texting.told(ANN, &code).await;
    texting.world.advance(MINUTE);
    let second = texting.told(ANN, &code.replace('-', " ")).await;
    assert_eq!(number_in(&second), number_in(&first));
    texting.told(ANN, &number_in(&second)).await;
    assert_eq!(texting.balance(ANN).await, 49_580);
}

#[tokio::test]
async fn only_the_carriers_own_phones_are_heard() {
    let texting = Texting::new().await;
    let code = asked_for(&texting.world, 420).await;
    for (link, from, to) in [
        ("roaming", ANN, SHORT),
        ("home", "+33712345678", SHORT),
        ("home", "+447911123456", SHORT),
        ("home", "MyBank", SHORT),
        ("home", "12345", SHORT),
        ("home", "0612345678", SHORT),
        ("home", ANN, "54321"),
    ] {
        assert_eq!(texting.bring("x", link, from, to, &code).await, 200);
        assert!(texting.work().await.is_empty(), "{link} {from} {to}");
    }
    for wrong in ["", "0123456789abcdef0123456789abcdee", &SECRET[1..]] {
        assert_eq!(
            texting
                .bring_with(wrong, "y", "home", ANN, SHORT, &code)
                .await,
            401
        );
    }
    assert!(texting.work().await.is_empty());
    // The code was not spent by any of them.
    assert!(texting.told(ANN, &code).await.contains("Pay 4.20"));
}

#[tokio::test]
async fn wrong_codes_of_a_phone_are_limited_before_any_look() {
    let texting = Texting::new().await;
    let code = asked_for(&texting.world, 420).await;
    let terminal = texting.world.terminal;
    for n in 0..5 {
        let guess = protocol::code::TypedCode::new(terminal, n).shown();
        assert_ne!(guess, code);
        let answer = texting.told(ANN, &guess).await;
        assert!(answer.contains("another code"), "{answer}");
    }
    let limited = texting.told(ANN, &code).await;
    assert!(limited.contains("wait 15 minutes"), "{limited}");
    assert!(texting.told(BOB, &code).await.contains("Pay 4.20"));
}

#[tokio::test]
async fn fifty_euros_at_a_time_and_three_hundred_a_month() {
    let texting = Texting::new().await;
    let code = asked_for(&texting.world, 5_001).await;
    let refused = texting.told(ANN, &code).await;
    assert!(refused.contains("at most 50.00 EUR at a time"), "{refused}");
    let world = &texting.world;
    let charge = world
        .store
        .push_state(world.terminal, 0)
        .await
        .unwrap()
        .unwrap()
        .charge;
    let charge = charge.unwrap().charge;
    world
        .journey
        .charges
        .cancel(world.terminal, charge, world.now())
        .await
        .unwrap();
    for _ in 0..6 {
        let code = asked_for(world, 5_000).await;
        let offer = texting.told(ANN, &code).await;
        let paid = texting.told(ANN, &number_in(&offer)).await;
        assert!(paid.contains("Paid 50.00"), "{paid}");
        // A new window, and an hour in which one may write again.
        world.advance(11 * MINUTE);
    }
    let code = asked_for(world, 1).await;
    let offer = texting.told(ANN, &code).await;
    let refused = texting.told(ANN, &number_in(&offer)).await;
    assert!(refused.contains("at most 300.00 EUR a month"), "{refused}");
    assert_eq!(texting.balance(ANN).await, 20_000);
    // Another phone has its own month, and so has December.
    let code = world.shown(Channel::Code).await;
    assert!(texting.told(BOB, &code).await.contains("Pay 0.01"));
    texting.told(BOB, "NO").await;
    world.advance(8 * 24 * 60 * MINUTE);
    let code = asked_for(world, 1).await;
    let offer = texting.told(ANN, &code).await;
    assert!(
        texting
            .told(ANN, &number_in(&offer))
            .await
            .contains("Paid 0.01")
    );
}

#[tokio::test]
async fn a_gateway_that_is_down_loses_nothing() {
    let texting = Texting::new().await;
    let code = asked_for(&texting.world, 420).await;
    texting.gateway.answers(503);
    assert!(texting.say(ANN, &code).await.is_empty());
    assert_eq!(texting.gateway.asked(), 1, "not again before its time");
    texting.gateway.answers(202);
    assert!(texting.work().await.is_empty());
    texting.world.advance(1_000);
    let offer = &texting.work().await[0].text;
    // Its password is not ours any more: an operator's business, and no reason to lose a receipt.
    texting.gateway.answers(403);
    assert!(texting.say(ANN, &number_in(offer)).await.is_empty());
    assert_eq!(texting.balance(ANN).await, 49_580);
    let texting = texting.restart().await;
    texting.gateway.answers(202);
    texting.world.advance(MINUTE);
    let sent = texting.work().await;
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].text.contains("Paid 4.20"));
}

#[tokio::test]
async fn an_offer_that_could_not_be_sent_in_time_is_not_sent_late() {
    let texting = Texting::new().await;
    let code = asked_for(&texting.world, 420).await;
    texting.gateway.answers(503);
    texting.say(ANN, &code).await;
    texting.world.advance(6 * MINUTE);
    texting.gateway.answers(202);
    assert!(texting.work().await.is_empty());
    assert_eq!(texting.world.store.letters_waiting().await, Ok(0));
}

#[tokio::test]
async fn a_crash_at_any_step_loses_and_doubles_nothing() {
    // A text that was kept, and nothing more.
    let texting = Texting::new().await;
    let code = asked_for(&texting.world, 420).await;
    texting.text(ANN, &code).await;
    let texting = texting.restart().await;
    let sent = texting.work().await;
    assert_eq!(sent.len(), 1, "{sent:?}");
    let number = number_in(&sent[0].text);
    // The reply as well.
    texting.text(ANN, &number).await;
    let texting = texting.restart().await;
    let sent = texting.work().await;
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].text.contains("Paid 4.20"), "{sent:?}");
    let texting = texting.restart().await;
    assert!(texting.work().await.is_empty());
    assert_eq!(texting.balance(ANN).await, 49_580);
}

#[tokio::test]
async fn a_claim_that_was_made_before_a_crash_is_found_again() {
    let texting = Texting::new().await;
    let code = asked_for(&texting.world, 420).await;
    // The claim is committed, and what the shopper is told is not.
    let database = rusqlite::Connection::open(texting.world.database()).unwrap();
    let fail = "CREATE TRIGGER no_letters BEFORE INSERT ON sms_letters
                BEGIN SELECT RAISE(ABORT, 'cut'); END";
    database.execute_batch(fail).unwrap();
    assert!(texting.say(ANN, &code).await.is_empty());
    assert!(matches!(
        stage(&texting.world).await,
        ChargeStage::Held { .. }
    ));
    database.execute_batch("DROP TRIGGER no_letters").unwrap();
    let texting = texting.restart().await;
    let sent = texting.work().await;
    assert!(sent[0].text.contains("Pay 4.20"), "{sent:?}");
    assert_eq!(sent.len(), 1);
}

#[tokio::test]
async fn a_receipt_that_is_late_is_told_when_it_is_there() {
    let texting = Texting::new().await;
    let code = asked_for(&texting.world, 420).await;
    let number = number_in(&texting.told(ANN, &code).await);
    texting.world.hsm_fails_once();
    let pending = texting.told(ANN, &number).await;
    assert!(pending.contains("We will tell you"), "{pending}");
    assert_eq!(texting.balance(ANN).await, 49_580);
    let texting = texting.restart().await;
    texting.world.advance(2_000);
    let sent = texting.work().await;
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].text.contains("Paid 4.20"));
    assert_eq!(texting.balance(ANN).await, 49_580);
}

#[tokio::test]
async fn the_number_that_approves_is_nowhere_in_the_database() {
    let texting = Texting::new().await;
    let code = asked_for(&texting.world, 420).await;
    texting.gateway.answers(503);
    texting.say(ANN, &code).await;
    let database = rusqlite::Connection::open(texting.world.database()).unwrap();
    let say: String = database
        .query_row("SELECT say FROM sms_letters", [], |row| row.get(0))
        .unwrap();
    texting.gateway.answers(202);
    texting.world.advance(1_000);
    let number = number_in(&texting.work().await[0].text);
    assert!(!say.contains(&number), "{say}");
    let talks = "SELECT quote(typed) || wrong || until_ms || quote(amount_minor) FROM sms_talks";
    let talk: String = database.query_row(talks, [], |row| row.get(0)).unwrap();
    assert!(!talk.contains(&number), "{talk}");
    // What was asked is forgotten with the answer, and who, with the end.
    texting.told(ANN, &number).await;
    let left = "SELECT (SELECT count(*) FROM sms_texts WHERE text IS NOT NULL)
                     + (SELECT count(*) FROM sms_talks WHERE number IS NOT NULL)
                     + (SELECT count(*) FROM sms_letters)";
    let left: i64 = database.query_row(left, [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn shoppers_are_answered_in_their_language_and_left_alone_when_they_say_so() {
    let texting = Texting::new().await;
    assert!(texting.told(ANN, "aide").await.starts_with("Text the code"));
    assert!(texting.told(ANN, "FR").await.starts_with("Envoyez le code"));
    let code = asked_for(&texting.world, 420).await;
    let offer = texting.told(ANN, &code).await;
    assert!(offer.contains("Payer 4,20 EUR à Corner Café ?"), "{offer}");
    let stopped = texting.told(ANN, "STOP").await;
    assert!(stopped.starts_with("Rien n'est payé"), "{stopped}");
    assert!(matches!(
        stage(&texting.world).await,
        ChargeStage::Offered { .. }
    ));
    assert!(
        texting.told(ANN, "?").await.starts_with("Text the code"),
        "forgotten"
    );
    assert_eq!(texting.balance(ANN).await, 50_000);
}

#[tokio::test]
async fn another_code_lets_the_first_charge_go() {
    let texting = Texting::new().await;
    let code = asked_for(&texting.world, 420).await;
    let first = number_in(&texting.told(ANN, &code).await);
    let other = protocol::ids::TerminalId::from_number(1_234_567).unwrap();
    texting.world.add_terminal(other).await;
    texting.world.charge_at(other, 500).await;
    let code = texting.world.shown_at(other, Channel::Code).await;
    let offer = texting.told(ANN, &code).await;
    assert!(offer.contains("5.00 EUR"), "{offer}");
    assert!(matches!(
        stage(&texting.world).await,
        ChargeStage::Offered { .. }
    ));
    let wrong = texting.told(ANN, &first).await;
    assert!(wrong.contains("not the number"), "{wrong}");
    texting.told(ANN, &number_in(&offer)).await;
    assert_eq!(texting.balance(ANN).await, 49_500);
}

/// An invoice that is told what to answer, and keeps its own books.
#[derive(Default)]
struct Invoice {
    books: Mutex<BTreeMap<String, i64>>,
    says: Mutex<Option<Answer>>,
}

impl Invoice {
    fn on_bill(&self, number: &str) -> i64 {
        self.books.lock().unwrap().get(number).copied().unwrap_or(0)
    }

    fn says(&self, answer: Option<Answer>) {
        *self.says.lock().unwrap() = answer;
    }

    fn answer(&self) -> Answer {
        let done = Answer::Done {
            reference: "invoice 7".into(),
        };
        self.says.lock().unwrap().clone().unwrap_or(done)
    }
}

#[async_trait]
impl Rail for Invoice {
    async fn authorise(&self, _: &Order) -> Answer {
        self.answer()
    }

    async fn capture(&self, order: &Order) -> Answer {
        let mut books = self.books.lock().unwrap();
        *books.entry(order.account.clone()).or_default() += order.amount.amount_minor();
        Answer::Done {
            reference: "invoice 7".into(),
        }
    }

    async fn reverse(&self, _: &Order) -> Answer {
        Answer::Done {
            reference: "never".into(),
        }
    }

    async fn refund(&self, _: &Refund) -> Answer {
        Answer::Declined {
            reason: Reason::Refused,
        }
    }

    async fn query(&self, _: &Order) -> Standing {
        match self.answer() {
            Answer::Unknown { why } => Standing::Unknown { why },
            _ => Standing::Unseen,
        }
    }
}

async fn with_invoice() -> (Texting, Arc<Invoice>) {
    let invoice = Arc::new(Invoice::default());
    let rail: Arc<dyn Rail> = invoice.clone();
    let more = More {
        rails: Rails::new([("invoice".to_owned(), rail)]),
        ..More::default()
    };
    (
        Texting::with("invoice", more, |merchant| merchant).await,
        invoice,
    )
}

async fn spent(texting: &Texting, number: &str) -> i64 {
    let (rail, now) = ("invoice".to_owned(), texting.world.now());
    let spent = texting
        .world
        .store
        .spent_of_cap(rail, number.into(), now)
        .await;
    spent.unwrap().unwrap_or(0)
}

#[tokio::test]
async fn a_phone_nobody_knew_pays_on_the_carriers_invoice() {
    let (texting, invoice) = with_invoice().await;
    let code = asked_for(&texting.world, 420).await;
    let number = number_in(&texting.told(ANN, &code).await);
    let accounts = texting
        .world
        .store
        .service_accounts(person(ANN))
        .await
        .unwrap();
    assert_eq!(
        (accounts[0].rail.as_str(), accounts[0].reference.as_str()),
        ("invoice", ANN)
    );
    assert!(!accounts[0].name.contains("612345"), "{}", accounts[0].name);
    assert!(texting.told(ANN, &number).await.contains("Paid 4.20"));
    assert_eq!(
        (invoice.on_bill(ANN), spent(&texting, ANN).await),
        (420, 420)
    );
}

#[tokio::test]
async fn what_the_carrier_declines_is_told_and_counts_in_no_cap() {
    let (texting, invoice) = with_invoice().await;
    let code = asked_for(&texting.world, 420).await;
    let number = number_in(&texting.told(ANN, &code).await);
    invoice.says(Some(Answer::Declined {
        reason: Reason::OverLimit,
    }));
    let declined = texting.told(ANN, &number).await;
    assert!(
        declined.contains("does not take this payment"),
        "{declined}"
    );
    assert_eq!((invoice.on_bill(ANN), spent(&texting, ANN).await), (0, 0));
    assert!(matches!(
        stage(&texting.world).await,
        ChargeStage::Offered { .. }
    ));
}

#[tokio::test]
async fn a_carrier_that_does_not_answer_is_waited_for_and_the_shopper_told() {
    let (texting, invoice) = with_invoice().await;
    let code = asked_for(&texting.world, 420).await;
    let number = number_in(&texting.told(ANN, &code).await);
    invoice.says(Some(Answer::Unknown {
        why: "silence".into(),
    }));
    let pending = texting.told(ANN, &number).await;
    assert!(pending.contains("We will tell you"), "{pending}");
    assert_eq!(spent(&texting, ANN).await, 420, "it may still be taken");
    // Meanwhile nothing else is begun, and nothing stopped.
    texting.world.advance(10_000);
    assert!(texting.told(ANN, "stop").await.contains("We will tell you"));
    invoice.says(None);
    let journey = &texting.world.journey;
    journey.reconcile(texting.world.now()).await.unwrap();
    texting.world.advance(2_000);
    let sent = texting.work().await;
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].text.contains("Paid 4.20"), "{sent:?}");
    assert_eq!(invoice.on_bill(ANN), 420);
}

#[tokio::test]
async fn a_carrier_that_never_answers_gets_it_back_and_so_does_the_cap() {
    let (texting, invoice) = with_invoice().await;
    let code = asked_for(&texting.world, 420).await;
    let number = number_in(&texting.told(ANN, &code).await);
    invoice.says(Some(Answer::Unknown {
        why: "silence".into(),
    }));
    texting.told(ANN, &number).await;
    texting.world.advance(2 * MINUTE);
    let (journey, world) = (&texting.world.journey, &texting.world);
    journey.reconcile(world.now()).await.unwrap();
    world.advance(MINUTE);
    journey.reconcile(world.now()).await.unwrap();
    let sent = texting.work().await;
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].text.contains("Nothing was paid"), "{sent:?}");
    assert!(world.store.open_intents(None, 9).await.unwrap().is_empty());
    assert_eq!((invoice.on_bill(ANN), spent(&texting, ANN).await), (0, 0));
}
