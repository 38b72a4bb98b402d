//! What has been configured, and is all of it sound?

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use protocol::ids::TerminalId;
use protocol::time::Millis;
use serde::Deserialize;

use crate::display::{self, CodePage, DisplayPort};
use crate::error::AgentError;
use crate::upkeep::{SPREAD_MAX_MS, SPREAD_MS};
use crate::words::Language;

pub const CONFIG_FILE: &str = "agent.toml";
pub const KIOSK_LISTEN: &str = "127.0.0.1:8680";
/// Largest configuration worth reading, in bytes.
pub const CONFIG_MAX: u64 = 65_536;

/// `agent.toml`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `https://host:port` of the authority's listener for terminals.
    pub authority: String,
    pub terminal: TerminalId,
    /// Certificates, secrets and the database.
    pub data_dir: PathBuf,
    pub tag: TagPath,
    pub listen: SocketAddr,
    /// A renewal or a list of roots that is asked of everybody at once begins within this time.
    pub upkeep_spread_ms: Millis,
    pub screens: Screens,
    pub log: LogFormat,
}

/// Where the tag is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagPath {
    /// On a PC/SC reader; the first contactless one, or the one whose name begins so.
    Pcsc { reader_name: Option<String> },
    /// This terminal has only a screen.
    None,
}

/// How this terminal's screens are set up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Screens {
    pub language: Language,
    pub theme_file: Option<PathBuf>,
    pub display: Option<DisplayPort>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Human,
    Json,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    authority: String,
    terminal: String,
    data_dir: PathBuf,
    #[serde(default)]
    tag: RawTag,
    reader_name: Option<String>,
    #[serde(default = "kiosk_listen")]
    kiosk_listen: String,
    #[serde(default)]
    language: Language,
    theme_file: Option<PathBuf>,
    display: Option<PathBuf>,
    display_baud: Option<u32>,
    display_code_page: Option<CodePage>,
    #[serde(default = "upkeep_spread_ms")]
    upkeep_spread_ms: Millis,
    #[serde(default)]
    log: LogFormat,
}

#[derive(Deserialize, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum RawTag {
    #[default]
    Pcsc,
    None,
}

/// One thing that is wrong, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub key: &'static str,
    pub what: String,
    pub hint: &'static str,
}

impl Config {
    /// Reads and checks a file; relative paths are beside it.
    pub fn load(path: &Path) -> Result<Self, AgentError> {
        let read = || -> std::io::Result<String> {
            if fs::metadata(path)?.len() > CONFIG_MAX {
                return Err(std::io::Error::other("larger than any configuration"));
            }
            fs::read_to_string(path)
        };
        let text = read().map_err(|e| AgentError::file(path, &e))?;
        let mut config = Self::parse(&text)?;
        let beside = path.parent().unwrap_or(Path::new("."));
        config.data_dir = beside.join(&config.data_dir);
        let theme_file = config.screens.theme_file.map(|file| beside.join(file));
        config.screens.theme_file = theme_file;
        Ok(config)
    }

    /// Checks the text; every fault is told at once.
    pub fn parse(text: &str) -> Result<Self, AgentError> {
        let raw: Raw = toml::from_str(text).map_err(|error| {
            AgentError::usage(
                format!("the configuration cannot be read: {error}"),
                "compare it with config/agent.full.toml, which shows every key",
            )
        })?;
        raw.check().map_err(|faults| told(&faults))
    }

    /// The text of a new configuration.
    pub fn text(authority: &str, terminal: TerminalId) -> String {
        format!(
            "# Written by `m2key-agent enrol`. config/agent.full.toml shows every key.\n\
             authority = \"{authority}\"\nterminal = \"{terminal}\"\ndata_dir = \".\"\n"
        )
    }
}

impl Raw {
    fn check(self) -> Result<Config, Vec<Fault>> {
        let mut faults = Vec::new();
        let terminal = keep(&mut faults, self.terminal());
        let listen = keep(&mut faults, self.listen());
        keep(&mut faults, check_authority(&self.authority));
        keep(&mut faults, self.check_tag());
        keep(&mut faults, self.check_spread());
        let display = keep(&mut faults, self.display());
        match (terminal, listen, display) {
            (Some(terminal), Some(listen), Some(display)) if faults.is_empty() => Ok(Config {
                authority: self.authority.trim_end_matches('/').to_owned(),
                terminal,
                data_dir: self.data_dir,
                tag: match self.tag {
                    RawTag::Pcsc => TagPath::Pcsc {
                        reader_name: self.reader_name,
                    },
                    RawTag::None => TagPath::None,
                },
                listen,
                upkeep_spread_ms: self.upkeep_spread_ms,
                screens: Screens {
                    language: self.language,
                    theme_file: self.theme_file,
                    display,
                },
                log: self.log,
            }),
            _ => Err(faults),
        }
    }

    fn terminal(&self) -> Result<TerminalId, Fault> {
        self.terminal.parse().map_err(|error| Fault {
            key: "terminal",
            what: format!("{error}"),
            hint: "copy the 8 digits from the authority's list of terminals",
        })
    }

    fn listen(&self) -> Result<SocketAddr, Fault> {
        let fault = |what: &str| Fault {
            key: "kiosk_listen",
            what: what.into(),
            hint: "write an address of this machine and a port, such as 127.0.0.1:8680",
        };
        let address: SocketAddr = self
            .kiosk_listen
            .parse()
            .map_err(|_| fault("not an address with a port"))?;
        if address.ip().is_loopback() {
            Ok(address)
        } else {
            Err(fault("screen and till are only served on this machine"))
        }
    }

