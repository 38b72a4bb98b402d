//! What has a wallet asked for already, and what did it sign?
//!
//! A request has a name of the wallet's choosing. The first time it is asked it gets the id of the claim
//! that it will make; whoever asks again under that name, after a crash as well, goes on with that claim.

use async_trait::async_trait;
use protocol::dpop::Thumbprint;
use protocol::ids::{ClaimId, PaymentId};
use protocol::time::Timestamp;

use super::{Payment, PersonKey, Result};

/// An approval as a wallet signed it, kept with the claim that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptApproval {
    pub key: Thumbprint,
    /// SHA-256 of its `jti`.
    pub jti: [u8; 32],
    /// The wallet's key, uncompressed SEC 1: verifies it.
    pub public_point: [u8; 65],
    /// Compact JWS.
    pub jws: String,
}

/// Which request of which wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalletRequest {
    pub key: Thumbprint,
    /// SHA-256 of its `Idempotency-Key`.
    pub name: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginRequest {
    pub request: WalletRequest,
    /// SHA-256 of who asks for what.
    pub fingerprint: [u8; 32],
    /// The claim that it makes, if this is the first time.
    pub claim: ClaimId,
    pub at: Timestamp,
    /// Until when nobody else carries it out.
    pub running_until: Timestamp,
    /// Most requests of one key that are remembered.
    pub remembered_max: u32,
}

/// How a request stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestBegun {
    /// Carry it out, with this claim: it may be there already.
    Go(ClaimId),
    /// Somebody is at work on it.
    Running(ClaimId),
    /// It was refused for good; if its claim is paid all the same, that goes before.
    Refused {
        claim: ClaimId,
        status: u16,
        body: Vec<u8>,
    },
    /// The name stands for another request.
    Differs,
    /// The key has its most requests that are not forgotten yet; the oldest began then.
    TooMany(Timestamp),
}

/// How an attempt ended that did not pay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestEnd {
    /// Whoever asks again may try at once.
    Open,
    /// Whoever asks again hears the same.
    Refused { status: u16, body: Vec<u8> },
}

#[async_trait]
pub trait Wallets {
    /// Takes the request, or says who has it and how it ended. No audit row: what it does has its own.
    async fn begin_wallet_request(&self, begin: BeginRequest) -> Result<RequestBegun>;

    /// An attempt is over. A refusal that stands already stays.
    async fn end_wallet_request(&self, request: WalletRequest, end: RequestEnd) -> Result<()>;

    /// Forgets requests that were first asked before `before`, at most so many; answers how many.
    async fn forget_wallet_requests(&self, before: Timestamp, limit: u32) -> Result<usize>;

    /// The approval that a wallet signed for this claim.
    async fn kept_approval(&self, claim: ClaimId) -> Result<Option<KeptApproval>>;

    /// A payment, if this person paid it.
    async fn payment_by(&self, payment: PaymentId, person: PersonKey) -> Result<Option<Payment>>;
}
