//! What has been signed here, in an order that nobody can change afterwards?
//!
//! One JSON object a line; each holds the SHA-256 of the line before it, so a line that is changed,
//! taken out or put in is found while a later one stands. Lines cut off at the end, or a log written anew
//! from some line on, are not: there is no key in this chain. Copies elsewhere are for that. A line is durable *before* the signature it speaks of is made: there
//! may be a line without a certificate (a crash in between), never a certificate without a line.
//!
//! ```text
//!  write() ─▶ queue ─▶ one thread: takes all that wait ─▶ one write ─▶ one fsync ─▶ all are answered
//! ```
//! Files of at most [`SEGMENT_MAX_BYTES`] follow each other; older ones may be moved to an archive.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::SignerError;
use crate::certificate::hex;
use crate::consent::Warrant;
use crate::root::Consents;

/// A file is not continued past this.
pub const SEGMENT_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Most lines that wait to be written.
const QUEUE_MAX: usize = 1024;
/// Most lines of one fsync.
const BATCH_MAX: usize = 256;
/// Longest line worth reading; ours have about 500 bytes.
const LINE_MAX_BYTES: u64 = 64 * 1024;
const NAME_BEGIN: &str = "signed-";
const NAME_END: &str = ".jsonl";
const MODE: u32 = 0o600;

/// One line, without its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Entry {
    /// A certificate; `digest` is the SHA-256 of what is signed of it.
    Certificate {
        key: String,
        kind: String,
        name: String,
        serial: String,
        ends: u64,
        subject_key: String,
        digest: String,
    },
    /// A revocation list.
    Crl {
        key: String,
        number: u64,
        revoked: u64,
        digest: String,
    },
    /// A step in the life of an issuing key, and the account that asked for it.
    Step {
        key: String,
        step: String,
        account: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        consents: Option<Warrant>,
    },
    /// From here on so many operators must consent, and these count.
    Consents(Consents),
}

/// One line as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub n: u64,
    pub prev: String,
    /// Unix seconds, by the signer's clock.
    pub at: u64,
    #[serde(flatten)]
    pub entry: Entry,
}

/// The log, open for writing. Its thread ends when it is dropped.
pub(super) struct Log {
    jobs: mpsc::Sender<Job>,
}

struct Job {
    at: u64,
    entry: Entry,
    done: oneshot::Sender<Result<(), SignerError>>,
}

/// Where the chain ends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tip {
    n: u64,
    hash: String,
}

impl Log {
    /// Checks the newest file and goes on behind it. A line that a crash cut off is removed: nothing
    /// was signed for it.
    pub(super) fn open(folder: &Path) -> Result<Self, SignerError> {
        if !folder.exists() {
            std::fs::create_dir_all(folder).map_err(SignerError::io(folder))?;
            folder.parent().map_or(Ok(()), sync_folder)?;
        }
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let writer = Writer::open(folder)?;
        std::thread::Builder::new()
            .name("signer-log".into())
            .spawn(move || writer.run(queue))
            .map_err(SignerError::io(folder))?;
        Ok(Self { jobs })
    }

    /// Returns once the line is durable.
    pub(super) async fn write(&self, at: u64, entry: Entry) -> Result<(), SignerError> {
        let (done, durable) = oneshot::channel();
        let job = Job { at, entry, done };
        self.jobs.try_send(job).map_err(|_| SignerError::Busy)?;
        let ended = |_| SignerError::LogNotWritten {
            detail: "its thread has ended".into(),
        };
        durable.await.map_err(ended)?
    }
}

struct Writer {
    folder: PathBuf,
    path: PathBuf,
    number: u64,
    file: File,
    len: u64,
    tip: Tip,
    /// Set when a failed write could not be taken back: then nothing can be put behind it.
    broken: Option<String>,
}

