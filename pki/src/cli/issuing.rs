//! How does an issuing key come, rule and go?
//!
//! Asked of the running signer, at its administrator's socket.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use pki::signer::{AdminAnswer, AdminAsk, AdminStep, KeyView, ask_admin};
use pki::{PkiError, read_public};
use protocol::time::Timestamp;

use super::ask::Given;
use super::signer::SignerAt;
use super::{block_on, bug};

#[derive(Args)]
pub(crate) struct IssuingArguments {
    #[command(flatten)]
    at: SignerAt,
    #[command(subcommand)]
    verb: Issuing,
}

#[derive(Subcommand)]
enum Issuing {
    /// Every issuing key: state, certificate, dates, last revocation list
    List {
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the next issuing key in the HSM token, and print its request for the root
    Prepare(How),
    /// Print the request of the prepared issuing key again
    Request {
        /// Another key than the prepared one, e.g. for a certificate under a new root
        label: Option<String>,
    },
    /// Take the certificate that the root signed
    Install {
        /// What `m2key-pki root sign` wrote
        certificate: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// Issue under this key from now on; the one before is superseded
    Activate {
        /// The prepared one, if left out
        label: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// Believe nothing any more that this key issued
    Taint {
        /// As `issuing list` shows it
        label: String,
        #[command(flatten)]
        how: How,
    },
    /// Destroy a key that nobody needs any more
    Retire {
        /// As `issuing list` shows it
        label: String,
        #[command(flatten)]
        how: How,
    },
}

#[derive(Args)]
struct How {
    #[command(flatten)]
    given: Given,
    /// Say what would be done and who must consent, and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(arguments: IssuingArguments) -> Result<String, PkiError> {
    let config = arguments.at.load()?;
    let json = matches!(arguments.verb, Issuing::List { json: true });
    let ask = arguments.verb.ask()?;
    match block_on(ask_admin(&config.admin_socket(), ask))? {
        AdminAnswer::Keys(keys) if json => {
            let text = serde_json::to_string(&keys).map_err(|error| bug(&error.into()))?;
            Ok(text + "\n")
        }
        AdminAnswer::Keys(keys) if keys.is_empty() => {
            Ok("no issuing key yet: m2key-pki issuing prepare makes one\n".into())
        }
        AdminAnswer::Keys(keys) => Ok(keys.iter().map(in_words).collect()),
        AdminAnswer::Done { said, request } => Ok(tell(&said, request)),
    }
}

impl Issuing {
    fn ask(self) -> Result<AdminAsk, PkiError> {
        let (step, how) = match self {
            Self::List { .. } => return Ok(AdminAsk::List),
            Self::Request { label } => return Ok(AdminAsk::Request { label }),
            Self::Prepare(how) => (AdminStep::Prepare, how),
            Self::Install { certificate, how } => {
                let pem = read_public(&certificate)?;
                let certificate = String::from_utf8_lossy(&pem).into_owned();
                (AdminStep::Install { certificate }, how)
            }
            Self::Activate { label, how } => (AdminStep::Activate { label }, how),
            Self::Taint { label, how } => (AdminStep::Taint { label }, how),
            Self::Retire { label, how } => (AdminStep::Retire { label }, how),
        };
        Ok(AdminAsk::Step {
            step,
            dry_run: how.dry_run,
            transcript: how.given.read()?,
        })
    }
}

/// A request alone goes to standard output, so that it can go on into a file.
fn tell(said: &[String], request: Option<String>) -> String {
    match request {
        None => said.join("\n") + "\n",
        Some(request) => {
            for sentence in said {
                eprintln!("{sentence}");
            }
            request
        }
    }
}

fn in_words(key: &KeyView) -> String {
    let mut text = format!(
        "{}\n  state        {}, since {}\n  key id       {}\n  made         {}\n",
        key.label,
        key.state,
        at(key.changed_at),
        key.key_id,
        at(key.made_at),
    );
    match &key.certificate {
        Some(it) => text.push_str(&format!(
            "  certificate  serial {}, from {} to {}\n  root         {}\n",
            it.serial,
            at(it.not_before),
            at(it.not_after),
            it.root,
        )),
        None => text.push_str("  certificate  none yet\n"),
    }
    if key.crl_number > 0 {
        text.push_str(&format!("  last list    number {}\n", key.crl_number));
    }
    for it in &key.consents {
        let (step, words) = (&it.step, it.warrant.words());
        text.push_str(&format!(
            "  consents     {step} at {}: {words}\n",
            at(it.at)
        ));
    }
    text
}

fn at(unix: u64) -> Timestamp {
    Timestamp::from_secs(i64::try_from(unix).unwrap_or(i64::MAX / 1000))
}
