//! Where are terminals, seeds and keys, and what does a ban do at once?

use async_trait::async_trait;
use hsm::{KeyLabel, SealedSeed, SealingKeys};
use protocol::ids::{ChargeId, MerchantId, TerminalId};
use protocol::time::Timestamp;
use protocol::wire::push::EndReason;
use rusqlite::{Connection, Row, params};
use serde_json::json;

use super::SqliteStore;
use super::error::corrupt;
use super::identities::insert_join_token;
use super::revocations::revoke_all;
use super::row::{all, count, find, get, one, terminal, time, uuid};
use super::settle::{end, find_charge};
use super::turns::raise_revision;
use super::writer::{Tx, Verdict};
use crate::store::{JoinToken, KeyRecord, Result, Seed, Terminal, TerminalStatus, Terminals};

#[async_trait]
impl Terminals for SqliteStore {
    async fn generation(&self) -> Result<u32> {
        self.read(|conn| {
            one(conn, "SELECT generation FROM meta", [], |row| {
                get(row, "generation")
            })
        })
        .await
    }

    async fn add_key(&self, key: KeyRecord) -> Result<bool> {
        self.write(move |tx| add_key(tx, &key)).await
    }

    async fn keys(&self) -> Result<Vec<KeyRecord>> {
        self.read(|conn| {
            all(
                conn,
                "SELECT * FROM keys ORDER BY made_at_ms, kid",
                [],
                read_key,
            )
        })
        .await
    }

    async fn add_terminal(
        &self,
        terminal: Terminal,
        seed: Seed,
        join_token: JoinToken,
    ) -> Result<bool> {
        self.write(move |tx| add(tx, &terminal, &seed, &join_token))
            .await
    }

    async fn terminal(&self, id: TerminalId) -> Result<Option<Terminal>> {
        self.read(move |conn| find_terminal(conn, id)).await
    }

    async fn terminals(&self, after: Option<TerminalId>, limit: u32) -> Result<Vec<Terminal>> {
        let after = after.map_or(-1, |id| i64::from(id.value()));
        self.read(move |conn| {
            all(
                conn,
                "SELECT * FROM terminals WHERE id > ?1 ORDER BY id LIMIT ?2",
                params![after, limit],
                read_terminal,
            )
        })
        .await
    }

    async fn seed_for(&self, terminal: TerminalId, epoch: u32) -> Result<Option<Seed>> {
        self.read(move |conn| {
            find(
                conn,
                "SELECT * FROM seeds WHERE terminal = ?1 AND from_epoch <= ?2
                 ORDER BY version DESC LIMIT 1",
                params![terminal.value(), epoch],
                read_seed,
            )
        })
        .await
    }

    async fn ban_terminal(
        &self,
        id: TerminalId,
        reason: String,
        at: Timestamp,
    ) -> Result<Option<Terminal>> {
        self.write(move |tx| ban(tx, id, &reason, at)).await
    }

    async fn record_schedule(
        &self,
        terminal: TerminalId,
        first_epoch: u32,
        last_epoch: u32,
        at: Timestamp,
    ) -> Result<Option<u64>> {
        self.write(move |tx| record_schedule(tx, terminal, first_epoch, last_epoch, at))
            .await
    }
}

pub(super) fn find_terminal(conn: &Connection, id: TerminalId) -> Result<Option<Terminal>> {
    find(
        conn,
        "SELECT * FROM terminals WHERE id = ?1",
        [id.value()],
        read_terminal,
    )
}

/// The terminal if it is known and not banned.
pub(super) fn active_terminal(conn: &Connection, id: TerminalId) -> Result<Option<Terminal>> {
    let terminal = find_terminal(conn, id)?;
    Ok(terminal.filter(|terminal| terminal.status == TerminalStatus::Active))
}

fn add_key(tx: &mut Tx<'_>, key: &KeyRecord) -> Verdict<bool> {
    let added = tx.execute(
        "INSERT INTO keys (kid, purpose, state, label, public_point, made_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        params![
            key.kid,
            key.purpose,
            key.state,
            key.label.0,
            key.public_point,
            key.made_at.ms()
        ],
    )?;
    if added == 0 {
        return Ok(false);
    }
    let body = json!({
        "kid": key.kid,
        "purpose": key.purpose,
        "state": key.state,
        "label": key.label.0,
    });
    tx.record("key.added", key.made_at, &body)?;
    Ok(true)
}

fn add(tx: &mut Tx<'_>, terminal: &Terminal, seed: &Seed, join_token: &JoinToken) -> Verdict<bool> {
    if find_terminal(tx.conn, terminal.id)?.is_some() {
        return Ok(false);
    }
    if seed.terminal != terminal.id || join_token.terminal != terminal.id {
        return Err(corrupt("seed and join token are for another terminal").into());
    }
    insert_terminal(tx, terminal)?;
    insert_seed(tx, seed, terminal.added_at)?;
    insert_join_token(tx, join_token, terminal.added_at)?;
    Ok(true)
}

