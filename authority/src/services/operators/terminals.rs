//! How are terminals added, looked at and banned?

use std::collections::HashMap;

use hsm::Priority;
use protocol::ids::{MerchantId, TerminalId};
use protocol::problem::ProblemType;
use protocol::time::{Millis, Timestamp};
use protocol::window::EpochClock;
use serde::{Deserialize, Serialize};

use super::{LIST_MAX, Verb, WornView, check_name, refused};
use crate::app::App;
use crate::ids;
use crate::services::join::{JoinToken, JoinTokenId};
use crate::services::{Failure, pacing, revocation, seeds};
use crate::store::{Seed, Terminal, TerminalStatus};

/// Numbers drawn before giving up: with a million terminals, one draw in ten hits a taken number.
const DRAWS_MAX: u32 = 32;
/// The version of a terminal's first seed.
const FIRST_VERSION: u32 = 1;

/// Adds a terminal with its first seed, and a join token for the machine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalAdd {
    pub merchant: MerchantId,
    #[serde(default)]
    pub name: String,
}

/// Makes a further join token, e.g. after the PC was replaced.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalJoin {
    pub terminal: TerminalId,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalList {
    #[serde(default)]
    pub after: Option<TerminalId>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalShow {
    pub terminal: TerminalId,
}

/// Refuses everything from and for this terminal, at once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalBan {
    pub terminal: TerminalId,
    pub reason: String,
}

/// What the operator carries to the machine. Mute: it holds the join token.
#[derive(Serialize, Deserialize)]
pub struct JoinView {
    pub terminal: TerminalId,
    /// Tells the join token apart in lists.
    pub id: String,
    pub join_token: String,
    pub expires_at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Terminals {
    pub terminals: Vec<TerminalView>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TerminalView {
    pub terminal: TerminalId,
    pub merchant: MerchantId,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub banned_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ban_reason: Option<String>,
    pub seed_version: u32,
    /// How many schedules it got.
    pub schedules: u64,
    /// The end of the last epoch it has a schedule for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scheduled_until: Option<Timestamp>,
    pub added_at: Timestamp,
    /// Sequence of the list of roots it follows, since it was connected first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trust_sequence: Option<u64>,
    /// The tag it wrote last, if it tells of its wear.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tag: Option<WornView>,
    /// Windows of its tag are longer than the policy's, so that the tag lasts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slowed: Option<SlowedView>,
}

/// As its schedules told last.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowedView {
    pub from: Timestamp,
    pub longest_window_ms: Millis,
}

impl Verb for TerminalAdd {
    const NAME: &'static str = "terminal-add";
    const CHANGES: bool = true;
    type Answer = JoinView;

    async fn run(self, app: &App) -> Result<JoinView, Failure> {
        if !self.name.is_empty() {
            check_name(&self.name)?;
        }
        if app.store.merchant(self.merchant).await?.is_none() {
            let detail = format!("no merchant {}", self.merchant);
            return Err(refused(ProblemType::Unknown, detail));
        }
        for _ in 0..DRAWS_MAX {
            if let Some(added) = try_add(app, ids::random_terminal(), &self).await? {
                return Ok(added);
            }
        }
        Err(refused(
            ProblemType::AlreadyExists,
            "no free terminal number was found",
        ))
    }
}

impl Verb for TerminalJoin {
    const NAME: &'static str = "terminal-join";
    const CHANGES: bool = true;
    type Answer = JoinView;

    async fn run(self, app: &App) -> Result<JoinView, Failure> {
        let now = app.clock.now();
        let token = JoinToken::generate(self.terminal);
        match app.store.add_join_token(token.record(now), now).await? {
            true => Ok(view_of(&token, now)),
            false => Err(refused(
                ProblemType::Unknown,
                format!("no terminal {}, or it is banned", self.terminal),
            )),
        }
    }
}

impl Verb for TerminalList {
    const NAME: &'static str = "terminal-list";
    const CHANGES: bool = false;
    type Answer = Terminals;

    async fn run(self, app: &App) -> Result<Terminals, Failure> {
        let terminals = app.store.terminals(self.after, LIST_MAX).await?;
        let ends = terminals.first().zip(terminals.last());
        let tags = match ends.map(|(first, last)| (first.id, last.id)) {
            Some((first, last)) => app.store.worn_tags(first, last).await?,
            None => Vec::new(),
        };
        let now = app.clock.now();
        let tags = tags.into_iter().map(|tag| (tag.terminal, tag));
        let mut tags: HashMap<_, _> = tags.collect();
        let view = |terminal: Terminal| TerminalView {
            tag: tags.remove(&terminal.id).map(|tag| WornView::of(tag, now)),
            ..terminal.into()
        };
        Ok(Terminals {
            terminals: terminals.into_iter().map(view).collect(),
        })
    }
}

impl Verb for TerminalShow {
    const NAME: &'static str = "terminal-show";
    const CHANGES: bool = false;
    type Answer = TerminalView;

