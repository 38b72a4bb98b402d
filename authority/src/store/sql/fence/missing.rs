//! What does the journal know that is not here, and what is here that it does not know?

use crate::store::sql::conn::{Conn, params};
use hsm::KeyLabel;
use protocol::audit::Head;
use protocol::ids::TerminalId;
use protocol::time::Timestamp;

use super::super::consents::{find_operator, numbered_policy};
use super::super::rotation::keys::{all_keys, find_key};
use super::super::row::{all, count, find, get, one, signed, terminal, time};
use super::super::terminals::find_terminal;
use super::read_last;
use super::shoppers::{missing_locks, missing_passkeys, unjournalled_of_shoppers};
use super::tags::{missing_tags, unjournalled_tags};
use crate::journal::hex;
use crate::journal::{Ban, Fact, Known, Last, MadeKey, NumberedPolicy, Revoked, TaintedKey};
use crate::store::fence::Missing;
use crate::store::{Difference, KeyPurpose, KeyRecord, Result, TerminalStatus};

/// From which generation on what was journalled must be here. What is older was carried out again when
/// that generation was begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since {
    pub(super) generation: u32,
    /// Another node raised the generation with its own journal, and never saw this one. What a raise cannot
    /// bring back, because it is about what is not here, is not asked for again.
    pub(super) raised: bool,
}

pub(in super::super) fn differs(conn: &Conn, known: &Known) -> Result<Difference> {
    let generation = generation(conn)?;
    let since = Since {
        generation: generation.min(known.generation),
        raised: known.generation < generation,
    };
    Ok(Difference {
        generation,
        wrote: wrote_last(conn, &known.node)?,
        missing: Missing {
            bans: missing_bans(conn, known, since)?,
            revocations: missing_revocations(conn, known, since)?,
            keys: missing_keys(conn, known, generation)?,
            taints: missing_taints(conn, known)?,
            seeds: missing_seeds(conn, known, since)?,
            locks: missing_locks(conn, known, since)?,
            passkeys: missing_passkeys(conn, known, since.generation)?,
            tags: missing_tags(conn, known, generation)?,
            operators: missing_operators(conn, known)?,
            policy: missing_policy(conn, known)?,
            heads: missing_heads(conn, known, generation)?,
            crls: missing_numbers(conn, known)?,
        },
        unjournalled: unjournalled(conn, known, generation)?,
    })
}

/// Every node has a journal, and is compared with its own.
fn wrote_last(conn: &Conn, node: &str) -> Result<Option<Last>> {
    let sql = "SELECT * FROM fence WHERE node = ?1";
    find(conn, sql, [node], read_last)
}

pub(super) fn generation(conn: &Conn) -> Result<u32> {
    one(conn, "SELECT generation FROM meta", params![], |row| {
        get(row, "generation")
    })
}

fn missing_bans(conn: &Conn, known: &Known, since: Since) -> Result<Vec<TerminalId>> {
    let mut missing = Vec::new();
    for id in known.bans.keys() {
        let Some(ban) = known.ban_since(since.generation, *id) else {
            continue;
        };
        let holds = match find_terminal(conn, *id)? {
            // Unbanned since, under a new seed.
            Some(found) if found.version > ban.version => true,
            Some(found) => found.status != TerminalStatus::Active,
            None => since.raised,
        };
        if !holds {
            missing.push(*id);
        }
    }
    Ok(missing)
}

fn missing_revocations(conn: &Conn, known: &Known, since: Since) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for (serial, revocation) in &known.revoked {
        if revocation.generation >= since.generation && !is_revoked(conn, serial)? {
            missing.push(serial.clone());
        }
    }
    Ok(missing)
}

pub(super) fn is_revoked(conn: &Conn, serial: &str) -> Result<bool> {
    let sql = "SELECT 1 FROM revocations WHERE serial = ?1";
    Ok(find(conn, sql, [serial], |_| Ok(()))?.is_some())
}

/// By label. One that was tainted as well is told as such.
fn missing_keys(conn: &Conn, known: &Known, generation: u32) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for (kid, made) in &known.made {
        let is_told = known.tainted.contains_key(kid);
        if made.generation >= generation && !is_told && find_key(conn, kid)?.is_none() {
            missing.push(made.key.label.clone());
        }
    }
    Ok(missing)
}

/// By label.
fn missing_taints(conn: &Conn, known: &Known) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for (kid, key) in &known.tainted {
        let here = find_key(conn, kid)?.is_some_and(|key| key.tainted_at.is_some());
        if !here {
            missing.push(key.label.clone());
        }
    }
    Ok(missing)
}

fn missing_seeds(conn: &Conn, known: &Known, since: Since) -> Result<Vec<TerminalId>> {
    let mut missing = Vec::new();
    for (id, voided) in &known.voided {
        let here = void_below(conn, *id)?.map_or(since.raised, |below| below >= voided.below);
        if voided.generation >= since.generation && !here {
            missing.push(*id);
        }
    }
    Ok(missing)
}

