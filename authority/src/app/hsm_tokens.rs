//! How are the HSM tokens of this node opened, as one?

use std::sync::Arc;
use std::time::Duration;

use hsm::{Hsm, Member, Module, OpenOptions, Pin, Pkcs11Hsm, Spread};

use super::OpenError;
use crate::config::{HsmConfig, HsmTokenConfig};
use crate::metrics::Metrics;

/// The HSM tokens of seeds and signatures. That of the issuing CA is the signer's alone.
pub struct HsmTokens {
    /// What everything else is served by.
    pub whole: Arc<dyn Hsm>,
    /// By the names of the configuration.
    pub each: Vec<(String, Arc<Pkcs11Hsm>)>,
}

/// One of several may be away; whoever is there serves, and it is used once it is back.
pub async fn open_hsm(config: &HsmConfig, metrics: &Arc<Metrics>) -> Result<HsmTokens, OpenError> {
    let mut each = Vec::with_capacity(config.tokens.len());
    for token in &config.tokens {
        let opened = open_one(config, token, metrics).map_err(|error| OpenError::Hsm {
            token: token.name.clone(),
            error,
        })?;
        each.push((token.name.clone(), Arc::new(opened)));
    }
    let whole: Arc<dyn Hsm> = match each.as_slice() {
        [(_, lone)] => lone.clone(),
        several => Arc::new(spread(config, several).await?),
    };
    Ok(HsmTokens { whole, each })
}

fn open_one(
    config: &HsmConfig,
    token: &HsmTokenConfig,
    metrics: &Arc<Metrics>,
) -> Result<Pkcs11Hsm, hsm::HsmError> {
    let module = Module::load(&token.module)?;
    let options = OpenOptions {
        serial: token.serial.clone(),
        workers: token.workers,
        queue_max: config.queue_max,
        deadline: deadline(config),
        observer: Some(metrics.of_hsm_token(&token.name)),
        may_be_away: config.tokens.len() > 1,
        ..OpenOptions::new(&token.label, Pin::from_file(&token.pin_file)?)
    };
    Pkcs11Hsm::open(&module, options)
}

async fn spread(
    config: &HsmConfig,
    tokens: &[(String, Arc<Pkcs11Hsm>)],
) -> Result<Spread, OpenError> {
    let member = |(name, hsm): &(String, Arc<Pkcs11Hsm>)| Member {
        name: name.clone(),
        hsm: hsm.clone(),
    };
    let members = tokens.iter().map(member).collect();
    let spread = Spread::open(members, deadline(config)).await;
    spread.map_err(|error| OpenError::Hsm {
        token: config.first().name.clone(),
        error,
    })
}

fn deadline(config: &HsmConfig) -> Duration {
    Duration::from_millis(config.deadline_ms)
}
