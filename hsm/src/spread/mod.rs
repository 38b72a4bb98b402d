//! How do several HSM tokens with the same keys serve as one?
//!
//! ```text
//!  Spread::sign ─▶ who holds the key and is not away ─▶ the least busy ──▶ answer
//!                        ▲                               │ refused, lost or silent
//!                        │                               └──▶ the next one, each once
//!                 looks: is it back, has it the same keys?
//! ```
//! The keys are put into all of them by the maker's means or an operator's: nothing here can copy what may
//! not leave an HSM. What may have happened is asked of another one where that does no harm: macs,
//! signatures, sealed seeds that nobody has. A key is made by one member, and destroyed on all.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;
use tokio::time::timeout;

mod board;
mod keys;
mod looks;
mod round;
#[cfg(all(
    test,
    feature = "memory",
    feature = "conformance",
    not(feature = "loom")
))]
mod tests;
mod watch;
mod witness;

use crate::{
    Cmac, Health, Hsm, HsmError, KeyKind, KeyLabel, KeyReport, Mac, Priority, SealedSeed,
    SealingKeys, clock,
};
use board::{Board, Mark, Ticket};
use keys::Keys;
use round::Round;
use watch::Watch;
use witness::{Standing, Witness};

/// Most HSM tokens that one spread may have.
pub const MEMBERS_MAX: usize = 16;
/// A member that says nothing at all for this part of the deadline hangs, and another one is asked beside it.
const SILENCE_SHARE: u32 = 2;

/// One HSM token of a spread.
pub struct Member {
    /// What operators call it: its label, if no other has the same.
    pub name: String,
    pub hsm: Arc<dyn Hsm>,
}

/// Several HSM tokens that hold the same keys.
///
/// A request goes to the least busy member that holds its keys; members that are down or hang are passed
/// over, looked at in the background, and used again once they answer and show the same keys. A call ends
/// after one and a half of its members' deadlines at the latest.
pub struct Spread(Arc<Inner>);

struct Inner {
    members: Vec<Member>,
    board: Board,
    keys: Keys,
    watches: Vec<Mutex<Watch>>,
    /// What keys answered where they are believed; held while a member is looked at.
    witnesses: tokio::sync::Mutex<HashMap<KeyLabel, Witness>>,
    deadline: Duration,
}

type Asked<T> = Pin<Box<dyn Future<Output = Result<T, HsmError>> + Send>>;

/// What a request needs a member to hold.
struct Needs(Vec<(KeyLabel, KeyKind)>);

impl Spread {
    /// The first member listed is where keys are made, and who is believed about a key that others hold
    /// otherwise. `deadline` is that of the members.
    pub async fn open(members: Vec<Member>, deadline: Duration) -> Result<Self, HsmError> {
        if !(1..=MEMBERS_MAX).contains(&members.len()) {
            return Err(HsmError::CallerFault {
                detail: format!("a spread has 1 to {MEMBERS_MAX} HSM tokens"),
            });
        }
        let inner = Arc::new(Inner {
            board: Board::new(members.len()),
            keys: Keys::new(members.len()),
            watches: members.iter().map(|_| Mutex::default()).collect(),
            witnesses: tokio::sync::Mutex::default(),
            members,
            deadline,
        });
        inner.open().await?;
        Ok(Self(inner))
    }

