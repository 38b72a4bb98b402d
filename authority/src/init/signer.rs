//! How does the signer of a new authority come into being?
//!
//! By the steps of the ceremony (`docs/OPERATIONS.md`), all on this machine: the signer makes a key and
//! its request, a new root signs it, the certificate is installed and activated. What is issued first
//! stands in the signer's log like everything after it.

use std::sync::Arc;

use hsm::Module;
use pki::signer::{AdminAnswer, AdminStep, Clock as SignerClock, Signer, SignerConfig};
use pki::{Certificate, CheckedCsr, PkiError, csr};

use super::certificates::{First, make_root};
use super::{ISSUING_TOKEN_LABEL, InitError, Plan, Workplace, configuration, hsm_tokens};
use crate::clock::{Clock, unix_seconds};

/// HSM token, keys, root and first certificates. `softhsm_conf` is what the signer will be started with.
pub(super) async fn make(
    plan: &Plan,
    place: &Workplace,
    softhsm_conf: Option<&str>,
    clock: &dyn Clock,
) -> Result<(), InitError> {
    let now = unix_seconds(clock.now());
    if plan.existing_tokens.is_none() {
        let module = Module::load(&plan.module)?;
        hsm_tokens::make(&module, place, ISSUING_TOKEN_LABEL, "issuing", "signer/pin")?;
    }
    let text = configuration::signer(plan, softhsm_conf);
    place.public("signer/signer.toml", text.as_bytes())?;
    let config = SignerConfig::parse(&text, &place.at("signer/signer.toml"))?;
    let hsm = Arc::new(config.open_hsm()?);
    let signer = Signer::open(&config, hsm, Arc::new(Moment(now))).await?;
    let request = prepare(&signer).await?;
    let issuing = make_root(place, &request, now).await?;
    install(&signer, &issuing).await?;
    First { place, signer, now }.make(plan).await
}

async fn prepare(signer: &Signer) -> Result<CheckedCsr, InitError> {
    let prepared = signer.administer(AdminStep::Prepare.into()).await?;
    let request = match prepared {
        AdminAnswer::Done {
            request: Some(request),
            ..
        } => request,
        _ => return Err(bug("prepare gives a request").into()),
    };
    Ok(csr::check(request.as_bytes()).map_err(PkiError::from)?)
}

async fn install(signer: &Signer, issuing: &Certificate) -> Result<(), InitError> {
    let install = AdminStep::Install {
        certificate: issuing.pem(),
    };
    signer.administer(install.into()).await?;
    let activate = AdminStep::Activate { label: None };
    signer.administer(activate.into()).await?;
    Ok(())
}

fn bug(detail: &str) -> PkiError {
    PkiError::Bug {
        detail: detail.into(),
    }
}

/// All of an init happens at one moment.
struct Moment(u64);

impl SignerClock for Moment {
    fn now(&self) -> u64 {
        self.0
    }
}