impl Writer {
    fn open(folder: &Path) -> Result<Self, SignerError> {
        let numbers = segments(folder)?;
        let number = numbers.last().copied().unwrap_or(1);
        let path = segment(folder, number);
        let before = match numbers.len() {
            0 | 1 => None,
            n => Some(read_tip(&segment(folder, numbers[n - 2]))?),
        };
        let file = append(&path)?;
        if numbers.is_empty() {
            // A file whose name a power cut takes away is no log.
            sync_folder(folder)?;
        }
        let (tip, len) = check_newest(&path, before)?;
        if file.metadata().map_err(SignerError::io(&path))?.len() != len {
            file.set_len(len).map_err(SignerError::io(&path))?;
        }
        Ok(Self {
            folder: folder.into(),
            path,
            number,
            file,
            len,
            tip,
            broken: None,
        })
    }

    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(more) = queue.try_recv()
            {
                batch.push(more);
            }
            let outcome = self.write(&batch);
            for job in batch {
                // Whoever asked may have gone; the line stays all the same.
                let _ = job.done.send(outcome.clone());
            }
        }
    }

    fn write(&mut self, batch: &[Job]) -> Result<(), SignerError> {
        if let Some(detail) = &self.broken {
            return Err(not_written(detail));
        }
        if self.len >= SEGMENT_MAX_BYTES {
            self.roll()?;
        }
        let (text, tip) = self.chain(batch);
        let written = self
            .file
            .write_all(&text)
            .and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.len += text.len() as u64;
                self.tip = tip;
                Ok(())
            }
            Err(error) => {
                // Half a line must not stand before the next one.
                if let Err(again) = self.file.set_len(self.len) {
                    self.broken = Some(format!("{error}; {again}"));
                }
                Err(not_written(error))
            }
        }
    }

    fn chain(&self, batch: &[Job]) -> (Vec<u8>, Tip) {
        let (mut text, mut tip) = (Vec::new(), self.tip.clone());
        for job in batch {
            let line = Line {
                n: tip.n + 1,
                prev: tip.hash,
                at: job.at,
                entry: job.entry.clone(),
            };
            let bytes = serde_json::to_vec(&line).expect("lines are plain text and numbers");
            tip = Tip {
                n: line.n,
                hash: hash(&bytes),
            };
            text.extend(bytes);
            text.push(b'\n');
        }
        (text, tip)
    }

    fn roll(&mut self) -> Result<(), SignerError> {
        let path = segment(&self.folder, self.number + 1);
        self.file = append(&path)?;
        sync_folder(&self.folder)?;
        self.number += 1;
        self.path = path;
        self.len = 0;
        Ok(())
    }
}

/// Checks every file that is there, and calls `see` for every line: the count of lines.
pub(super) fn read_all(folder: &Path, mut see: impl FnMut(&Line)) -> Result<u64, SignerError> {
    let (mut before, mut lines) = (None, 0);
    for number in segments(folder)? {
        let path = segment(folder, number);
        let (tip, _) = check(&path, before, |line| {
            lines += 1;
            see(line);
        })?;
        before = Some(tip);
    }
    Ok(lines)
}

fn check_newest(path: &Path, before: Option<Tip>) -> Result<(Tip, u64), SignerError> {
    check(path, before, |_| {})
}

/// Follows the chain through one file: its end, and how many bytes are whole lines. The first line
/// must continue `before`; if older files were moved away, it is believed.
fn check(
    path: &Path,
    before: Option<Tip>,
    mut see: impl FnMut(&Line),
) -> Result<(Tip, u64), SignerError> {
    let file = File::open(path).map_err(SignerError::io(path))?;
    let size = file.metadata().map_err(SignerError::io(path))?.len();
    let mut reader = BufReader::new(file.take(size));
    let is_first = path.ends_with(name(1));
    let mut tip = before.or(is_first.then(Tip::begin));
    let (mut len, mut bytes) = (0, Vec::new());
    loop {
        bytes.clear();
        let read = (&mut reader)
            .take(LINE_MAX_BYTES)
            .read_until(b'\n', &mut bytes)
            .map_err(SignerError::io(path))?;
        if bytes.last() != Some(&b'\n') {
            if read as u64 == LINE_MAX_BYTES {
                return Err(damaged(path, "a line is too long"));
            }
            break;
        }
        let text = &bytes[..read - 1];
        let line: Line = serde_json::from_slice(text)
            .map_err(|_| damaged(path, &format!("no line of ours at byte {len}")))?;
        let follows = tip
            .as_ref()
            .is_none_or(|tip| line.prev == tip.hash && line.n == tip.n + 1);
        if !follows {
            let what = format!("line {} does not follow the one before it", line.n);
            return Err(damaged(path, &what));
        }
        see(&line);
        len += read as u64;
        tip = Some(Tip {
            n: line.n,
            hash: hash(text),
        });
    }
    // An empty file that continues others, which are gone: whoever moved them took the last one too.
    let tip = tip.ok_or_else(|| damaged(path, "it is empty, and the file before it is gone"))?;
    Ok((tip, len))
}

fn read_tip(path: &Path) -> Result<Tip, SignerError> {
    let mut last = None;
    let file = File::open(path).map_err(SignerError::io(path))?;
    for line in BufReader::new(file).lines() {
        last = Some(line.map_err(SignerError::io(path))?);
    }
    let text = last.ok_or_else(|| damaged(path, "it is empty"))?;
    let line: Line =
        serde_json::from_str(&text).map_err(|_| damaged(path, "its last line is none of ours"))?;
    Ok(Tip {
        n: line.n,
        hash: hash(text.as_bytes()),
    })
}

