//! What survives a power cut?
//!
//! One SQLite file, `agent.db`, mode 0600: it holds the cached epoch keys (a day of tokens at most)
//! and the reports that the authority does not have yet. Write-ahead log with `synchronous = FULL`:
//! what a method has returned from is on the disk.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::ids::EventId;
use protocol::jwk::JwkSet;
use protocol::schedule::Rank;
use protocol::time::Timestamp;
use protocol::wire::reports::TerminalEvent;
use protocol::wire::schedules::ScheduleResponse;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use serde::de::DeserializeOwned;

use crate::checkpoint::Checkpoint;
use crate::clock::{Remembered, SinceBoot};
use crate::core::{Resumed, Save};
use crate::error::AgentError;
use crate::platform;
use crate::rotation::Fetch;

/// Most reports that wait for the authority; some months of a busy terminal.
pub const OUTBOX_MAX: u64 = 100_000;
/// Most schedules that are kept beside the whole one they extend.
pub const SCHEDULES_MAX: u64 = 200;

const VERSION: i64 = 3;
/// Version 1.
const SCHEMA: &str = "
    -- One value per name: last rank, known revision, clock, keys that verify and their tag, the last
    -- audit checkpoint.
    CREATE TABLE fact (name TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    -- Schedules with their epoch keys as they came, in the order in which they were followed.
    CREATE TABLE schedule (
        position INTEGER PRIMARY KEY NOT NULL,
        after_epoch INTEGER, -- NULL: the whole horizon
        response TEXT NOT NULL
    ) STRICT;
    -- Reports the authority does not have yet, oldest first.
    CREATE TABLE outbox (
        position INTEGER PRIMARY KEY NOT NULL,
        id TEXT NOT NULL UNIQUE,
        event TEXT NOT NULL
    ) STRICT;
    -- How worn a tag is, and where its counter stood after our last visit; 0 as its time: none was good.
    CREATE TABLE tag (
        uid TEXT PRIMARY KEY NOT NULL,
        writes INTEGER NOT NULL,
        pages INTEGER NOT NULL,
        counter INTEGER,
        last_visit_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";
/// Version 2.
const TAG_RECORDS: &str = "
    -- Password or write key of a tag, and how far its personalisation came; at most one is the
    -- terminal's own.
    CREATE TABLE tag_record (
        uid BLOB PRIMARY KEY NOT NULL,
        record TEXT NOT NULL,
        own INTEGER UNIQUE CHECK (own = 1) -- NULL: not the own one
    ) STRICT, WITHOUT ROWID;
";

mod tag_records;
mod waiting;

pub use waiting::{WAITING_MAX, Withheld};
use waiting::{Waiting, Work};
mod wear;

pub use wear::CountedTag;

/// Why something was not kept or not found again.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the outbox holds {OUTBOX_MAX} reports that the authority has not taken")]
    OutboxFull,
    #[error("the disk is full")]
    DiskFull,
    #[error("agent.db was written by a newer version ({found}) of this program")]
    Newer { found: i64 },
    #[error("agent.db: {0}")]
    Sql(rusqlite::Error),
    #[error("agent.db holds what this version did not write: {0}")]
    Content(#[from] serde_json::Error),
}

/// The agent's own database.
pub struct State {
    connection: Mutex<Connection>,
    waiting: Mutex<Waiting>,
}

impl State {
    /// Opens or makes the database.
    pub fn open(path: &Path) -> Result<Self, AgentError> {
        if !path.exists() {
            platform::new_private_file(path).map_err(|e| AgentError::file(path, &e))?;
        }
        let open = || -> Result<Connection, StateError> {
            let mut connection = Connection::open(path)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "secure_delete", "ON")?;
            migrate(&mut connection)?;
            Ok(connection)
        };
        Ok(Self::of(open()?))
    }

    /// Opens it for reading alone, also while the agent runs; none if there is no database yet.
    pub fn look(path: &Path) -> Result<Option<Self>, AgentError> {
        if !path.exists() {
            return Ok(None);
        }
        let open = || -> Result<(Connection, i64), StateError> {
            let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            let version = version(&connection)?;
            Ok((connection, version))
        };
        match open()? {
            (_, 0) => Ok(None),
            (connection, 1..=VERSION) => Ok(Some(Self::of(connection))),
            (_, found) => Err(StateError::Newer { found }.into()),
        }
    }

    fn of(connection: Connection) -> Self {
        Self {
            connection: Mutex::new(connection),
            waiting: Mutex::default(),
        }
    }

    /// What the last run left.
    pub fn resume(&self) -> Result<Resumed, StateError> {
        Ok(Resumed {
            rank: self.fact("rank")?,
            revision: self.fact("revision")?,
            keys: self.fact("keys")?,
            keys_tag: self.fact("keys_tag")?.unwrap_or_default(),
            checkpoint: self.fact("checkpoint")?,
            schedules: self.schedules()?,
        })
    }

    pub fn save(&self, save: &Save) -> Result<(), StateError> {
        match save {
            Save::Schedule {
                response,
                rank,
                fetch,
            } => self.save_schedule(response, *rank, *fetch),
            Save::Keys { keys, tag } => self.save_keys(keys, tag),
            Save::Revision(revision) => self.set_fact("revision", revision),
            Save::Checkpoint(checkpoint) => self.set_fact("checkpoint", checkpoint),
        }
    }

    /// The last audit checkpoint this terminal saw, as it was signed.
    pub fn checkpoint(&self) -> Result<Option<String>, StateError> {
        let kept: Option<Checkpoint> = self.fact("checkpoint")?;
        Ok(kept.map(|checkpoint| checkpoint.jws))
    }

    pub fn clock(&self) -> Result<Option<Remembered>, StateError> {
        let stored: Option<(i64, i64)> = self.fact("clock")?;
        let boot: Option<Option<(String, i64)>> = self.fact("clock_since_boot")?;
        Ok(stored.map(|(difference, seen)| Remembered {
            authority_minus_wall_ms: difference,
            last_seen: Timestamp::from_ms(seen),
            boot: boot.flatten().and_then(|(boot_id, difference)| {
                Some(SinceBoot {
                    boot_id: u128::from_str_radix(&boot_id, 16).ok()?,
                    authority_minus_ticks_ms: difference,
                })
            }),
        }))
    }

    pub fn save_clock(&self, clock: Remembered) -> Result<(), StateError> {
        let stored = (clock.authority_minus_wall_ms, clock.last_seen.ms());
        let boot = clock.boot.map(|boot| {
            let boot_id = format!("{:032x}", boot.boot_id);
            (boot_id, boot.authority_minus_ticks_ms)
        });
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        set_fact(&transaction, "clock", &stored)?;
        set_fact(&transaction, "clock_since_boot", &boot)?;
        Ok(transaction.commit()?)
    }

    /// Keeps a report until the authority has it. The same id again is the same report.
    pub fn push(&self, event: &TerminalEvent) -> Result<(), StateError> {
        self.write_or_wait(Work::report(event))
    }

    fn oldest_on_disk(&self, count: usize) -> Result<Vec<TerminalEvent>, StateError> {
        let connection = self.lock();
        let mut query =
            connection.prepare("SELECT event FROM outbox ORDER BY position LIMIT ?1")?;
        let rows = query.query_map([count as i64], |row| row.get::<_, String>(0))?;
        rows.map(|row| -> Result<TerminalEvent, StateError> {
            let text: String = row?;
            Ok(serde_json::from_str(&text)?)
        })
        .collect()
    }

    fn forget_on_disk(&self, stored: &[EventId]) -> Result<(), StateError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for id in stored {
            transaction.execute("DELETE FROM outbox WHERE id = ?1", [id.to_string()])?;
        }
        Ok(transaction.commit()?)
    }

    pub fn outbox_length(&self) -> Result<u64, StateError> {
        outbox_length(&self.lock())
    }

    /// A visit to a tag: its counter and its reports, all or nothing, so that a tap is neither lost nor
    /// told twice. What was programmed is counted already. On a full disk it waits in memory.
    pub fn tag_visited(
        &self,
        visit: &TagVisited<'_>,
        events: &[TerminalEvent],
    ) -> Result<(), StateError> {
        let cycles = self.cycles(visit.uid).ok();
        self.write_or_wait(Work::visit(visit, cycles, events))
    }

    /// Keys and their tag, both or neither: a tag of other keys would keep these for ever.
    fn save_keys(&self, keys: &JwkSet, tag: &str) -> Result<(), StateError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        set_fact(&transaction, "keys", keys)?;
        set_fact(&transaction, "keys_tag", &tag)?;
        Ok(transaction.commit()?)
    }

    fn save_schedule(
        &self,
        response: &ScheduleResponse,
        rank: Rank,
        fetch: Fetch,
    ) -> Result<(), StateError> {
        let text = zeroize::Zeroizing::new(serde_json::to_string(response)?);
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let after = match fetch {
            Fetch::Whole => {
                transaction.execute("DELETE FROM schedule", [])?;
                None
            }
            Fetch::After(epoch) => Some(epoch),
        };
        transaction.execute(
            "INSERT INTO schedule (after_epoch, response) VALUES (?1, ?2)",
            params![after, text.as_str()],
        )?;
        transaction.execute(
            "DELETE FROM schedule WHERE position <= (SELECT max(position) FROM schedule) - ?1",
            [SCHEDULES_MAX as i64],
        )?;
        set_fact(&transaction, "rank", &rank)?;
        Ok(transaction.commit()?)
    }

    fn schedules(&self) -> Result<Vec<(ScheduleResponse, Fetch)>, StateError> {
        let connection = self.lock();
        let mut query =
            connection.prepare("SELECT after_epoch, response FROM schedule ORDER BY position")?;
        let rows = query.query_map([], |row| {
            Ok((row.get::<_, Option<u32>>(0)?, row.get::<_, String>(1)?))
        })?;
        rows.map(|row| {
            let (after, text) = row?;
            let text = zeroize::Zeroizing::new(text);
            let fetch = after.map_or(Fetch::Whole, Fetch::After);
            Ok((serde_json::from_str(&text)?, fetch))
        })
        .collect()
    }

    fn fact<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        let query = "SELECT value FROM fact WHERE name = ?1";
        let text: Option<String> = self
            .lock()
            .query_row(query, [name], |row| row.get(0))
            .optional()?;
        Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    fn set_fact<T: serde::Serialize>(&self, name: &str, value: &T) -> Result<(), StateError> {
        set_fact(&self.lock(), name, value)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a visit to a tag did.
#[derive(Debug, Clone, Copy)]
pub struct TagVisited<'a> {
    pub uid: &'a str,
    pub counter: Option<u32>,
    pub at: Timestamp,
}

