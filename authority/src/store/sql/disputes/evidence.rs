//! Which evidence was kept of a charge, and what does the audit chain say of them?
//!
//! Nothing is judged here: the bytes go out as they lie in the tables.

use crate::store::sql::conn::{Conn, Row, params};
use protocol::ids::{AccountId, ChargeId, ClaimId, MerchantId, PaymentId, ReceiptId, RefundId};
use protocol::money::Money;
use protocol::time::Timestamp;

use super::super::audit::read_row;
use super::super::row::{all, currency, find, get, money, time, uuid, uuid_or_none};
use super::super::wallets::read_approval;
use super::{With, id_of, moment};
use crate::store::sqlite::error::corrupt;
use crate::store::{
    AskedPayment, Evidence, Kept, KeptAssertion, KeptReply, Moment, Result, Source, StoredRow,
};

/// Most audit rows that are read of one payment.
const ROWS_MAX: u32 = 50;

/// A claim, and what was asked for with it if anything was.
struct Attempt {
    claim: ClaimId,
    asked: Option<AskedPayment>,
    at: Timestamp,
}

/// What shoppers agreed with, for every payment that was asked for.
pub(super) fn approvals(conn: &Conn, charge: ChargeId) -> Result<Vec<Moment>> {
    let mut found = Vec::new();
    for attempt in attempts(conn, charge)? {
        let rows = rows(conn, &attempt)?;
        let of = |kinds: &str| -> Vec<StoredRow> {
            let wanted = rows.iter().filter(|it| it.row.kind == kinds);
            wanted.cloned().collect()
        };
        let mut told = Vec::new();
        let signed = approval(conn, attempt.claim)?;
        add(
            &mut told,
            "approval signed by a wallet",
            signed,
            of("approval.signed"),
        );
        let confirmed = match &attempt.asked {
            Some(asked) => assertion(conn, asked.payment)?,
            None => None,
        };
        let confirmed = confirmed.map(Evidence::Assertion);
        add(
            &mut told,
            "confirmed by a passkey",
            confirmed,
            of("payment.confirmed"),
        );
        let mut agreed = of("sms.turned");
        agreed.retain(is_agreement);
        let replied = reply(conn, attempt.claim, !agreed.is_empty())?.map(Evidence::Reply);
        add(&mut told, "approved by a reply", replied, agreed);
        if told.is_empty() && attempt.asked.is_some() {
            told.push((
                "approved under a sign-in alone",
                Evidence::SignInAlone,
                Vec::new(),
            ));
        }
        found.extend(told.into_iter().map(|(what, evidence, rows)| {
            let at = match &evidence {
                Evidence::Approval { at, .. } => *at,
                _ => rows.last().map_or(attempt.at, |row| row.row.at),
            };
            kept(&attempt, at, what, evidence, rows)
        }));
    }
    Ok(found)
}

pub(super) fn receipts(conn: &Conn, charge: ChargeId) -> Result<Vec<Moment>> {
    all(
        conn,
        "SELECT payments.id AS payment, payments.claim, payments.amount_minor,
                payments.service_account, payments.receipt, charges.currency, charges.merchant,
                receipts.jws, receipts.stored_at_ms AS at_ms
         FROM receipts JOIN payments ON payments.id = receipts.payment
         JOIN claims ON claims.id = payments.claim
         JOIN charges ON charges.id = claims.charge
         WHERE claims.charge = ?1",
        [charge.0.as_bytes()],
        |row| {
            let attempt = read_attempt(row)?;
            let evidence = Evidence::Receipt {
                receipt: ReceiptId(uuid(row, "receipt")?),
                jws: get(row, "jws")?,
            };
            let signed = kept(&attempt, attempt.at, "receipt signed", evidence, Vec::new());
            Ok(signed.with("receipt", id_of(row, "receipt")?))
        },
    )
}

pub(super) fn refund_receipts(conn: &Conn, charge: ChargeId) -> Result<Vec<Moment>> {
    all(
        conn,
        "SELECT payments.id AS payment, payments.claim, payments.amount_minor,
                payments.service_account, charges.currency, charges.merchant, refunds.id AS refund,
                refunds.receipt, refunds.amount_minor AS refund_minor, refund_receipts.jws,
                refund_receipts.stored_at_ms AS at_ms
         FROM refund_receipts JOIN refunds ON refunds.id = refund_receipts.refund
         JOIN payments ON payments.id = refunds.payment
         JOIN claims ON claims.id = payments.claim
         JOIN charges ON charges.id = claims.charge
         WHERE claims.charge = ?1 ORDER BY refunds.asked_at_ms",
        [charge.0.as_bytes()],
        |row| {
            let attempt = read_attempt(row)?;
            let evidence = Evidence::RefundReceipt {
                refund: RefundId(uuid(row, "refund")?),
                amount: amount(row, "refund_minor")?,
                jws: get(row, "jws")?,
            };
            let what = "refund receipt signed";
            let signed = kept(&attempt, attempt.at, what, evidence, Vec::new());
            Ok(signed.with("receipt", id_of(row, "receipt")?))
        },
    )
}

fn kept(
    attempt: &Attempt,
    at: Timestamp,
    what: &str,
    evidence: Evidence,
    rows: Vec<StoredRow>,
) -> Moment {
    let mut moment = moment(at, Source::Authority, what).with("claim", attempt.claim);
    if let Some(asked) = &attempt.asked {
        moment = moment.with("payment", asked.payment);
    }
    moment.kept = Some(Box::new(Kept {
        evidence,
        claim: attempt.claim,
        asked: attempt.asked.clone(),
        rows,
    }));
    moment
}

