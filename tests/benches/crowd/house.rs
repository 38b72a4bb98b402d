//! Where do the few and the crowd live?

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use authority::store::Retention;
use authority::store::postgres::{self, PostgresOptions, PostgresPlace};
use own_postgres::{Cluster, Durability};
use protocol::ids::{TERMINAL_NUMBERS, TerminalId};
use rusqlite::Connection;

use super::engine::Engine;
use super::fill::{DAY_EPOCHS, DAYS, Fill, HOUR_MS};
use super::itself::{self, succeeds};
use super::moved::{self, STORE, place_of};
use super::sizes::Sizes;
use super::{BANK, ENROL, Fault, NUMBER, WORLD};

const FEW: &str = "few";
const CROWD: &str = "crowd";
/// What a database server of this size is given; Debian's own settings are for a machine of last century.
const SETTINGS: [&str; 4] = [
    "shared_buffers = '1GB'",
    "max_wal_size = '8GB'",
    "maintenance_work_mem = '512MB'",
    "checkpoint_timeout = '30min'",
];

/// The homes before anything is measured: nobody has them open.
pub(crate) struct House<'a> {
    place: &'a Path,
    bank: &'a str,
    sizes: &'a Sizes,
    /// Numbers that no terminal has, drawn at random, in their order.
    free: Vec<u32>,
}

/// A process each over few and crowd.
pub(crate) struct Twins {
    pub(crate) few: Asked,
    pub(crate) crowd: Asked,
    /// On the disk, before anything was measured.
    pub(crate) bytes: [u64; 2],
    /// Ends after them.
    server: Option<Cluster>,
    homes: [PathBuf; 2],
}

/// A process that measures.
pub(crate) struct Asked {
    child: Child,
    say: Option<ChildStdin>,
    hear: BufReader<ChildStdout>,
}

impl<'a> House<'a> {
    pub(crate) fn make(place: &'a Path, bank: &'a str, sizes: &'a Sizes) -> Result<Self, Fault> {
        let few = place.join(FEW);
        itself::make(&few)?;
        let mut house = Self {
            place,
            bank,
            sizes,
            free: Vec::new(),
        };
        eprintln!("{} terminals are added, then {}", sizes.few, sizes.sample);
        house.enrol(FEW, sizes.few)?;
        copy(&few, &place.join(CROWD))?;
        house.enrol(CROWD, sizes.sample)?;
        house.free = house.draw()?;
        Ok(house)
    }

    pub(crate) fn on_sqlite(&self, now_ms: i64) -> Result<Twins, Fault> {
        let homes = self.copies("sqlite")?;
        let engine = Engine::sqlite(&homes[1].join(STORE))?;
        self.fill(&engine, now_ms)?;
        let small = Engine::sqlite(&homes[0].join(STORE))?;
        let bytes = [small.bytes()?, engine.bytes()?];
        drop((small, engine));
        self.twins(&homes, bytes, None)
    }

    pub(crate) fn on_postgres(&self, now_ms: i64) -> Result<Twins, Fault> {
        let homes = self.copies("postgres")?;
        let cluster = Cluster::start(Durability::Full);
        for setting in SETTINGS {
            cluster.sql("postgres", &format!("ALTER SYSTEM SET {setting}"));
        }
        cluster.kill();
        cluster.start_again();
        for (home, database) in homes.iter().zip([FEW, CROWD]) {
            moved::to(home, &cluster, database)?;
        }
        let engine = Engine::postgres(&cluster, CROWD);
        make_days(place_of(&cluster, CROWD), now_ms)?;
        self.fill(&engine, now_ms)?;
        let small = Engine::postgres(&cluster, FEW);
        small.settle()?;
        let bytes = [small.bytes()?, engine.bytes()?];
        drop((small, engine));
        self.twins(&homes, bytes, Some(cluster))
    }

    fn fill(&self, engine: &Engine<'_>, now_ms: i64) -> Result<(), Fault> {
        let fill = Fill {
            engine,
            sizes: self.sizes,
            now_ms,
        };
        fill.fill(&self.free)
    }

    fn twins(
        &self,
        homes: &[PathBuf; 2],
        bytes: [u64; 2],
        server: Option<Cluster>,
    ) -> Result<Twins, Fault> {
        let open = |home: &PathBuf| Asked::open(self.own(WORLD, home, self.sizes.few)?);
        Ok(Twins {
            few: open(&homes[0])?,
            crowd: open(&homes[1])?,
            bytes,
            server,
            homes: homes.clone(),
        })
    }