/// The known sets of keys are facts like any other.
impl State {
    pub fn keys(&self) -> Result<Option<JwkSet>, StateError> {
        self.fact("keys")
    }
}

fn migrate(connection: &mut Connection) -> Result<(), StateError> {
    match version(connection)? {
        0 => migrate_by(connection, &[SCHEMA, TAG_RECORDS, wear::SCHEMA]),
        1 => migrate_by(connection, &[TAG_RECORDS, wear::SCHEMA]),
        2 => migrate_by(connection, &[wear::SCHEMA]),
        VERSION => Ok(()),
        found => Err(StateError::Newer { found }),
    }
}

fn migrate_by(connection: &mut Connection, steps: &[&str]) -> Result<(), StateError> {
    let transaction = connection.transaction()?;
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    Ok(transaction.commit()?)
}

fn version(connection: &Connection) -> Result<i64, StateError> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn push_event(connection: &Connection, event: &TerminalEvent) -> Result<(), StateError> {
    if outbox_length(connection)? >= OUTBOX_MAX {
        return Err(StateError::OutboxFull);
    }
    connection.execute(
        "INSERT INTO outbox (id, event) VALUES (?1, ?2) ON CONFLICT (id) DO NOTHING",
        params![event.id.to_string(), serde_json::to_string(event)?],
    )?;
    Ok(())
}

