//! Where are join tokens, and how is one good once?

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use serde_json::json;

use super::SqlStore;
use super::certificates::{
    add_certificate, add_terminal_certificate, find_certificate, in_force, is_key_certified,
    of_subject, renewal, request_judging, set_aside, to_end, use_certificate,
};
use super::row::{all, find, get, terminal, time, time_or_none};
use super::terminals::find_terminal;
use super::writer::{Tx, Verdict};
use crate::journal::hex;
use crate::store::{
    Certificate, CertificateRecord, FirstUse, Identities, InForce, JoinToken, JoinTokenRecord,
    Recorded, Redeem, Renewal, RenewalLimit, RequestJudging, Result, Right, Subject,
    TerminalStatus,
};

#[async_trait]
impl Identities for SqlStore {
    async fn add_join_token(&self, token: JoinToken, at: Timestamp) -> Result<bool> {
        self.write(move |tx| {
            match find_terminal(tx.conn, token.terminal)? {
                Some(terminal) if terminal.status == TerminalStatus::Active => {}
                _ => return Ok(false),
            }
            insert_join_token(tx, &token, at)?;
            Ok(true)
        })
        .await
    }

    async fn redeem_join_token(
        &self,
        terminal: TerminalId,
        hash: [u8; 32],
        spki_sha256: [u8; 32],
        at: Timestamp,
    ) -> Result<Redeem> {
        self.write(move |tx| redeem(tx, terminal, hash, spki_sha256, at))
            .await
    }

    async fn join_tokens(
        &self,
        terminal: Option<TerminalId>,
        good_at: Option<Timestamp>,
        limit: u32,
    ) -> Result<Vec<JoinTokenRecord>> {
        self.read(move |conn| list_join_tokens(conn, terminal, good_at, limit))
            .await
    }

    async fn revoke_join_token(
        &self,
        prefix: [u8; 8],
        at: Timestamp,
    ) -> Result<Option<JoinTokenRecord>> {
        self.write(move |tx| revoke_one(tx, prefix, at)).await
    }

    async fn add_certificate(&self, certificate: Certificate, at: Timestamp) -> Result<()> {
        self.write(move |tx| add_certificate(tx, &certificate, at))
            .await
    }

    async fn add_terminal_certificate(
        &self,
        certificate: Certificate,
        right: Right,
        at: Timestamp,
    ) -> Result<Recorded> {
        self.write(move |tx| add_terminal_certificate(tx, &certificate, &right, at))
            .await
    }

    async fn renewal(
        &self,
        serial: &str,
        spki_sha256: [u8; 32],
        at: Timestamp,
        limit: RenewalLimit,
    ) -> Result<Renewal> {
        let serial = serial.to_owned();
        self.read(move |conn| renewal(conn, &serial, spki_sha256, at, Some(limit)))
            .await
    }

    async fn set_aside(&self, serial: &str, at: Timestamp) -> Result<bool> {
        let serial = serial.to_owned();
        self.write(move |tx| set_aside(tx, &serial, at)).await
    }

    async fn use_certificate(&self, serial: &str, at: Timestamp) -> Result<FirstUse> {
        let serial = serial.to_owned();
        self.write(move |tx| use_certificate(tx, &serial, at)).await
    }

    async fn certificate(&self, serial: &str) -> Result<Option<CertificateRecord>> {
        let serial = serial.to_owned();
        self.read(move |conn| find_certificate(conn, &serial)).await
    }

    async fn request_judging(
        &self,
        serial: &str,
        terminal: TerminalId,
    ) -> Result<Option<RequestJudging>> {
        let serial = serial.to_owned();
        self.look(move |conn| request_judging(conn, &serial, terminal))
            .await
    }

    async fn is_key_certified(&self, spki_sha256: [u8; 32]) -> Result<bool> {
        self.read(move |conn| is_key_certified(conn, spki_sha256))
            .await
    }

    async fn certificates_of(
        &self,
        subject: Subject,
        limit: u32,
    ) -> Result<Vec<CertificateRecord>> {
        self.read(move |conn| of_subject(conn, &subject, limit))
            .await
    }

