//! How do numbers stand beside each other, and how do they get into docs/PERFORMANCE.md?

use std::path::{Path, PathBuf};

#[path = "targets.rs"]
pub(crate) mod targets;

use targets::Target;

/// How often everything is measured.
pub(crate) const ROUNDS: usize = 5;

/// One line: ours, and what it stands beside, per second.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) ours: f64,
    pub(crate) beside: &'static str,
    pub(crate) limit: f64,
}

pub(crate) fn render(rows: &[Row]) -> String {
    let mut text = String::from(
        "| ours | per second | beside | per second | ratio |\n|---|--:|---|--:|--:|\n",
    );
    for row in rows {
        let ratio = row.ours / row.limit;
        text += &format!(
            "| {} | {:.0} | {} | {:.0} | {ratio:.2} |\n",
            row.what, row.ours, row.beside, row.limit
        );
    }
    text
}

/// The same with what is asked for beside each ratio, where something is.
#[allow(dead_code, reason = "not every benchmark has targets")]
pub(crate) fn render_judged(rows: &[(Row, Option<&Target>)]) -> String {
    let mut text = String::from(
        "| ours | per second | beside | per second | ratio | target | |\n|---|--:|---|--:|--:|--:|---|\n",
    );
    for (row, target) in rows {
        let ratio = row.ours / row.limit;
        let judged = target.map_or("– |".to_owned(), |it| it.cells(ratio));
        let [ours, limit] = [row.ours, row.limit].map(rate);
        text += &format!(
            "| {} | {ours} | {} | {limit} | {ratio:.2} | {judged} |\n",
            row.what, row.beside
        );
    }
    text
}

fn rate(per_second: f64) -> String {
    match per_second {
        few if few < 100.0 => format!("{few:.1}"),
        many => format!("{many:.0}"),
    }
}

/// Replaces what stands between the marks of this name on docs/PERFORMANCE.md.
pub(crate) fn write(mark: &str, table: &str) -> std::io::Result<()> {
    let (before, _, after) = parts(mark)?;
    let (begin, end) = marks(mark);
    std::fs::write(page(), format!("{before}{begin}\n{table}{end}{after}"))
}

/// What stands there now.
fn read(mark: &str) -> std::io::Result<String> {
    Ok(parts(mark)?.1)
}

/// The page before the marks, between them and after them.
fn parts(mark: &str) -> std::io::Result<(String, String, String)> {
    let (begin, end) = marks(mark);
    let text = std::fs::read_to_string(page())?;
    let missing = || std::io::Error::other(format!("docs/PERFORMANCE.md has lost {begin}"));
    let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
    let (between, after) = rest.split_once(&end).ok_or_else(missing)?;
    Ok((before.into(), between.trim_start().into(), after.into()))
}

fn marks(mark: &str) -> (String, String) {
    (
        format!("<!-- {mark}: begin -->"),
        format!("<!-- {mark}: end -->"),
    )
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PERFORMANCE.md")
}

pub(crate) fn median(measured: &[f64]) -> f64 {
    let mut sorted = measured.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
