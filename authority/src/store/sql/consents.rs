//! Where are requests and consents, and how is one carried out once?

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use pki::consent::Policy;
use pki::crl::Reason;
use protocol::time::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};

mod operators;
mod voices;

use super::SqlStore;
use super::row::{all, count, find, get, one, time, time_or_none, uuid};
use super::writer::{Tx, Verdict};
use crate::journal::hex;
use crate::store::sqlite::error::corrupt;
use crate::store::{
    AddOperator, AddRequest, Bar, Begin, Certificate, Consents, Counted, Heard, NewRequest,
    OPEN_REQUESTS_MAX, OperatorRecord, RequestId, RequestRecord, RequestState, Result, Voice,
};
pub(super) use operators::{find_operator, numbered_policy, put_policy};
use operators::{is_operator, policy, signs_with};

#[async_trait]
impl Consents for SqlStore {
    async fn operators(&self, at: Timestamp) -> Result<Vec<OperatorRecord>> {
        self.read(move |conn| operators::list(conn, at)).await
    }

    async fn operator(&self, name: &str, at: Timestamp) -> Result<Option<OperatorRecord>> {
        let name = name.to_owned();
        self.read(move |conn| operators::find_operator(conn, &name, at))
            .await
    }

    async fn add_operator(
        &self,
        certificate: Certificate,
        by: &str,
        at: Timestamp,
    ) -> Result<AddOperator> {
        let by = by.to_owned();
        self.write(move |tx| operators::add(tx, &certificate, &by, at))
            .await
    }

    async fn revoke_operator(&self, name: &str, by: &str, at: Timestamp) -> Result<Bar> {
        let (name, by) = (name.to_owned(), by.to_owned());
        self.write(move |tx| operators::revoke(tx, &name, &by, at))
            .await
    }

    async fn revoke_voice(&self, serial: &str, reason: Reason, at: Timestamp) -> Result<Bar> {
        let serial = serial.to_owned();
        self.write(move |tx| voices::revoke(tx, &serial, reason, at))
            .await
    }

    async fn is_lost_voice(
        &self,
        certificate: Certificate,
        behind: bool,
        at: Timestamp,
    ) -> Result<bool> {
        self.read(move |conn| voices::is_lost(conn, &certificate, behind, at))
            .await
    }

    async fn consent_policy(&self) -> Result<Policy> {
        self.read(policy).await
    }

    async fn set_consent_policy(&self, policy: Policy, by: &str, at: Timestamp) -> Result<Bar> {
        let by = by.to_owned();
        self.write(move |tx| operators::set_policy(tx, &policy, &by, at))
            .await
    }

    async fn add_consent_request(&self, request: NewRequest) -> Result<AddRequest> {
        self.write(move |tx| add(tx, &request)).await
    }

    async fn consent_request(&self, id: RequestId) -> Result<Option<RequestRecord>> {
        self.read(move |conn| find_request(conn, id)).await
    }

