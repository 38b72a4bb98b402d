//! `m2key-authority tag …`: which tags may sign and for which terminal, and which end when?

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use protocol::ids::TerminalId;
use protocol::sun::TagUid;

use super::daemon::{Desk, ask};
use super::{Arguments, CliError, Say, tag_forecast, tell};
use crate::services::operators::{
    KeyText, TagKeys, TagKeysView, TagList, TagRetire, TagShow, TagView, Tags,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make the keys of an NTAG 424 DNA, which `m2key-agent tag personalise --keys` puts on it; each
    /// time of a new version
    Keys {
        /// Whose tag it is to be
        #[arg(long)]
        terminal: TerminalId,
        /// The tag's number, 14 hexadecimal digits, as `m2key-agent tag check` says it
        #[arg(long)]
        uid: TagUid,
        /// Write the keys to this new file (mode 0600); they are kept nowhere else
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// List tags, each with each set of keys
    List {
        /// Only those of this terminal
        #[arg(long)]
        terminal: Option<TerminalId>,
        /// Only those after this one
        #[arg(long, value_name = "UID")]
        after: Option<TagUid>,
    },
    /// Show one tag with every set of keys it ever had
    Show { uid: TagUid },
    /// Refuse the links of a tag, at once: it is lost, stolen, replaced, or shall sign no more
    Retire {
        uid: TagUid,
        /// Why, for the audit chain
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Which terminals need a new tag, the first ones first, and how many in each month
    Forecast(tag_forecast::Forecast),
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::Keys { terminal, uid, out } => {
            let (terminal, uid) = (*terminal, *uid);
            return hand_over(arguments, out, TagKeys { terminal, uid });
        }
        Verb::List { terminal, after } => {
            let (terminal, after) = (*terminal, *after);
            tell(arguments, &ask(arguments, TagList { terminal, after })?);
        }
        Verb::Show { uid } => tell(arguments, &ask(arguments, TagShow { uid: *uid })?),
        Verb::Retire { uid, reason } => {
            let (uid, reason) = (*uid, reason.clone());
            tell(arguments, &ask(arguments, TagRetire { uid, reason })?);
        }
        Verb::Forecast(forecast) => return tag_forecast::run(arguments, forecast),
    }
    Ok(())
}

/// The file is made first: keys that cannot be put anywhere are not asked for.
fn hand_over(arguments: &Arguments, path: &Path, verb: TagKeys) -> Result<(), CliError> {
    let desk = Desk::open(arguments)?;
    let failed = |error| CliError::file(path, &error);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path).map_err(failed)?;
    let mut view = desk.ask(verb).inspect_err(|_| {
        // Nothing is in it; the refusal is what matters.
        let _ = std::fs::remove_file(path);
    })?;
    let place = KeyText::new(&format!("in {}", path.display()));
    let keys = std::mem::replace(&mut view.file, place);
    let written = file.write_all(keys.expose().as_bytes());
    whole(path, written.and_then(|()| file.sync_all())).map_err(failed)?;
    tell(arguments, &view);
    Ok(())
}

/// Removes what was not written to its end: a part of the keys is of no use to anybody but a thief.
fn whole(path: &Path, written: std::io::Result<()>) -> std::io::Result<()> {
    written.inspect_err(|_| {
        // What went wrong first is what matters.
        let _ = std::fs::remove_file(path);
    })
}

impl Say for TagKeysView {
    fn say(&self) -> String {
        let Self {
            terminal,
            uid,
            key_version,
            file,
        } = self;
        let file = file.expose();
        format!(
            "tag       {uid}\nterminal  {terminal}\nversion   {key_version}\nkeys      {file}\n\
             next      at the terminal: m2key-agent tag personalise --keys <file>; then destroy it"
        )
    }
}

impl Say for Tags {
    fn say(&self) -> String {
        if self.tags.is_empty() {
            return "no tags".into();
        }
        let lines: Vec<_> = self.tags.iter().map(line).collect();
        lines.join("\n")
    }
}

fn line(tag: &TagView) -> String {
    let mut text = format!(
        "{}  version {:<3}  {}  {:<7}  {} taps paid or held, counts above {}  made {}  {}",
        tag.uid,
        tag.key_version,
        tag.terminal,
        tag.state,
        tag.taps,
        tag.read_floor,
        tag.made_at,
        tag.master
    );
    if let Some(at) = tag.written_at {
        text += &format!("  written {at}");
    }
    if let (Some(at), Some(because)) = (tag.retired_at, &tag.retired_because) {
        text += &format!("  retired {at}: {because}");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_file_is_whole_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tag.keys");
        std::fs::write(&path, "mac = \"0011").unwrap();
        whole(&path, Ok(())).unwrap();
        assert!(path.exists());
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert!(whole(&path, Err(full)).is_err());
        assert!(!path.exists());
    }
}