    async fn run(self, app: &App) -> Result<TerminalView, Failure> {
        let found = app.store.terminal(self.terminal).await?;
        let found = found.ok_or_else(|| unknown(self.terminal))?;
        let follower = app.store.follower(self.terminal).await?;
        let tag = app.store.worn_tag(self.terminal).await?;
        let now = app.clock.now();
        Ok(TerminalView {
            trust_sequence: follower.map(|follower| follower.sequence),
            tag: tag.map(|tag| WornView::of(tag, now)),
            slowed: slowed(app, self.terminal).await?,
            ..found.into()
        })
    }
}

impl Verb for TerminalBan {
    const NAME: &'static str = "terminal-ban";
    const CHANGES: bool = true;
    type Answer = TerminalView;

    async fn run(self, app: &App) -> Result<TerminalView, Failure> {
        check_name(&self.reason)?;
        let now = app.clock.now();
        let banned = revocation::ban(app, self.terminal, self.reason, now).await?;
        banned
            .map(TerminalView::from)
            .ok_or_else(|| unknown(self.terminal))
    }
}

async fn try_add(
    app: &App,
    id: TerminalId,
    wanted: &TerminalAdd,
) -> Result<Option<JoinView>, Failure> {
    let now = app.clock.now();
    let header = seeds::context(id, FIRST_VERSION, FIRST_VERSION);
    let keys = app.keyring().sealing().clone();
    let sealed = app
        .hsm
        .seal_new_seed(&keys, header, Priority::Renewal)
        .await?;
    let terminal = Terminal {
        id,
        merchant: wanted.merchant,
        name: wanted.name.clone(),
        status: TerminalStatus::Active,
        version: FIRST_VERSION,
        sequence: 0,
        issued_until: None,
        refetch: false,
        added_at: now,
    };
    let seed = Seed {
        terminal: id,
        version: FIRST_VERSION,
        from_epoch: EpochClock::of(id).epoch_at(now),
        keys,
        sealed,
    };
    let token = JoinToken::generate(id);
    let added = app
        .store
        .add_terminal(terminal, seed, token.record(now))
        .await?;
    Ok(added.then(|| view_of(&token, now)))
}

pub(super) fn view_of(token: &JoinToken, now: Timestamp) -> JoinView {
    JoinView {
        terminal: token.terminal(),
        id: JoinTokenId::of(&token.hash()).to_string(),
        join_token: token.expose().to_string(),
        expires_at: token.record(now).expires_at,
    }
}

/// The pace that its schedules told last, if that is not the policy's.
async fn slowed(app: &App, terminal: TerminalId) -> Result<Option<SlowedView>, Failure> {
    let paces = app.store.paces(terminal).await?;
    let last = paces.last().map(|pace| pace.from_epoch);
    Ok(last.and_then(|from_epoch| {
        let is = pacing::policy_of(&app.config.policy, &paces, from_epoch);
        (is != app.config.policy).then(|| SlowedView {
            from: EpochClock::of(terminal).opens(from_epoch),
            longest_window_ms: is.get().nfc.longest_ms,
        })
    }))
}

fn unknown(terminal: TerminalId) -> Failure {
    refused(ProblemType::Unknown, format!("no terminal {terminal}"))
}

impl From<Terminal> for TerminalView {
    fn from(terminal: Terminal) -> Self {
        let (banned_at, ban_reason) = match terminal.status {
            TerminalStatus::Active => (None, None),
            TerminalStatus::Banned { at, reason } => (Some(at), Some(reason)),
        };
        let clock = EpochClock::of(terminal.id);
        Self {
            terminal: terminal.id,
            merchant: terminal.merchant,
            name: terminal.name,
            banned_at,
            ban_reason,
            seed_version: terminal.version,
            schedules: terminal.sequence,
            scheduled_until: terminal.issued_until.map(|epoch| clock.closes(epoch)),
            added_at: terminal.added_at,
            trust_sequence: None,
            tag: None,
            slowed: None,
        }
    }
}

impl std::fmt::Debug for JoinView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinView({}, ..)", self.terminal)
    }
}
