//! How do numbers stand beside each other, and how do they get into docs/PERFORMANCE.md?

use std::path::Path;

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

/// Replaces what stands between the marks of this name on docs/PERFORMANCE.md.
pub(crate) fn write(mark: &str, table: &str) -> std::io::Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PERFORMANCE.md");
    let (begin, end) = (
        format!("<!-- {mark}: begin -->"),
        format!("<!-- {mark}: end -->"),
    );
    let text = std::fs::read_to_string(&page)?;
    let missing = || std::io::Error::other(format!("docs/PERFORMANCE.md has lost {begin}"));
    let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
    std::fs::write(page, format!("{before}{begin}\n{table}{end}{after}"))
}

pub(crate) fn median(measured: &[f64]) -> f64 {
    let mut sorted = measured.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
