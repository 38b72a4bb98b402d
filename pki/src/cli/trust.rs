//! How do the trusted roots change, on machines that are on no network?
//!
//! A change is drafted without any key; then every root that must agree signs it, each where its key
//! is; then `m2key-authority trust install` puts it in force.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use pki::root::{Ceremony, TrustPlan};
use pki::trust::{Change, Draft};
use pki::{Certificate, Fingerprint, KeyId, PkiError, TrustBundle, write_new};

use super::ask::{Confirm, Given};
use super::block_on;
use super::key::KeyArguments;
use crate::clock;

#[derive(Subcommand)]
pub(crate) enum Trust {
    /// Draft a list with a new root beside the others
    Prepare {
        /// The certificate of the new root
        root: PathBuf,
        #[command(flatten)]
        from: From,
        #[command(flatten)]
        to: To,
    },
    /// Draft a list in which this root is the one that new issuing certificates come from
    Activate(Step),
    /// Draft a list in which this root is not believed any more
    Taint(Step),
    /// Draft a list that this root leaves, because its key is destroyed
    Retire(Step),
    /// Draft a list that denies the key of an issuing CA: nothing it signed is believed any more
    Deny {
        /// The issuing CA: its certificate, or its key id as `issuing list` shows it
        #[arg(value_name = "FILE|KEYID")]
        key: String,
        #[command(flatten)]
        from: From,
        #[command(flatten)]
        to: To,
    },
    /// Add the signature of one root to a draft; the last one makes it a trust bundle
    Sign(SignArguments),
    /// Tell in words what a draft or a trust bundle says, and who has to sign it yet
    Show { file: PathBuf },
}

#[derive(Args)]
pub(crate) struct From {
    /// The trust bundle in force
    #[arg(long, value_name = "FILE", required_unless_present = "first")]
    bundle: Option<PathBuf>,
    /// The certificate of the only root so far, when there is no bundle yet
    #[arg(long, value_name = "FILE", conflicts_with = "bundle")]
    first: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct To {
    /// Where the draft goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Args)]
pub(crate) struct Step {
    /// The root: its certificate, or its fingerprint
    #[arg(value_name = "FILE|FINGERPRINT")]
    root: String,
    /// The trust bundle in force
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    #[command(flatten)]
    to: To,
}

#[derive(Args)]
pub(crate) struct SignArguments {
    /// The draft; it is replaced by itself with one more signature
    draft: PathBuf,
    /// The directory of the root
    #[arg(long)]
    dir: PathBuf,
    /// Sign although this root has signed another list of this sequence, which was abandoned
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    key: KeyArguments,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    confirm: Confirm,
}

pub(crate) fn run(verb: Trust) -> Result<String, PkiError> {
    match verb {
        Trust::Prepare { root, from, to } => prepare(&root, &from, &to.out),
        Trust::Activate(step) => change(&step, Change::Activate),
        Trust::Taint(step) => change(&step, Change::Taint),
        Trust::Retire(step) => change(&step, Change::Retire),
        Trust::Deny { key, from, to } => deny(&key, &from, &to.out),
        Trust::Sign(arguments) => sign(&arguments),
        Trust::Show { file } => Ok(words(&Draft::load(&file)?)),
    }
}

fn prepare(root: &Path, from: &From, out: &Path) -> Result<String, PkiError> {
    let change = Change::Prepare(Box::new(Certificate::load(root)?));
    write(&draft(from, &change)?, out)
}

fn deny(key: &str, from: &From, out: &Path) -> Result<String, PkiError> {
    let path = Path::new(key);
    let key = match path.exists() {
        true => KeyId::of(&Certificate::load(path)?),
        false => key.parse()?,
    };
    write(&draft(from, &Change::Deny(key))?, out)
}

fn draft(from: &From, change: &Change) -> Result<Draft, PkiError> {
    match (&from.bundle, &from.first) {
        (Some(bundle), _) => Ok(Draft::after(
            &TrustBundle::load(bundle)?,
            change,
            clock::now(),
        )?),
        (None, first) => {
            let first = first
                .as_deref()
                .expect("clap demands a bundle or the first root");
            Ok(Draft::first(
                Certificate::load(first)?,
                change,
                clock::now(),
            )?)
        }
    }
}

fn change(step: &Step, change: fn(Fingerprint) -> Change) -> Result<String, PkiError> {
    let path = Path::new(&step.root);
    let root = match path.exists() {
        true => Certificate::load(path)?.fingerprint(),
        false => step.root.parse()?,
    };
    let bundle = TrustBundle::load(&step.bundle)?;
    write(
        &Draft::after(&bundle, &change(root), clock::now())?,
        &step.to.out,
    )
}

fn write(draft: &Draft, out: &Path) -> Result<String, PkiError> {
    write_new(out, draft.to_json().as_bytes())?;
    Ok(format!("{}  written to  {}\n", words(draft), out.display()))
}

fn sign(arguments: &SignArguments) -> Result<String, PkiError> {
    let mut draft = Draft::load(&arguments.draft)?;
    let mut ceremony = Ceremony::open(&arguments.dir, clock::now())?;
    let plan = TrustPlan {
        transcript: arguments.given.read()?,
        ..TrustPlan::new(&mut draft, arguments.again)
    };
    let cleared = ceremony.clear(&plan.step(&ceremony.root()?), plan.transcript.as_deref());
    let said = words(plan.draft) + &arguments.confirm.consents(cleared)?;
    if !arguments.confirm.to(&said)? {
        return Ok(said);
    }
    let signer = block_on(arguments.key.place(&arguments.dir)?.open())?;
    block_on(ceremony.sign_trust(plan, &signer))?;
    draft.save(&arguments.draft)?;
    let log = ceremony.log_head();
    Ok(format!(
        "{}  log         {log} (note it on paper)\n",
        words(&draft)
    ))
}

fn words(draft: &Draft) -> String {
    let mut text = format!("list {} of trusted roots\n", draft.sequence());
    for root in draft.roots() {
        let (state, fingerprint) = (root.state, root.certificate.fingerprint());
        text += &format!("  {:<11} {fingerprint}\n", state.name());
    }
    for key in draft.denied().keys() {
        text += &format!("  denied key  {key}\n");
    }
    for root in draft.missing() {
        text += &format!("  unsigned by {}\n", root.fingerprint());
    }
    if draft.missing().is_empty() {
        text += "  signed by everyone: m2key-authority trust install puts it in force\n";
    }
    text
}
