//! Where are the operators, and does a change leave enough of them?

use crate::store::sql::conn::{Conn, Row, params};
use pki::consent::Policy;
use protocol::time::Timestamp;
use serde_json::json;

use super::super::certificates::{add_certificate, is_key_certified};
use super::super::row::{all, count, find, get, one, signed, time, time_or_none};
use super::super::writer::{Tx, Verdict};
use crate::journal::{Fact, NumberedPolicy};
use crate::store::sqlite::error::corrupt;
use crate::store::{
    AddOperator, Bar, Certificate, OPERATORS_MAX, OperatorRecord, OperatorRevoked, Result, Subject,
};

/// With the end of the last certificate that is good at ?1.
const RECORD: &str = "SELECT o.*, (
        SELECT max(c.not_after_ms) FROM certificates c
        WHERE c.subject_kind = 'operator' AND c.subject = o.name AND c.not_after_ms >= ?1
          AND c.superseded_at_ms IS NULL
          AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.serial = c.serial)
    ) AS good_until_ms FROM operators o";

pub(super) fn list(conn: &Conn, at: Timestamp) -> Result<Vec<OperatorRecord>> {
    all(
        conn,
        &format!("{RECORD} ORDER BY o.name LIMIT ?2"),
        params![at.ms(), OPERATORS_MAX],
        read_operator,
    )
}

pub(in super::super) fn find_operator(
    conn: &Conn,
    name: &str,
    at: Timestamp,
) -> Result<Option<OperatorRecord>> {
    find(
        conn,
        &format!("{RECORD} WHERE o.name = ?2"),
        params![at.ms(), name],
        read_operator,
    )
}

/// Whether there is an operator of this name who was not revoked.
pub(super) fn is_operator(conn: &Conn, name: &str) -> Result<bool> {
    let found = find(
        conn,
        "SELECT 1 FROM operators WHERE name = ?1 AND revoked_at_ms IS NULL",
        [name],
        |_| Ok(()),
    )?;
    Ok(found.is_some())
}

/// Whether this is a certificate of theirs that is good at `at`, and they are an operator.
pub(super) fn signs_with(conn: &Conn, name: &str, serial: &str, at: Timestamp) -> Result<bool> {
    let found = find(
        conn,
        "SELECT 1 FROM certificates c JOIN operators o ON o.name = c.subject
         WHERE c.serial = ?2 AND c.subject_kind = 'operator' AND o.name = ?1
           AND o.revoked_at_ms IS NULL AND c.not_after_ms >= ?3 AND c.superseded_at_ms IS NULL
           AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.serial = c.serial)",
        params![name, serial, at.ms()],
        |_| Ok(()),
    )?;
    Ok(found.is_some())
}

pub(super) fn policy(conn: &Conn) -> Result<Policy> {
    let set = numbered_policy(conn)?;
    Ok(set.map(|set| set.policy).unwrap_or_default())
}

pub(super) fn add(
    tx: &mut Tx<'_>,
    certificate: &Certificate,
    by: &str,
    at: Timestamp,
) -> Verdict<AddOperator> {
    let Subject::Operator(name) = &certificate.subject else {
        return Err(corrupt("a certificate of an operator was expected").into());
    };
    if find_operator(tx.conn, name, at)?.is_some() {
        return Ok(AddOperator::NameTaken);
    }
    if is_key_certified(tx.conn, certificate.spki_sha256)? {
        return Ok(AddOperator::KeyReused);
    }
    let there: u64 = one(
        tx.conn,
        "SELECT count(*) AS there FROM operators",
        params![],
        |row| count(row, "there"),
    )?;
    if there >= u64::from(OPERATORS_MAX) {
        return Ok(AddOperator::TooMany);
    }
    tx.execute_one(
        "INSERT INTO operators (name, added_by, added_at_ms) VALUES (?1, ?2, ?3)",
        params![name, by, at.ms()],
    )?;
    let body = json!({ "operator": name, "by": by, "serial": certificate.serial });
    tx.record("operator.added", at, &body)?;
    match add_certificate(tx, certificate, at) {
        Ok(()) => Ok(AddOperator::Added),
        Err(super::super::writer::Stop::Failed(error)) => Err(error.into()),
        Err(super::super::writer::Stop::Refused(())) => {
            Err(corrupt("a certificate is recorded or not").into())
        }
    }
}

