//! How is news called out, in a word?
//!
//! Words of digits, letters and slashes. One that is not understood comes from a later version, and counts as
//! missed. What refuses is never in a word alone.

use protocol::ids::TerminalId;

use crate::journal::hex;
use crate::store::News;

/// There are rows to be read.
pub(super) const ROWS: &str = "rows";
pub(super) const EVERYTHING: &str = "all";
const HELLO: &str = "hello";
const OPENED: &str = "opened";
const LISTENS: &str = "listens";
const CLOSED: &str = "closed";

/// What is called out of news that is neither a row nor a terminal's state.
pub(super) fn of(news: &News) -> Option<String> {
    Some(match news {
        News::Hello => HELLO.into(),
        News::Listens(terminal) => format!("{LISTENS}/{terminal}"),
        News::Closed(terminal) => format!("{CLOSED}/{terminal}"),
        News::Opened {
            terminal,
            certificate,
            instance,
        } => {
            let certificate = hex(certificate.as_bytes());
            let instance = instance.as_ref().map(|it| hex(it.as_bytes()));
            let instance = instance.unwrap_or_default();
            format!("{OPENED}/{terminal}/{certificate}/{instance}")
        }
        _ => return None,
    })
}

pub(super) fn read(word: &str) -> News {
    understood(word).unwrap_or(News::Missed)
}

fn understood(word: &str) -> Option<News> {
    let mut parts = word.split('/');
    let first = parts.next()?;
    let mut terminal = || -> Option<TerminalId> { parts.next()?.parse().ok() };
    let news = match first {
        HELLO => News::Hello,
        LISTENS => News::Listens(terminal()?),
        CLOSED => News::Closed(terminal()?),
        OPENED => News::Opened {
            terminal: terminal()?,
            certificate: text(parts.next()?)?,
            instance: text(parts.next()?).filter(|it| !it.is_empty()),
        },
        digits => News::Terminal(digits.parse().ok()?),
    };
    parts.next().is_none().then_some(news)
}

fn text(hex: &str) -> Option<String> {
    if !hex.len().is_multiple_of(2) || !hex.is_ascii() {
        return None;
    }
    let bytes = (0..hex.len()).step_by(2);
    let bytes = bytes.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok());
    String::from_utf8(bytes.collect::<Option<_>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_out_is_read_as_it_was_and_nothing_needs_quotes() {
        let terminal = TerminalId::from_number(7).expect("below the limit");
        let opened = |instance: Option<&str>| News::Opened {
            terminal,
            certificate: "0a1b".into(),
            instance: instance.map(Into::into),
        };
        let all = [
            News::Hello,
            News::Listens(terminal),
            News::Closed(terminal),
            opened(None),
            opened(Some("it's \u{fc}; DROP")),
        ];
        for news in all {
            let word = of(&news).expect("it is called out");
            let plain = |it: char| it.is_ascii_alphanumeric() || it == '/';
            assert!(word.chars().all(plain), "{word}");
            assert_eq!(read(&word), news);
        }
        assert_eq!(read(&terminal.to_string()), News::Terminal(terminal));
        for odd in [
            "",
            EVERYTHING,
            "later/1",
            "listens",
            "closed/1/2/3",
            "opened/x",
        ] {
            assert_eq!(read(odd), News::Missed, "{odd}");
        }
    }
}
