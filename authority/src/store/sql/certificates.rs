//! Where are certificates, which one follows which, and from when is the older one refused?
//!
//! ```text
//!   issued ──first use──▶ used ──the successor is used──▶ superseded (refused)
//!      └── renewed: at most one successor, for one key; both are good until the successor is used
//! ```

use std::sync::LazyLock;

use crate::store::sql::conn::{Conn, Row, params};
use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use serde_json::json;

use super::identities::find_join_token;
use super::revocations::read_revocation;
use super::row::{all, count, find, get, one, time, time_or_none};
use super::terminals::{active_terminal, read_status};
use super::writer::{Tx, Verdict};
use crate::journal::hex;
use crate::store::sqlite::error::corrupt;
use crate::store::{
    Certificate, CertificateRecord, FirstUse, InForce, Recorded, Renewal, RenewalLimit,
    RequestJudging, Result, Right, Subject,
};

/// Successors of one certificate that all ended before they were used; more are not followed.
const UNUSED_SUCCESSORS_MAX: usize = 64;

const KINDS: [&str; 3] = ["terminal", "operator", "authority"];

const RECORD: &str = "SELECT c.*, b.der, r.revoked_at_ms, r.reason FROM certificates c
    LEFT JOIN certificate_bytes b ON b.serial = c.serial
    LEFT JOIN revocations r ON r.serial = c.serial";

pub(super) fn find_certificate(conn: &Conn, serial: &str) -> Result<Option<CertificateRecord>> {
    static STATEMENT: LazyLock<String> = LazyLock::new(|| format!("{RECORD} WHERE c.serial = ?1"));
    find(conn, &STATEMENT, [serial], read_record)
}

/// Without the bytes of the certificate: every request of a terminal asks this.
pub(super) fn request_judging(
    conn: &Conn,
    serial: &str,
    terminal: TerminalId,
) -> Result<Option<RequestJudging>> {
    find(
        conn,
        "SELECT c.subject_kind, c.subject, c.spki_sha256, c.used_at_ms, c.superseded_at_ms,
                r.revoked_at_ms, r.reason, t.id AS terminal, t.banned_at_ms, t.ban_reason
         FROM certificates c
         LEFT JOIN revocations r ON r.serial = c.serial
         LEFT JOIN terminals t ON t.id = ?2
         WHERE c.serial = ?1",
        params![serial, terminal.value()],
        |row| {
            let known: Option<i64> = get(row, "terminal")?;
            Ok(RequestJudging {
                subject: read_subject(row)?,
                spki_sha256: get(row, "spki_sha256")?,
                used_at: time_or_none(row, "used_at_ms")?,
                superseded_at: time_or_none(row, "superseded_at_ms")?,
                revoked: read_revocation(row)?,
                terminal: known.map(|_| read_status(row)).transpose()?,
            })
        },
    )
}

pub(super) fn of_subject(
    conn: &Conn,
    subject: &Subject,
    limit: u32,
) -> Result<Vec<CertificateRecord>> {
    let (kind, subject) = named(subject);
    all(
        conn,
        &format!(
            "{RECORD} WHERE c.subject_kind = ?1 AND c.subject = ?2
             ORDER BY c.issued_at_ms DESC, c.serial LIMIT ?3"
        ),
        params![kind, subject, limit],
        read_record,
    )
}

pub(super) fn to_end(conn: &Conn, at: Timestamp, limit: u32) -> Result<Vec<CertificateRecord>> {
    all(
        conn,
        &format!(
            "{RECORD} WHERE c.superseded_at_ms IS NULL AND c.not_after_ms >= ?1
             ORDER BY c.not_after_ms LIMIT ?2"
        ),
        params![at.ms(), limit],
        read_record,
    )
}

pub(super) fn is_key_certified(conn: &Conn, spki_sha256: [u8; 32]) -> Result<bool> {
    let found = find(
        conn,
        "SELECT 1 FROM certificates WHERE spki_sha256 = ?1",
        [spki_sha256],
        |_| Ok(()),
    )?;
    Ok(found.is_some())
}

