//! Which states can a terminal be in, as its screens are told them?
use protocol::charge::ChargeKind;
use protocol::money::Money;
use protocol::time::Timestamp;
use protocol::token::{Channel, WindowId};
use protocol::wire::push::{ChargeStage, EndReason};

use super::{Signer, charge_id, claim_id, mark, money, receipt_claims, terminal, till_charge};
use crate::core::Board;
use crate::receipts::{self, Said};
use crate::rotation::{Blank, Face, Faces};
use crate::shown::{Asked, Paid, Shown};

/// A state's name, and how it is made.
pub(crate) type Named = (&'static str, fn() -> Board);

/// All states; each is of another terminal, so that a screen can be told apart.
pub(crate) const ALL: [Named; 17] = [
    ("starting", || blank(1, Shown::Starting, false)),
    ("idle", || full(2, Shown::Idle { standing: None })),
    ("standing", || full(3, standing(Some(money(350))))),
    ("standing-open", || full(4, standing(None))),
    ("offered", || full(5, offered(420, "Table 7"))),
    ("offered-thousands", || {
        full(6, offered(123_456, "2026-11-26/000147"))
    }),
    ("offered-long", || {
        full(
            7,
            offered(1_234_567_890, &"Order of many things ".repeat(6)),
        )
    }),
    ("offered-boundary", || {
        blank(8, offered(420, "Table 7"), true)
    }),
    ("offered-code", || code_only(9)),
    ("held", || blank(10, held(), true)),
    ("paid", || blank(11, paid(), true)),
    ("ended-cancelled", || ended(12, EndReason::Cancelled)),
    ("ended-declined", || ended(13, EndReason::Released)),
    ("ended-expired", || ended(14, EndReason::Expired)),
    ("offline", || {
        blank(15, Shown::Offline { standing: None }, false)
    }),
    ("offline-standing", || {
        let asked = Some(asked(Some(money(350)), ChargeKind::Fixed));
        let board = full(16, Shown::Offline { standing: asked });
        Board {
            online: false,
            ..board
        }
    }),
    ("out-of-service", || {
        let reason = "The schedule ended.".into();
        blank(17, Shown::OutOfService { reason }, true)
    }),
];

pub(crate) fn board(name: &str) -> Board {
    ALL.iter().find(|(it, _)| *it == name).unwrap().1()
}

/// The next link and the next code.
pub(crate) fn renew(board: &mut Board) {
    let used = board.faces.code.as_ref().map_or("", |face| face.text());
    let fresh = match used.starts_with('4') {
        true => (
            "https://pay.example/t/7MJQhV2sXo0bTzUuP9cYkg",
            "10928-37465-56473",
        ),
        false => (
            "https://pay.example/t/aZ8fQk3mRw1xLpNtVb5yDg",
            "48201-93746-02915",
        ),
    };
    board.faces.qr = Ok(face(Channel::Qr, fresh.0));
    board.faces.code = Ok(face(Channel::Code, fresh.1));
}

pub(crate) fn offered(minor: i64, reference: &str) -> Shown {
    let mut asked = asked(Some(money(minor)), ChargeKind::Till);
    asked.reference = Some(reference.trim().into());
    Shown::Offered {
        asked,
        until: Timestamp::from_ms(60_000),
    }
}

fn full(n: u32, shown: Shown) -> Board {
    let mut board = blank(n, shown, true);
    renew(&mut board);
    board
}

fn code_only(n: u32) -> Board {
    let mut board = full(n, offered(420, "Table 7"));
    board.faces.qr = Err(until_boundary());
    board
}

fn blank(n: u32, shown: Shown, online: bool) -> Board {
    Board {
        terminal: terminal(n),
        now: Some(Timestamp::from_ms(20_000)),
        faces: Faces::blank(until_boundary()),
        shown,
        charge: None,
        online,
        horizon: None,
        away: None,
        nfc: None,
    }
}

fn until_boundary() -> Blank {
    Blank::UntilBoundary {
        at: Timestamp::from_ms(30_000),
    }
}

fn face(channel: Channel, text: &str) -> Face {
    let window = WindowId {
        terminal: terminal(1),
        version: 1,
        channel,
        epoch: 1,
        window: 1,
    };
    let mut face = Face::for_tests(text, window, 0);
    face.closes = Timestamp::from_ms(80_000);
    face
}

fn asked(amount: Option<Money>, kind: ChargeKind) -> Asked {
    Asked {
        charge: charge_id(1),
        kind,
        amount,
        reference: None,
    }
}

fn standing(amount: Option<Money>) -> Shown {
    let kind = match amount {
        Some(_) => ChargeKind::Fixed,
        None => ChargeKind::Open,
    };
    Shown::Idle {
        standing: Some(asked(amount, kind)),
    }
}

fn held() -> Shown {
    Shown::Held {
        asked: asked(Some(money(420)), ChargeKind::Till),
        claim: claim_id(1),
        mark: mark(7),
        until: Timestamp::from_ms(60_000),
    }
}

fn paid() -> Shown {
    let signed = Signer::new(1).sign(&receipt_claims(terminal(1), 420));
    let said = Said {
        charge: charge_id(1),
        claim: claim_id(1),
        mark: mark(7),
        amount: Some(money(420)),
        receipt: &signed,
    };
    let receipt = receipts::check(said, terminal(1), &Signer::new(1).keys()).unwrap();
    let until = Timestamp::from_ms(60_000);
    Shown::Paid(Box::new(Paid {
        asked: Asked::of(&till_charge(ChargeStage::Offered { until })),
        claim: claim_id(1),
        mark: mark(7),
        receipt,
        signed,
    }))
}

fn ended(n: u32, reason: EndReason) -> Board {
    let asked = asked(Some(money(420)), ChargeKind::Till);
    blank(n, Shown::Ended { asked, reason }, true)
}
