//! What would this verb do, and whom would it leave without?
//!
//! Everything is decided here, before anything is recorded: which key, under which label, whose
//! seeds. The refusals are the same with `--dry-run`.

use std::fmt;

use pki::lifecycle::{KeyState, Step};
use protocol::ids::{MerchantId, TerminalId};
use protocol::problem::ProblemType;
use serde::{Deserialize, Serialize};

use super::{name_all, refused, say_whose};
use crate::app::App;
use crate::services::Failure;
use crate::services::jwks::JWKS_MAX_AGE_S;
use crate::store::{KeyPurpose, KeyRecord, OperationId, TerminalStatus, When, Whose, Work};

/// What will be done, exactly, and in words.
#[derive(Debug, Clone)]
pub struct Plan {
    pub work: Work,
    pub says: Vec<String>,
}

/// What an operator does to a key of the HSM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    Prepare,
    Activate,
    Taint,
    Retire,
}

/// A step as it is asked for.
#[derive(Debug, Clone)]
pub struct StepWanted<'a> {
    pub verb: Verb,
    /// A purpose, a kid or a label.
    pub key: &'a str,
    /// Activates a key that others cannot have fetched yet.
    pub now: bool,
}

/// New seeds as they are asked for.
#[derive(Debug, Clone)]
pub struct SeedsWanted {
    pub whose: Whose,
    pub when: When,
    pub reason: String,
}

pub async fn plan_step(app: &App, wanted: &StepWanted<'_>) -> Result<Plan, Failure> {
    let keys = app.store.keys().await?;
    match wanted.verb {
        Verb::Prepare => plan_prepare(app, &keys, wanted.key).await,
        Verb::Activate => plan_activate(app, &keys, wanted).await,
        Verb::Taint => plan_taint(app, &keys, wanted.key).await,
        Verb::Retire => plan_retire(app, &keys, wanted.key).await,
    }
}

pub async fn plan_seeds(app: &App, wanted: SeedsWanted) -> Result<Plan, Failure> {
    check_whose(app, &wanted.whose).await?;
    let count = count(app, &wanted.whose).await?;
    let whose = say_whose(&wanted.whose);
    let SeedsWanted {
        whose: chosen,
        when,
        reason,
    } = wanted;
    Ok(Plan {
        says: vec![
            format!("makes a new seed for {whose}: {count}"),
            effect(when),
        ],
        work: Work::Reseed {
            whose: chosen,
            when,
            reason,
        },
    })
}

pub async fn plan_unban(app: &App, terminal: TerminalId, reason: String) -> Result<Plan, Failure> {
    let known = app.store.terminal(terminal).await?;
    let Some(known) = known else {
        return Err(refused(
            ProblemType::Unknown,
            format!("no terminal {terminal}"),
        ));
    };
    if known.status == TerminalStatus::Active {
        let detail = format!("terminal {terminal} is not banned");
        return Err(refused(ProblemType::AlreadyExists, detail));
    }
    Ok(Plan {
        says: vec![
            format!("makes a new seed for terminal {terminal}; the old one counts for nothing"),
            "lifts the ban; the machine enrols again with a new join token".into(),
        ],
        work: Work::Unban { terminal, reason },
    })
}

async fn plan_prepare(app: &App, keys: &[KeyRecord], wanted: &str) -> Result<Plan, Failure> {
    let purpose: KeyPurpose = wanted.parse().map_err(|error| malformed(&error))?;
    let prepared = keys
        .iter()
        .find(|key| key.purpose == purpose && key.state == KeyState::Prepared);
    if let Some(prepared) = prepared {
        let detail = format!(
            "{} is prepared already: activate it, or taint and retire it first",
            prepared.label.0
        );
        return Err(refused(ProblemType::AlreadyExists, detail));
    }
    let label = next_label(app, keys, purpose).await?;
    let mut says = vec![format!(
        "makes a {purpose} key in the HSM, labelled {label}"
    )];
    says.push(match purpose {
        KeyPurpose::Sealing | KeyPurpose::Binding => {
            "no seed is under it before it is activated".into()
        }
        KeyPurpose::Tag => "no tag has keys of it before it is activated".into(),
        _ => format!(
            "publishes its public half at once; it signs nothing before it is activated, in \
             {JWKS_MAX_AGE_S} s at the earliest"
        ),
    });
    Ok(Plan {
        work: Work::Prepare { purpose, label },
        says,
    })
}

/// Above every number that the table or the HSM knows: a label never means two keys.
pub(super) async fn next_label(
    app: &App,
    keys: &[KeyRecord],
    purpose: KeyPurpose,
) -> Result<String, Failure> {
    let in_hsm = app.hsm.inventory().await?;
    let known = keys.iter().map(|key| &key.label);
    let known = known.chain(in_hsm.iter().map(|report| &report.label));
    let last = known.filter_map(|label| purpose.number_of(label)).max();
    Ok(purpose.label(last.unwrap_or(0).saturating_add(1)).0)
}

