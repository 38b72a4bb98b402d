//! How much of the cores did programs have that are none of ours?
//!
//! Latencies of a machine that others keep busy are theirs. So it is told, and past a limit nothing is judged.

use std::io;
use std::path::Path;

/// Processor time since the machine started, in ticks.
#[derive(Clone, Copy)]
pub(crate) struct Ticks {
    /// Of all cores, idle or not.
    all: u64,
    busy: u64,
    /// Of this process and those that it started: a world's daemons are its children.
    ours: u64,
}

impl Ticks {
    pub(crate) fn now() -> io::Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let cores = stat.lines().next().unwrap_or_default();
        // user, nice, system, idle, waiting for disks, interrupts; what follows is part of them.
        let numbers = cores.split_whitespace().skip(1).take(8);
        let numbers: Vec<u64> = numbers.filter_map(|it| it.parse().ok()).collect();
        let all: u64 = numbers.iter().sum();
        let idle: u64 = numbers.iter().skip(3).take(2).sum();
        Ok(Self {
            all,
            busy: all - idle,
            ours: ours()?,
        })
    }

    /// The share of the cores that others had since then.
    pub(crate) fn others_since(self, before: Self) -> f64 {
        let busy = self.busy.saturating_sub(before.busy);
        // What a daemon had that has ended since is missing here, and counts as somebody else's.
        let others = busy.saturating_sub(self.ours.saturating_sub(before.ours));
        others as f64 / self.all.saturating_sub(before.all).max(1) as f64
    }
}

fn ours() -> io::Result<u64> {
    let own = std::process::id();
    let mut sum = 0;
    for entry in std::fs::read_dir("/proc")? {
        // Whoever ends while we look has no time to add.
        let Some((pid, parent, ticks)) = entry.ok().and_then(|it| process(&it.path())) else {
            continue;
        };
        if pid == own || parent == own {
            sum += ticks;
        }
    }
    Ok(sum)
}

/// Number, parent and ticks of the process whose directory this is.
fn process(dir: &Path) -> Option<(u32, u32, u64)> {
    let pid = dir.file_name()?.to_str()?.parse().ok()?;
    let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
    // Its name may hold anything, and ends with the last parenthesis.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
    Some((pid, number(1)? as u32, number(11)? + number(12)?))
}