    fn display(&self) -> Result<Option<DisplayPort>, Fault> {
        let baud = self.display_baud.unwrap_or(display::BAUD);
        let fault = |key, what: String, hint| Err(Fault { key, what, hint });
        if !display::BAUDS.contains(&baud) {
            let hint = "write the speed that is set at the display, mostly 9600";
            return fault(
                "display_baud",
                format!("{baud} is no speed of a display"),
                hint,
            );
        }
        if self.display.is_none()
            && (self.display_baud.is_some() || self.display_code_page.is_some())
        {
            let hint = "write display = \"/dev/ttyUSB0\", or remove what belongs to it";
            return fault(
                "display",
                "not there, but its speed or code page is".into(),
                hint,
            );
        }
        Ok(self.display.as_ref().map(|path| DisplayPort {
            path: path.clone(),
            baud,
            code_page: self.display_code_page.unwrap_or_default(),
        }))
    }

    fn check_tag(&self) -> Result<(), Fault> {
        if self.tag == RawTag::None && self.reader_name.is_some() {
            return Err(Fault {
                key: "reader_name",
                what: "a reader is named, but tag = \"none\"".into(),
                hint: "remove reader_name, or write tag = \"pcsc\"",
            });
        }
        Ok(())
    }

    fn check_spread(&self) -> Result<(), Fault> {
        match (0..=SPREAD_MAX_MS).contains(&self.upkeep_spread_ms) {
            true => Ok(()),
            false => Err(Fault {
                key: "upkeep_spread_ms",
                what: format!("{} is not a time to spread over", self.upkeep_spread_ms),
                hint: "write milliseconds from 0 to 3600000; the default is 60000",
            }),
        }
    }
}

/// `https://host:port` and nothing behind it.
pub fn check_authority(url: &str) -> Result<(), Fault> {
    let parsed = reqwest::Url::parse(url).ok().filter(|u| {
        u.scheme() == "https"
            && u.host().is_some()
            && u.username().is_empty()
            && u.password().is_none()
            && u.path() == "/"
            && u.query().is_none()
    });
    parsed.map(|_| ()).ok_or_else(|| Fault {
        key: "authority",
        what: format!("{url:?} is not https://host:port"),
        hint: "write the address of the authority's listener for terminals, such as https://pay.example:8444",
    })
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)
    }
}

fn keep<T>(faults: &mut Vec<Fault>, checked: Result<T, Fault>) -> Option<T> {
    checked.map_err(|fault| faults.push(fault)).ok()
}

fn told(faults: &[Fault]) -> AgentError {
    let join = |parts: Vec<String>| parts.join("; ");
    AgentError::usage(
        join(faults.iter().map(Fault::to_string).collect()),
        join(faults.iter().map(|f| f.hint.to_owned()).collect()),
    )
}

fn kiosk_listen() -> String {
    KIOSK_LISTEN.into()
}

fn upkeep_spread_ms() -> Millis {
    SPREAD_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = include_str!("../../config/agent.toml");
    const FULL: &str = include_str!("../../config/agent.full.toml");

    #[test]
    fn both_sample_configurations_are_sound() {
        let (minimal, full) = (
            Config::parse(MINIMAL).unwrap(),
            Config::parse(FULL).unwrap(),
        );
        assert_eq!(minimal.listen.port(), 8680);
        assert_eq!(minimal.tag, TagPath::Pcsc { reader_name: None });
        assert_eq!(full.log, LogFormat::Json);
        assert_eq!(minimal.screens, Screens::default());
        assert_eq!(full.screens.language, Language::French);
        assert_eq!(full.upkeep_spread_ms, minimal.upkeep_spread_ms);
    }

    #[test]
    fn the_full_sample_names_every_key() {
        for key in [
            "authority",
            "terminal",
            "data_dir",
            "tag",
            "reader_name",
            "kiosk_listen",
            "language",
            "theme_file",
            "display",
            "display_baud",
            "display_code_page",
            "upkeep_spread_ms",
            "log",
        ] {
            assert!(FULL.contains(&format!("\n{key} = ")), "{key}");
        }
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_hint() {
        let error = Config::parse(
            "authority = \"http://x\"\nterminal = \"12345678\"\ndata_dir = \".\"\n\
             kiosk_listen = \"0.0.0.0:80\"\ntag = \"none\"\nreader_name = \"ACS\"\n\
             upkeep_spread_ms = 3600001\ndisplay_baud = 9601\n",
        )
        .unwrap_err();
        assert_eq!(error.whose().exit_code(), 2);
        for key in [
            "authority:",
            "terminal:",
            "kiosk_listen:",
            "reader_name:",
            "upkeep_spread_ms:",
            "display_baud:",
        ] {
            assert!(error.to_string().contains(key), "{key} in {error}");
        }
        assert!(error.hint().contains("8 digits"));
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = Config::parse(&format!("{MINIMAL}\nterminall = 1\n")).unwrap_err();
        assert!(error.to_string().contains("terminall"));
    }

    #[test]
    fn what_enrolment_writes_is_sound() {
        let id = crate::testing::terminal(1);
        let config = Config::parse(&Config::text("https://pay.example:8444", id)).unwrap();
        assert_eq!(config.terminal, id);
    }
}
