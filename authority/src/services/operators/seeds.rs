//! How do terminals get new seeds?

use protocol::ids::{MerchantId, TerminalId};
use serde::{Deserialize, Serialize};

use super::keys::{Planned, carry_out};
use super::terminals::{JoinView, view_of};
use super::{Asker, Gate, Verb, check_name};
use crate::app::App;
use crate::services::Failure;
use crate::services::join::JoinToken;
use crate::services::rotation::{self, SeedsWanted};
use crate::store::{OperationState, When, Whose};

/// New seeds for a terminal, a merchant's, or all of them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedRotate {
    pub fleet: Fleet,
    pub when: When,
    #[serde(default)]
    pub reason: String,
    /// Says what it would do, and does nothing.
    #[serde(default)]
    pub dry_run: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fleet {
    Terminal(TerminalId),
    Merchant(MerchantId),
    All,
}

/// Takes a banned terminal back, under a new seed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalUnban {
    pub terminal: TerminalId,
    pub reason: String,
}

impl Verb for SeedRotate {
    const NAME: &'static str = "seed-rotate";
    const CHANGES: bool = true;
    type Answer = Planned;

    /// One terminal is an operator's daily work; a fleet is everybody's payments.
    fn gate(&self) -> Gate {
        match self.fleet {
            Fleet::Merchant(_) | Fleet::All if !self.dry_run => Gate::Consented,
            _ => Gate::One,
        }
    }

    async fn run(self, app: &App) -> Result<Planned, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    async fn run_as(self, app: &App, asker: &Asker) -> Result<Planned, Failure> {
        if self.when == When::Compromised || !self.reason.is_empty() {
            check_name(&self.reason)?;
        }
        let wanted = SeedsWanted {
            whose: match self.fleet {
                Fleet::Terminal(id) => Whose::Terminal(id),
                Fleet::Merchant(id) => Whose::Merchant(id),
                Fleet::All => Whose::All,
            },
            when: self.when,
            reason: self.reason,
        };
        let plan = rotation::plan_seeds(app, wanted).await?;
        carry_out(app, asker.of("seed rotate"), plan, self.dry_run).await
    }
}

impl Verb for TerminalUnban {
    const NAME: &'static str = "terminal-unban";
    const CHANGES: bool = true;
    type Answer = JoinView;

    fn gate(&self) -> Gate {
        Gate::Consented
    }

    async fn run(self, app: &App) -> Result<JoinView, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    /// An unban that goes on later leaves the join token to `terminal join`.
    async fn run_as(self, app: &App, asker: &Asker) -> Result<JoinView, Failure> {
        check_name(&self.reason)?;
        let plan = rotation::plan_unban(app, self.terminal, self.reason).await?;
        let operation = rotation::carry_out(app, asker.of("terminal unban"), plan.work).await?;
        if operation.state != OperationState::Done {
            let detail = format!("operation {} goes on; then: terminal join", operation.id);
            return Err(super::refused(
                protocol::problem::ProblemType::NotReady,
                detail,
            ));
        }
        let now = app.clock.now();
        let token = JoinToken::generate(self.terminal);
        match app.store.add_join_token(token.record(now), now).await? {
            true => Ok(view_of(&token, now)),
            false => Err(super::refused(
                protocol::problem::ProblemType::TerminalRefused,
                format!("terminal {} was banned again", self.terminal),
            )),
        }
    }
}
