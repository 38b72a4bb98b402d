//! What can be asked of the agent on the command line?

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use pki::{Fingerprint, SoftwareKey};
use zeroize::Zeroizing;

use crate::authority::enrol::{self, JoinToken};
use crate::config::{CONFIG_FILE, Config, check_authority};
use crate::error::{AgentError, Whose};
use crate::files::Secret;
use crate::identity::{CHAIN_FILE, Identity, KEY_FILE};
use crate::look::Theme;
use crate::{app, clock, files, logging, platform};

mod tag;

/// How long `status` waits for the running agent.
const STATUS_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

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
    /// Say how the running agent is: screen, connection, certificate, trusted roots.
    Status(Status),
    /// Print the address that opens this terminal's screen.
    KioskUrl(At),
    /// Show the running agent's screen in this terminal window, for a PC without a browser.
    Screen(At),
    /// Check a configuration, and the theme it names, without starting anything.
    CheckConfig(At),
    /// Make the tag on the reader this terminal's, see how it is, or make it as it was delivered.
    #[command(subcommand)]
    Tag(tag::TagCommand),
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
    #[arg(long, default_value = "/etc/m2key/agent.toml")]
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
            app::run(config).await
        }
        Command::Status(args) => status(&Config::load(&args.at.config)?, args.json).await,
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

async fn status(config: &Config, json: bool) -> Result<(), AgentError> {
    let down = |detail: String| {
        AgentError::new(
            Whose::Later,
            format!("the agent does not answer ({detail})"),
            "start it: m2key-agent run --config <file>",
        )
    };
    let path = config.data_dir.join(app::KIOSK_ADDRESS);
    let address = fs::read_to_string(path).map_err(|e| down(e.to_string()))?;
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_backend_preconfigured(crate::authority::tls::none()?)
        .timeout(STATUS_TIMEOUT)
        .build()
        .map_err(AgentError::bug)?;
    let url = format!("http://{}/ready", address.trim());
    let response = client
        .get(url)
        .send()
        .await
        .map_err(|e| down(e.to_string()))?;
    let ready = response.status().is_success();
    let report: serde_json::Value = response.json().await.map_err(|e| down(e.to_string()))?;
    match json {
        true => println!("{report:#}"),
        false => print!("{}", in_words(&report)),
    }
    if ready {
        return Ok(());
    }
    Err(AgentError::operator(
        "this terminal cannot take payments at the moment",
        "see the problems above; each says what to do",
    ))
}

fn in_words(report: &serde_json::Value) -> String {
    let mut lines = Vec::new();
    for (name, value) in [
        ("terminal", &report["terminal"]),
        ("shown", &report["shown"]),
        ("online", &report["online"]),
        ("certificate", &report["certificate"]["serial"]),
        ("  until", &report["certificate"]["until"]),
        ("  renewed from", &report["certificate"]["renewed_from"]),
        ("  being renewed", &report["certificate"]["is_renewing"]),
        ("trust bundle", &report["trust"]["sequence"]),
    ] {
        lines.push(format!("{name}: {}", plain(value)));
    }
    for (name, values) in [
        ("  root", &report["trust"]["roots"]),
        ("problem", &report["problems"]),
        ("warning", &report["warnings"]),
    ] {
        let values = values.as_array().into_iter().flatten();
        lines.extend(values.map(|value| format!("{name}: {}", plain(value))));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Bool(true) => "yes".into(),
        serde_json::Value::Bool(false) => "no".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_says_certificate_renewal_roots_and_what_is_wrong_in_words() {
        let report = serde_json::json!({
            "ready": false, "terminal": "12345671", "shown": "offline", "online": false,
            "certificate": {
                "serial": "0a1b", "from": "2026-11-20", "until": "2026-11-27",
                "renewed_from": "2026-11-23", "is_renewing": true,
            },
            "trust": { "sequence": 3, "roots": ["3f9a 01c2 until 2046"] },
            "problems": [], "warnings": ["Upkeep: the authority cannot be reached"],
        });
        let said = in_words(&report);
        for line in [
            "terminal: 12345671",
            "online: no",
            "certificate: 0a1b",
            "  until: 2026-11-27",
            "  renewed from: 2026-11-23",
            "  being renewed: yes",
            "trust bundle: 3",
            "  root: 3f9a 01c2 until 2046",
            "warning: Upkeep: the authority cannot be reached",
        ] {
            assert!(said.lines().any(|said| said == line), "{line} in\n{said}");
        }
    }
}
