//! How does an SMS wait for its gateway?
//!
//! It is committed with what it tells of, and its row goes once the gateway has it: sent at least once,
//! and twice only if we die in between.

use crate::store::sql::conn::{Conn, Row, params};
use protocol::time::Timestamp;
use uuid::Uuid;

use super::super::row::{all, get, time, uuid, uuid_or_none};
use super::super::writer::{Tx, Verdict};
use super::{find_talk, texts};
use crate::sms::{Say, TalkId};
use crate::store::sqlite::error::corrupt;
use crate::store::{Letter, NewLetter, Result};

pub(super) fn add(tx: &Tx<'_>, letter: &NewLetter, at: Timestamp) -> Result<()> {
    let say = serde_json::to_string(&letter.say).map_err(|error| corrupt(error.to_string()))?;
    tx.execute_one(
        "INSERT INTO sms_letters (id, number, language, talk, kind, say, made_at_ms, next_at_ms, tries)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, 0)",
        params![
            letter.id.as_bytes(),
            letter.number.expose(),
            letter.language.name(),
            letter.talk.map(|talk| *talk.0.as_bytes()),
            letter.say.kind(),
            say,
            at.ms()
        ],
    )
}

pub(super) fn due(conn: &Conn, now: Timestamp, limit: u32) -> Result<Vec<Letter>> {
    all(
        conn,
        "SELECT * FROM sms_letters WHERE next_at_ms <= ?1 ORDER BY next_at_ms, id LIMIT ?2",
        params![now.ms(), limit],
        |row| read(conn, row),
    )
}

pub(super) fn done(tx: &mut Tx<'_>, id: Uuid) -> Verdict<()> {
    tx.execute("DELETE FROM sms_letters WHERE id = ?1", [id.as_bytes()])?;
    Ok(())
}

pub(super) fn again(tx: &mut Tx<'_>, id: Uuid, next_at: Timestamp) -> Verdict<()> {
    tx.execute(
        "UPDATE sms_letters SET next_at_ms = ?2, tries = tries + 1 WHERE id = ?1",
        params![id.as_bytes(), next_at.ms()],
    )?;
    Ok(())
}

fn read(conn: &Conn, row: &Row<'_>) -> Result<Letter> {
    let (number, say): (String, String) = (get(row, "number")?, get(row, "say")?);
    let say: Say = serde_json::from_str(&say).map_err(|error| corrupt(error.to_string()))?;
    let talk = uuid_or_none(row, "talk")?.map(TalkId);
    Ok(Letter {
        letter: NewLetter {
            id: uuid(row, "id")?,
            number: number.parse().map_err(|_| corrupt("an SMS to no phone"))?,
            language: texts::read_language(row)?,
            talk,
            say,
        },
        talk: talk.map(|id| find_talk(conn, id)).transpose()?.flatten(),
        made_at: time(row, "made_at_ms")?,
        tries: get(row, "tries")?,
    })
}
