//! Who is taken for a terminal whose certificate a restore has lost?

use std::sync::Arc;

use authority::clock::Clock;
use authority::journal::Known;
use authority::services::adoption::{ADOPTED_WITHIN_MS, adopt};
use authority::store::{Fences, Raise};
use hsm::KeyLabel;
use pki::{HsmIssuer, IssueRequest, IssueTo, Issuer, KeyState, SoftwareKey, csr};
use protocol::ids::TerminalId;

use crate::stage::Stage;

/// A certificate that `issuer` signs for this terminal, and the store never hears of.
async fn lost(stage: &Stage, issuer: &dyn Issuer, terminal: TerminalId) -> Vec<u8> {
    let to = IssueTo::Terminal(terminal);
    let key = SoftwareKey::generate().unwrap();
    let request = csr::new(&key, &to.spiffe_id(), issuer.trust_domain()).unwrap();
    let request = IssueRequest {
        csr: csr::check(&request).unwrap(),
        to,
        now: authority::clock::unix_seconds(stage.clock.now()),
    };
    issuer.issue(request).await.unwrap().der
}

async fn raise(stage: &Stage) {
    let raise = Raise {
        generation: 2,
        known: Arc::new(Known::nothing("j".into(), "authority-1".into())),
        since: 0,
        reason: "restored".into(),
        by: "ann".into(),
        successors: Vec::new(),
        found: Vec::new(),
    };
    let raised = stage.store.raise(raise, stage.clock.now()).await.unwrap();
    assert!(raised.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_believed_issuing_ca_signed_before_the_raise_is_taken_in() {
    let stage = Stage::set().await;
    let terminal = stage.added().await.terminal;
    let der = lost(&stage, stage.issuer.as_ref(), terminal).await;
    assert_eq!(adopt(&stage.app, terminal, &der).await, Ok(false));
    raise(&stage).await;
    stage.clock.by(ADOPTED_WITHIN_MS / 2);
    assert_eq!(adopt(&stage.app, terminal, &der).await, Ok(true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_tainted_or_unknown_issuing_ca_signed_is_not_taken_in() {
    let stage = Stage::set().await;
    let terminal = stage.added().await.terminal;
    let der = lost(&stage, stage.issuer.as_ref(), terminal).await;
    // One that whoever holds the root's key has signed.
    let chain = stage.another_issuing().await;
    let (label, domain) = (KeyLabel("issuing-2".into()), stage.issuer.trust_domain());
    let issuer = HsmIssuer::open(stage.hsm.clone(), label, chain.clone(), domain.clone());
    let of_nobody = lost(&stage, &issuer.await.unwrap(), terminal).await;
    raise(&stage).await;
    assert_eq!(adopt(&stage.app, terminal, &of_nobody).await, Ok(false));
    stage.supersede_by(chain, KeyState::Tainted);
    assert_eq!(adopt(&stage.app, terminal, &der).await, Ok(false));
    // Now the signer names it; nothing else is wrong with either.
    assert_eq!(adopt(&stage.app, terminal, &of_nobody).await, Ok(true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_taken_in_once_whatever_was_lost_has_ended() {
    let stage = Stage::set().await;
    let terminal = stage.added().await.terminal;
    let der = lost(&stage, stage.issuer.as_ref(), terminal).await;
    raise(&stage).await;
    stage.clock.by(ADOPTED_WITHIN_MS + 60_000);
    assert_eq!(adopt(&stage.app, terminal, &der).await, Ok(false));
    stage.clock.by(ADOPTED_WITHIN_MS - 60_000);
    assert_eq!(adopt(&stage.app, terminal, &der).await, Ok(true));
}
