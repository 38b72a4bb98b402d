//! May this step be taken here, as far as a machine without the authority can know?
//!
//! ```text
//! step ─▶ how many does this machine want? ─0, and no transcript─────────────────▶ Cleared
//!           │ transcript: every signature ─▶ exactly this step? ─▶ in time? ─▶ used before?
//!           └──▶ whose voice counts here and now? ─▶ judge ─▶ Cleared, with a Warrant
//! ```
//! What a transcript says of itself lowers nothing: number, roots, clock, believed issuing keys,
//! revoked certificates and what was used before are the machine's own ([`Bar`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::judge::{TooFew, judge};
use super::request::{Consent, Request, SKEW_MAX_S};
use super::statement::{Anchors, AsOf, BadStatement, Dated, Signed, verify};
use super::step::CeremonyStep;
use super::transcript::{BadTranscript, Transcript, plain};
use crate::certificate::{Certificate, hex};
use crate::dates::in_words;
use crate::error::Move;
use crate::names::TrustDomain;

/// Largest transcript that is looked at, in bytes.
pub const TRANSCRIPT_MAX_BYTES: usize = 1024 * 1024;

/// What a machine knows by itself.
#[derive(Debug, Clone)]
pub struct Bar {
    /// How many must consent besides the one who asks.
    pub required: u32,
    /// Where operators' certificates lead to.
    pub roots: Vec<Certificate>,
    /// Issuing certificates that are known besides those in the statements.
    pub issuing: Vec<Certificate>,
    /// None: the one that the request names.
    pub domain: Option<TrustDomain>,
    /// Unix seconds.
    pub now: u64,
    pub issuing_keys: IssuingKeys,
    /// Names and keys that count; empty: every operator's.
    pub operators: BTreeMap<String, String>,
    /// Serial numbers of operators' certificates that are revoked, as far as it is known here.
    pub revoked: BTreeSet<String>,
    /// SHA-256 of requests that a step was taken with.
    pub used: BTreeSet<String>,
}

/// Under which issuing keys operators are believed; SHA-256 of the public keys, hexadecimal.
#[derive(Debug, Clone)]
pub enum IssuingKeys {
    Only(BTreeSet<String>),
    AllBut(BTreeSet<String>),
}

/// Who asked for a step and who consented to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warrant {
    pub request: String,
    /// SHA-256 of the request's bytes, hexadecimal: everything in a transcript hangs on it, however
    /// the file is written.
    pub request_sha256: String,
    pub asked_by: String,
    /// In alphabetical order.
    pub consented: Vec<String>,
}

/// A step that may be taken; only [`clear`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleared {
    warrant: Option<Warrant>,
}

/// Why somebody's voice does not count here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    #[error("{0}")]
    Statement(BadStatement),
    #[error("the certificate is revoked")]
    Revoked,
    #[error("the issuing CA of the certificate is not believed here")]
    IssuingKey,
    #[error("not among the operators listed here, or with another key")]
    NotListed,
}

/// Why a step is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCleared {
    #[error(
        "{words} needs the consent of {required} besides the one who asks, and no transcript was given"
    )]
    Needed {
        words: String,
        required: u32,
        hint: String,
    },
    #[error("the transcript is refused: {0}")]
    Transcript(#[from] BadTranscript),
    #[error("the transcript is for something else: {found}, not {wanted}")]
    OtherStep { found: String, wanted: String },
    #[error(
        "the request of the transcript ended at {until}, and the clock of this machine says {now}"
    )]
    Expired { until: String, now: String },
    #[error("the transcript is from {from}, and the clock of this machine says {now}")]
    NotYet { from: String, now: String },
    #[error("a step was taken with this transcript before")]
    Used,
    #[error("{name}, who asks, does not count here: {doubt}")]
    Asker { name: String, doubt: Doubt },
    #[error("{too_few}{}", uncounted(.doubts))]
    TooFew {
        too_few: TooFew,
        doubts: Vec<(String, Doubt)>,
    },
}

/// The only way to a [`Cleared`].
pub fn clear<S: CeremonyStep>(
    step: &S,
    transcript: Option<&str>,
    bar: &Bar,
) -> Result<Cleared, NotCleared> {
    let Some(text) = transcript else {
        return match bar.required {
            0 => Ok(Cleared { warrant: None }),
            required => Err(needed(step, required)),
        };
    };
    if text.len() > TRANSCRIPT_MAX_BYTES {
        return Err(BadTranscript::Malformed.into());
    }
    let transcript = Transcript::from_json(text)?;
    let domain = bar.domain.as_ref();
    let said = transcript.statements(&bar.roots, &bar.issuing, domain)?;
    is_meant(step, said.request.claims())?;
    is_in_time(said.request.claims(), bar.now)?;
    if bar.used.contains(&said.request.sha256_hex()) {
        return Err(NotCleared::Used);
    }
    let (asker, domain) = (&said.request, &said.domain);
    if let Err(doubt) = bar.believe(asker, domain) {
        let name = asker.name().to_owned();
        return Err(NotCleared::Asker { name, doubt });
    }
    let (mut counted, mut doubts) = (Vec::new(), Vec::new());
    for consent in said.consents {
        match bar.believe(&consent, domain) {
            Ok(()) => counted.push(consent),
            Err(doubt) => doubts.push((consent.name().to_owned(), doubt)),
        }
    }
    warrant(&said.request, &counted, bar.required)
        .map_err(|too_few| NotCleared::TooFew { too_few, doubts })
}

