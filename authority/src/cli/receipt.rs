//! `m2key-authority receipt …`: is this receipt genuine, and what does it say?
//!
//! Needs nothing but the receipt and the published keys: no daemon, no HSM, no configuration.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use protocol::jwk::JwkSet;
use protocol::jws::{self, JWS_MAX};
use protocol::receipt::ReceiptClaims;
use protocol::time::Timestamp;
use serde::Serialize;

use super::{Arguments, CliError, Exit, Say, tell};

/// Largest JWK set that is read, in bytes.
const JWKS_MAX: u64 = 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Verify a receipt with the published keys alone, and say in words what it states
    Verify {
        /// The receipt: a compact JWS
        file: PathBuf,
        /// The keys, as the authority publishes them at /.well-known/jwks.json
        #[arg(long)]
        jwks: PathBuf,
    },
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    let Verb::Verify { file, jwks } = verb;
    let keys = read_keys(jwks)?;
    let compact = read(file, JWS_MAX as u64)?;
    let verified = jws::verify_kept::<ReceiptClaims>(compact.trim(), &keys).map_err(|error| {
        let message = format!("{}: this receipt is not genuine: {error}", file.display());
        CliError::new(
            Exit::Refused,
            message,
            "do not rely on it; ask its sender for the original",
        )
    })?;
    let since = verified.tainted_at();
    if verified.is_past_taint(verified.claims().iat) {
        return Err(CliError::new(
            Exit::Refused,
            format!(
                "{}: this receipt is not genuine: it was signed after its key was tainted",
                file.display()
            ),
            "do not rely on it; ask the authority whether it knows of the payment",
        ));
    }
    tell(
        arguments,
        &Genuine {
            kid: verified.kid().to_owned(),
            tainted_at: since.map(Timestamp::from_secs),
            claims: verified.into_claims(),
        },
    );
    Ok(())
}

/// A receipt whose signature fits.
#[derive(Serialize)]
struct Genuine {
    kid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tainted_at: Option<Timestamp>,
    #[serde(flatten)]
    claims: ReceiptClaims,
}

impl Say for Genuine {
    fn say(&self) -> String {
        let claims = &self.claims;
        let mut text = format!(
            "This receipt is genuine.\n\
             {} was paid to {} on {} at terminal {} ({}), mark {}.\n\
             receipt    {}\npayment    {} by {} ({})",
            claims.amount,
            claims.payee.name,
            Timestamp::from_secs(claims.iat),
            claims.terminal,
            claims.channel,
            claims.mark,
            claims.receipt,
            claims.payment,
            claims.rail,
            claims.rail_reference,
        );
        if let Some(reference) = &claims.reference {
            text += &format!("\nreference  {reference}");
        }
        text += &format!("\nsigned by  {}\nwith key   {}", claims.iss, self.kid);
        if let Some(since) = self.tainted_at {
            text += &format!(
                "\nNOTE: that key is tainted since {since}. Whoever took it can write an earlier \
                 date: rely on this only where it was kept since before, or ask the authority"
            );
        }
        text
    }
}

/// A JWK set from a file.
pub(super) fn read_keys(path: &Path) -> Result<JwkSet, CliError> {
    serde_json::from_str(&read(path, JWKS_MAX)?).map_err(|error| {
        let message = format!("{}: not a JWK set ({error})", path.display());
        CliError::new(
            Exit::Refused,
            message,
            "fetch it from /.well-known/jwks.json",
        )
    })
}

pub(super) fn read(path: &Path, max: u64) -> Result<String, CliError> {
    use std::io::Read;
    let failed = |error| CliError::file(path, &error);
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(max).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}
