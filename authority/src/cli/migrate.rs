//! `migrate`: is the schema of PostgreSQL up to date, and is what an embedded store held in it?

use std::path::PathBuf;

use serde::Serialize;

use super::{Arguments, CliError, Exit, Say, tell};
use crate::config::StorePlace;
use crate::store::StoreError;
use crate::store::postgres::{self, Moved, PostgresPlace};

#[derive(Debug, clap::Args)]
pub(super) struct MigrateArguments {
    /// Change nothing; exit with 4 when steps are lacking
    #[arg(long, conflicts_with = "from")]
    check: bool,
    /// Move this embedded store into the database, which must be empty, and compare every table
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, migrate: &MigrateArguments) -> Result<(), CliError> {
    let config = arguments.load_config()?;
    let StorePlace::Postgres { place, .. } = &config.store.place else {
        return Err(CliError::operator(
            "[store] names an embedded database, which every start brings up to date by itself",
            "name a PostgreSQL in [store.postgres], then run this again",
        ));
    };
    if migrate.check {
        return check(arguments, place);
    }
    let steps = postgres::migrate(place).map_err(in_its_way)?;
    let moved = match &migrate.from {
        Some(file) => postgres::move_from(file, place)?,
        None => Vec::new(),
    };
    tell(arguments, &Migrated { steps, moved });
    Ok(())
}

fn in_its_way(error: StoreError) -> CliError {
    match error {
        StoreError::Busy => CliError::new(
            Exit::TryLater,
            "a step of the schema did not get its tables, and was undone; those before it stand",
            "others use them for longer (a backup? `pg_stat_activity` names them): run `m2key-authority migrate` again when they are done",
        ),
        other => other.into(),
    }
}

fn check(arguments: &Arguments, place: &PostgresPlace) -> Result<(), CliError> {
    let state = postgres::schema_state(place)?;
    tell(
        arguments,
        &Checked {
            version: state.version,
            known: state.known,
        },
    );
    match state.behind() {
        0 => Ok(()),
        steps => Err(CliError::operator(
            format!("{steps} step(s) are lacking"),
            "run `m2key-authority migrate`; nodes of the version before may go on meanwhile",
        )),
    }
}

#[derive(Serialize)]
struct Checked {
    version: u32,
    known: u32,
}

impl Say for Checked {
    fn say(&self) -> String {
        format!(
            "the schema has version {}, this program knows {}",
            self.version, self.known
        )
    }
}

#[derive(Serialize)]
struct Migrated {
    steps: u32,
    moved: Vec<Moved>,
}

impl Say for Migrated {
    fn say(&self) -> String {
        let mut said = match self.steps {
            0 => "the schema was up to date".to_owned(),
            steps => format!("{steps} step(s) made: the schema is up to date"),
        };
        for table in &self.moved {
            said.push_str(&format!("\n{:>12}  {}", table.rows, table.name));
        }
        if !self.moved.is_empty() {
            let rows: u64 = self.moved.iter().map(|table| table.rows).sum();
            said.push_str(&format!(
                "\n{rows} rows moved, and read back the same. The file was not changed: keep it until you have a backup"
            ));
        }
        said
    }
}