async fn plan_activate(
    app: &App,
    keys: &[KeyRecord],
    wanted: &StepWanted<'_>,
) -> Result<Plan, Failure> {
    let key = choose(keys, wanted.key, Step::Activate)?;
    check_published(app, key, wanted.now)?;
    let (purpose, label) = (key.purpose, &key.label.0);
    let before = keys
        .iter()
        .find(|other| other.purpose == purpose && other.state == KeyState::Active);
    let before = before.map_or("none", |key| key.label.0.as_str());
    let says = match purpose {
        KeyPurpose::Tag => vec![
            format!("keys of tags that are made from now on follow from {label}"),
            format!("tags that have keys of {before} keep them, and their links count as before"),
        ],
        KeyPurpose::Schedule
        | KeyPurpose::Receipt
        | KeyPurpose::Checkpoint
        | KeyPurpose::Request => vec![
            format!("{label} signs every {purpose} from now on"),
            format!("{before} signs no more; what it signed is believed as before"),
        ],
        KeyPurpose::Sealing | KeyPurpose::Binding => {
            let whose = after_activation(app, key);
            vec![
                format!("new seeds are kept under {label}; {before} serves the seeds it has"),
                format!(
                    "makes a new seed for {}: {}",
                    say_whose(&whose),
                    count(app, &whose).await?
                ),
                effect(When::Planned),
            ]
        }
    };
    Ok(Plan {
        work: Work::Activate {
            kid: key.kid.clone(),
        },
        says,
    })
}

fn after_activation(app: &App, key: &KeyRecord) -> Whose {
    let keys = app.keyring().sealing().clone();
    let label = key.label.0.clone();
    match key.purpose {
        KeyPurpose::Binding => Whose::NotUnder {
            sealing: keys.sealing.0,
            binding: label,
        },
        _ => Whose::NotUnder {
            sealing: label,
            binding: keys.binding.0,
        },
    }
}

/// Whoever verifies may keep the set of yesterday for so long.
fn check_published(app: &App, key: &KeyRecord, now: bool) -> Result<(), Failure> {
    if now || key.public_point.is_none() || key.state == KeyState::Active {
        return Ok(());
    }
    let Some(published) = key.published_at else {
        let detail = format!(
            "{} was not published yet: the running daemon does so. In an emergency: --now",
            key.label.0
        );
        return Err(refused(ProblemType::WouldStrand, detail));
    };
    let seconds = app.clock.now().secs() - published.secs();
    let left = i64::from(JWKS_MAX_AGE_S) - seconds;
    if left <= 0 {
        return Ok(());
    }
    let detail = format!(
        "others may keep a key set without {} for {left} s more. In an emergency: --now",
        key.label.0
    );
    Err(refused(ProblemType::WouldStrand, detail))
}

async fn plan_taint(app: &App, keys: &[KeyRecord], wanted: &str) -> Result<Plan, Failure> {
    let key = choose(keys, wanted, Step::Taint)?;
    let label = &key.label.0;
    let says = match key.purpose {
        KeyPurpose::Schedule => vec![format!(
            "terminals believe no schedule that {label} signed, and fetch new ones now"
        )],
        KeyPurpose::Request => vec![format!(
            "rails and webhooks are asked with no signature of {label} any more; without an active \
             key they are not asked at all"
        )],
        KeyPurpose::Receipt | KeyPurpose::Checkpoint => vec![
            format!("terminals believe nothing that {label} signed"),
            format!(
                "the published key set says since when; what {label} signed before is evidence \
                 only where it was kept since"
            ),
        ],
        KeyPurpose::Tag => vec![
            format!("links of tags that have keys of {label} are refused"),
            "QR and typed code go on; each tag needs new keys: tag keys, tag personalise".into(),
        ],
        KeyPurpose::Sealing | KeyPurpose::Binding => {
            let whose = Whose::Under(label.clone());
            vec![
                format!(
                    "makes a new seed for {}: {}",
                    say_whose(&whose),
                    count(app, &whose).await?
                ),
                effect(When::Compromised),
            ]
        }
    };
    Ok(Plan {
        work: Work::Taint {
            kid: key.kid.clone(),
        },
        says,
    })
}

async fn plan_retire(app: &App, keys: &[KeyRecord], wanted: &str) -> Result<Plan, Failure> {
    let key = choose(keys, wanted, Step::Retire)?;
    let stranded = app
        .store
        .dependents(key.kid.clone(), app.clock.now())
        .await?;
    if stranded.count > 0 {
        let names = name_all(&stranded);
        let detail = format!("{}: {names}", why_kept(key));
        return Err(refused(ProblemType::WouldStrand, detail));
    }
    let mut says = vec![format!("destroys {} in the HSM, for ever", key.label.0)];
    says.extend(match key.purpose {
        KeyPurpose::Receipt | KeyPurpose::Checkpoint => {
            Some("its public half stays published for ever".to_owned())
        }
        KeyPurpose::Schedule | KeyPurpose::Request => {
            Some("its public half is published no more".to_owned())
        }
        KeyPurpose::Sealing | KeyPurpose::Binding | KeyPurpose::Tag => None,
    });
    Ok(Plan {
        work: Work::Retire {
            kid: key.kid.clone(),
        },
        says,
    })
}