fn insert_terminal(tx: &mut Tx<'_>, terminal: &Terminal) -> Result<()> {
    tx.execute_one(
        "INSERT INTO terminals (id, merchant, name, version, sequence, revision, added_at_ms)
         VALUES (?1, ?2, ?3, ?4, 0, 0, ?5)",
        params![
            terminal.id.value(),
            terminal.merchant.0.as_bytes(),
            terminal.name,
            terminal.version,
            terminal.added_at.ms()
        ],
    )?;
    let body = json!({
        "terminal": terminal.id,
        "merchant": terminal.merchant,
        "name": terminal.name,
    });
    tx.record("terminal.added", terminal.added_at, &body)
}

fn insert_seed(tx: &mut Tx<'_>, seed: &Seed, at: Timestamp) -> Result<()> {
    tx.execute_one(
        "INSERT INTO seeds (terminal, version, from_epoch, sealing_label, binding_label,
                            context, blob, binding)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            seed.terminal.value(),
            seed.version,
            seed.from_epoch,
            seed.keys.sealing.0,
            seed.keys.binding.0,
            seed.sealed.context,
            seed.sealed.blob,
            seed.sealed.binding
        ],
    )?;
    let body = json!({
        "terminal": seed.terminal,
        "version": seed.version,
        "from_epoch": seed.from_epoch,
        "sealing_key": seed.keys.sealing.0,
    });
    tx.record("seed.sealed", at, &body)
}

fn ban(tx: &mut Tx<'_>, id: TerminalId, reason: &str, at: Timestamp) -> Verdict<Option<Terminal>> {
    let found = find_terminal(tx.conn, id)?;
    if found
        .as_ref()
        .is_none_or(|t| t.status != TerminalStatus::Active)
    {
        return Ok(found);
    }
    tx.execute_one(
        "UPDATE terminals SET banned_at_ms = ?2, ban_reason = ?3
         WHERE id = ?1 AND banned_at_ms IS NULL",
        params![id.value(), at.ms(), reason],
    )?;
    let body = json!({ "terminal": id, "reason": reason });
    tx.record("terminal.banned", at, &body)?;
    end_all(tx, id, at)?;
    revoke_all(tx, id, at)?;
    raise_revision(tx, id)?;
    Ok(find_terminal(tx.conn, id)?)
}

/// Ends every charge that is offered or held there; what is held is released with it.
fn end_all(tx: &mut Tx<'_>, id: TerminalId, at: Timestamp) -> Result<()> {
    let open = all(
        tx.conn,
        "SELECT id FROM charges WHERE terminal = ?1 AND state IN ('offered', 'held')",
        [id.value()],
        |row| Ok(ChargeId(uuid(row, "id")?)),
    )?;
    for charge in open {
        if let Some(charge) = find_charge(tx.conn, charge)? {
            end(tx, &charge, EndReason::Cancelled, at)?;
        }
    }
    Ok(())
}

fn record_schedule(
    tx: &mut Tx<'_>,
    id: TerminalId,
    first_epoch: u32,
    last_epoch: u32,
    at: Timestamp,
) -> Verdict<Option<u64>> {
    let Some(terminal) = active_terminal(tx.conn, id)? else {
        return Ok(None);
    };
    tx.execute_one(
        "UPDATE terminals SET sequence = sequence + 1,
             issued_until = max(coalesce(issued_until, ?2), ?2) WHERE id = ?1",
        params![id.value(), last_epoch],
    )?;
    let sequence = terminal.sequence + 1;
    let body = json!({
        "terminal": id,
        "sequence": sequence,
        "first_epoch": first_epoch,
        "last_epoch": last_epoch,
    });
    tx.record("schedule.issued", at, &body)?;
    Ok(Some(sequence))
}

fn read_terminal(row: &Row<'_>) -> Result<Terminal> {
    let banned: Option<i64> = get(row, "banned_at_ms")?;
    let status = match banned {
        None => TerminalStatus::Active,
        Some(_) => TerminalStatus::Banned {
            at: time(row, "banned_at_ms")?,
            reason: get(row, "ban_reason")?,
        },
    };
    Ok(Terminal {
        id: terminal(row, "id")?,
        merchant: MerchantId(uuid(row, "merchant")?),
        name: get(row, "name")?,
        status,
        version: get(row, "version")?,
        sequence: count(row, "sequence")?,
        issued_until: get(row, "issued_until")?,
        added_at: time(row, "added_at_ms")?,
    })
}

fn read_seed(row: &Row<'_>) -> Result<Seed> {
    Ok(Seed {
        terminal: terminal(row, "terminal")?,
        version: get(row, "version")?,
        from_epoch: get(row, "from_epoch")?,
        keys: SealingKeys {
            sealing: KeyLabel(get(row, "sealing_label")?),
            binding: KeyLabel(get(row, "binding_label")?),
        },
        sealed: SealedSeed {
            context: get(row, "context")?,
            blob: get(row, "blob")?,
            binding: get(row, "binding")?,
        },
    })
}

fn read_key(row: &Row<'_>) -> Result<KeyRecord> {
    Ok(KeyRecord {
        kid: get(row, "kid")?,
        purpose: get(row, "purpose")?,
        state: get(row, "state")?,
        label: KeyLabel(get(row, "label")?),
        public_point: get(row, "public_point")?,
        made_at: time(row, "made_at_ms")?,
    })
}
