//! How is an examination told to a person, and to a program?

use std::path::Path;

use crate::doctor::{self, Diagnosis, Finding, Mover, Verdict};
use crate::error::{AgentError, Whose};

/// Prints what was found; fails by the worst of it.
pub(super) async fn examine(config: &Path, json: bool) -> Result<(), AgentError> {
    let diagnosis = doctor::examine(config).await;
    match json {
        true => {
            let text = serde_json::to_string_pretty(&diagnosis).map_err(AgentError::bug)?;
            println!("{text}");
        }
        false => print!("{}", in_words(&diagnosis)),
    }
    verdict(&diagnosis)
}

fn verdict(diagnosis: &Diagnosis) -> Result<(), AgentError> {
    let (broken, attention) = (
        diagnosis.count(Verdict::Broken),
        diagnosis.count(Verdict::Attention),
    );
    let what = format!("{broken} broken, {attention} to look after");
    let hint = "each finding above says whose move it is, and what to do";
    match diagnosis.verdict {
        Verdict::Ok => Ok(()),
        Verdict::Attention => Err(AgentError::new(Whose::Later, what, hint)),
        Verdict::Broken => Err(AgentError::operator(what, hint)),
    }
}

fn in_words(diagnosis: &Diagnosis) -> String {
    let terminal = diagnosis.terminal.as_deref().unwrap_or("without a name");
    let mut text = format!("Terminal {terminal}\n\n");
    for finding in &diagnosis.findings {
        text += &line(finding);
    }
    if diagnosis.verdict == Verdict::Ok {
        text += "\nAll is well.\n";
    }
    text
}

fn line(finding: &Finding) -> String {
    let verdict = match finding.verdict {
        Verdict::Ok => "ok",
        Verdict::Attention => "ATTENTION",
        Verdict::Broken => "BROKEN",
    };
    let Finding { subject, says, .. } = finding;
    let mut text = format!("{verdict:<10} {subject:<14} {says}\n");
    if let Some(fix) = &finding.fix {
        text += &format!("{:<10} {:<14} {}\n", "", mover(fix.whose), fix.what);
    }
    text
}

fn mover(whose: Mover) -> &'static str {
    match whose {
        Mover::Merchant => "→ you:",
        Mover::Installer => "→ installer:",
        Mover::Operator => "→ operator:",
        Mover::Nobody => "→ wait:",
    }
}
