//! Where are revocations, the numbers of their lists, and alarms?

use std::sync::LazyLock;

use crate::store::sql::conn::{Bind, Conn, Row, params};
use async_trait::async_trait;
use pki::crl::Reason;
use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use serde_json::json;

use super::SqlStore;
use super::certificates::{find_certificate, named};
use super::row::{all, count, find, get, listed, signed, terminal, time, time_or_none};
use super::writer::{Tx, Verdict};
use crate::journal::{Fact, Revoked};
use crate::store::sqlite::error::corrupt;
use crate::store::{
    AlarmKind, AlarmRecord, CONNECTED_MAX, Certificate, CertificateRecord, CloneAlarm, Connected,
    CrlRecord, RENEWAL_GRACE_MAX_MS, Result, Revocation, Revocations, RevokedSerial, Subject,
};

#[async_trait]
impl Revocations for SqlStore {
    async fn revoke_certificate(
        &self,
        serial: &str,
        reason: Reason,
        at: Timestamp,
    ) -> Result<Option<Box<CertificateRecord>>> {
        let serial = serial.to_owned();
        self.write(move |tx| revoke_one(tx, &serial, reason, at))
            .await
    }

    async fn revoked(&self, issuer_key: &str, ends_from: Timestamp) -> Result<Vec<RevokedSerial>> {
        let issuer_key = issuer_key.to_owned();
        self.read(move |conn| {
            all(
                conn,
                "SELECT * FROM revocations WHERE issuer_key IN (?1, '') AND not_after_ms >= ?2
                 ORDER BY serial",
                params![issuer_key, ends_from.ms()],
                read_revoked,
            )
        })
        .await
    }

    async fn refused(&self, asked: Connected) -> Result<Connected> {
        self.read(move |conn| refused(conn, &asked)).await
    }

    async fn crl(&self, issuer_key: &str) -> Result<Option<CrlRecord>> {
        let issuer_key = issuer_key.to_owned();
        self.read(move |conn| {
            find(
                conn,
                "SELECT * FROM crls WHERE issuer_key = ?1",
                params![issuer_key],
                read_crl,
            )
        })
        .await
    }

    async fn next_crl_number(&self, issuer_key: &str, above: u64, at: Timestamp) -> Result<u64> {
        let issuer_key = issuer_key.to_owned();
        self.write(move |tx| next_number(tx, &issuer_key, above, at))
            .await
    }

    async fn crl_signed(
        &self,
        issuer_key: &str,
        number: u64,
        entries: u64,
        this_update: Timestamp,
        next_update: Timestamp,
    ) -> Result<()> {
        let issuer_key = issuer_key.to_owned();
        self.write(move |tx| {
            tx.execute_one(
                "UPDATE crls SET this_update_ms = ?2, next_update_ms = ?3 WHERE issuer_key = ?1",
                params![issuer_key, this_update.ms(), next_update.ms()],
            )?;
            let body = json!({
                "issuer_key": issuer_key,
                "number": number,
                "entries": entries,
                "next_update": next_update,
            });
            Ok(tx.record("crl.signed", this_update, &body)?)
        })
        .await
    }

    async fn raise_alarm(&self, alarm: CloneAlarm, quiet_ms: i64, at: Timestamp) -> Result<bool> {
        self.write(move |tx| raise(tx, &alarm, quiet_ms, at)).await
    }

    async fn alarms(&self, terminal: Option<TerminalId>, limit: u32) -> Result<Vec<AlarmRecord>> {
        self.read(move |conn| {
            all(
                conn,
                "SELECT * FROM alarms WHERE ?2 IS NULL OR terminal = ?2
                 ORDER BY last_at_ms DESC, terminal LIMIT ?1",
                params![limit, terminal.map(TerminalId::value)],
                read_alarm,
            )
        })
        .await
    }
}

fn refused(conn: &Conn, asked: &Connected) -> Result<Connected> {
    static BANNED: LazyLock<String> = LazyLock::new(|| {
        let asked = listed(1..=CONNECTED_MAX);
        format!("SELECT id FROM terminals WHERE id IN {asked} AND banned_at_ms IS NOT NULL")
    });
    static REVOKED: LazyLock<String> = LazyLock::new(|| {
        let asked = listed(1..=CONNECTED_MAX);
        format!("SELECT serial FROM revocations WHERE serial IN {asked}")
    });
    let terminals: Vec<u32> = asked.terminals.iter().map(|it| it.value()).collect();
    Ok(Connected {
        terminals: among(conn, &BANNED, &terminals, |row| terminal(row, "id"))?,
        certificates: among(conn, &REVOKED, &asked.certificates, |row| {
            get(row, "serial")
        })?,
    })
}

