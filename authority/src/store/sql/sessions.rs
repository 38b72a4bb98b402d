//! When does a session begin, and what ends it?

use crate::store::sql::conn::{Conn, Params, Row, params};
use async_trait::async_trait;
use protocol::ids::{ClaimId, SessionId, TerminalId};
use protocol::time::Timestamp;
use serde_json::json;

use super::SqlStore;
use super::brought::bring;
use super::persons::{Person, find_person, person};
use super::row::{all, find, get, one, terminal, time, time_or_none, uuid};
use super::sign_ins::{begin, forget, take};
use super::subjects::only;
use super::tokens::held_by;
use super::turns::raise_revision;
use super::writer::{Tx, Verdict};
use crate::store::sqlite::error::corrupt;
use crate::store::{
    BeginSignIn, Begun, EndReason, LoggedOut, NewSession, PersonKey, ProviderLogout, Result,
    SESSIONS_MAX, SessionRecord, Sessions, Started, Taken,
};

#[async_trait]
impl Sessions for SqlStore {
    async fn begin_sign_in(&self, begin_: BeginSignIn) -> Result<Begun> {
        self.write(move |tx| begin(tx, &begin_)).await
    }

    async fn take_attempt(
        &self,
        state: [u8; 32],
        visitor: [u8; 32],
        at: Timestamp,
    ) -> Result<Taken> {
        self.write(move |tx| take(tx, &state, &visitor, at)).await
    }

    async fn start_session(&self, session: NewSession) -> Result<Started> {
        self.write(move |tx| start(tx, &session)).await
    }

    async fn session(&self, secret: [u8; 32]) -> Result<Option<SessionRecord>> {
        self.read(move |conn| by_secret(conn, &secret)).await
    }

    async fn touch_session(&self, id: SessionId, at: Timestamp) -> Result<()> {
        self.write_on(only("session", id.0.as_bytes()), move |tx| {
            tx.execute(
                "UPDATE sessions SET seen_at_ms = ?2
                 WHERE id = ?1 AND seen_at_ms < ?2 AND ended_at_ms IS NULL",
                params![id.0.as_bytes(), at.ms()],
            )?;
            Ok(())
        })
        .await
    }

    async fn end_session(&self, id: SessionId, at: Timestamp) -> Result<bool> {
        self.write(move |tx| Ok(end(tx, id, EndReason::SignedOut, at)?))
            .await
    }

    async fn end_all_sessions(&self, person: PersonKey, at: Timestamp) -> Result<u32> {
        self.write(move |tx| match find_person(tx.conn, &person)? {
            Some(person) => Ok(end_of_person(tx, &person.id, EndReason::Everywhere, at)?),
            None => Ok(0),
        })
        .await
    }

    async fn end_sessions_of_others(
        &self,
        issuers: Vec<String>,
        at: Timestamp,
        limit: u32,
    ) -> Result<u32> {
        self.write(move |tx| {
            let open = open_sessions(
                tx.conn,
                "SELECT id FROM sessions WHERE ended_at_ms IS NULL
                     AND issuer NOT IN (SELECT value FROM json_each(?1)) LIMIT ?2",
                params![json!(issuers).to_string(), limit],
            )?;
            Ok(end_each(tx, open, EndReason::Provider, at)?)
        })
        .await
    }

    async fn end_by_provider(&self, logout: ProviderLogout) -> Result<LoggedOut> {
        self.write(move |tx| end_by_provider(tx, &logout)).await
    }

    async fn sessions_of(&self, person: PersonKey, limit: u32) -> Result<Vec<SessionRecord>> {
        self.read(move |conn| match find_person(conn, &person)? {
            Some(person) => all(
                conn,
                "SELECT * FROM sessions WHERE person = ?1
                 ORDER BY started_at_ms DESC, id DESC LIMIT ?2",
                params![person.id, limit],
                read_session,
            ),
            None => Ok(Vec::new()),
        })
        .await
    }

    async fn forget_sign_ins(
        &self,
        sessions_before: Timestamp,
        now: Timestamp,
        limit: u32,
    ) -> Result<u32> {
        self.write(move |tx| Ok(forget(tx, sessions_before, now, limit)?))
            .await
    }
}

