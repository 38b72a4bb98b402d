//! `m2key-authority settlement …`: what does a merchant's bookkeeper get, and does it hold?

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use protocol::ids::MerchantId;
use protocol::jws::{self, JWS_MAX, Verified};
use protocol::settlement::SettlementClaims;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::daemon::{Desk, ask};
use super::receipt::{read, read_keys};
use super::{Arguments, CliError, Exit, Say, tell};
use crate::journal::hex;
use crate::services::operators::{
    SettlementClose, SettlementExport, SettlementList, SettlementView, SettlementsView,
};
use crate::services::settlements::file::Form;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Close a merchant's business days that are over; the daemon does so by itself
    Close {
        merchant: MerchantId,
        /// Close what was booked today until now, too
        #[arg(long)]
        until_now: bool,
    },
    /// List closed days, the newest first
    List {
        merchant: MerchantId,
        /// Only those before this number
        #[arg(long)]
        before: Option<u64>,
    },
    /// Write the file of a closed day, and the signed statement of it
    Export {
        merchant: MerchantId,
        number: u64,
        #[arg(long, value_enum, default_value = "csv")]
        form: FormName,
        /// Where to; it must not exist
        #[arg(long)]
        out: PathBuf,
        /// Where the statement goes, a compact JWS; it must not exist
        #[arg(long)]
        statement: Option<PathBuf>,
    },
    /// Verify a file with its statement and the published keys alone
    Verify {
        /// The file, CSV or JSON
        file: PathBuf,
        #[arg(long)]
        statement: PathBuf,
        /// The keys, as the authority publishes them at /.well-known/jwks.json
        #[arg(long)]
        jwks: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum FormName {
    Csv,
    Json,
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::Close {
            merchant,
            until_now,
        } => {
            let verb = SettlementClose {
                merchant: *merchant,
                until_now: *until_now,
            };
            tell(arguments, &ask(arguments, verb)?);
            Ok(())
        }
        Verb::List { merchant, before } => {
            let verb = SettlementList {
                merchant: *merchant,
                before: *before,
            };
            tell(arguments, &ask(arguments, verb)?);
            Ok(())
        }
        Verb::Export {
            merchant,
            number,
            form,
            out,
            statement,
        } => export(
            arguments,
            (*merchant, *number),
            form.form(),
            out,
            statement.as_deref(),
        ),
        Verb::Verify {
            file,
            statement,
            jwks,
        } => verify(arguments, file, statement, jwks),
    }
}

impl FormName {
    fn form(self) -> Form {
        match self {
            Self::Csv => Form::Csv,
            Self::Json => Form::Json,
        }
    }
}

/// Piece by piece, so that a day of any size fits.
fn export(
    arguments: &Arguments,
    (merchant, number): (MerchantId, u64),
    form: Form,
    out: &Path,
    statement: Option<&Path>,
) -> Result<(), CliError> {
    let desk = Desk::open(arguments)?;
    let mut file = create(out)?;
    let (mut hash, mut after, mut signed) = (Sha256::new(), None, None);
    loop {
        let piece = desk.ask(SettlementExport {
            merchant,
            number,
            form,
            after,
        })?;
        hash.update(piece.text.as_bytes());
        let written = file.write_all(piece.text.as_bytes());
        written.map_err(|error| CliError::file(out, &error))?;
        signed = piece.statement.or(signed);
        after = piece.next;
        if after.is_none() {
            break;
        }
    }
    let synced = file.sync_all();
    synced.map_err(|error| CliError::file(out, &error))?;
    if let Some(path) = statement {
        let signed = signed.ok_or_else(|| {
            let hint = "try again in a moment: the daemon signs it by itself";
            CliError::new(Exit::TryLater, "this day has no statement yet", hint)
        })?;
        let written = create(path)?.write_all(signed.as_bytes());
        written.map_err(|error| CliError::file(path, &error))?;
    }
    tell(
        arguments,
        &Exported {
            merchant,
            number,
            file: out.into(),
            sha256: hex(&hash.finalize()),
        },
    );
    Ok(())
}

