//! What must still be true tomorrow?
//!
//! [`Store`] is a sum of short traits, one per topic and file, of domain verbs over owned data. Each
//! writing verb is one transaction: its fact, its audit row, and for what terminals see their new
//! revision, or nothing. No HSM, rail or network call happens inside.

mod allowances;
mod answer;
mod asked;
mod audit;
mod bookings;
mod caps;
mod charges;
mod consents;
mod disputes;
mod fence;
mod identities;
mod intents;
mod lagging;
mod ledger;
mod merchants;
mod misses;
mod nodes;
mod passkeys;
mod payments;
pub mod postgres;
mod profiles;
mod proofs;
mod refunds;
mod reports;
mod retention;
mod revocations;
mod rotation;
mod service_accounts;
mod sessions;
mod settlements;
pub mod sms;
mod sql;
pub mod sqlite;
mod tags;
mod taps;
mod terminals;
mod terms;
mod timelines;
mod tokens;
mod trust;
mod wallets;
mod wear;
mod webhooks;

pub use allowances::{
    Allowances, Barred, Confirmation, Exemption, Limit, Locked, OwnLimits, Spend, SpendRules,
    Standing, StepUpCause, Strength, day_of, end_of_day,
};
pub use answer::{ANSWER_MAX, Patience, hurried, unhurried};
pub use asked::asked_by;
pub use audit::{AuditLog, StoredCheckpoint, StoredRow};
pub use bookings::{Bookings, Cursor, DayTotals, HistoryOf, RailSum};
pub use caps::{AccountCaps, Caps};
pub use charges::{ChargeRecord, ChargeStatus, Charges, Due, NewCharge, StartCharge};
pub use consents::{
    AddOperator, AddRequest, Bar, Begin, Consents, Counted, Heard, NewRequest, OPEN_REQUESTS_MAX,
    OPERATORS_MAX, OperatorRecord, OperatorRevoked, RequestId, RequestRecord, RequestState, Voice,
};
pub use disputes::{
    AskedPayment, Dispute, Disputes, Evidence, Kept, KeptAssertion, KeptReply, Moment, Proof,
    Source, TAPS_AROUND_MS, TAPS_MAX,
};
pub use fence::{Adopted, Difference, Fences, Missing, Raise, RaiseRecord, Raised};
pub use identities::{
    Certificate, CertificateRecord, FirstUse, Identities, InForce, JoinToken, JoinTokenRecord,
    Recorded, Redeem, Renewal, RenewalLimit, RequestJudging, Right, Subject,
};
pub use intents::{Intent, IntentCount, IntentState, IntentStep, Intents, RailKey, Reason};
pub use lagging::may_lag;
pub use ledger::{Account, Balance, Credit, Ledger, LedgerReport, NewAccount, PersonKey};
pub use merchants::{Merchant, Merchants};
pub use misses::{MissCount, Misses, PERSON_SPAN_MS};
pub use nodes::{
    CALLS_BEHIND_MAX, Chore, Contact, FORGET_AFTER_MS, ForgetNode, KeyProof, LOST_AFTER,
    NEWS_EVERY, News, NewsListener, NodeRecord, NodeSays, Nodes, ROWS_BEHIND_MAX, ReplicaState,
    SKEW_MAX_MS,
};
pub use passkeys::{
    About, AddPasskey, CHALLENGES_MAX, Challenge, NewPasskey, PASSKEYS_MAX, Passkey, PasskeyBook,
    Passkeys,
};
pub use payments::{NewReceipt, Pay, PayOutcome, Payment, Payments};
pub use profiles::{
    ACCOUNTS_BROUGHT_MAX, Brought, BroughtAccount, Deleted, IDENTITIES_MAX, Linked, OfferLink,
    OfferedLink, PARTED_KEPT_MS, Profile, ProfileAccount, ProfileIdentity, Profiles, Unlinked,
};
pub use proofs::{NonceKey, Proofs, ShownProof};
pub use refunds::{
    NewRefund, Refund, RefundAsker, RefundOutcome, RefundState, RefundStep, Refunds,
};
pub use reports::Reports;
pub use retention::{DAY_EPOCHS, FORGET_ROWS_MAX, Retention};
pub use revocations::{
    AlarmKind, AlarmRecord, CONNECTED_MAX, CloneAlarm, Connected, CrlRecord, RENEWAL_GRACE_MAX_MS,
    Revocation, Revocations, RevokedSerial,
};
pub use rotation::{
    KeyPurpose, KeyRecord, KeyStep, NAMED_MAX, NewSeed, NoSuchPurpose, OPERATION_ROWS_MAX,
    Operation, OperationId, OperationState, OperatorCertificate, Reseed, Reseeded, Rotation,
    Stepped, Stranded, ToReseed, When, Whose, Work,
};
pub use service_accounts::{LEDGER, NewServiceAccount, ServiceAccount, ServiceAccounts};
pub use sessions::{
    ATTEMPTS_MAX, ATTEMPTS_OF_VISITOR_MAX, Attempt, BeginSignIn, Begun, EndReason, LoggedOut,
    NewSession, ProviderLogout, Purpose, SESSIONS_MAX, SessionRecord, Sessions, Started, Taken,
};
pub use settlements::{CloseDay, CloseOutcome, Settlement, Settlements, Unsettled};
pub use sms::{
    Choice, Hearing, Letter, NewLetter, NewText, StoredText, TalkTurn, TextId, Texts, Turn,
};
pub use sql::SqlStore;
pub use tags::{
    CountingTag, KeyedTap, NewTag, TAGS_PER_TERMINAL_MAX, TagAdded, TagRecord, Tags, TapRefusal,
};
pub use taps::{
    CLOSED_ALARMS_KEPT_MS, Closed, JUDGE_AFTER_MS, JUDGE_DAY_EVERY_MS, LATE_MAX_MS, LINKS_KEPT_MS,
    Reconciled, SPAN_EPOCHS_MAX, TagAlarm, TagAlarmKind, Taps, rules as tap_rules,
};
pub use terminals::{Judging, NewSchedule, Scheduled, Seed, Terminal, TerminalStatus, Terminals};
pub use terms::{
    MerchantTerms, NewTerms, PIN_DAY_MISSES_MAX, PIN_LOCK_MS, PIN_MISSES_MAX, PIN_TRIES_MAX,
    PinHash, PinTry, Terms,
};
pub use timelines::{Server, Timelines};
pub use tokens::{
    Asked, Claim, ClaimOutcome, ClaimRecord, Offer, PushState, REVISIONS_MAX, Tokens,
};
pub use trust::{Behind, Follower, Holders, TrustFollowers};
pub use wallets::{BeginRequest, KeptApproval, RequestBegun, RequestEnd, WalletRequest, Wallets};
pub use wear::{EndingAfter, EndingTag, Pace, Pacing, Wear, WornTag};
pub use webhooks::{NoticeEvent, NoticeRecord, Webhook, Webhooks};

