//! What can HSM and disk do when nothing of ours is in the way?

use std::path::Path;
use std::time::{Duration, Instant};

use hsm::bare::BindingMac;
use hsm::{HsmError, Module, Pin};
use rusqlite::Connection;

use super::Fault;
use super::ours::{SPAN, World};
use super::table::EPOCHS;

/// Inserts that share a commit.
pub(crate) const GROUP: usize = 64;

/// The same HSM token, in bare loops.
pub(crate) struct Token {
    hsm: hsm::bare::Bare,
    sealed: hsm::SealedSeed,
    messages: Vec<Vec<u8>>,
}

/// The same disk.
pub(crate) struct Disk(Connection);

impl Token {
    pub(crate) fn open(world: &World) -> Result<Self, Fault> {
        let token = world.app().config.hsm.first();
        let module = Module::load(&token.module)?;
        let pin = Pin::from_file(&token.pin_file)?;
        let keyring = world.app().keyring();
        let keys = keyring.sealing();
        let hsm =
            hsm::bare::Bare::open(&module, &token.label, &pin, keys, &keyring.receipt().label)?;
        Ok(Self {
            hsm,
            sealed: world.sealed().clone(),
            messages: (0..EPOCHS).map(|n| vec![n as u8; 34]).collect(),
        })
    }

    pub(crate) fn epoch_keys(&self, binding: BindingMac) -> Result<f64, HsmError> {
        rate(|| self.hsm.epoch_keys(&self.sealed, binding, &self.messages))
    }

    pub(crate) fn signatures(&self) -> Result<f64, HsmError> {
        rate(|| self.hsm.sign(&[7; 32]).map(|_| 1))
    }
}

impl Disk {
    /// A database of its own in this directory.
    pub(crate) fn open(home: &Path) -> rusqlite::Result<Self> {
        let database = Connection::open(home.join("bare.sqlite"))?;
        database.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE spent (token BLOB PRIMARY KEY NOT NULL, rest BLOB NOT NULL) WITHOUT ROWID;",
        )?;
        Ok(Self(database))
    }

    /// Rows a second, durable, [`GROUP`] to a commit, and how long each commit took.
    pub(crate) fn commits(&self) -> rusqlite::Result<(f64, Vec<Duration>)> {
        let mut took = Vec::new();
        let rate = rate(|| {
            let start = Instant::now();
            self.0.execute_batch("BEGIN IMMEDIATE")?;
            let mut insert = self
                .0
                .prepare_cached("INSERT INTO spent VALUES (randomblob(24), randomblob(200))")?;
            for _ in 0..GROUP {
                insert.execute([])?;
            }
            self.0.execute_batch("COMMIT")?;
            took.push(start.elapsed());
            Ok::<_, rusqlite::Error>(GROUP)
        })?;
        Ok((rate, took))
    }
}

/// How much a second `step` does, told by its own count.
fn rate<E>(mut step: impl FnMut() -> Result<usize, E>) -> Result<f64, E> {
    let (start, mut done) = (Instant::now(), 0);
    while start.elapsed() < SPAN {
        done += step()?;
    }
    Ok(done as f64 / start.elapsed().as_secs_f64())
}
