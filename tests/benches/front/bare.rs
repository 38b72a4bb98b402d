//! What are an epoch key and a signature in bare loops, on the HSM token of the authority that is measured?

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use authority::app::open;
use authority::config::Config;
use harness::Failure;
use harness::authority::Authority;
use hsm::bare::BindingMac;
use hsm::{HsmError, Module, Pin, Priority, SealedSeed};

use super::itself::{self, Fault};

/// What this program is started for, to be one.
pub(crate) const ROLE: &str = "bare";
const SPAN: Duration = Duration::from_millis(500);
/// As long as the input of an epoch key.
const MESSAGE: [u8; 34] = [7; 34];

/// A process that answers each line with [`Rates`].
pub(crate) struct Bare {
    process: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Per second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) epoch_keys: f64,
    pub(crate) signatures: f64,
}

impl Bare {
    /// Of this authority, which must not run yet: its store is looked into.
    pub(crate) fn start(authority: &Authority) -> Result<Self, Failure> {
        let home = authority.file(".");
        let mut again = itself::again(ROLE, &home, &home).map_err(Failure::of(ROLE))?;
        let mut process = again.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (asks, answers) = (process.stdin.take(), process.stdout.take());
        let mut bare = Self {
            asks: asks.ok_or_else(|| Failure::new("no line to it"))?,
            answers: BufReader::new(answers.ok_or_else(|| Failure::new("no line from it"))?),
            process,
        };
        bare.rates()?;
        Ok(bare)
    }

    pub(crate) fn rates(&mut self) -> Result<Rates, Failure> {
        writeln!(self.asks, "again")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let mut numbers = line.split_whitespace().map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(epoch_keys)), Some(Ok(signatures))) => Ok(Rates {
                epoch_keys,
                signatures,
            }),
            _ => Err(Failure::new(format!("no rates, but {line:?}"))),
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It has nothing to put away.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The process itself: until there are no more lines.
pub(crate) fn obey() -> Result<(), Fault> {
    let (token, sealed) = itself::runtime()?.block_on(look())?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let messages = [MESSAGE.to_vec()];
        let epoch_keys = rate(|| token.epoch_keys(&sealed, BindingMac::Known, &messages))?;
        let signatures = rate(|| token.sign(&[7; 32]))?;
        println!("{epoch_keys} {signatures}");
    }
    Ok(())
}

/// The authority's keys, and a seed like a terminal's.
async fn look() -> Result<(hsm::bare::Bare, SealedSeed), Fault> {
    let config = Config::load(&itself::home()?.join("authority.toml"))?;
    let at = config.hsm.first().clone();
    let app = open(config).await?;
    let ring = app.keyring();
    let context = vec![0; 64];
    let sealed = app
        .hsm
        .seal_new_seed(ring.sealing(), context, Priority::Payment)
        .await?;
    // The store is the daemon's from here on.
    drop(app);
    let (module, pin) = (Module::load(&at.module)?, Pin::from_file(&at.pin_file)?);
    let (sealing, signing) = (ring.sealing(), &ring.schedule().label);
    let token = hsm::bare::Bare::open(&module, &at.label, &pin, sealing, signing)?;
    Ok((token, sealed))
}

fn rate(mut step: impl FnMut() -> Result<usize, HsmError>) -> Result<f64, HsmError> {
    let (start, mut done) = (Instant::now(), 0);
    while start.elapsed() < SPAN {
        step()?;
        done += 1;
    }
    Ok(f64::from(done) / start.elapsed().as_secs_f64())
}