fn outbox_length(connection: &Connection) -> Result<u64, StateError> {
    let count: i64 = connection.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?;
    Ok(count as u64)
}

fn set_fact<T: serde::Serialize + ?Sized>(
    connection: &Connection,
    name: &str,
    value: &T,
) -> Result<(), StateError> {
    connection.execute(
        "INSERT INTO fact (name, value) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        params![name, serde_json::to_string(value)?],
    )?;
    Ok(())
}

impl From<rusqlite::Error> for StateError {
    fn from(error: rusqlite::Error) -> Self {
        // How a full disk shows itself to who opens a database.
        let no_room = |it: &rusqlite::ffi::Error| {
            it.code == rusqlite::ErrorCode::DiskFull
                || it.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
        };
        match error.sqlite_error().is_some_and(no_room) {
            true => Self::DiskFull,
            false => Self::Sql(error),
        }
    }
}

impl StateError {
    pub fn hint(&self) -> &'static str {
        match self {
            Self::OutboxFull => "see why the authority takes no reports: m2key-agent status",
            Self::DiskFull => "free some space on the disk of the data directory",
            Self::Newer { .. } => "install the newer version again",
            Self::Sql(_) | Self::Content(_) => {
                "stop the agent and move agent.db away; it is filled again, but reports and the passwords of tags in it are lost"
            }
        }
    }
}

impl From<StateError> for AgentError {
    fn from(error: StateError) -> Self {
        let hint = error.hint();
        Self::operator(error, hint)
    }
}

#[cfg(test)]
mod power_cut_tests;
#[cfg(test)]
mod tests;
