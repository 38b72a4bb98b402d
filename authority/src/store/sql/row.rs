//! How do columns become values of the protocol, and what if they cannot?

use super::conn::{Column, Conn, Params, Row};
use protocol::ids::TerminalId;
use protocol::money::{Currency, Money};
use protocol::time::Timestamp;
use protocol::token::{Channel, TokenId, WindowId};
use uuid::Uuid;

use crate::store::Result;
use crate::store::sqlite::error::corrupt;

/// The first row of a query, if there is one.
pub(in crate::store) fn find<T>(
    conn: &Conn,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let (mut read, mut found) = (Some(read), None);
    conn.query(sql, params, &mut |row| {
        found = read.take().map(|read| read(row)).transpose()?;
        Ok(false)
    })?;
    Ok(found)
}

/// The one row of a query that always has one.
pub(in crate::store) fn one<T>(
    conn: &Conn,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T>,
) -> Result<T> {
    find(conn, sql, params, read)?.ok_or_else(|| corrupt(format!("no row for: {sql}")))
}

/// All rows of a query, which limits itself.
pub(in crate::store) fn all<T>(
    conn: &Conn,
    sql: &str,
    params: impl Params,
    mut read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut found = Vec::new();
    conn.query(sql, params, &mut |row| {
        found.push(read(row)?);
        Ok(true)
    })?;
    Ok(found)
}

pub(in crate::store) fn get<T: Column>(row: &Row<'_>, column: &str) -> Result<T> {
    row.get(column)
}

pub(super) fn uuid(row: &Row<'_>, column: &str) -> Result<Uuid> {
    Ok(Uuid::from_bytes(get(row, column)?))
}

pub(super) fn uuid_or_none(row: &Row<'_>, column: &str) -> Result<Option<Uuid>> {
    Ok(get::<Option<[u8; 16]>>(row, column)?.map(Uuid::from_bytes))
}

pub(super) fn time(row: &Row<'_>, column: &str) -> Result<Timestamp> {
    Ok(Timestamp::from_ms(get(row, column)?))
}

pub(super) fn time_or_none(row: &Row<'_>, column: &str) -> Result<Option<Timestamp>> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_ms))
}

pub(super) fn terminal(row: &Row<'_>, column: &str) -> Result<TerminalId> {
    let value: u32 = get(row, column)?;
    TerminalId::from_value(value).map_err(|error| corrupt(format!("terminal {value}: {error}")))
}

pub(super) fn currency(row: &Row<'_>, column: &str) -> Result<Currency> {
    let code: String = get(row, column)?;
    code.parse()
        .map_err(|error| corrupt(format!("currency {code}: {error}")))
}

/// An amount in `currency`; none if the column is null.
pub(super) fn money(row: &Row<'_>, column: &str, currency: Currency) -> Result<Option<Money>> {
    get::<Option<i64>>(row, column)?
        .map(|minor| Money::new(minor, currency))
        .transpose()
        .map_err(|error| corrupt(format!("{column}: {error}")))
}

/// The columns terminal, version, channel, epoch and window.
pub(super) fn window(row: &Row<'_>) -> Result<WindowId> {
    let byte: u8 = get(row, "channel")?;
    Ok(WindowId {
        terminal: terminal(row, "terminal")?,
        version: get(row, "version")?,
        channel: Channel::from_byte(byte).ok_or_else(|| corrupt(format!("channel {byte}")))?,
        epoch: get(row, "epoch")?,
        window: get(row, "window")?,
    })
}

/// The columns of [`window`], and turn.
pub(super) fn token(row: &Row<'_>) -> Result<TokenId> {
    Ok(window(row)?.turn(get(row, "turn")?))
}

/// An unsigned number that databases keep as a signed one.
pub(super) fn count(row: &Row<'_>, column: &str) -> Result<u64> {
    let number: i64 = get(row, column)?;
    u64::try_from(number).map_err(|_| corrupt(format!("{column} is {number}")))
}

/// `(?1, ?2, ?3)`: what stands in a statement for so many values.
pub(super) fn listed(numbers: std::ops::RangeInclusive<usize>) -> String {
    let all: Vec<String> = numbers.map(|number| format!("?{number}")).collect();
    format!("({})", all.join(", "))
}

/// `number` as databases keep it; what is larger than any row number finds nothing.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
