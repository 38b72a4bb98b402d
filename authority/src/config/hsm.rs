//! Which HSM tokens hold the keys of seeds and signatures?

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::check::Mistakes;

/// The HSM tokens of this node, and how they are asked.
#[derive(Debug, Clone)]
pub struct HsmConfig {
    /// Keys are made in the first; the others are clones of it.
    pub tokens: Vec<HsmTokenConfig>,
    /// Set before any module is loaded, e.g. SOFTHSM2_CONF.
    pub environment: BTreeMap<String, String>,
    /// Of each HSM token.
    pub queue_max: usize,
    pub deadline_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HsmTokenConfig {
    /// Its label, or more if several have the same.
    pub name: String,
    pub module: PathBuf,
    pub label: String,
    pub serial: Option<String>,
    pub pin_file: PathBuf,
    pub workers: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHsm {
    module: PathBuf,
    token_label: String,
    serial: Option<String>,
    pin_file: PathBuf,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default = "one")]
    workers: usize,
    #[serde(default = "queue_max")]
    queue_max: usize,
    #[serde(default = "deadline_ms")]
    deadline_ms: u64,
    #[serde(default)]
    clones: Vec<RawClone>,
}

/// What it does not say is as for the first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClone {
    module: Option<PathBuf>,
    token_label: Option<String>,
    serial: Option<String>,
    pin_file: Option<PathBuf>,
    workers: Option<usize>,
}

impl HsmConfig {
    /// The one where keys are made.
    pub fn first(&self) -> &HsmTokenConfig {
        &self.tokens[0]
    }
}

impl RawHsm {
    pub(super) fn check(&self, m: &mut Mistakes) {
        let workers_max = hsm::WORKERS_MAX as u64;
        m.range("hsm.workers", self.workers as u64, 1, workers_max);
        for (n, clone) in self.clones.iter().enumerate() {
            let workers = clone.workers.unwrap_or(self.workers) as u64;
            m.range(&format!("hsm.clones[{n}].workers"), workers, 1, workers_max);
        }
        let queue_max = hsm::QUEUE_MAX as u64;
        m.range("hsm.queue_max", self.queue_max as u64, 1, queue_max);
        m.range("hsm.deadline_ms", self.deadline_ms, 10, 60_000);
        let clones_max = hsm::MEMBERS_MAX as u64 - 1;
        m.range("hsm.clones", self.clones.len() as u64, 0, clones_max);
        self.check_names(m);
    }

    /// One HSM token under two names would be no second one.
    fn check_names(&self, m: &mut Mistakes) {
        let tokens = self.tokens(Path::new(""));
        let mut seen = BTreeSet::new();
        for (n, token) in tokens.iter().enumerate() {
            let lone = |other: &&HsmTokenConfig| {
                other.module == token.module && other.label == token.label
            };
            let several = tokens.iter().filter(lone).count() > 1;
            let unnamed = several && token.serial.is_none();
            if unnamed || !seen.insert((&token.module, &token.label, &token.serial)) {
                let key = match n {
                    0 => "hsm.token_label".to_owned(),
                    _ => format!("hsm.clones[{}].token_label", n - 1),
                };
                let problem = "another HSM token of the same module has this label";
                m.add(&key, problem, "tell them apart by their serial numbers");
            }
        }
    }

    pub(super) fn resolve(self, folder: &Path) -> HsmConfig {
        HsmConfig {
            tokens: self.tokens(folder),
            environment: self.environment,
            queue_max: self.queue_max,
            deadline_ms: self.deadline_ms,
        }
    }

    fn tokens(&self, folder: &Path) -> Vec<HsmTokenConfig> {
        let first = HsmTokenConfig {
            name: self.token_label.clone(),
            module: folder.join(&self.module),
            label: self.token_label.clone(),
            serial: self.serial.clone(),
            pin_file: folder.join(&self.pin_file),
            workers: self.workers,
        };
        let at = |path: &PathBuf| folder.join(path);
        let clone = |raw: &RawClone| HsmTokenConfig {
            name: String::new(),
            module: raw.module.as_ref().map_or(first.module.clone(), at),
            label: raw.token_label.clone().unwrap_or(first.label.clone()),
            serial: raw.serial.clone(),
            pin_file: raw.pin_file.as_ref().map_or(first.pin_file.clone(), at),
            workers: raw.workers.unwrap_or(first.workers),
        };
        let clones: Vec<_> = self.clones.iter().map(clone).collect();
        let mut tokens = vec![first];
        tokens.extend(clones);
        name_apart(&mut tokens);
        tokens
    }
}

