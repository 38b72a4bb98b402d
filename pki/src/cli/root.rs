//! How is the root made and used, on a machine that is on no network?

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use pki::crl::Reason;
use pki::inspect::Against;
use pki::profiles::CrlBase;
use pki::root::{Ceremony, CrlWish};
use pki::{PkiError, read_public, refuse_taken, write_new};

use super::ask::{Confirm, Given};
use super::block_on;
use super::key::KeyArguments;
use crate::clock;

#[derive(Subcommand)]
pub(crate) enum Root {
    /// Make the key and the certificate of a new root
    Init {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        key: KeyArguments,
    },
    /// Sign an issuing certificate for the request of an issuing CA
    Sign(SignArguments),
    /// Sign a revocation list of issuing certificates; at least one before the last one ends
    Crl(CrlArguments),
    /// Make somebody an operator, when too few operators are left to do it
    Vouch(super::vouch::VouchArguments),
    /// Which roots are trusted, and which issuing keys are not: prepare, activate, taint, retire, deny
    #[command(subcommand)]
    Trust(super::trust::Trust),
    /// Tell in words what the root is, and everything that was done with it
    Show {
        #[command(flatten)]
        at: At,
    },
}

#[derive(Args)]
pub(crate) struct At {
    /// The directory of the root
    #[arg(long)]
    dir: PathBuf,
}

#[derive(Args)]
pub(crate) struct SignArguments {
    /// What `m2key-pki issuing request` printed
    request: PathBuf,
    /// Where the certificate goes; a copy stays in the directory of the root
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Sign although there is a certificate for this key already
    #[arg(long)]
    again: bool,
    /// Where the root's revocation list will be served, e.g. `http://crl.example/crl/` (default: the
    /// certificate does not say)
    #[arg(long, value_name = "URL")]
    crl_base: Option<CrlBase>,
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    key: KeyArguments,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    confirm: Confirm,
}

#[derive(Args)]
pub(crate) struct CrlArguments {
    /// An issuing certificate that is not to be believed any more, or its serial number
    #[arg(long, value_name = "FILE|SERIAL")]
    revoke: Vec<String>,
    /// Why: unspecified, key-compromise, ca-compromise, superseded, cessation-of-operation or
    /// privilege-withdrawn
    #[arg(long, default_value_t = Reason::CaCompromise)]
    reason: Reason,
    /// The next list comes within so many days
    #[arg(long, value_name = "DAYS", default_value_t = 180, value_parser = clap::value_parser!(u32).range(1..=366))]
    next_days: u32,
    /// A list number seen elsewhere; this one will be above it
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    above: u64,
    /// Where the list goes; a copy stays in the directory of the root
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    key: KeyArguments,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    confirm: Confirm,
}

pub(crate) fn run(verb: Root) -> Result<String, PkiError> {
    match verb {
        Root::Init { at, key } => init(&at.dir, &key),
        Root::Sign(arguments) => sign(&arguments),
        Root::Crl(arguments) => crl(&arguments),
        Root::Vouch(arguments) => super::vouch::run(&arguments),
        Root::Trust(verb) => super::trust::run(verb),
        Root::Show { at } => show(&at.dir),
    }
}

fn init(dir: &Path, key: &KeyArguments) -> Result<String, PkiError> {
    let mut ceremony = Ceremony::begin(dir, clock::now())?;
    let root = block_on(ceremony.init(key.place(dir)?))?;
    Ok(format!(
        "root made in {}\n  fingerprint {}\n{}",
        dir.display(),
        root.fingerprint(),
        head(&ceremony)
    ))
}

fn sign(arguments: &SignArguments) -> Result<String, PkiError> {
    let dir = &arguments.at.dir;
    refuse_taken(&arguments.out)?;
    let mut ceremony = Ceremony::open(dir, clock::now())?;
    let plan = ceremony.plan_issuing(&read_public(&arguments.request)?, arguments.again)?;
    let transcript = arguments.given.read()?;
    let plan = plan.listed_at(arguments.crl_base.clone());
    let cleared = ceremony.clear(&plan.step(), transcript.as_deref());
    let words = plan.words() + &arguments.confirm.consents(cleared)?;
    let plan = plan.consented(transcript);
    if !arguments.confirm.to(&words)? {
        return Ok(words);
    }
    let signer = block_on(arguments.key.place(dir)?.open())?;
    let signed = block_on(ceremony.sign_issuing(plan, &signer))?;
    write_new(&arguments.out, signed.pem().as_bytes())?;
    Ok(format!(
        "{words}signed as serial {}\n  written to  {}\n{}",
        signed.serial_hex(),
        arguments.out.display(),
        head(&ceremony)
    ))
}

fn crl(arguments: &CrlArguments) -> Result<String, PkiError> {
    let dir = &arguments.at.dir;
    refuse_taken(&arguments.out)?;
    let mut ceremony = Ceremony::open(dir, clock::now())?;
    let plan = ceremony.plan_crl(&CrlWish {
        revoke: arguments.revoke.clone(),
        reason: arguments.reason,
        next_days: arguments.next_days,
        above: arguments.above,
    })?;
    let transcript = arguments.given.read()?;
    let cleared = ceremony.clear(&plan.step(), transcript.as_deref());
    let words = plan.words() + &arguments.confirm.consents(cleared)?;
    let plan = plan.consented(transcript);
    if !arguments.confirm.to(&words)? {
        return Ok(words);
    }
    let signer = block_on(arguments.key.place(dir)?.open())?;
    let signed = block_on(ceremony.sign_crl(plan, &signer))?;
    write_new(&arguments.out, signed.pem().as_bytes())?;
    let out = arguments.out.display();
    Ok(format!(
        "{words}signed\n  written to  {out}\n{}",
        head(&ceremony)
    ))
}

fn show(dir: &Path) -> Result<String, PkiError> {
    let ceremony = Ceremony::open(dir, clock::now())?;
    let root = ceremony.root()?;
    let root = pki::inspect::describe(root.clone().der(), &Against::root(root, clock::now()));
    let root = root.map_err(|problem| PkiError::File {
        path: dir.display().to_string(),
        problem,
    })?;
    Ok(format!(
        "{root}\nsteps\n{}{}",
        ceremony.steps(),
        head(&ceremony)
    ))
}

fn head(ceremony: &Ceremony) -> String {
    format!("  log         {} (note it on paper)\n", ceremony.log_head())
}
