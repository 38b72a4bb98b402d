//! How does what an embedded store holds come into PostgreSQL, whole or not at all?
//!
//! One transaction: every table's rows, in whatever order, with the references between them checked at its
//! end; then each table is read back and compared, row by row in the order of its bytes, by a hash of both.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::conn::PgConn;
use crate::store::sql::conn::Value;
use crate::store::sql::control::{Step, Touches};
use crate::store::sqlite::error::{corrupt, unusable};
use crate::store::sqlite::schema;
use crate::store::{Result, StoreError};

/// One table that was moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    pub name: String,
    pub rows: u64,
}

struct Table {
    name: String,
    columns: Vec<String>,
}

/// Moves all of `file`; the database must hold nothing yet.
pub(super) fn move_all(file: &Path, to: &PgConn) -> Result<Vec<Moved>> {
    let from = open(file)?;
    let tables = tables(&from)?;
    to.begin(&Touches::Everything)?;
    let moved = move_tables(&from, to, &tables);
    match moved {
        Ok(moved) => {
            to.take(&[Step::Commit])?;
            Ok(moved)
        }
        Err(error) => {
            to.roll_back();
            Err(error)
        }
    }
}

fn move_tables(from: &Connection, to: &PgConn, tables: &[Table]) -> Result<Vec<Moved>> {
    to.batch("SET CONSTRAINTS ALL DEFERRED; SET LOCAL statement_timeout = 0")?;
    let mut moved = Vec::new();
    for table in tables {
        if count(to, table)? > 0 {
            return Err(unusable(format!(
                "{} holds rows already: an embedded store moves into an empty database only",
                table.name
            )));
        }
        copy(from, to, table)?;
    }
    for table in tables {
        let (here, there) = (hash_of_sqlite(from, table)?, hash_of_postgres(to, table)?);
        if here != there {
            return Err(corrupt(format!("{} came out different", table.name)));
        }
        if here.0 > 0 {
            moved.push(Moved {
                name: table.name.clone(),
                rows: here.0,
            });
        }
    }
    to.batch("SET CONSTRAINTS ALL IMMEDIATE")?;
    Ok(moved)
}

fn open(file: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(file, flags)?;
    schema::refuse_other_version(&conn)?;
    // One picture of all tables, whoever writes meanwhile; nobody should.
    conn.execute_batch("BEGIN")?;
    Ok(conn)
}

fn tables(from: &Connection) -> Result<Vec<Table>> {
    let mut names = from.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
         ORDER BY name",
    )?;
    let names = names.query_map([], |row| row.get::<_, String>(0))?;
    names
        .map(|name| {
            let name = name?;
            let columns = columns(from, &name)?;
            Ok(Table { name, columns })
        })
        .collect()
}

fn columns(from: &Connection, table: &str) -> Result<Vec<String>> {
    let mut columns = from.prepare("SELECT name FROM pragma_table_info(?1) ORDER BY cid")?;
    let names = columns.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<rusqlite::Result<_>>()?)
}

impl Table {
    fn list(&self) -> String {
        let quoted: Vec<String> = self.columns.iter().map(|it| format!("\"{it}\"")).collect();
        quoted.join(", ")
    }
}

fn count(to: &PgConn, table: &Table) -> Result<i64> {
    let rows = to.query(&format!("SELECT count(*) AS rows FROM {}", table.name), &[])?;
    let first = rows
        .first()
        .ok_or_else(|| corrupt("a count without a row"))?;
    Ok(first.try_get("rows")?)
}

/// A value that no statement points to any more.
enum Kept {
    Null,
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl Kept {
    fn of(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Null => Ok(Self::Null),
            ValueRef::Integer(number) => Ok(Self::Integer(number)),
            ValueRef::Blob(bytes) => Ok(Self::Blob(bytes.to_vec())),
            ValueRef::Text(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(|_| corrupt("a text is no UTF-8"))?;
                Ok(Self::Text(text.to_owned()))
            }
            ValueRef::Real(_) => Err(corrupt("a number that is not whole")),
        }
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(number) => Value::Integer(*number),
            Self::Text(text) => Value::Text(text),
            Self::Blob(bytes) => Value::Blob(bytes),
        }
    }
}

fn copy(from: &Connection, to: &PgConn, table: &Table) -> Result<()> {
    let sql = format!("SELECT {} FROM {}", table.list(), table.name);
    let mut statement = from.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let places: Vec<String> = (1..=table.columns.len()).map(|n| format!("?{n}")).collect();
    let insert = format!(
        "INSERT INTO {} ({}) VALUES ({})",
        table.name,
        table.list(),
        places.join(", ")
    );
    while let Some(row) = rows.next()? {
        let kept: Vec<Kept> = (0..table.columns.len())
            .map(|column| Kept::of(row.get_ref(column)?))
            .collect::<Result<_>>()?;
        let values: Vec<Value<'_>> = kept.iter().map(Kept::value).collect();
        to.execute(&insert, &values)?;
    }
    Ok(())
}

/// How many rows, and one hash of all, whatever order they lie in.
type Sum = (u64, [u8; 32]);

fn hash_of_sqlite(from: &Connection, table: &Table) -> Result<Sum> {
    let sql = format!("SELECT {} FROM {}", table.list(), table.name);
    let mut statement = from.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut sum = (0, [0; 32]);
    while let Some(row) = rows.next()? {
        let mut hash = Sha256::new();
        for column in 0..table.columns.len() {
            add(&mut hash, Kept::of(row.get_ref(column)?)?.value());
        }
        count_in(&mut sum, hash);
    }
    Ok(sum)
}

fn hash_of_postgres(to: &PgConn, table: &Table) -> Result<Sum> {
    let sql = format!("SELECT {} FROM {}", table.list(), table.name);
    let mut sum = (0, [0; 32]);
    to.each(&sql, &mut |row| {
        let mut hash = Sha256::new();
        for column in &table.columns {
            add(&mut hash, row.try_get(column.as_str())?);
        }
        count_in(&mut sum, hash);
        Ok::<_, StoreError>(())
    })?;
    Ok(sum)
}

fn add(hash: &mut Sha256, value: Value<'_>) {
    let (kind, bytes): (u8, &[u8]) = match &value {
        Value::Null => (0, &[]),
        Value::Integer(number) => {
            hash.update([1]);
            return hash.update(number.to_be_bytes());
        }
        Value::Text(text) => (2, text.as_bytes()),
        Value::Blob(bytes) => (3, bytes),
    };
    hash.update([kind]);
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

/// Rows have no order: their hashes are added up, as numbers of 256 bits that overflow.
fn count_in((rows, sum): &mut Sum, hash: Sha256) {
    let row: [u8; 32] = hash.finalize().into();
    let mut carry = 0_u16;
    for (byte, of_row) in sum.iter_mut().zip(row) {
        let total = u16::from(*byte) + u16::from(of_row) + carry;
        (*byte, carry) = (total as u8, total >> 8);
    }
    *rows += 1;
}
