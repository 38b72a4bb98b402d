//! How is a talk by SMS kept, so that a crash in the middle loses nothing and says nothing twice?

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::ids::ClaimId;
use protocol::money::Money;
use protocol::time::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::SqlStore;
use super::row::{all, count, currency, find, get, money, one, time, uuid};
use super::writer::{Stop, Tx, Verdict};
use crate::sms::{Stage, Talk, TalkId};
use crate::store::sqlite::error::corrupt;
use crate::store::{
    Choice, Hearing, Letter, NewText, Result, StoredText, TalkTurn, TextId, Texts, Turn,
};

mod letters;
mod texts;

#[async_trait]
impl Texts for SqlStore {
    async fn hear(&self, text: NewText) -> Result<Hearing> {
        self.write(move |tx| texts::hear(tx, &text)).await
    }

    async fn texts_waiting(&self, wrong_since: Timestamp, limit: u32) -> Result<Vec<StoredText>> {
        self.read(move |conn| texts::waiting(conn, wrong_since, limit))
            .await
    }

    async fn talk_of(&self, number: crate::sms::PhoneNumber) -> Result<Option<Talk>> {
        self.read(move |conn| {
            let sql = "SELECT * FROM sms_talks WHERE number = ?1";
            find(conn, sql, [number.expose()], read_talk).map(Option::flatten)
        })
        .await
    }

    async fn talk(&self, id: TalkId) -> Result<Option<Talk>> {
        self.read(move |conn| find_talk(conn, id)).await
    }

    async fn take_turn(&self, turn: Turn) -> Result<bool> {
        self.write(move |tx| take(tx, &turn)).await
    }

    async fn talks_due(&self, now: Timestamp, limit: u32) -> Result<Vec<Talk>> {
        self.read(move |conn| talks_due(conn, now, limit)).await
    }

    async fn letters_due(&self, now: Timestamp, limit: u32) -> Result<Vec<Letter>> {
        self.read(move |conn| letters::due(conn, now, limit)).await
    }

    async fn letter_done(&self, id: Uuid) -> Result<()> {
        self.write(move |tx| letters::done(tx, id)).await
    }

    async fn letter_again(&self, id: Uuid, next_at: Timestamp) -> Result<()> {
        self.write(move |tx| letters::again(tx, id, next_at)).await
    }

    async fn letters_waiting(&self) -> Result<u64> {
        let sql = "SELECT count(*) AS letters FROM sms_letters";
        self.read(move |conn| one(conn, sql, params![], |row| count(row, "letters")))
            .await
    }

    async fn forget_texts(&self, before: Timestamp, limit: u32) -> Result<usize> {
        self.write(move |tx| texts::forget(tx, before, limit)).await
    }

    async fn talk_stage(&self, claim: ClaimId) -> Result<Option<Stage>> {
        self.read(move |conn| {
            let sql = "SELECT stage FROM sms_talks WHERE claim = ?1";
            find(conn, sql, [claim.0.as_bytes()], read_stage)
        })
        .await
    }
}

/// One of its parts does not fit any more: everything is undone.
fn take(tx: &mut Tx<'_>, turn: &Turn) -> Verdict<bool> {
    if let Some(text) = &turn.text
        && !texts::answered(tx, text, turn.at)?
    {
        return Err(Stop::Refused(false));
    }
    let fits = match &turn.talk {
        Some(TalkTurn::Begin { talk, ends }) => begin(tx, talk, *ends, turn.at)?,
        Some(TalkTurn::To { from, to, wrong }) => change(tx, *from, to, *wrong, turn.at)?,
        None => true,
    };
    if !fits {
        return Err(Stop::Refused(false));
    }
    for letter in &turn.letters {
        letters::add(tx, letter, turn.at)?;
    }
    match &turn.choice {
        Some((number, Choice::Language(language))) => texts::choose(tx, number, *language)?,
        Some((number, Choice::Forget)) => texts::unchoose(tx, number)?,
        None => {}
    }
    Ok(true)
}

/// False if the phone is in the middle of something else by now.
fn begin(tx: &mut Tx<'_>, talk: &Talk, ends: Option<TalkId>, at: Timestamp) -> Result<bool> {
    if let Some(earlier) = ends {
        end(tx, earlier, at)?;
    }
    let touched = tx.execute(
        "INSERT INTO sms_talks (id, number, language, claim, print, typed, stage, wrong, told, until_ms,
                                begun_at_ms, changed_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, 0, ?8, ?9, ?9) ON CONFLICT DO NOTHING",
        params![
            talk.id.0.as_bytes(),
            talk.number.expose(),
            talk.language.name(),
            talk.claim.0.as_bytes(),
            talk.print,
            talk.typed.map(|typed| typed.to_string()),
            talk.stage.name(),
            talk.until.ms(),
            at.ms()
        ],
    )?;
    Ok(touched == 1)
}

