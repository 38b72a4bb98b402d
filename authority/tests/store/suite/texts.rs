//! Is a text kept once, a talk moved whole, an SMS sent until it is taken, and a cap held?

use authority::sms::{Language, Say, Stage, Talk, TalkId, Why};
use authority::store::sms::{SAME_TEXT_MS, TEXTS_IN_SPAN_MAX, TEXTS_SPAN_MS};
use authority::store::{
    AccountCaps, Choice, Hearing, NewLetter, NewText, PayOutcome, TalkTurn, TextId, Turn,
};
use protocol::time::Timestamp;
use protocol::token::Channel;

use crate::world::{NOW, World, eur};

const ANNA: &str = "+33612345678";
const BEN: &str = "+33698765432";

fn text(message: &str, number: &str, print: Option<u8>, at: Timestamp) -> NewText {
    NewText {
        id: TextId {
            gateway: "home".into(),
            message: message.into(),
        },
        number: number.parse().unwrap(),
        print: print.map(|byte| [byte; 32]),
        text: "12345".into(),
        at,
    }
}

fn talk(world: &World, number: &str) -> Talk {
    Talk {
        id: TalkId(world.charge_id().0),
        number: number.parse().unwrap(),
        language: Language::Fr,
        claim: world.claim_id(),
        print: [9; 32],
        typed: Some("4,20 EUR".parse().unwrap()),
        stage: Stage::Claiming,
        offered: None,
        wrong: 0,
        told: false,
        until: NOW + 60_000,
    }
}

fn letter(world: &World, talk: &Talk, say: Say) -> NewLetter {
    NewLetter {
        id: world.charge_id().0,
        number: talk.number.clone(),
        language: talk.language,
        talk: Some(talk.id),
        say,
    }
}

fn turn(talk: TalkTurn) -> Turn {
    Turn {
        text: None,
        talk: Some(talk),
        letters: Vec::new(),
        choice: None,
        at: NOW,
    }
}

fn begin(talk: &Talk, ends: Option<TalkId>) -> Turn {
    turn(TalkTurn::Begin {
        talk: Box::new(talk.clone()),
        ends,
    })
}

fn to(from: Stage, to: &Talk, wrong: bool) -> Turn {
    turn(TalkTurn::To {
        from,
        to: Box::new(to.clone()),
        wrong,
    })
}

async fn taken(world: &World, turn: Turn) -> bool {
    world.store.take_turn(turn).await.unwrap()
}

pub(crate) async fn a_text_is_kept_once_by_its_id_and_by_its_words(world: &World) {
    let hear = async |text| world.store.hear(text).await.unwrap();
    assert_eq!(hear(text("m1", ANNA, Some(1), NOW)).await, Hearing::Heard);
    // The gateway again, whatever it says now.
    assert_eq!(hear(text("m1", ANNA, Some(2), NOW)).await, Hearing::Again);
    // The network again, under another id.
    let soon = NOW + SAME_TEXT_MS - 1;
    assert_eq!(hear(text("m2", ANNA, Some(1), soon)).await, Hearing::Again);
    // Somebody else, something else, later: no.
    assert_eq!(hear(text("m3", BEN, Some(1), NOW)).await, Hearing::Heard);
    assert_eq!(hear(text("m4", ANNA, Some(2), NOW)).await, Hearing::Heard);
    let later = NOW + SAME_TEXT_MS;
    assert_eq!(hear(text("m5", ANNA, Some(1), later)).await, Hearing::Heard);
    // Words that anybody may say twice.
    for message in ["m6", "m7"] {
        assert_eq!(hear(text(message, BEN, None, NOW)).await, Hearing::Heard);
    }
    let waiting = world.store.texts_waiting(NOW, 99).await.unwrap();
    assert_eq!(waiting.len(), 6);
}

pub(crate) async fn who_writes_too_much_is_not_answered(world: &World) {
    for n in 0..TEXTS_IN_SPAN_MAX {
        let heard = world
            .store
            .hear(text(&n.to_string(), ANNA, None, NOW))
            .await;
        assert_eq!(heard, Ok(Hearing::Heard));
    }
    let more = async |message, number, at| world.store.hear(text(message, number, None, at)).await;
    assert_eq!(more("more", ANNA, NOW).await, Ok(Hearing::TooMany));
    assert_eq!(more("other", BEN, NOW).await, Ok(Hearing::Heard));
    let later = NOW + TEXTS_SPAN_MS;
    assert_eq!(more("later", ANNA, later).await, Ok(Hearing::Heard));
}