    async fn certificates_to_end(
        &self,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<CertificateRecord>> {
        self.read(move |conn| to_end(conn, at, limit)).await
    }

    async fn certificates_in_force(&self, at: Timestamp) -> Result<Vec<InForce>> {
        self.read(move |conn| in_force(conn, at)).await
    }
}

pub(super) fn insert_join_token(tx: &mut Tx<'_>, token: &JoinToken, at: Timestamp) -> Result<()> {
    tx.execute_one(
        "INSERT INTO join_tokens (hash, terminal, expires_at_ms, added_at_ms)
         VALUES (?1, ?2, ?3, ?4)",
        params![
            token.hash,
            token.terminal.value(),
            token.expires_at.ms(),
            at.ms()
        ],
    )?;
    let body = json!({
        "terminal": token.terminal,
        "join_token_sha256": hex(&token.hash),
        "expires_at": token.expires_at,
    });
    tx.record("join_token.added", at, &body)
}

fn list_join_tokens(
    conn: &Conn,
    terminal: Option<TerminalId>,
    good_at: Option<Timestamp>,
    limit: u32,
) -> Result<Vec<JoinTokenRecord>> {
    let of = match terminal {
        Some(_) => "terminal = ?1",
        None => "?1 IS NULL",
    };
    all(
        conn,
        &format!(
            "SELECT * FROM join_tokens WHERE {of}
               AND (?2 IS NULL OR (revoked_at_ms IS NULL AND redeemed_at_ms IS NULL
                                   AND expires_at_ms > ?2))
             ORDER BY added_at_ms DESC, hash LIMIT ?3"
        ),
        params![
            terminal.map(TerminalId::value),
            good_at.map(Timestamp::ms),
            limit
        ],
        read_join_token,
    )
}

/// Takes back every join token that is still good, or was used and could be asked for its answer
/// again; answers how many.
pub(super) fn revoke_open_join_tokens(tx: &mut Tx<'_>, at: Timestamp) -> Result<u64> {
    let open = all(
        tx.conn,
        "SELECT * FROM join_tokens WHERE revoked_at_ms IS NULL AND expires_at_ms > ?1",
        [at.ms()],
        read_join_token,
    )?;
    for token in &open {
        revoke(tx, token, at)?;
    }
    Ok(open.len() as u64)
}

fn redeem(
    tx: &mut Tx<'_>,
    terminal: TerminalId,
    hash: [u8; 32],
    spki_sha256: [u8; 32],
    at: Timestamp,
) -> Verdict<Redeem> {
    let stored = find_join_token(tx.conn, hash)?;
    let Some(stored) = stored.filter(|stored| stored.record.token.terminal == terminal) else {
        return Ok(Redeem::Refused);
    };
    let banned =
        find_terminal(tx.conn, terminal)?.is_none_or(|t| t.status != TerminalStatus::Active);
    if banned {
        return Ok(Redeem::Banned);
    }
    if !stored.is_open(at) {
        return Ok(Redeem::Refused);
    }
    match stored.spki_sha256 {
        Some(first) if first == spki_sha256 => answered(tx.conn, hash),
        Some(_) => Ok(Redeem::Refused),
        None if is_key_certified(tx.conn, spki_sha256)? => Ok(Redeem::KeyReused),
        None => bind(tx, terminal, hash, spki_sha256, at),
    }
}

/// The certificate of a join token that was used with this key before, if it got that far.
fn answered(conn: &Conn, hash: [u8; 32]) -> Verdict<Redeem> {
    let serial: Option<String> = find(
        conn,
        "SELECT serial FROM certificates WHERE join_token = ?1",
        [hash],
        |row| get(row, "serial"),
    )?;
    let Some(serial) = serial else {
        return Ok(Redeem::Good);
    };
    Ok(match find_certificate(conn, &serial)? {
        Some(record) if record.revoked.is_none() && !record.certificate.der.is_empty() => {
            Redeem::Answered(record.certificate.der)
        }
        _ => Redeem::Refused,
    })
}

fn bind(
    tx: &mut Tx<'_>,
    terminal: TerminalId,
    hash: [u8; 32],
    spki_sha256: [u8; 32],
    at: Timestamp,
) -> Verdict<Redeem> {
    tx.execute_one(
        "UPDATE join_tokens SET spki_sha256 = ?2, redeemed_at_ms = ?3
         WHERE hash = ?1 AND spki_sha256 IS NULL",
        params![hash, spki_sha256, at.ms()],
    )?;
    let body = json!({
        "terminal": terminal,
        "join_token_sha256": hex(&hash),
        "spki_sha256": hex(&spki_sha256),
    });
    tx.record("join_token.redeemed", at, &body)?;
    Ok(Redeem::Good)
}

fn revoke_one(tx: &mut Tx<'_>, prefix: [u8; 8], at: Timestamp) -> Verdict<Option<JoinTokenRecord>> {
    let (mut first, mut last) = ([0; 32], [0xff; 32]);
    first[..8].copy_from_slice(&prefix);
    last[..8].copy_from_slice(&prefix);
    let found = find(
        tx.conn,
        "SELECT * FROM join_tokens WHERE hash BETWEEN ?1 AND ?2",
        params![first, last],
        read_join_token,
    )?;
    let Some(mut found) = found else {
        return Ok(None);
    };
    if found.revoked_at.is_none() {
        revoke(tx, &found, at)?;
        found.revoked_at = Some(at);
    }
    Ok(Some(found))
}

fn revoke(tx: &mut Tx<'_>, record: &JoinTokenRecord, at: Timestamp) -> Result<()> {
    tx.execute_one(
        "UPDATE join_tokens SET revoked_at_ms = ?2 WHERE hash = ?1 AND revoked_at_ms IS NULL",
        params![record.token.hash, at.ms()],
    )?;
    let body = json!({
        "terminal": record.token.terminal,
        "join_token_sha256": hex(&record.token.hash),
    });
    tx.record("join_token.revoked", at, &body)
}

/// A join token with the key it is bound to.
pub(super) struct Stored {
    pub(super) record: JoinTokenRecord,
    pub(super) spki_sha256: Option<[u8; 32]>,
}

impl Stored {
    pub(super) fn is_open(&self, at: Timestamp) -> bool {
        at < self.record.token.expires_at && self.record.revoked_at.is_none()
    }
}

pub(super) fn find_join_token(conn: &Conn, hash: [u8; 32]) -> Result<Option<Stored>> {
    find(
        conn,
        "SELECT * FROM join_tokens WHERE hash = ?1",
        [hash],
        |row| {
            Ok(Stored {
                record: read_join_token(row)?,
                spki_sha256: get(row, "spki_sha256")?,
            })
        },
    )
}

fn read_join_token(row: &Row<'_>) -> Result<JoinTokenRecord> {
    Ok(JoinTokenRecord {
        token: JoinToken {
            terminal: terminal(row, "terminal")?,
            hash: get(row, "hash")?,
            expires_at: time(row, "expires_at_ms")?,
        },
        added_at: time(row, "added_at_ms")?,
        redeemed_at: time_or_none(row, "redeemed_at_ms")?,
        revoked_at: time_or_none(row, "revoked_at_ms")?,
    })
}
