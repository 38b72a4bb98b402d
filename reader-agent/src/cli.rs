//! What can be asked of the agent on the command line?

use std::fs;
use std::path::{Path, PathBuf};

mod doctor;
#[cfg(windows)]
mod service;
mod status;
mod tag;
mod till;

use clap::{Parser, Subcommand};
use pki::manager::Manager;
use pki::{Fingerprint, SoftwareKey};
use zeroize::Zeroizing;

use crate::authority::enrol::{self, JoinToken};
use crate::config::{CONFIG_FILE, Config, check_authority};
use crate::error::{AgentError, Whose};
use crate::files::Secret;
use crate::identity::{CHAIN_FILE, Identity, KEY_FILE};
use crate::look::Theme;
use crate::{app, clock, files, logging, platform};

/// Shows the token of the moment at one terminal: tag, screen and till.
#[derive(Parser)]
#[command(name = "m2key-agent", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make this machine a terminal: check the authority, make a key, get a certificate.
    Enrol(Enrol),
    /// Run the agent until it is told to stop.
    Run(At),
    /// Run as a service of Windows; only its service manager can ask for this.
    #[cfg(windows)]
    Service(At),
    /// Say how the running agent is: screen, connection, certificate, trusted roots, tag.
    Status(Status),
    /// Look for what is wrong here, whether the agent runs or not, and say who does what about it.
    Doctor(Status),
    /// Print the address that opens this terminal's screen.
    KioskUrl(At),
    /// Show the running agent's screen in this terminal window, for a PC without a browser.
    Screen(At),
    /// Check a configuration, and the theme it names, without starting anything.
    CheckConfig(At),
    /// Make the tag on the reader this terminal's, see how it is, or make it as it was delivered.
    #[command(subcommand)]
    Tag(tag::TagCommand),
    /// For whoever connects a till: its interface described, its secret made anew.
    #[command(subcommand)]
    Till(till::TillCommand),
}

#[derive(clap::Args)]
struct Enrol {
    /// Directory for configuration, key and data; it must not hold a terminal yet.
    #[arg(long)]
    dir: PathBuf,
    /// The authority's listener for terminals: `https://host:port`.
    #[arg(long)]
    authority: String,
    /// Fingerprint of the root certificate, as the operator of the authority tells it.
    #[arg(long)]
    root_fingerprint: String,
    /// File with the one-time join token (m2j-…).
    #[arg(long)]
    join_token_file: PathBuf,
    /// Never ask; fail instead. (Nothing is asked today, so this changes nothing.)
    #[arg(long)]
    non_interactive: bool,
}

#[derive(clap::Args)]
struct At {
    /// The configuration that enrolment wrote.
    #[arg(long, default_value = platform::CONFIG_PATH)]
    config: PathBuf,
}

