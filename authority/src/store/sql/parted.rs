//! What goes on to count when an identity leaves its profile?
//!
//! Where the profile stood since the last strong authentication and today, and its wrong codes of the last
//! minutes. Kept for a limited time under HMAC-SHA-256(key of this database, issuer and subject), and taken
//! up by the next profile that the identity opens: leaving makes nothing begin anew.

use crate::store::sql::conn::{Conn, Row, params};
use hmac::{Hmac, KeyInit, Mac};
use protocol::money::Currency;
use protocol::time::Timestamp;
use sha2::{Digest as _, Sha256};

use super::allowances::{standing, standings, write as write_standing};
use super::persons::Person;
use super::row::{all, currency, find, get, one, time, time_or_none};
use super::writer::Tx;
use crate::journal::hex;
use crate::store::sqlite::error::corrupt;
use crate::store::{
    PARTED_KEPT_MS, PERSON_SPAN_MS, PersonKey, Result, Standing, day_of, end_of_day,
};

/// What an identity is called here once it has left.
pub(super) type Digest = [u8; 32];

/// Makes [`Digest`]s; read once, where many are made.
pub(super) struct PartingKey([u8; 32]);

impl PartingKey {
    pub(super) fn of(conn: &Conn) -> Result<Self> {
        let key = one(conn, "SELECT parting_key FROM meta", params![], |row| {
            get::<Option<[u8; 32]>>(row, "parting_key")
        })?;
        key.map(Self)
            .ok_or_else(|| corrupt("a database without its parting key"))
    }

    /// Which key it is, for whoever has the key and the digests.
    pub(super) fn name(&self) -> String {
        let mut hash = Sha256::new_with_prefix(b"m2key/parting-key/1\0");
        hash.update(self.0);
        hex(&hash.finalize()[..8])
    }