/// One walk along the index of what is in force; every kind is answered. By the kind itself the planner
/// would walk through every certificate there ever was, to have them in groups.
pub(super) fn in_force(conn: &Conn, at: Timestamp) -> Result<Vec<InForce>> {
    let found = all(
        conn,
        "SELECT subject_kind || '' AS kind, count(*) AS certificates, min(not_after_ms) AS first_end_ms
         FROM certificates c
         WHERE superseded_at_ms IS NULL AND not_after_ms >= ?1
           AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.serial = c.serial)
         GROUP BY subject_kind || ''",
        [at.ms()],
        |row| {
            let kind: String = get(row, "kind")?;
            let first_end = time(row, "first_end_ms")?;
            Ok((kind, count(row, "certificates")?, first_end))
        },
    )?;
    let of_kind = |kind| {
        let of_it = found.iter().find(|(found, _, _)| found == kind);
        InForce {
            kind,
            certificates: of_it.map_or(0, |(_, certificates, _)| *certificates),
            first_end: of_it.map(|(_, _, first_end)| *first_end),
        }
    };
    Ok(KINDS.into_iter().map(of_kind).collect())
}

/// Follows the successors of `under`. One for this key that has ended unused is renewed in its turn:
/// who asks holds both keys, and was away for longer than its answer was good. So is one that was set
/// aside.
pub(super) fn renewal(
    conn: &Conn,
    under: &str,
    spki_sha256: [u8; 32],
    at: Timestamp,
    limit: Option<RenewalLimit>,
) -> Result<Renewal> {
    let Some(mut current) = find_certificate(conn, under)?.filter(is_in_force) else {
        return Ok(Renewal::Refused);
    };
    for followed in 0..UNUSED_SUCCESSORS_MAX {
        let Some(next) = successor(conn, &current.certificate.serial)? else {
            if followed == 0 && is_key_certified(conn, spki_sha256)? {
                return Ok(Renewal::KeyReused);
            }
            let (subject, serial) = (&current.certificate.subject, &current.certificate.serial);
            return Ok(match limit {
                Some(limit) if is_beyond(conn, subject, limit)? => Renewal::TooMany,
                _ => Renewal::Open {
                    serial: serial.clone(),
                },
            });
        };
        if next.certificate.spki_sha256 != spki_sha256 {
            return Ok(Renewal::OtherKey);
        }
        if is_set_aside(&next) {
            current = next;
            continue;
        }
        if !is_in_force(&next) {
            return Ok(Renewal::Refused);
        }
        if at <= next.certificate.not_after && !next.certificate.der.is_empty() {
            return Ok(Renewal::Answered(next.certificate.der));
        }
        current = next;
    }
    Ok(Renewal::TooMany)
}

pub(super) fn add_terminal_certificate(
    tx: &mut Tx<'_>,
    certificate: &Certificate,
    right: &Right,
    at: Timestamp,
) -> Verdict<Recorded> {
    let Subject::Terminal(terminal) = certificate.subject else {
        return Err(corrupt("this is not a terminal's certificate").into());
    };
    if active_terminal(tx.conn, terminal)?.is_none() {
        return Ok(Recorded::Refused);
    }
    match right {
        Right::JoinToken(hash) => add_enrolled(tx, certificate, terminal, *hash, at),
        Right::Renews(under) => add_renewed(tx, certificate, under, at),
    }
}