/// By label where that says it, otherwise with the serial number, or the module of it.
fn name_apart(tokens: &mut [HsmTokenConfig]) {
    let labels: Vec<_> = tokens.iter().map(|it| it.label.clone()).collect();
    for token in tokens {
        let same = labels.iter().filter(|it| **it == token.label).count();
        let module = token.module.file_name().unwrap_or_default();
        let apart = token
            .serial
            .clone()
            .unwrap_or_else(|| module.to_string_lossy().into_owned());
        token.name = match same {
            1 => token.label.clone(),
            _ => format!("{} ({apart})", token.label),
        };
    }
}

fn one() -> usize {
    1
}

fn queue_max() -> usize {
    1024
}

fn deadline_ms() -> u64 {
    5_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn tokens(clones: &str) -> (Vec<String>, usize) {
        let text =
            format!("module = \"/m.so\"\ntoken_label = \"one\"\npin_file = \"pin\"\n{clones}");
        let raw: RawHsm = toml::from_str(&text).unwrap();
        let mut mistakes = Mistakes::default();
        raw.check(&mut mistakes);
        let config = raw.resolve(Path::new("/etc/m2key"));
        let names = config.tokens.into_iter().map(|it| it.name).collect();
        (names, mistakes.len())
    }

    #[test]
    fn one_hsm_token_is_enough() {
        assert_eq!(tokens(""), (vec!["one".into()], 0));
    }

    #[test]
    fn a_clone_is_as_the_first_where_it_says_nothing_else() {
        let text = "module = \"m.so\"\ntoken_label = \"one\"\npin_file = \"pin\"\nworkers = 4\n\
                    [[clones]]\ntoken_label = \"two\"\n[[clones]]\nmodule = \"n.so\"\npin_file = \"/p\"";
        let raw: RawHsm = toml::from_str(text).unwrap();
        let tokens = raw.resolve(Path::new("/etc/m2key")).tokens;
        let seen = |n: usize| {
            let it = &tokens[n];
            (it.name.as_str(), it.module.to_str().unwrap(), it.workers)
        };
        assert_eq!(seen(0), ("one (m.so)", "/etc/m2key/m.so", 4));
        assert_eq!(seen(1), ("two", "/etc/m2key/m.so", 4));
        assert_eq!(seen(2), ("one (n.so)", "/etc/m2key/n.so", 4));
        assert_eq!(tokens[1].pin_file, Path::new("/etc/m2key/pin"));
        assert_eq!(tokens[2].pin_file, Path::new("/p"));
    }

    #[test]
    fn the_clones_of_the_full_sample_hold_once_they_are_wanted() {
        let full = include_str!("../../../config/authority.full.toml");
        let begin = full.find("# [[hsm.clones]]").unwrap();
        let length = full[begin..].find("\n\n").unwrap();
        let wanted = full[begin..begin + length].replace("# ", "");
        let text = format!("{}{wanted}{}", &full[..begin], &full[begin + length..]);
        let config = Config::parse(&text, Path::new("/etc/m2key/authority.toml")).unwrap();
        let names: Vec<_> = config
            .hsm
            .tokens
            .iter()
            .map(|it| it.name.as_str())
            .collect();
        let wanted = [
            "m2key-authority (libsofthsm2.so)",
            "m2key-authority-2",
            "m2key-authority (0042)",
        ];
        assert_eq!(names, wanted);
    }

    #[test]
    fn one_hsm_token_under_two_names_is_refused() {
        let twice = "[[clones]]\ntoken_label = \"one\"\n";
        assert_eq!(tokens(twice).1, 2);
        let told_apart = "serial = \"1\"\n[[clones]]\nserial = \"2\"\n";
        let (names, mistakes) = tokens(told_apart);
        assert_eq!(
            (names, mistakes),
            (vec!["one (1)".into(), "one (2)".into()], 0)
        );
        assert_eq!(tokens("serial = \"1\"\n[[clones]]\nserial = \"1\"\n").1, 1);
        let many = "[[clones]]\ntoken_label = \"x\"\n".repeat(hsm::MEMBERS_MAX);
        assert!(tokens(&many).1 > 0);
    }
}
