//! In which order is it all made?

use std::path::Path;

use super::certificates::records;
use super::{InitError, Made, Plan, Workplace, configuration, hsm_tokens, signer};
use crate::app::load_certificate;
use crate::clock::Clock;
use crate::config::Config;
use crate::listen::tls;
use crate::store::sqlite::{self, SqliteOptions};
use crate::store::{self, AuditLog, Consents, Identities, KeyRecord, Terminals};

/// The first half; `own_softhsm` says that SoftHSM's configurations are ours and move along.
pub async fn make_signer(
    plan: &Plan,
    place: &Workplace,
    own_softhsm: bool,
    clock: &dyn Clock,
) -> Result<(), InitError> {
    if let Some(public) = &plan.public {
        tls::Own::load(public)?;
    }
    let softhsm_conf = softhsm_conf(place, own_softhsm, "signer/softhsm2.conf");
    signer::make(plan, place, softhsm_conf.as_deref(), clock).await
}

/// The second half: the HSM token of seeds and signatures, the store, the configuration; then all of it
/// gets its name.
pub async fn make_authority(
    plan: &Plan,
    place: &Workplace,
    own_softhsm: bool,
    clock: &dyn Clock,
) -> Result<Made, InitError> {
    let now = clock.now();
    let hsm = hsm_tokens::open(plan, place)?;
    let keys = hsm_tokens::make_keys(hsm.as_ref(), now).await?;
    drop(hsm);
    fill_store(plan, place, keys, records(plan, place)?, now).await?;
    let root_fingerprint = load_certificate(&place.at("root.pem"))?.fingerprint();
    let softhsm_conf = softhsm_conf(place, own_softhsm, "softhsm2.conf");
    let text = configuration::text(plan, softhsm_conf.as_deref());
    Config::parse(&text, &place.dir().join("authority.toml"))?;
    place.public("authority.toml", text.as_bytes())?;
    let dir = place.finish(own_softhsm)?;
    Ok(Made {
        config: dir.join("authority.toml"),
        signer_config: dir.join("signer/signer.toml"),
        dir,
        root_fingerprint,
        public_is_ours: plan.public.is_none(),
        softhsm_conf,
    })
}

async fn fill_store(
    plan: &Plan,
    place: &Workplace,
    keys: Vec<KeyRecord>,
    certificates: Vec<store::Certificate>,
    now: protocol::time::Timestamp,
) -> Result<(), InitError> {
    let options = SqliteOptions {
        node: plan.node.to_string(),
        queue_max: 64,
        readers: 1,
    };
    let store = sqlite::open(place.at("store.sqlite"), options)?;
    for key in keys {
        store.add_key(key).await?;
    }
    for certificate in certificates {
        match certificate.subject {
            store::Subject::Operator(_) => {
                store.add_operator(certificate, "init", now).await?;
            }
            _ => store.add_certificate(certificate, now).await?,
        }
    }
    let body = serde_json::json!({ "node": plan.node.as_str() }).to_string();
    store.note("authority.initialised", body, now).await?;
    Ok(())
}

/// Ours at its final place, or the one this process was started with.
fn softhsm_conf(place: &Workplace, own: bool, name: impl AsRef<Path>) -> Option<String> {
    if own {
        return Some(place.dir().join(name).display().to_string());
    }
    std::env::var("SOFTHSM2_CONF").ok()
}
