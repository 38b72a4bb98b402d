//! What can a person do with the tag on this terminal's reader?

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use protocol::ids::TerminalId;
use protocol::link::LinkHost;
use protocol::sun::TagUid;
use protocol::token::MachineToken;
use protocol::{ndef, sun};
use tokio::sync::mpsc::Receiver;
use zeroize::Zeroizing;

use super::At;
use crate::app::{DATABASE, KIOSK_ADDRESS};
use crate::config::{Config, TagPath};
use crate::error::AgentError;
use crate::files;
use crate::reader::{TagConfig, TagEvent, TagService, Visit};
use crate::state::State;
use crate::tag::{Errand, KEY_FILE_MAX, TagError, TagKeys, Wish, hex};

/// How long a person may take to lay the tag on the reader.
const PLACE_LIMIT: Duration = Duration::from_secs(30);

/// How long an agent on this machine may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

#[derive(Subcommand)]
pub(super) enum TagCommand {
    /// Make the tag this terminal's, so that nobody else writes on it: an NTAG21x gets a password, an
    /// NTAG 424 DNA the keys of a file, and signs its links if an authority made that file.
    Personalise(Personalise),
    /// Say what the tag is and whether it is ours; nothing is changed.
    Check(At),
    /// Make the tag as it was delivered.
    Reset(Reset),
}

#[derive(clap::Args)]
pub(super) struct Personalise {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    keys: KeyFiles,
    /// Make keys for this NTAG 424 DNA here, and write them into a new file: for tags whose links are
    /// not signed. The file is needed again to reset the tag, and does not stay on this machine.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["keys", "signed_for"])]
    new_keys: Option<PathBuf>,
    /// Let an NTAG 424 DNA sign its links for this link host, instead of the one in the file of its
    /// keys. Only for the authority that made the keys; others refuse such links.
    #[arg(long, value_name = "HOST", requires = "keys")]
    signed_for: Option<String>,
    /// Leave the links unsigned, although an authority made the keys. It must not have had a signed
    /// link of this tag yet, or it goes on to want them.
    #[arg(long, requires = "keys", conflicts_with = "signed_for")]
    unsigned: bool,
    /// It was in use elsewhere and programmed about this often: `used` of the status there.
    #[arg(long, value_name = "CYCLES")]
    already_written: Option<u32>,
}

#[derive(clap::Args)]
pub(super) struct Reset {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    keys: KeyFiles,
    /// The terminal's own tag is lost or broken: from now on the terminal takes another one. No tag is
    /// touched.
    #[arg(long, conflicts_with_all = ["keys", "old_keys"])]
    lost: bool,
}

#[derive(clap::Args)]
struct KeyFiles {
    /// File with the keys of this NTAG 424 DNA.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// File with the keys that are on it now, if it has others of ours.
    #[arg(long, value_name = "FILE", requires = "keys")]
    old_keys: Option<PathBuf>,
}

/// Carries the command out, and prints what the tag said.
pub(super) async fn run(command: TagCommand) -> Result<(), AgentError> {
    let mut already_written = None;
    let (at, errand) = match command {
        TagCommand::Personalise(args) => {
            already_written = args.already_written;
            let mut wish = args.keys.wish()?;
            let config = Config::load(&args.at.config)?;
            refuse_beside_agent(&config)?;
            if let Some(path) = &args.new_keys {
                wish.keys = Some(new_keys(&config, path).await?);
            }
            let host = signed_for(&args, &wish)?;
            wish.signed_message = host
                .map(|host| message_length(&host, config.terminal))
                .transpose()?;
            (args.at, Errand::Personalise(Box::new(wish)))
        }
        TagCommand::Check(at) => (at, Errand::Check),
        TagCommand::Reset(args) if args.lost => {
            let config = Config::load(&args.at.config)?;
            State::open(&config.data_dir.join(DATABASE))?.disown_tag()?;
            println!("the terminal has no tag of its own any more, and takes any");
            return Ok(());
        }
        TagCommand::Reset(args) => {
            let wish = args.keys.wish()?;
            (args.at, Errand::Reset(Box::new(wish)))
        }
    };
    let config = Config::load(&at.config)?;
    let visit = visit(&config, errand).await?;
    if let Some(cycles) = already_written {
        let uid = hex(&visit.tag_uid);
        State::open(&config.data_dir.join(DATABASE))?.count_elsewhere(&uid, cycles)?;
    }
    visit.said.iter().for_each(|line| println!("{line}"));
    Ok(())
}

impl KeyFiles {
    fn wish(&self) -> Result<Wish, AgentError> {
        let read = |path: &Option<PathBuf>| path.as_deref().map(key_file).transpose();
        Ok(Wish {
            keys: read(&self.keys)?,
            old_keys: read(&self.old_keys)?,
            signed_message: None,
        })
    }
}

/// Random keys for the tag that lies on the reader, in a file before they are on the tag. A file that
/// is there already is gone on with.
async fn new_keys(config: &Config, path: &Path) -> Result<TagKeys, AgentError> {
    if path.exists() {
        return key_file(path);
    }
    let checked = visit(config, Errand::Check).await?;
    let uid = TagUid::from_slice(&checked.tag_uid).ok_or(TagError::NoKeysHere)?;
    let keys = TagKeys::random(uid)?;
    files::write_new(path, keys.text().expose().as_bytes())?;
    Ok(keys)
}

