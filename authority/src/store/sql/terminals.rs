//! Where are terminals, seeds and keys, and what does a ban do at once?

use std::sync::LazyLock;

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use hsm::{KeyLabel, SealedSeed, SealingKeys};
use protocol::ids::{ChargeId, MerchantId, TerminalId};
use protocol::time::Timestamp;
use protocol::wire::push::EndReason;
use serde_json::json;

use super::SqlStore;
use super::identities::insert_join_token;
use super::revocations::revoke_all;
use super::rotation::{keys, refuse_unbans};
use super::row::{all, count, find, get, one, terminal, time, time_or_none, uuid};
use super::settle::{end, find_charge};
use super::subjects::at;
use super::turns::raise_revision;
use super::wear::{find_paces, set_pace};
use super::writer::{Tx, Verdict};
use crate::journal::Fact;
use crate::store::sqlite::error::corrupt;
use crate::store::{
    JoinToken, Judging, KeyRecord, NewSchedule, OperationId, Result, Scheduled, Seed, Terminal,
    TerminalStatus, Terminals,
};

#[async_trait]
impl Terminals for SqlStore {
    async fn generation(&self) -> Result<u32> {
        self.read(|conn| {
            one(conn, "SELECT generation FROM meta", params![], |row| {
                get(row, "generation")
            })
        })
        .await
    }

    async fn add_key(&self, key: KeyRecord) -> Result<bool> {
        self.write(move |tx| keys::add(tx, &key)).await
    }