/// Asks for as many as there are places, the first of them again and again, so that there is one statement.
fn among<K: Bind, T>(
    conn: &Conn,
    sql: &str,
    keys: &[K],
    read: impl Fn(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let Some(first) = keys.first() else {
        return Ok(Vec::new());
    };
    let filled = keys.iter().chain(std::iter::repeat(first));
    let filled: Vec<&dyn Bind> = filled
        .take(CONNECTED_MAX)
        .map(|it| it as &dyn Bind)
        .collect();
    all(conn, sql, &filled[..], read)
}

pub(super) fn revoke_one(
    tx: &mut Tx<'_>,
    serial: &str,
    reason: Reason,
    at: Timestamp,
) -> Verdict<Option<Box<CertificateRecord>>> {
    let Some(found) = find_certificate(tx.conn, serial)? else {
        return Ok(None);
    };
    match found.revoked {
        None => insert(tx, &found, reason, "certificate-revoke", at)?,
        // Again: the journal may not have taken it the first time.
        Some(first) => tell(tx, &found.certificate, first),
    }
    Ok(find_certificate(tx.conn, serial)?.map(Box::new))
}

/// Carries out again what the journal knows and a restored database has lost; its certificate may be
/// lost, too.
pub(super) fn revoke_again(tx: &mut Tx<'_>, revoked: &Revoked, at: Timestamp) -> Result<bool> {
    let added = tx.execute(
        "INSERT INTO revocations (serial, issuer_key, not_after_ms, revoked_at_ms, reason, revoked_by)
         VALUES (?1, ?2, ?3, ?4, ?5, 'fence-raise') ON CONFLICT (serial) DO NOTHING",
        params![
            revoked.serial,
            revoked.issuer_key,
            revoked.not_after.ms(),
            revoked.revoked_at.ms(),
            revoked.reason
        ],
    )?;
    if added == 1 {
        let body = json!({
            "serial": revoked.serial,
            "reason": revoked.reason,
            "by": "fence-raise",
        });
        tx.record("certificate.revoked", at, &body)?;
    }
    Ok(added == 1)
}

/// No list of this issuing CA has this number, or a lower one, again.
pub(super) fn pass_number(tx: &Tx<'_>, issuer_key: &str, number: u64) -> Result<()> {
    tx.execute_one(
        "INSERT INTO crls (issuer_key, number) VALUES (?1, ?2)
         ON CONFLICT (issuer_key) DO UPDATE SET number = max(crls.number, excluded.number)",
        params![issuer_key, signed(number)],
    )
}

fn tell(tx: &mut Tx<'_>, certificate: &Certificate, revocation: Revocation) {
    let fact = Fact::Revoked(Revoked {
        serial: certificate.serial.clone(),
        issuer_key: certificate.issuer_key.clone(),
        not_after: certificate.not_after,
        revoked_at: revocation.at,
        reason: revocation.reason.to_string(),
    });
    tx.tell(revocation.at, fact);
}

/// Revokes everything that a banned terminal could still come with, now or within the longest grace.
pub(super) fn revoke_all(tx: &mut Tx<'_>, terminal: TerminalId, at: Timestamp) -> Result<()> {
    let (kind, subject) = named(&Subject::Terminal(terminal));
    let serials = all(
        tx.conn,
        "SELECT serial FROM certificates c
         WHERE subject_kind = ?1 AND subject = ?2 AND not_after_ms >= ?3
           AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.serial = c.serial)",
        params![kind, subject, (at - RENEWAL_GRACE_MAX_MS).ms()],
        |row| get::<String>(row, "serial"),
    )?;
    for serial in serials {
        if let Some(found) = find_certificate(tx.conn, &serial)? {
            insert(tx, &found, Reason::PrivilegeWithdrawn, "terminal-ban", at)?;
        }
    }
    Ok(())
}

