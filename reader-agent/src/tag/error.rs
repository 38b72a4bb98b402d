//! What went wrong at the tag, and what does the person beside it do now?

use thiserror::Error;

/// Every message ends with the next move of the person at the terminal.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TagError {
    #[error("no tag on the reader: place the terminal's NTAG on it")]
    NoTag,
    #[error("the card on the reader is not an NTAG21x (ATR {}): replace it with an NTAG213, 215 or 216", hex(.atr))]
    NotAnNtag { atr: Vec<u8> },
    #[error(
        "the tag is not prepared for NDEF (its page 3 is {}): use a factory-fresh NTAG213, 215 or 216", hex(.capability)
    )]
    NotFormatted { capability: Vec<u8> },
    #[error(
        "the tag was made read-only and cannot follow the windows: replace it with a writable one"
    )]
    ReadOnly,
    #[error("page {page} of the tag is locked for ever: replace the tag")]
    Locked { page: u8 },
    #[error(
        "the link needs {need} bytes and the tag holds {have}: use a larger tag or a shorter host name"
    )]
    TooSmall { need: usize, have: usize },
    #[error(
        "the tag was taken away while it was being written: put it back, it is repaired by itself"
    )]
    Removed,
    #[error(
        "the tag refuses to be written at page {page}: it is password-protected or worn out, replace it"
    )]
    WriteRefused { page: u8 },
    #[error(
        "the reader cannot read page {page} of the tag: move the tag to the middle of the reader, or replace it"
    )]
    Unreadable { page: u8 },
    #[error(
        "the reader said page {page} was written, but it was not: try another tag, then another reader"
    )]
    LiesAboutWrites { page: u8 },
    #[error("the tag lost power in between, twice: move it to the middle of the reader")]
    Reset,

    #[error("{}", no_reader(.wanted.as_deref()))]
    NoReader { wanted: Option<String> },
    #[error(
        "another program holds the reader for itself: close it (card or banking software), the agent then goes on by itself"
    )]
    ReaderBusy,
    #[error(
        "the reader does not answer: unplug it and plug it in again; if that does not help, restart pcscd"
    )]
    Stuck,
    #[error(
        "the PC/SC service is not running: start it (systemctl start pcscd.socket), or install it (apt-get install pcscd)"
    )]
    PcscdAbsent,
    #[error("the reader reports \"{0}\": unplug it and plug it in again")]
    Reader(String),

    #[error("not written: a newer link took its place")]
    Superseded,
    #[error("not written: the agent is stopping")]
    Stopped,
    #[error("not written because of a fault in the agent: send its log to the vendor")]
    Bug,
}

impl TagError {
    /// A short, stable name for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            TagError::NoTag => "no_tag",
            TagError::NotAnNtag { .. } => "not_an_ntag",
            TagError::NotFormatted { .. } => "not_formatted",
            TagError::ReadOnly => "read_only",
            TagError::Locked { .. } => "locked",
            TagError::TooSmall { .. } => "too_small",
            TagError::Removed => "removed",
            TagError::WriteRefused { .. } => "write_refused",
            TagError::Unreadable { .. } => "unreadable",
            TagError::LiesAboutWrites { .. } => "lies_about_writes",
            TagError::Reset => "reset",
            TagError::NoReader { .. } => "no_reader",
            TagError::ReaderBusy => "reader_busy",
            TagError::Stuck => "stuck",
            TagError::PcscdAbsent => "pcscd_absent",
            TagError::Reader(_) => "reader",
            TagError::Superseded => "superseded",
            TagError::Stopped => "stopped",
            TagError::Bug => "bug",
        }
    }
}

/// Why a native command gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NativeError {
    /// The chip said no, or nothing: the reader cannot tell.
    #[error("the chip refused a native command")]
    Refused,
    #[error(transparent)]
    Reader(#[from] TagError),
}

fn no_reader(wanted: Option<&str>) -> String {
    match wanted {
        Some(name) => format!(
            "no reader named \"{name}\": plug it in, or correct the reader's name in the configuration"
        ),
        None => "no NFC reader found: plug one in".into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_atr_is_printed_as_one_would_search_for_it() {
        let text = TagError::NotAnNtag {
            atr: vec![0x3B, 0x0F],
        }
        .to_string();
        assert!(text.contains("(ATR 3B0F)"), "{text}");
    }

    #[test]
    fn a_missing_reader_is_called_by_its_configured_name() {
        let text = TagError::NoReader {
            wanted: Some("ACS".into()),
        }
        .to_string();
        assert!(text.contains("\"ACS\""), "{text}");
    }
}
