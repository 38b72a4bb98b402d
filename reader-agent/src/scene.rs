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
use crate::words::{Figure, Language, Words};

/// One picture, before a screen draws it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// The state's short, stable name.
    pub screen: &'static str,
    pub terminal: TerminalId,
    pub online: bool,
    pub amount: Option<Figure>,
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
    pub fn of(board: &Board, language: Language) -> Self {
        let asked = asked(&board.shown);
        let (title, note) = told(board, Words(language));
        let now = board.now.filter(|_| claimable(&board.shown));
        Self {
            screen: board.shown.name(),
            terminal: board.terminal,
            online: board.online,
            amount: amount(&board.shown).map(|money| Figure::of(money, language)),
            title,
            note,
            reference: asked.and_then(|a| a.reference.clone()),
            mark: mark(&board.shown),
            link: now.and_then(|now| Timed::of(&board.faces.qr, now)),
            code: now.and_then(|now| Timed::of(&board.faces.code, now)),
        }
    }
}

impl Scene {
    /// What is read aloud: amount and state, and nothing that changes with the code.
    pub fn said(&self, words: Words) -> String {
        let amount = self.amount.as_ref();
        let amount = amount.map(|it| format!("{} {}", it.number, it.currency));
        let mark = self
            .mark
            .map(|mark| format!("{} {mark}", words.your_number()));
        let note = self.note.filter(|_| self.link.is_none());
        let parts = [
            amount,
            Some(self.title.to_owned()),
            mark,
            note.map(str::to_owned),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        parts.join(". ")
    }

    /// Where the code is typed: the host of the link.
    pub fn where_typed(&self) -> Option<&str> {
        let link = self.link.as_ref()?.text.strip_prefix("https://")?;
        link.split('/').next()
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

/// Title and note.
fn told(board: &Board, words: Words) -> (&'static str, Option<&'static str>) {
    match &board.shown {
        Shown::Starting | Shown::Offline { standing: None } if is_stranger(board) => {
            (words.offline(), Some(words.stranger_note()))
        }
        Shown::Starting => (words.starting(), Some(words.starting_note())),
        Shown::Idle { standing: None } => (words.idle(), Some(words.idle_note())),
        Shown::Idle {
            standing: Some(asked),
        } => {
            let open = asked.amount.is_none();
            (words.pay(), open.then(|| words.pay_open_note()))
        }
        Shown::Offered { .. } => {
            let waits = matches!(board.faces.qr, Err(Blank::UntilBoundary { .. }));
            (words.pay(), waits.then(|| words.boundary_note()))
        }
        Shown::Held { .. } => (words.held(), Some(words.held_note())),
        Shown::Paid(_) => (words.paid(), Some(words.paid_note())),
        Shown::Ended { reason, .. } => (words.ended(), Some(end_note(*reason, words))),
        Shown::Offline { standing: Some(_) } => (words.pay(), Some(words.offline_pay_note())),
        Shown::Offline { standing: None } => (words.offline(), Some(words.offline_note())),
        Shown::OutOfService { .. } => (words.out_of_service(), Some(words.out_of_service_note())),
    }
}

/// Whether somebody else answers in the authority's place, as networks do that ask people to sign in.
fn is_stranger(board: &Board) -> bool {
    board.away.as_ref().is_some_and(|away| away.is_stranger)
}

fn end_note(reason: EndReason, words: Words) -> &'static str {
    match reason {
        EndReason::Cancelled => words.cancelled_note(),
        EndReason::Released => words.released_note(),
        EndReason::Expired => words.expired_note(),
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
