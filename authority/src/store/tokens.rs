//! Was this token spent, and who holds the charge?

use async_trait::async_trait;
use protocol::charge::{ChargeKind, Mark};
use protocol::ids::{ChargeId, ClaimId, TerminalId};
use protocol::live::Live;
use protocol::money::Money;
use protocol::receipt::Payee;
use protocol::time::Timestamp;
use protocol::token::{TokenId, WindowId};
use protocol::turn::TurnState;
use protocol::wire::claims::ClaimState;
use protocol::wire::push::ChargeState;

use super::{KeptApproval, KeyedTap, PersonKey, Result, TapRefusal};

/// Spend this token and hold the terminal's charge.
#[derive(Debug, Clone)]
pub struct Claim {
    pub id: ClaimId,
    pub live: Live,
    /// What the tag proved, where it signs its links.
    pub tap: Option<KeyedTap>,
    /// SHA-256 of the secret in the phone's cookie.
    pub phone: [u8; 32],
    /// Who claims, when that is known already (a typed code).
    pub person: Option<PersonKey>,
    /// The most claims that one person holds at once, this one included.
    pub held_max: u32,
    pub mark: Mark,
    pub at: Timestamp,
    pub held_until: Timestamp,
    /// For a terminal whose till asks for nothing: the id of the fixed or open charge that the claim
    /// makes, if the merchant takes such.
    pub idle_charge: ChargeId,
    /// What the wallet signed, where a wallet claims: evidence from the first moment.
    pub approval: Option<KeptApproval>,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimOutcome {
    Claimed(Box<ClaimRecord>),
    /// Somebody was faster, or the turn has moved.
    Spent,
    /// The link does not prove a tap that counts. Nothing was spent.
    Tap(TapRefusal),
    /// Another phone holds the charge. Nothing was spent.
    Held,
    /// No charge, and the merchant takes no fixed or open ones. Nothing was spent.
    NothingToPay,
    /// Unknown or banned terminal. Nothing was spent.
    TerminalRefused,
    /// The profile of who claims is locked. Nothing was spent.
    Locked,
    /// Who claims holds as many as they may. Nothing was spent.
    TooMany,
    /// The wallet's approval was used for another claim. Nothing was spent.
    ApprovalUsed,
    /// The window has used up its turns: wait for the next. Nothing was spent.
    TurnsExhausted,
}

/// A claim as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRecord {
    /// With payee, charge, amount and times.
    pub claimed: protocol::charge::Claimed,
    pub payee_name: String,
    pub state: ClaimState,
    /// Held, and an outside rail works on it: nothing but its answer ends that.
    pub paying: bool,
    pub phone: [u8; 32],
}

/// Terminals whose revisions are read at once.
pub const REVISIONS_MAX: usize = 256;

/// What a terminal is told: everything of [`protocol::wire::push::TerminalState`] but the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushState {
    pub revision: u64,
    pub turns: Vec<TurnState>,
    /// The till's current charge; with the receipt once it is paid and signed. A paid charge whose
    /// receipt is still due shows as held.
    pub charge: Option<ChargeState>,
    pub banned: bool,
}

/// What a claim at a terminal would hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub payee: Payee,
    /// Where the terminal stands, in the merchant's words.
    pub terminal_name: String,
    pub asked: Asked,
}

/// What is asked of the next shopper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Nothing,
    /// Another phone holds the till's charge.
    Held {
        until: Timestamp,
    },
    Till {
        amount: Money,
        reference: Option<String>,
    },
    Fixed(Money),
    Open {
        cap: Money,
    },
}

#[async_trait]
pub trait Tokens {
    /// The stored turn of each window, 0 where none is stored; same order.
    async fn turns(&self, windows: Vec<WindowId>) -> Result<Vec<u16>>;

    /// In one transaction: `INSERT` the spent token, move its window's turn by one `WHERE turn = t`
    /// (each must touch one row), `INSERT` the tap, hold the charge, write the claim, the audit row, the revision.
    async fn claim(&self, claim: Claim) -> Result<ClaimOutcome>;

    async fn claim_record(&self, id: ClaimId) -> Result<Option<ClaimRecord>>;

    /// Was this very token spent?
    async fn is_spent(&self, token: TokenId) -> Result<bool>;

    /// The claim that spent it.
    async fn spender(&self, token: TokenId) -> Result<Option<ClaimId>>;

    /// A claim is over without an approval. `moved` windows advance by one; the charge is offered
    /// again, or ends when it was released too often. False if the claim was not held any more.
    async fn release_claim(&self, id: ClaimId, moved: Vec<WindowId>, at: Timestamp)
    -> Result<bool>;

    /// Turns of `epoch` and later only. None for an unknown terminal.
    async fn push_state(&self, terminal: TerminalId, epoch: u32) -> Result<Option<PushState>>;

    /// The revisions of these terminals, at most [`REVISIONS_MAX`], as far as they are known; in no order.
    async fn revisions(&self, terminals: Vec<TerminalId>) -> Result<Vec<(TerminalId, u64)>>;

    /// What kind of charge a claim would hold now (the till's, or the merchant's fixed or open one).
    async fn charge_on_offer(&self, terminal: TerminalId) -> Result<Option<ChargeKind>>;

    /// The same with payee and amount, for a shopper to look at. None for a terminal that is unknown
    /// or banned.
    async fn offer(&self, terminal: TerminalId, now: Timestamp) -> Result<Option<Offer>>;
}