/// The shopper has turned to another code. What a rail works on is not left.
fn end(tx: &mut Tx<'_>, id: TalkId, at: Timestamp) -> Result<()> {
    let touched = tx.execute(
        "UPDATE sms_talks SET stage = 'over', number = NULL, changed_at_ms = ?2
         WHERE id = ?1 AND stage IN ('claiming', 'wants-amount', 'offered')",
        params![id.0.as_bytes(), at.ms()],
    )?;
    match touched {
        0 => Ok(()),
        _ => record(tx, id, Stage::Over, None, at),
    }
}

fn change(tx: &mut Tx<'_>, from: Stage, to: &Talk, wrong: bool, at: Timestamp) -> Result<bool> {
    let touched = tx.execute(
        "UPDATE sms_talks SET number = ?3, stage = ?4, typed = ?5, amount_minor = ?6, currency = ?7,
                wrong = ?8, told = ?9, until_ms = ?10,
                changed_at_ms = CASE WHEN stage = ?4 THEN changed_at_ms ELSE ?11 END
         WHERE id = ?1 AND stage = ?2 AND wrong = ?12",
        params![
            to.id.0.as_bytes(),
            from.name(),
            to.stage.is_open().then_some(to.number.expose()),
            to.stage.name(),
            to.typed.map(|typed| typed.to_string()),
            to.offered.map(Money::amount_minor),
            to.offered.map(|amount| amount.currency().code().to_owned()),
            to.wrong,
            to.told,
            to.until.ms(),
            at.ms(),
            // One wrong number counts once, whatever came between.
            to.wrong.saturating_sub(u32::from(wrong))
        ],
    )?;
    if touched != 1 {
        return Ok(false);
    }
    if wrong {
        texts::count_wrong(tx, &to.number, to.id, at)?;
    }
    if from != to.stage {
        record(tx, to.id, to.stage, to.offered, at)?;
    }
    Ok(true)
}

/// What the audit says of a talk: which claim, never whose phone.
fn record(
    tx: &mut Tx<'_>,
    id: TalkId,
    stage: Stage,
    amount: Option<Money>,
    at: Timestamp,
) -> Result<()> {
    let sql = "SELECT claim FROM sms_talks WHERE id = ?1";
    let claim = one(tx.conn, sql, [id.0.as_bytes()], |row| {
        Ok(ClaimId(uuid(row, "claim")?))
    })?;
    let body = json!({ "talk": id.0, "claim": claim, "stage": stage.name(), "amount": amount });
    tx.record("sms.turned", at, &body)
}

fn find_talk(conn: &Conn, id: TalkId) -> Result<Option<Talk>> {
    let sql = "SELECT * FROM sms_talks WHERE id = ?1";
    find(conn, sql, [id.0.as_bytes()], read_talk).map(Option::flatten)
}

fn talks_due(conn: &Conn, now: Timestamp, limit: u32) -> Result<Vec<Talk>> {
    let due = all(
        conn,
        "SELECT * FROM sms_talks WHERE number IS NOT NULL AND until_ms <= ?1
         ORDER BY until_ms LIMIT ?2",
        params![now.ms(), limit],
        read_talk,
    )?;
    Ok(due.into_iter().flatten().collect())
}

/// None: it is over, and nobody's any more.
fn read_talk(row: &Row<'_>) -> Result<Option<Talk>> {
    let Some(number) = get::<Option<String>>(row, "number")? else {
        return Ok(None);
    };
    let offered = match get::<Option<String>>(row, "currency")? {
        Some(_) => money(row, "amount_minor", currency(row, "currency")?)?,
        None => None,
    };
    let typed = get::<Option<String>>(row, "typed")?.map(|text| text.parse());
    Ok(Some(Talk {
        id: TalkId(uuid(row, "id")?),
        number: number
            .parse()
            .map_err(|_| corrupt("a talk with no phone"))?,
        language: texts::read_language(row)?,
        claim: ClaimId(uuid(row, "claim")?),
        print: get(row, "print")?,
        typed: typed
            .transpose()
            .map_err(|error| corrupt(format!("a talk's amount: {error}")))?,
        stage: read_stage(row)?,
        offered,
        wrong: get(row, "wrong")?,
        told: get(row, "told")?,
        until: time(row, "until_ms")?,
    }))
}

fn read_stage(row: &Row<'_>) -> Result<Stage> {
    let name: String = get(row, "stage")?;
    let known = Stage::ALL.into_iter().find(|stage| stage.name() == name);
    known.ok_or_else(|| corrupt(format!("a talk that is {name}")))
}

/// A text by its id.
fn key(id: &TextId) -> [&str; 2] {
    [&id.gateway, &id.message]
}
