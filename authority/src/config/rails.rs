//! Which banks, wallets and carriers move money besides the ledger?

use std::path::{Path, PathBuf};

use pki::Segment;
use serde::Deserialize;

use super::check::Mistakes;
use crate::services::sign_in::is_trustworthy;
use crate::store::LEDGER;

/// Most calls of one rail at a time.
const CALLS_MAX: usize = 1_024;

/// What keeps the accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RailKind {
    /// A bank or a wallet: the reference of an account is its own.
    #[default]
    Account,
    /// A carrier that puts payments on the phone bill: the reference is the phone number.
    Invoice,
}

/// Where a rail is and how it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RailConfig {
    /// As service accounts and receipts name it.
    pub name: String,
    pub kind: RailKind,
    /// The verbs lie below it.
    pub url: String,
    /// A private CA that its TLS certificate leads to; the public ones otherwise.
    pub ca_file: Option<PathBuf>,
    pub deadline_ms: u64,
    pub calls_max: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRail {
    name: String,
    #[serde(default)]
    kind: RailKind,
    url: String,
    ca_file: Option<PathBuf>,
    #[serde(default = "deadline_ms")]
    deadline_ms: u64,
    #[serde(default = "calls_max")]
    calls_max: usize,
}

impl RawRail {
    pub(super) fn is_invoice(&self, name: &str) -> bool {
        self.name == name && self.kind == RailKind::Invoice
    }

    pub(super) fn resolve(self, folder: &Path) -> RailConfig {
        RailConfig {
            name: self.name,
            kind: self.kind,
            url: self.url,
            ca_file: self.ca_file.map(|path| folder.join(path)),
            deadline_ms: self.deadline_ms,
            calls_max: self.calls_max,
        }
    }
}

pub(super) fn check(rails: &[RawRail], m: &mut Mistakes) {
    for (place, rail) in rails.iter().enumerate() {
        let key = |field: &str| format!("rails[{place}].{field}");
        if rail.name.parse::<Segment>().is_err() {
            m.add(&key("name"), "not a name", "1 to 64 of a-z 0-9 . _ -");
        }
        if rail.name == LEDGER {
            m.add(&key("name"), "the built-in one", "another name");
        }
        if rails[..place].iter().any(|other| other.name == rail.name) {
            m.add(&key("name"), "configured twice", "one section per rail");
        }
        if !is_trustworthy(&rail.url) {
            let hint = "money is asked for over TLS";
            m.add(&key("url"), "not an https address", hint);
        }
        m.range(&key("deadline_ms"), rail.deadline_ms, 100, 30_000);
        m.range(
            &key("calls_max"),
            rail.calls_max as u64,
            1,
            CALLS_MAX as u64,
        );
    }
}

fn deadline_ms() -> u64 {
    5_000
}

fn calls_max() -> usize {
    64
}
