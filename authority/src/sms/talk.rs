//! What comes next between us and this phone?
//!
//! ```text
//! code ─▶ claiming ─▶ offered ──the number──▶ approving ─▶ paid
//!            │  ▲        │                        │
//!            ▼  │ amount │ no · stop · too late   │ the rail declines
//!       wants amount     │ too many wrong numbers │
//!            └───────────┴────────────────────────┴─────▶ over
//! ```
//! A phone has one talk with us at a time. A text that fits no stage changes nothing.

use protocol::ids::ClaimId;
use protocol::money::Money;
use protocol::time::{Millis, Timestamp};
use uuid::Uuid;

use super::amount::TypedAmount;
use super::number::PhoneNumber;
use super::say::{Language, Say, Why};
use super::text::{Code, Heard, Reply, Unclear};

/// Wrong numbers after which an offer is over.
pub const WRONG_MAX: u32 = 3;
/// Wrong numbers of one phone within [`WRONG_SPAN_MS`], after which it is offered nothing more.
pub const WRONG_IN_SPAN_MAX: u32 = 9;
pub const WRONG_SPAN_MS: Millis = 24 * 60 * 60 * 1000;
/// How long a text may wait for its answer: its code is hardly good for longer.
pub const TEXT_LIFE_MS: Millis = 180_000;
/// A text that could not be answered for so long is given up, so that it keeps no other from its answer.
pub const TEXT_GIVEN_UP_MS: Millis = 30 * 60 * 1000;

/// A UUIDv7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TalkId(pub Uuid);

impl TalkId {
    pub fn from_parts(unix_ms: u64, random: &[u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, random).into_uuid())
    }
}

/// One payment by SMS, from the code to the receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Talk {
    pub id: TalkId,
    pub number: PhoneNumber,
    pub language: Language,
    /// Chosen before the claim is made, so that it is found again after a crash.
    pub claim: ClaimId,
    /// Of the code that began it.
    pub print: [u8; 32],
    /// What the shopper wrote beside the code.
    pub typed: Option<TypedAmount>,
    pub stage: Stage,
    /// What was offered, and what a reply approves.
    pub offered: Option<Money>,
    /// Wrong numbers so far.
    pub wrong: u32,
    /// The shopper knows that the answer takes time.
    pub told: bool,
    /// The stage ends by itself then.
    pub until: Timestamp,
}

/// Where a talk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Claiming,
    WantsAmount,
    Offered,
    /// The shopper has agreed; what the rail says decides.
    Approving,
    Paid,
    Over,
}

impl Stage {
    pub const ALL: [Self; 6] = [
        Self::Claiming,
        Self::WantsAmount,
        Self::Offered,
        Self::Approving,
        Self::Paid,
        Self::Over,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Claiming => "claiming",
            Self::WantsAmount => "wants-amount",
            Self::Offered => "offered",
            Self::Approving => "approving",
            Self::Paid => "paid",
            Self::Over => "over",
        }
    }

    /// Something is still to come.
    pub const fn is_open(self) -> bool {
        !matches!(self, Self::Paid | Self::Over)
    }
}

/// What to do about a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Begin a talk, after ending the one that is open.
    Begin {
        code: Code,
        amount: Option<TypedAmount>,
    },
    /// The same text again, left over by a crash, or by a shopper who heard nothing.
    GoOn { code: Code },
    /// The amount that was asked for.
    Amount(TypedAmount),
    /// The right number.
    Approve,
    /// A wrong one; the offer stands.
    Wrong { left: u32 },
    /// The talk is over, and its claim is released.
    End(Say),
    /// An answer that changes nothing.
    Answer(Say),
    /// An answer in another language from now on.
    Speak(Language),
    /// No more texts until the shopper writes again.
    Forget,
    /// It was answered before.
    Nothing,
}

