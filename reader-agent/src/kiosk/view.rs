//! What does the page need to know to draw itself?
//!
//! Times are lengths, because the browser's clock is nobody's business.

use protocol::money::Money;
use protocol::time::{Millis, Timestamp};
use protocol::wire::push::EndReason;
use qrcode::{Color, EcLevel, QrCode};
use serde::Serialize;

use crate::core::Board;
use crate::rotation::{Blank, Shows};
use crate::shown::{Asked, Shown};

/// One frame for the page.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct View {
    pub screen: &'static str,
    pub terminal: String,
    pub online: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    pub title: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qr: Option<Qr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
}

/// The QR code as one path of unit squares.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Qr {
    pub size: usize,
    pub path: String,
    #[serde(flatten)]
    pub time: Time,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Code {
    pub text: String,
    #[serde(flatten)]
    pub time: Time,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Time {
    pub left_ms: Millis,
    pub length_ms: Millis,
}

impl View {
    pub fn of(board: &Board) -> Self {
        let asked = asked(&board.shown);
        let amount = amount(&board.shown);
        let (title, note) = words(board);
        let claimable = claimable(&board.shown);
        Self {
            screen: board.shown.name(),
            terminal: board.terminal.to_string(),
            online: board.online,
            amount: amount.map(|m| split(m).0),
            currency: amount.map(|m| split(m).1),
            reference: asked.and_then(|a| a.reference.clone()),
            mark: mark(&board.shown),
            title,
            note,
            qr: board
                .now
                .filter(|_| claimable)
                .and_then(|now| qr(&board.faces.qr, now)),
            code: board
                .now
                .filter(|_| claimable)
                .and_then(|now| code(&board.faces.code, now)),
        }
    }
}

/// Whether a phone may claim something now.
fn claimable(shown: &Shown) -> bool {
    match shown {
        Shown::Idle { .. } | Shown::Offered { .. } | Shown::Offline { standing: Some(_) } => true,
        Shown::Starting
        | Shown::Held { .. }
        | Shown::Paid(_)
        | Shown::Ended { .. }
        | Shown::Offline { standing: None }
        | Shown::OutOfService { .. } => false,
    }
}

fn words(board: &Board) -> (&'static str, Option<String>) {
    match &board.shown {
        Shown::Starting => (
            "One moment",
            Some("Connecting to the payment service.".into()),
        ),
        Shown::Idle { standing: None } => (
            "Ready",
            Some("When the amount is shown, tap, scan or type.".into()),
        ),
        Shown::Idle {
            standing: Some(asked),
        } => ("Tap, scan or type to pay", open_note(asked)),
        Shown::Offered { .. } => ("Tap, scan or type to pay", until_boundary(&board.faces.qr)),
        Shown::Held { .. } => (
            "Continue on your phone",
            Some("Compare amount and number with your phone before you approve.".into()),
        ),
        Shown::Paid(_) => ("Paid", Some("Thank you.".into())),
        Shown::Ended { reason, .. } => ("Not paid", Some(end_note(*reason).into())),
        Shown::Offline { standing: Some(_) } => (
            "Tap, scan or type to pay",
            Some(
                "No connection here: your phone shows whether it was paid. Not confirmed here."
                    .into(),
            ),
        ),
        Shown::Offline { standing: None } => (
            "No connection",
            Some("Payment is not possible at the moment. This screen continues by itself.".into()),
        ),
        Shown::OutOfService { .. } => (
            "Out of service",
            Some("Please ask for another way to pay.".into()),
        ),
    }
}

fn open_note(asked: &Asked) -> Option<String> {
    let open = asked.amount.is_none();
    open.then(|| "You choose the amount on your phone.".into())
}

fn until_boundary(qr: &Shows) -> Option<String> {
    match qr {
        Err(Blank::UntilBoundary { .. }) => Some("A new code appears in a moment.".into()),
        _ => None,
    }
}

fn end_note(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Cancelled => "The payment was cancelled. Nothing was charged.",
        EndReason::Released => "The payment was not approved. Nothing was charged.",
        EndReason::Expired => "The time for this payment is over. Nothing was charged.",
    }
}

fn asked(shown: &Shown) -> Option<&Asked> {
    match shown {
        Shown::Offered { asked, .. } | Shown::Held { asked, .. } | Shown::Ended { asked, .. } => {
            Some(asked)
        }
        Shown::Paid(paid) => Some(&paid.asked),
        Shown::Idle { standing } | Shown::Offline { standing } => standing.as_ref(),
        Shown::Starting | Shown::OutOfService { .. } => None,
    }
}

/// What was paid comes from the receipt, not from what was asked.
fn amount(shown: &Shown) -> Option<Money> {
    match shown {
        Shown::Paid(paid) => Some(paid.receipt.claims().amount),
        _ => asked(shown)?.amount,
    }
}

fn mark(shown: &Shown) -> Option<String> {
    match shown {
        Shown::Held { mark, .. } => Some(mark.to_string()),
        Shown::Paid(paid) => Some(paid.mark.to_string()),
        _ => None,
    }
}

fn split(money: Money) -> (String, String) {
    let text = money.to_string();
    match text.split_once(' ') {
        Some((amount, currency)) => (amount.to_owned(), currency.to_owned()),
        None => (text, String::new()),
    }
}

fn qr(shows: &Shows, now: Timestamp) -> Option<Qr> {
    let face = shows.as_ref().ok()?;
    let code = QrCode::with_error_correction_level(face.text(), EcLevel::M).ok()?;
    Some(Qr {
        size: code.width(),
        path: path(&code),
        time: time(face.closes, face.length_ms(), now),
    })
}

fn code(shows: &Shows, now: Timestamp) -> Option<Code> {
    let face = shows.as_ref().ok()?;
    Some(Code {
        text: face.text().to_owned(),
        time: time(face.closes, face.length_ms(), now),
    })
}

fn time(closes: Timestamp, length_ms: Millis, now: Timestamp) -> Time {
    Time {
        left_ms: (closes - now).max(0),
        length_ms,
    }
}

/// Runs of dark modules, row by row.
fn path(code: &QrCode) -> String {
    let width = code.width();
    let mut path = String::new();
    for (y, row) in code.to_colors().chunks(width).enumerate() {
        let mut x = 0;
        while x < width {
            let run = row[x..].iter().take_while(|c| **c == row[x]).count();
            if row[x] == Color::Dark {
                path.push_str(&format!("M{x} {y}h{run}v1h-{run}z"));
            }
            x += run;
        }
    }
    path
}