fn warrant(
    request: &Signed<Request>,
    counted: &[Signed<Consent>],
    required: u32,
) -> Result<Cleared, TooFew> {
    let consented = judge(request, counted, required)?;
    Ok(Cleared {
        warrant: Some(Warrant {
            request: request.claims().jti.clone(),
            request_sha256: request.sha256_hex(),
            asked_by: request.name().to_owned(),
            consented: consented.by().to_vec(),
        }),
    })
}

/// What the one who is refused for want of a transcript is told.
pub fn needed<S: CeremonyStep>(step: &S, required: u32) -> NotCleared {
    NotCleared::Needed {
        words: step.words(),
        required,
        hint: format!(
            "an operator asks the others: {}\n\
             with enough consents: m2key-authority consent transcript <id> > transcript.json\n\
             then here again, with --transcript transcript.json",
            step.command()
        ),
    }
}

fn is_meant<S: CeremonyStep>(step: &S, request: &Request) -> Result<(), NotCleared> {
    match request.verb == S::VERB && request.body == step.body() {
        true => Ok(()),
        false => Err(NotCleared::OtherStep {
            found: plain(&format!("{} {}", request.verb, request.body)),
            wanted: format!("{} {}", S::VERB, step.body()),
        }),
    }
}

fn is_in_time(request: &Request, now: u64) -> Result<(), NotCleared> {
    let seconds = |at: i64| u64::try_from(at).unwrap_or(0);
    let (from, until) = (seconds(request.iat - SKEW_MAX_S), seconds(request.exp));
    match now {
        now if now > until => Err(NotCleared::Expired {
            until: in_words(until),
            now: in_words(now),
        }),
        now if now < from => Err(NotCleared::NotYet {
            from: in_words(seconds(request.iat)),
            now: in_words(now),
        }),
        _ => Ok(()),
    }
}

impl Bar {
    /// Whether whoever signed this counts now, and here.
    fn believe<C>(&self, signed: &Signed<C>, domain: &TrustDomain) -> Result<(), Doubt>
    where
        C: Dated + protocol::jws::Purpose,
    {
        let anchors = Anchors {
            roots: &self.roots,
            issuing: &self.issuing,
            domain,
        };
        verify::<C>(signed.text(), &anchors, AsOf::Time(self.now)).map_err(Doubt::Statement)?;
        let certificate = signed.certificate();
        if !self.issuing_keys.has(signed.issuing_key_hex()) {
            return Err(Doubt::IssuingKey);
        }
        if self.revoked.contains(&certificate.serial_hex()) {
            return Err(Doubt::Revoked);
        }
        let key = hex(&certificate.spki_sha256());
        match self.operators.is_empty() || self.operators.get(signed.name()) == Some(&key) {
            true => Ok(()),
            false => Err(Doubt::NotListed),
        }
    }
}

impl IssuingKeys {
    fn has(&self, key: Option<String>) -> bool {
        key.is_some_and(|key| match self {
            Self::Only(keys) => keys.contains(&key),
            Self::AllBut(keys) => !keys.contains(&key),
        })
    }
}

impl Cleared {
    /// Who consented, if anybody had to or did.
    pub fn warrant(&self) -> Option<&Warrant> {
        self.warrant.as_ref()
    }
}

impl Warrant {
    /// For people.
    pub fn words(&self) -> String {
        let consented = match self.consented.as_slice() {
            [] => "nobody".into(),
            names => names.join(", "),
        };
        format!(
            "asked by {}, consented {consented} (request {}, SHA-256 {})",
            self.asked_by, self.request, self.request_sha256
        )
    }
}

impl NotCleared {
    pub(crate) fn whose_move(&self) -> Move {
        match self {
            Self::Needed { .. } | Self::TooFew { .. } => Move::Operator,
            Self::NotYet { .. } => Move::Operator,
            Self::Transcript(_)
            | Self::OtherStep { .. }
            | Self::Expired { .. }
            | Self::Used
            | Self::Asker { .. } => Move::Asker,
        }
    }

    pub(crate) fn hint(&self) -> &str {
        match self {
            Self::Needed { hint, .. } => hint,
            Self::Transcript(error) => error.hint(),
            Self::OtherStep { .. } => {
                "ask for consents to exactly this; --dry-run here says with which command"
            }
            Self::Expired { .. } => {
                "compare the clock; if it is right, ask the others anew (`policy set --life-h` \
                 gives requests longer)"
            }
            Self::NotYet { .. } => "set the clock of this machine",
            Self::Used => "a transcript serves once: ask the others anew",
            Self::Asker { .. } => "another operator asks, or the same under a good certificate",
            Self::TooFew { .. } => {
                "have more operators sign: m2key-authority consent sign <id>; then print the \
                 transcript again"
            }
        }
    }
}

fn uncounted(doubts: &[(String, Doubt)]) -> String {
    let each = doubts
        .iter()
        .map(|(name, doubt)| format!("; {name} does not count: {doubt}"));
    each.collect()
}
