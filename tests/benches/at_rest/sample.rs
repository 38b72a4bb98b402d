//! What does the kernel say that a process holds and has spent?

use std::io;
use std::path::Path;
use std::time::Duration;

/// One look at a process.
pub(crate) struct Sample {
    resident_kb: u64,
    proportional_kb: u64,
    private_kb: u64,
    threads: usize,
    cpu_ns: u64,
    /// Times that a thread went to sleep by itself, and so was woken.
    sleeps: u64,
}

/// Between two looks; memory as it is at the second.
pub(crate) struct Spent {
    pub(crate) resident_mb: f64,
    pub(crate) proportional_mb: f64,
    pub(crate) private_mb: f64,
    pub(crate) threads: usize,
    pub(crate) cpu_ms: f64,
    pub(crate) wakes_per_s: f64,
}

impl Sample {
    /// Of the process whose directory in /proc this is.
    pub(crate) fn of(process: &Path) -> io::Result<Self> {
        let memory = std::fs::read_to_string(process.join("smaps_rollup"))?;
        let mut sample = Self {
            resident_kb: field(&memory, "Rss:")?,
            proportional_kb: field(&memory, "Pss:")?,
            private_kb: field(&memory, "Private_Dirty:")? + field(&memory, "Private_Clean:")?,
            threads: 0,
            cpu_ns: 0,
            sleeps: 0,
        };
        for thread in std::fs::read_dir(process.join("task"))? {
            let thread = thread?.path();
            let times = std::fs::read_to_string(thread.join("schedstat"))?;
            let status = std::fs::read_to_string(thread.join("status"))?;
            sample.threads += 1;
            sample.cpu_ns += number(times.split_whitespace().next())?;
            sample.sleeps += field(&status, "voluntary_ctxt_switches:")?;
        }
        Ok(sample)
    }
}

impl Spent {
    pub(crate) fn between(before: &Sample, after: &Sample, watched: Duration) -> Self {
        let mb = |kb: u64| kb as f64 / 1024.0;
        let cpu_ns = after.cpu_ns.saturating_sub(before.cpu_ns);
        let sleeps = after.sleeps.saturating_sub(before.sleeps);
        Self {
            resident_mb: mb(after.resident_kb),
            proportional_mb: mb(after.proportional_kb),
            private_mb: mb(after.private_kb),
            threads: after.threads,
            cpu_ms: cpu_ns as f64 / 1_000_000.0,
            wakes_per_s: sleeps as f64 / watched.as_secs_f64(),
        }
    }
}

fn field(text: &str, name: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    number(line.and_then(|rest| rest.split_whitespace().next()))
}

fn number(text: Option<&str>) -> io::Result<u64> {
    let number = text.and_then(|text| text.parse().ok());
    number.ok_or_else(|| io::Error::other("/proc says something else than expected"))
}
