//! Which browser went to which provider, and is it the one that comes back?

use crate::store::sql::conn::{Conn, Row, params};
use protocol::ids::{ClaimId, SessionId};
use protocol::time::Timestamp;

use super::row::{find, get, one, time, uuid_or_none};
use super::sessions::tell_terminal;
use super::writer::{Stop, Tx, Verdict};
use crate::store::sqlite::error::corrupt;
use crate::store::{ATTEMPTS_OF_VISITOR_MAX, Attempt, BeginSignIn, Begun, Purpose, Result, Taken};

pub(super) fn begin(tx: &mut Tx<'_>, begin: &BeginSignIn) -> Verdict<Begun> {
    if is_busy(tx.conn, begin)? {
        return Err(Stop::Refused(Begun::TooMany));
    }
    make_room(tx, begin)?;
    tx.execute_one(
        "INSERT INTO sign_in_attempts (state, visitor, provider, purpose, claim, session,
                                       expires_at_ms, fresh)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            begin.state,
            begin.visitor,
            begin.provider,
            purpose_text(begin.purpose),
            begin.claim.map(|claim| claim.0.into_bytes()),
            begin.session.map(|session| session.0.into_bytes()),
            begin.expires_at.ms(),
            begin.fresh
        ],
    )?;
    let Some(claim) = begin.claim else {
        return Ok(Begun::Begun(None));
    };
    // Counted from the claim, so that beginning again and again does not prolong it.
    let touched = tx.execute(
        "UPDATE claims SET held_until_ms = claimed_at_ms + ?3
         WHERE id = ?1 AND state = 'held' AND held_until_ms > ?2
           AND held_until_ms < claimed_at_ms + ?3",
        params![claim.0.as_bytes(), begin.at.ms(), begin.hold_ms],
    )?;
    match touched {
        0 => Ok(Begun::Begun(None)),
        _ => Ok(Begun::Begun(Some(tell_terminal(tx, claim)?))),
    }
}

/// Whether this browser has begun as many as it may.
fn is_busy(conn: &Conn, begin: &BeginSignIn) -> Result<bool> {
    let own = one(
        conn,
        "SELECT count(*) AS number FROM sign_in_attempts
         WHERE visitor = ?1 AND expires_at_ms > ?2 AND taken_at_ms IS NULL",
        params![begin.visitor, begin.at.ms()],
        |row| get::<u32>(row, "number"),
    )?;
    Ok(own >= ATTEMPTS_OF_VISITOR_MAX)
}

/// A stranger can invent browsers, so a full table refuses nobody: whoever came first and holds no
/// charge has to begin again.
fn make_room(tx: &Tx<'_>, begin: &BeginSignIn) -> Result<()> {
    let waiting = one(
        tx.conn,
        "SELECT count(*) AS number FROM sign_in_attempts
         WHERE expires_at_ms > ?1 AND taken_at_ms IS NULL",
        [begin.at.ms()],
        |row| get::<u32>(row, "number"),
    )?;
    if waiting >= begin.waiting_max {
        tx.execute(
            "DELETE FROM sign_in_attempts WHERE state IN (
                 SELECT state FROM sign_in_attempts WHERE taken_at_ms IS NULL
                 ORDER BY claim IS NOT NULL, expires_at_ms LIMIT 1)",
            params![],
        )?;
    }
    Ok(())
}

pub(super) fn take(
    tx: &mut Tx<'_>,
    state: &[u8; 32],
    visitor: &[u8; 32],
    at: Timestamp,
) -> Verdict<Taken> {
    let Some(found) = stored(tx.conn, state)? else {
        return Ok(Taken::Unknown);
    };
    if at >= found.expires_at {
        return Ok(Taken::Unknown);
    }
    // Its secret is another one since the sign-in, so the session tells that it is the same browser.
    if found.taken {
        return Ok(Taken::Again(found.attempt, found.opened));
    }
    if found.visitor != *visitor {
        return Ok(Taken::Unknown);
    }
    tx.execute_one(
        "UPDATE sign_in_attempts SET taken_at_ms = ?2 WHERE state = ?1 AND taken_at_ms IS NULL",
        params![state, at.ms()],
    )?;
    Ok(Taken::Taken(found.attempt))
}

pub(super) fn forget(
    tx: &Tx<'_>,
    sessions_before: Timestamp,
    now: Timestamp,
    limit: u32,
) -> Result<u32> {
    let mut forgotten = 0;
    for (table, key, column, before) in [
        ("sign_in_attempts", "state", "expires_at_ms", now),
        ("offered_links", "id", "expires_at_ms", now),
        ("sessions", "id", "started_at_ms", sessions_before),
    ] {
        forgotten += tx.execute(
            &format!(
                "DELETE FROM {table} WHERE {key} IN
                     (SELECT {key} FROM {table} WHERE {column} <= ?1 LIMIT ?2)"
            ),
            params![before.ms(), limit],
        )?;
    }
    forgotten += tx.execute(
        "DELETE FROM logout_tokens WHERE expires_at_ms <= ?1",
        [now.ms()],
    )?;
    Ok(u32::try_from(forgotten).unwrap_or(u32::MAX))
}

struct Stored {
    attempt: Attempt,
    visitor: [u8; 32],
    expires_at: Timestamp,
    taken: bool,
    opened: Option<SessionId>,
}

fn stored(conn: &Conn, state: &[u8; 32]) -> Result<Option<Stored>> {
    find(
        conn,
        "SELECT * FROM sign_in_attempts WHERE state = ?1",
        [state],
        read_attempt,
    )
}

fn read_attempt(row: &Row<'_>) -> Result<Stored> {
    let attempt = Attempt {
        provider: get(row, "provider")?,
        purpose: read_purpose(row)?,
        claim: uuid_or_none(row, "claim")?.map(ClaimId),
        session: uuid_or_none(row, "session")?.map(SessionId),
        fresh: get(row, "fresh")?,
    };
    Ok(Stored {
        attempt,
        visitor: get(row, "visitor")?,
        expires_at: time(row, "expires_at_ms")?,
        taken: get::<Option<i64>>(row, "taken_at_ms")?.is_some(),
        opened: uuid_or_none(row, "opened")?.map(SessionId),
    })
}

fn purpose_text(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Pay => "pay",
        Purpose::Link => "link",
        Purpose::Profile => "profile",
    }
}

fn read_purpose(row: &Row<'_>) -> Result<Purpose> {
    match get::<String>(row, "purpose")?.as_str() {
        "pay" => Ok(Purpose::Pay),
        "link" => Ok(Purpose::Link),
        "profile" => Ok(Purpose::Profile),
        other => Err(corrupt(format!("a sign-in for {other}"))),
    }
}
