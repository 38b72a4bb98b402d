//! Where may merchants have themselves told?

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The same as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhooksConfig {
    /// Also at addresses of the authority's own network, and on its own machine without TLS.
    pub private_addresses: bool,
    /// Private CAs that certificates of merchants' servers may lead to, beside the public ones.
    pub ca_file: Option<PathBuf>,
}

impl WebhooksConfig {
    pub(super) fn resolve(self, folder: &Path) -> Self {
        Self {
            ca_file: self.ca_file.map(|path| folder.join(path)),
            ..self
        }
    }
}