    /// Every member by its name.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.0.members.iter()
    }

    /// For what may be asked twice: another member is asked whenever one could not answer.
    async fn ask<T, F>(&self, needs: Needs, call: F) -> Result<T, HsmError>
    where
        T: Send + 'static,
        F: Fn(Arc<dyn Hsm>) -> Asked<T> + Send + Sync,
    {
        let inner = &self.0;
        inner.look_after();
        let give_up_at = clock::now() + inner.deadline;
        let mut round = Round::new(inner.ranks(&needs.labels()));
        // Whoever stops waiting takes back what no member has begun.
        let mut asked = JoinSet::new();
        // The member that still may answer before another one is asked.
        let mut waiting_for = None;
        loop {
            if clock::now() >= give_up_at {
                round.end();
            }
            if waiting_for.is_none()
                && let Some(ticket) = round.next(&inner.board)
            {
                waiting_for = Some(ticket.mark());
                let answer = call(inner.members[ticket.member].hsm.clone());
                asked.spawn(attempt(ticket, answer));
            }
            match timeout(inner.silence(), asked.join_next()).await {
                Ok(None) => return Err(round.verdict()),
                Ok(Some(Ok((member, Ok(answer))))) => {
                    // One that hangs shall come to its own deadline, and its breaker hear of it.
                    asked.detach_all();
                    if inner.note_answer(&needs, member, round.refusals()) {
                        inner.look_after();
                    }
                    return Ok(answer);
                }
                Ok(Some(Ok((member, Err(error))))) => {
                    inner.note_refusal(member, &error);
                    round.handle_refusal(member, error);
                    waiting_for = None;
                }
                Ok(Some(Err(error))) => return Err(bug(&error)),
                Err(_) => waiting_for = waiting_for.filter(|mark| !inner.hangs(mark)),
            }
        }
    }
}

async fn attempt<T>(ticket: Ticket, answer: Asked<T>) -> (usize, Result<T, HsmError>) {
    let member = ticket.member;
    let answer = answer.await;
    // No answer within the deadline is none.
    match answer {
        Err(HsmError::Busy { .. }) => drop(ticket),
        _ => ticket.answered(),
    }
    (member, answer)
}

#[async_trait]
impl Hsm for Spread {
    async fn seal_new_seed(
        &self,
        keys: &SealingKeys,
        context: Vec<u8>,
        priority: Priority,
    ) -> Result<SealedSeed, HsmError> {
        let needs = Needs::pair(keys);
        let keys = keys.clone();
        self.ask(needs, move |hsm| {
            let (keys, context) = (keys.clone(), context.clone());
            Box::pin(async move { hsm.seal_new_seed(&keys, context, priority).await })
        })
        .await
    }

    async fn hmac_batch(
        &self,
        keys: &SealingKeys,
        seed: &SealedSeed,
        messages: Vec<Vec<u8>>,
        priority: Priority,
    ) -> Result<Vec<Mac>, HsmError> {
        let needs = Needs::pair(keys);
        let (keys, seed) = (keys.clone(), seed.clone());
        self.ask(needs, move |hsm| {
            let (keys, seed, messages) = (keys.clone(), seed.clone(), messages.clone());
            Box::pin(async move { hsm.hmac_batch(&keys, &seed, messages, priority).await })
        })
        .await
    }

    async fn prove_binding(
        &self,
        keys: &SealingKeys,
        seed: &SealedSeed,
        priority: Priority,
    ) -> Result<(), HsmError> {
        let needs = Needs::pair(keys);
        let (keys, seed) = (keys.clone(), seed.clone());
        self.ask(needs, move |hsm| {
            let (keys, seed) = (keys.clone(), seed.clone());
            Box::pin(async move { hsm.prove_binding(&keys, &seed, priority).await })
        })
        .await
    }

    async fn sign(
        &self,
        key: &KeyLabel,
        digest: [u8; 32],
        priority: Priority,
    ) -> Result<[u8; 64], HsmError> {
        let needs = Needs::one(key, KeyKind::Signing);
        let key = key.clone();
        self.ask(needs, move |hsm| {
            let key = key.clone();
            Box::pin(async move { hsm.sign(&key, digest, priority).await })
        })
        .await
    }

    async fn cmac_batch(
        &self,
        key: &KeyLabel,
        messages: Vec<Vec<u8>>,
        priority: Priority,
    ) -> Result<Vec<Cmac>, HsmError> {
        let needs = Needs::one(key, KeyKind::Cmac);
        let key = key.clone();
        self.ask(needs, move |hsm| {
            let (key, messages) = (key.clone(), messages.clone());
            Box::pin(async move { hsm.cmac_batch(&key, messages, priority).await })
        })
        .await
    }

    async fn public_key(&self, key: &KeyLabel) -> Result<[u8; 65], HsmError> {
        let needs = Needs::one(key, KeyKind::Signing);
        let key = key.clone();
        self.ask(needs, move |hsm| {
            let key = key.clone();
            Box::pin(async move { hsm.public_key(&key).await })
        })
        .await
    }

