//! Are card service, reader and tag there?
//!
//! The agent that runs owns the reader and is asked. Without one this looks with the agent's own eyes,
//! which write nothing unless they are told to.

use std::time::Duration;

use super::{Finding, Mover, Verdict, within};
use crate::health::{Report, TagReport};
use crate::platform::{self, Door};
use crate::reader::TagEvent;
use crate::tag::{TagError, hex};
use crate::tag_pcsc;

const SERVICE: &str = "card service";
const READER: &str = "reader";
const TAG: &str = "tag";
/// How long one is looked for.
const LOOK_MAX: Duration = Duration::from_secs(3);

const START_PCSCD: &str = "apt-get install pcscd, then systemctl enable --now pcscd.socket";
const LET_IN: &str = "install the package's polkit rule (50-m2key-agent.rules) for the account of the \
     agent, then restart pcscd";

/// What was seen of service, reader and tag.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sight {
    is_service_silent: bool,
    reader: Option<String>,
    problem: Option<String>,
    tag: Option<String>,
}

pub(super) async fn look(reader_name: Option<&str>, report: Option<&Report>) -> Vec<Finding> {
    let door = within(LOOK_MAX, platform::card_service).await;
    let running = report.and_then(|report| report.tag.as_ref());
    let sight = match running {
        Some(tag) => Sight::told(tag),
        None => match Sight::own(reader_name).await {
            Ok(sight) => sight,
            Err(finding) => return vec![*finding],
        },
    };
    judge(door, &sight)
}

impl Sight {
    fn told(tag: &TagReport) -> Self {
        let silent = [TagError::PcscdAbsent, TagError::NotLetIn].map(|error| error.to_string());
        let wear = tag.wear.as_ref().map(|wear| {
            let (uid, writes) = (&wear.uid, wear.writes);
            format!("{uid}, written {writes} times")
        });
        Self {
            is_service_silent: tag.problem.as_ref().is_some_and(|it| silent.contains(it)),
            reader: tag.reader.clone(),
            problem: tag.problem.clone(),
            tag: wear,
        }
    }

    async fn own(reader_name: Option<&str>) -> Result<Self, Box<Finding>> {
        // Who hangs up on us is told apart from who is not there; the threads below only start over.
        if !matches!(within(LOOK_MAX, enter).await, Some(Ok(()))) {
            return Ok(Self {
                is_service_silent: true,
                ..Self::default()
            });
        }
        let started = tag_pcsc::look(reader_name.map(str::to_owned));
        let (service, mut events) = started.map_err(|error| {
            let says = error.to_string();
            Box::new(Finding::broken(
                READER,
                says,
                Mover::Installer,
                error.hint(),
            ))
        })?;
        let settled = async {
            while let Some(event) = events.recv().await {
                match event {
                    TagEvent::TagArrived { .. }
                    | TagEvent::TagRefused(_)
                    | TagEvent::PcscdAbsent => return,
                    _ => {}
                }
            }
        };
        // Late is as good as never: then the status says what there is.
        let _ = tokio::time::timeout(LOOK_MAX, settled).await;
        let status = service.status();
        let uid = status.tag_uid.map(|uid| hex(&uid));
        let missing = status.reader.is_none().then(|| TagError::NoReader {
            wanted: reader_name.map(str::to_owned),
        });
        let nothing = uid.is_none().then_some(TagError::NoTag);
        let problem = missing.or(status.last_error).or(nothing);
        Ok(Self {
            is_service_silent: status.service_trouble.is_some(),
            reader: status.reader,
            problem: problem.map(|error| error.to_string()),
            tag: uid,
        })
    }
}

fn enter() -> Result<(), pcsc::Error> {
    pcsc::Context::establish(pcsc::Scope::System).map(drop)
}

/// The door is not known where knocking hangs, and there is none on some systems.
fn judge(door: Option<Option<Door>>, sight: &Sight) -> Vec<Finding> {
    let service = service(door, sight);
    let works = service.verdict == Verdict::Ok;
    let mut found = vec![service];
    match &sight.reader {
        _ if !works => {}
        Some(name) => {
            found.push(Finding::ok(READER, name));
            found.push(tag(sight));
        }
        None => found.push(told(READER, sight.problem.as_deref())),
    }
    found
}