/// Decides. `print` is that of the code in the text, `is_right` compares the number without telling it.
pub fn next(
    talk: Option<&Talk>,
    heard: &Heard,
    print: Option<[u8; 32]>,
    now: Timestamp,
    is_right: impl FnOnce(&Talk, &Reply) -> bool,
) -> Next {
    match *heard {
        Heard::Help => Next::Answer(Say::Help),
        Heard::Speak(language) => Next::Speak(language),
        Heard::Unclear(why) => Next::Answer(unclear(why, talk)),
        Heard::Pay { code, amount } => pay(talk, code, amount, print),
        Heard::Reply(reply) => match talk {
            Some(talk) => of_reply(talk, &reply, now, is_right),
            None => Next::Answer(Say::NothingOpen),
        },
        Heard::Amount(amount) => of_amount(talk, amount),
        Heard::No => match talk.map(|talk| talk.stage) {
            Some(Stage::Approving) => Next::Answer(Say::Pending),
            Some(_) => Next::End(Say::Ended),
            None => Next::Answer(Say::NothingOpen),
        },
        Heard::Stop => match talk.map(|talk| talk.stage) {
            Some(Stage::Approving) => Next::Answer(Say::Pending),
            _ => Next::Forget,
        },
    }
}

/// A phone that is in the middle of something is told how to go on with it.
fn unclear(why: Unclear, talk: Option<&Talk>) -> Say {
    match (why, talk.map(|talk| talk.stage)) {
        (Unclear::Words | Unclear::Digits(_), Some(Stage::Offered)) => Say::HowToReply,
        (Unclear::Words, Some(Stage::Approving)) => Say::Pending,
        (Unclear::Words | Unclear::TooLong, _) => Say::Help,
        (Unclear::Digits(digits), _) => Say::NotPaid(Why::Digits(digits)),
        (Unclear::Slip, _) => Say::NotPaid(Why::Slip),
        (Unclear::Amount, _) => Say::NotPaid(Why::AmountUnclear),
    }
}

fn pay(
    talk: Option<&Talk>,
    code: Code,
    amount: Option<TypedAmount>,
    print: Option<[u8; 32]>,
) -> Next {
    match talk {
        Some(talk) if talk.stage == Stage::Approving => Next::Answer(Say::Pending),
        Some(talk) if Some(talk.print) == print => match amount {
            Some(amount) if talk.stage == Stage::WantsAmount => Next::Amount(amount),
            _ => Next::GoOn { code },
        },
        _ => Next::Begin { code, amount },
    }
}

fn of_reply(
    talk: &Talk,
    reply: &Reply,
    now: Timestamp,
    is_right: impl FnOnce(&Talk, &Reply) -> bool,
) -> Next {
    match talk.stage {
        Stage::Offered if now >= talk.until => Next::End(Say::NotPaid(Why::Late)),
        Stage::Offered if is_right(talk, reply) => Next::Approve,
        Stage::Offered => match WRONG_MAX.saturating_sub(talk.wrong + 1) {
            0 => Next::End(Say::NotPaid(Why::WrongTooOften)),
            left => Next::Wrong { left },
        },
        // The gateway delivers twice, people press twice.
        Stage::Approving | Stage::Claiming => Next::Nothing,
        Stage::WantsAmount => Next::Answer(Say::NotPaid(Why::AmountUnclear)),
        Stage::Paid | Stage::Over => Next::Answer(Say::NothingOpen),
    }
}

fn of_amount(talk: Option<&Talk>, amount: TypedAmount) -> Next {
    let Some(talk) = talk else {
        return Next::Answer(Say::NothingOpen);
    };
    let is_offered = |offered: Money| amount.money(offered.currency()) == Ok(offered);
    match talk.stage {
        Stage::WantsAmount => Next::Amount(amount),
        Stage::Offered if talk.offered.is_some_and(is_offered) => Next::Nothing,
        Stage::Offered => Next::Answer(Say::HowToReply),
        Stage::Approving => Next::Answer(Say::Pending),
        Stage::Claiming | Stage::Paid | Stage::Over => Next::Answer(Say::NothingOpen),
    }
}

#[cfg(test)]
pub(super) mod tests;
