//! What does every screen of this terminal say?
//!
//! ```text
//!  board ──▶ Scene ─┬─▶ kiosk    the page, with the link as a QR code
//!                   ├─▶ display  two lines on a customer display
//!                   └─▶ tty      a terminal window
//! ```
//! Times are lengths, because a screen's own clock is nobody's business.

use std::fmt;

use protocol::charge::Mark;
use protocol::ids::TerminalId;
use protocol::money::Money;
use protocol::time::{Millis, Timestamp};
use protocol::wire::push::EndReason;

use crate::core::Board;
use crate::rotation::{Blank, Shows};
use crate::shown::{Asked, Shown};

/// One picture, before a screen draws it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// The state's short, stable name.
    pub screen: &'static str,
    pub terminal: TerminalId,
    pub online: bool,
    pub amount: Option<Money>,
    pub title: &'static str,
    pub note: Option<&'static str>,
    pub reference: Option<String>,
    pub mark: Option<Mark>,
    /// What a camera is to read.
    pub link: Option<Timed>,
    /// What a person is to type.
    pub code: Option<Timed>,
}

/// Something that is shown for a time. Mute about what it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Timed {
    pub text: String,
    pub left_ms: Millis,
    pub length_ms: Millis,
}

impl Scene {
    pub fn of(board: &Board) -> Self {
        let asked = asked(&board.shown);
        let (title, note) = words(board);
        let now = board.now.filter(|_| claimable(&board.shown));
        Self {
            screen: board.shown.name(),
            terminal: board.terminal,
            online: board.online,
            amount: amount(&board.shown),
            title,
            note,
            reference: asked.and_then(|a| a.reference.clone()),
            mark: mark(&board.shown),
            link: now.and_then(|now| Timed::of(&board.faces.qr, now)),
            code: now.and_then(|now| Timed::of(&board.faces.code, now)),
        }
    }
}

impl Timed {
    fn of(shows: &Shows, now: Timestamp) -> Option<Self> {
        let face = shows.as_ref().ok()?;
        Some(Self {
            text: face.text().to_owned(),
            left_ms: (face.closes - now).max(0),
            length_ms: face.length_ms(),
        })
    }
}

impl fmt::Debug for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timed(…, {} of {} ms)", self.left_ms, self.length_ms)
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

fn words(board: &Board) -> (&'static str, Option<&'static str>) {
    match &board.shown {
        Shown::Starting => ("One moment", Some("Connecting to the payment service.")),
        Shown::Idle { standing: None } => (
            "Ready",
            Some("When the amount is shown, tap, scan or type."),
        ),
        Shown::Idle {
            standing: Some(asked),
        } => ("Tap, scan or type to pay", open_note(asked)),
        Shown::Offered { .. } => ("Tap, scan or type to pay", until_boundary(&board.faces.qr)),
        Shown::Held { .. } => (
            "Continue on your phone",
            Some("Compare amount and number with your phone before you approve."),
        ),
        Shown::Paid(_) => ("Paid", Some("Thank you.")),
        Shown::Ended { reason, .. } => ("Not paid", Some(end_note(*reason))),
        Shown::Offline { standing: Some(_) } => (
            "Tap, scan or type to pay",
            Some("No connection here: your phone shows whether it was paid. Not confirmed here."),
        ),
        Shown::Offline { standing: None } => (
            "No connection",
            Some("Payment is not possible at the moment. This screen continues by itself."),
        ),
        Shown::OutOfService { .. } => {
            ("Out of service", Some("Please ask for another way to pay."))
        }
    }
}

fn open_note(asked: &Asked) -> Option<&'static str> {
    let open = asked.amount.is_none();
    open.then_some("You choose the amount on your phone.")
}

fn until_boundary(qr: &Shows) -> Option<&'static str> {
    match qr {
        Err(Blank::UntilBoundary { .. }) => Some("A new code appears in a moment."),
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

fn mark(shown: &Shown) -> Option<Mark> {
    match shown {
        Shown::Held { mark, .. } => Some(*mark),
        Shown::Paid(paid) => Some(paid.mark),
        _ => None,
    }
}