    pub(super) fn digest(&self, identity: &PersonKey) -> Digest {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(b"m2key/parted/1\0");
        mac.update(&(identity.issuer.len() as u64).to_be_bytes());
        mac.update(identity.issuer.as_bytes());
        mac.update(identity.subject.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// The identity is about to leave `person`.
pub(super) fn keep(
    tx: &Tx<'_>,
    person: &Person,
    identity: &PersonKey,
    at: Timestamp,
) -> Result<()> {
    let standings: Vec<_> = standings(tx.conn, person)?
        .into_iter()
        .filter(|(_, it)| it.unaided_payments > 0 || it.unaided_minor > 0 || is_today(it, at))
        .collect();
    let (misses, missed_at) = recent_misses(tx.conn, person, at)?;
    let until = kept_until(standings.iter().map(|(_, it)| it), missed_at, at);
    let Some(until) = until else {
        return Ok(());
    };
    let digest = PartingKey::of(tx.conn)?.digest(identity);
    // One that is over, and was not forgotten yet.
    tx.execute("DELETE FROM parted WHERE identity = ?1", [digest])?;
    tx.execute_one(
        "INSERT INTO parted (identity, kept_until_ms, misses, missed_at_ms) VALUES (?1, ?2, ?3, ?4)",
        params![
            digest,
            until.ms(),
            misses,
            missed_at.map(Timestamp::ms)
        ],
    )?;
    for (currency, standing) in standings {
        insert(tx, &digest, currency, &standing)?;
    }
    Ok(())
}

/// As long as something of it counts: what was paid unaided for its time, a day's sum that day, wrong codes
/// for minutes.
fn kept_until<'s>(
    standings: impl Iterator<Item = &'s Standing>,
    missed_at: Option<Timestamp>,
    at: Timestamp,
) -> Option<Timestamp> {
    let of_standing = |it: &Standing| match it.unaided_payments > 0 || it.unaided_minor > 0 {
        true => at + PARTED_KEPT_MS,
        false => end_of_day(it.day),
    };
    let of_misses = missed_at.map(|at| at + PERSON_SPAN_MS);
    standings.map(of_standing).chain(of_misses).max()
}

/// Who was locked in a profile that is not here: whatever profile the identity opens is locked.
pub(super) fn keep_lock(tx: &Tx<'_>, digest: &Digest, lock: &WaitingLock) -> Result<()> {
    tx.execute_one(
        "INSERT INTO parted_locks (identity, person, turn, locked_at_ms, reason)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (identity) DO UPDATE SET person = ?2, turn = ?3, locked_at_ms = ?4, reason = ?5",
        params![
            digest,
            lock.person,
            lock.turn,
            lock.locked_at.ms(),
            lock.reason
        ],
    )
}

/// A lock that waits for an identity.
pub(super) struct WaitingLock {
    /// The profile that is not here.
    pub(super) person: [u8; 16],
    pub(super) turn: u32,
    pub(super) locked_at: Timestamp,
    pub(super) reason: String,
}

pub(super) fn waiting_lock(conn: &Conn, identity: &PersonKey) -> Result<Option<WaitingLock>> {
    let digest = PartingKey::of(conn)?.digest(identity);
    find(
        conn,
        "SELECT * FROM parted_locks WHERE identity = ?1",
        [digest],
        |row| {
            Ok(WaitingLock {
                person: get(row, "person")?,
                turn: get(row, "turn")?,
                locked_at: time(row, "locked_at_ms")?,
                reason: get(row, "reason")?,
            })
        },
    )
}

/// It waits for none of the identities that opened the lost profile any more.
pub(super) fn lift_waiting(tx: &Tx<'_>, lock: &WaitingLock) -> Result<()> {
    let sql = "DELETE FROM parted_locks WHERE person = ?1";
    tx.execute(sql, [lock.person])?;
    Ok(())
}

/// The identity has come to `person`, which stands from now on where the worse of both stood. Answers why
/// it is to be locked.
pub(super) fn take_up(
    tx: &Tx<'_>,
    person: &Person,
    identity: &PersonKey,
    at: Timestamp,
) -> Result<Option<String>> {
    let digest = PartingKey::of(tx.conn)?.digest(identity);
    let lock = waiting_lock(tx.conn, identity)?;
    if lock.is_some() {
        tx.execute_one("DELETE FROM parted_locks WHERE identity = ?1", [digest])?;
    }
    let lock = lock.map(|it| it.reason);
    let Some(parted) = find_parted(tx.conn, &digest, at)? else {
        return Ok(lock);
    };
    let brought = all(
        tx.conn,
        "SELECT * FROM parted_allowances WHERE identity = ?1 ORDER BY currency",
        [digest],
        |row| Ok((currency(row, "currency")?, read_standing(row)?)),
    )?;
    for (currency, brought) in brought {
        let here = standing(tx.conn, person, currency)?;
        write_standing(tx, person, currency, &here.worse(brought))?;
    }
    keep_open_intents(tx, person)?;
    bring_misses(tx, person, &parted, at)?;
    tx.execute_one("DELETE FROM parted WHERE identity = ?1", [digest])?;
    Ok(lock)
}

/// What the identity missed beyond what the profile did itself: the same codes do not count twice when it
/// leaves and comes back.
fn bring_misses(tx: &Tx<'_>, person: &Person, parted: &Parted, at: Timestamp) -> Result<()> {
    let recent = |it: &Timestamp| *it >= at - PERSON_SPAN_MS;
    let Some(missed_at) = parted.missed_at.filter(recent) else {
        return Ok(());
    };
    let (here, _) = recent_misses(tx.conn, person, at)?;
    if parted.misses <= here {
        return Ok(());
    }
    tx.execute_one(
        "UPDATE persons SET
             brought_misses = ?2 + CASE WHEN brought_missed_at_ms >= ?4 THEN brought_misses ELSE 0 END,
             brought_missed_at_ms = ?3
         WHERE id = ?1",
        params![
            person.id,
            parted.misses - here,
            missed_at.ms(),
            (at - PERSON_SPAN_MS).ms()
        ],
    )
}

/// How many codes of whoever has no profile now were wrong since then, in the one they left.
pub(super) fn recent_of(conn: &Conn, identity: &PersonKey, since: Timestamp) -> Result<u32> {
    let digest = PartingKey::of(conn)?.digest(identity);
    let found = find(
        conn,
        "SELECT misses FROM parted WHERE identity = ?1 AND missed_at_ms >= ?2",
        params![digest, since.ms()],
        |row| get(row, "misses"),
    )?;
    Ok(found.unwrap_or(0))
}

/// What is over; the rows of its currencies go with it.
pub(super) fn forget(tx: &Tx<'_>, now: Timestamp, limit: u32) -> Result<usize> {
    tx.execute(
        "DELETE FROM parted WHERE identity IN
             (SELECT identity FROM parted WHERE kept_until_ms <= ?1
              ORDER BY kept_until_ms LIMIT ?2)",
        params![now.ms(), limit],
    )
}

fn is_today(it: &Standing, at: Timestamp) -> bool {
    it.day >= day_of(at) && it.day_minor > 0
}

/// How many codes were wrong lately, and when the last of them was.
fn recent_misses(conn: &Conn, person: &Person, at: Timestamp) -> Result<(u32, Option<Timestamp>)> {
    one(
        conn,
        "SELECT CAST(coalesce(sum(misses), 0) AS BIGINT) AS misses, max(at_ms) AS at_ms FROM (
             SELECT misses, at_ms FROM misses WHERE person = ?1 AND at_ms >= ?2
             UNION ALL
             SELECT brought_misses, brought_missed_at_ms FROM persons
             WHERE id = ?1 AND brought_missed_at_ms >= ?2) both_kinds",
        params![person.id, (at - PERSON_SPAN_MS).ms()],
        |row| Ok((get(row, "misses")?, time_or_none(row, "at_ms")?)),
    )
}

/// What a rail has not answered yet was counted in one of the two, and nobody could say in which: it is
/// not given back.
fn keep_open_intents(tx: &Tx<'_>, person: &Person) -> Result<()> {
    tx.execute(
        "UPDATE intents SET took_of_shopper = 0
         WHERE next_at_ms IS NOT NULL AND took_of_shopper = 1
           AND service_account IN (SELECT id FROM service_accounts WHERE person = ?1)",
        [person.id],
    )?;
    Ok(())
}

fn insert(tx: &Tx<'_>, digest: &Digest, currency: Currency, it: &Standing) -> Result<()> {
    tx.execute_one(
        "INSERT INTO parted_allowances
             (identity, currency, unaided_minor, unaided_payments, unaided_at_ms, day, day_minor)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            digest,
            currency.code(),
            it.unaided_minor,
            it.unaided_payments,
            it.unaided_at.map(Timestamp::ms),
            it.day,
            it.day_minor
        ],
    )
}

fn read_standing(row: &Row<'_>) -> Result<Standing> {
    Ok(Standing {
        unaided_minor: get(row, "unaided_minor")?,
        unaided_payments: get(row, "unaided_payments")?,
        unaided_at: time_or_none(row, "unaided_at_ms")?,
        day: get(row, "day")?,
        day_minor: get(row, "day_minor")?,
        ..Standing::default()
    })
}

struct Parted {
    misses: u32,
    missed_at: Option<Timestamp>,
}

fn find_parted(conn: &Conn, digest: &Digest, at: Timestamp) -> Result<Option<Parted>> {
    find(
        conn,
        "SELECT * FROM parted WHERE identity = ?1
         AND kept_until_ms > ?2",
        params![digest, at.ms()],
        |row| {
            Ok(Parted {
                misses: get(row, "misses")?,
                missed_at: time_or_none(row, "missed_at_ms")?,
            })
        },
    )
}