fn service(door: Option<Option<Door>>, sight: &Sight) -> Finding {
    let refused = || {
        Finding::broken(
            SERVICE,
            "it runs, but does not let the agent in",
            Mover::Installer,
            LET_IN,
        )
    };
    match door {
        None => Finding::broken(
            SERVICE,
            "it does not answer",
            Mover::Installer,
            "systemctl restart pcscd; if that does not help, unplug the reader and restart this PC",
        ),
        Some(Some(Door::NobodyThere)) => {
            Finding::broken(SERVICE, "pcscd does not run", Mover::Installer, START_PCSCD)
        }
        Some(Some(Door::Barred)) => refused(),
        Some(Some(Door::Open)) if sight.is_service_silent => refused(),
        Some(None) if sight.is_service_silent => Finding::broken(
            SERVICE,
            "the system's smart card service does not answer",
            Mover::Installer,
            "start the service \"Smart Card\" and set it to start automatically",
        ),
        Some(Some(Door::Open) | None) => Finding::ok(SERVICE, "it runs and lets the agent in"),
    }
}

fn tag(sight: &Sight) -> Finding {
    match (&sight.problem, &sight.tag) {
        (Some(problem), _) => told(TAG, Some(problem)),
        (None, Some(tag)) => Finding::ok(TAG, tag),
        (None, None) => Finding::ok(TAG, "nothing is wrong with it"),
    }
}

/// The words of the tag path end with the next move of the person there.
fn told(subject: &'static str, problem: Option<&str>) -> Finding {
    let problem = problem.unwrap_or("nothing is known of it: look again in a moment");
    let (says, what) = problem
        .split_once(": ")
        .unwrap_or((problem, "unplug the reader and plug it in again"));
    Finding::broken(subject, says, Mover::Merchant, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(found: &[Finding]) -> Vec<(&str, Verdict)> {
        found.iter().map(|it| (it.subject, it.verdict)).collect()
    }

    #[test]
    fn a_service_that_opens_its_door_to_others_and_not_to_the_agent_wants_a_polkit_rule() {
        let silent = Sight {
            is_service_silent: true,
            ..Sight::default()
        };
        let found = judge(Some(Some(Door::Open)), &silent);
        assert_eq!(verdicts(&found), [(SERVICE, Verdict::Broken)]);
        assert!(found[0].fix.as_ref().unwrap().what.contains("polkit"));
        let found = judge(Some(Some(Door::NobodyThere)), &silent);
        assert!(found[0].fix.as_ref().unwrap().what.contains("pcscd.socket"));
    }

    #[test]
    fn an_agent_that_pcscd_hangs_up_on_is_not_told_to_unplug_its_reader() {
        let told = Sight::told(&TagReport {
            reader: None,
            problem: Some(TagError::NotLetIn.to_string()),
            wear: None,
        });
        let found = judge(Some(Some(Door::Open)), &told);
        assert_eq!(verdicts(&found), [(SERVICE, Verdict::Broken)]);
        assert_eq!(found[0].fix.as_ref().unwrap().what, LET_IN);
    }

    #[test]
    fn a_missing_reader_and_a_missing_tag_say_what_the_merchant_does() {
        let mut sight = Sight {
            problem: Some(TagError::NoReader { wanted: None }.to_string()),
            ..Sight::default()
        };
        let found = judge(Some(Some(Door::Open)), &sight);
        assert_eq!(verdicts(&found)[1], (READER, Verdict::Broken));
        assert_eq!(found[1].fix.as_ref().unwrap().what, "plug one in");
        sight.reader = Some("ACS ACR122U".into());
        sight.problem = Some(TagError::NoTag.to_string());
        let found = judge(Some(Some(Door::Open)), &sight);
        assert_eq!(verdicts(&found)[2], (TAG, Verdict::Broken));
        sight.problem = None;
        sight.tag = Some("04A1".into());
        let all = judge(Some(Some(Door::Open)), &sight);
        assert!(all.iter().all(|it| it.verdict == Verdict::Ok));
    }
}