fn add_enrolled(
    tx: &mut Tx<'_>,
    certificate: &Certificate,
    terminal: TerminalId,
    hash: [u8; 32],
    at: Timestamp,
) -> Verdict<Recorded> {
    let key = certificate.spki_sha256;
    let stored = find_join_token(tx.conn, hash)?;
    let Some(stored) = stored.filter(|it| it.record.token.terminal == terminal && it.is_open(at))
    else {
        return Ok(Recorded::Refused);
    };
    if stored.spki_sha256 != Some(key) {
        return Ok(Recorded::OtherKey);
    }
    let before: Option<String> = find(
        tx.conn,
        "SELECT serial FROM certificates WHERE join_token = ?1",
        [hash],
        |row| get(row, "serial"),
    )?;
    if let Some(serial) = before {
        let found = find_certificate(tx.conn, &serial)?;
        return Ok(found.map_or(Recorded::Refused, |it| Recorded::Before(it.certificate.der)));
    }
    if is_key_certified(tx.conn, key)? {
        return Ok(Recorded::KeyReused);
    }
    insert(tx, certificate, Some(hash), None, at)?;
    Ok(Recorded::New)
}

fn add_renewed(
    tx: &mut Tx<'_>,
    certificate: &Certificate,
    under: &str,
    at: Timestamp,
) -> Verdict<Recorded> {
    match renewal(tx.conn, under, certificate.spki_sha256, at, None)? {
        Renewal::Open { serial } => {
            insert(tx, certificate, None, Some(&serial), at)?;
            Ok(Recorded::New)
        }
        Renewal::Answered(der) => Ok(Recorded::Before(der)),
        Renewal::OtherKey => Ok(Recorded::OtherKey),
        Renewal::KeyReused => Ok(Recorded::KeyReused),
        Renewal::Refused | Renewal::TooMany => Ok(Recorded::Refused),
    }
}

pub(super) fn add_certificate(
    tx: &mut Tx<'_>,
    certificate: &Certificate,
    at: Timestamp,
) -> Verdict<()> {
    Ok(insert(tx, certificate, None, None, at)?)
}

/// Takes in what a restore has lost; the audit says that it came from outside. It counts as issued now,
/// so that its first use supersedes what the database knew.
pub(super) fn insert_adopted(
    tx: &mut Tx<'_>,
    certificate: &Certificate,
    at: Timestamp,
) -> Result<()> {
    insert(tx, certificate, None, None, at)?;
    let body = json!({ "serial": certificate.serial });
    tx.record("certificate.adopted", at, &body)
}

pub(super) fn use_certificate(tx: &mut Tx<'_>, serial: &str, at: Timestamp) -> Verdict<FirstUse> {
    let Some(record) = find_certificate(tx.conn, serial)?.filter(is_in_force) else {
        return Ok(FirstUse::Refused);
    };
    if record.used_at.is_some() {
        return Ok(FirstUse::Good);
    }
    tx.execute_one(
        "UPDATE certificates SET used_at_ms = ?2 WHERE serial = ?1 AND used_at_ms IS NULL",
        params![serial, at.ms()],
    )?;
    let superseded = supersede_before(tx, &record, at)?;
    let body = json!({ "serial": serial, "superseded": superseded });
    tx.record("certificate.used", at, &body)?;
    Ok(FirstUse::Good)
}

pub(super) fn set_aside(tx: &mut Tx<'_>, serial: &str, at: Timestamp) -> Verdict<bool> {
    let set = tx.execute(
        "UPDATE certificates SET superseded_at_ms = ?2
         WHERE serial = ?1 AND renews IS NOT NULL AND used_at_ms IS NULL
           AND superseded_at_ms IS NULL",
        params![serial, at.ms()],
    )?;
    if set == 0 {
        return Ok(false);
    }
    tx.record("certificate.set-aside", at, &json!({ "serial": serial }))?;
    Ok(true)
}

/// A terminal is one machine: what it was issued before the certificate it now comes with belongs to
/// its past, or to a machine that an operator has replaced.
fn supersede_before(tx: &Tx<'_>, used: &CertificateRecord, at: Timestamp) -> Result<usize> {
    let (kind, subject) = named(&used.certificate.subject);
    tx.execute(
        "UPDATE certificates SET superseded_at_ms = ?3
         WHERE subject_kind = ?1 AND subject = ?2 AND superseded_at_ms IS NULL
           AND (serial = ?4 OR issued_at_ms < ?5)",
        params![kind, subject, at.ms(), used.renews, used.issued_at.ms()],
    )
}

