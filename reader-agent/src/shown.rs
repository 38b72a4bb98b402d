//! What do the till and the person at the screen see?

use protocol::charge::{ChargeKind, Mark};
use protocol::ids::{ChargeId, ClaimId};
use protocol::money::Money;
use protocol::time::Timestamp;
use protocol::wire::push::{ChargeStage, ChargeState, EndReason};

use crate::receipts::PaidReceipt;

/// The one state of the terminal, as screen and till show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// Neither the authority nor a remembered schedule has spoken.
    Starting,
    /// Nothing is asked for by the till; a fixed or open charge may be on offer all the time.
    Idle { standing: Option<Asked> },
    /// Tap, scan or type.
    Offered { asked: Asked, until: Timestamp },
    /// A phone has it.
    Held {
        asked: Asked,
        claim: ClaimId,
        mark: Mark,
        until: Timestamp,
    },
    /// Paid, and the receipt was verified here.
    Paid(Box<Paid>),
    /// Over without a payment.
    Ended { asked: Asked, reason: EndReason },
    /// No connection: fixed and open charges can still be claimed, but nothing is confirmed here.
    Offline { standing: Option<Asked> },
    /// Somebody has to act before this terminal shows tokens again.
    OutOfService { reason: String },
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub charge: ChargeId,
    pub kind: ChargeKind,
    pub amount: Option<Money>,
    pub reference: Option<String>,
}

/// A charge with its verified receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paid {
    pub asked: Asked,
    pub claim: ClaimId,
    pub mark: Mark,
    pub receipt: PaidReceipt,
    /// The receipt as it was signed, for the till.
    pub signed: String,
}

impl Asked {
    pub fn of(charge: &ChargeState) -> Self {
        Self {
            charge: charge.charge,
            kind: charge.kind,
            amount: charge.amount,
            reference: charge.reference.clone(),
        }
    }

    /// True for charges that stand on offer without a till.
    pub fn is_standing(&self) -> bool {
        self.kind != ChargeKind::Till
    }
}

impl Shown {
    /// What a charge looks like that nobody has paid yet; none when it says "paid".
    pub fn unpaid(charge: &ChargeState) -> Option<Self> {
        let asked = Asked::of(charge);
        Some(match &charge.stage {
            ChargeStage::Offered { .. } if asked.is_standing() => Self::Idle {
                standing: Some(asked),
            },
            ChargeStage::Offered { until } => Self::Offered {
                asked,
                until: *until,
            },
            ChargeStage::Held { claim, mark, until } => Self::Held {
                asked,
                claim: *claim,
                mark: *mark,
                until: *until,
            },
            ChargeStage::Ended { reason } => Self::Ended {
                asked,
                reason: *reason,
            },
            ChargeStage::Paid { .. } => return None,
        })
    }

    /// The charge as the till is told, if this is about one; "paid" only with a verified receipt.
    pub fn charge_state(&self) -> Option<ChargeState> {
        let (asked, stage) = match self {
            Self::Offered { asked, until } => (asked, ChargeStage::Offered { until: *until }),
            Self::Held {
                asked,
                claim,
                mark,
                until,
            } => {
                let (claim, mark, until) = (*claim, *mark, *until);
                (asked, ChargeStage::Held { claim, mark, until })
            }
            Self::Paid(paid) => (&paid.asked, paid.stage()),
            Self::Ended { asked, reason } => (asked, ChargeStage::Ended { reason: *reason }),
            Self::Starting
            | Self::Idle { .. }
            | Self::Offline { .. }
            | Self::OutOfService { .. } => return None,
        };
        Some(asked.at(stage))
    }

    /// A short, stable name for the screen, logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Idle { standing: None } => "idle",
            Self::Idle { standing: Some(_) } => "standing",
            Self::Offered { .. } => "offered",
            Self::Held { .. } => "held",
            Self::Paid(_) => "paid",
            Self::Ended { .. } => "ended",
            Self::Offline { .. } => "offline",
            Self::OutOfService { .. } => "out-of-service",
        }
    }

    /// The id that follows one claim through all logs.
    pub fn claim(&self) -> Option<ClaimId> {
        match self {
            Self::Held { claim, .. } => Some(*claim),
            Self::Paid(paid) => Some(paid.claim),
            _ => None,
        }
    }
}

impl Asked {
    fn at(&self, stage: ChargeStage) -> ChargeState {
        ChargeState {
            charge: self.charge,
            kind: self.kind,
            amount: self.amount,
            reference: self.reference.clone(),
            stage,
        }
    }
}

impl Paid {
    fn stage(&self) -> ChargeStage {
        ChargeStage::Paid {
            claim: self.claim,
            mark: self.mark,
            receipt: self.signed.clone(),
        }
    }
}