fn start(tx: &mut Tx<'_>, session: &NewSession) -> Verdict<Started> {
    let at = session.at;
    let person = person(tx, &session.person, at)?;
    if let Some(before) = by_secret(tx.conn, &session.instead_of)? {
        end(tx, before.id, EndReason::Replaced, at)?;
    }
    make_room(tx, &person, at)?;
    insert(tx, session, &person)?;
    tx.execute(
        "UPDATE sign_in_attempts SET opened = ?2 WHERE state = ?1",
        params![session.state, session.id.0.as_bytes()],
    )?;
    let body = json!({
        "session": session.id,
        "person": person.commitment(),
        "provider": session.provider,
        "strong": session.strong,
        "claim": session.claim,
    });
    tx.record("session.started", at, &body)?;
    if let Some(brought) = &session.brought {
        bring(tx, &person, &session.person, brought, at)?;
    }
    let held = match session.claim {
        Some(claim) => hold_longer(tx, claim, session, &person)?,
        None => None,
    };
    Ok(Started { held })
}

fn insert(tx: &Tx<'_>, session: &NewSession, person: &Person) -> Result<()> {
    tx.execute_one(
        "INSERT INTO sessions (id, secret, person, issuer, subject, provider, provider_session,
                               authenticated_at_ms, strong, started_at_ms, seen_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)",
        params![
            session.id.0.as_bytes(),
            session.secret,
            person.id,
            session.person.issuer,
            session.person.subject,
            session.provider,
            session.provider_session,
            session.authenticated_at.ms(),
            session.strong,
            session.at.ms()
        ],
    )
}

/// The oldest go, so that one profile does not fill the table.
fn make_room(tx: &mut Tx<'_>, person: &Person, at: Timestamp) -> Result<()> {
    let open = open_sessions(
        tx.conn,
        "SELECT id FROM sessions WHERE person = ?1 AND ended_at_ms IS NULL
         ORDER BY started_at_ms DESC, id DESC LIMIT ?3 OFFSET ?2",
        params![person.id, SESSIONS_MAX - 1, i64::MAX],
    )?;
    for id in open {
        end(tx, id, EndReason::TooMany, at)?;
    }
    Ok(())
}

/// Whoever has signed in needs time to decide. Once per claim, so that nobody holds a charge for ever;
/// and a shopper who was known when they claimed has that time already. Who may not claim any more, because
/// they hold others or are locked, gets no time by claiming first and signing in afterwards.
fn hold_longer(
    tx: &mut Tx<'_>,
    claim: ClaimId,
    session: &NewSession,
    person: &Person,
) -> Result<Option<TerminalId>> {
    if person.locked || held_by(tx.conn, person)? >= session.held_max {
        return Ok(None);
    }
    let at = session.at;
    let touched = tx.execute(
        "UPDATE claims SET signed_in_at_ms = ?2, held_until_ms = max(held_until_ms, ?3),
                           signed_in_by = ?4
         WHERE id = ?1 AND state = 'held' AND held_until_ms > ?2
           AND signed_in_at_ms IS NULL AND person IS NULL",
        params![
            claim.0.as_bytes(),
            at.ms(),
            (at + session.hold_ms).ms(),
            person.id
        ],
    )?;
    match touched {
        0 => Ok(None),
        _ => tell_terminal(tx, claim).map(Some),
    }
}

/// The claim's terminal shows how long it is held.
pub(super) fn tell_terminal(tx: &Tx<'_>, claim: ClaimId) -> Result<TerminalId> {
    let id = one(
        tx.conn,
        "SELECT charges.terminal FROM claims JOIN charges ON charges.id = claims.charge
         WHERE claims.id = ?1",
        [claim.0.as_bytes()],
        |row| terminal(row, "terminal"),
    )?;
    raise_revision(tx, id);
    Ok(id)
}

/// False if it had ended.
pub(super) fn end(
    tx: &mut Tx<'_>,
    id: SessionId,
    reason: EndReason,
    at: Timestamp,
) -> Result<bool> {
    let touched = tx.execute(
        "UPDATE sessions SET ended_at_ms = ?2, end_reason = ?3
         WHERE id = ?1 AND ended_at_ms IS NULL",
        params![id.0.as_bytes(), at.ms(), reason_text(reason)],
    )?;
    if touched == 1 {
        let body = json!({ "session": id, "reason": reason_text(reason) });
        tx.record("session.ended", at, &body)?;
    }
    Ok(touched == 1)
}

/// Whosever they are; who asks writes the audit row. Answers how many.
pub(super) fn end_all(tx: &Tx<'_>, at: Timestamp) -> Result<u64> {
    let ended = tx.execute(
        "UPDATE sessions SET ended_at_ms = ?1, end_reason = ?2 WHERE ended_at_ms IS NULL",
        params![at.ms(), reason_text(EndReason::Everywhere)],
    )?;
    Ok(ended as u64)
}

pub(super) fn end_of_person(
    tx: &mut Tx<'_>,
    person: &[u8; 16],
    reason: EndReason,
    at: Timestamp,
) -> Result<u32> {
    let open = open_sessions(
        tx.conn,
        "SELECT id FROM sessions WHERE person = ?1 AND ended_at_ms IS NULL",
        [person],
    )?;
    end_each(tx, open, reason, at)
}