pub(super) fn void_below(conn: &Conn, id: TerminalId) -> Result<Option<u32>> {
    let sql = "SELECT void_below FROM terminals WHERE id = ?1";
    find(conn, sql, [id.value()], |row| get(row, "void_below"))
}

fn missing_operators(conn: &Conn, known: &Known) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for (name, gone) in &known.operators {
        let here = find_operator(conn, name, gone.at)?;
        let here = here.is_some_and(|operator| operator.revoked.is_some());
        if !here {
            missing.push(name.clone());
        }
    }
    Ok(missing)
}

fn missing_policy(conn: &Conn, known: &Known) -> Result<Option<NumberedPolicy>> {
    let here = numbered_policy(conn)?.map_or(0, |policy| policy.number);
    let missing = known.policy.as_ref().filter(|it| it.number > here);
    Ok(missing.cloned())
}

fn missing_numbers(conn: &Conn, known: &Known) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for (issuer_key, number) in &known.crls {
        let here = find(
            conn,
            "SELECT number FROM crls WHERE issuer_key = ?1",
            [issuer_key],
            |row| count(row, "number"),
        )?;
        if here.unwrap_or(0) < *number {
            missing.push(issuer_key.clone());
        }
    }
    Ok(missing)
}

fn missing_heads(conn: &Conn, known: &Known, generation: u32) -> Result<Vec<Head>> {
    let mut missing = Vec::new();
    for head in known_heads(known, generation) {
        if !contains(conn, head)? {
            missing.push(head.clone());
        }
    }
    Ok(missing)
}

/// What the journal and terminals say of the chains, of this generation or a later one.
pub(super) fn known_heads(known: &Known, generation: u32) -> impl Iterator<Item = &Head> {
    let shown = known
        .shown
        .iter()
        .filter(move |it| it.generation >= generation);
    let journalled = known
        .heads
        .values()
        .filter(move |_| known.generation >= generation);
    journalled.chain(shown.flat_map(|it| &it.heads))
}

pub(in super::super) fn contains(conn: &Conn, head: &Head) -> Result<bool> {
    let hash = find(
        conn,
        "SELECT hash FROM audit_rows WHERE node = ?1 AND sequence = ?2",
        params![head.node, signed(head.sequence)],
        |row| get::<[u8; 32]>(row, "hash"),
    )?;
    Ok(hash.is_some_and(|hash| hex(&hash) == head.hash))
}

/// What a crash kept from the journal, with the time of each.
fn unjournalled(conn: &Conn, known: &Known, generation: u32) -> Result<Vec<(Timestamp, Fact)>> {
    let mut facts = Vec::new();
    let begun = latest(conn)?;
    if generation > known.generation {
        facts.push((begun, Fact::Generation { generation }));
    }
    for (id, fact, at) in banned(conn)? {
        let Fact::Banned { version, .. } = &fact else {
            continue;
        };
        // One that is older than this generation stands there as it was told.
        let told = |ban: &Ban| ban.version >= *version && ban.at == at;
        let journalled = known
            .ban_since(generation, id)
            .is_some_and(|ban| ban.version >= *version)
            || known
                .bans
                .get(&id)
                .is_some_and(|all| all.values().any(told));
        if !journalled {
            facts.push((at, fact));
        }
    }
    facts.extend(revoked(conn)?.into_iter().filter_map(|revoked| {
        let journalled = known.revoked.contains_key(&revoked.serial);
        (!journalled).then_some((revoked.revoked_at, Fact::Revoked(revoked)))
    }));
    facts.extend(unjournalled_of_house(conn, known, begun)?);
    facts.extend(unjournalled_of_shoppers(conn, known, generation, begun)?);
    facts.extend(unjournalled_tags(conn, known)?);
    facts.extend(
        list_numbers(conn)?
            .into_iter()
            .filter_map(|(issuer_key, number)| {
                let journalled = known.crls.get(&issuer_key).is_some_and(|it| *it >= number);
                (!journalled).then_some((begun, Fact::Crl { issuer_key, number }))
            }),
    );
    Ok(facts)
}