#[derive(clap::Args)]
struct Status {
    #[command(flatten)]
    at: At,
    /// Print the whole report as JSON instead of words.
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub async fn run(cli: Cli) -> Result<(), AgentError> {
    match cli.command {
        Command::Enrol(args) => enrol(args).await,
        Command::Run(at) => {
            platform::forbid_core_dumps().map_err(|error| {
                let hint = "let this account lower its own limits (setrlimit, prctl)";
                AgentError::operator(format!("core dumps cannot be switched off ({error})"), hint)
            })?;
            let config = Config::load(&at.config)?;
            logging::start(config.log);
            app::run(config, manager()?, platform::told_to_stop()).await
        }
        #[cfg(windows)]
        Command::Service(_) => service::dispatch(),
        Command::Status(args) => status::say(&Config::load(&args.at.config)?, args.json).await,
        Command::Doctor(args) => doctor::examine(&args.at.config, args.json).await,
        Command::KioskUrl(at) => {
            println!("{}", app::kiosk_url(&Config::load(&at.config)?)?);
            Ok(())
        }
        Command::Screen(at) => screen(&Config::load(&at.config)?).await,
        Command::CheckConfig(at) => {
            let config = Config::load(&at.config)?;
            let theme = config.screens.theme_file.as_deref();
            theme.map(Theme::load).transpose()?;
            println!(
                "{}: sound, terminal {}",
                at.config.display(),
                config.terminal
            );
            Ok(())
        }
        Command::Tag(command) => tag::run(command).await,
        Command::Till(command) => till::run(command),
    }
}

#[cfg(unix)]
async fn screen(config: &Config) -> Result<(), AgentError> {
    crate::tty::run(config).await
}

#[cfg(not(unix))]
async fn screen(_: &Config) -> Result<(), AgentError> {
    Err(AgentError::usage(
        "there is no screen for terminal windows on this system",
        "open the page instead: m2key-agent kiosk-url",
    ))
}

fn manager() -> Result<Manager, AgentError> {
    Manager::of_environment().map_err(|error| {
        AgentError::operator(
            format!("the service manager at NOTIFY_SOCKET cannot be told anything ({error})"),
            "start the agent by the unit that came with it, or without NOTIFY_SOCKET",
        )
    })
}

async fn enrol(args: Enrol) -> Result<(), AgentError> {
    check_authority(&args.authority).map_err(|f| AgentError::usage(&f, f.hint))?;
    let fingerprint: Fingerprint = args.root_fingerprint.parse().map_err(|error| {
        AgentError::usage(
            format!("--root-fingerprint: {error}"),
            "copy all 64 hexadecimal digits that the operator gave you",
        )
    })?;
    let join = join_token(&args.join_token_file)?;
    let dir = &args.dir;
    platform::make_private_dir(dir).map_err(|e| AgentError::file(dir, &e))?;
    refuse_second(dir)?;
    let key = enrolment_key(dir)?;
    println!(
        "asking {} for a certificate of terminal {}",
        args.authority, join.terminal
    );
    let enrolled = enrol::enrol(&args.authority, fingerprint, &join, &key, clock::wall()).await?;
    let config = Config::text(args.authority.trim_end_matches('/'), join.terminal);
    files::write_new(&dir.join(CONFIG_FILE), config.as_bytes())?;
    for name in [app::KIOSK_SECRET, app::TILL_SECRET] {
        Secret::load_or_make(&dir.join(name))?;
    }
    Identity::save(dir, &key, &enrolled)?;
    let at = dir.display();
    println!(
        "terminal {} is enrolled; its files are in {at}",
        join.terminal
    );
    println!(
        "till:  give {at}/{} to the till's software",
        app::TILL_SECRET
    );
    println!("next:  m2key-agent run --config {at}/{CONFIG_FILE}");
    Ok(())
}

fn join_token(path: &Path) -> Result<JoinToken, AgentError> {
    let text = fs::read_to_string(path).map_err(|e| AgentError::file(path, &e))?;
    JoinToken::parse(&Zeroizing::new(text)).ok_or_else(|| {
        AgentError::new(
            Whose::Asker,
            format!("{}: not a join token (m2j-…)", path.display()),
            "copy the whole line that the operator gave you into this file",
        )
    })
}

/// The certificate is written last: without it an enrolment was cut off, and is done again.
fn refuse_second(dir: &Path) -> Result<(), AgentError> {
    if dir.join(CHAIN_FILE).exists() {
        return Err(AgentError::new(
            Whose::Asker,
            format!("{} holds an enrolled terminal already", dir.display()),
            "choose another directory, or move this one away if the terminal is to be enrolled again",
        ));
    }
    Ok(())
}

/// The key of an enrolment that was cut off is used again.
fn enrolment_key(dir: &Path) -> Result<SoftwareKey, AgentError> {
    let path = dir.join(KEY_FILE);
    if path.exists() {
        return Ok(SoftwareKey::load(&path)?);
    }
    let key = SoftwareKey::generate()?;
    key.save(&path)?;
    Ok(key)
}
