//! How do spent tokens go, and never one that could be accepted again?

use async_trait::async_trait;
use protocol::time::Timestamp;
use serde_json::json;

use super::SqlStore;
use super::conn::{Conn, params};
use super::row::{find, get};
use super::writer::Tx;
use crate::store::postgres::partitions;
use crate::store::{DAY_EPOCHS, FORGET_ROWS_MAX, Result, Retention};

#[async_trait]
impl Retention for SqlStore {
    async fn epoch_fence(&self) -> Result<u32> {
        self.read(fence).await
    }

    async fn raise_epoch_fence(&self, below: u32, at: Timestamp) -> Result<u32> {
        // Alone: no claim that was let through before is still under way when it is in force.
        self.write(move |tx| Ok(raise(tx, below, at)?)).await
    }

    async fn forget_behind_fence(&self) -> Result<bool> {
        self.write(move |tx| Ok(forget(tx)?)).await
    }

    async fn make_day(&self, epoch: u32, days: u32) -> Result<bool> {
        let first = epoch / DAY_EPOCHS * DAY_EPOCHS;
        let wanted: Vec<u32> = (0..=days).map(|day| first + day * DAY_EPOCHS).collect();
        let lacking = self.read(move |conn| lacking(conn, &wanted)).await?;
        let Some(day) = lacking else {
            return Ok(false);
        };
        self.write(move |tx| Ok(partitions::make(tx.conn, day)?))
            .await?;
        Ok(true)
    }

    async fn rows_without_day(&self) -> Result<u32> {
        self.read(|conn| match conn {
            Conn::Sqlite(_) => Ok(0),
            Conn::Postgres(_) => partitions::rest(conn, FORGET_ROWS_MAX),
        })
        .await
    }
}

/// Whether no token of this epoch is accepted any more.
pub(super) fn is_behind_fence(conn: &Conn, epoch: u32) -> Result<bool> {
    Ok(epoch < fence(conn)?)
}

fn fence(conn: &Conn) -> Result<u32> {
    let below = find(conn, "SELECT below FROM epoch_fence", params![], |row| {
        get(row, "below")
    })?;
    Ok(below.unwrap_or(0))
}

fn raise(tx: &mut Tx<'_>, below: u32, at: Timestamp) -> Result<u32> {
    let was = fence(tx.conn)?;
    if below <= was {
        return Ok(was);
    }
    tx.execute_one(
        "INSERT INTO epoch_fence (only_row, below) VALUES (1, ?1)
         ON CONFLICT (only_row) DO UPDATE SET below = excluded.below
         WHERE epoch_fence.below < excluded.below",
        [below],
    )?;
    tx.record("epochs.fenced", at, &json!({ "below": below }))?;
    Ok(below)
}

fn forget(tx: &Tx<'_>) -> Result<bool> {
    let below = fence(tx.conn)?;
    if let Conn::Postgres(_) = tx.conn
        && partitions::drop_one(tx.conn, below)?
    {
        return Ok(true);
    }
    let spent = delete(
        tx,
        "spent",
        "epoch, terminal, version, channel, \"window\", turn",
        below,
    )?;
    let turns = delete(
        tx,
        "turns",
        "epoch, terminal, version, channel, \"window\"",
        below,
    )?;
    Ok(spent.max(turns) == FORGET_ROWS_MAX as usize)
}

fn delete(tx: &Tx<'_>, table: &str, key: &str, below: u32) -> Result<usize> {
    let sql = format!(
        "DELETE FROM {table} WHERE ({key}) IN
             (SELECT {key} FROM {table} WHERE epoch < ?1 ORDER BY {key} LIMIT ?2)"
    );
    tx.execute(&sql, params![below, FORGET_ROWS_MAX])
}

fn lacking(conn: &Conn, wanted: &[u32]) -> Result<Option<u32>> {
    match conn {
        Conn::Sqlite(_) => Ok(None),
        Conn::Postgres(_) => partitions::lacking(conn, wanted),
    }
}
