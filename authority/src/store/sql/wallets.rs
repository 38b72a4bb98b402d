//! How is a wallet's request carried out once, however often it is asked?

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::dpop::Thumbprint;
use protocol::ids::{ClaimId, PaymentId};
use protocol::time::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::SqlStore;
use super::payments::{find_payment, is_payer};
use super::row::{find, get, one, time, time_or_none, uuid};
use super::subjects::only;
use super::writer::{Tx, Verdict};
use crate::journal::hex;
use crate::store::{
    BeginRequest, KeptApproval, Payment, PersonKey, RequestBegun, RequestEnd, Result,
    WalletRequest, Wallets,
};

#[async_trait]
impl Wallets for SqlStore {
    async fn begin_wallet_request(&self, begin: BeginRequest) -> Result<RequestBegun> {
        self.write_on(only("wallet", begin.request.key.as_bytes()), move |tx| {
            begin_wallet_request(tx, &begin)
        })
        .await
    }

    async fn end_wallet_request(&self, request: WalletRequest, end: RequestEnd) -> Result<()> {
        self.write_on(only("wallet", request.key.as_bytes()), move |tx| {
            end_wallet_request(tx, &request, &end)
        })
        .await
    }

    async fn forget_wallet_requests(&self, before: Timestamp, limit: u32) -> Result<usize> {
        self.write(move |tx| {
            let sql = "DELETE FROM wallet_requests WHERE (key, name) IN
                       (SELECT key, name FROM wallet_requests WHERE began_at_ms < ?1
                        ORDER BY began_at_ms LIMIT ?2)";
            Ok(tx.execute(sql, params![before.ms(), limit])?)
        })
        .await
    }

    async fn kept_approval(&self, claim: ClaimId) -> Result<Option<KeptApproval>> {
        self.read(move |conn| {
            let sql = "SELECT * FROM signed_approvals WHERE claim = ?1";
            find(conn, sql, [claim.0.as_bytes()], read_approval)
        })
        .await
    }

    async fn payment_by(&self, payment: PaymentId, person: PersonKey) -> Result<Option<Payment>> {
        self.read(move |conn| match is_payer(conn, payment, &person)? {
            true => find_payment(conn, payment),
            false => Ok(None),
        })
        .await
    }
}

fn begin_wallet_request(tx: &mut Tx<'_>, begin: &BeginRequest) -> Verdict<RequestBegun> {
    let Some(known) = find_request(tx.conn, &begin.request)? else {
        if let Some(oldest) = full_since(tx.conn, begin)? {
            return Ok(RequestBegun::TooMany(oldest));
        }
        insert(tx, begin)?;
        return Ok(RequestBegun::Go(begin.claim));
    };
    if known.fingerprint != begin.fingerprint {
        return Ok(RequestBegun::Differs);
    }
    if let Some((status, body)) = known.refusal {
        let claim = known.claim;
        return Ok(RequestBegun::Refused {
            claim,
            status,
            body,
        });
    }
    if known.running_until > begin.at {
        return Ok(RequestBegun::Running(known.claim));
    }
    tx.execute_one(
        "UPDATE wallet_requests SET running_until_ms = ?3 WHERE key = ?1 AND name = ?2",
        params![
            begin.request.key.as_bytes(),
            begin.request.name,
            begin.running_until.ms()
        ],
    )?;
    Ok(RequestBegun::Go(known.claim))
}

/// What is asked under a new name is one row more, until it is forgotten: when the oldest of a key began
/// that has its full number.
fn full_since(conn: &Conn, begin: &BeginRequest) -> Result<Option<Timestamp>> {
    let (requests, oldest) = one(
        conn,
        "SELECT count(*) AS requests, min(began_at_ms) AS oldest_ms FROM wallet_requests
         WHERE key = ?1",
        [begin.request.key.as_bytes()],
        |row| {
            Ok((
                get::<u32>(row, "requests")?,
                time_or_none(row, "oldest_ms")?,
            ))
        },
    )?;
    Ok(oldest.filter(|_| requests >= begin.remembered_max))
}

fn insert(tx: &Tx<'_>, begin: &BeginRequest) -> Result<()> {
    tx.execute_one(
        "INSERT INTO wallet_requests (key, name, fingerprint, claim, began_at_ms, running_until_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            begin.request.key.as_bytes(),
            begin.request.name,
            begin.fingerprint,
            begin.claim.0.as_bytes(),
            begin.at.ms(),
            begin.running_until.ms()
        ],
    )
}

/// Of a request that was forgotten meanwhile there is nothing to say.
fn end_wallet_request(tx: &mut Tx<'_>, request: &WalletRequest, end: &RequestEnd) -> Verdict<()> {
    let (status, refusal) = match end {
        RequestEnd::Open => (None, None),
        RequestEnd::Refused { status, body } => (Some(status), Some(body)),
    };
    tx.execute(
        "UPDATE wallet_requests SET running_until_ms = 0, status = ?3, refusal = ?4
         WHERE key = ?1 AND name = ?2 AND status IS NULL",
        params![request.key.as_bytes(), request.name, status, refusal],
    )?;
    Ok(())
}

struct KnownRequest {
    fingerprint: [u8; 32],
    claim: ClaimId,
    running_until: Timestamp,
    refusal: Option<(u16, Vec<u8>)>,
}

fn find_request(conn: &Conn, request: &WalletRequest) -> Result<Option<KnownRequest>> {
    find(
        conn,
        "SELECT * FROM wallet_requests WHERE key = ?1 AND name = ?2",
        params![request.key.as_bytes(), request.name],
        |row| {
            let status: Option<u16> = get(row, "status")?;
            Ok(KnownRequest {
                fingerprint: get(row, "fingerprint")?,
                claim: ClaimId(uuid(row, "claim")?),
                running_until: time(row, "running_until_ms")?,
                refusal: status.zip(get(row, "refusal")?),
            })
        },
    )
}

/// False if the wallet's key signed another approval of this name before.
pub(super) fn keep_approval(
    tx: &mut Tx<'_>,
    claim: ClaimId,
    approval: &KeptApproval,
    at: Timestamp,
) -> Result<bool> {
    let rows = tx.execute(
        "INSERT INTO signed_approvals (claim, key, jti, public_point, jws, kept_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (key, jti) DO NOTHING",
        params![
            claim.0.as_bytes(),
            approval.key.as_bytes(),
            approval.jti,
            approval.public_point,
            approval.jws,
            at.ms()
        ],
    )?;
    if rows == 1 {
        let body = json!({
            "claim": claim,
            "key": approval.key.to_string(),
            "jws_sha256": hex(&Sha256::digest(approval.jws.as_bytes())),
        });
        tx.record("approval.signed", at, &body)?;
    }
    Ok(rows == 1)
}

pub(super) fn read_approval(row: &Row<'_>) -> Result<KeptApproval> {
    let key: [u8; 32] = get(row, "key")?;
    Ok(KeptApproval {
        key: Thumbprint::from_bytes(key),
        jti: get(row, "jti")?,
        public_point: get(row, "public_point")?,
        jws: get(row, "jws")?,
    })
}
