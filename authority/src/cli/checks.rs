//! `check-config` and `check-hsm`: is everything as it must be, before anybody depends on it?

use hsm::{KeyReport, Requirement};
use serde::Serialize;

use super::{Arguments, CliError, Say, runtime, tell};
use crate::app::{HsmTokens, load_certificates, open_hsm};
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
    for token in &config.hsm.tokens {
        for file in [&token.module, &token.pin_file] {
            std::fs::metadata(file).map_err(|error| CliError::file(file, &error))?;
        }
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
        let tokens = open_hsm(&config.hsm, &metrics).await?;
        HsmView::of(&tokens).await
    })?;
    tell(arguments, &view);
    if view.ok {
        return Ok(());
    }
    Err(CliError::operator(
        "an HSM token or a key in it is not as M2Key needs it",
        "each line above that says MISSING, WRONG, LACKING, UNSEEN or AWAY names what to change",
    ))
}

#[derive(Serialize)]
struct HsmView {
    ok: bool,
    requirements: Vec<RequirementView>,
    keys: Vec<KeyView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    away: Vec<AwayView>,
}

#[derive(Serialize)]
struct RequirementView {
    /// If there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lacked_by: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unseen_on: Vec<String>,
}

/// An HSM token that does not answer.
#[derive(Serialize)]
struct AwayView {
    token: String,
    why: String,
}

impl HsmView {
    async fn of(tokens: &HsmTokens) -> Result<Self, CliError> {
        let mut view = Self {
            ok: false,
            requirements: Vec::new(),
            keys: Vec::new(),
            away: Vec::new(),
        };
        let several = tokens.each.len() > 1;
        for (name, token) in &tokens.each {
            match token.check().await {
                Ok(found) => view.add_requirements(several.then_some(name), &found),
                Err(error) if several => view.away.push(AwayView {
                    token: name.clone(),
                    why: error.to_string(),
                }),
                Err(error) => return Err(error.into()),
            }
        }
        let keys = tokens.whole.inventory().await?;
        view.keys = keys.iter().map(KeyView::of).collect();
        view.ok = view.away.is_empty()
            && view.requirements.iter().all(|it| it.missing.is_none())
            && view.keys.iter().all(KeyView::is_ok);
        Ok(view)
    }

    fn add_requirements(&mut self, token: Option<&String>, found: &[Requirement]) {
        self.requirements
            .extend(found.iter().map(|it| RequirementView {
                token: token.cloned(),
                name: it.name,
                needed_for: it.needed_for,
                missing: it.missing.clone(),
            }));
    }
}

impl KeyView {
    fn of(report: &KeyReport) -> Self {
        Self {
            label: report.label.0.clone(),
            sensitive: report.sensitive,
            extractable: report.extractable,
            findings: report.findings.clone(),
            lacked_by: report.lacked_by.clone(),
            unseen_on: report.unseen_on.clone(),
        }
    }

    fn is_ok(&self) -> bool {
        self.findings.is_empty() && self.lacked_by.is_empty() && self.unseen_on.is_empty()
    }
}

impl RequirementView {
    fn say(&self) -> String {
        let on = self.token.iter().map(|token| format!(" on {token}"));
        let what = format!(
            "{}{} ({})",
            self.name,
            on.collect::<String>(),
            self.needed_for
        );
        match &self.missing {
            None => format!("ok       {what}"),
            Some(why) => format!("MISSING  {what}: {why}"),
        }
    }
}

impl Say for HsmView {
    fn say(&self) -> String {
        let mut lines: Vec<_> = self.requirements.iter().map(RequirementView::say).collect();
        for k in &self.keys {
            if k.is_ok() {
                lines.push(format!("ok       key {}", k.label));
            }
            if !k.findings.is_empty() {
                let found = k.findings.join("; ");
                lines.push(format!("WRONG    key {}: {found}", k.label));
            }
            if !k.lacked_by.is_empty() {
                let by = k.lacked_by.join(", ");
                lines.push(format!("LACKING  key {} in {by}: copy it there", k.label));
            }
            if !k.unseen_on.is_empty() {
                let on = k.unseen_on.join(", ");
                lines.push(format!("UNSEEN   key {}: {on} could not show it", k.label));
            }
        }
        let away = self.away.iter();
        lines.extend(away.map(|it| format!("AWAY     {}: {}", it.token, it.why)));
        lines.join("\n")
    }
}
