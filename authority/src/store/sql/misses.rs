//! Where are wrong guesses counted?

use crate::store::sql::conn::{Conn, params};
use async_trait::async_trait;
use protocol::time::Timestamp;
use protocol::token::WindowId;
use serde_json::json;

use super::SqlStore;
use super::control::{Subject, Touches};
use super::parted::recent_of;
use super::persons::{find_person, person};
use super::row::{get, one};
use super::writer::{Tx, Verdict};
use crate::store::{MissCount, Misses, PersonKey, Result};

#[async_trait]
impl Misses for SqlStore {
    async fn misses(
        &self,
        person: PersonKey,
        window: WindowId,
        since: Timestamp,
    ) -> Result<MissCount> {
        self.read(move |conn| {
            let found = find_person(conn, &person)?;
            let mut count = counts(conn, found.as_ref().map(|it| it.id), &window, since)?;
            if found.is_none() {
                // Whoever has just left, and comes back with a guess.
                count.person += recent_of(conn, &person, since)?;
            }
            Ok(count)
        })
        .await
    }

    async fn add_miss(
        &self,
        person: PersonKey,
        window: WindowId,
        since: Timestamp,
        at: Timestamp,
    ) -> Result<MissCount> {
        let touches =
            Touches::these(&[Subject::Person(&person), Subject::Terminal(window.terminal)]);
        self.write_on(touches, move |tx| add(tx, &person, &window, since, at))
            .await
    }
}

fn add(
    tx: &mut Tx<'_>,
    key: &PersonKey,
    window: &WindowId,
    since: Timestamp,
    at: Timestamp,
) -> Verdict<MissCount> {
    let person = person(tx, key, at)?;
    tx.execute_one(
        "INSERT INTO misses (person, at_ms, epoch, terminal, version, channel, \"window\", misses)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1)
         ON CONFLICT (person, at_ms, epoch, terminal, version, channel, \"window\")
             DO UPDATE SET misses = misses.misses + 1",
        params![
            person.id,
            at.ms(),
            window.epoch,
            window.terminal.value(),
            window.version,
            window.channel.byte(),
            window.window
        ],
    )?;
    let body = json!({ "window": window, "person": person.commitment() });
    tx.record("code.missed", at, &body)?;
    Ok(counts(tx.conn, Some(person.id), window, since)?)
}

fn counts(
    conn: &Conn,
    person: Option<[u8; 16]>,
    window: &WindowId,
    since: Timestamp,
) -> Result<MissCount> {
    Ok(MissCount {
        person: one(
            conn,
            "SELECT CAST(coalesce(sum(misses), 0) AS BIGINT) + coalesce(
                 (SELECT brought_misses FROM persons
                  WHERE id = ?1 AND brought_missed_at_ms >= ?2), 0) AS total
             FROM misses WHERE person = ?1 AND at_ms >= ?2",
            params![person, since.ms()],
            |row| get(row, "total"),
        )?,
        window: one(
            conn,
            "SELECT CAST(coalesce(sum(misses), 0) AS BIGINT) AS total FROM misses
             WHERE epoch = ?1 AND terminal = ?2 AND version = ?3 AND channel = ?4
             AND \"window\" = ?5",
            params![
                window.epoch,
                window.terminal.value(),
                window.version,
                window.channel.byte(),
                window.window
            ],
            |row| get(row, "total"),
        )?,
    })
}
