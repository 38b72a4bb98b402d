//! Which account does a person pay from?

use std::sync::LazyLock;

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::ids::AccountId;
use protocol::money::Currency;
use serde_json::json;

use super::SqlStore;
use super::persons::{find_person, person};
use super::row::{all, currency, find, get, time, uuid};
use super::writer::{Tx, Verdict};
use crate::store::sqlite::error::corrupt;
use crate::store::{LEDGER, NewServiceAccount, PersonKey, Result, ServiceAccount, ServiceAccounts};

#[async_trait]
impl ServiceAccounts for SqlStore {
    async fn service_accounts(&self, person: PersonKey) -> Result<Vec<ServiceAccount>> {
        self.read(move |conn| match find_person(conn, &person)? {
            Some(person) => all(conn, &format!("{OPEN} {IN_ORDER}"), [person.id], read),
            None => Ok(Vec::new()),
        })
        .await
    }

    async fn bring_service_account(&self, account: NewServiceAccount) -> Result<ServiceAccount> {
        self.write(move |tx| bring(tx, &account)).await
    }
}

/// Open ones of person ?1.
const OPEN: &str = "SELECT issuer, subject, id, rail, reference, name, currency,
        id IS NOT DISTINCT FROM (SELECT default_account FROM persons WHERE persons.id = ?1) AS first,
        added_at_ms
    FROM service_accounts WHERE person = ?1 AND closed_at_ms IS NULL";
/// As they are offered.
const IN_ORDER: &str = "ORDER BY first DESC, added_at_ms, id";

/// The account that is meant: the chosen one, else the one that is offered first. A person has a few, and SQLite would
/// make a table for the order of them, in each payment.
pub(super) fn choose(
    conn: &Conn,
    person: &[u8; 16],
    chosen: Option<AccountId>,
    currency: Currency,
) -> Result<Option<ServiceAccount>> {
    static STATEMENT: LazyLock<String> =
        LazyLock::new(|| format!("{OPEN} AND currency = ?2 AND (?3 IS NULL OR id = ?3)"));
    let place = |account: &ServiceAccount| (!account.default, account.added_at, account.id.0);
    let mut first: Option<ServiceAccount> = None;
    conn.query(
        &STATEMENT,
        params![
            person,
            currency.code(),
            chosen.map(|account| *account.0.as_bytes())
        ],
        &mut |row| {
            let account = read(row)?;
            if first
                .as_ref()
                .is_none_or(|best| place(&account) < place(best))
            {
                first = Some(account);
            }
            Ok(true)
        },
    )?;
    Ok(first)
}

fn bring(tx: &mut Tx<'_>, new: &NewServiceAccount) -> Verdict<ServiceAccount> {
    if new.rail == LEDGER {
        return Err(corrupt("an account in the ledger comes with its service account").into());
    }
    let person = person(tx, &new.person, new.at)?;
    if let Some(open) = by_reference(tx.conn, &person.id, &new.rail, &new.reference)? {
        return Ok(open);
    }
    tx.execute_one(
        "INSERT INTO service_accounts (id, person, rail, reference, name, currency, issuer, subject,
                                       added_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            new.id.0.as_bytes(),
            person.id,
            new.rail,
            new.reference,
            new.name,
            new.currency.code(),
            new.person.issuer,
            new.person.subject,
            new.at.ms()
        ],
    )?;
    let body = json!({
        "account": new.id,
        "person": person.commitment(),
        "rail": new.rail,
        "currency": new.currency,
    });
    tx.record("account.brought", new.at, &body)?;
    let open = by_reference(tx.conn, &person.id, &new.rail, &new.reference)?;
    Ok(open.ok_or_else(|| corrupt("a service account vanished"))?)
}

fn by_reference(
    conn: &Conn,
    person: &[u8; 16],
    rail: &str,
    reference: &str,
) -> Result<Option<ServiceAccount>> {
    let sql = format!("{OPEN} AND rail = ?2 AND reference = ?3");
    find(conn, &sql, params![person, rail, reference], read)
}

fn read(row: &Row<'_>) -> Result<ServiceAccount> {
    let issuer: Option<String> = get(row, "issuer")?;
    let subject: Option<String> = get(row, "subject")?;
    let brought_by = issuer
        .zip(subject)
        .map(|(issuer, subject)| PersonKey { issuer, subject });
    Ok(ServiceAccount {
        id: AccountId(uuid(row, "id")?),
        rail: get(row, "rail")?,
        reference: get(row, "reference")?,
        name: get(row, "name")?,
        currency: currency(row, "currency")?,
        default: get(row, "first")?,
        brought_by,
        added_at: time(row, "added_at_ms")?,
    })
}
