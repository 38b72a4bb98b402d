//! How does what a restore has forgotten hold again, and what is open end?
//!
//! Refusals, and keys that the HSM holds, to verify what they signed: nothing here signs or opens. What
//! needs the HSM, new seeds above all, is recorded as an operation, which the next start carries out.

use crate::store::sql::conn::{Conn, params};
use protocol::ids::{ChargeId, TerminalId};
use protocol::time::Timestamp;
use protocol::wire::push::EndReason;
use serde_json::json;

use super::super::consents::{find_operator, numbered_policy, put_policy};
use super::super::persons::random;
use super::super::revocations::{pass_number, revoke_again};
use super::super::rotation::begin_for;
use super::super::rotation::keys::{add_found, add_unknown, find_key, taint_again};
use super::super::row::{all, terminal, uuid};
use super::super::settle::{end, find_charge, find_claim};
use super::super::terminals::{ban, find_terminal};
use super::super::turns::raise_revision;
use super::super::writer::{Stop, Tx, Verdict};
use super::missing::void_below;
use super::shoppers::{lock_shoppers, remove_passkeys};
use super::tags::retire_tags;
use crate::journal::{Fact, Known, NumberedPolicy};
use crate::store::sqlite::error::corrupt;
use crate::store::{
    ChargeRecord, ChargeStatus, OperationId, Raise, Raised, Result, TerminalStatus, When, Whose,
    Work,
};

/// Everything that the journal knows to be refused.
pub(super) fn refuse(
    tx: &mut Tx<'_>,
    raise: &Raise,
    raised: &mut Raised,
    at: Timestamp,
) -> Verdict<()> {
    let known = &raise.known;
    raised.bans = ban_again(tx, raise, at)?;
    for revocation in known.revoked.values() {
        let added = revoke_again(tx, &revocation.certificate, at)?;
        raised.revocations += u64::from(added);
    }
    for (issuer_key, number) in &known.crls {
        pass_number(tx, issuer_key, *number)?;
    }
    raised.locks = lock_shoppers(tx, raise, at)?;
    raised.passkeys = remove_passkeys(tx, raise, at)?;
    raised.tags = retire_tags(tx, known, at)?;
    raised.operators = revoke_operators(tx, known, at)?;
    raised.policy = set_policy_again(tx, known, &raise.by, at)?;
    raised.keys = taint_keys(tx, raise, at).map_err(Stop::undone)?;
    add_keys(tx, raise, at)?;
    raised.seeds = void_seeds(tx, raise, at).map_err(Stop::undone)?;
    Ok(())
}

fn ban_again(tx: &mut Tx<'_>, raise: &Raise, at: Timestamp) -> Result<Vec<TerminalId>> {
    let mut again = Vec::new();
    for id in raise.known.bans.keys() {
        let Some(journalled) = raise.known.ban_since(raise.since, *id) else {
            continue;
        };
        let found = find_terminal(tx.conn, *id)?;
        let needed = found.is_some_and(|found| {
            found.status == TerminalStatus::Active && found.version <= journalled.version
        });
        if needed {
            ban(tx, *id, &journalled.reason, at)?;
            again.push(*id);
        }
    }
    Ok(again)
}

