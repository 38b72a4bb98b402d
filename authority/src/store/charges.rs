//! What does the till ask for, and until when?

use async_trait::async_trait;
use protocol::charge::ChargeKind;
use protocol::ids::{ChargeId, ClaimId, TerminalId};
use protocol::money::Money;
use protocol::time::Timestamp;
use protocol::token::WindowId;
use protocol::wire::push::EndReason;

use super::Result;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCharge {
    pub id: ChargeId,
    pub terminal: TerminalId,
    pub amount: Money,
    pub reference: Option<String>,
    pub at: Timestamp,
    pub until: Timestamp,
    /// Windows that advance by one.
    pub moved: Vec<WindowId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartCharge {
    Started(ChargeRecord),
    /// The same id with the same contents: the same charge, nothing changed.
    Already(ChargeRecord),
    /// The same id with other contents, or of another terminal.
    Differs,
    /// Another charge of this terminal is offered or held.
    OtherOpen(ChargeId),
    /// Unknown or banned.
    TerminalRefused,
    /// Not the merchant's currency.
    Currency,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeRecord {
    pub id: ChargeId,
    pub terminal: TerminalId,
    pub kind: ChargeKind,
    /// None for an open charge before it is paid.
    pub amount: Option<Money>,
    pub reference: Option<String>,
    pub status: ChargeStatus,
    pub until: Timestamp,
    pub releases: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChargeStatus {
    Offered,
    Held(ClaimId),
    Paid(ClaimId),
    Ended(EndReason),
}

/// Something whose time has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// `held_until` is over: release it.
    Claim(ClaimId, TerminalId),
    /// `until` is over and nobody holds it: end it.
    Charge(ChargeId, TerminalId),
}

#[async_trait]
pub trait Charges {
    async fn start_charge(&self, charge: NewCharge) -> Result<StartCharge>;

    async fn charge(&self, id: ChargeId) -> Result<Option<ChargeRecord>>;

    /// Ends a charge that is offered or held (a held claim is released with it); `moved` windows
    /// advance by one. Answers the charge as it stands then; a paid or ended one stays as it is.
    async fn end_charge(
        &self,
        id: ChargeId,
        reason: EndReason,
        moved: Vec<WindowId>,
        at: Timestamp,
    ) -> Result<Option<ChargeRecord>>;

    /// Held claims and offered charges whose time is over, oldest first.
    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Due>>;
}