fn insert(
    tx: &mut Tx<'_>,
    certificate: &Certificate,
    join_token: Option<[u8; 32]>,
    renews: Option<&str>,
    at: Timestamp,
) -> Result<()> {
    let (kind, subject) = named(&certificate.subject);
    let added = tx.execute(
        "INSERT INTO certificates (serial, subject_kind, subject, spki_sha256, not_before_ms,
             not_after_ms, issued_at_ms, issuer_key, renews, join_token)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (serial) DO NOTHING",
        params![
            certificate.serial,
            kind,
            subject,
            certificate.spki_sha256,
            certificate.not_before.ms(),
            certificate.not_after.ms(),
            at.ms(),
            certificate.issuer_key,
            renews,
            join_token
        ],
    )?;
    if added == 0 {
        let serial = &certificate.serial;
        return Err(corrupt(format!("serial {serial} was issued before")));
    }
    if !certificate.der.is_empty() {
        tx.execute_one(
            "INSERT INTO certificate_bytes (serial, der) VALUES (?1, ?2)",
            params![certificate.serial, certificate.der],
        )?;
    }
    let body = json!({
        "serial": certificate.serial,
        "subject_kind": kind,
        "subject": subject,
        "spki_sha256": hex(&certificate.spki_sha256),
        "not_after": certificate.not_after,
        "issuer_key": certificate.issuer_key,
        "renews": renews,
    });
    tx.record("certificate.issued", at, &body)
}

fn successor(conn: &Conn, serial: &str) -> Result<Option<CertificateRecord>> {
    static STATEMENT: LazyLock<String> = LazyLock::new(|| format!("{RECORD} WHERE c.renews = ?1"));
    find(conn, &STATEMENT, [serial], read_record)
}

/// Where what it renews is in force, only [`set_aside`] supersedes a successor that was never used: the
/// use of a later certificate puts both out of force.
fn is_set_aside(successor: &CertificateRecord) -> bool {
    let unused = successor.used_at.is_none() && successor.superseded_at.is_some();
    unused && successor.revoked.is_none()
}

fn is_in_force(record: &CertificateRecord) -> bool {
    record.revoked.is_none() && record.superseded_at.is_none()
}

fn is_beyond(conn: &Conn, subject: &Subject, limit: RenewalLimit) -> Result<bool> {
    let (kind, subject) = named(subject);
    let issued = one(
        conn,
        "SELECT count(*) AS issued FROM certificates
         WHERE subject_kind = ?1 AND subject = ?2 AND issued_at_ms >= ?3",
        params![kind, subject, limit.since.ms()],
        |row| count(row, "issued"),
    )?;
    Ok(issued >= u64::from(limit.most))
}

pub(super) fn named(subject: &Subject) -> (&'static str, String) {
    match subject {
        Subject::Terminal(id) => ("terminal", id.to_string()),
        Subject::Operator(name) => ("operator", name.clone()),
        Subject::Authority(node) => ("authority", node.clone()),
    }
}

pub(super) fn read_record(row: &Row<'_>) -> Result<CertificateRecord> {
    Ok(CertificateRecord {
        certificate: Certificate {
            serial: get(row, "serial")?,
            subject: read_subject(row)?,
            spki_sha256: get(row, "spki_sha256")?,
            not_before: time(row, "not_before_ms")?,
            not_after: time(row, "not_after_ms")?,
            issuer_key: get(row, "issuer_key")?,
            der: get::<Option<Vec<u8>>>(row, "der")?.unwrap_or_default(),
        },
        issued_at: time(row, "issued_at_ms")?,
        renews: get(row, "renews")?,
        used_at: time_or_none(row, "used_at_ms")?,
        superseded_at: time_or_none(row, "superseded_at_ms")?,
        revoked: read_revocation(row)?,
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