/// Keys, seeds, operators and their policy.
fn unjournalled_of_house(
    conn: &Conn,
    known: &Known,
    begun: Timestamp,
) -> Result<Vec<(Timestamp, Fact)>> {
    let mut facts = Vec::new();
    let keys = all_keys(conn)?;
    for key in keys.iter().filter_map(made_key) {
        if !known.made.contains_key(&key.kid) {
            facts.push((key.made_at, Fact::Made(key)));
        }
    }
    for key in keys.iter().filter_map(tainted_key) {
        if !known.tainted.contains_key(&key.kid) {
            facts.push((key.tainted_at, Fact::Tainted(key)));
        }
    }
    for (terminal, version) in voided(conn)? {
        let journalled = known.voided.get(&terminal);
        if journalled.is_none_or(|voided| voided.below < version) {
            facts.push((begun, Fact::Reseeded { terminal, version }));
        }
    }
    for (revoked_at, operator, by) in operators_gone(conn)? {
        if !known.operators.contains_key(&operator) {
            let fact = Fact::OperatorRevoked {
                operator,
                by,
                revoked_at,
            };
            facts.push((revoked_at, fact));
        }
    }
    let last = known.policy.as_ref().map_or(0, |policy| policy.number);
    let policy = numbered_policy(conn)?.filter(|policy| policy.number > last);
    facts.extend(policy.map(|policy| (policy.set_at, Fact::Policy(policy))));
    Ok(facts)
}

/// What the journal keeps of a key whose signatures are kept. A schedule is over with its generation.
pub(in super::super) fn made_key(key: &KeyRecord) -> Option<MadeKey> {
    let keeps = matches!(key.purpose, KeyPurpose::Receipt | KeyPurpose::Checkpoint);
    let point = key.public_point.filter(|_| keeps)?;
    let KeyLabel(label) = &key.label;
    Some(MadeKey {
        kid: key.kid.clone(),
        purpose: key.purpose.name().into(),
        label: label.clone(),
        public_point: hex(&point),
        made_at: key.made_at,
    })
}

/// What the journal keeps of a tainted key.
pub(in super::super) fn tainted_key(key: &KeyRecord) -> Option<TaintedKey> {
    let KeyLabel(label) = &key.label;
    Some(TaintedKey {
        kid: key.kid.clone(),
        purpose: key.purpose.name().into(),
        label: label.clone(),
        public_point: key.public_point.map(|point| hex(&point)),
        made_at: key.made_at,
        tainted_at: key.tainted_at?,
    })
}

fn voided(conn: &Conn) -> Result<Vec<(TerminalId, u32)>> {
    all(
        conn,
        "SELECT id, void_below FROM terminals WHERE void_below > 0 ORDER BY id",
        params![],
        |row| Ok((terminal(row, "id")?, get(row, "void_below")?)),
    )
}

fn operators_gone(conn: &Conn) -> Result<Vec<(Timestamp, String, String)>> {
    all(
        conn,
        "SELECT name, revoked_by, revoked_at_ms FROM operators
         WHERE revoked_at_ms IS NOT NULL ORDER BY name",
        params![],
        |row| {
            Ok((
                time(row, "revoked_at_ms")?,
                get(row, "name")?,
                get(row, "revoked_by")?,
            ))
        },
    )
}

fn revoked(conn: &Conn) -> Result<Vec<Revoked>> {
    all(
        conn,
        "SELECT * FROM revocations ORDER BY serial",
        params![],
        |row| {
            Ok(Revoked {
                serial: get(row, "serial")?,
                issuer_key: get(row, "issuer_key")?,
                not_after: time(row, "not_after_ms")?,
                revoked_at: time(row, "revoked_at_ms")?,
                reason: get(row, "reason")?,
            })
        },
    )
}

fn list_numbers(conn: &Conn) -> Result<Vec<(String, u64)>> {
    all(
        conn,
        "SELECT * FROM crls ORDER BY issuer_key",
        params![],
        |row| Ok((get(row, "issuer_key")?, count(row, "number")?)),
    )
}

/// When the newest audit row was written; facts without a time of their own get this one. From node to
/// node along the key, and the last row of each: every start asks, and years of payments lie between.
fn latest(conn: &Conn) -> Result<Timestamp> {
    let found = find(
        conn,
        "WITH RECURSIVE nodes (node) AS (
             SELECT min(node) FROM audit_rows
             UNION ALL
             SELECT (SELECT min(node) FROM audit_rows WHERE node > nodes.node) FROM nodes
             WHERE nodes.node IS NOT NULL
         )
         SELECT max((SELECT at_ms FROM audit_rows r WHERE r.node = nodes.node
                     ORDER BY sequence DESC LIMIT 1)) AS at_ms
         FROM nodes WHERE nodes.node IS NOT NULL",
        params![],
        |row| get::<Option<i64>>(row, "at_ms"),
    )?;
    Ok(Timestamp::from_ms(found.flatten().unwrap_or(0)))
}

fn banned(conn: &Conn) -> Result<Vec<(TerminalId, Fact, Timestamp)>> {
    all(
        conn,
        "SELECT id, version, banned_at_ms, ban_reason FROM terminals
         WHERE banned_at_ms IS NOT NULL ORDER BY id",
        params![],
        |row| {
            let (id, at) = (terminal(row, "id")?, time(row, "banned_at_ms")?);
            let fact = Fact::Banned {
                terminal: id,
                version: get(row, "version")?,
                banned_at: at,
                reason: get(row, "ban_reason")?,
            };
            Ok((id, fact, at))
        },
    )
}
