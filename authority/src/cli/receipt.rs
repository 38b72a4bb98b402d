//! `m2key-authority receipt …`: is this receipt genuine, and what does it say?
//!
//! Needs nothing but the receipt and the published keys: no daemon, no HSM, no configuration.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use protocol::jwk::JwkSet;
use protocol::jws::{self, BadJws, JWS_MAX, Verified};
use protocol::receipt::ReceiptClaims;
use protocol::refund::RefundClaims;
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
    match jws::verify_kept::<ReceiptClaims>(compact.trim(), &keys) {
        // Not of a payment; perhaps of a refund.
        Err(BadJws::Purpose) => {
            let verified = jws::verify_kept::<RefundClaims>(compact.trim(), &keys);
            let verified = believed(file, verified, |claims| claims.iat)?;
            tell(arguments, &Genuine::of(verified));
        }
        verified => {
            let verified = believed(file, verified, |claims| claims.iat)?;
            tell(arguments, &Genuine::of(verified));
        }
    }
    Ok(())
}

fn believed<C>(
    file: &Path,
    verified: Result<Verified<C>, BadJws>,
    signed_at: impl Fn(&C) -> i64,
) -> Result<Verified<C>, CliError> {
    let verified = verified.map_err(|error| {
        let message = format!("{}: this receipt is not genuine: {error}", file.display());
        CliError::new(
            Exit::Refused,
            message,
            "do not rely on it; ask its sender for the original",
        )
    })?;
    if verified.is_past_taint(signed_at(verified.claims())) {
        return Err(CliError::new(
            Exit::Refused,
            format!(
                "{}: this receipt is not genuine: it was signed after its key was tainted",
                file.display()
            ),
            "do not rely on it; ask the authority whether it knows of the payment",
        ));
    }
    Ok(verified)
}

/// A receipt whose signature fits.
#[derive(Serialize)]
struct Genuine<C> {
    kid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tainted_at: Option<Timestamp>,
    #[serde(flatten)]
    claims: C,
}

impl<C> Genuine<C> {
    fn of(verified: Verified<C>) -> Self {
        Self {
            kid: verified.kid().to_owned(),
            tainted_at: verified.tainted_at().map(Timestamp::from_secs),
            claims: verified.into_claims(),
        }
    }

    fn signed_by(&self, iss: &str) -> String {
        let mut text = format!("\nsigned by  {iss}\nwith key   {}", self.kid);
        if let Some(since) = self.tainted_at {
            text += &format!(
                "\nNOTE: that key is tainted since {since}. Whoever took it can write an earlier \
                 date: rely on this only where it was kept since before, or ask the authority"
            );
        }
        text
    }
}

impl Say for Genuine<ReceiptClaims> {
    fn say(&self) -> String {
        let claims = &self.claims;
        let mut text = format!(
            "This receipt is genuine.\n\
             {} was paid to {} on {} at terminal {} ({}), mark {}.\n\
             receipt    {}\npayment    {} by {} ({})\ncharge     {}\npayer      {}",
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
            claims.charge,
            claims.sub,
        );
        if let Some(reference) = &claims.reference {
            text += &format!("\nreference  {reference}");
        }
        text + &self.signed_by(&claims.iss)
            + "\nIt proves that this was paid, and to whom. Whether it was given back since, a \
               refund's own receipt says."
    }
}

impl Say for Genuine<RefundClaims> {
    fn say(&self) -> String {
        let claims = &self.claims;
        let asked = match claims.terminal {
            Some(terminal) => format!("asked for at terminal {terminal}"),
            None => "by an operator".into(),
        };
        let mut text = format!(
            "This refund receipt is genuine.\n\
             {} of the {} paid to {} was given back on {}, {asked}, to the account that paid.\n\
             receipt    {}\nrefund     {} by {} ({})\npayment    {}, receipt {}\n\
             charge     {}\npayer      {}",
            claims.amount,
            claims.paid,
            claims.payee.name,
            Timestamp::from_secs(claims.iat),
            claims.receipt,
            claims.refund,
            claims.rail,
            claims.rail_reference,
            claims.payment,
            claims.payment_receipt,
            claims.charge,
            claims.sub,
        );
        if let Some(reason) = &claims.reason {
            text += &format!("\nreason     {reason}");
        }
        text + &self.signed_by(&claims.iss)
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
