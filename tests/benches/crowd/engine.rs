//! How is a database filled behind its authority's back, whichever it is?

use std::path::Path;

use own_postgres::Cluster;
use rusqlite::Connection;

use super::Fault;

/// A database that nobody else has open.
pub(crate) enum Engine<'a> {
    Sqlite(Connection),
    Postgres(&'a Cluster, String),
}

impl<'a> Engine<'a> {
    /// Durability comes with the authority; until then a lost file is made anew.
    pub(crate) fn sqlite(file: &Path) -> Result<Self, Fault> {
        let conn = Connection::open(file)?;
        conn.execute_batch(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF;
             PRAGMA cache_size = -500000; PRAGMA temp_store = FILE;",
        )?;
        Ok(Self::Sqlite(conn))
    }

    pub(crate) fn postgres(cluster: &'a Cluster, database: &str) -> Self {
        Self::Postgres(cluster, database.into())
    }

    pub(crate) fn run(&self, sql: &str) -> Result<(), Fault> {
        match self {
            Self::Sqlite(conn) => Ok(conn.execute_batch(sql)?),
            Self::Postgres(cluster, database) => {
                // Rows whose other side comes later are no fault here.
                let alone = format!("SET session_replication_role = replica; {sql}");
                cluster.sql(database, &alone);
                Ok(())
            }
        }
    }

    /// The first column of every row.
    pub(crate) fn column(&self, sql: &str) -> Result<Vec<String>, Fault> {
        match self {
            Self::Sqlite(conn) => {
                let mut statement = conn.prepare(sql)?;
                let rows = statement.query_map([], |row| row.get(0))?;
                Ok(rows.collect::<Result<_, _>>()?)
            }
            Self::Postgres(cluster, database) => {
                let said = cluster.sql(database, sql);
                Ok(said.lines().map(str::to_owned).collect())
            }
        }
    }

    pub(crate) fn columns(&self, table: &str) -> Result<Vec<String>, Fault> {
        let sql = match self {
            Self::Sqlite(_) => format!("SELECT name FROM pragma_table_info('{table}')"),
            Self::Postgres(..) => format!(
                "SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass
                 AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
            ),
        };
        self.column(&sql)
    }

    /// What a scratch table begins with.
    pub(crate) fn scratch(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "CREATE TEMP TABLE",
            Self::Postgres(..) => "CREATE UNLOGGED TABLE",
        }
    }

    /// A number below `most`, another one for each row.
    pub(crate) fn below(&self, most: u32) -> String {
        match self {
            Self::Sqlite(_) => format!("abs(random() % {most})"),
            Self::Postgres(..) => format!("floor(random() * {most})::bigint"),
        }
    }

    /// 16 random bytes, other ones for each row.
    pub(crate) fn random16(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "randomblob(16)",
            Self::Postgres(..) => "uuid_send(gen_random_uuid())",
        }
    }

    pub(crate) fn random32(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "randomblob(32)",
            Self::Postgres(..) => "(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))",
        }
    }

    /// A new UUIDv7 of this moment.
    pub(crate) fn id_at(&self, ms: &str) -> String {
        match self {
            Self::Sqlite(_) => {
                format!("unhex(printf('%012x7', {ms}) || substr(hex(randomblob(10)), 1, 19))")
            }
            Self::Postgres(..) => format!(
                "decode(lpad(to_hex({ms}), 12, '0') || '7' || substr(md5(random()::text), 1, 19), 'hex')"
            ),
        }
    }

    pub(crate) fn hex(&self, of: &str) -> String {
        match self {
            Self::Sqlite(_) => format!("lower(hex({of}))"),
            Self::Postgres(..) => format!("encode({of}, 'hex')"),
        }
    }

    /// Begins to write without waiting for the disk.
    pub(crate) fn hurry(&self) {
        if let Self::Postgres(cluster, _) = self {
            cluster.sql("postgres", "ALTER SYSTEM SET fsync = off");
            cluster.sql("postgres", "SELECT pg_reload_conf()");
        }
    }

    /// What a database of this size has had in life: it is on the disk, and its statistics are known.
    pub(crate) fn settle(&self) -> Result<(), Fault> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(cluster, database) => {
                cluster.sql(database, "VACUUM (ANALYZE)");
                cluster.sql("postgres", "ALTER SYSTEM RESET fsync");
                cluster.sql("postgres", "SELECT pg_reload_conf()");
                cluster.sql("postgres", "CHECKPOINT");
                Ok(())
            }
        }
    }

    pub(crate) fn bytes(&self) -> Result<u64, Fault> {
        let sql = match self {
            Self::Sqlite(_) => {
                "SELECT CAST(page_count * page_size AS TEXT) FROM pragma_page_count, pragma_page_size"
            }
            Self::Postgres(..) => "SELECT pg_database_size(current_database())",
        };
        let said = self.column(sql)?;
        Ok(said.first().ok_or("no size")?.parse()?)
    }
}