async fn visit(config: &Config, errand: Errand) -> Result<Visit, AgentError> {
    let TagPath::Pcsc { reader_name } = &config.tag else {
        return Err(AgentError::operator(
            "this terminal has no tag",
            "write tag = \"pcsc\" into its configuration",
        ));
    };
    refuse_beside_agent(config)?;
    let state = Arc::new(State::open(&config.data_dir.join(DATABASE))?);
    let tag_config = TagConfig {
        reader_name: reader_name.clone(),
        ..TagConfig::new(state)
    };
    let (service, mut events) = TagService::start(tag_config).map_err(AgentError::bug)?;
    let first = service.carry_out(errand.clone()).await;
    let done = match first {
        Err(TagError::NoTag) => {
            eprintln!("lay the tag on the reader");
            arrived(&mut events).await?;
            service.carry_out(errand).await
        }
        done => done,
    };
    Ok(done?)
}

/// Two at one reader switch its field off under each other's hands.
fn refuse_beside_agent(config: &Config) -> Result<(), AgentError> {
    let address = fs::read_to_string(config.data_dir.join(KIOSK_ADDRESS));
    let address = address.ok().and_then(|text| text.trim().parse().ok());
    let answers = |address| TcpStream::connect_timeout(&address, ANSWER_LIMIT).is_ok();
    match address.is_some_and(answers) {
        true => Err(AgentError::operator(
            "the agent is running here, and has the reader",
            "stop it, do this again, and start it",
        )),
        false => Ok(()),
    }
}

/// Waits for a tag; a reader whose field was off sees even the one that lies there only now.
async fn arrived(events: &mut Receiver<TagEvent>) -> Result<(), AgentError> {
    let next = async {
        while let Some(event) = events.recv().await {
            match event {
                TagEvent::TagArrived { .. } => return Ok(()),
                TagEvent::TagRefused(error) => return Err(error),
                _ => {}
            }
        }
        Err(TagError::Stopped)
    };
    let in_time = tokio::time::timeout(PLACE_LIMIT, next).await;
    Ok(in_time.unwrap_or(Err(TagError::NoTag))?)
}

fn key_file(path: &Path) -> Result<TagKeys, AgentError> {
    let mut text = Zeroizing::new(String::new());
    let read =
        fs::File::open(path).and_then(|file| file.take(KEY_FILE_MAX).read_to_string(&mut text));
    read.map_err(|e| AgentError::file(path, &e))?;
    TagKeys::parse(&text).map_err(|error| {
        AgentError::usage(
            format!("{}: {error}", path.display()),
            "use the file as whoever keeps the master keys made it for this tag",
        )
    })
}

/// Whose links the tag is to sign: what the command says, or else what the file of its keys says.
fn signed_for(args: &Personalise, wish: &Wish) -> Result<Option<LinkHost>, AgentError> {
    let Some(named) = &args.signed_for else {
        let of_keys = wish.keys.as_ref().and_then(TagKeys::host);
        return Ok(of_keys.filter(|_| !args.unsigned).cloned());
    };
    let host = LinkHost::parse(named).map_err(|error| {
        let hint = "write the authority's link host, as it stands in its configuration";
        AgentError::usage(format!("--signed-for: {error}"), hint)
    })?;
    Ok(Some(host))
}

/// How long the message of a signed link is: what differs between terminals and hosts.
fn message_length(host: &LinkHost, terminal: TerminalId) -> Result<u8, AgentError> {
    let link = host.link(terminal, &MachineToken::from_bytes([0; 16]));
    let message = ndef::uri_message(&sun::template(&link)).map_err(AgentError::bug)?;
    u8::try_from(message.len()).map_err(AgentError::bug)
}

/// Every message of a tag has its hint behind the first colon.
impl From<TagError> for AgentError {
    fn from(error: TagError) -> Self {
        let text = error.to_string();
        match text.split_once(": ") {
            Some((what, hint)) => Self::operator(what.to_owned(), hint.to_owned()),
            None => Self::bug(text),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_signed_link_to_the_longest_host_fits() {
        let terminal = "47110422".parse().unwrap();
        let host = LinkHost::parse(&"a".repeat(24)).unwrap();
        assert_eq!(message_length(&host, terminal).unwrap(), 117);
    }

    #[test]
    fn links_are_signed_for_whoever_made_the_keys_unless_said_otherwise() {
        let host = LinkHost::parse("pay.example").unwrap();
        let keys = [1, 2, 3, 4, 5].map(|byte| protocol::aes_key::AesKey::from_bytes([byte; 16]));
        let uid = TagUid::from_bytes([4; 7]);
        let wish = |host: Option<&LinkHost>| Wish {
            keys: Some(TagKeys::parse(sun::key_file(uid, 1, &keys, host).expose()).unwrap()),
            ..Wish::default()
        };
        let signed = |named: Option<&str>, unsigned, of_keys: Option<&LinkHost>| {
            let args = Personalise {
                at: At { config: "-".into() },
                keys: KeyFiles {
                    keys: None,
                    old_keys: None,
                },
                new_keys: None,
                signed_for: named.map(Into::into),
                unsigned,
                already_written: None,
            };
            let host = signed_for(&args, &wish(of_keys)).unwrap();
            host.map(|host| host.as_str().to_owned())
        };
        let of_keys = Some(&host);
        assert_eq!(signed(None, false, of_keys).unwrap(), "pay.example");
        assert_eq!(signed(None, true, of_keys), None);
        assert_eq!(signed(None, false, None), None);
        assert_eq!(
            signed(Some("other.example"), false, of_keys).unwrap(),
            "other.example"
        );
        assert_eq!(
            signed(Some("other.example"), false, None).unwrap(),
            "other.example"
        );
    }

    #[test]
    fn a_key_file_that_is_none_is_named_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tag.keys");
        fs::write(&path, "master = \"5EC12E7\"").unwrap();
        let error = key_file(&path).unwrap_err();
        assert!(error.to_string().contains("tag.keys"), "{error}");
        assert!(!format!("{error} {error:?}").contains("5EC12E7"));
        assert!(key_file(&dir.path().join("absent")).is_err());
    }
}
