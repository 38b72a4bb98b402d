//! What was a rail asked for, and what came of it?
//!
//! ```text
//! approval ─▶ authorising ──▶ capturing ──▶ paid (payment and receipt due, in the same transaction)
//!                 │ │             │ declined, or silent for too long
//!        declined ◀─┘ └─────▶ reversing ──▶ reversed
//!          silent too long, or the till cancels
//! ```
//! An intent is committed before its rail is asked, and every answer before the next question. Nobody
//! takes a step back: what is `reversing` is never paid.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use protocol::charge::Approved;
use protocol::ids::{AccountId, ClaimId, PaymentId, ReceiptId};
use protocol::time::Timestamp;
use protocol::token::WindowId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{PersonKey, Result};

/// What every call about one order carries, so that the rail acts once: random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RailKey(pub Uuid);

impl RailKey {
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

impl fmt::Display for RailKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A payment that an outside rail is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    pub payment: PaymentId,
    pub receipt: ReceiptId,
    pub approved: Approved,
    pub payee_name: String,
    pub service_account: AccountId,
    pub rail: String,
    /// What the rail calls the account.
    pub rail_account: String,
    pub key: RailKey,
    pub state: IntentState,
    /// Why it is declined or taken back.
    pub reason: Option<Reason>,
    pub rail_reference: Option<String>,
    /// Calls without an answer since the last change of state.
    pub tries: u32,
    /// When it is taken up again; none: it is over.
    pub next_at: Option<Timestamp>,
    /// When the shopper agreed.
    pub started_at: Timestamp,
    pub changed_at: Timestamp,
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident $text:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$inner])* $variant),+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl FromStr for $name {
            type Err = &'static str;

            fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
                let mut all = Self::ALL.iter().copied();
                all.find(|it| it.name() == text).ok_or("not a known name")
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

named! {
    /// What is asked for, or what came of it.
    IntentState {
        Authorising "authorising";
        /// The rail has agreed, and the money is being taken: only the rail can stop it now.
        Capturing "capturing";
        Paid "paid";
        Declined "declined";
        /// It will not be paid; the rail has to hear so, and to undo what it did.
        Reversing "reversing";
        Reversed "reversed";
    }
}

named! {
    /// Why there is no payment.
    Reason {
        /// The account does not hold enough.
        FundsShort "funds-short";
        /// A limit of the account, or of its carrier, is reached.
        OverLimit "over-limit";
        AccountUnknown "account-unknown";
        AccountClosed "account-closed";
        /// The rail does not say why.
        Refused "refused";
        /// The rail did not answer in time.
        Silent "silent";
        /// The till took the charge back, or its terminal is banned.
        Cancelled "cancelled";
    }
}

impl IntentState {
    /// Something is still to be asked.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Authorising | Self::Capturing | Self::Reversing)
    }

    /// The claim waits for it.
    pub const fn holds_claim(self) -> bool {
        matches!(self, Self::Authorising | Self::Capturing)
    }
}

/// What a rail said, or did not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntentStep {
    /// Authorising is done: from here on nobody but the rail can stop it.
    Authorised { reference: String },
    /// Capturing is done: the payment is made, in the same transaction.
    Captured {
        reference: String,
        /// Windows that advance by one, because the charge ends.
        moved: Vec<WindowId>,
    },
    /// Authorising was refused, and the claim is free for another account; a refused capture is taken back.
    Declined { reason: Reason },
    /// It shall not be paid: a claim that waits for it is free again.
    TurnedBack { reason: Reason },
    /// Reversing is done.
    Reversed,
    /// No answer, or none that counts: taken up again then.
    Unanswered { next_at: Timestamp },
}

/// How many intents of a rail are in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntentCount {
    pub rail: String,
    pub state: IntentState,
    pub count: u64,
    /// When the oldest of them started.
    pub oldest: Timestamp,
}

#[async_trait]
pub trait Intents {
    async fn intent(&self, payment: PaymentId) -> Result<Option<Intent>>;

    /// All intents of a claim, the oldest first.
    async fn intents_of(&self, claim: ClaimId) -> Result<Vec<Intent>>;

    /// Whether this person is the one who pays.
    async fn is_intent_of(&self, payment: PaymentId, person: PersonKey) -> Result<bool>;

    /// Takes a step if the intent still waits for it; answers the intent as it stands then. A step that
    /// comes too late, or twice, changes nothing.
    async fn step_intent(
        &self,
        payment: PaymentId,
        step: IntentStep,
        at: Timestamp,
    ) -> Result<Option<Intent>>;

    /// What is to be taken up for this rail, the longest due first.
    async fn intents_due(&self, rail: String, now: Timestamp, limit: u32) -> Result<Vec<Intent>>;

    /// What is open, the oldest first; of one rail, or of all.
    async fn open_intents(&self, rail: Option<String>, limit: u32) -> Result<Vec<Intent>>;

    /// Whatever its state, the latest first; of one rail, or of all. `before`: only those that began earlier.
    async fn latest_intents(
        &self,
        rail: Option<String>,
        before: Option<PaymentId>,
        limit: u32,
    ) -> Result<Vec<Intent>>;

    /// Open intents per rail and state.
    async fn count_open_intents(&self) -> Result<Vec<IntentCount>>;
}
