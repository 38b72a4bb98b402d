//! How is a text kept once, however often it comes?

use crate::store::sql::conn::{Conn, Row, params};
use protocol::time::Timestamp;

use super::super::row::{all, get, one, time};
use super::super::writer::{Tx, Verdict};
use super::key;
use crate::sms::{Language, PhoneNumber, TalkId};
use crate::store::sms::{SAME_TEXT_MS, TEXTS_IN_SPAN_MAX, TEXTS_SPAN_MS};
use crate::store::sqlite::error::corrupt;
use crate::store::{Hearing, NewText, Result, StoredText, TextId};

pub(super) fn hear(tx: &mut Tx<'_>, text: &NewText) -> Verdict<Hearing> {
    let recent = recent(tx.conn, text)?;
    if recent.same_id || recent.same_words {
        return Ok(Hearing::Again);
    }
    if recent.texts >= TEXTS_IN_SPAN_MAX {
        return Ok(Hearing::TooMany);
    }
    tx.execute_one(
        "INSERT INTO sms_texts (gateway, message, number, print, text, received_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            text.id.gateway,
            text.id.message,
            text.number.expose(),
            text.print,
            text.text,
            text.at.ms()
        ],
    )?;
    Ok(Hearing::Heard)
}

/// What is known of a number and its texts when the next one comes.
struct Recent {
    same_id: bool,
    same_words: bool,
    texts: u32,
}

fn recent(conn: &Conn, text: &NewText) -> Result<Recent> {
    one(
        conn,
        "SELECT
           EXISTS (SELECT 1 FROM sms_texts WHERE gateway = ?1 AND message = ?2) AS same_id,
           EXISTS (SELECT 1 FROM sms_texts WHERE number = ?3 AND print = ?4
                   AND received_at_ms > ?5) AS same_words,
           (SELECT count(*) FROM sms_texts WHERE number = ?3 AND received_at_ms > ?6) AS texts",
        params![
            text.id.gateway,
            text.id.message,
            text.number.expose(),
            text.print,
            (text.at - SAME_TEXT_MS).ms(),
            (text.at - TEXTS_SPAN_MS).ms()
        ],
        |row| {
            Ok(Recent {
                same_id: get(row, "same_id")?,
                same_words: get(row, "same_words")?,
                texts: get(row, "texts")?,
            })
        },
    )
}

pub(super) fn waiting(conn: &Conn, wrong_since: Timestamp, limit: u32) -> Result<Vec<StoredText>> {
    all(
        conn,
        "SELECT sms_texts.*, sms_numbers.language,
                (SELECT CAST(coalesce(sum(times), 0) AS BIGINT) FROM sms_wrong
                 WHERE sms_wrong.number = sms_texts.number AND at_ms > ?1) AS wrong
         FROM sms_texts LEFT JOIN sms_numbers ON sms_numbers.number = sms_texts.number
         WHERE answered_at_ms IS NULL ORDER BY received_at_ms, message LIMIT ?2",
        params![wrong_since.ms(), limit],
        read,
    )
}

fn read(row: &Row<'_>) -> Result<StoredText> {
    let number: String = get(row, "number")?;
    let language = match get::<Option<String>>(row, "language")? {
        Some(_) => Some(read_language(row)?),
        None => None,
    };
    Ok(StoredText {
        text: NewText {
            id: TextId {
                gateway: get(row, "gateway")?,
                message: get(row, "message")?,
            },
            number: number
                .parse()
                .map_err(|_| corrupt("a text with no phone"))?,
            print: get(row, "print")?,
            text: get(row, "text")?,
            at: time(row, "received_at_ms")?,
        },
        language,
        wrong: get(row, "wrong")?,
    })
}

/// The words go; what is left tells a second delivery. False if it was answered before.
pub(super) fn answered(tx: &Tx<'_>, id: &TextId, at: Timestamp) -> Result<bool> {
    let [gateway, message] = key(id);
    let touched = tx.execute(
        "UPDATE sms_texts SET text = NULL, answered_at_ms = ?3
         WHERE gateway = ?1 AND message = ?2 AND answered_at_ms IS NULL",
        params![gateway, message, at.ms()],
    )?;
    Ok(touched == 1)
}

pub(super) fn choose(tx: &Tx<'_>, number: &PhoneNumber, language: Language) -> Result<()> {
    tx.execute_one(
        "INSERT INTO sms_numbers (number, language) VALUES (?1, ?2)
         ON CONFLICT (number) DO UPDATE SET language = ?2",
        [number.expose(), language.name()],
    )
}

pub(super) fn unchoose(tx: &Tx<'_>, number: &PhoneNumber) -> Result<()> {
    tx.execute(
        "DELETE FROM sms_numbers WHERE number = ?1",
        [number.expose()],
    )?;
    Ok(())
}

pub(super) fn count_wrong(
    tx: &Tx<'_>,
    number: &PhoneNumber,
    talk: TalkId,
    at: Timestamp,
) -> Result<()> {
    tx.execute_one(
        "INSERT INTO sms_wrong (number, talk, at_ms, times) VALUES (?1, ?2, ?3, 1)
         ON CONFLICT (number, talk, at_ms) DO UPDATE SET times = sms_wrong.times + 1",
        params![number.expose(), talk.0.as_bytes(), at.ms()],
    )
}

pub(super) fn forget(tx: &mut Tx<'_>, before: Timestamp, limit: u32) -> Verdict<usize> {
    let texts = tx.execute(
        "DELETE FROM sms_texts WHERE (gateway, message) IN (
             SELECT gateway, message FROM sms_texts
             WHERE received_at_ms < ?1 AND answered_at_ms IS NOT NULL LIMIT ?2)",
        params![before.ms(), limit],
    )?;
    let wrong = tx.execute(
        "DELETE FROM sms_wrong WHERE (number, at_ms, talk) IN (
             SELECT number, at_ms, talk FROM sms_wrong WHERE at_ms < ?1 LIMIT ?2)",
        params![before.ms(), limit],
    )?;
    Ok(texts + wrong)
}

pub(super) fn read_language(row: &Row<'_>) -> Result<Language> {
    let name: String = get(row, "language")?;
    name.parse()
        .map_err(|error| corrupt(format!("language {name}: {error}")))
}
