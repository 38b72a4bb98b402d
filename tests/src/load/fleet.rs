//! Which terminals and shoppers are there, and which authority do they belong to?
//!
//! One TOML file; paths in it count from its own folder. Every terminal is the folder of an enrolment, as
//! `m2key-agent enrol` leaves it; `fleet.sample.toml` explains the rest.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Failure;

pub const FLEET_FILE: &str = "fleet.toml";

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// What links lead to, and what phones prove that they ask: `https://host:port`.
    pub origin: String,
    /// Where phones connect, one after the other; more than one are nodes behind the same origin.
    pub public: Vec<String>,
    /// The same for terminals.
    pub agents: Vec<String>,
    /// The root that phones trust, PEM.
    pub root: PathBuf,
    /// The authority's configuration: with it the books are checked by its verbs, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_config: Option<PathBuf>,
    pub bank: BankAt,
    #[serde(default)]
    pub shoppers: Vec<Customer>,
    /// One folder each.
    #[serde(default)]
    pub terminals: Vec<PathBuf>,
}

/// Where shoppers get access tokens that are bound to their phone's key, as the demo bank hands them out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BankAt {
    pub token_url: String,
    pub ca: PathBuf,
}

/// A customer of the bank with an account at the authority. Mute.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Customer {
    pub name: String,
    pub password: String,
}

impl std::fmt::Debug for Customer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Customer({}, ..)", self.name)
    }
}

impl Fleet {
    /// Reads the file; every path in what is answered leads there from anywhere.
    pub fn load(file: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(file).map_err(Failure::of(file.display()))?;
        let mut fleet: Self = toml::from_str(&text).map_err(Failure::of(file.display()))?;
        let file = std::path::absolute(file)?;
        let dir = file.parent().unwrap_or(Path::new("/"));
        let paths = [&mut fleet.root, &mut fleet.bank.ca].into_iter();
        let paths = paths.chain(&mut fleet.operator_config);
        for path in paths.chain(&mut fleet.terminals) {
            *path = dir.join(&*path);
        }
        fleet.check().map_err(Failure::of(file.display()))?;
        Ok(fleet)
    }

    pub fn save(&self, file: &Path) -> Result<(), Failure> {
        let text = toml::to_string(self).map_err(Failure::of("the fleet"))?;
        std::fs::write(file, text).map_err(Failure::of(file.display()))
    }

    fn check(&self) -> Result<(), Failure> {
        let needed = [
            (self.public.is_empty(), "public"),
            (self.agents.is_empty(), "agents"),
            (self.shoppers.is_empty(), "shoppers"),
            (self.terminals.is_empty(), "terminals"),
        ];
        match needed.iter().find(|(missing, _)| *missing) {
            Some((_, name)) => Err(Failure::new(format!("{name} names nothing"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet() -> Fleet {
        Fleet {
            origin: "https://pay.example".into(),
            public: vec!["https://one.example".into(), "https://two.example".into()],
            agents: vec!["https://one.example:8444".into()],
            root: "root.pem".into(),
            operator_config: Some("authority.toml".into()),
            bank: BankAt {
                token_url: "https://bank.example/token".into(),
                ca: "ca.pem".into(),
            },
            shoppers: vec![Customer {
                name: "shopper-1".into(),
                password: "a secret of theirs".into(),
            }],
            terminals: vec!["terminals/1".into(), "/elsewhere/2".into()],
        }
    }

    #[test]
    fn a_fleet_comes_back_as_it_was_written_with_paths_from_its_own_folder() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FLEET_FILE);
        fleet().save(&file).unwrap();
        let read = Fleet::load(&file).unwrap();
        assert_eq!(read.root, dir.path().join("root.pem"));
        assert_eq!(read.terminals[0], dir.path().join("terminals/1"));
        assert_eq!(read.terminals[1], Path::new("/elsewhere/2"));
        assert_eq!(read.public, fleet().public);
        assert_eq!(read.shoppers, fleet().shoppers);
        assert!(!format!("{read:?}").contains("a secret"));
    }

    #[test]
    fn the_sample_is_a_fleet() {
        let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/src/load/fleet.sample.toml");
        let fleet = Fleet::load(Path::new(sample)).unwrap();
        assert_eq!((fleet.public.len(), fleet.terminals.len()), (2, 2));
        assert!(fleet.operator_config.is_some());
    }

    #[test]
    fn a_fleet_of_nobody_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FLEET_FILE);
        let nobody = Fleet {
            terminals: Vec::new(),
            ..fleet()
        };
        nobody.save(&file).unwrap();
        let refused = Fleet::load(&file).unwrap_err().to_string();
        assert!(refused.contains("terminals names nothing"), "{refused}");
    }
}
