#![allow(clippy::unwrap_used)]
use protocol::code::TypedCode;
use protocol::ids::TerminalId;
use protocol::money::Currency;

use super::*;
use crate::sms::text::read;

const NOW: Timestamp = Timestamp::from_ms(1_795_459_200_000);
const PRINT: [u8; 32] = [1; 32];

/// 4.20 EUR offered, for five minutes.
pub(crate) fn talk() -> Talk {
    Talk {
        id: TalkId::from_parts(1, &[1; 10]),
        number: "+33612345678".parse().unwrap(),
        language: Language::En,
        claim: ClaimId::from_parts(2, &[2; 10]),
        print: PRINT,
        typed: None,
        stage: Stage::Offered,
        offered: Some(Money::new(420, Currency::EUR).unwrap()),
        wrong: 0,
        told: false,
        until: NOW + 300_000,
    }
}

fn at(stage: Stage) -> Talk {
    Talk { stage, ..talk() }
}

fn code(rotating: u32) -> Heard {
    let code = TypedCode::new(TerminalId::from_number(4_711_042).unwrap(), rotating);
    read(&code.shown())
}

/// What a text leads to; the right number is 123456.
fn after(talk: &Talk, text: &str) -> Next {
    heard(Some(talk), &read(text), None, NOW)
}

fn heard(talk: Option<&Talk>, heard: &Heard, print: Option<[u8; 32]>, now: Timestamp) -> Next {
    next(talk, heard, print, now, |_, reply| {
        reply.digits() == b"123456"
    })
}

#[test]
fn only_the_right_number_in_time_approves() {
    let talk = talk();
    assert_eq!(after(&talk, "123456"), Next::Approve);
    assert_eq!(after(&talk, "OK 123-456"), Next::Approve);
    assert_eq!(after(&talk, "123457"), Next::Wrong { left: 2 });
    for text in ["ok", "yes", "oui", "4,20", "pay", "12345"] {
        assert!(!matches!(after(&talk, text), Next::Approve), "{text}");
    }
    let late = heard(Some(&talk), &read("123456"), None, talk.until);
    assert_eq!(late, Next::End(Say::NotPaid(Why::Late)));
}

#[test]
fn the_third_wrong_number_ends_the_offer() {
    let wrong = |wrong| Talk { wrong, ..talk() };
    assert_eq!(after(&wrong(1), "999999"), Next::Wrong { left: 1 });
    let ended = Next::End(Say::NotPaid(Why::WrongTooOften));
    assert_eq!(after(&wrong(2), "999999"), ended);
    // However it came to that.
    assert_eq!(after(&wrong(7), "999999"), ended);
    assert_eq!(after(&wrong(2), "123456"), Next::Approve);
}

#[test]
fn a_number_approves_nothing_but_an_offer() {
    for stage in Stage::ALL.into_iter().filter(|it| *it != Stage::Offered) {
        assert_ne!(after(&at(stage), "123456"), Next::Approve, "{stage:?}");
    }
    let nobody = heard(None, &read("123456"), None, NOW);
    assert_eq!(nobody, Next::Answer(Say::NothingOpen));
}

#[test]
fn a_reply_that_comes_twice_is_answered_once() {
    assert_eq!(after(&at(Stage::Approving), "123456"), Next::Nothing);
}

#[test]
fn nothing_stops_what_the_rail_works_on() {
    let approving = at(Stage::Approving);
    for text in ["no", "stop", "annuler", "4,20"] {
        assert_eq!(
            after(&approving, text),
            Next::Answer(Say::Pending),
            "{text}"
        );
    }
    let code = heard(Some(&approving), &code(7), Some([2; 32]), NOW);
    assert_eq!(code, Next::Answer(Say::Pending));
}

#[test]
fn no_and_stop_end_an_offer() {
    assert_eq!(after(&talk(), "NO"), Next::End(Say::Ended));
    assert_eq!(after(&talk(), "Stop!"), Next::Forget);
}

#[test]
fn the_same_code_again_goes_on_and_another_begins_anew() {
    let again = heard(Some(&talk()), &code(7), Some(PRINT), NOW);
    assert!(matches!(again, Next::GoOn { .. }), "{again:?}");
    let other = heard(Some(&talk()), &code(8), Some([2; 32]), NOW);
    assert!(
        matches!(other, Next::Begin { amount: None, .. }),
        "{other:?}"
    );
}

#[test]
fn the_same_code_with_the_amount_is_the_answer_to_how_much() {
    let wants = at(Stage::WantsAmount);
    let Heard::Pay { code, .. } = code(7) else {
        panic!("a code");
    };
    let text = format!("{} 4,20", code.0.shown());
    let next = heard(Some(&wants), &read(&text), Some(PRINT), NOW);
    assert!(matches!(next, Next::Amount(_)), "{next:?}");
}

#[test]
fn an_amount_counts_only_where_it_was_asked_for() {
    let wants = at(Stage::WantsAmount);
    let Next::Amount(amount) = after(&wants, "4,20") else {
        panic!("it was asked for");
    };
    assert_eq!(amount.money(Currency::EUR).unwrap().amount_minor(), 420);
    assert_eq!(after(&talk(), "4.20 €"), Next::Nothing);
    assert_eq!(after(&talk(), "5"), Next::Answer(Say::HowToReply));
}