    fn enrol(&self, name: &str, terminals: u32) -> Result<(), Fault> {
        let home = self.place.join(name);
        succeeds(&mut self.own(ENROL, &home, terminals)?)?;
        // All of it lies in one file, which can be copied.
        let store = Connection::open(home.join(STORE))?;
        Ok(store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }

    /// All homes have one HSM token, which lies in the first.
    fn own(&self, role: &str, home: &Path, number: u32) -> Result<Command, Fault> {
        let mut command = itself::again(role, home, &self.place.join(FEW))?;
        command.env(BANK, self.bank);
        command.env(NUMBER, number.to_string());
        Ok(command)
    }

    fn copies(&self, engine: &str) -> Result<[PathBuf; 2], Fault> {
        let homes = [FEW, CROWD].map(|name| self.place.join(format!("{name}-{engine}")));
        for (home, name) in homes.iter().zip([FEW, CROWD]) {
            copy(&self.place.join(name), home)?;
        }
        Ok(homes)
    }

    fn draw(&self) -> Result<Vec<u32>, Fault> {
        let measured = std::fs::read_to_string(self.place.join(CROWD).join("measured"))?;
        let taken: HashSet<u32> = measured
            .lines()
            .map(|it| Ok(it.parse::<TerminalId>()?.value()))
            .collect::<Result<_, Fault>>()?;
        let wanted = self.sizes.terminals.saturating_sub(taken.len() as u32) as usize;
        let mut drawn = HashSet::with_capacity(wanted);
        let mut bytes = vec![0; 4 * 65_536];
        while drawn.len() < wanted {
            getrandom::fill(&mut bytes)?;
            for draw in bytes.chunks_exact(4) {
                let [a, b, c, d] = [draw[0], draw[1], draw[2], draw[3]];
                let number = u32::from_be_bytes([a, b, c, d]) % TERMINAL_NUMBERS;
                let id = TerminalId::from_number(number)?.value();
                if !taken.contains(&id) && drawn.len() < wanted {
                    drawn.insert(id);
                }
            }
        }
        let mut free: Vec<u32> = drawn.into_iter().collect();
        free.sort_unstable();
        Ok(free)
    }
}

/// As the retention job has made them, day by day, since the first that is kept.
fn make_days(place: PostgresPlace, now_ms: i64) -> Result<(), Fault> {
    let runtime = itself::runtime()?;
    runtime.block_on(async {
        let store = postgres::open(PostgresOptions::new("days", place))?;
        let today = u32::try_from(now_ms / HOUR_MS)?;
        let first = today - (DAYS + 1) * DAY_EPOCHS;
        while store.make_day(first, DAYS + 3).await? {}
        Ok(())
    })
}

impl Twins {
    /// Ends both, and takes what they have off the disk: the next database needs the room.
    pub(crate) fn clear(self) -> Result<(), Fault> {
        drop((self.few, self.crowd, self.server));
        for home in self.homes {
            std::fs::remove_dir_all(home)?;
        }
        Ok(())
    }

    /// What the server's processes have between them, in bytes.
    pub(crate) fn server_memory(&self) -> Result<Option<u64>, Fault> {
        let Some(server) = &self.server else {
            return Ok(None);
        };
        let data = std::fs::canonicalize(server.socket().join("data"))?;
        let mut sum = 0;
        for entry in std::fs::read_dir("/proc")? {
            let process = entry?.path();
            let is_theirs = std::fs::read_link(process.join("cwd")).is_ok_and(|it| it == data);
            if is_theirs && let Ok(text) = std::fs::read_to_string(process.join("smaps_rollup")) {
                sum += kilobytes(&text, "Pss:")?;
            }
        }
        Ok(Some(sum))
    }
}

impl Asked {
    fn open(mut command: Command) -> Result<Self, Fault> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let hear = child.stdout.take().ok_or("its output is piped")?;
        let mut opened = Self {
            say: child.stdin.take(),
            hear: BufReader::new(hear),
            child,
        };
        match opened.line()?.as_str() {
            "ready" => Ok(opened),
            other => Err(format!("it does not open: {other}").into()),
        }
    }

    /// How much of this is done a second.
    pub(crate) fn rate(&mut self, what: &str) -> Result<f64, Fault> {
        let say = self.say.as_mut().ok_or("it is over")?;
        writeln!(say, "{what}")?;
        Ok(self.line()?.parse()?)
    }

    /// Resident, in bytes.
    pub(crate) fn memory(&self) -> Result<u64, Fault> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        kilobytes(&status, "VmRSS:")
    }

    fn line(&mut self) -> Result<String, Fault> {
        let mut line = String::new();
        match self.hear.read_line(&mut line)? {
            0 => Err("a process that measures has ended".into()),
            _ => Ok(line.trim().to_owned()),
        }
    }
}

impl Drop for Asked {
    /// The end of its input is its end.
    fn drop(&mut self) {
        drop(self.say.take());
        let _ = self.child.wait();
    }
}

fn kilobytes(text: &str, name: &str) -> Result<u64, Fault> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|it| it.split_whitespace().next());
    let kilobytes: u64 = number.ok_or("a process without memory")?.parse()?;
    Ok(kilobytes * 1024)
}

fn copy(from: &Path, to: &Path) -> Result<(), Fault> {
    succeeds(Command::new("cp").arg("-a").arg(from).arg(to))
}
