//! What happened, when somebody says that it did not?

use protocol::ids::{ChargeId, MerchantId, TerminalId};
use protocol::problem::ProblemType;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Verb, refused};
use crate::app::App;
use crate::services::Failure;
use crate::services::evidence::Judge;
use crate::store::Moment;

/// By the id of a charge, a claim, a payment, a refund, or a receipt of either.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisputeShow {
    pub id: Uuid,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct DisputeView {
    pub charge: ChargeId,
    pub merchant: MerchantId,
    pub payee_name: String,
    pub terminal: TerminalId,
    /// Oldest first.
    pub moments: Vec<Moment>,
    /// Whether all that was kept as evidence still proves what it is to prove.
    pub holds: bool,
}

impl Verb for DisputeShow {
    const NAME: &'static str = "dispute-show";
    const CHANGES: bool = false;
    type Answer = DisputeView;

    async fn run(self, app: &App) -> Result<DisputeView, Failure> {
        let found = app.store.dispute(self.id).await?;
        let mut found = found.ok_or_else(|| {
            let detail = format!(
                "{} is no charge, claim, payment, refund or receipt",
                self.id
            );
            refused(ProblemType::Unknown, detail)
        })?;
        let judge = Judge::of(app);
        for moment in &mut found.moments {
            judge.judge(moment);
        }
        let proofs = found.moments.iter().filter_map(|it| it.proof.as_ref());
        Ok(DisputeView {
            holds: proofs.into_iter().all(|proof| proof.holds),
            charge: found.charge,
            merchant: found.merchant,
            payee_name: found.payee_name,
            terminal: found.terminal,
            moments: found.moments,
        })
    }
}