impl Tip {
    fn begin() -> Self {
        Self {
            n: 0,
            hash: hex(&[0; 32]),
        }
    }
}

/// The numbers of the files that are there, in order.
fn segments(folder: &Path) -> Result<Vec<u64>, SignerError> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(SignerError::io(folder))? {
        let name = entry.map_err(SignerError::io(folder))?.file_name();
        let number = name.to_str().and_then(|name| {
            let number = name.strip_prefix(NAME_BEGIN)?.strip_suffix(NAME_END)?;
            number.parse().ok()
        });
        numbers.extend::<Option<u64>>(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn segment(folder: &Path, number: u64) -> PathBuf {
    folder.join(name(number))
}

fn name(number: u64) -> String {
    format!("{NAME_BEGIN}{number:06}{NAME_END}")
}

fn append(path: &Path) -> Result<File, SignerError> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(MODE);
    options.open(path).map_err(SignerError::io(path))
}

fn sync_folder(folder: &Path) -> Result<(), SignerError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(SignerError::io(folder))
}

fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn damaged(path: &Path, detail: &str) -> SignerError {
    SignerError::Damaged {
        path: path.into(),
        detail: detail.into(),
    }
}

fn not_written(detail: impl ToString) -> SignerError {
    SignerError::LogNotWritten {
        detail: detail.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    fn entry(number: u64) -> Entry {
        Entry::Crl {
            key: "m2key-issuing-1".into(),
            number,
            revoked: 0,
            digest: String::new(),
        }
    }

    fn written(folder: &Path, numbers: std::ops::Range<u64>) -> Result<(), SignerError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(async {
            let log = Log::open(folder)?;
            for number in numbers {
                log.write(7, entry(number)).await?;
            }
            Ok(())
        })
    }

    fn file(folder: &Path) -> PathBuf {
        segment(folder, 1)
    }

    #[test]
    fn a_log_goes_on_after_a_restart_and_every_line_follows_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 0..3).unwrap();
        written(dir.path(), 3..5).unwrap();
        let mut numbers = Vec::new();
        assert_eq!(read_all(dir.path(), |line| numbers.push(line.n)), Ok(5));
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_line_that_is_changed_taken_out_or_put_in_is_found() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 0..4).unwrap();
        let text = fs::read_to_string(file(dir.path())).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let changed = text.replacen("\"number\":1", "\"number\":9", 1);
        let without = [lines[0], lines[2], lines[3], ""].join("\n");
        let twice = [lines[0], lines[1], lines[1], lines[2], lines[3], ""].join("\n");
        for bad in [changed, without, twice] {
            fs::write(file(dir.path()), bad).unwrap();
            let refused = written(dir.path(), 4..5).unwrap_err();
            assert!(matches!(refused, SignerError::Damaged { .. }), "{refused}");
        }
    }

    #[test]
    fn a_line_that_a_crash_cut_off_is_removed_and_the_chain_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 0..3).unwrap();
        let text = fs::read(file(dir.path())).unwrap();
        let whole = text.iter().rposition(|byte| *byte == b'\n').unwrap();
        let last = text[..whole]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .unwrap()
            + 1;
        for cut in last..whole {
            fs::write(file(dir.path()), &text[..cut]).unwrap();
            written(dir.path(), 3..4).unwrap();
            assert_eq!(read_all(dir.path(), |_| {}), Ok(3), "cut at {cut}");
        }
    }

    #[test]
    fn a_full_disk_is_told_and_leaves_no_half_line() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", file(dir.path())).unwrap();
        let refused = written(dir.path(), 0..1).unwrap_err();
        assert!(
            matches!(refused, SignerError::LogNotWritten { .. }),
            "{refused}"
        );
    }

    #[test]
    fn older_files_may_be_archived_and_a_missing_one_between_is_not_invented() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 0..2).unwrap();
        let writer = Writer::open(dir.path()).unwrap();
        let mut writer = Writer {
            len: SEGMENT_MAX_BYTES,
            ..writer
        };
        let (done, _) = oneshot::channel();
        let job = Job {
            at: 7,
            entry: entry(2),
            done,
        };
        writer.write(&[job]).unwrap();
        assert_eq!(segments(dir.path()).unwrap(), [1, 2]);
        assert_eq!(read_all(dir.path(), |_| {}), Ok(3));
        fs::remove_file(file(dir.path())).unwrap();
        written(dir.path(), 3..4).unwrap();
        assert_eq!(read_all(dir.path(), |_| {}), Ok(2));
    }
}