    async fn consent_requests(
        &self,
        all_of_them: bool,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<RequestRecord>> {
        self.read(move |conn| {
            let found = all(
                conn,
                "SELECT * FROM consent_requests
                 WHERE ?1 OR (state IN ('open', 'begun') AND expires_at_ms >= ?2)
                 ORDER BY id DESC LIMIT ?3",
                params![all_of_them, at.ms(), limit],
                read_request,
            )?;
            found
                .into_iter()
                .map(|record| with_voices(conn, record))
                .collect()
        })
        .await
    }

    async fn request_for(
        &self,
        by: Option<&str>,
        verb: &str,
        body: &str,
        at: Timestamp,
    ) -> Result<Option<RequestRecord>> {
        let by = by.map(str::to_owned);
        let (verb, body) = (verb.to_owned(), body.to_owned());
        self.read(move |conn| {
            let found = find(
                conn,
                "SELECT * FROM consent_requests
                 WHERE state IN ('open', 'begun') AND verb = ?1 AND body = ?2
                   AND expires_at_ms >= ?3 AND coalesce(asked_by = ?4, 1)
                 ORDER BY id DESC LIMIT 1",
                params![verb, body, at.ms(), by],
                read_request,
            )?;
            found.map(|record| with_voices(conn, record)).transpose()
        })
        .await
    }

    async fn add_voice(&self, id: RequestId, voice: Voice) -> Result<Heard> {
        self.write(move |tx| hear(tx, id, &voice)).await
    }

    async fn withdraw_request(&self, id: RequestId, by: &str, at: Timestamp) -> Result<Heard> {
        let by = by.to_owned();
        self.write(move |tx| withdraw(tx, id, &by, at)).await
    }

    async fn begin_request(
        &self,
        id: RequestId,
        counted: Vec<Counted>,
        asked_under: u32,
        at: Timestamp,
    ) -> Result<Begin> {
        self.write(move |tx| begin(tx, id, &counted, asked_under, at))
            .await
    }

    async fn end_request(
        &self,
        id: RequestId,
        answer: Option<String>,
        at: Timestamp,
    ) -> Result<bool> {
        self.write(move |tx| end(tx, id, answer.as_deref(), at))
            .await
    }
}

fn add(tx: &mut Tx<'_>, request: &NewRequest) -> Verdict<AddRequest> {
    if find_request(tx.conn, request.id)?.is_some() {
        return Ok(AddRequest::IdTaken);
    }
    if !is_operator(tx.conn, &request.asked_by)? {
        return Ok(AddRequest::NotOperator);
    }
    let open: u64 = one(
        tx.conn,
        "SELECT count(*) AS open FROM consent_requests
         WHERE state IN ('open', 'begun') AND asked_by = ?1 AND expires_at_ms >= ?2",
        params![request.asked_by, request.asked_at.ms()],
        |row| count(row, "open"),
    )?;
    if open >= u64::from(OPEN_REQUESTS_MAX) {
        return Ok(AddRequest::TooMany);
    }
    tx.execute_one(
        "INSERT INTO consent_requests
             (id, verb, body, asked_by, statement, asked_at_ms, expires_at_ms, state)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'open')",
        params![
            request.id.0.as_bytes(),
            request.verb,
            request.body,
            request.asked_by,
            request.statement,
            request.asked_at.ms(),
            request.expires_at.ms()
        ],
    )?;
    let body = json!({
        "request": request.id,
        "verb": request.verb,
        "operator": request.asked_by,
        "statement_sha256": sha256_hex(&request.statement),
        "expires_at": request.expires_at,
    });
    tx.record("consent.asked", request.asked_at, &body)?;
    Ok(AddRequest::Added)
}

/// The request, while it is in one of these states and in time.
fn heard_in(
    conn: &Conn,
    id: RequestId,
    states: &[RequestState],
    at: Timestamp,
) -> Result<std::result::Result<RequestRecord, Heard>> {
    let Some(found) = find_request(conn, id)? else {
        return Ok(Err(Heard::Unknown));
    };
    match states.contains(&found.state) && at <= found.request.expires_at {
        true => Ok(Ok(found)),
        false => Ok(Err(Heard::Closed)),
    }
}

fn hear(tx: &mut Tx<'_>, id: RequestId, voice: &Voice) -> Verdict<Heard> {
    // What began and failed begins again with the voices of then: a yes can be taken back until it is done.
    let states: &[RequestState] = match voice.consents {
        true => &[RequestState::Open],
        false => &[RequestState::Open, RequestState::Begun],
    };
    let found = match heard_in(tx.conn, id, states, voice.at)? {
        Ok(found) => found,
        Err(heard) => return Ok(heard),
    };
    if found.request.asked_by == voice.operator {
        return Ok(Heard::Own);
    }
    if !signs_with(tx.conn, &voice.operator, &voice.serial, voice.at)? {
        return Ok(Heard::NotOperator);
    }
    tx.execute_one(
        "INSERT INTO consent_voices (request, operator, consents, serial, statement, given_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (request, operator) DO UPDATE SET consents = excluded.consents,
             serial = excluded.serial, statement = excluded.statement,
             given_at_ms = excluded.given_at_ms",
        params![
            id.0.as_bytes(),
            voice.operator,
            voice.consents,
            voice.serial,
            voice.statement,
            voice.at.ms()
        ],
    )?;
    let kind = match voice.consents {
        true => "consent.given",
        false => "consent.refused",
    };
    let body = json!({
        "request": id,
        "operator": voice.operator,
        "serial": voice.serial,
        "statement_sha256": sha256_hex(&voice.statement),
    });
    tx.record(kind, voice.at, &body)?;
    Ok(Heard::Done)
}

fn withdraw(tx: &mut Tx<'_>, id: RequestId, by: &str, at: Timestamp) -> Verdict<Heard> {
    let found = match heard_in(tx.conn, id, &[RequestState::Open], at)? {
        Ok(found) => found,
        Err(heard) => return Ok(heard),
    };
    if found.request.asked_by != by {
        return Ok(Heard::NotOperator);
    }
    tx.execute_one(
        "UPDATE consent_requests SET state = 'withdrawn', ended_at_ms = ?2
         WHERE id = ?1 AND state = 'open'",
        params![id.0.as_bytes(), at.ms()],
    )?;
    let body = json!({ "request": id, "operator": by });
    tx.record("consent.withdrawn", at, &body)?;
    Ok(Heard::Done)
}