/// What the audit chain speaks of and is not there is evidence as well.
fn add(
    told: &mut Vec<(&'static str, Evidence, Vec<StoredRow>)>,
    what: &'static str,
    evidence: Option<Evidence>,
    rows: Vec<StoredRow>,
) {
    match evidence {
        Some(evidence) => told.push((what, evidence, rows)),
        None if !rows.is_empty() => told.push((what, Evidence::Gone, rows)),
        None => {}
    }
}

/// Payments, intents that are none, and claims with which an approval was kept and nothing asked.
fn attempts(conn: &Conn, charge: ChargeId) -> Result<Vec<Attempt>> {
    all(
        conn,
        "WITH own (claim) AS (SELECT id FROM claims WHERE charge = ?1),
         asked (payment, claim, amount_minor, service_account, at_ms) AS (
             SELECT id, claim, amount_minor, service_account, approved_at_ms FROM payments
             WHERE claim IN (SELECT claim FROM own)
             UNION ALL
             SELECT payment, claim, amount_minor, service_account, started_at_ms FROM intents
             WHERE claim IN (SELECT claim FROM own)
                 AND NOT EXISTS (SELECT 1 FROM payments WHERE payments.id = intents.payment)
         )
         SELECT asked.payment, claims.id AS claim, asked.amount_minor, asked.service_account,
                coalesce(asked.at_ms, claims.claimed_at_ms) AS at_ms, charges.currency,
                charges.merchant
         FROM claims JOIN charges ON charges.id = claims.charge
         LEFT JOIN asked ON asked.claim = claims.id
         WHERE claims.charge = ?1 ORDER BY at_ms",
        [charge.0.as_bytes()],
        read_attempt,
    )
}

fn read_attempt(row: &Row<'_>) -> Result<Attempt> {
    let asked = match uuid_or_none(row, "payment")? {
        None => None,
        Some(payment) => Some(AskedPayment {
            payment: PaymentId(payment),
            amount: amount(row, "amount_minor")?,
            payee: MerchantId(uuid(row, "merchant")?),
            account: AccountId(uuid(row, "service_account")?),
        }),
    };
    Ok(Attempt {
        claim: ClaimId(uuid(row, "claim")?),
        asked,
        at: time(row, "at_ms")?,
    })
}

fn amount(row: &Row<'_>, column: &str) -> Result<Money> {
    money(row, column, currency(row, "currency")?)?.ok_or_else(|| corrupt("no amount"))
}

/// Oldest first.
fn rows(conn: &Conn, attempt: &Attempt) -> Result<Vec<StoredRow>> {
    let payment = attempt.asked.as_ref().map(|it| it.payment.to_string());
    all(
        conn,
        "SELECT * FROM audit_rows
         WHERE kind IN ('approval.signed', 'sms.turned') AND json_valid(body)
             AND json_extract(body, '$.claim') = ?1
         UNION ALL
         SELECT * FROM audit_rows WHERE kind = 'payment.confirmed' AND json_valid(body)
             AND json_extract(body, '$.payment') = ?2
         ORDER BY at_ms, sequence LIMIT ?3",
        params![attempt.claim.to_string(), payment, ROWS_MAX],
        read_row,
    )
}

/// The row of the reply itself.
fn is_agreement(row: &StoredRow) -> bool {
    let body = serde_json::from_str::<serde_json::Value>(&row.row.body);
    body.is_ok_and(|body| body["stage"] == "approving")
}

fn approval(conn: &Conn, claim: ClaimId) -> Result<Option<Evidence>> {
    find(
        conn,
        "SELECT * FROM signed_approvals WHERE claim = ?1",
        [claim.0.as_bytes()],
        |row| {
            Ok(Evidence::Approval {
                approval: read_approval(row)?,
                at: time(row, "kept_at_ms")?,
            })
        },
    )
}

fn assertion(conn: &Conn, payment: PaymentId) -> Result<Option<KeptAssertion>> {
    find(
        conn,
        "SELECT confirmations.*, passkeys.public_point FROM confirmations
         LEFT JOIN passkeys ON passkeys.id = confirmations.passkey
         WHERE confirmations.payment = ?1",
        [payment.0.as_bytes()],
        |row| {
            Ok(KeptAssertion {
                passkey: get(row, "passkey")?,
                public_point: get(row, "public_point")?,
                nonce: get(row, "nonce")?,
                authenticator_data: get(row, "authenticator_data")?,
                client_data: get(row, "client_data")?,
                signature: get(row, "signature")?,
            })
        },
    )
}

/// The talk of this claim, if its shopper has agreed, or the audit chain says so.
fn reply(conn: &Conn, claim: ClaimId, agreed: bool) -> Result<Option<KeptReply>> {
    find(
        conn,
        "SELECT * FROM sms_talks WHERE claim = ?1 AND (?2 = 1 OR stage IN ('approving', 'paid'))",
        params![claim.0.as_bytes(), agreed],
        |row| {
            let offered = match get::<Option<String>>(row, "currency")? {
                Some(_) => money(row, "amount_minor", currency(row, "currency")?)?,
                None => None,
            };
            Ok(KeptReply {
                talk: uuid(row, "id")?,
                stage: get(row, "stage")?,
                offered,
                wrong: get(row, "wrong")?,
            })
        },
    )
}
