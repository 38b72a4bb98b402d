//! What do both databases understand?
//!
//! Statements with `?1`, `?2`, … over four kinds of values: nothing, a whole number, a text, bytes. A verb
//! is written once and speaks to a [`Conn`]; which database answers it need not know. What the two do not
//! read alike is written so that both do: `IS NOT DISTINCT FROM`, `CASE` in place of a condition as a number,
//! `CAST(sum(…) AS BIGINT)`, and the name of the table before a column after `DO UPDATE SET`.

use std::cell::Cell;

use uuid::Uuid;

use super::super::postgres::PgConn;
use super::super::sqlite::error::corrupt;
use crate::store::Result;

/// One connection, in a transaction while a verb has it.
pub(in crate::store) enum Conn {
    Sqlite(rusqlite::Connection),
    Postgres(Box<PgConn>),
}

/// What a statement is given, or a column holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Value<'a> {
    Null,
    Integer(i64),
    Text(&'a str),
    Blob(&'a [u8]),
}

/// One row of an answer.
pub(in crate::store) enum Row<'a> {
    /// Beside the row, where the next column is looked for first: on a payment's way columns are named in the order in
    /// which they are read. Every name that is compared in vain costs time, and nothing else.
    Sqlite(&'a rusqlite::Row<'a>, Cell<usize>),
    Postgres(&'a tokio_postgres::Row),
}

/// What can be given to a statement.
pub(in crate::store) trait Bind {
    fn value(&self) -> Value<'_>;
}

/// What a column can be read as.
pub(in crate::store) trait Column: Sized {
    /// None if it is not of this kind, or out of its range.
    fn of(value: Value<'_>) -> Option<Self>;
}

/// All that one statement is given, in order.
pub(in crate::store) trait Params {
    fn values(&self) -> Vec<Value<'_>>;
}

/// The values of a statement, of whatever types: `params![id, name]`.
macro_rules! params {
    () => { $crate::store::sql::conn::NO_PARAMS };
    ($($value:expr),+ $(,)?) => { [$(&$value as &dyn $crate::store::sql::conn::Bind),+] };
}
pub(in crate::store) use params;

/// For a statement that is given nothing.
pub(in crate::store) const NO_PARAMS: [i64; 0] = [];

impl Conn {
    /// Runs one statement and answers how many rows it touched.
    pub(in crate::store) fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        let values = params.values();
        match self {
            Self::Sqlite(conn) => {
                let mut statement = conn.prepare_cached(sql)?;
                Ok(statement.execute(rusqlite::params_from_iter(&values))?)
            }
            Self::Postgres(conn) => conn.execute(sql, &values),
        }
    }

    /// Runs one statement that must touch exactly so many rows. Where there is a line to send it over, an error may
    /// come with the next answer, and before the commit at the latest.
    pub(in crate::store) fn execute_exactly(
        &self,
        rows: usize,
        sql: &str,
        params: impl Params,
    ) -> Result<()> {
        if let Self::Postgres(conn) = self {
            return conn.execute_exactly(rows, sql, &params.values());
        }
        match self.execute(sql, params)? {
            touched if touched == rows => Ok(()),
            touched => Err(corrupt(format!("{touched} rows instead of {rows}: {sql}"))),
        }
    }

    /// Hands each row of the answer to `each`, until it has seen enough.
    pub(in crate::store) fn query(
        &self,
        sql: &str,
        params: impl Params,
        each: &mut dyn FnMut(&Row<'_>) -> Result<bool>,
    ) -> Result<()> {
        let values = params.values();
        match self {
            Self::Sqlite(conn) => {
                let mut statement = conn.prepare_cached(sql)?;
                let mut rows = statement.query(rusqlite::params_from_iter(&values))?;
                while let Some(row) = rows.next()? {
                    if !each(&Row::Sqlite(row, Cell::new(0)))? {
                        break;
                    }
                }
            }
            Self::Postgres(conn) => {
                for row in conn.query(sql, &values)? {
                    if !each(&Row::Postgres(&row))? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Row<'_> {
    pub(in crate::store) fn get<T: Column>(&self, column: &str) -> Result<T> {
        let value = match self {
            Self::Sqlite(row, next) => {
                of_sqlite(row.get_ref(place(row.as_ref(), column, next)?)?)
                    .ok_or_else(|| corrupt(format!("{column} is of a kind that no table has")))?
            }
            Self::Postgres(row) => row.try_get(column)?,
        };
        T::of(value).ok_or_else(|| corrupt(format!("{column} holds what it cannot hold")))
    }
}

/// Where the column is; every look from the first one on would compare half of all names.
fn place(row: &rusqlite::Statement<'_>, column: &str, next: &Cell<usize>) -> Result<usize> {
    let count = row.column_count();
    let named = |place: &usize| row.column_name(*place).is_ok_and(|name| name == column);
    let mut places = (next.get()..count).chain(0..next.get());
    let found = places.find(named);
    let found = found.ok_or_else(|| corrupt(format!("no column is called {column}")))?;
    next.set(found + 1);
    Ok(found)
}

fn of_sqlite(value: rusqlite::types::ValueRef<'_>) -> Option<Value<'_>> {
    use rusqlite::types::ValueRef;
    match value {
        ValueRef::Null => Some(Value::Null),
        ValueRef::Integer(number) => Some(Value::Integer(number)),
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).ok().map(Value::Text),
        ValueRef::Blob(bytes) => Some(Value::Blob(bytes)),
        ValueRef::Real(_) => None,
    }
}

impl rusqlite::ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        use rusqlite::types::{ToSqlOutput, ValueRef};
        Ok(ToSqlOutput::Borrowed(match *self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl<T: Bind, const N: usize> Params for [T; N] {
    fn values(&self) -> Vec<Value<'_>> {
        self.iter().map(Bind::value).collect()
    }
}

impl Params for &[&dyn Bind] {
    fn values(&self) -> Vec<Value<'_>> {
        self.iter().map(|it| it.value()).collect()
    }
}

impl<T: Bind + ?Sized> Bind for &T {
    fn value(&self) -> Value<'_> {
        (**self).value()
    }
}

impl<T: Bind> Bind for Option<T> {
    fn value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, Bind::value)
    }
}

impl Bind for Value<'_> {
    fn value(&self) -> Value<'_> {
        *self
    }
}

impl Bind for str {
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl Bind for String {
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl Bind for [u8] {
    fn value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl Bind for Vec<u8> {
    fn value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl<const N: usize> Bind for [u8; N] {
    fn value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl Bind for bool {
    fn value(&self) -> Value<'_> {
        Value::Integer(i64::from(*self))
    }
}

impl<T: Column> Column for Option<T> {
    fn of(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            some => T::of(some).map(Some),
        }
    }
}

impl Column for bool {
    fn of(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Integer(0) => Some(false),
            Value::Integer(1) => Some(true),
            _ => None,
        }
    }
}

impl Column for String {
    fn of(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.to_owned()),
            _ => None,
        }
    }
}

impl Column for Vec<u8> {
    fn of(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Blob(bytes) => Some(bytes.to_vec()),
            _ => None,
        }
    }
}

impl<const N: usize> Column for [u8; N] {
    fn of(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Blob(bytes) => bytes.try_into().ok(),
            _ => None,
        }
    }
}

impl Column for Uuid {
    fn of(value: Value<'_>) -> Option<Self> {
        Column::of(value).map(Self::from_bytes)
    }
}

/// Numbers of every width are kept as one of 64 bits.
macro_rules! whole_numbers {
    ($($number:ty),+) => {$(
        impl Bind for $number {
            fn value(&self) -> Value<'_> {
                Value::Integer(i64::from(*self))
            }
        }

        impl Column for $number {
            fn of(value: Value<'_>) -> Option<Self> {
                match value {
                    Value::Integer(number) => number.try_into().ok(),
                    _ => None,
                }
            }
        }
    )+};
}

whole_numbers!(i64, i32, i16, i8, u32, u16, u8);
