//! What can somebody do who has seen the PIN of an HSM token? They sign, with any key that is in it.
//!
//! ```text
//! pin-thief TOKEN PIN-FILE LABEL sign DIGEST-HEX                        prints the signature, hex
//! pin-thief TOKEN PIN-FILE LABEL certify ISSUING ROOT REQUEST NAME      prints a certificate, PEM
//! ```
//! Which HSM is meant, SOFTHSM2_CONF says.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};
use harness::tools;
use hsm::{Hsm, KeyLabel, Module, OpenOptions, Pin, Pkcs11Hsm, Priority};
use pki::{Certificate, Chain, HsmIssuer, IssueRequest, IssueTo, Issuer, TrustDomain, csr};

#[derive(Parser)]
struct Arguments {
    token: String,
    pin_file: PathBuf,
    label: String,
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Subcommand)]
enum Deed {
    Sign {
        digest: String,
    },
    Certify {
        issuing: PathBuf,
        root: PathBuf,
        request: PathBuf,
        /// `operator/<name>` or `terminal/<id>`
        name: String,
    },
}

type Fault = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let arguments = Arguments::parse();
    let module = Module::load(Path::new(tools::softhsm()?))?;
    let options = OpenOptions::new(&arguments.token, Pin::from_file(&arguments.pin_file)?);
    let hsm: Arc<dyn Hsm> = Arc::new(Pkcs11Hsm::open(&module, options)?);
    let label = KeyLabel(arguments.label);
    match arguments.deed {
        Deed::Sign { digest } => {
            let digest = from_hex(&digest).ok_or("32 bytes in hexadecimal")?;
            let signature = hsm.sign(&label, digest, Priority::Payment).await?;
            println!("{}", to_hex(&signature));
        }
        Deed::Certify {
            issuing,
            root,
            request,
            name,
        } => {
            let chain = Chain::new(Certificate::load(&issuing)?, Certificate::load(&root)?)?;
            let issuer = HsmIssuer::open(hsm, label, chain, TrustDomain::default()).await?;
            let csr = csr::check(&std::fs::read(request)?)?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
            let to = match name.split_once('/').ok_or("a kind, a stroke and a name")? {
                ("terminal", id) => IssueTo::Terminal(id.parse()?),
                (_, name) => IssueTo::Operator(name.parse()?),
            };
            print!("{}", issuer.issue(IssueRequest { csr, to, now }).await?.pem);
        }
    }
    Ok(())
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let byte = |n: usize| u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
    bytes?.try_into().ok()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
