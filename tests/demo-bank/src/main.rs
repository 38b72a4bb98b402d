//! What does `demo-bank` do? Reads its configuration and keeps the bank open until SIGINT.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use demo_bank::{Bank, Config, Tls, serve};

/// A demo bank: signs shoppers in with an access token and publishes the key that verifies it.
#[derive(Parser)]
#[command(name = "demo-bank")]
struct Arguments {
    /// The bank's TOML file; paths in it start at its folder
    #[arg(long)]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}\nhint: compare with tests/demo-bank/demo-bank.toml");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let bank = Bank::open(load(&arguments.config)?)?;
    let interrupted = async {
        // Without signals the process is simply killed.
        let _ = tokio::signal::ctrl_c().await;
    };
    Ok(serve(bank, interrupted).await?)
}

fn load(path: &Path) -> Result<Config, Box<dyn std::error::Error>> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // What the TOML reader says without repeating the file: passwords are in it.
    let mut config: Config = toml::from_str(&text)
        .map_err(|error| format!("{}: {}", path.display(), error.message()))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    config.tls = config.tls.map(|tls| Tls {
        certificate: folder.join(tls.certificate),
        key: folder.join(tls.key),
    });
    if let Some(rail) = &mut config.rail {
        if !rail.authority_keys.starts_with("https://") {
            let file = folder.join(&rail.authority_keys);
            rail.authority_keys = file.display().to_string();
        }
        rail.books = folder.join(&rail.books);
        rail.authority_ca = rail.authority_ca.take().map(|path| folder.join(path));
        rail.mishaps = rail.mishaps.take().map(|path| folder.join(path));
    }
    Ok(config)
}
