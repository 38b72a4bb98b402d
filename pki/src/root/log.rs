//! What was done with this root, in order, and was nothing of it changed since?
//!
//! One line for each step, for people and for `grep`:
//!
//! ```text
//! 2026-11-23T12:00:00Z issuing-signed serial=1f…  until=2031-11-22T12:00:00Z chain=9ab4…
//! ```
//! `chain` is the SHA-256 of the chain of the line before and of the line up to it. Whoever cuts off
//! the last lines leaves a sound log; that is why every step prints its chain, to be noted on paper.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::BadCeremony;
use crate::certificate::hex;
use crate::dates;
use crate::error::PkiError;
use crate::files::BadFile;

/// Largest log worth reading: thousands of ceremonies.
const LOG_MAX_BYTES: u64 = 4 * 1024 * 1024;

const CHAIN: &str = " chain=";

/// The log, open and locked against a second ceremony.
pub(super) struct Log {
    path: PathBuf,
    file: File,
    pub(super) entries: Vec<Entry>,
    chain: String,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Unix seconds.
    pub(super) at: u64,
    pub(super) step: String,
    facts: Vec<(String, String)>,
}

impl Log {
    /// Opens or begins the log at `path`. A last line without its end was never acknowledged, and
    /// goes.
    pub(super) fn open(path: &Path) -> Result<Self, PkiError> {
        let file = options().open(path).map_err(|error| io(path, error))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(BadCeremony::InUse.into()),
            Err(TryLockError::Error(error)) => return Err(io(path, error)),
            Ok(()) => {}
        }
        let mut log = Self {
            path: path.into(),
            file,
            entries: Vec::new(),
            chain: "0".repeat(64),
        };
        log.replay()?;
        Ok(log)
    }

    /// Notes a step, durably. Facts hold no blank.
    pub(super) fn note(
        &mut self,
        at: u64,
        step: &str,
        facts: &[(&str, &str)],
    ) -> Result<(), PkiError> {
        let facts: Vec<String> = facts
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let said = format!("{} {step} {}", dates::in_words(at), facts.join(" "));
        let chain = link(&self.chain, &said);
        let line = format!("{said}{CHAIN}{chain}\n");
        let written = self.file.write_all(line.as_bytes());
        written
            .and_then(|()| self.file.sync_all())
            .map_err(|error| io(&self.path, error))?;
        self.take(line.trim_end())
            .ok_or_else(|| PkiError::bug("a line just written does not read"))
    }

    pub(super) fn chain(&self) -> &str {
        &self.chain
    }

    pub(super) fn last_at(&self) -> Option<u64> {
        self.entries.last().map(|entry| entry.at)
    }

    fn replay(&mut self) -> Result<(), PkiError> {
        let text = self.read()?;
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            self.take(line)
                .ok_or(BadCeremony::LogBroken { line: line_number })?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<String, PkiError> {
        let fail = |path: &Path, error| io(path, error);
        let size = self
            .file
            .metadata()
            .map_err(|error| fail(&self.path, error))?
            .len();
        if size > LOG_MAX_BYTES {
            return Err(BadFile::TooLarge.at(&self.path));
        }
        let mut text = String::new();
        let read = self.file.read_to_string(&mut text);
        read.map_err(|error| fail(&self.path, error))?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            text.truncate(whole);
            let cut = self.file.set_len(whole as u64);
            cut.and_then(|()| self.file.seek(SeekFrom::End(0)).map(drop))
                .map_err(|error| fail(&self.path, error))?;
        }
        Ok(text)
    }

    /// The line, if it continues the chain.
    fn take(&mut self, line: &str) -> Option<()> {
        let (said, chain) = line.rsplit_once(CHAIN)?;
        let entry = Entry::parse(said)?;
        if link(&self.chain, said) != chain {
            return None;
        }
        self.chain = chain.into();
        self.entries.push(entry);
        Some(())
    }
}

impl Entry {
    fn parse(said: &str) -> Option<Self> {
        let mut words = said.split(' ');
        let at = dates::from_words(words.next()?)?;
        let step = words.next()?.to_owned();
        let fact = |word: &str| {
            let (key, value) = word.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        };
        let facts = words.filter(|word| !word.is_empty()).map(fact);
        let facts = facts.collect::<Option<_>>()?;
        Some(Self { at, step, facts })
    }

    pub(super) fn fact(&self, key: &str) -> Option<&str> {
        let found = self.facts.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str())
    }

    /// For people.
    pub(super) fn words(&self) -> String {
        let facts: Vec<String> = self
            .facts
            .iter()
            .map(|(key, value)| format!("{key} {value}"))
            .collect();
        format!(
            "{} {} {}",
            dates::in_words(self.at),
            self.step,
            facts.join(", ")
        )
    }
}

fn link(before: &str, said: &str) -> String {
    hex(&Sha256::digest(format!("{before} {said}")))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    options
}

fn io(path: &Path, error: std::io::Error) -> PkiError {
    BadFile::from(error).at(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    const NOW: u64 = 1_795_435_200;

    fn three_steps(path: &Path) -> String {
        let mut log = Log::open(path).unwrap();
        for number in ["1", "2", "3"] {
            log.note(NOW, "crl-signed", &[("number", number)]).unwrap();
        }
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_log_reads_back_and_goes_on_where_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ceremony.log");
        three_steps(&path);
        Log::open(&path)
            .unwrap()
            .note(NOW, "crl-signed", &[("number", "4")])
            .unwrap();
        let log = Log::open(&path).unwrap();
        let numbers: Vec<_> = log
            .entries
            .iter()
            .filter_map(|entry| entry.fact("number"))
            .collect();
        assert_eq!(numbers, ["1", "2", "3", "4"]);
    }

    #[test]
    fn a_changed_missing_or_moved_line_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ceremony.log");
        let text = three_steps(&path);
        let lines: Vec<&str> = text.lines().collect();
        for (damaged, line) in [
            (text.replace("number=2", "number=9"), 2),
            (format!("{}\n{}\n", lines[0], lines[2]), 2),
            (format!("{}\n{}\n{}\n", lines[1], lines[0], lines[2]), 1),
            (text.replace("2026", "2025"), 1),
        ] {
            fs::write(&path, damaged).unwrap();
            let refused = Log::open(&path).err().unwrap();
            assert_eq!(refused, BadCeremony::LogBroken { line }.into());
        }
    }

    #[test]
    fn a_line_cut_by_a_crash_at_any_byte_is_as_if_it_had_not_begun() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ceremony.log");
        let text = three_steps(&path);
        let two = text
            .lines()
            .take(2)
            .map(|line| line.len() + 1)
            .sum::<usize>();
        for cut in two..text.len() {
            fs::write(&path, &text[..cut]).unwrap();
            let mut log = Log::open(&path).unwrap();
            assert_eq!(log.entries.len(), 2);
            log.note(NOW, "crl-signed", &[("number", "3")]).unwrap();
            drop(log);
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn two_ceremonies_do_not_write_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ceremony.log");
        let first = Log::open(&path).unwrap();
        assert_eq!(Log::open(&path).err(), Some(BadCeremony::InUse.into()));
        drop(first);
        assert!(Log::open(&path).is_ok());
    }
}