/// Everything the services ask of a database.
pub trait Store:
    Terminals
    + Identities
    + Revocations
    + Consents
    + Merchants
    + Tokens
    + Tags
    + Charges
    + Payments
    + Allowances
    + PasskeyBook
    + Refunds
    + Bookings
    + Settlements
    + Terms
    + Disputes
    + Webhooks
    + Intents
    + ServiceAccounts
    + Ledger
    + Misses
    + Proofs
    + Wallets
    + Texts
    + Caps
    + Reports
    + Retention
    + Wear
    + Taps
    + TrustFollowers
    + Rotation
    + AuditLog
    + Fences
    + Timelines
    + Sessions
    + Profiles
    + Nodes
    + Send
    + Sync
    + 'static
{
}

impl<T> Store for T where
    T: Terminals
        + Identities
        + Revocations
        + Consents
        + Merchants
        + Tokens
        + Tags
        + Charges
        + Payments
        + Allowances
        + PasskeyBook
        + Refunds
        + Bookings
        + Settlements
        + Terms
        + Disputes
        + Webhooks
        + Intents
        + ServiceAccounts
        + Ledger
        + Misses
        + Proofs
        + Wallets
        + Texts
        + Caps
        + Reports
        + Retention
        + Retention
        + Wear
        + Taps
        + TrustFollowers
        + Rotation
        + AuditLog
        + Fences
        + Timelines
        + Sessions
        + Profiles
        + Nodes
        + Send
        + Sync
        + 'static
{
}

/// Why a verb could not be carried out at all. Refusals of the domain are each verb's own answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The queue of writes is full: try later.
    #[error("the store is busy")]
    Busy,
    /// No answer within [`ANSWER_MAX`]; what was asked for may still be done: ask again.
    #[error("the store has not answered within {} s", ANSWER_MAX.as_secs())]
    Late,
    /// The disk is full or the file cannot be written: an operator is needed; nothing was changed.
    #[error("the store cannot write ({detail})")]
    CannotWrite { detail: String },
    /// It is committed and holds, but the journal does not have it: an operator is needed.
    #[error("{detail}")]
    Unjournalled { detail: String },
    /// The database is not there, not ours, or from another version.
    #[error("the store cannot be used ({detail})")]
    Unusable { detail: String },
    /// A row breaks its own rules: restored, edited by hand, or our bug.
    #[error("the store holds something impossible ({detail})")]
    Corrupt { detail: String },
}

pub type Result<T> = std::result::Result<T, StoreError>;
