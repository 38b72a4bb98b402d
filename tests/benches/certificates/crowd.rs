//! What is a store like in which a great many certificates were issued and revoked?

use std::path::Path;

use rusqlite::{Connection, params};

use super::Fault;

/// Certificates in the store, each with its bytes.
pub(crate) const ISSUED: u32 = 1_000_000;
/// Of these, on the list of their issuing CA.
pub(crate) const REVOKED: u32 = 50_000;
/// Of one terminal, over the years.
const PER_TERMINAL: u32 = 20;
/// About what a terminal's certificate has, in bytes.
const DER_BYTES: u32 = 560;
const WEEK_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// Fills the store behind its back, while nobody has it open: the writer's way would take minutes.
/// Serials and keys are random, as those of a CA are, so that every index is as wide as it will be.
pub(crate) fn fill(store: &Path, issuer_key: &str, now_ms: i64) -> Result<(), Fault> {
    let mut conn = Connection::open(store)?;
    let tx = conn.transaction()?;
    tx.execute(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
         INSERT INTO certificates (serial, subject_kind, subject, spki_sha256, not_before_ms,
                                   not_after_ms, issued_at_ms, issuer_key)
         SELECT '4' || substr(lower(hex(randomblob(16))), 2), 'terminal', printf('%08d', i / ?2), randomblob(32),
                ?3 - i % 1000, ?3 + ?4 - i % 1000, ?3 - i % 1000, ?5 FROM n",
        params![ISSUED, PER_TERMINAL, now_ms, WEEK_MS, issuer_key],
    )?;
    tx.execute(
        "INSERT INTO certificate_bytes (serial, der) SELECT serial, randomblob(?1) FROM certificates",
        params![DER_BYTES],
    )?;
    tx.execute(
        "INSERT INTO revocations (serial, issuer_key, not_after_ms, revoked_at_ms, reason, revoked_by)
         SELECT serial, issuer_key, not_after_ms, ?2, 'key-compromise', 'certificate-revoke'
         FROM certificates LIMIT ?1",
        params![REVOKED, now_ms],
    )?;
    tx.commit()?;
    Ok(())
}
