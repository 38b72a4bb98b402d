//! How does the root make somebody an operator, on a machine that is on no network?

use std::path::PathBuf;

use clap::Args;
use pki::root::Ceremony;
use pki::{PkiError, Segment, TrustDomain, read_public, refuse_taken, write_new};

use super::ask::Confirm;
use super::block_on;
use super::key::KeyArguments;
use crate::clock;

#[derive(Args)]
pub(crate) struct VouchArguments {
    /// What `m2key-authority operator request` made
    request: PathBuf,
    /// Their name as an operator
    #[arg(long, value_name = "NAME")]
    operator: Segment,
    /// The trust domain of the authority
    #[arg(long, value_name = "DOMAIN")]
    domain: TrustDomain,
    /// Where the vouch goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The directory of the root
    #[arg(long)]
    dir: PathBuf,
    #[command(flatten)]
    key: KeyArguments,
    #[command(flatten)]
    confirm: Confirm,
}

pub(crate) fn run(arguments: &VouchArguments) -> Result<String, PkiError> {
    let VouchArguments {
        operator,
        domain,
        out,
        dir,
        ..
    } = arguments;
    refuse_taken(out)?;
    let mut ceremony = Ceremony::open(dir, clock::now())?;
    let plan = ceremony.plan_vouch(&read_public(&arguments.request)?, operator, domain)?;
    let words = plan.words();
    if !arguments.confirm.to(&words)? {
        return Ok(words);
    }
    let signer = block_on(arguments.key.place(dir)?.open())?;
    let vouch = block_on(ceremony.sign_vouch(plan, &signer))?;
    write_new(out, vouch.as_bytes())?;
    Ok(format!(
        "{words}signed\n  written to  {}\n  log         {} (note it on paper)\n",
        out.display(),
        ceremony.log_head()
    ))
}
