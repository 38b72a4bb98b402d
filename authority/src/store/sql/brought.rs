//! Which accounts does an identity bring, and which does it bring no more?

use crate::store::sql::conn::{Conn, params};
use protocol::ids::AccountId;
use protocol::time::Timestamp;
use serde_json::json;

use super::persons::{Person, random};
use super::row::{all, currency, find, get, uuid};
use super::writer::Tx;
use crate::store::{ACCOUNTS_BROUGHT_MAX, Brought, BroughtAccount, PersonKey, Result};

/// Makes the identity's open accounts those that its provider names now.
pub(super) fn bring(
    tx: &mut Tx<'_>,
    person: &Person,
    identity: &PersonKey,
    brought: &Brought,
    at: Timestamp,
) -> Result<()> {
    let named = &brought.accounts[..brought.accounts.len().min(ACCOUNTS_BROUGHT_MAX)];
    for (id, there) in open_of(tx.conn, person, identity)? {
        let is_it = |it: &&BroughtAccount| {
            brought.rail == there.rail
                && it.reference == there.account.reference
                && it.currency == there.account.currency
        };
        match named.iter().find(is_it) {
            Some(now) if now.name != there.account.name => rename(tx, id, &now.name)?,
            Some(_) => {}
            None => close(tx, id, at)?,
        }
    }
    for (place, account) in named.iter().enumerate() {
        if !is_open(tx.conn, person, &brought.rail, &account.reference)? {
            let id = id_in_order(at, place)?;
            add(
                tx,
                person,
                identity,
                (brought.rail.as_str(), id, account),
                at,
            )?;
        }
    }
    Ok(())
}

/// The identity's accounts pay no more.
pub(super) fn close_all(
    tx: &mut Tx<'_>,
    person: &Person,
    identity: &PersonKey,
    at: Timestamp,
) -> Result<()> {
    for (id, _) in open_of(tx.conn, person, identity)? {
        close(tx, id, at)?;
    }
    Ok(())
}

pub(super) fn close(tx: &mut Tx<'_>, id: AccountId, at: Timestamp) -> Result<()> {
    tx.execute_one(
        "UPDATE service_accounts SET closed_at_ms = ?2 WHERE id = ?1 AND closed_at_ms IS NULL",
        params![id.0.as_bytes(), at.ms()],
    )?;
    tx.execute(
        "UPDATE persons SET default_account = NULL WHERE default_account = ?1",
        [id.0.as_bytes()],
    )?;
    tx.record("service-account.closed", at, &json!({ "account": id }))
}

fn add(
    tx: &mut Tx<'_>,
    person: &Person,
    identity: &PersonKey,
    (rail, id, account): (&str, AccountId, &BroughtAccount),
    at: Timestamp,
) -> Result<()> {
    tx.execute_one(
        "INSERT INTO service_accounts (id, person, rail, reference, name, currency, issuer, subject,
                                       added_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            id.0.as_bytes(),
            person.id,
            rail,
            account.reference,
            account.name,
            account.currency.code(),
            identity.issuer,
            identity.subject,
            at.ms()
        ],
    )?;
    let body = json!({
        "account": id,
        "person": person.commitment(),
        "rail": rail,
        "currency": account.currency,
    });
    tx.record("service-account.brought", at, &body)
}

/// Accounts that come together are listed as the provider lists them: the first is the oldest.
fn id_in_order(at: Timestamp, place: usize) -> Result<AccountId> {
    let mut bytes: [u8; 10] = random()?;
    bytes[0] = 0;
    bytes[1] = u8::try_from(place).unwrap_or(u8::MAX);
    Ok(AccountId::from_parts(at.ms().max(0) as u64, &bytes))
}

/// Only a label: no fact for the audit, and one that may name somebody.
fn rename(tx: &Tx<'_>, id: AccountId, name: &str) -> Result<()> {
    tx.execute_one(
        "UPDATE service_accounts SET name = ?2 WHERE id = ?1",
        params![id.0.as_bytes(), name],
    )
}

fn is_open(conn: &Conn, person: &Person, rail: &str, reference: &str) -> Result<bool> {
    let row = find(
        conn,
        "SELECT 1 FROM service_accounts
         WHERE person = ?1 AND rail = ?2 AND reference = ?3 AND closed_at_ms IS NULL",
        params![person.id, rail, reference],
        |_| Ok(()),
    )?;
    Ok(row.is_some())
}

struct There {
    rail: String,
    account: BroughtAccount,
}

fn open_of(conn: &Conn, person: &Person, identity: &PersonKey) -> Result<Vec<(AccountId, There)>> {
    all(
        conn,
        "SELECT id, rail, reference, name, currency FROM service_accounts
         WHERE person = ?1 AND issuer = ?2 AND subject = ?3 AND closed_at_ms IS NULL ORDER BY id",
        params![person.id, identity.issuer, identity.subject],
        |row| {
            let account = BroughtAccount {
                reference: get(row, "reference")?,
                name: get(row, "name")?,
                currency: currency(row, "currency")?,
            };
            let rail = get(row, "rail")?;
            Ok((AccountId(uuid(row, "id")?), There { rail, account }))
        },
    )
}