fn why_kept(key: &KeyRecord) -> String {
    let label = &key.label.0;
    match key.purpose {
        KeyPurpose::Schedule => format!("schedules signed by {label} have not ended at"),
        KeyPurpose::Tag => format!("tags have keys of {label} at"),
        _ => format!("seeds under {label} still count at"),
    }
}

/// The key that is meant, in a state from which `step` leads on.
fn choose<'a>(keys: &'a [KeyRecord], wanted: &str, step: Step) -> Result<&'a KeyRecord, Failure> {
    if let Some(named) = keys
        .iter()
        .find(|key| key.kid == wanted || key.label.0 == wanted)
    {
        return may(named, step).map(|()| named);
    }
    let purpose: KeyPurpose = wanted.parse().map_err(|_| {
        let detail = format!("no key {wanted}, and no purpose of this name");
        refused(ProblemType::Unknown, detail)
    })?;
    let of_purpose = || keys.iter().filter(|key| key.purpose == purpose);
    let ready: Vec<&KeyRecord> = of_purpose().filter(|key| leads_on(key, step)).collect();
    match ready.as_slice() {
        [only] => Ok(only),
        [] => {
            let active = of_purpose().find(|key| key.state == KeyState::Active);
            let telling = active.or(of_purpose().next_back());
            Err(none_ready(purpose, telling, step))
        }
        several => {
            let labels: Vec<&str> = several.iter().map(|key| key.label.0.as_str()).collect();
            let detail = format!("several could be {step}: name one of {}", labels.join(", "));
            Err(refused(ProblemType::WrongKeyState, detail))
        }
    }
}

/// A step that changes something; a prepared key that nobody wants any more is named to be tainted or
/// retired, never meant by its purpose.
fn leads_on(key: &KeyRecord, step: Step) -> bool {
    let unused = key.state == KeyState::Prepared && step != Step::Activate;
    let to = key.state.after(step);
    !unused && to.is_ok_and(|to| to != key.state)
}

/// In the words for the key that most likely was meant.
fn none_ready(purpose: KeyPurpose, meant: Option<&KeyRecord>, step: Step) -> Failure {
    let hint = match (step, meant) {
        (Step::Activate, _) => format!("prepare one first: key prepare {purpose}"),
        (_, Some(key)) => key
            .state
            .after(step)
            .err()
            .map_or_else(|| "list the keys first".into(), |wrong| wrong.hint().into()),
        (_, None) => "list the keys first".into(),
    };
    let detail = format!("no {purpose} key can be {step} now: {hint}");
    refused(ProblemType::WrongKeyState, detail)
}

fn may(key: &KeyRecord, step: Step) -> Result<(), Failure> {
    key.state.after(step).map(drop).map_err(|wrong| {
        let detail = format!("{}: {wrong}; {}", key.label.0, wrong.hint());
        refused(ProblemType::WrongKeyState, detail)
    })
}

async fn check_whose(app: &App, whose: &Whose) -> Result<(), Failure> {
    match whose {
        Whose::Terminal(id) => check_terminal(app, *id).await,
        Whose::Merchant(id) => check_merchant(app, *id).await,
        Whose::Banned(_) | Whose::All | Whose::Void | Whose::NotUnder { .. } | Whose::Under(_) => {
            Ok(())
        }
    }
}

async fn check_terminal(app: &App, id: TerminalId) -> Result<(), Failure> {
    let known = app.store.terminal(id).await?;
    let known = known.ok_or_else(|| refused(ProblemType::Unknown, format!("no terminal {id}")))?;
    match known.status {
        TerminalStatus::Active => Ok(()),
        TerminalStatus::Banned { .. } => {
            let detail = format!("terminal {id} is banned: `terminal unban` gives it a new seed");
            Err(refused(ProblemType::TerminalRefused, detail))
        }
    }
}

async fn check_merchant(app: &App, id: MerchantId) -> Result<(), Failure> {
    match app.store.merchant(id).await? {
        Some(_) => Ok(()),
        None => Err(refused(ProblemType::Unknown, format!("no merchant {id}"))),
    }
}

/// No operation has made any seed under the id of none.
async fn count(app: &App, whose: &Whose) -> Result<String, Failure> {
    let none = OperationId(uuid::Uuid::nil());
    let now = app.clock.now();
    let count = app.store.count_to_reseed(none, whose.clone(), now).await?;
    Ok(match count {
        1 => "1 terminal".into(),
        count => format!("{count} terminals"),
    })
}

fn effect(when: When) -> String {
    match when {
        When::Planned => {
            "each takes effect at the first hour that its terminal has no schedule for: nobody \
             notices"
        }
        When::Compromised => {
            "takes effect now: tokens of the old seeds are refused from then on, and each terminal \
             until it has fetched a schedule"
        }
    }
    .into()
}

fn malformed(error: &dyn fmt::Display) -> Failure {
    refused(ProblemType::MalformedRequest, error)
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "prepare",
            Self::Activate => "activate",
            Self::Taint => "taint",
            Self::Retire => "retire",
        })
    }
}
