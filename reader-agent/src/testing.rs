//! What do the unit tests of several modules share?
#![allow(clippy::unwrap_used)]

pub(crate) mod authority;
pub(crate) mod boards;
pub(crate) mod front;
#[cfg(unix)]
pub(crate) mod pty;
pub(crate) mod stand;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use protocol::audit::{CheckpointClaims, Head};
use protocol::charge::{ChargeKind, Mark};
use protocol::derive::EpochKey;
use protocol::ids::{ChargeId, ClaimId, EventId, MerchantId, PaymentId, ReceiptId, TerminalId};
use protocol::jwk::{Jwk, JwkSet};
use protocol::jws::{Purpose, Unsigned};
use protocol::money::{Currency, Money};
use protocol::receipt::{Payee, ReceiptClaims};
use protocol::refund::RefundClaims;
use protocol::schedule::{EpochCheck, NfcPace, Rank, ScheduleClaims};
use protocol::time::{Millis, Timestamp};
use protocol::token::{Channel, WindowId};
use protocol::window::{EpochClock, Policy};
use protocol::wire::push::{ChargeStage, ChargeState, TerminalState};
use protocol::wire::refunds::RefundRequest;
use protocol::wire::reports::{Seen, TerminalEvent};
use protocol::wire::schedules::{EpochKeyEntry, ScheduleResponse};

use crate::checkpoint::Checkpoint;
use crate::clock::{Clock, Hands};
use crate::rotation::Face;

/// Clocks whose ticks a test moves, and whose wall clock stands.
pub(crate) struct MovedHands {
    pub(crate) ticks: Arc<AtomicI64>,
    pub(crate) wall: Timestamp,
    pub(crate) boot_id: u128,
}

impl Hands for MovedHands {
    fn ticks_ms(&self) -> Millis {
        self.ticks.load(Ordering::SeqCst)
    }

    fn wall(&self) -> Timestamp {
        self.wall
    }

    fn boot_id(&self) -> Option<u128> {
        Some(self.boot_id)
    }
}

/// A clock that knows nothing yet.
pub(crate) fn clock_by_hand(ticks: Arc<AtomicI64>) -> Clock {
    let hands = MovedHands {
        ticks,
        wall: Timestamp::from_ms(0),
        boot_id: 1,
    };
    Clock::with(Box::new(hands), None)
}

/// An authority's signing key.
pub(crate) struct Signer {
    key: SigningKey,
    jwk: Jwk,
}

impl Signer {
    pub(crate) fn new(seed: u8) -> Self {
        let key = SigningKey::from_slice(&[seed; 32]).unwrap();
        let point = key.verifying_key().to_sec1_point(false);
        let jwk = Jwk::from_point(point.as_bytes().try_into().unwrap()).unwrap();
        Self { key, jwk }
    }

    pub(crate) fn keys(&self) -> JwkSet {
        JwkSet {
            keys: vec![self.jwk.clone()],
        }
    }

    pub(crate) fn sign<C: Purpose>(&self, claims: &C) -> String {
        let unsigned = Unsigned::new(claims, self.jwk.kid.as_deref().unwrap());
        let signature: Signature = self.key.sign_prehash(&unsigned.digest()).unwrap();
        unsigned.with_signature(&signature.to_bytes().into())
    }
}

/// A schedule as the authority would issue it.
pub(crate) struct Issue {
    pub(crate) signer: Signer,
    pub(crate) terminal: TerminalId,
    pub(crate) sequence: u64,
    pub(crate) generation: u32,
    pub(crate) version: u32,
    pub(crate) policy: Policy,
    pub(crate) nfc_paces: Vec<NfcPace>,
}

impl Issue {
    pub(crate) fn new(sequence: u64) -> Self {
        Self {
            signer: Signer::new(1),
            terminal: terminal(1),
            sequence,
            generation: 1,
            version: 1,
            policy: Policy::default(),
            nfc_paces: Vec::new(),
        }
    }

    pub(crate) fn epochs(&self, epochs: std::ops::Range<u32>) -> ScheduleResponse {
        let clock = EpochClock::of(self.terminal);
        let keys: Vec<EpochKeyEntry> = epochs.clone().map(|e| self.entry(e)).collect();
        let claims = ScheduleClaims {
            iss: "spiffe://m2key.example/authority/one".into(),
            sub: format!("spiffe://m2key.example/terminal/{}", self.terminal),
            iat: 0,
            terminal: self.terminal,
            generation: self.generation,
            sequence: self.sequence,
            valid_from: clock.opens(epochs.start).secs(),
            valid_until: clock.closes(epochs.end.max(1) - 1).secs(),
            policy: self.policy,
            nfc_paces: self.nfc_paces.clone(),
            link_host: "pay.example".into(),
            epochs: keys
                .iter()
                .map(|k| EpochCheck::new(k.epoch, k.version, &k.key))
                .collect(),
        };
        ScheduleResponse {
            schedule: self.signer.sign(&claims),
            epoch_keys: keys,
        }
    }