fn create(path: &Path) -> Result<std::fs::File, CliError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    options
        .open(path)
        .map_err(|error| CliError::file(path, &error))
}

fn verify(
    arguments: &Arguments,
    file: &Path,
    statement: &Path,
    jwks: &Path,
) -> Result<(), CliError> {
    let keys = read_keys(jwks)?;
    let compact = read(statement, JWS_MAX as u64)?;
    let verified = jws::verify_kept::<SettlementClaims>(compact.trim(), &keys)
        .map_err(|error| not_genuine(statement, &error.to_string()))?;
    if verified.is_past_taint(verified.claims().iat) {
        let why = "it was signed after its key was tainted";
        return Err(not_genuine(statement, why));
    }
    let sha256 = digest_of(file)?;
    let claims = verified.claims();
    if sha256 != claims.csv_sha256 && sha256 != claims.json_sha256 {
        let why = "the statement is genuine, but it is of another file";
        return Err(not_genuine(file, why));
    }
    tell(arguments, &Genuine::of(verified, sha256));
    Ok(())
}

fn digest_of(file: &Path) -> Result<String, CliError> {
    let failed = |error| CliError::file(file, &error);
    let mut hash = Sha256::new();
    let mut open = std::fs::File::open(file).map_err(failed)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = std::io::Read::read(&mut open, &mut buffer).map_err(failed)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

fn not_genuine(file: &Path, why: &str) -> CliError {
    CliError::new(
        Exit::Refused,
        format!("{}: not genuine: {why}", file.display()),
        "do not book it; ask the operator for the file and its statement again",
    )
}

#[derive(Serialize)]
struct Exported {
    merchant: MerchantId,
    number: u64,
    file: PathBuf,
    sha256: String,
}

impl Say for Exported {
    fn say(&self) -> String {
        let Self { file, sha256, .. } = self;
        format!("{}\nSHA-256  {sha256}", file.display())
    }
}

/// A file whose statement fits.
#[derive(Serialize)]
struct Genuine {
    kid: String,
    sha256: String,
    #[serde(flatten)]
    claims: SettlementClaims,
}

impl Genuine {
    fn of(verified: Verified<SettlementClaims>, sha256: String) -> Self {
        Self {
            kid: verified.kid().to_owned(),
            sha256,
            claims: verified.into_claims(),
        }
    }
}

impl Say for Genuine {
    fn say(&self) -> String {
        let SettlementClaims {
            payee,
            number,
            day,
            zone,
            from,
            to,
            currency,
            totals,
            iss,
            ..
        } = &self.claims;
        format!(
            "This file is genuine, and whole.\n\
             It is number {number} of {} ({}), for {day} ({zone}): what was booked from {from} to \
             {to} and is in no file before.\n\
             opening    {} {currency} (minor units)\n\
             credits    {} in {} payments\n\
             debits     {} in {} refunds\n\
             closing    {}\n\
             The authority states that these sums are the change of the merchant's ledger account.\n\
             signed by  {iss}\nwith key   {}",
            payee.name,
            payee.id,
            totals.opening_minor,
            totals.credit_minor,
            totals.credits,
            totals.debit_minor,
            totals.debits,
            totals.closing_minor,
            self.kid
        )
    }
}

impl Say for SettlementView {
    fn say(&self) -> String {
        let t = &self.totals;
        let signed = if self.signed { "" } else { ", not signed yet" };
        format!(
            "{:>5}  {} ({})  {} payments {}, {} refunds {}, closing {} (minor units)  by {} at {}{signed}",
            self.number,
            self.day,
            self.zone,
            t.credits,
            t.credit_minor,
            t.debits,
            t.debit_minor,
            t.closing_minor,
            self.closed_by,
            self.closed_at
        )
    }
}

impl Say for SettlementsView {
    fn say(&self) -> String {
        if self.settlements.is_empty() {
            return "nothing to close, or nothing closed".into();
        }
        let mut text = String::new();
        for settlement in &self.settlements {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", settlement.say());
        }
        text.trim_end().into()
    }
}
