//! `check-config` and `check-hsm`: is everything as it must be, before anybody depends on it?

use hsm::{Hsm, KeyReport, Requirement};
use serde::Serialize;

use super::{Arguments, CliError, Say, runtime, tell};
use crate::app::{load_certificates, open_hsm};
use crate::listen::tls;
use crate::metrics::Metrics;
use crate::services::trust::Trust;

/// Everything that can be said without the HSM.
pub(super) fn config(arguments: &Arguments) -> Result<(), CliError> {
    let config = arguments.load_config()?;
    tls::Own::load(&config.public.tls)?;
    tls::Own::load(&config.agents.tls)?;
    Trust::load(&config.trust)?;
    load_certificates(&config.trust.issuing)?;
    for file in [&config.hsm.module, &config.hsm.pin_file] {
        std::fs::metadata(file).map_err(|error| CliError::file(file, &error))?;
    }
    tell(
        arguments,
        &ConfigView {
            ok: true,
            node: config.node.to_string(),
            trust_domain: config.trust.domain.to_string(),
            link_host: config.public.link_host.as_str().into(),
            identity_providers: config.identity_providers.len(),
        },
    );
    Ok(())
}

#[derive(Serialize)]
struct ConfigView {
    ok: bool,
    node: String,
    trust_domain: String,
    link_host: String,
    identity_providers: usize,
}

impl Say for ConfigView {
    fn say(&self) -> String {
        format!(
            "the configuration holds: node {}, trust domain {}, links lead to {}, {} identity provider(s)",
            self.node, self.trust_domain, self.link_host, self.identity_providers
        )
    }
}

/// Attacks the HSM a little and looks at every key.
pub(super) fn hsm(arguments: &Arguments) -> Result<(), CliError> {
    let config = arguments.load_for_hsm()?;
    let metrics = Metrics::new();
    let view = runtime()?.block_on(async {
        let authority = open_hsm(&config.hsm, &metrics)?;
        let requirements = authority.check().await?;
        let keys = authority.inventory().await?;
        Ok::<_, CliError>(HsmView::new(&requirements, &keys))
    })?;
    tell(arguments, &view);
    if view.ok {
        return Ok(());
    }
    Err(CliError::operator(
        "this HSM or a key in it is not as safe as M2Key needs",
        "each line above that says MISSING or WRONG names what to change",
    ))
}

#[derive(Serialize)]
struct HsmView {
    ok: bool,
    requirements: Vec<RequirementView>,
    keys: Vec<KeyView>,
}

#[derive(Serialize)]
struct RequirementView {
    name: &'static str,
    needed_for: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
}

#[derive(Serialize)]
struct KeyView {
    label: String,
    sensitive: bool,
    extractable: bool,
    findings: Vec<String>,
}

impl HsmView {
    fn new(requirements: &[Requirement], keys: &[KeyReport]) -> Self {
        let requirements: Vec<_> = requirements
            .iter()
            .map(|r| RequirementView {
                name: r.name,
                needed_for: r.needed_for,
                missing: r.missing.clone(),
            })
            .collect();
        let keys: Vec<_> = keys
            .iter()
            .map(|k| KeyView {
                label: k.label.0.clone(),
                sensitive: k.sensitive,
                extractable: k.extractable,
                findings: k.findings.clone(),
            })
            .collect();
        let ok = requirements.iter().all(|r| r.missing.is_none())
            && keys.iter().all(|k| k.findings.is_empty());
        Self {
            ok,
            requirements,
            keys,
        }
    }
}

impl Say for HsmView {
    fn say(&self) -> String {
        let mut lines = Vec::new();
        for r in &self.requirements {
            lines.push(match &r.missing {
                None => format!("ok       {} ({})", r.name, r.needed_for),
                Some(why) => format!("MISSING  {} ({}): {why}", r.name, r.needed_for),
            });
        }
        for k in &self.keys {
            lines.push(match k.findings.as_slice() {
                [] => format!("ok       key {}", k.label),
                findings => format!("WRONG    key {}: {}", k.label, findings.join("; ")),
            });
        }
        lines.join("\n")
    }
}
