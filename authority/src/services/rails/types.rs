//! What is a rail asked, and what may it answer?

use protocol::ids::{ChargeId, MerchantId, PaymentId, TerminalId};
use protocol::money::Money;

use crate::store::{Intent, RailKey, Reason};

/// One payment, as its rail hears of it: the same in every call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub key: RailKey,
    pub payment: PaymentId,
    /// What the rail calls the account that pays.
    pub account: String,
    pub amount: Money,
    pub payee: MerchantId,
    pub payee_name: String,
    pub terminal: TerminalId,
    pub charge: ChargeId,
}

/// Money back to the account that paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// Of this refund alone.
    pub key: RailKey,
    /// The key that the payment was captured under.
    pub of: RailKey,
    pub account: String,
    /// Not more than what is left of the payment.
    pub amount: Money,
}

/// What a rail answers to what it is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Done {
        /// What the rail calls it.
        reference: String,
    },
    Declined {
        reason: Reason,
    },
    /// No answer, or none that can be understood: it may have been done.
    Unknown {
        /// For the log of the authority, never for strangers.
        why: String,
    },
}

/// How a key stands at its rail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Never heard of.
    Unseen,
    Authorised {
        reference: String,
    },
    Captured {
        reference: String,
    },
    Declined {
        reason: Reason,
    },
    Reversed,
    Unknown {
        why: String,
    },
}

impl Order {
    pub fn of(intent: &Intent) -> Self {
        let claimed = intent.approved.claimed();
        Self {
            key: intent.key,
            payment: intent.payment,
            account: intent.rail_account.clone(),
            amount: intent.approved.amount(),
            payee: claimed.payee,
            payee_name: intent.payee_name.clone(),
            terminal: claimed.terminal,
            charge: claimed.charge,
        }
    }
}
