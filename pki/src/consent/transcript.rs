//! Does a file show, with the root alone, who agreed to what?

use std::fmt::Write;
use std::path::Path;

use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::judge::{Consented, counts, judge};
use super::request::{Consent, Refusal, Request};
use super::statement::{Anchors, AsOf, BadStatement, Signed, peek, verify};
use crate::certificate::Certificate;
use crate::chain::certificates_from_pem;
use crate::error::PkiError;
use crate::files;
use crate::names::TrustDomain;

/// Most statements of others in one transcript.
pub const STATEMENTS_MAX: usize = 64;

/// A request, what others said to it, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    pub request: String,
    pub consents: Vec<String>,
    pub refusals: Vec<String>,
    /// As the authority tells it; its audit chain is the proof.
    pub outcome: Option<Outcome>,
}

/// When it was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    pub begun_at: Timestamp,
    pub done_at: Option<Timestamp>,
}

/// Why a transcript does not show it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTranscript {
    #[error("it is not a transcript")]
    Malformed,
    #[error("its request does not count: {0}")]
    Request(BadStatement),
    #[error("its {nth}. consent does not count: {why}")]
    Consent { nth: usize, why: BadStatement },
    #[error("its {nth}. refusal does not count: {why}")]
    Refusal { nth: usize, why: BadStatement },
    #[error("it was carried out, but {0}")]
    TooFew(super::TooFew),
    #[error("it was carried out after its time")]
    Late,
}

/// What a transcript shows.
#[derive(Debug, Clone)]
pub struct Shown {
    request: Signed<Request>,
    refusals: Vec<Signed<Refusal>>,
    consented: Result<Consented, super::TooFew>,
    outcome: Option<Outcome>,
}

/// What operators signed, verified.
pub(super) struct Statements {
    pub(super) request: Signed<Request>,
    pub(super) consents: Vec<Signed<Consent>>,
    pub(super) refusals: Vec<Signed<Refusal>>,
    pub(super) domain: TrustDomain,
}

/// Verifies the transcript in a file with the root certificates in another; what it shows, in words.
pub fn verify_file(file: &Path, roots: &Path) -> Result<String, PkiError> {
    let roots = text_of(roots)?;
    let roots = certificates_from_pem(&roots)?;
    let shown = Transcript::from_json(&text_of(file)?)?.verify(&roots)?;
    Ok(shown.in_words())
}

fn text_of(path: &Path) -> Result<String, PkiError> {
    let bytes = files::read_public(path)?;
    String::from_utf8(bytes).map_err(|_| files::BadFile::NotText.at(path))
}

impl BadTranscript {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Malformed => "make it with: m2key-authority consent transcript <id>",
            Self::Request(why) | Self::Consent { why, .. } | Self::Refusal { why, .. } => {
                why.hint()
            }
            Self::TooFew(_) | Self::Late => {
                "the authority should not have done it: compare with its audit chain"
            }
        }
    }
}

impl Transcript {
    pub fn from_json(text: &str) -> Result<Self, BadTranscript> {
        serde_json::from_str(text).map_err(|_| BadTranscript::Malformed)
    }

    /// Verifies every statement as of the moment it was made, and counts. Not enough consents are no
    /// mistake as long as nothing was carried out.
    pub fn verify(&self, roots: &[Certificate]) -> Result<Shown, BadTranscript> {
        let said = self.statements(roots, &[], None)?;
        let claims = said.request.claims();
        let consented = judge(&said.request, &said.consents, claims.required);
        if let Some(outcome) = &self.outcome {
            if let Err(too_few) = consented {
                return Err(BadTranscript::TooFew(too_few));
            }
            if outcome.begun_at.secs() > claims.exp {
                return Err(BadTranscript::Late);
            }
        }
        Ok(Shown {
            request: said.request,
            refusals: said.refusals,
            consented,
            outcome: self.outcome.clone(),
        })
    }

    /// Every statement in it, verified as of the moment it was made. Without a `domain` it is the one
    /// that the request names.
    pub(super) fn statements(
        &self,
        roots: &[Certificate],
        issuing: &[Certificate],
        domain: Option<&TrustDomain>,
    ) -> Result<Statements, BadTranscript> {
        if self.consents.len() + self.refusals.len() > STATEMENTS_MAX {
            return Err(BadTranscript::Malformed);
        }
        let request: Request = peek(&self.request).map_err(BadTranscript::Request)?;
        let no_domain = BadTranscript::Request(BadStatement::Claims);
        let domain = domain.cloned().or_else(|| request.domain());
        let domain = domain.ok_or(no_domain)?;
        let anchors = Anchors {
            roots,
            issuing,
            domain: &domain,
        };
        let request: Signed<Request> = verify(&self.request, &anchors, AsOf::Statement)
            .and_then(|signed: Signed<Request>| {
                signed.claims().check(&domain)?;
                Ok(signed)
            })
            .map_err(BadTranscript::Request)?;
        let consents = self.consents(&request, &anchors)?;
        let refusals = self.refusals(&request, &anchors)?;
        Ok(Statements {
            request,
            consents,
            refusals,
            domain,
        })
    }

