//! What went wrong at the tag, and what does the person beside it do now?

use super::hex;
use protocol::sun::TagUid;
use thiserror::Error;

/// Every message ends with the next move of the person at the terminal.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TagError {
    #[error("no tag on the reader: place the terminal's NTAG on it")]
    NoTag,
    #[error(
        "what lies on the reader does not answer: leave only the terminal's tag there, in the middle, and no second card, phone or metal"
    )]
    Mute,
    #[error("the card on the reader is of no kind this terminal knows (ATR {}): replace it with an NTAG 424 DNA, or an NTAG213, 215 or 216", hex(.atr))]
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

    #[error("the terminal's own tag is {}, but {} lies on the reader: put the own one back, or make this one the terminal's (m2key-agent tag personalise; if the own one is lost: tag reset --lost)", hex(.own), hex(.found))]
    Replaced { own: Vec<u8>, found: Vec<u8> },
    #[error(
        "the tag has the number of the terminal's tag but not its secret: it is a copy or was tampered with, take it away, keep it, and put the terminal's own tag there"
    )]
    Counterfeit,
    #[error(
        "the tag is guarded by a password that is not ours: take another tag, or reset it where its password was set"
    )]
    ForeignPassword,
    #[error(
        "somebody took the password off the tag: see who can reach it, then set it again (m2key-agent tag personalise)"
    )]
    Unguarded,
    #[error(
        "this reader lets no password through to the tag: use another one (ACR122U, ACR1252U, ACR1552U, uTrust 3700 F), or reset the tag there (m2key-agent tag reset)"
    )]
    PasswordNotLetThrough,
    #[error(
        "this NTAG 424 DNA has no key of this terminal: m2key-agent tag personalise --keys <file>"
    )]
    NotPersonalised,
    #[error(
        "the tag was taken away while it was personalised: do that again, it goes on where it stopped"
    )]
    HalfPersonalised,
    #[error(
        "the tag's settings are not those it was personalised with, or the link's host has another length: m2key-agent tag personalise --keys <file> --old-keys <file>"
    )]
    SettingsChanged,
    #[error(
        "the key {slot} of the tag is neither the old nor the new one: replace the tag, no key is tried on it"
    )]
    KeyLost { slot: &'static str },
    #[error(
        "the tag has keys of version {version}, which are not in the file: give that file with --keys or --old-keys"
    )]
    OtherKeys { version: u8 },
    #[error(
        "the keys are for the tag {of}, which is another one: give the file of the tag on the reader"
    )]
    KeysOfAnother { of: TagUid },
    #[error(
        "other settings begin the count of a tag that signs anew, so they take new keys: have the authority make some (m2key-authority tag keys), then give both files with --keys and --old-keys"
    )]
    NewKeysWanted,
    #[error("this takes the file with the tag's keys: --keys <file>")]
    KeysWanted,
    #[error("an NTAG21x takes no keys and signs nothing: leave out --keys and --signed-for")]
    NoKeysHere,
    #[error(
        "the tag refused {what} (status 91{status:02X}): leave it on the reader and try again, then replace it"
    )]
    Refused { what: &'static str, status: u8 },
    #[error(
        "the tag makes everybody wait because somebody tried wrong keys: leave it on the reader for some minutes"
    )]
    Delayed,
    #[error(
        "an answer of the tag was changed on its way: take away whatever lies between tag and reader"
    )]
    Garbled,
    #[error(
        "what is known of the tag could not be kept ({0}): nothing more was done to the tag; m2key-agent status says more"
    )]
    NotKept(String),

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
    #[error(
        "the PC/SC service does not let the agent in: install the package's polkit rule (50-m2key-agent.rules) for the agent's account, then systemctl restart pcscd"
    )]
    NotLetIn,
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
    /// False if this was noticed before the tag was programmed.
    pub fn may_have_worn(&self) -> bool {
        !matches!(
            self,
            TagError::NoTag
                | TagError::Mute
                | TagError::NotAnNtag { .. }
                | TagError::Replaced { .. }
                | TagError::NoReader { .. }
                | TagError::ReaderBusy
                | TagError::PcscdAbsent
                | TagError::NotLetIn
                | TagError::Superseded
                | TagError::Stopped
        )
    }

    /// A short, stable name for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            TagError::NoTag => "no_tag",
            TagError::Mute => "mute",
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
            TagError::Replaced { .. } => "replaced",
            TagError::Counterfeit => "counterfeit",
            TagError::ForeignPassword => "foreign_password",
            TagError::Unguarded => "unguarded",
            TagError::PasswordNotLetThrough => "password_not_let_through",
            TagError::NotPersonalised => "not_personalised",
            TagError::HalfPersonalised => "half_personalised",
            TagError::SettingsChanged => "settings_changed",
            TagError::KeyLost { .. } => "key_lost",
            TagError::OtherKeys { .. } => "other_keys",
            TagError::KeysOfAnother { .. } => "keys_of_another",
            TagError::NewKeysWanted => "new_keys_wanted",
            TagError::KeysWanted => "keys_wanted",
            TagError::NoKeysHere => "no_keys_here",
            TagError::Refused { .. } => "refused",
            TagError::Delayed => "delayed",
            TagError::Garbled => "garbled",
            TagError::NotKept(_) => "not_kept",
            TagError::NoReader { .. } => "no_reader",
            TagError::ReaderBusy => "reader_busy",
            TagError::Stuck => "stuck",
            TagError::PcscdAbsent => "pcscd_absent",
            TagError::NotLetIn => "not_let_in",
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
