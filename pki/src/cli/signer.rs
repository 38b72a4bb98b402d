//! How does the issuing CA run in a process of its own?

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use hsm::{Hsm, KeyReport, Requirement};
use pki::manager::Manager;
use pki::signer::{
    AdminAnswer, AdminAsk, Clock, Doors, LogFormat, Signer, SignerConfig, SignerError, SignerLock,
    ask_admin, read_log,
};
use pki::{PkiError, process};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use super::{block_on, bug};
use crate::clock;

#[derive(Args)]
pub(crate) struct SignerArguments {
    #[command(flatten)]
    at: SignerAt,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// Which signer.
#[derive(Args)]
pub(crate) struct SignerAt {
    /// The signer's configuration
    #[arg(
        long,
        global = true,
        env = "M2KEY_SIGNER_CONFIG",
        hide_env_values = true,
        default_value = "/etc/m2key/signer/signer.toml"
    )]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Verb {
    /// Look at configuration, HSM token, keys and log, and say everything that is wrong
    Check,
}

impl SignerAt {
    pub(crate) fn load(&self) -> Result<SignerConfig, PkiError> {
        SignerConfig::load(&self.config)
    }

    /// In a process that may open the HSM token: with the module's environment.
    fn load_for_hsm(&self) -> Result<SignerConfig, PkiError> {
        let config = self.load()?;
        let environment = &config.hsm.environment;
        process::ensure_environment(environment)
            .map_err(|error| SignerError::Configuration(error.to_string()))?;
        Ok(config)
    }
}

pub(crate) fn run(arguments: SignerArguments) -> Result<String, PkiError> {
    let config = arguments.at.load_for_hsm()?;
    match arguments.verb {
        None => serve(config),
        Some(Verb::Check) => check(&config),
    }
}

/// Serves until SIGTERM or SIGINT.
fn serve(config: SignerConfig) -> Result<String, PkiError> {
    start_logging(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.map_err(|error| bug(&error))?.block_on(async {
        let _lock = SignerLock::take(&config.state_dir)?;
        let signer = open(&config).await?;
        let doors = Doors::bind(&config)?;
        let mut signals = Signals::catch()?;
        let (stop, stopped) = watch::channel(false);
        tracing::info!(socket = %config.socket().display(), "serving");
        let serving = tokio::spawn(doors.serve(Arc::new(signer), stopped));
        let manager = Manager::of_environment();
        let manager = manager
            .map_err(|error| SignerError::Configuration(format!("NOTIFY_SOCKET: {error}")))?;
        manager.ready();
        signals.wait().await;
        manager.stopping();
        tracing::info!("stopping");
        stop.send_replace(true);
        serving.await.map_err(|error| bug(&error.into()))?;
        Ok(String::new())
    })
}

async fn open(config: &SignerConfig) -> Result<Signer, PkiError> {
    let hsm = Arc::new(config.open_hsm()?);
    Signer::open(config, hsm, Arc::new(SystemClock)).await
}

fn start_logging(config: &SignerConfig) -> Result<(), PkiError> {
    use std::io::IsTerminal;
    let wrong = |error: String| SignerError::Configuration(format!("log.filter: {error}"));
    let filter = EnvFilter::try_new(&config.log.filter).map_err(|e| wrong(e.to_string()))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match config.log.format {
        LogFormat::Human => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    Ok(started.map_err(|error| wrong(error.to_string()))?)
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        clock::now()
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> Result<Self, PkiError> {
        let caught = |kind| signal(kind).map_err(|error| bug(&error));
        Ok(Self {
            terminate: caught(SignalKind::terminate())?,
            interrupt: caught(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A stopped signer is opened and looked at; a running one is asked.
fn check(config: &SignerConfig) -> Result<String, PkiError> {
    let lines = match SignerLock::take(&config.state_dir) {
        Ok(_lock) => block_on(check_stopped(config))?,
        Err(PkiError::Signer(SignerError::Locked(_))) => block_on(check_running(config))?,
        Err(error) => return Err(error),
    };
    let wrong = lines.iter().any(|line| !line.starts_with("ok "));
    let text = lines.join("\n") + "\n";
    match wrong {
        false => Ok(text),
        true => {
            print!("{text}");
            Err(SignerError::NotAsItMustBe.into())
        }
    }
}

async fn check_running(config: &SignerConfig) -> Result<Vec<String>, PkiError> {
    let mut lines = vec!["ok       it runs".to_owned()];
    if let AdminAnswer::Keys(keys) = ask_admin(&config.admin_socket(), AdminAsk::List).await? {
        lines.extend(
            keys.iter()
                .map(|k| format!("ok       {} is {}", k.label, k.state)),
        );
    }
    lines.push(log_line(config)?);
    Ok(lines)
}

async fn check_stopped(config: &SignerConfig) -> Result<Vec<String>, PkiError> {
    let hsm = Arc::new(config.open_hsm()?);
    let requirements = hsm.check().await?;
    let mut lines: Vec<String> = requirements.iter().map(requirement_line).collect();
    lines.extend(hsm.inventory().await?.iter().map(key_line));
    // Reads the state, compares every key with its certificate, and opens the log.
    Signer::open(config, hsm, Arc::new(SystemClock)).await?;
    lines.push("ok       every issuing key fits its certificate".into());
    lines.push(log_line(config)?);
    Ok(lines)
}

fn requirement_line(requirement: &Requirement) -> String {
    let (name, needed_for) = (requirement.name, requirement.needed_for);
    match &requirement.missing {
        None => format!("ok       {name} ({needed_for})"),
        Some(why) => format!("MISSING  {name} ({needed_for}): {why}"),
    }
}

fn key_line(key: &KeyReport) -> String {
    match key.findings.as_slice() {
        [] => format!("ok       key {}", key.label.0),
        findings => format!("WRONG    key {}: {}", key.label.0, findings.join("; ")),
    }
}

fn log_line(config: &SignerConfig) -> Result<String, PkiError> {
    let lines = read_log(config, |_| {})?;
    Ok(format!("ok       the log is whole: {lines} lines"))
}