    fn consents(
        &self,
        request: &Signed<Request>,
        anchors: &Anchors<'_>,
    ) -> Result<Vec<Signed<Consent>>, BadTranscript> {
        let read = |(place, text): (usize, &String)| {
            let consent: Result<Signed<Consent>, _> = verify(text, anchors, AsOf::Statement);
            consent
                .and_then(|consent| counts(request, &consent).map(|()| consent))
                .map_err(|why| BadTranscript::Consent {
                    nth: place + 1,
                    why,
                })
        };
        self.consents.iter().enumerate().map(read).collect()
    }

    fn refusals(
        &self,
        request: &Signed<Request>,
        anchors: &Anchors<'_>,
    ) -> Result<Vec<Signed<Refusal>>, BadTranscript> {
        let read = |(place, text): (usize, &String)| {
            let refusal: Result<Signed<Refusal>, _> = verify(text, anchors, AsOf::Statement);
            refusal
                .and_then(|refusal| {
                    let said = refusal.claims();
                    request
                        .is_meant(&said.request, &said.request_sha256, said.iat)
                        .map(|()| refusal)
                })
                .map_err(|why| BadTranscript::Refusal {
                    nth: place + 1,
                    why,
                })
        };
        self.refusals.iter().enumerate().map(read).collect()
    }
}

impl Shown {
    pub fn request(&self) -> &Request {
        self.request.claims()
    }

    /// Whose consents count, in alphabetical order.
    pub fn consented_by(&self) -> &[String] {
        match &self.consented {
            Ok(consented) => consented.by(),
            Err(too_few) => &too_few.by,
        }
    }

    pub fn is_enough(&self) -> bool {
        self.consented.is_ok()
    }

    /// All of it, for people.
    pub fn in_words(&self) -> String {
        let request = self.request.claims();
        let mut text = in_words(request);
        let by = self.consented_by();
        // Writing to a String does not fail.
        let _ = writeln!(text, "consented   {}", list(by));
        for refusal in &self.refusals {
            let _ = writeln!(
                text,
                "refused     {}: {}",
                refusal.name(),
                plain(&refusal.claims().reason)
            );
        }
        let enough = if self.is_enough() {
            "enough"
        } else {
            "not enough"
        };
        let _ = writeln!(
            text,
            "that is     {enough}: {} of {} besides the one who asks",
            by.len(),
            request.required
        );
        let outcome = match &self.outcome {
            None => "not carried out".into(),
            Some(Outcome {
                begun_at,
                done_at: None,
            }) => format!("begun at {begun_at}, not finished (as the authority tells it)"),
            Some(Outcome {
                done_at: Some(at), ..
            }) => format!("carried out at {at} (as the authority tells it)"),
        };
        let _ = writeln!(text, "outcome     {outcome}");
        text
    }
}

/// A request for people: what will be done, for whom, until when.
pub fn in_words(request: &Request) -> String {
    let body = serde_json::to_string_pretty(&request.body).expect("JSON reads back as JSON");
    format!(
        "request     {}\nverb        {}\nwith        {}\nasked by    {} at {}\nof          {}\nuntil       {}\nneeds       {} besides the one who asks\n",
        plain(&request.jti),
        plain(&request.verb),
        body.lines()
            .map(plain)
            .collect::<Vec<_>>()
            .join("\n            "),
        plain(&request.asked_by),
        Timestamp::from_secs(request.iat),
        plain(&request.iss),
        Timestamp::from_secs(request.exp),
        request.required,
    )
}

/// Nothing that somebody wrote can move the cursor, begin a line or turn the direction of reading: who
/// signs must see what they sign.
pub(super) fn plain(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let shown = |c: char| match c.is_control() || turns(c) || matches!(c, '\u{2028}' | '\u{2029}') {
        true => c.escape_unicode().to_string(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect()
}

fn list(names: &[String]) -> String {
    match names {
        [] => "nobody".into(),
        names => names.join(", "),
    }
}
