//! Where is who is paid?

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::ids::{AccountId, MerchantId};
use protocol::money::{Currency, Money};
use serde_json::json;
use uuid::Uuid;

use super::SqlStore;
use super::row::{all, currency, find, get, money, time, uuid};
use super::writer::{Tx, Verdict};
use crate::store::sqlite::error::corrupt;
use crate::store::{Merchant, Merchants, Result};

#[async_trait]
impl Merchants for SqlStore {
    async fn add_merchant(&self, merchant: Merchant) -> Result<bool> {
        self.write(move |tx| add(tx, &merchant)).await
    }

    async fn merchant(&self, id: MerchantId) -> Result<Option<Merchant>> {
        self.read(move |conn| find_merchant(conn, id)).await
    }

    async fn merchants(&self, after: Option<MerchantId>, limit: u32) -> Result<Vec<Merchant>> {
        let after = after.map_or(Uuid::nil(), |id| id.0);
        self.read(move |conn| {
            all(
                conn,
                "SELECT * FROM merchants WHERE id > ?1 ORDER BY id LIMIT ?2",
                params![after.as_bytes(), limit],
                read_merchant,
            )
        })
        .await
    }
}

pub(super) fn find_merchant(conn: &Conn, id: MerchantId) -> Result<Option<Merchant>> {
    find(
        conn,
        "SELECT * FROM merchants WHERE id = ?1",
        [id.0.as_bytes()],
        read_merchant,
    )
}

fn add(tx: &mut Tx<'_>, merchant: &Merchant) -> Verdict<bool> {
    if find_merchant(tx.conn, merchant.id)?.is_some() {
        return Ok(false);
    }
    tx.execute_one(
        "INSERT INTO accounts (id, kind, currency, opened_at_ms) VALUES (?1, 'merchant', ?2, ?3)",
        params![
            merchant.account.0.as_bytes(),
            merchant.currency.code(),
            merchant.added_at.ms()
        ],
    )?;
    tx.execute_one(
        "INSERT INTO merchants
             (id, name, currency, account, fixed_minor, open_cap_minor, added_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            merchant.id.0.as_bytes(),
            merchant.name,
            merchant.currency.code(),
            merchant.account.0.as_bytes(),
            minor(merchant.fixed, merchant.currency)?,
            minor(merchant.open_cap, merchant.currency)?,
            merchant.added_at.ms()
        ],
    )?;
    let body = json!({
        "merchant": merchant.id,
        "name": merchant.name,
        "account": merchant.account,
        "fixed": merchant.fixed,
        "open_cap": merchant.open_cap,
    });
    tx.record("merchant.added", merchant.added_at, &body)?;
    Ok(true)
}

fn minor(amount: Option<Money>, currency: Currency) -> Result<Option<i64>> {
    match amount {
        Some(amount) if amount.currency() != currency => {
            Err(corrupt("a merchant's amounts are in its own currency"))
        }
        other => Ok(other.map(Money::amount_minor)),
    }
}

fn read_merchant(row: &Row<'_>) -> Result<Merchant> {
    let (id, name) = (MerchantId(uuid(row, "id")?), get(row, "name")?);
    let currency = currency(row, "currency")?;
    Ok(Merchant {
        id,
        name,
        currency,
        account: AccountId(uuid(row, "account")?),
        fixed: money(row, "fixed_minor", currency)?,
        open_cap: money(row, "open_cap_minor", currency)?,
        added_at: time(row, "added_at_ms")?,
    })
}
