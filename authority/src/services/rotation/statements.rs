//! Who says whose a signing key is?
//!
//! The issuing CA, in a certificate that goes out as `x5c`. A key signs without one, too: it is asked
//! for in the background, again and again, until it is there.

use hsm::Priority;
use pki::chain::certificates_from_pem;
use pki::lifecycle::KeyState;
use pki::{Certificate, IssueRequest, IssueTo, PkiError, csr};
use protocol::time::Timestamp;

use super::reload;
use crate::app::App;
use crate::clock::unix_seconds;
use crate::services::enrolment::record;
use crate::services::{Failure, issuing};
use crate::store::{KeyRecord, Subject};

/// A certificate with less time left is replaced.
const RENEW_BEFORE_END_S: u64 = 30 * 24 * 3600;

/// Certifies the first key that lacks a good certificate; true if another may be lacking. What fails
/// is tried again.
pub(super) async fn certify_one(app: &App) -> bool {
    if issuing::is_down(app) {
        return false;
    }
    let now = app.clock.now();
    let keys = app.keyring();
    let lacking = |key: &&KeyRecord| signs(key) && !has_certificate(app, key, now);
    let Some(key) = keys.records().iter().find(lacking) else {
        return false;
    };
    let certified = certify(app, key, now).await;
    match &certified {
        Ok(()) => tracing::info!(label = key.label.0, "signing key certified"),
        Err(why) => {
            tracing::warn!(label = key.label.0, error = %why, "a signing key has no certificate");
        }
    }
    certified.is_ok()
}

fn signs(key: &KeyRecord) -> bool {
    let in_use = matches!(key.state, KeyState::Prepared | KeyState::Active);
    in_use && key.public_point.is_some()
}

fn has_certificate(app: &App, key: &KeyRecord, now: Timestamp) -> bool {
    let text = key.certificates.as_deref().unwrap_or_default();
    let chain = certificates_from_pem(text).unwrap_or_default();
    let Some((own, above)) = chain.split_first() else {
        return false;
    };
    let lasts = own.not_after() > unix_seconds(now).saturating_add(RENEW_BEFORE_END_S);
    // It ends with its issuing CA at the latest: another one helps only from one that lasts longer.
    let is_the_longest = own.not_after() >= app.issuer.chain().issuing().not_after();
    (lasts || is_the_longest) && above.iter().any(|ca| is_believed(app, ca))
}

fn is_believed(app: &App, issuing: &Certificate) -> bool {
    let believed = |ca: &pki::IssuingCa| {
        ca.state.is_believed() && ca.chain.issuing().fingerprint() == issuing.fingerprint()
    };
    app.issuer.issuing_cas().iter().any(believed)
}

async fn certify(app: &App, key: &KeyRecord, now: Timestamp) -> Result<(), Failure> {
    let Some(point) = &key.public_point else {
        return Ok(());
    };
    let to = IssueTo::Statement(app.config.node.clone());
    let domain = &app.config.trust.domain;
    let request = csr::UnsignedRequest::new(point, &to.spiffe_id(), domain)?;
    let signature = app
        .hsm
        .sign(&key.label, request.digest(), Priority::Renewal);
    let request = request.assemble(&signature.await?)?;
    let request = IssueRequest {
        csr: csr::check(&request).map_err(PkiError::from)?,
        to,
        now: unix_seconds(now),
    };
    let issued = issuing::issue(app, request).await?;
    let subject = Subject::Authority(app.config.node.to_string());
    app.store
        .add_certificate(record(&issued, subject), now)
        .await?;
    let chain = issued.pem + &app.issuer.chain().issuing().pem();
    app.store.certify_key(key.kid.clone(), chain, now).await?;
    reload(app).await
}
