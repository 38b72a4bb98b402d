//! In which order is it all made?

use hsm::Hsm;

use super::certificates::{First, make_root};
use super::{InitError, Made, Plan, Workplace, configuration, hsm_tokens};
use crate::clock::{Clock, unix_seconds};
use crate::config::Config;
use crate::listen::tls;
use crate::store::sqlite::{SqliteOptions, SqliteStore};
use crate::store::{self, AuditLog, Identities, KeyRecord, Terminals};

/// Makes everything; `own_softhsm` says that SoftHSM's configuration is ours and moves along.
pub async fn make(
    plan: &Plan,
    place: &Workplace,
    own_softhsm: bool,
    clock: &dyn Clock,
) -> Result<Made, InitError> {
    if let Some(public) = &plan.public {
        tls::Own::load(public)?;
    }
    let now = clock.now();
    let tokens = hsm_tokens::open(plan, place)?;
    let keys = hsm_tokens::make_keys(tokens.authority.as_ref(), now).await?;
    let issuing_point = hsm_tokens::make_issuing_key(tokens.issuing.as_ref() as &dyn Hsm).await?;
    let chain = make_root(place, &issuing_point, unix_seconds(now))?;
    let issuing_hsm = tokens.issuing.clone();
    let first = First::open(plan, place, issuing_hsm, chain, unix_seconds(now)).await?;
    let certificates = first.make(plan).await?;
    fill_store(plan, place, keys, certificates, now).await?;
    let root_fingerprint = first.root().fingerprint();
    drop((first, tokens));
    let softhsm_conf = softhsm_conf(place, own_softhsm);
    let text = configuration::text(plan, softhsm_conf.as_deref());
    Config::parse(&text, &place.dir().join("authority.toml"))?;
    place.public("authority.toml", text.as_bytes())?;
    let dir = place.finish(own_softhsm)?;
    Ok(Made {
        config: dir.join("authority.toml"),
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
    let store = SqliteStore::open(place.at("store.sqlite"), options)?;
    for key in keys {
        store.add_key(key).await?;
    }
    for certificate in certificates {
        store.add_certificate(certificate, now).await?;
    }
    let body = serde_json::json!({ "node": plan.node.as_str() }).to_string();
    store.note("authority.initialised", body, now).await?;
    Ok(())
}

/// Ours at its final place, or the one this process was started with.
fn softhsm_conf(place: &Workplace, own: bool) -> Option<String> {
    if own {
        let conf = place.dir().join("softhsm2.conf");
        return Some(conf.display().to_string());
    }
    std::env::var("SOFTHSM2_CONF").ok()
}
