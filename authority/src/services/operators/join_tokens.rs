//! Which join tokens are there, and how is one taken back?

use protocol::ids::TerminalId;
use protocol::problem::ProblemType;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{LIST_MAX, Verb, malformed, refused};
use crate::app::App;
use crate::services::Failure;
use crate::services::join::JoinTokenId;
use crate::store::JoinTokenRecord;

/// Join tokens, newest first; those that can still be used, or all.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenList {
    #[serde(default)]
    pub terminal: Option<TerminalId>,
    #[serde(default)]
    pub all: bool,
}

/// Takes a join token back: from now on it answers nothing, used or not.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRevoke {
    /// As the list shows it.
    pub id: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct JoinTokens {
    pub join_tokens: Vec<JoinTokenView>,
    /// There are older ones, too; a list of one terminal is shorter.
    #[serde(default)]
    pub more: bool,
}

/// A join token without its secret.
#[derive(Debug, Serialize, Deserialize)]
pub struct JoinTokenView {
    /// Tells it apart; nobody can enrol with it.
    pub id: String,
    pub terminal: TerminalId,
    /// `open`, `used`, `expired` or `revoked`.
    pub state: String,
    pub added_at: Timestamp,
    pub expires_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub used_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revoked_at: Option<Timestamp>,
}

impl Verb for JoinTokenList {
    const NAME: &'static str = "join-token-list";
    const CHANGES: bool = false;
    type Answer = JoinTokens;

    async fn run(self, app: &App) -> Result<JoinTokens, Failure> {
        let now = app.clock.now();
        let good_at = (!self.all).then_some(now);
        let found = app.store.join_tokens(self.terminal, good_at, LIST_MAX + 1);
        let found = found.await?;
        let listed = found.iter().take(LIST_MAX as usize);
        Ok(JoinTokens {
            join_tokens: listed.map(|it| JoinTokenView::of(it, now)).collect(),
            more: found.len() > LIST_MAX as usize,
        })
    }
}

impl Verb for JoinTokenRevoke {
    const NAME: &'static str = "join-token-revoke";
    const CHANGES: bool = true;
    type Answer = JoinTokenView;

    async fn run(self, app: &App) -> Result<JoinTokenView, Failure> {
        let id: JoinTokenId = self.id.parse().map_err(malformed)?;
        let now = app.clock.now();
        let revoked = app.store.revoke_join_token(id.prefix(), now).await?;
        match revoked {
            Some(record) => Ok(JoinTokenView::of(&record, now)),
            None => {
                let detail = format!("no join token {id}");
                Err(refused(ProblemType::Unknown, detail))
            }
        }
    }
}

impl JoinTokenView {
    fn of(record: &JoinTokenRecord, now: Timestamp) -> Self {
        let state = match record {
            it if it.revoked_at.is_some() => "revoked",
            it if it.redeemed_at.is_some() => "used",
            it if now >= it.token.expires_at => "expired",
            _ => "open",
        };
        Self {
            id: JoinTokenId::of(&record.token.hash).to_string(),
            terminal: record.token.terminal,
            state: state.into(),
            added_at: record.added_at,
            expires_at: record.token.expires_at,
            used_at: record.redeemed_at,
            revoked_at: record.revoked_at,
        }
    }
}
