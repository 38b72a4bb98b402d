//! Which locks and removed passkeys of shoppers has a restored copy forgotten?
//!
//! A profile made or opened in the lost time is not here, or is opened by others: a lock counts for the
//! identities that opened it then, wherever they are now.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::sql::conn::{Conn, params};
use protocol::time::Timestamp;

use super::super::allowances::{lock_fact, lock_person};
use super::super::parted::{Digest, PartingKey, WaitingLock, keep_lock};
use super::super::passkeys::{good_one, remove_again, removed_fact};
use super::super::persons::person_of;
use super::super::row::{all, find, get, time};
use super::super::writer::Tx;
use super::missing::Since;
use crate::journal::{Fact, Known, LockedShopper, REVOKED_KEPT_MS, ShopperLock, unhex};
use crate::store::{PersonKey, Raise, Result};

/// Profiles that were locked, in this generation or a later one, and are not here.
pub(super) fn missing_locks(conn: &Conn, known: &Known, from: Since) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for (person, lock) in since(known, from.generation) {
        let here = turn_of(conn, person)?.map_or(from.raised, |here| here >= lock.turn);
        if lock.locked.is_some() && !here {
            missing.push(person.clone());
        }
    }
    Ok(missing)
}

/// Passkeys that were removed, in this generation or a later one, and are good here.
pub(super) fn missing_passkeys(conn: &Conn, known: &Known, generation: u32) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for ((person, sha256), gone) in &known.passkeys {
        let Some(id) = unhex(person).filter(|_| gone.generation >= generation) else {
            continue;
        };
        if good_one(conn, &id, sha256)?.is_some() {
            missing.push(sha256.clone());
        }
    }
    Ok(missing)
}

/// What a crash kept from the journal, with the time of each.
pub(super) fn unjournalled_of_shoppers(
    conn: &Conn,
    known: &Known,
    generation: u32,
    now: Timestamp,
) -> Result<Vec<(Timestamp, Fact)>> {
    let mut facts = Vec::new();
    let locked = all(
        conn,
        "SELECT id FROM persons WHERE locked_at_ms IS NOT NULL ORDER BY id",
        params![],
        |row| get::<[u8; 16]>(row, "id"),
    )?;
    for id in locked {
        let Some(Fact::ShopperLocked(lock)) = lock_fact(conn, &id)? else {
            continue;
        };
        let journalled = known.locks.get(&lock.person).is_some_and(|it| {
            it.locked.as_ref() == Some(&lock)
                || (it.generation >= generation && it.turn >= lock.turn)
        });
        if !journalled {
            facts.push((lock.locked_at, Fact::ShopperLocked(lock)));
        }
    }
    facts.extend(unjournalled_unlocks(conn, known, generation, now)?);
    let removed = all(
        conn,
        "SELECT person, id, removed_at_ms FROM passkeys WHERE removed_at_ms >= ?1
         ORDER BY removed_at_ms, id",
        [(now - REVOKED_KEPT_MS).ms()],
        |row| {
            let at = time(row, "removed_at_ms")?;
            let (person, id): ([u8; 16], Vec<u8>) = (get(row, "person")?, get(row, "id")?);
            Ok((at, removed_fact(&person, &id, at)))
        },
    )?;
    facts.extend(removed.into_iter().filter(|(_, fact)| match fact {
        Fact::PasskeyRemoved(gone) => {
            let key = (gone.person.clone(), gone.sha256.clone());
            !known.passkeys.contains_key(&key)
        }
        _ => false,
    }));
    Ok(facts)
}

/// A journalled lock that was lifted here since.
fn unjournalled_unlocks(
    conn: &Conn,
    known: &Known,
    generation: u32,
    now: Timestamp,
) -> Result<Vec<(Timestamp, Fact)>> {
    let mut facts = Vec::new();
    for (person, lock) in since(known, generation) {
        let Some(turn) = turn_of(conn, person)?.filter(|turn| *turn > lock.turn) else {
            continue;
        };
        let id = unhex(person);
        let is_locked = match id {
            Some(id) => lock_fact(conn, &id)?.is_some(),
            None => true,
        };
        if lock.locked.is_some() && !is_locked {
            let person = person.clone();
            facts.push((now, Fact::ShopperUnlocked { person, turn }));
        }
    }
    Ok(facts)
}