    async fn keys(&self) -> Result<Vec<KeyRecord>> {
        self.read(keys::all_keys).await
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
        self.look(move |conn| find_terminal(conn, id)).await
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

    async fn judging(&self, terminal: TerminalId, epochs: Vec<u32>) -> Result<Option<Judging>> {
        self.look(move |conn| judging(conn, terminal, &epochs))
            .await
    }

    async fn last_seeds(&self, limit: u32) -> Result<Vec<Seed>> {
        self.read(move |conn| {
            all(
                conn,
                "SELECT * FROM seeds ORDER BY terminal DESC, version DESC LIMIT ?1",
                [limit],
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
        self.write(move |tx| Ok(ban(tx, id, &reason, at)?)).await
    }

    async fn record_schedule(&self, schedule: NewSchedule) -> Result<Scheduled> {
        self.write_on(at(schedule.terminal), move |tx| {
            record_schedule(tx, &schedule)
        })
        .await
    }
}

/// The seed that epoch ?2 of terminal ?1 is derived from; none if the only ones are void.
const IN_FORCE: &str = "FROM seeds WHERE terminal = ?1 AND from_epoch <= ?2
    AND version >= (SELECT void_below FROM terminals WHERE id = ?1)
    ORDER BY version DESC LIMIT 1";

pub(super) fn find_terminal(conn: &Conn, id: TerminalId) -> Result<Option<Terminal>> {
    find(
        conn,
        "SELECT id, merchant, name, banned_at_ms, ban_reason, version, sequence, issued_until, refetch,
                added_at_ms
         FROM terminals WHERE id = ?1",
        [id.value()],
        read_terminal,
    )
}

/// The terminal if it is known and not banned.
pub(super) fn active_terminal(conn: &Conn, id: TerminalId) -> Result<Option<Terminal>> {
    let terminal = find_terminal(conn, id)?;
    Ok(terminal.filter(|terminal| terminal.status == TerminalStatus::Active))
}

fn judging(conn: &Conn, id: TerminalId, epochs: &[u32]) -> Result<Option<Judging>> {
    let Some(terminal) = find_terminal(conn, id)? else {
        return Ok(None);
    };
    Ok(Some(Judging {
        terminal,
        paces: find_paces(conn, id)?,
        seeds: seeds_for(conn, id, epochs)?,
    }))
}

/// Each seed in force with its epochs. Versions only rise: what is in force at both ends is in force in
/// between.
fn seeds_for(conn: &Conn, terminal: TerminalId, epochs: &[u32]) -> Result<Vec<(Seed, Vec<u32>)>> {
    let (Some(first), Some(last)) = (epochs.first(), epochs.last()) else {
        return Ok(Vec::new());
    };
    let at_the_end = seed_for(conn, terminal, *last)?;
    let mut found: Vec<(Seed, Vec<u32>)> = Vec::new();
    if first == last || version_for(conn, terminal, *first)? == at_the_end.as_ref().map(version) {
        found.extend(at_the_end.map(|seed| (seed, epochs.to_vec())));
        return Ok(found);
    }
    for epoch in epochs {
        let Some(seed) = seed_for(conn, terminal, *epoch)? else {
            continue;
        };
        match found
            .last_mut()
            .filter(|(it, _)| it.version == seed.version)
        {
            Some((_, of_seed)) => of_seed.push(*epoch),
            None => found.push((seed, vec![*epoch])),
        }
    }
    Ok(found)
}

fn version(seed: &Seed) -> u32 {
    seed.version
}

fn seed_for(conn: &Conn, terminal: TerminalId, epoch: u32) -> Result<Option<Seed>> {
    static STATEMENT: LazyLock<String> = LazyLock::new(|| format!("SELECT * {IN_FORCE}"));
    find(
        conn,
        &STATEMENT,
        params![terminal.value(), epoch],
        read_seed,
    )
}

fn add(tx: &mut Tx<'_>, terminal: &Terminal, seed: &Seed, join_token: &JoinToken) -> Verdict<bool> {
    if find_terminal(tx.conn, terminal.id)?.is_some() {
        return Ok(false);
    }
    if is_out_of_use(tx.conn, &seed.keys)? {
        return Ok(false);
    }
    if seed.terminal != terminal.id || join_token.terminal != terminal.id {
        return Err(corrupt("seed and join token are for another terminal").into());
    }
    insert_terminal(tx, terminal)?;
    insert_seed(tx, seed, None, terminal.added_at)?;
    insert_join_token(tx, join_token, terminal.added_at)?;
    Ok(true)
}

/// A key that was replaced since the seed was sealed: the next try seals under its successor.
fn is_out_of_use(conn: &Conn, keys: &SealingKeys) -> Result<bool> {
    let sql = "SELECT 1 FROM keys WHERE label IN (?1, ?2) AND state <> 'active'";
    let labels = params![keys.sealing.0, keys.binding.0];
    Ok(find(conn, sql, labels, |_| Ok(()))?.is_some())
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

pub(super) fn insert_seed(
    tx: &mut Tx<'_>,
    seed: &Seed,
    operation: Option<OperationId>,
    at: Timestamp,
) -> Result<()> {
    tx.execute_one(
        "INSERT INTO seeds (terminal, version, from_epoch, sealing_label, binding_label,
                            context, blob, binding, operation)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            seed.terminal.value(),
            seed.version,
            seed.from_epoch,
            seed.keys.sealing.0,
            seed.keys.binding.0,
            seed.sealed.context,
            seed.sealed.blob,
            seed.sealed.binding,
            operation.map(|id| id.0.into_bytes())
        ],
    )?;
    let body = json!({
        "terminal": seed.terminal,
        "version": seed.version,
        "from_epoch": seed.from_epoch,
        "sealing_key": seed.keys.sealing.0,
        "operation": operation,
    });
    match operation {
        Some(operation) => tx.record_for(operation, "seed.sealed", at, &body),
        None => tx.record("seed.sealed", at, &body),
    }
}

pub(super) fn ban(
    tx: &mut Tx<'_>,
    id: TerminalId,
    reason: &str,
    at: Timestamp,
) -> Result<Option<Terminal>> {
    let Some(found) = find_terminal(tx.conn, id)? else {
        return Ok(None);
    };
    if let TerminalStatus::Banned { at: since, reason } = &found.status {
        // Again: the journal may not have taken it the first time, and an unban may be under way.
        tell_ban(tx, &found, *since, reason);
        refuse_unbans(tx, id, at)?;
        return Ok(Some(found));
    }
    tell_ban(tx, &found, at, reason);
    tx.execute_one(
        "UPDATE terminals SET banned_at_ms = ?2, ban_reason = ?3
         WHERE id = ?1 AND banned_at_ms IS NULL",
        params![id.value(), at.ms(), reason],
    )?;
    let body = json!({ "terminal": id, "reason": reason });
    tx.record("terminal.banned", at, &body)?;
    end_all(tx, id, at)?;
    revoke_all(tx, id, at)?;
    raise_revision(tx, id);
    find_terminal(tx.conn, id)
}

fn tell_ban(tx: &mut Tx<'_>, banned: &Terminal, banned_at: Timestamp, reason: &str) {
    let fact = Fact::Banned {
        terminal: banned.id,
        version: banned.version,
        banned_at,
        reason: reason.into(),
    };
    tx.tell(banned_at, fact);
}

/// Ends every charge that is offered or held there; what is held is released with it. One whose money is
/// just being taken stays held until its rail has answered.
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

/// The version that `epoch` of this terminal is derived from: versions only rise with the epoch.
pub(super) fn version_for(conn: &Conn, terminal: TerminalId, epoch: u32) -> Result<Option<u32>> {
    static STATEMENT: LazyLock<String> = LazyLock::new(|| format!("SELECT version {IN_FORCE}"));
    find(conn, &STATEMENT, params![terminal.value(), epoch], |row| {
        get(row, "version")
    })
}

/// Its keys were derived before this transaction, so the seeds are looked at again.
fn record_schedule(tx: &mut Tx<'_>, new: &NewSchedule) -> Verdict<Scheduled> {
    let Some(terminal) = active_terminal(tx.conn, new.terminal)? else {
        return Ok(Scheduled::Refused);
    };
    let ends = [new.first, new.last];
    let ends = if new.first == new.last {
        &ends[..1]
    } else {
        &ends
    };
    for (epoch, version) in ends {
        if version_for(tx.conn, new.terminal, *epoch)? != Some(*version) {
            return Ok(Scheduled::SeedMoved);
        }
    }
    let paces = set_pace(tx, &terminal, new)?;
    tx.execute_one(
        "UPDATE terminals SET sequence = sequence + 1,
             former_until = CASE WHEN schedule_kid <> ?3
                 THEN max(coalesce(former_until, issued_until), issued_until)
                 ELSE former_until END,
             issued_until = max(coalesce(issued_until, ?2), ?2),
             schedule_kid = ?3,
             refetch = CASE WHEN ?4 = 1 THEN 0 ELSE refetch END
         WHERE id = ?1",
        params![new.terminal.value(), new.last.0, new.kid, new.whole],
    )?;
    let sequence = terminal.sequence + 1;
    let body = json!({
        "terminal": new.terminal,
        "sequence": sequence,
        "first_epoch": new.first.0,
        "last_epoch": new.last.0,
        "kid": new.kid,
    });
    tx.record("schedule.issued", new.at, &body)?;
    Ok(Scheduled::Under { sequence, paces })
}

pub(super) fn read_status(row: &Row<'_>) -> Result<TerminalStatus> {
    Ok(match time_or_none(row, "banned_at_ms")? {
        None => TerminalStatus::Active,
        Some(at) => TerminalStatus::Banned {
            at,
            reason: get(row, "ban_reason")?,
        },
    })
}

fn read_terminal(row: &Row<'_>) -> Result<Terminal> {
    Ok(Terminal {
        id: terminal(row, "id")?,
        merchant: MerchantId(uuid(row, "merchant")?),
        name: get(row, "name")?,
        status: read_status(row)?,
        version: get(row, "version")?,
        sequence: count(row, "sequence")?,
        issued_until: get(row, "issued_until")?,
        refetch: get(row, "refetch")?,
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