    async fn random(&self, len: usize) -> Result<Vec<u8>, HsmError> {
        self.ask(Needs::nothing(), move |hsm| {
            Box::pin(async move { hsm.random(len).await })
        })
        .await
    }

    async fn generate_key(&self, kind: KeyKind, label: &KeyLabel) -> Result<(), HsmError> {
        self.0.generate_key(kind, label).await
    }

    async fn destroy_key(&self, label: &KeyLabel) -> Result<(), HsmError> {
        self.0.destroy_key(label).await
    }

    async fn inventory(&self) -> Result<Vec<KeyReport>, HsmError> {
        self.0.inventory().await
    }

    fn health(&self) -> Health {
        self.0.health()
    }

    fn believe(&self, key: &KeyLabel, point: &[u8; 65]) {
        self.0.believe(key, point);
    }
}

impl Needs {
    fn nothing() -> Self {
        Self(Vec::new())
    }

    fn one(label: &KeyLabel, kind: KeyKind) -> Self {
        Self(vec![(label.clone(), kind)])
    }

    fn pair(keys: &SealingKeys) -> Self {
        Self(vec![
            (keys.sealing.clone(), KeyKind::Sealing),
            (keys.binding.clone(), KeyKind::Binding),
        ])
    }

    fn labels(&self) -> Vec<KeyLabel> {
        self.0.iter().map(|(label, _)| label.clone()).collect()
    }
}

impl Inner {
    /// Whom to ask: holders that are fit, then holders that are away, because a trial may help when nobody
    /// else can. About a key that nobody is known to hold everybody is asked.
    fn ranks(&self, labels: &[KeyLabel]) -> [Vec<usize>; 2] {
        let known = self.keys.is_known(labels);
        let may = |member: &usize| !known || self.keys.holds_all(*member, labels);
        let able = (0..self.members.len()).filter(may);
        let (fit, away) = able.partition(|member| !self.watch(*member).is_away());
        [fit, away]
    }

    /// It came back with another key: passed over from now on, and looked at with all its keys.
    fn note_refusal(&self, member: usize, error: &HsmError) {
        if let HsmError::KeyDiffers { label } = error {
            let of = KeyLabel(label.clone());
            self.keys.note(&of, member, Standing::Differs);
            tracing::error!(
                token = self.name(member),
                label,
                "set aside: another key than before"
            );
            self.watch(member).handle_away(error.to_string());
        }
    }

    /// What a member's answer says about keys, its own and those of who could not give it. Answers whether
    /// a key was met that nobody here knew.
    fn note_answer(&self, needs: &Needs, member: usize, refusals: &[(usize, HsmError)]) -> bool {
        let mut met = false;
        for (label, kind) in &needs.0 {
            met |= self.keys.learn(label, *kind, member);
        }
        if met {
            self.handle_news_of_others(member);
        }
        for (other, error) in refusals {
            match error {
                HsmError::KeyUnknown { label } => {
                    let label = KeyLabel(label.clone());
                    self.keys.note(&label, *other, Standing::Lacks);
                }
                // A fault of the device can look like this, and this seed is ours.
                HsmError::NotOurKey { detail } => self.watch(*other).handle_away(detail.clone()),
                _ => {}
            }
        }
        met
    }

    /// Has it said nothing to anybody since? Then it is passed over until it does.
    fn hangs(&self, mark: &Mark) -> bool {
        let silent = self.board.answers(mark.member) == mark.answers;
        if silent {
            let reason = format!("no answer to anything within {:?}", self.silence());
            self.watch(mark.member).handle_away(reason);
        }
        silent
    }

    fn silence(&self) -> Duration {
        self.deadline / SILENCE_SHARE
    }

    fn name(&self, member: usize) -> &str {
        &self.members[member].name
    }

    fn hsm(&self, member: usize) -> &dyn Hsm {
        self.members[member].hsm.as_ref()
    }

    fn watch(&self, member: usize) -> MutexGuard<'_, Watch> {
        let watch = self.watches[member].lock();
        watch.unwrap_or_else(PoisonError::into_inner)
    }
}

fn bug(detail: &dyn std::fmt::Display) -> HsmError {
    HsmError::Bug {
        detail: detail.to_string(),
    }
}
