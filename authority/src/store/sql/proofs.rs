//! Where is it kept that a proof was shown?
//!
//! Small rows for a minute or two; the primary key is the judge.

use crate::store::sql::conn::params;
use async_trait::async_trait;
use protocol::time::Timestamp;

use super::SqlStore;
use super::row::{get, one};
use super::subjects::only;
use super::writer::{Tx, Verdict};
use crate::store::{NonceKey, Proofs, Result, ShownProof};

#[async_trait]
impl Proofs for SqlStore {
    async fn nonce_key(&self, candidate: NonceKey, at: Timestamp) -> Result<NonceKey> {
        self.write(move |tx| nonce_key(tx, &candidate, at)).await
    }

    async fn show_proof(&self, proof: ShownProof) -> Result<bool> {
        self.write_on(only("proof", &proof.jti), move |tx| {
            let rows = tx.execute(
                "INSERT INTO proofs (key, jti, until_ms) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO NOTHING",
                params![proof.key.as_bytes(), proof.jti, proof.until.ms()],
            )?;
            Ok(rows == 1)
        })
        .await
    }

    async fn forget_proofs(&self, before: Timestamp, limit: u32) -> Result<usize> {
        self.write(move |tx| {
            let sql = "DELETE FROM proofs WHERE (key, jti) IN
                       (SELECT key, jti FROM proofs WHERE until_ms < ?1 ORDER BY until_ms LIMIT ?2)";
            Ok(tx.execute(sql, params![before.ms(), limit])?)
        })
        .await
    }
}

fn nonce_key(tx: &mut Tx<'_>, candidate: &NonceKey, at: Timestamp) -> Verdict<NonceKey> {
    tx.execute(
        "INSERT INTO nonce_keys (only_row, key, made_at_ms) VALUES (1, ?1, ?2)
         ON CONFLICT DO NOTHING",
        params![candidate.0, at.ms()],
    )?;
    let sql = "SELECT key FROM nonce_keys";
    Ok(NonceKey(one(tx.conn, sql, params![], |row| {
        get(row, "key")
    })?))
}
