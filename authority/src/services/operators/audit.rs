//! Does the audit chain still hold?
//!
//! Every row follows from the one before it, every checkpoint is signed by a key of ours, and every
//! head a checkpoint names is the row that stands there.

use std::collections::BTreeMap;

use protocol::audit::{ChainCheck, CheckpointClaims, Head};
use protocol::jws::{self, Verified};
use serde::{Deserialize, Serialize};

use super::Verb;
use crate::app::App;
use crate::journal::hex;
use crate::services::Failure;

/// Rows and checkpoints read at once.
const PAGE: u32 = 1_000;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditVerify {}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct AuditView {
    pub holds: bool,
    pub rows: u64,
    pub checkpoints: u64,
    /// The chains as they stand.
    pub heads: Vec<Head>,
    /// What does not hold, in words.
    pub faults: Vec<String>,
}

impl Verb for AuditVerify {
    const NAME: &'static str = "audit-verify";
    const CHANGES: bool = false;
    type Answer = AuditView;

    async fn run(self, app: &App) -> Result<AuditView, Failure> {
        // Heads first: rows that come later are not judged, rows that are missing are.
        let mut view = AuditView {
            heads: app.store.audit_heads().await?,
            ..AuditView::default()
        };
        let mut promised = promised_heads(app, &mut view).await?;
        for head in view.heads.clone() {
            let sealed = promised.remove(&head.node).unwrap_or_default();
            walk(app, &head, sealed, &mut view).await?;
        }
        for node in promised.keys() {
            view.faults.push(format!(
                "checkpoints name the chain {node:?}, and it is gone"
            ));
        }
        view.holds = view.faults.is_empty();
        Ok(view)
    }
}

/// By node and sequence, the hash that a checkpoint signed.
type Promised = BTreeMap<String, BTreeMap<u64, String>>;

async fn promised_heads(app: &App, view: &mut AuditView) -> Result<Promised, Failure> {
    let mut promised = Promised::new();
    loop {
        let page = app.store.checkpoints(view.checkpoints, PAGE).await?;
        for checkpoint in &page {
            view.checkpoints += 1;
            match jws::verify_kept::<CheckpointClaims>(&checkpoint.jws, app.keyring().jwks()) {
                Ok(verified) if is_forged(&verified) => {
                    let (n, at) = (view.checkpoints, checkpoint.at);
                    view.faults.push(format!(
                        "checkpoint {n} of {at}: signed after its key was tainted"
                    ));
                }
                Ok(verified) => {
                    for head in verified.into_claims().heads {
                        let node = promised.entry(head.node).or_default();
                        node.insert(head.sequence, head.hash);
                    }
                }
                Err(error) => {
                    let (n, at) = (view.checkpoints, checkpoint.at);
                    view.faults.push(format!("checkpoint {n} of {at}: {error}"));
                }
            }
        }
        if page.len() < PAGE as usize {
            return Ok(promised);
        }
    }
}

/// What an earlier checkpoint says is said again by the later ones, which another key signed; what
/// came after the taint is nobody's.
fn is_forged(verified: &Verified<CheckpointClaims>) -> bool {
    verified.is_past_taint(verified.claims().iat)
}

async fn walk(
    app: &App,
    head: &Head,
    mut sealed: BTreeMap<u64, String>,
    view: &mut AuditView,
) -> Result<(), Failure> {
    let mut chain = ChainCheck::default();
    while chain.head().0 < head.sequence {
        let rows = app
            .store
            .audit_rows(&head.node, chain.head().0, PAGE)
            .await?;
        if rows.is_empty() {
            let last = chain.head().0;
            view.faults.push(format!(
                "chain {:?} ends at row {last}, not {}",
                head.node, head.sequence
            ));
            return Ok(());
        }
        for stored in rows {
            if let Err(broken) = chain.take(&stored.row, &stored.hash) {
                view.faults.push(format!("chain {:?}: {broken}", head.node));
                return Ok(());
            }
            view.rows += 1;
            let sequence = stored.row.sequence;
            if sealed
                .remove(&sequence)
                .is_some_and(|hash| hash != hex(&stored.hash))
            {
                view.faults.push(format!(
                    "chain {:?}: row {sequence} is not the one a checkpoint signed",
                    head.node
                ));
            }
        }
    }
    // Checkpoints made while this runs may name rows past the head that was read first.
    if let Some(missing) = sealed.keys().find(|sequence| **sequence <= head.sequence) {
        view.faults.push(format!(
            "chain {:?}: row {missing} of a checkpoint is gone",
            head.node
        ));
    } else if let Some(beyond) = sealed.keys().next() {
        let exists = !app
            .store
            .audit_rows(&head.node, beyond - 1, 1)
            .await?
            .is_empty();
        if !exists {
            view.faults.push(format!(
                "chain {:?} was cut: a checkpoint signed row {beyond}",
                head.node
            ));
        }
    }
    Ok(())
}
