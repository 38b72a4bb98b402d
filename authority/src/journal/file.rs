//! How does a line reach the disk, and what is found there afterwards?
//!
//! Appended and synced; after anything went wrong, and when the file has grown, it is written anew
//! beside itself and renamed into place, so that a half-written line is never in the way.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use protocol::time::Timestamp;

use super::fact::{BadLine, Fact, Line, Linked};
use super::known::{Fold, Known};

/// Largest journal that is read, in bytes.
const FILE_MAX: u64 = 1024 * 1024 * 1024;
/// A file that has grown by so much since it was last written anew is written anew, in bytes.
pub(super) const FOLD_AFTER: u64 = 16 * 1024 * 1024;

/// What was found at the journal's place.
#[derive(Debug)]
pub enum Found {
    Nothing,
    Journal(Box<Contents>),
}

/// A journal as it was found.
#[derive(Debug)]
pub struct Contents {
    pub known: Known,
    pub first: u64,
    pub hashes: Vec<[u8; 32]>,
    /// Why not all of it can be believed, in words.
    pub broken: Option<String>,
}

/// Reads the journal. A last line that the power cut in half was never acknowledged, and is left out.
pub fn read(path: &Path) -> std::io::Result<Found> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(FILE_MAX + 1).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    let whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => &bytes[..=end],
        None => &[],
    };
    let mut fold = Fold::new();
    if bytes.len() as u64 > FILE_MAX {
        fold.breaks(0);
    }
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    for (place, line) in lines.iter().enumerate() {
        let is_last = place + 1 == lines.len();
        match parse(line) {
            Ok((line, linked)) => fold.take(place + 1, &line, &linked),
            // Power cuts leave blocks of zeros, too.
            Err(_) if is_last && place > 0 => {}
            Err(_) => fold.breaks(place + 1),
        }
    }
    if fold.hashes.is_empty() {
        // An opening line is synced before the file gets its name: an empty file is no journal.
        fold.breaks(1);
    }
    Ok(Found::Journal(Box::new(Contents {
        known: fold.known,
        first: fold.first,
        hashes: fold.hashes,
        broken: fold.broken,
    })))
}

fn parse(line: &[u8]) -> Result<(Line, Linked<'_>), BadLine> {
    let text = std::str::from_utf8(line).map_err(|_| BadLine::Malformed)?;
    Line::read(text.trim_end_matches('\n'))
}

impl Contents {
    /// The hash of line `n`; none if it does not stand in the file.
    pub fn hash_of(&self, n: u64) -> Option<&[u8; 32]> {
        let place = n.checked_sub(self.first)?;
        self.hashes.get(usize::try_from(place).ok()?)
    }
}

/// Writes lines; one thread has it.
pub(super) struct Pen {
    path: PathBuf,
    known: Known,
    /// Open for appending; none until the file is known to be whole.
    file: Option<File>,
    written: u64,
}

impl Pen {
    /// Goes on behind what is known. Nothing is touched before the first line.
    pub(super) fn new(path: PathBuf, known: Known) -> Self {
        Self {
            path,
            known,
            file: None,
            written: 0,
        }
    }

    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    /// Appends facts and syncs them. When it fails, nothing counts as written.
    pub(super) fn write(&mut self, facts: &[(Timestamp, Fact)]) -> std::io::Result<()> {
        let Some(now) = facts.iter().map(|(at, _)| *at).max() else {
            return Ok(());
        };
        let grown = self.written > FOLD_AFTER;
        let mut file = match self.file.take() {
            Some(file) if !grown => file,
            _ => self.write_anew(now)?,
        };
        let mut last = self.known.last;
        let text = lines(&mut last, facts);
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        self.written += text.len() as u64;
        self.file = Some(file);
        self.known.last = last;
        for (_, fact) in facts {
            self.known.take(fact);
        }
        Ok(())
    }

    /// Writes everything that counts into a new file that takes the place of one that cannot be believed;
    /// the name of that one from then on.
    pub(super) fn replace(&mut self, now: Timestamp) -> std::io::Result<Option<PathBuf>> {
        let (file, last) = self.write_beside(now)?;
        let aside = keep_aside(&self.path)?;
        self.take_place(last)?;
        self.file = Some(file);
        Ok(aside)
    }

    /// Everything that counts, into a new file that takes the old one's place.
    fn write_anew(&mut self, now: Timestamp) -> std::io::Result<File> {
        let (file, last) = self.write_beside(now)?;
        self.take_place(last)?;
        Ok(file)
    }

    /// The new file, synced, and its last line.
    fn write_beside(&self, now: Timestamp) -> std::io::Result<(File, (u64, [u8; 32]))> {
        let fresh = self.fresh();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&fresh)?;
        let facts: Vec<_> = self
            .known
            .facts(now)
            .into_iter()
            .map(|f| (now, f))
            .collect();
        let mut last = self.known.last;
        let text = lines(&mut last, &facts);
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok((file, last))
    }

    fn take_place(&mut self, last: (u64, [u8; 32])) -> std::io::Result<()> {
        std::fs::rename(self.fresh(), &self.path)?;
        sync_folder(&self.path)?;
        self.known.last = last;
        self.written = 0;
        Ok(())
    }

    fn fresh(&self) -> PathBuf {
        self.path.with_extension("new")
    }
}

fn lines(last: &mut (u64, [u8; 32]), facts: &[(Timestamp, Fact)]) -> String {
    let mut text = String::new();
    for (at, fact) in facts {
        let line = Line {
            n: last.0 + 1,
            at: *at,
            fact: fact.clone(),
        };
        let (line, hash) = line.write(&last.1);
        text += &line;
        *last = (last.0 + 1, hash);
    }
    text
}

/// Without it the new name may be gone after a power cut.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Gives a journal that cannot be believed a second name; it loses the first to the one that follows.
fn keep_aside(path: &Path) -> std::io::Result<Option<PathBuf>> {
    for n in 1..=ASIDE_MAX {
        let aside = path.with_extension(format!("broken-{n}"));
        if aside.exists() {
            continue;
        }
        return match second_name(path, &aside) {
            Ok(()) => sync_folder(path).map(|()| Some(aside)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
    }
    Err(std::io::Error::other("too many broken journals beside it"))
}

/// A copy where the file system knows no second names.
fn second_name(path: &Path, aside: &Path) -> std::io::Result<()> {
    match std::fs::hard_link(path, aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            std::fs::copy(path, aside)?;
            File::open(aside)?.sync_all()
        }
        linked => linked,
    }
}

/// Broken journals that are kept beside a good one.
const ASIDE_MAX: u32 = 100;
