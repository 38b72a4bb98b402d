//! What stands in the rows of a terminal window?

use serde::Deserialize;

use super::window::Size;
use crate::kiosk::view::modules;
use crate::words::Words;

/// White around a QR code, in modules, as ISO/IEC 18004 wants.
const QUIET: usize = 4;
/// The least that words need beside it, in columns.
const WORDS_MIN: usize = 24;
/// Between the two.
const GAP: usize = 3;
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[1;32m";
const YELLOW: &str = "\x1b[1;33m";
/// Black on white, whatever the window's own colours.
const PAPER: &str = "\x1b[0;38;5;16;48;5;231m";

/// A frame of the agent, as far as a window shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Seen {
    screen: String,
    terminal: String,
    online: bool,
    amount: Option<String>,
    currency: Option<String>,
    reference: Option<String>,
    mark: Option<String>,
    title: String,
    note: Option<String>,
    #[serde(rename = "where")]
    where_typed: Option<String>,
    qr: Option<SeenQr>,
    code: Option<SeenCode>,
}

#[derive(Clone, PartialEq, Eq, Deserialize)]
struct SeenQr {
    size: usize,
    path: String,
}

#[derive(Clone, PartialEq, Eq, Deserialize)]
struct SeenCode {
    text: String,
}

impl std::fmt::Debug for SeenQr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SeenQr(…)")
    }
}

impl std::fmt::Debug for SeenCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SeenCode(…)")
    }
}

impl Seen {
    /// What there is to say when the agent says nothing.
    pub(super) fn gone(words: Words) -> Self {
        Self {
            screen: "gone".into(),
            title: words.agent_gone().into(),
            note: Some(words.alone_note().into()),
            online: true,
            ..Self::default()
        }
    }

    /// At most as many rows as the window has, each no wider than it.
    pub(super) fn rows(&self, (columns, rows): Size, words: Words) -> Vec<String> {
        let qr = self
            .qr
            .as_ref()
            .and_then(|qr| half_blocks(qr.size, &qr.path));
        let wide = self.qr.as_ref().map_or(0, |qr| qr.size + 2 * QUIET);
        let fits = |qr: &Vec<String>| qr.len() <= rows && wide + GAP + WORDS_MIN <= columns;
        match qr {
            Some(qr) if fits(&qr) => {
                let said = self.said(columns - wide - GAP, words, false);
                beside(qr, middle(said, rows), wide)
            }
            qr => middle(
                self.said(columns.saturating_sub(2), words, qr.is_some()),
                rows,
            ),
        }
    }

    /// Everything in words; `hidden`: the QR code has no room.
    fn said(&self, width: usize, words: Words, hidden: bool) -> Vec<String> {
        let mut lines = Vec::new();
        let mut say = |style: &str, text: &str| {
            let wrapped = wrap(&plain(text), width.max(1));
            lines.extend(
                wrapped
                    .into_iter()
                    .map(|line| format!("{style}{line}\x1b[0m")),
            );
        };
        if let Some(amount) = &self.amount {
            say(
                BOLD,
                &format!("{amount} {}", self.currency.as_deref().unwrap_or_default()),
            );
        }
        say(self.style(), &self.title);
        self.note.iter().for_each(|note| say("", note));
        if let Some(mark) = &self.mark {
            say(BOLD, &format!("{}: {mark}", words.your_number()));
        }
        self.reference.iter().for_each(|it| say(DIM, it));
        if let Some(code) = &self.code {
            let host = self.where_typed.as_deref();
            say("", "");
            match host {
                Some(host) => say("", &format!("{} {host}", words.type_how_at())),
                None => say("", words.type_how()),
            }
            say(BOLD, &code.text.replace('-', " "));
        }
        if hidden {
            say(DIM, words.window_small());
        }
        if !self.terminal.is_empty() {
            say("", "");
            say(DIM, &format!("{} {}", words.terminal(), self.terminal));
        }
        if !self.online {
            say(YELLOW, words.no_connection());
        }
        lines
    }

    fn style(&self) -> &'static str {
        match &*self.screen {
            "paid" => GREEN,
            "ended" | "offline" | "out-of-service" | "gone" => YELLOW,
            _ => BOLD,
        }
    }
}

