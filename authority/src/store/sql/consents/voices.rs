//! Which certificate gives an operator their voice, and when does it go?

use crate::store::sql::conn::{Conn, Params, params};
use pki::crl::Reason;
use protocol::time::Timestamp;

use super::super::certificates::find_certificate;
use super::super::revocations::revoke_one;
use super::super::row::find;
use super::super::writer::{Stop, Tx, Verdict};
use super::operators::{able, is_operator, policy, signs_with};
use crate::store::sqlite::error::corrupt;
use crate::store::{Bar, Certificate, Result, Subject};

pub(super) fn revoke(tx: &mut Tx<'_>, serial: &str, reason: Reason, at: Timestamp) -> Verdict<Bar> {
    let Some(found) = find_certificate(tx.conn, serial)? else {
        return Ok(Bar::Unknown);
    };
    if let Subject::Operator(name) = &found.certificate.subject
        && signs_with(tx.conn, name, serial, at)?
        && !signs_without(tx.conn, name, serial, at)?
    {
        let able = able(tx.conn, at)?.saturating_sub(1);
        let required = policy(tx.conn)?.strictest();
        // Somebody must be left to ask, too, whatever the policy says.
        if able < required + 1 {
            return Ok(Bar::Stranded { able, required });
        }
    }
    match revoke_one(tx, serial, reason, at) {
        Ok(_) => Ok(Bar::Done),
        Err(Stop::Failed(error)) => Err(error.into()),
        Err(Stop::Refused(_)) => Err(corrupt("a certificate is revoked or not").into()),
    }
}

/// Whether they have another certificate that is good at `at`.
fn signs_without(conn: &Conn, name: &str, serial: &str, at: Timestamp) -> Result<bool> {
    exists(
        conn,
        "SELECT 1 FROM certificates c
         WHERE c.subject_kind = 'operator' AND c.subject = ?1 AND c.serial <> ?2
           AND c.not_after_ms >= ?3 AND c.superseded_at_ms IS NULL
           AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.serial = c.serial)",
        params![name, serial, at.ms()],
    )
}

pub(super) fn is_lost(
    conn: &Conn,
    certificate: &Certificate,
    behind: bool,
    at: Timestamp,
) -> Result<bool> {
    let Subject::Operator(name) = &certificate.subject else {
        return Ok(false);
    };
    let (serial, not_before) = (&certificate.serial, certificate.not_before.ms());
    let known = find_certificate(conn, serial)?.is_some();
    if known || at > certificate.not_after || !is_operator(conn, name)? {
        return Ok(false);
    }
    let before_a_raise = "SELECT 1 FROM raises WHERE raised_at_ms >= ?1";
    let lost = behind || exists(conn, before_a_raise, params![not_before])?;
    // A raise knows revocations also of certificates that it does not know.
    let revoked = "SELECT 1 FROM revocations WHERE serial = ?1";
    let later = "SELECT 1 FROM certificates WHERE subject_kind = 'operator' AND subject = ?1
                     AND not_before_ms > ?2";
    let foreign_key = "SELECT 1 FROM certificates WHERE spki_sha256 = ?1
                           AND NOT (subject_kind = 'operator' AND subject = ?2)";
    Ok(lost
        && !exists(conn, revoked, params![serial])?
        && !exists(conn, later, params![name, not_before])?
        && !exists(conn, foreign_key, params![certificate.spki_sha256, name])?)
}

fn exists(conn: &Conn, sql: &str, params: impl Params) -> Result<bool> {
    Ok(find(conn, sql, params, |_| Ok(()))?.is_some())
}
