//! Where is whose money, and how do the books stay balanced?

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::ids::AccountId;
use protocol::money::Currency;
use protocol::time::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::SqlStore;
use super::persons::{find_person, person, random};
use super::row::{all, count, currency, find, get, one, uuid};
use super::writer::{Stop, Tx, Verdict};
use crate::store::{Account, Balance, Credit, Ledger, LedgerReport, NewAccount, PersonKey, Result};

#[async_trait]
impl Ledger for SqlStore {
    async fn open_account(&self, account: NewAccount) -> Result<bool> {
        self.write(move |tx| open(tx, &account)).await
    }

    async fn accounts_of(&self, person: PersonKey) -> Result<Vec<Account>> {
        self.read(move |conn| accounts_of(conn, &person)).await
    }

    async fn credit(&self, credit: Credit) -> Result<Balance> {
        self.write(move |tx| enter_credit(tx, &credit)).await
    }

    async fn merchant_balance(&self, account: AccountId) -> Result<i64> {
        self.read(move |conn| {
            one(
                conn,
                "SELECT CAST(coalesce(sum(amount_minor), 0) AS BIGINT) AS total FROM ledger_entries
                 WHERE account = ?1",
                [account.0.as_bytes()],
                |row| get(row, "total"),
            )
        })
        .await
    }

    async fn ledger_report(&self) -> Result<LedgerReport> {
        self.read(report).await
    }
}

/// A shopper's account of one currency.
fn account_of(conn: &Conn, person: &[u8; 16], currency: Currency) -> Result<Option<Account>> {
    find(
        conn,
        "SELECT id, currency, balance_minor FROM accounts
         WHERE kind = 'shopper' AND person = ?1 AND currency = ?2",
        params![person, currency.code()],
        read_account,
    )
}

/// Two entries that sum to zero.
pub(super) struct Movement {
    pub(super) id: Uuid,
    pub(super) from: AccountId,
    pub(super) to: AccountId,
    pub(super) amount_minor: i64,
}

impl Movement {
    pub(super) fn enter(&self, tx: &Tx<'_>) -> Result<()> {
        tx.execute_exactly(
            2,
            "INSERT INTO ledger_entries (account, movement, amount_minor)
             VALUES (?1, ?3, ?4), (?2, ?3, ?5)",
            params![
                self.from.0.as_bytes(),
                self.to.0.as_bytes(),
                self.id.as_bytes(),
                -self.amount_minor,
                self.amount_minor
            ],
        )
    }
}

/// Takes `amount_minor` from a shopper's balance; false if it does not hold so much.
pub(super) fn debit(tx: &Tx<'_>, account: AccountId, amount_minor: i64) -> Result<bool> {
    let touched = tx.execute(
        "UPDATE accounts SET balance_minor = balance_minor - ?2
         WHERE id = ?1 AND kind = 'shopper' AND balance_minor >= ?2",
        params![account.0.as_bytes(), amount_minor],
    )?;
    Ok(touched == 1)
}

/// Puts `amount_minor` back onto the balance of the shopper's account it came from.
pub(super) fn give_back(tx: &Tx<'_>, account: AccountId, amount_minor: i64) -> Result<()> {
    tx.execute_one(
        "UPDATE accounts SET balance_minor = balance_minor + ?2
         WHERE id = ?1 AND kind = 'shopper'",
        params![account.0.as_bytes(), amount_minor],
    )
}

fn open(tx: &mut Tx<'_>, account: &NewAccount) -> Verdict<bool> {
    let person = person(tx, &account.person, account.at)?;
    if account_of(tx.conn, &person.id, account.currency)?.is_some() {
        return Err(Stop::Refused(false));
    }
    tx.execute_one(
        "INSERT INTO accounts (id, kind, person, currency, balance_minor, opened_at_ms)
         VALUES (?1, 'shopper', ?2, ?3, 0, ?4)",
        params![
            account.id.0.as_bytes(),
            person.id,
            account.currency.code(),
            account.at.ms()
        ],
    )?;
    tx.execute_one(
        "INSERT INTO service_accounts (id, person, rail, reference, name, currency, added_at_ms)
         VALUES (?1, ?2, 'ledger', ?3, 'Balance', ?4, ?5)",
        params![
            account.id.0.as_bytes(),
            person.id,
            account.id.0.simple().to_string(),
            account.currency.code(),
            account.at.ms()
        ],
    )?;
    let body = json!({
        "account": account.id,
        "person": person.commitment(),
        "currency": account.currency,
    });
    tx.record("account.opened", account.at, &body)?;
    Ok(true)
}

fn accounts_of(conn: &Conn, person: &PersonKey) -> Result<Vec<Account>> {
    let Some(person) = find_person(conn, person)? else {
        return Ok(Vec::new());
    };
    all(
        conn,
        "SELECT id, currency, balance_minor FROM accounts
         WHERE kind = 'shopper' AND person = ?1 ORDER BY currency",
        [person.id],
        read_account,
    )
}

fn shopper_account(conn: &Conn, id: AccountId) -> Result<Option<Account>> {
    find(
        conn,
        "SELECT id, currency, balance_minor FROM accounts WHERE id = ?1 AND kind = 'shopper'",
        [id.0.as_bytes()],
        read_account,
    )
}

