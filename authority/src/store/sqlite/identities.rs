//! Where are join tokens and certificates, and how is a join token good once?

use async_trait::async_trait;
use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use rusqlite::{Row, params};
use serde_json::json;

use super::SqliteStore;
use super::error::corrupt;
use super::persons::hex;
use super::row::{find, get, terminal, time};
use super::terminals::find_terminal;
use super::writer::{Tx, Verdict};
use crate::store::{Certificate, Identities, JoinToken, Redeem, Result, Subject, TerminalStatus};

#[async_trait]
impl Identities for SqliteStore {
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

    async fn add_certificate(&self, certificate: Certificate, at: Timestamp) -> Result<()> {
        self.write(move |tx| Ok(add_certificate(tx, &certificate, at)?))
            .await
    }

    async fn certificate(&self, serial: &str) -> Result<Option<Certificate>> {
        let serial = serial.to_owned();
        self.read(move |conn| {
            find(
                conn,
                "SELECT * FROM certificates WHERE serial = ?1",
                [serial],
                read_certificate,
            )
        })
        .await
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

struct Stored {
    terminal: TerminalId,
    expires_at: Timestamp,
    spki_sha256: Option<[u8; 32]>,
}

fn redeem(
    tx: &mut Tx<'_>,
    terminal: TerminalId,
    hash: [u8; 32],
    spki_sha256: [u8; 32],
    at: Timestamp,
) -> Verdict<Redeem> {
    let stored = find(
        tx.conn,
        "SELECT * FROM join_tokens WHERE hash = ?1",
        [hash],
        read_stored,
    )?;
    let Some(stored) = stored.filter(|stored| stored.terminal == terminal) else {
        return Ok(Redeem::Refused);
    };
    let banned =
        find_terminal(tx.conn, terminal)?.is_none_or(|t| t.status != TerminalStatus::Active);
    if banned {
        return Ok(Redeem::Banned);
    }
    if at >= stored.expires_at {
        return Ok(Redeem::Refused);
    }
    match stored.spki_sha256 {
        Some(first) if first == spki_sha256 => Ok(Redeem::Good),
        Some(_) => Ok(Redeem::Refused),
        None => bind(tx, terminal, hash, spki_sha256, at),
    }
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

/// Takes in what a restore has lost; the audit says that it came from outside.
pub(super) fn insert_adopted(
    tx: &mut Tx<'_>,
    certificate: &Certificate,
    at: Timestamp,
) -> Result<()> {
    add_certificate(tx, certificate, at)?;
    let body = json!({ "serial": certificate.serial });
    tx.record("certificate.adopted", at, &body)
}

fn add_certificate(tx: &mut Tx<'_>, certificate: &Certificate, at: Timestamp) -> Result<()> {
    let (kind, subject) = named(&certificate.subject);
    let added = tx.execute(
        "INSERT INTO certificates
             (serial, subject_kind, subject, spki_sha256, not_before_ms, not_after_ms, issued_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
        params![
            certificate.serial,
            kind,
            subject,
            certificate.spki_sha256,
            certificate.not_before.ms(),
            certificate.not_after.ms(),
            at.ms()
        ],
    )?;
    if added == 0 {
        let serial = &certificate.serial;
        return Err(corrupt(format!("serial {serial} was issued before")));
    }
    let body = json!({
        "serial": certificate.serial,
        "subject_kind": kind,
        "subject": subject,
        "spki_sha256": hex(&certificate.spki_sha256),
        "not_after": certificate.not_after,
    });
    tx.record("certificate.issued", at, &body)
}

fn named(subject: &Subject) -> (&'static str, String) {
    match subject {
        Subject::Terminal(id) => ("terminal", id.to_string()),
        Subject::Operator(name) => ("operator", name.clone()),
        Subject::Authority(node) => ("authority", node.clone()),
    }
}

fn read_stored(row: &Row<'_>) -> Result<Stored> {
    Ok(Stored {
        terminal: terminal(row, "terminal")?,
        expires_at: time(row, "expires_at_ms")?,
        spki_sha256: get(row, "spki_sha256")?,
    })
}

fn read_certificate(row: &Row<'_>) -> Result<Certificate> {
    Ok(Certificate {
        serial: get(row, "serial")?,
        subject: read_subject(row)?,
        spki_sha256: get(row, "spki_sha256")?,
        not_before: time(row, "not_before_ms")?,
        not_after: time(row, "not_after_ms")?,
    })
}

fn read_subject(row: &Row<'_>) -> Result<Subject> {
    let subject: String = get(row, "subject")?;
    match get::<String>(row, "subject_kind")?.as_str() {
        "terminal" => subject
            .parse()
            .map(Subject::Terminal)
            .map_err(|error| corrupt(format!("terminal {subject}: {error}"))),
        "operator" => Ok(Subject::Operator(subject)),
        "authority" => Ok(Subject::Authority(subject)),
        other => Err(corrupt(format!("a certificate of a {other}"))),
    }
}