pub(crate) async fn a_turn_is_taken_whole_or_not_at_all(world: &World) {
    let talk = talk(world, ANNA);
    let id = text("m1", ANNA, Some(1), NOW).id;
    world
        .store
        .hear(text("m1", ANNA, Some(1), NOW))
        .await
        .unwrap();
    assert!(taken(world, begin(&talk, None)).await);
    let offered = Talk {
        stage: Stage::Offered,
        offered: Some(eur(420)),
        ..talk.clone()
    };
    let whole = || Turn {
        text: Some(id.clone()),
        letters: vec![letter(world, &talk, Say::Help)],
        choice: Some((talk.number.clone(), Choice::Language(Language::En))),
        ..to(Stage::Claiming, &offered, false)
    };
    assert!(taken(world, whole()).await);
    let stored = world.store.talk_of(talk.number.clone()).await.unwrap();
    assert_eq!(stored, Some(offered.clone()));
    // The text is answered: what follows from it does not follow again.
    assert!(!taken(world, whole()).await);
    assert_eq!(world.store.letters_waiting().await, Ok(1));
    // Nor does a step from a stage that it has left.
    assert!(!taken(world, to(Stage::Claiming, &offered, false)).await);
    let waiting = world.store.texts_waiting(NOW, 9).await.unwrap();
    assert!(waiting.is_empty());
    assert_eq!(
        world.store.talk_stage(talk.claim).await,
        Ok(Some(Stage::Offered))
    );
}

pub(crate) async fn a_phone_has_one_talk_at_a_time(world: &World) {
    let (first, second) = (talk(world, ANNA), talk(world, ANNA));
    assert!(taken(world, begin(&first, None)).await);
    assert!(!taken(world, begin(&second, None)).await);
    assert!(taken(world, begin(&talk(world, BEN), None)).await);
    assert!(taken(world, begin(&second, Some(first.id))).await);
    assert_eq!(
        world.store.talk(first.id).await,
        Ok(None),
        "it is nobody's any more"
    );
    assert_eq!(
        world.store.talk_stage(first.claim).await,
        Ok(Some(Stage::Over))
    );
    let approving = Talk {
        stage: Stage::Approving,
        offered: Some(eur(1)),
        ..second.clone()
    };
    assert!(taken(world, to(Stage::Claiming, &approving, false)).await);
    // What a rail works on makes way for nothing.
    assert!(!taken(world, begin(&talk(world, ANNA), Some(second.id))).await);
    assert_eq!(
        world.store.talk_stage(second.claim).await,
        Ok(Some(Stage::Approving))
    );
}

pub(crate) async fn a_wrong_number_is_counted_once_and_for_the_phone(world: &World) {
    let talk = talk(world, ANNA);
    assert!(taken(world, begin(&talk, None)).await);
    let wrong = Talk {
        wrong: 1,
        ..talk.clone()
    };
    assert!(taken(world, to(Stage::Claiming, &wrong, true)).await);
    assert!(!taken(world, to(Stage::Claiming, &wrong, true)).await);
    world.store.hear(text("m1", ANNA, None, NOW)).await.unwrap();
    let waiting = async |since| world.store.texts_waiting(since, 9).await.unwrap()[0].wrong;
    assert_eq!(waiting(NOW - 1).await, 1);
    assert_eq!(waiting(NOW).await, 0);
}

pub(crate) async fn an_sms_waits_until_the_gateway_has_it(world: &World) {
    let talk = talk(world, ANNA);
    let say = Say::NotPaid(Why::Late);
    let sms = letter(world, &talk, say.clone());
    let with_letter = Turn {
        letters: vec![sms.clone()],
        ..begin(&talk, None)
    };
    assert!(taken(world, with_letter).await);
    let due = async |at| world.store.letters_due(at, 9).await.unwrap();
    let first = due(NOW).await;
    assert_eq!((&first[0].letter, first[0].tries), (&sms, 0));
    assert_eq!(first[0].talk.as_ref(), Some(&talk));
    world.store.letter_again(sms.id, NOW + 5).await.unwrap();
    assert!(due(NOW + 4).await.is_empty());
    assert_eq!(due(NOW + 5).await[0].tries, 1);
    world.store.letter_done(sms.id).await.unwrap();
    assert_eq!(world.store.letters_waiting().await, Ok(0));
}