/// Two rows of modules in one of text.
fn half_blocks(size: usize, path: &str) -> Option<Vec<String>> {
    let dark = modules(size, path)?;
    let side = size + 2 * QUIET;
    let at = |x: usize, y: usize| {
        let inside = x.checked_sub(QUIET).zip(y.checked_sub(QUIET));
        inside.is_some_and(|(x, y)| dark.get(y).and_then(|row| row.get(x)).is_some_and(|it| *it))
    };
    let block = |x, y| match (at(x, y), at(x, y + 1)) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) => ' ',
    };
    let row = |y| {
        let blocks: String = (0..side).map(|x| block(x, y)).collect();
        format!("{PAPER}{blocks}\x1b[0m")
    };
    Some((0..side).step_by(2).map(row).collect())
}

fn beside(qr: Vec<String>, said: Vec<String>, wide: usize) -> Vec<String> {
    let rows = qr.len().max(said.len());
    let blank = " ".repeat(wide);
    let row = |row: usize| {
        let left = qr.get(row).unwrap_or(&blank);
        let right = said.get(row).map_or("", String::as_str);
        format!("{left}{:GAP$}{right}", "")
    };
    (0..rows).map(row).collect()
}

/// Half-way down; what has no room is left out at the end.
fn middle(said: Vec<String>, rows: usize) -> Vec<String> {
    let above = rows.saturating_sub(said.len()) / 2;
    let blank = std::iter::repeat_n(String::new(), above);
    blank.chain(said).take(rows).collect()
}

/// A till may write what it likes into a reference, but not into somebody's terminal.
fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '·' } else { c };
    text.chars().map(shown).collect()
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let line = lines
                .last_mut()
                .expect("there is a first line, and lines are only added");
            let used = line.chars().count();
            let gap = usize::from(used > 0);
            if used + gap + word.len() <= width {
                line.extend(std::iter::repeat_n(' ', gap).chain(word));
                break;
            }
            if used > 0 {
                lines.push(String::new());
                continue;
            }
            line.extend(word.drain(..width));
            lines.push(String::new());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::kiosk::View;
    use crate::scene::Scene;
    use crate::testing::boards;
    use crate::words::Language;

    const SIZES: [Size; 5] = [(80, 24), (120, 40), (40, 12), (20, 4), (1, 1)];

    fn seen(name: &str, language: Language) -> Seen {
        let view = View::of(Scene::of(&boards::board(name), language), Words(language));
        serde_json::from_value(serde_json::to_value(view).unwrap()).unwrap()
    }

    /// A row without its styles.
    fn bare(row: &str) -> String {
        let mut parts = row.split("\x1b[");
        let first = parts.next().unwrap().to_owned();
        parts.fold(first, |text, part| text + part.split_once('m').unwrap().1)
    }

    #[test]
    fn no_state_is_larger_than_the_window() {
        for (name, _) in boards::ALL {
            for language in Language::ALL {
                let seen = seen(name, language);
                for (columns, rows) in SIZES {
                    let drawn = seen.rows((columns, rows), Words(language));
                    assert!(drawn.len() <= rows, "{name} at {columns}x{rows}");
                    for row in drawn {
                        assert!(bare(&row).chars().count() <= columns, "{name}: {row}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_window_of_the_usual_size_holds_the_qr_code_and_a_small_one_says_what_it_lacks() {
        let (words, seen) = (Words(Language::English), seen("offered", Language::English));
        let text = |size| -> String {
            seen.rows(size, words)
                .iter()
                .map(|it| bare(it) + "\n")
                .collect()
        };
        assert!(text((80, 24)).contains('█') && text((80, 24)).contains("48201 93746 02915"));
        assert!(!text((50, 24)).contains('█'));
        assert!(
            text((50, 24)).contains("Make this window larger"),
            "{}",
            text((50, 24))
        );
        assert!(text((50, 24)).contains("at pay.example"));
    }

    #[test]
    fn what_a_till_writes_is_no_command_to_the_window() {
        let mut seen = seen("offered", Language::English);
        seen.reference = Some("\x1b]0;x\x07\x1b[2Jsale\u{9b}2J\r\n".into());
        let rows = seen.rows((80, 24), Words(Language::English));
        let shown = rows.iter().find(|row| row.contains("sale")).unwrap();
        assert!(bare(shown).contains("·]0;x··[2Jsale·2J··"), "{shown:?}");
        assert!(rows.iter().all(|row| !bare(row).contains(char::is_control)));
    }

    #[test]
    fn words_wrap_where_they_end_and_long_ones_are_cut() {
        assert_eq!(wrap("tap, scan or type", 9), ["tap, scan", "or type"]);
        assert_eq!(wrap("abcdefgh i", 3), ["abc", "def", "gh", "i"]);
        assert_eq!(wrap("", 3), [""]);
    }
}