pub(super) fn revoke(tx: &mut Tx<'_>, name: &str, by: &str, at: Timestamp) -> Verdict<Bar> {
    let Some(found) = find_operator(tx.conn, name, at)? else {
        return Ok(Bar::Unknown);
    };
    if let Some(revoked) = found.revoked {
        // Again: the journal may not have taken it the first time.
        tell_revoked(tx, name, revoked);
        return Ok(Bar::Done);
    }
    let able = able(tx.conn, at)? - u32::from(found.can_sign());
    let required = policy(tx.conn)?.strictest();
    // Somebody must be left to ask, too, whatever the policy says.
    if able < required + 1 {
        return Ok(Bar::Stranded { able, required });
    }
    tx.execute_one(
        "UPDATE operators SET revoked_by = ?2, revoked_at_ms = ?3
         WHERE name = ?1 AND revoked_at_ms IS NULL",
        params![name, by, at.ms()],
    )?;
    let body = json!({ "operator": name, "by": by });
    tx.record("operator.revoked", at, &body)?;
    let by = by.to_owned();
    tell_revoked(tx, name, OperatorRevoked { by, at });
    Ok(Bar::Done)
}

fn tell_revoked(tx: &mut Tx<'_>, name: &str, revoked: OperatorRevoked) {
    let fact = Fact::OperatorRevoked {
        operator: name.to_owned(),
        by: revoked.by,
        revoked_at: revoked.at,
    };
    tx.tell(revoked.at, fact);
}

pub(super) fn set_policy(
    tx: &mut Tx<'_>,
    policy: &Policy,
    by: &str,
    at: Timestamp,
) -> Verdict<Bar> {
    let (able, required) = (able(tx.conn, at)?, policy.strictest());
    if able < required + 1 {
        return Ok(Bar::Stranded { able, required });
    }
    let last = numbered_policy(tx.conn)?.map_or(0, |policy| policy.number);
    let policy = NumberedPolicy {
        number: last.saturating_add(1),
        policy: policy.clone(),
        set_by: by.to_owned(),
        set_at: at,
    };
    put_policy(tx, policy)?;
    Ok(Bar::Done)
}

/// In the place of the one before, whoever may be left to change it.
pub(in super::super) fn put_policy(tx: &mut Tx<'_>, set: NumberedPolicy) -> Result<()> {
    let text = serde_json::to_string(&set.policy).map_err(|error| corrupt(error.to_string()))?;
    tx.execute_one(
        "INSERT INTO consent_policy (only_row, policy, set_by, set_at_ms, number)
         VALUES (1, ?1, ?2, ?3, ?4)
         ON CONFLICT (only_row) DO UPDATE SET policy = excluded.policy, set_by = excluded.set_by,
             set_at_ms = excluded.set_at_ms, number = excluded.number",
        params![text, set.set_by, set.set_at.ms(), signed(set.number)],
    )?;
    let body = json!({ "policy": set.policy, "by": set.set_by });
    tx.record("consent.policy_set", set.set_at, &body)?;
    tx.tell(set.set_at, Fact::Policy(set));
    Ok(())
}

/// The policy with its place among all; none before the first was set.
pub(in super::super) fn numbered_policy(conn: &Conn) -> Result<Option<NumberedPolicy>> {
    find(conn, "SELECT * FROM consent_policy", params![], |row| {
        let text: String = get(row, "policy")?;
        let policy = serde_json::from_str(&text);
        Ok(NumberedPolicy {
            number: count(row, "number")?,
            policy: policy.map_err(|error| corrupt(format!("the consent policy: {error}")))?,
            set_by: get(row, "set_by")?,
            set_at: time(row, "set_at_ms")?,
        })
    })
}

/// How many operators could sign at this moment.
pub(super) fn able(conn: &Conn, at: Timestamp) -> Result<u32> {
    let able = list(conn, at)?.iter().filter(|it| it.can_sign()).count();
    u32::try_from(able).map_err(|_| corrupt("more operators than there can be"))
}

fn read_operator(row: &Row<'_>) -> Result<OperatorRecord> {
    let revoked_by: Option<String> = get(row, "revoked_by")?;
    let revoked = revoked_by.map(|by| {
        let at = time(row, "revoked_at_ms")?;
        Ok::<_, crate::store::StoreError>(OperatorRevoked { by, at })
    });
    Ok(OperatorRecord {
        name: get(row, "name")?,
        added_by: get(row, "added_by")?,
        added_at: time(row, "added_at_ms")?,
        revoked: revoked.transpose()?,
        good_until: time_or_none(row, "good_until_ms")?,
    })
}