fn insert(
    tx: &mut Tx<'_>,
    found: &CertificateRecord,
    reason: Reason,
    by: &str,
    at: Timestamp,
) -> Result<()> {
    let certificate = &found.certificate;
    tx.execute_one(
        "INSERT INTO revocations (serial, issuer_key, not_after_ms, revoked_at_ms, reason, revoked_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            certificate.serial,
            certificate.issuer_key,
            certificate.not_after.ms(),
            at.ms(),
            reason.name(),
            by
        ],
    )?;
    tell(tx, certificate, Revocation { at, reason });
    let (kind, subject) = named(&certificate.subject);
    let body = json!({
        "serial": certificate.serial,
        "subject_kind": kind,
        "subject": subject,
        "reason": reason.name(),
        "by": by,
    });
    tx.record("certificate.revoked", at, &body)
}

fn next_number(tx: &mut Tx<'_>, issuer_key: &str, above: u64, at: Timestamp) -> Verdict<u64> {
    tx.execute_one(
        "INSERT INTO crls (issuer_key, number) VALUES (?1, ?2 + 1)
         ON CONFLICT (issuer_key) DO UPDATE SET number = max(crls.number, ?2) + 1",
        params![issuer_key, signed(above)],
    )?;
    let found = find(
        tx.conn,
        "SELECT * FROM crls WHERE issuer_key = ?1",
        [issuer_key],
        read_crl,
    )?;
    let number = found.map(|crl| crl.number).unwrap_or_default();
    tx.tell(
        at,
        Fact::Crl {
            issuer_key: issuer_key.into(),
            number,
        },
    );
    let body = json!({ "issuer_key": issuer_key, "number": number });
    tx.record("crl.numbered", at, &body)?;
    Ok(number)
}

fn raise(tx: &mut Tx<'_>, alarm: &CloneAlarm, quiet_ms: i64, at: Timestamp) -> Verdict<bool> {
    let before = find(
        tx.conn,
        "SELECT * FROM alarms WHERE terminal = ?1 AND kind = ?2 AND certificate = ?3",
        params![alarm.terminal.value(), alarm.kind.name(), alarm.certificate],
        read_alarm,
    )?;
    if before.is_some_and(|before| at - before.last_at < quiet_ms) {
        return Ok(false);
    }
    tx.execute_one(
        "INSERT INTO alarms (terminal, kind, certificate, other, first_at_ms, last_at_ms, times)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5, 1)
         ON CONFLICT (terminal, kind, certificate) DO UPDATE SET other = excluded.other,
             last_at_ms = excluded.last_at_ms, times = alarms.times + 1",
        params![
            alarm.terminal.value(),
            alarm.kind.name(),
            alarm.certificate,
            alarm.other,
            at.ms()
        ],
    )?;
    let body = json!({
        "terminal": alarm.terminal,
        "kind": alarm.kind.name(),
        "certificate": alarm.certificate,
        "other": alarm.other,
    });
    tx.record("alarm.raised", at, &body)?;
    Ok(true)
}

/// From the columns of a join that may have found no revocation.
pub(super) fn read_revocation(row: &Row<'_>) -> Result<Option<Revocation>> {
    let Some(at) = time_or_none(row, "revoked_at_ms")? else {
        return Ok(None);
    };
    let name: String = get(row, "reason")?;
    let reason = name.parse();
    let reason = reason.map_err(|_| corrupt(format!("revoked for {name}")))?;
    Ok(Some(Revocation { at, reason }))
}

fn read_revoked(row: &Row<'_>) -> Result<RevokedSerial> {
    let revocation = read_revocation(row)?;
    Ok(RevokedSerial {
        serial: get(row, "serial")?,
        revocation: revocation.ok_or_else(|| corrupt("a revocation without a time"))?,
    })
}

fn read_crl(row: &Row<'_>) -> Result<CrlRecord> {
    Ok(CrlRecord {
        number: count(row, "number")?,
        this_update: time_or_none(row, "this_update_ms")?,
        next_update: time_or_none(row, "next_update_ms")?,
    })
}

fn read_alarm(row: &Row<'_>) -> Result<AlarmRecord> {
    let kind: String = get(row, "kind")?;
    let kind = AlarmKind::ALL
        .into_iter()
        .find(|known| known.name() == kind)
        .ok_or_else(|| corrupt(format!("an alarm about a {kind}")))?;
    Ok(AlarmRecord {
        alarm: CloneAlarm {
            terminal: terminal(row, "terminal")?,
            kind,
            certificate: get(row, "certificate")?,
            other: get(row, "other")?,
        },
        first_at: time(row, "first_at_ms")?,
        last_at: time(row, "last_at_ms")?,
        times: count(row, "times")?,
    })
}
