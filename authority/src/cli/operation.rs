//! `m2key-authority operation …` and `transcript verify`: how far is it, and what shows it later?

use std::path::{Path, PathBuf};

use clap::Subcommand;
use protocol::jws::JWS_MAX;
use protocol::time::Timestamp;
use serde::Serialize;

use super::daemon::ask;
use super::receipt::{read, read_keys};
use super::{Arguments, CliError, Exit, Say, tell};
use crate::services::operators::{
    OperationList, OperationShow, OperationTranscript, OperationView, OperationsView,
};
use crate::services::rotation::transcript::{self, TranscriptClaims};
use crate::store::{OperationId, OperationState};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List what operators asked for, the newest first
    List {
        /// Only those before this one
        #[arg(long)]
        before: Option<OperationId>,
    },
    /// Show one, with its progress
    Show { operation: OperationId },
    /// Print the signed record of one that is over: a compact JWS
    Transcript { operation: OperationId },
}

#[derive(Debug, Subcommand)]
pub(super) enum TranscriptVerb {
    /// Verify a transcript with the published keys alone, and say in words what was done
    Verify {
        /// The transcript: a compact JWS
        file: PathBuf,
        /// The keys, as the authority publishes them at /.well-known/jwks.json
        #[arg(long)]
        jwks: PathBuf,
    },
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::List { before } => {
            tell(
                arguments,
                &ask(arguments, OperationList { before: *before })?,
            );
        }
        Verb::Show { operation } => {
            let verb = OperationShow {
                operation: *operation,
            };
            tell(arguments, &ask(arguments, verb)?);
        }
        Verb::Transcript { operation } => {
            let verb = OperationTranscript {
                operation: *operation,
            };
            println!("{}", ask(arguments, verb)?.transcript);
        }
    }
    Ok(())
}

pub(super) fn verify(arguments: &Arguments, verb: &TranscriptVerb) -> Result<(), CliError> {
    let TranscriptVerb::Verify { file, jwks } = verb;
    let keys = read_keys(jwks)?;
    let compact = read(file, JWS_MAX as u64)?;
    let verified =
        transcript::verify(compact.trim(), &keys).map_err(|error| not_good(file, &error))?;
    let told = Told {
        kid: verified.kid().to_owned(),
        tainted_at: verified.tainted_at().map(Timestamp::from_secs),
        claims: verified.into_claims(),
    };
    tell(arguments, &told);
    Ok(())
}

fn not_good(file: &Path, error: &transcript::BadTranscript) -> CliError {
    CliError::new(
        Exit::Refused,
        format!("{}: this transcript shows nothing: {error}", file.display()),
        "do not rely on it; ask the authority for it again",
    )
}

/// A transcript whose signature and rows fit.
#[derive(Serialize)]
struct Told {
    kid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tainted_at: Option<Timestamp>,
    #[serde(flatten)]
    claims: TranscriptClaims,
}

impl Say for Told {
    fn say(&self) -> String {
        let claims = &self.claims;
        let mut text = format!(
            "This transcript is genuine.\n{} asked for `{}` on {}; it is {}: {}\n",
            claims.asked_by,
            claims.verb,
            claims.started_at,
            claims.state.name(),
            claims.outcome.as_deref().unwrap_or("-"),
        );
        if let Some(consent) = &claims.consent {
            text += &format!("consent    {consent}\n");
        }
        for row in &claims.rows {
            let at = Timestamp::from_ms(row.at_ms);
            text += &format!("row {:<6} {at}  {}  {}\n", row.sequence, row.kind, row.body);
        }
        if claims.rows_left_out {
            text += "further rows are in the audit chain only\n";
        }
        text += &format!("signed by  {}\nwith key   {}", claims.iss, self.kid);
        if let Some(since) = self.tainted_at {
            text += &format!(
                "\nNOTE: that key is tainted since {since}; rely on this only where it was kept \
                 since before"
            );
        }
        text
    }
}

impl Say for OperationView {
    fn say(&self) -> String {
        let mut text = format!(
            "operation  {}\nverb       {}\nasked by   {}\nstarted    {}\nstate      {}",
            self.operation,
            self.verb,
            self.asked_by,
            self.started_at,
            self.state.name()
        );
        if let Some(consent) = &self.consent {
            text += &format!("\nconsent    {consent}");
        }
        if let Some(total) = self.total {
            text += &format!("\nterminals  {} of {total}", self.done);
        }
        if let Some(outcome) = &self.outcome {
            text += &format!("\noutcome    {outcome}");
        }
        if let Some(ended) = self.ended_at {
            text += &format!("\nended      {ended}");
        }
        if let Some(trouble) = &self.trouble {
            text += &format!("\nwaits      {trouble}");
        }
        text
    }
}

impl Say for OperationsView {
    fn say(&self) -> String {
        if self.operations.is_empty() {
            return "no operations".into();
        }
        let lines: Vec<String> = self.operations.iter().map(say_operation).collect();
        lines.join("\n")
    }
}

/// In one line.
pub(super) fn say_operation(it: &OperationView) -> String {
    let (id, verb, by) = (it.operation, &it.verb, &it.asked_by);
    let so_far = match (it.state, &it.outcome, it.total) {
        (OperationState::Running, _, Some(total)) => {
            format!("goes on in the background, {} of {total}", it.done)
        }
        (OperationState::Running, _, None) => "goes on in the background".into(),
        (_, Some(outcome), _) => outcome.clone(),
        (_, None, _) => "over".into(),
    };
    format!("{id}  {verb}  by {by}  {}: {so_far}", it.state.name())
}