/// Answers how many profiles, or identities of profiles that are not here.
pub(super) fn lock_shoppers(tx: &mut Tx<'_>, raise: &Raise, at: Timestamp) -> Result<u64> {
    let mut needed: Vec<LockedShopper> = Vec::new();
    for (person, lock) in since(&raise.known, raise.since) {
        let holds = turn_of(tx.conn, person)?.is_some_and(|here| here >= lock.turn);
        needed.extend(lock.locked.clone().filter(|_| !holds));
    }
    if needed.is_empty() {
        return Ok(0);
    }
    let here = identities_here(tx.conn)?;
    let mut again = 0;
    for lock in needed {
        again += lock_again(tx, &lock, &here, at)?;
    }
    Ok(again)
}

fn lock_again(
    tx: &mut Tx<'_>,
    lock: &LockedShopper,
    here: &BTreeMap<Digest, [u8; 16]>,
    at: Timestamp,
) -> Result<u64> {
    let mut persons = BTreeSet::new();
    if turn_of(tx.conn, &lock.person)?.is_some() {
        persons.extend(unhex(&lock.person));
    }
    let mut again = 0;
    if lock.key != PartingKey::of(tx.conn)?.name() {
        tracing::error!(
            profile = lock.person,
            "a shopper was locked in the lost time, and this copy cannot tell who: it is from before locks \
             were journalled. Compare `audit` of the lost database, and lock them again"
        );
        return lock_persons(tx, persons, lock, at);
    }
    let Some(lost) = unhex(&lock.person) else {
        return Ok(0);
    };
    let waiting = WaitingLock {
        person: lost,
        turn: lock.turn,
        locked_at: lock.locked_at,
        reason: lock.reason.clone(),
    };
    for digest in lock.identities.iter().filter_map(|it| unhex(it)) {
        match here.get(&digest) {
            Some(person) => {
                persons.insert(*person);
            }
            None => {
                keep_lock(tx, &digest, &waiting)?;
                again += 1;
            }
        }
    }
    Ok(again + lock_persons(tx, persons, lock, at)?)
}

fn lock_persons(
    tx: &mut Tx<'_>,
    persons: BTreeSet<[u8; 16]>,
    lock: &LockedShopper,
    at: Timestamp,
) -> Result<u64> {
    let mut again = 0;
    for id in persons {
        let person = person_of(tx.conn, &id)?;
        let by = Some("fence-raise");
        again += u64::from(lock_person(tx, &person, &lock.reason, by, at)?);
    }
    Ok(again)
}

pub(super) fn remove_passkeys(tx: &mut Tx<'_>, raise: &Raise, at: Timestamp) -> Result<u64> {
    let mut again = 0;
    for ((person, sha256), gone) in &raise.known.passkeys {
        if let Some(id) = unhex(person).filter(|_| gone.generation >= raise.since) {
            again += u64::from(remove_again(tx, &id, sha256, at)?);
        }
    }
    Ok(again)
}

fn since(known: &Known, generation: u32) -> impl Iterator<Item = (&String, &ShopperLock)> {
    let locks = known.locks.iter();
    locks.filter(move |(_, lock)| lock.generation >= generation)
}

/// None if there is no such profile.
fn turn_of(conn: &Conn, person: &str) -> Result<Option<u32>> {
    let Some(id) = unhex::<16>(person) else {
        return Ok(None);
    };
    let sql = "SELECT lock_turn FROM persons WHERE id = ?1";
    find(conn, sql, [id], |row| get(row, "lock_turn"))
}

/// Every identity, and whose profile it opens. Only a raise reads all of them.
fn identities_here(conn: &Conn) -> Result<BTreeMap<Digest, [u8; 16]>> {
    let key = PartingKey::of(conn)?;
    let all = all(
        conn,
        "SELECT issuer, subject, person FROM identities",
        params![],
        |row| {
            let identity = PersonKey {
                issuer: get(row, "issuer")?,
                subject: get(row, "subject")?,
            };
            Ok((key.digest(&identity), get(row, "person")?))
        },
    )?;
    Ok(all.into_iter().collect())
}