/// Also one who was added in the lost time: a name is not given twice.
fn revoke_operators(tx: &mut Tx<'_>, known: &Known, at: Timestamp) -> Result<Vec<String>> {
    let mut again = Vec::new();
    for (name, gone) in &known.operators {
        let here = find_operator(tx.conn, name, gone.at)?;
        if here.is_some_and(|operator| operator.revoked.is_some()) {
            continue;
        }
        tx.execute_one(
            "INSERT INTO operators (name, added_by, added_at_ms, revoked_by, revoked_at_ms)
             VALUES (?1, 'fence-raise', ?3, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET revoked_by = excluded.revoked_by,
                 revoked_at_ms = excluded.revoked_at_ms",
            params![name, gone.by, gone.at.ms()],
        )?;
        let body = json!({ "operator": name, "by": "fence-raise" });
        tx.record("operator.revoked", at, &body)?;
        again.push(name.clone());
    }
    Ok(again)
}

/// As strict as the one that is here and the one that was lost, for every verb.
fn set_policy_again(tx: &mut Tx<'_>, known: &Known, by: &str, at: Timestamp) -> Result<bool> {
    let here = numbered_policy(tx.conn)?;
    let number = here.as_ref().map_or(0, |policy| policy.number);
    let Some(lost) = known.policy.as_ref().filter(|lost| lost.number > number) else {
        return Ok(false);
    };
    let here = here.map(|policy| policy.policy).unwrap_or_default();
    let policy = NumberedPolicy {
        number: lost.number.saturating_add(1),
        policy: here.stricter(&lost.policy),
        set_by: by.into(),
        set_at: at,
    };
    put_policy(tx, policy)?;
    Ok(true)
}

/// Labels of the keys.
fn taint_keys(tx: &mut Tx<'_>, raise: &Raise, at: Timestamp) -> Verdict<Vec<String>> {
    let mut again = Vec::new();
    for lost in raise.known.tainted.values() {
        match find_key(tx.conn, &lost.kid)? {
            Some(key) if key.tainted_at.is_some() => continue,
            Some(key) => {
                let work = Work::Taint {
                    kid: key.kid.clone(),
                };
                let operation = operation(tx, raise, work, at).map_err(Stop::undone)?;
                let successor = raise.successors.iter().find(|it| it.purpose == key.purpose);
                taint_again(tx, &key, lost.tainted_at, successor, operation, at)
                    .map_err(Stop::undone)?;
            }
            None => add_unknown(tx, lost, at)?,
        }
        again.push(lost.label.clone());
    }
    Ok(again)
}

/// After the taints: what is tainted is there by now.
fn add_keys(tx: &mut Tx<'_>, raise: &Raise, at: Timestamp) -> Result<()> {
    for key in &raise.found {
        if find_key(tx.conn, &key.kid)?.is_none() {
            add_found(tx, key, at)?;
        }
    }
    Ok(())
}

/// The terminals are refused until they have a seed that nobody has seen; how many there are.
fn void_seeds(tx: &mut Tx<'_>, raise: &Raise, at: Timestamp) -> Verdict<u64> {
    let (mut void, mut wait) = (0, false);
    for (id, voided) in &raise.known.voided {
        let Some(below) = void_below(tx.conn, *id)?.filter(|below| *below < voided.below) else {
            continue;
        };
        let Some(found) = find_terminal(tx.conn, *id)? else {
            continue;
        };
        // No version means two seeds: one that was lost is passed over.
        let is_lost = found.version < voided.below;
        let below = voided.below.saturating_add(u32::from(is_lost)).max(below);
        tx.execute_one(
            "UPDATE terminals SET void_below = ?2, refetch = 1 WHERE id = ?1",
            params![id.value(), below],
        )?;
        tx.tell(
            at,
            Fact::Reseeded {
                terminal: *id,
                version: below,
            },
        );
        let body = json!({ "terminal": id, "below": below });
        tx.record("seed.voided", at, &body)?;
        raise_revision(tx, *id);
        void += u64::from(is_lost);
        wait |= is_lost && found.status == TerminalStatus::Active;
    }
    if wait {
        let work = Work::Reseed {
            whose: Whose::Void,
            when: When::Compromised,
            reason: raise.reason.clone(),
        };
        operation(tx, raise, work, at).map_err(Stop::undone)?;
    }
    Ok(void)
}

/// Goes on at the next start.
fn operation(tx: &mut Tx<'_>, raise: &Raise, work: Work, at: Timestamp) -> Verdict<OperationId> {
    let now = u64::try_from(at.ms()).map_err(|_| Stop::Failed(corrupt("a time before 1970")))?;
    let id = OperationId::from_parts(now, &random()?);
    begin_for(tx, id, "fence-raise", &raise.by, work, at).map_err(Stop::undone)
}

/// A charge that is on offer or held here may have been paid in the lost time: it must not be paid
/// again. What is held is released with it; but what a rail was asked for may be paid by now, with a
/// receipt: the rail says so.
pub(super) fn end_charges(tx: &mut Tx<'_>, at: Timestamp) -> Result<u64> {
    let open = all(
        tx.conn,
        "SELECT id, terminal FROM charges WHERE state IN ('offered', 'held')",
        params![],
        |row| Ok((ChargeId(uuid(row, "id")?), terminal(row, "terminal")?)),
    )?;
    for (id, terminal) in &open {
        let Some(charge) = find_charge(tx.conn, *id)? else {
            continue;
        };
        if !is_being_paid(tx.conn, &charge)? {
            end(tx, &charge, EndReason::Cancelled, at)?;
            raise_revision(tx, *terminal);
        }
    }
    Ok(open.len() as u64)
}

fn is_being_paid(conn: &Conn, charge: &ChargeRecord) -> Result<bool> {
    let ChargeStatus::Held(claim) = charge.status else {
        return Ok(false);
    };
    Ok(find_claim(conn, claim)?.is_some_and(|claim| claim.record.paying))
}