fn enter_credit(tx: &mut Tx<'_>, credit: &Credit) -> Verdict<Balance> {
    let Some(account) = shopper_account(tx.conn, credit.account)? else {
        return Ok(Balance::NoAccount);
    };
    if account.currency != credit.amount.currency() {
        return Ok(Balance::Currency);
    }
    match earlier_credit(tx.conn, &credit.reference)? {
        Some(earlier) if earlier == (credit.account, credit.amount.amount_minor()) => {
            return Ok(Balance::Is(account));
        }
        Some(_) => return Ok(Balance::ReferenceTaken),
        None => {}
    }
    move_credit(tx, credit)?;
    let body = json!({
        "account": credit.account,
        "amount": credit.amount,
        "reference": credit.reference,
    });
    tx.record("account.credited", credit.at, &body)?;
    Ok(Balance::Is(Account {
        balance_minor: account.balance_minor + credit.amount.amount_minor(),
        ..account
    }))
}

fn earlier_credit(conn: &Conn, reference: &str) -> Result<Option<(AccountId, i64)>> {
    find(
        conn,
        "SELECT account, amount_minor FROM credits WHERE reference = ?1",
        [reference],
        |row| Ok((AccountId(uuid(row, "account")?), get(row, "amount_minor")?)),
    )
}

fn move_credit(tx: &Tx<'_>, credit: &Credit) -> Result<()> {
    let movement = Movement {
        id: AccountId::from_parts(credit.at.ms().max(0) as u64, &random()?).0,
        from: outside(tx, credit.amount.currency(), credit.at)?,
        to: credit.account,
        amount_minor: credit.amount.amount_minor(),
    };
    movement.enter(tx)?;
    tx.execute_one(
        "UPDATE accounts SET balance_minor = balance_minor + ?2 WHERE id = ?1",
        params![credit.account.0.as_bytes(), movement.amount_minor],
    )?;
    tx.execute_one(
        "INSERT INTO credits (reference, movement, account, amount_minor, credited_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            credit.reference,
            movement.id.as_bytes(),
            credit.account.0.as_bytes(),
            movement.amount_minor,
            credit.at.ms()
        ],
    )
}

/// Where credits of a currency come from; made with the first.
fn outside(tx: &Tx<'_>, currency: Currency, at: Timestamp) -> Result<AccountId> {
    let mut id = [0; 16];
    id[13..].copy_from_slice(currency.code().as_bytes());
    tx.execute(
        "INSERT INTO accounts (id, kind, currency, opened_at_ms) VALUES (?1, 'outside', ?2, ?3)
         ON CONFLICT DO NOTHING",
        params![id, currency.code(), at.ms()],
    )?;
    Ok(AccountId(Uuid::from_bytes(id)))
}

/// What the ledger takes a rail's payments of a currency from; made with the first.
pub(super) fn clearing(
    tx: &Tx<'_>,
    rail: &str,
    currency: Currency,
    at: Timestamp,
) -> Result<AccountId> {
    let known = find(
        tx.conn,
        "SELECT account FROM clearing_accounts WHERE rail = ?1 AND currency = ?2",
        params![rail, currency.code()],
        |row| Ok(AccountId(uuid(row, "account")?)),
    )?;
    if let Some(account) = known {
        return Ok(account);
    }
    let account = AccountId::from_parts(at.ms().max(0) as u64, &random()?);
    tx.execute_one(
        "INSERT INTO accounts (id, kind, currency, opened_at_ms) VALUES (?1, 'outside', ?2, ?3)",
        params![account.0.as_bytes(), currency.code(), at.ms()],
    )?;
    tx.execute_one(
        "INSERT INTO clearing_accounts (rail, currency, account) VALUES (?1, ?2, ?3)",
        params![rail, currency.code(), account.0.as_bytes()],
    )?;
    Ok(account)
}

fn report(conn: &Conn) -> Result<LedgerReport> {
    Ok(LedgerReport {
        entries: one(
            conn,
            "SELECT count(*) AS entries FROM ledger_entries",
            params![],
            |row| count(row, "entries"),
        )?,
        sums: all(
            conn,
            "SELECT accounts.currency, CAST(sum(amount_minor) AS BIGINT) AS total
             FROM ledger_entries JOIN accounts ON accounts.id = ledger_entries.account
             GROUP BY accounts.currency ORDER BY accounts.currency",
            params![],
            |row| Ok((currency(row, "currency")?, get(row, "total")?)),
        )?,
        wrong_accounts: all(
            conn,
            "SELECT id FROM accounts WHERE kind = 'shopper' AND (balance_minor < 0
                 OR balance_minor <> (SELECT CAST(coalesce(sum(amount_minor), 0) AS BIGINT)
                                      FROM ledger_entries WHERE account = accounts.id))",
            params![],
            |row| Ok(AccountId(uuid(row, "id")?)),
        )?,
    })
}

fn read_account(row: &Row<'_>) -> Result<Account> {
    Ok(Account {
        id: AccountId(uuid(row, "id")?),
        currency: currency(row, "currency")?,
        balance_minor: get(row, "balance_minor")?,
    })
}
