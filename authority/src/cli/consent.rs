//! `m2key-authority consent …`: how do several operators agree, each with their own key?
//!
//! What is signed is verified and shown here first: the daemon is not asked what to believe.

use std::io::{IsTerminal, Write};

use clap::Subcommand;
use pki::consent::request::SKEW_MAX_S;
use pki::consent::transcript::in_words;
use pki::consent::{Anchors, AsOf, Request, Signed, verify};
use protocol::problem::{Problem, ProblemType};
use serde_json::Value;

use super::daemon::{Desk, ask, not_understood};
use super::own::Own;
use super::{Arguments, CliError, Exit, Say, tell};
use crate::clock::{Clock, SystemClock, unix_seconds};
use crate::services::operators::{
    CarriedOut, ConsentAsk, ConsentCarryOut, ConsentDraft, ConsentList, ConsentRefuse, ConsentShow,
    ConsentSign, Drafted, RequestView, Requests, ShownRequest,
};
use crate::services::trust::Trust;
use crate::store::RequestId;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List what waits for consent
    List {
        /// What is over, too
        #[arg(long)]
        all: bool,
    },
    /// Show exactly what is asked for, and who has consented
    Show { request: RequestId },
    /// Consent: sign exactly what is shown
    Sign {
        request: RequestId,
        /// Do not ask back
        #[arg(long)]
        yes: bool,
    },
    /// Say no, for the record; the one who asked takes the request back with it
    Refuse {
        request: RequestId,
        /// Why, for the others and for the transcript
        #[arg(long)]
        reason: String,
    },
    /// Carry out what enough others consented to; once
    CarryOut { request: RequestId },
    /// Print the transcript; `m2key-pki transcript verify` verifies it offline
    Transcript { request: RequestId },
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::List { all } => tell(arguments, &ask(arguments, ConsentList { all: *all })?),
        Verb::Show { request } => {
            tell(arguments, &ask(arguments, ConsentShow { id: *request })?);
        }
        Verb::Sign { request, yes } => tell(arguments, &sign(arguments, *request, *yes)?),
        Verb::Refuse { request, reason } => {
            tell(arguments, &refuse(arguments, *request, reason)?);
        }
        Verb::CarryOut { request } => {
            let carried = carry_out(arguments, *request)?;
            tell(arguments, &carried);
        }
        Verb::Transcript { request } => {
            let shown = ask(arguments, ConsentShow { id: *request })?;
            let text = serde_json::to_string_pretty(&shown.transcript);
            println!("{}", text.map_err(|error| not_understood(&error))?);
        }
    }
    Ok(())
}

fn sign(arguments: &Arguments, id: RequestId, yes: bool) -> Result<RequestView, CliError> {
    let desk = Desk::open(arguments)?;
    desk.run(async {
        let signed = shown(&desk, id).await?;
        eprint!("{}", in_words(signed.claims()));
        confirm(yes)?;
        let own = desk.own().await?;
        let now = SystemClock.now().secs();
        let statement = own.state(&signed.consent(&own.name, now)).await?;
        Ok(desk.send(ConsentSign { statement }).await?)
    })
}

fn refuse(arguments: &Arguments, id: RequestId, reason: &str) -> Result<RequestView, CliError> {
    let desk = Desk::open(arguments)?;
    desk.run(async {
        let signed = shown(&desk, id).await?;
        let own = desk.own().await?;
        let now = SystemClock.now().secs();
        let statement = own.state(&signed.refusal(&own.name, reason, now)).await?;
        Ok(desk.send(ConsentRefuse { statement }).await?)
    })
}

/// A refusal for want of consents is told with what to do.
fn carry_out(arguments: &Arguments, id: RequestId) -> Result<CarriedOut, CliError> {
    let desk = Desk::open(arguments)?;
    desk.run(async {
        match desk.send(ConsentCarryOut { id }).await {
            Ok(carried) => Ok(carried),
            Err(super::daemon::Unsent::Refused(problem))
                if problem.problem_type() == Some(ProblemType::ConsentNeeded) =>
            {
                let shown = desk.send(ConsentShow { id }).await?;
                Err(waits(&shown.request))
            }
            Err(unsent) => Err(unsent.into()),
        }
    })
}