pub(crate) async fn old_texts_are_forgotten_but_none_that_waits(world: &World) {
    for (message, number) in [("m1", ANNA), ("m2", BEN)] {
        world
            .store
            .hear(text(message, number, None, NOW))
            .await
            .unwrap();
    }
    let answered = Turn {
        text: Some(text("m1", ANNA, None, NOW).id),
        talk: None,
        ..begin(&talk(world, ANNA), None)
    };
    assert!(taken(world, answered).await);
    assert_eq!(world.store.forget_texts(NOW, 9).await, Ok(0));
    assert_eq!(world.store.forget_texts(NOW + 1, 9).await, Ok(1));
    assert_eq!(world.store.texts_waiting(NOW, 9).await.unwrap().len(), 1);
}

/// The account of this person, capped at 10.00 a payment and 30.00 a month.
async fn capped(world: &World, name: &str) -> AccountCaps {
    let person = world.shopper(name, 100_000).await;
    let account = &world.store.service_accounts(person).await.unwrap()[0];
    let caps = AccountCaps {
        rail: account.rail.clone(),
        reference: account.reference.clone(),
        payment_max: eur(1_000),
        month_max: eur(3_000),
    };
    world.store.cap_account(caps.clone(), NOW).await.unwrap();
    caps
}

async fn spent(world: &World, caps: &AccountCaps, at: Timestamp) -> Option<i64> {
    let (rail, reference) = (caps.rail.clone(), caps.reference.clone());
    world.store.spent_of_cap(rail, reference, at).await.unwrap()
}

/// What becomes of a payment of this much by this person, at that moment.
async fn pays(world: &World, n: u32, name: &str, minor: i64, at: Timestamp) -> PayOutcome {
    let terminal = world.terminal(n).await;
    world.start(terminal, minor).await;
    let mut claim = world.claim_of(world.shown(terminal, Channel::Nfc).await);
    claim.held_until = at + 60_000;
    let authority::store::ClaimOutcome::Claimed(record) = world.store.claim(claim).await.unwrap()
    else {
        panic!("not claimed");
    };
    let mut pay = world.pay_of(&record, &crate::world::person(name), eur(minor));
    pay.at = at;
    world.store.pay(pay).await.unwrap()
}

pub(crate) async fn an_account_pays_no_more_than_its_caps(world: &World) {
    let caps = capped(world, "anna").await;
    let paid = |outcome: PayOutcome| match outcome {
        PayOutcome::Paid(_) => true,
        PayOutcome::CapReached => false,
        other => panic!("{other:?}"),
    };
    assert!(
        !paid(pays(world, 1, "anna", 1_001, NOW).await),
        "too much at once"
    );
    assert_eq!(spent(world, &caps, NOW).await, Some(0));
    for n in 2..5 {
        assert!(paid(pays(world, n, "anna", 1_000, NOW).await));
    }
    assert!(
        !paid(pays(world, 5, "anna", 1, NOW).await),
        "the month is full"
    );
    assert_eq!(spent(world, &caps, NOW).await, Some(3_000));
    // NOW is the 23rd of November.
    let december = NOW + 8 * 24 * 3_600_000;
    assert_eq!(spent(world, &caps, december).await, Some(0));
    assert!(paid(pays(world, 6, "anna", 1_000, december).await));
    // Lower caps count at once, and the same caps again change nothing.
    let lower = AccountCaps {
        month_max: eur(1_000),
        ..caps.clone()
    };
    for _ in 0..2 {
        world
            .store
            .cap_account(lower.clone(), december)
            .await
            .unwrap();
    }
    assert!(!paid(pays(world, 7, "anna", 1, december).await));
    let kinds = world.audit_kinds().await;
    let capped = kinds.iter().filter(|kind| *kind == "account.capped");
    assert_eq!(capped.count(), 2);
}

pub(crate) async fn payments_that_race_do_not_pass_a_cap_together(world: &World) {
    let caps = capped(world, "anna").await;
    let mut pays = Vec::new();
    for n in 0..12 {
        let terminal = world.terminal(n).await;
        world.start(terminal, 700).await;
        let record = world.claimed(terminal).await;
        pays.push(world.pay_of(&record, &crate::world::person("anna"), eur(700)));
    }
    let racing = pays.into_iter().map(|pay| world.store.pay(pay));
    let outcomes = futures_util::future::join_all(racing).await;
    let paid = outcomes
        .iter()
        .filter(|it| matches!(it, Ok(PayOutcome::Paid(_))));
    assert_eq!(paid.count(), 4, "{outcomes:?}");
    let refused = outcomes
        .iter()
        .filter(|it| **it == Ok(PayOutcome::CapReached));
    assert_eq!(refused.count(), 8);
    assert_eq!(spent(world, &caps, NOW).await, Some(2_800));
}
