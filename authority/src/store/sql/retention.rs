//! How do spent tokens go, and never one that could be accepted again?

use async_trait::async_trait;
use protocol::ids::EventId;
use protocol::time::Timestamp;
use serde_json::json;

use super::SqlStore;
use super::conn::{Conn, params};
use super::row::{find, get, time};
use super::subjects::only;
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

    async fn report_fence(&self) -> Result<Timestamp> {
        self.read(report_fence).await
    }

    async fn raise_report_fence(&self, below: Timestamp, at: Timestamp) -> Result<Timestamp> {
        // Alone: no event that was taken before is still on its way in when it is in force.
        self.write(move |tx| Ok(raise_reports(tx, below, at)?))
            .await
    }

    async fn forget_reports(&self) -> Result<bool> {
        // Whoever keeps events keeps none of these.
        let touches = only("reports behind their fence", &[]);
        self.write_on(touches, move |tx| Ok(forget_reports(tx)?))
            .await
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

/// Before it nothing is kept of what terminals saw.
pub(super) fn report_fence(conn: &Conn) -> Result<Timestamp> {
    let sql = "SELECT below_ms FROM report_fence";
    let below = find(conn, sql, params![], |row| time(row, "below_ms"))?;
    Ok(below.unwrap_or(Timestamp::from_ms(i64::MIN)))
}

fn raise_reports(tx: &mut Tx<'_>, below: Timestamp, at: Timestamp) -> Result<Timestamp> {
    let was = report_fence(tx.conn)?;
    if below <= was {
        return Ok(was);
    }
    tx.execute_one(
        "INSERT INTO report_fence (only_row, below_ms) VALUES (1, ?1)
         ON CONFLICT (only_row) DO UPDATE SET below_ms = excluded.below_ms
         WHERE report_fence.below_ms < excluded.below_ms",
        [below.ms()],
    )?;
    tx.record("reports.fenced", at, &json!({ "below_ms": below.ms() }))?;
    Ok(below)
}

/// In the order of ids, which terminals make by time: no index by time is needed.
fn forget_reports(tx: &Tx<'_>) -> Result<bool> {
    let below = report_fence(tx.conn)?;
    let Ok(unix_ms) = u64::try_from(below.ms()) else {
        return Ok(false);
    };
    let first_kept = EventId::from_parts(unix_ms, &[0; 10]);
    let deleted = tx.execute(
        "DELETE FROM reports WHERE id IN
             (SELECT id FROM reports WHERE id < ?1 AND at_ms < ?2 ORDER BY id LIMIT ?3)",
        params![first_kept.0.as_bytes(), below.ms(), FORGET_ROWS_MAX],
    )?;
    Ok(deleted == FORGET_ROWS_MAX as usize)
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