/// The request as its asker signed it, verified with the root that is trusted here.
async fn shown(desk: &Desk, id: RequestId) -> Result<Signed<Request>, CliError> {
    let ShownRequest { transcript, .. } = desk.send(ConsentShow { id }).await?;
    let (trust, own) = (Trust::load(&desk.config.trust)?, desk.own().await?);
    let domain = &desk.config.trust.domain;
    let anchors = Anchors {
        roots: trust.roots(),
        issuing: own.chain.get(1..).unwrap_or_default(),
        domain,
    };
    let now = unix_seconds(SystemClock.now());
    let signed: Signed<Request> = verify(&transcript.request, &anchors, AsOf::Time(now))
        .and_then(|signed: Signed<Request>| signed.claims().check(domain).map(|()| signed))
        .map_err(pki::PkiError::from)?;
    match signed.claims().jti == id.to_string() {
        true => Ok(signed),
        false => Err(CliError::new(
            Exit::Refused,
            format!("the daemon shows another request than {id}"),
            "do not sign; look at the daemon's host",
        )),
    }
}

fn confirm(yes: bool) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::new(
            Exit::Usage,
            "nobody is there to say yes",
            "look at the request, then give --yes",
        ));
    }
    eprint!("Sign exactly this? Type yes: ");
    // An unseen prompt is still answered or not.
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    match read.is_ok() && answer.trim() == "yes" {
        true => Ok(()),
        false => Err(CliError::new(
            Exit::Refused,
            "not signed",
            "say no for the record with: m2key-authority consent refuse",
        )),
    }
}

/// Asks the others for this verb; the error says who does what next.
pub(super) async fn ask_others(desk: &Desk, verb: &str, body: Value) -> Result<CliError, CliError> {
    Ok(waits(&requested(desk, verb, body).await?))
}

/// Signs the request for this verb and leaves it with the daemon, unless it is there already.
pub(super) async fn requested(
    desk: &Desk,
    verb: &str,
    body: Value,
) -> Result<RequestView, CliError> {
    let own = desk.own().await?;
    let draft = ConsentDraft {
        verb: verb.to_owned(),
        body: body.clone(),
        by: own.name.clone(),
    };
    match desk.send(draft).await? {
        Drafted::Open(view) => Ok(view),
        Drafted::ToSign(request) => {
            check_draft(&request, verb, &body, &own)?;
            let statement = own.state(&request).await?;
            Ok(desk.send(ConsentAsk { statement }).await?)
        }
    }
}

/// Nothing is signed but what was asked for.
fn check_draft(request: &Request, verb: &str, body: &Value, own: &Own) -> Result<(), CliError> {
    let same = request.verb == verb && request.body == *body && request.asked_by == own.name;
    if !same {
        return Err(CliError::new(
            Exit::Refused,
            "the daemon would have something else signed than was asked for",
            "use the same version of m2key-authority as the daemon; if it is, look at its host",
        ));
    }
    let apart = request.iat.saturating_sub(SystemClock.now().secs()).abs();
    match apart <= SKEW_MAX_S {
        true => Ok(()),
        false => Err(CliError::operator(
            format!("the clocks of this machine and of the daemon are {apart} s apart"),
            "set both clocks, then try again",
        )),
    }
}

fn waits(view: &RequestView) -> CliError {
    let id = view.id;
    let problem = Problem::new(ProblemType::ConsentNeeded);
    let message = format!(
        "{}: request {id} has {} of {} consents",
        problem.title,
        view.consented.len(),
        view.required
    );
    let hint = format!(
        "another operator: m2key-authority consent sign {id}\n\
         then you, until {}: m2key-authority consent carry-out {id}",
        view.expires_at
    );
    CliError::operator(message, hint)
}

impl Say for RequestView {
    fn say(&self) -> String {
        let names = |names: &[String]| match names {
            [] => "nobody".into(),
            names => names.join(", "),
        };
        format!(
            "request    {}\nverb       {}\nwith       {}\nasked by   {} at {}\nstate      {}, until {}\n\
             consented  {} ({} of {})\nrefused    {}",
            self.id,
            self.verb,
            self.body,
            self.asked_by,
            self.asked_at,
            self.state,
            self.expires_at,
            names(&self.consented),
            self.consented.len(),
            self.required,
            names(&self.refused),
        )
    }
}

impl Say for ShownRequest {
    fn say(&self) -> String {
        self.request.say()
    }
}

impl Say for Requests {
    fn say(&self) -> String {
        if self.requests.is_empty() {
            return "no requests".into();
        }
        let line = |r: &RequestView| {
            format!(
                "{}  {}  {} by {}  {} of {} consents",
                r.id,
                r.state,
                r.verb,
                r.asked_by,
                r.consented.len(),
                r.required
            )
        };
        let lines: Vec<_> = self.requests.iter().map(line).collect();
        lines.join("\n")
    }
}

impl Say for CarriedOut {
    fn say(&self) -> String {
        let answer = serde_json::to_string_pretty(&self.answer).expect("JSON is written as JSON");
        format!("{} carried out, request {}\n{answer}", self.verb, self.id)
    }
}
