//! What does the page need to know to draw itself?

use protocol::time::Millis;
use qrcode::{Color, EcLevel, QrCode};
use serde::Serialize;

use crate::scene::{Scene, Timed};
use crate::words::Words;

/// One frame for the page.
#[derive(Serialize, PartialEq, Eq)]
pub struct View {
    pub screen: &'static str,
    pub terminal: String,
    pub online: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    pub title: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
    /// For screen readers.
    pub said: String,
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub where_typed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qr: Option<Qr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
}

/// The QR code as one path of unit squares.
#[derive(Serialize, PartialEq, Eq)]
pub struct Qr {
    pub size: usize,
    pub path: String,
    pub left_ms: Millis,
    pub length_ms: Millis,
}

#[derive(Serialize, PartialEq, Eq)]
pub struct Code {
    pub text: String,
    pub left_ms: Millis,
    pub length_ms: Millis,
}

impl View {
    pub fn of(scene: Scene, words: Words) -> Self {
        Self {
            screen: scene.screen,
            terminal: scene.terminal.to_string(),
            online: scene.online,
            said: scene.said(words),
            where_typed: scene.where_typed().map(str::to_owned),
            currency: scene.amount.as_ref().map(|it| it.currency.clone()),
            amount: scene.amount.map(|it| it.number),
            reference: scene.reference,
            mark: scene.mark.map(|mark| mark.to_string()),
            title: scene.title,
            note: scene.note,
            qr: scene.link.and_then(|link| Qr::of(&link)),
            code: scene.code.map(Code::of),
        }
    }
}

impl Qr {
    fn of(link: &Timed) -> Option<Self> {
        let code = QrCode::with_error_correction_level(&link.text, EcLevel::M).ok()?;
        Some(Self {
            size: code.width(),
            path: path(&code),
            left_ms: link.left_ms,
            length_ms: link.length_ms,
        })
    }
}

impl Code {
    fn of(code: Timed) -> Self {
        Self {
            text: code.text,
            left_ms: code.left_ms,
            length_ms: code.length_ms,
        }
    }
}

/// Runs of dark modules, row by row.
fn path(code: &QrCode) -> String {
    let width = code.width();
    let mut path = String::new();
    for (y, row) in code.to_colors().chunks(width).enumerate() {
        let mut x = 0;
        while x < width {
            let run = row[x..].iter().take_while(|c| **c == row[x]).count();
            if row[x] == Color::Dark {
                path.push_str(&format!("M{x} {y}h{run}v1h-{run}z"));
            }
            x += run;
        }
    }
    path
}

/// Where the dark modules of such a path are, row by row; none if it is no such path.
#[cfg_attr(not(unix), allow(dead_code))]
pub(crate) fn modules(size: usize, path: &str) -> Option<Vec<Vec<bool>>> {
    let mut rows = vec![vec![false; size]; size];
    for run in path.split_terminator('z') {
        let (start, rest) = run.strip_prefix('M')?.split_once('h')?;
        let (x, y) = start.split_once(' ')?;
        let (x, y): (usize, usize) = (x.parse().ok()?, y.parse().ok()?);
        let length: usize = rest.split_once('v')?.0.parse().ok()?;
        let end = x.checked_add(length)?;
        rows.get_mut(y)?.get_mut(x..end)?.fill(true);
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_path_is_read_back_as_it_was_drawn_and_nonsense_is_not() {
        let code = QrCode::with_error_correction_level("https://pay.example/t/x", EcLevel::M);
        let code = code.unwrap();
        let rows = modules(code.width(), &path(&code)).unwrap();
        let drawn: Vec<bool> = rows.concat();
        let colours = code.to_colors();
        let meant: Vec<bool> = colours.iter().map(|it| *it == Color::Dark).collect();
        assert_eq!(drawn, meant);
        for bad in [
            "M0 0h9v1h-9z",
            "M0 9h1v1h-1z",
            "x",
            "M0 0h18446744073709551615v1z",
        ] {
            assert_eq!(modules(8, bad), None, "{bad}");
        }
    }
}
