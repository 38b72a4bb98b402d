//! How is a step told, on the terminal and in `summary.json`?

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Failure;

/// One step of the story as `summary.json` keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    pub ok: bool,
    /// What was seen, or why it did not hold.
    pub seen: String,
}

#[derive(Serialize)]
struct Summary<'a> {
    steps: &'a [Step],
}

/// Tells the steps to whoever watches, and keeps them.
pub struct Teller {
    out: Box<dyn Write + Send>,
    steps: Vec<Step>,
}

impl Teller {
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self {
            out: Box::new(out),
            steps: Vec::new(),
        }
    }

    /// Tells what is about to happen, lets it happen, and tells what was seen.
    pub async fn step<T>(
        &mut self,
        name: &str,
        happening: &str,
        doing: impl Future<Output = Result<(T, String), Failure>>,
    ) -> Result<T, Failure> {
        let number = self.steps.len() + 1;
        self.say(&format!("\n{number:>2}  {name}\n{}", indented(happening)));
        let done = doing.await;
        let seen = match &done {
            Ok((_, seen)) => seen.clone(),
            Err(failure) => failure.to_string(),
        };
        let ok = done.is_ok();
        let verdict = if ok { "seen" } else { "FAILED" };
        self.say(&indented(&format!("{verdict}: {seen}")));
        self.steps.push(Step {
            name: name.into(),
            ok,
            seen,
        });
        done.map(|(value, _)| value)
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// A line for whoever watches.
    pub fn say(&mut self, text: &str) {
        // Nobody may be watching; the summary keeps it all the same.
        let _ = writeln!(self.out, "{text}").and_then(|()| self.out.flush());
    }

    pub(super) fn write_summary(&self, path: &Path) -> Result<(), Failure> {
        let summary = Summary { steps: &self.steps };
        let text = serde_json::to_string_pretty(&summary).map_err(Failure::new)?;
        Ok(std::fs::write(path, text + "\n")?)
    }
}

fn indented(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| format!("    {line}")).collect();
    lines.join("\n")
}