fn begin(
    tx: &mut Tx<'_>,
    id: RequestId,
    counted: &[Counted],
    asked_under: u32,
    at: Timestamp,
) -> Verdict<Begin> {
    let found = find_request(tx.conn, id)?;
    let in_hand = |found: &RequestRecord| {
        matches!(found.state, RequestState::Open | RequestState::Begun)
            && at <= found.request.expires_at
    };
    let Some(found) = found.filter(in_hand) else {
        return Ok(Begin::Closed);
    };
    let request = &found.request;
    if !is_operator(tx.conn, &request.asked_by)? {
        return Ok(Begin::Closed);
    }
    let names = still_counting(tx.conn, &found, counted, at)?;
    let required = policy(tx.conn)?
        .required_for(&request.verb)
        .max(asked_under);
    if names.len() < required as usize {
        return Ok(Begin::TooFew {
            counted: names,
            required,
        });
    }
    tx.execute_one(
        "UPDATE consent_requests SET state = 'begun', begun_at_ms = coalesce(begun_at_ms, ?2)
         WHERE id = ?1 AND state IN ('open', 'begun')",
        params![id.0.as_bytes(), at.ms()],
    )?;
    let body = json!({
        "request": id,
        "verb": request.verb,
        "operator": request.asked_by,
        "consented": names,
        "required": required,
    });
    tx.record("consent.begun", at, &body)?;
    Ok(Begin::Begun)
}

/// Those of `counted` whose last word is yes, under a certificate that is still good; each once.
fn still_counting(
    conn: &Conn,
    found: &RequestRecord,
    counted: &[Counted],
    at: Timestamp,
) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for Counted { operator, serial } in counted {
        let says_yes = found
            .voices
            .iter()
            .any(|voice| voice.consents && voice.operator == *operator && voice.serial == *serial);
        let other = *operator != found.request.asked_by && !names.contains(operator);
        if says_yes && other && signs_with(conn, operator, serial, at)? {
            names.push(operator.clone());
        }
    }
    Ok(names)
}

fn end(tx: &mut Tx<'_>, id: RequestId, answer: Option<&str>, at: Timestamp) -> Verdict<bool> {
    let ended = tx.execute(
        "UPDATE consent_requests SET state = 'done', ended_at_ms = ?2, answer = ?3
         WHERE id = ?1 AND state = 'begun'",
        params![id.0.as_bytes(), at.ms(), answer],
    )?;
    if ended == 0 {
        return Ok(false);
    }
    tx.record("consent.done", at, &json!({ "request": id }))?;
    Ok(true)
}

fn sha256_hex(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn find_request(conn: &Conn, id: RequestId) -> Result<Option<RequestRecord>> {
    let found = find(
        conn,
        "SELECT * FROM consent_requests WHERE id = ?1",
        [id.0.as_bytes()],
        read_request,
    )?;
    found.map(|record| with_voices(conn, record)).transpose()
}

fn with_voices(conn: &Conn, mut record: RequestRecord) -> Result<RequestRecord> {
    record.voices = all(
        conn,
        "SELECT * FROM consent_voices WHERE request = ?1 ORDER BY operator",
        [record.request.id.0.as_bytes()],
        read_voice,
    )?;
    Ok(record)
}

fn read_request(row: &Row<'_>) -> Result<RequestRecord> {
    let state: String = get(row, "state")?;
    Ok(RequestRecord {
        request: NewRequest {
            id: RequestId(uuid(row, "id")?),
            verb: get(row, "verb")?,
            body: get(row, "body")?,
            asked_by: get(row, "asked_by")?,
            statement: get(row, "statement")?,
            asked_at: time(row, "asked_at_ms")?,
            expires_at: time(row, "expires_at_ms")?,
        },
        state: RequestState::ALL
            .into_iter()
            .find(|known| known.name() == state)
            .ok_or_else(|| corrupt(format!("a request is {state}")))?,
        begun_at: time_or_none(row, "begun_at_ms")?,
        ended_at: time_or_none(row, "ended_at_ms")?,
        answer: get(row, "answer")?,
        voices: Vec::new(),
    })
}

fn read_voice(row: &Row<'_>) -> Result<Voice> {
    Ok(Voice {
        operator: get(row, "operator")?,
        consents: get(row, "consents")?,
        serial: get(row, "serial")?,
        statement: get(row, "statement")?,
        at: time(row, "given_at_ms")?,
    })
}