pub(super) fn end_of_identity(
    tx: &mut Tx<'_>,
    identity: &PersonKey,
    reason: EndReason,
    at: Timestamp,
) -> Result<u32> {
    let open = open_sessions(
        tx.conn,
        "SELECT id FROM sessions WHERE issuer = ?1 AND subject = ?2 AND ended_at_ms IS NULL",
        params![identity.issuer, identity.subject],
    )?;
    end_each(tx, open, reason, at)
}

fn end_each(
    tx: &mut Tx<'_>,
    sessions: Vec<SessionId>,
    reason: EndReason,
    at: Timestamp,
) -> Result<u32> {
    let mut ended = 0;
    for id in sessions {
        ended += u32::from(end(tx, id, reason, at)?);
    }
    Ok(ended)
}

fn end_by_provider(tx: &mut Tx<'_>, logout: &ProviderLogout) -> Verdict<LoggedOut> {
    let touched = tx.execute(
        "INSERT INTO logout_tokens (issuer, jti, expires_at_ms) VALUES (?1, ?2, ?3)
         ON CONFLICT DO NOTHING",
        params![logout.issuer, logout.jti, logout.forget_at.ms()],
    )?;
    if touched == 0 {
        return Ok(LoggedOut::Replayed);
    }
    let open = open_sessions(
        tx.conn,
        "SELECT id FROM sessions WHERE issuer = ?1 AND ended_at_ms IS NULL
         AND (?2 IS NULL OR subject = ?2) AND (?3 IS NULL OR provider_session = ?3)
         AND (?2 IS NOT NULL OR ?3 IS NOT NULL)",
        params![logout.issuer, logout.subject, logout.provider_session],
    )?;
    let ended = end_each(tx, open, EndReason::Provider, logout.at)?;
    let body = json!({ "issuer": logout.issuer, "jti": logout.jti, "sessions": ended });
    tx.record("provider.logout", logout.at, &body)?;
    Ok(LoggedOut::Ended(ended))
}

fn open_sessions(conn: &Conn, sql: &str, params: impl Params) -> Result<Vec<SessionId>> {
    all(conn, sql, params, |row| Ok(SessionId(uuid(row, "id")?)))
}

fn by_secret(conn: &Conn, secret: &[u8; 32]) -> Result<Option<SessionRecord>> {
    find(
        conn,
        "SELECT * FROM sessions WHERE secret = ?1",
        [secret],
        read_session,
    )
}

/// A session that has not been ended, with its profile.
pub(super) fn open_session(
    conn: &Conn,
    id: SessionId,
) -> Result<Option<(SessionRecord, [u8; 16])>> {
    find(
        conn,
        "SELECT * FROM sessions WHERE id = ?1 AND ended_at_ms IS NULL",
        [id.0.as_bytes()],
        |row| Ok((read_session(row)?, get(row, "person")?)),
    )
}

fn read_session(row: &Row<'_>) -> Result<SessionRecord> {
    let reason = get::<Option<String>>(row, "end_reason")?;
    let ended = match (time_or_none(row, "ended_at_ms")?, reason) {
        (Some(at), Some(reason)) => Some((at, read_reason(&reason)?)),
        _ => None,
    };
    Ok(SessionRecord {
        id: SessionId(uuid(row, "id")?),
        person: PersonKey {
            issuer: get(row, "issuer")?,
            subject: get(row, "subject")?,
        },
        provider: get(row, "provider")?,
        authenticated_at: time(row, "authenticated_at_ms")?,
        strong: get(row, "strong")?,
        started_at: time(row, "started_at_ms")?,
        seen_at: time(row, "seen_at_ms")?,
        ended,
    })
}

const REASONS: [(EndReason, &str); 7] = [
    (EndReason::SignedOut, "signed-out"),
    (EndReason::Replaced, "replaced"),
    (EndReason::Provider, "provider"),
    (EndReason::Everywhere, "everywhere"),
    (EndReason::TooMany, "too-many"),
    (EndReason::Unlinked, "unlinked"),
    (EndReason::Deleted, "deleted"),
];

fn reason_text(reason: EndReason) -> &'static str {
    let found = REASONS.iter().find(|(known, _)| *known == reason);
    found.map_or("signed-out", |(_, text)| text)
}

fn read_reason(text: &str) -> Result<EndReason> {
    let found = REASONS.iter().find(|(_, known)| *known == text);
    let found = found.map(|(reason, _)| *reason);
    found.ok_or_else(|| corrupt(format!("a session ended because {text}")))
}