    pub(crate) fn entry(&self, epoch: u32) -> EpochKeyEntry {
        let mut bytes = [self.version as u8; 32];
        bytes[..4].copy_from_slice(&epoch.to_be_bytes());
        EpochKeyEntry {
            epoch,
            version: self.version,
            key: EpochKey::from_bytes(bytes),
        }
    }
}

/// A place in the first generation.
pub(crate) fn rank(sequence: u64) -> Rank {
    Rank {
        generation: 1,
        sequence,
    }
}

pub(crate) fn terminal(n: u32) -> TerminalId {
    TerminalId::from_number(1_234_000 + n).unwrap()
}

pub(crate) fn charge_id(n: u64) -> ChargeId {
    ChargeId::from_parts(n, &[1; 10])
}

pub(crate) fn claim_id(n: u64) -> ClaimId {
    ClaimId::from_parts(n, &[2; 10])
}

pub(crate) fn event_id(n: u64) -> EventId {
    EventId::from_parts(n, &[3; 10])
}

pub(crate) fn event(n: u64) -> TerminalEvent {
    TerminalEvent {
        id: event_id(n),
        at: Timestamp::from_ms(n as i64),
        what: Seen::TagFailed {
            reason: format!("reason {n}"),
        },
    }
}

pub(crate) fn mark(n: u8) -> Mark {
    Mark::try_from(n).unwrap()
}

pub(crate) fn money(minor: i64) -> Money {
    Money::new(minor, Currency::EUR).unwrap()
}

/// Claim 1 has paid charge 1 under mark 07.
pub(crate) fn receipt_claims(terminal: TerminalId, minor: i64) -> ReceiptClaims {
    ReceiptClaims {
        iss: "spiffe://m2key.example/authority/one".into(),
        sub: "payer".into(),
        jti: "1".into(),
        iat: 0,
        receipt: ReceiptId::from_parts(1, &[4; 10]),
        payment: PaymentId::from_parts(1, &[5; 10]),
        claim: claim_id(1),
        charge: charge_id(1),
        kind: ChargeKind::Till,
        reference: None,
        terminal,
        channel: Channel::Qr,
        payee: Payee {
            id: MerchantId::from_parts(1, &[6; 10]),
            name: "Corner Shop".into(),
        },
        amount: money(minor),
        mark: mark(7),
        rail: "ledger".into(),
        rail_reference: "1".into(),
    }
}

/// What `terminal` asked for is given back.
pub(crate) fn refund_claims(terminal: TerminalId, request: &RefundRequest) -> RefundClaims {
    let paid = receipt_claims(terminal, 420);
    RefundClaims {
        iss: paid.iss,
        sub: paid.sub,
        jti: "2".into(),
        iat: 0,
        receipt: ReceiptId::from_parts(1, &[7; 10]),
        refund: request.refund,
        payment: paid.payment,
        payment_receipt: paid.receipt,
        charge: request.charge,
        reference: None,
        terminal: Some(terminal),
        payee: paid.payee,
        amount: request.amount,
        paid: paid.amount,
        reason: request.reason.clone(),
        rail: "ledger".into(),
        rail_reference: "2".into(),
    }
}

pub(crate) fn till_charge(stage: ChargeStage) -> ChargeState {
    ChargeState {
        charge: charge_id(1),
        kind: ChargeKind::Till,
        amount: Some(money(420)),
        reference: Some("Order 17".into()),
        stage,
    }
}

pub(crate) fn frame(revision: u64, now: Timestamp, charge: Option<ChargeState>) -> TerminalState {
    TerminalState {
        revision,
        now,
        turns: Vec::new(),
        charge,
        schedule_due: false,
        schedule_within_ms: 0,
        upkeep: Default::default(),
    }
}

/// A checkpoint signed by the first signer.
pub(crate) fn checkpoint(generation: u32, iat: i64, rows: u64) -> Checkpoint {
    let signer = Signer::new(1);
    Checkpoint::verify(
        &signer.sign(&checkpoint_claims(generation, iat, rows)),
        &signer.keys(),
    )
    .unwrap()
}

pub(crate) fn checkpoint_claims(generation: u32, iat: i64, rows: u64) -> CheckpointClaims {
    CheckpointClaims {
        iss: "spiffe://m2key.example/authority/one".into(),
        iat,
        generation,
        heads: vec![Head {
            node: "one".into(),
            sequence: rows,
            hash: "00".repeat(32),
        }],
    }
}

pub(crate) fn nfc_face(window: u16, turn: u16) -> Face {
    let id = WindowId {
        terminal: terminal(1),
        version: 1,
        channel: Channel::Nfc,
        epoch: 1,
        window,
    };
    Face::for_tests("https://pay.example/t/x", id, turn)
}
