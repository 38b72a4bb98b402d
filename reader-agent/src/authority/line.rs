//! As whom do we call the authority right now, and whom do we take for it?
//!
//! Certificates and roots change while the agent runs. Whoever calls asks here each time, so a change
//! reaches everybody at once; a call that was on its way while the certificate changed is made again
//! under the new one. A renewed certificate is first *on trial*: until the authority has taken it, its
//! refusal is not the terminal's.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use protocol::ids::ChargeId;
use protocol::time::Millis;
use protocol::wire::charges::ChargeRequest;
use protocol::wire::history::{DayReport, HistoryPage, HistoryQuery};
use protocol::wire::push::ChargeState;
use protocol::wire::refunds::{RefundRequest, RefundResponse};
use tokio::sync::watch;

use super::client::{AuthorityClient, BooksDesk, ChargeDesk};
use super::failure::CallError;
use super::names::Names;
use crate::clock::Clock;
use crate::error::AgentError;
use crate::identity::Identity;
use crate::trust::Trust;

/// How long a refused call waits for the certificate on trial to be taken or given up.
pub const SETTLE_MAX: Duration = Duration::from_secs(10);
/// How often one call is made anew because the certificate changed under it.
pub const REPEATS_MAX: usize = 2;

/// The way to the authority, whatever changes about it.
pub struct Line {
    base: String,
    clock: Arc<Clock>,
    names: Names,
    footing: watch::Sender<Arc<Footing>>,
    /// Rung when what the open stream says is doubted.
    anew: watch::Sender<()>,
}

/// What calls are made with.
pub struct Footing {
    /// Rises with every change.
    pub number: u64,
    pub identity: Arc<Identity>,
    pub trust: Trust,
    pub client: AuthorityClient,
    pub standing: Standing,
    /// Connections of footings before this one may not go on: a root or key they may lean on is trusted no
    /// more.
    pub goes_on_from: u64,
}

/// What the authority thinks of the certificate, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is the one that calls are made with; whether it is still taken, the next call tells.
    Taken,
    /// Renewed and not used yet.
    OnTrial,
}

impl Line {
    pub fn new(
        base: &str,
        identity: Identity,
        trust: Trust,
        clock: Arc<Clock>,
    ) -> Result<Self, AgentError> {
        Self::resolving(base, identity, trust, clock, Names::of_system())
    }

    /// The same with names as somebody else resolves them.
    pub(crate) fn resolving(
        base: &str,
        identity: Identity,
        trust: Trust,
        clock: Arc<Clock>,
        names: Names,
    ) -> Result<Self, AgentError> {
        let heard = Some(clock.clone());
        let first = Footing {
            number: 1,
            client: AuthorityClient::new(base, &identity, trust.anchors(), heard, &names)?,
            identity: Arc::new(identity),
            trust,
            standing: Standing::Taken,
            goes_on_from: 1,
        };
        Ok(Self {
            base: base.into(),
            clock,
            names,
            footing: watch::Sender::new(Arc::new(first)),
            anew: watch::Sender::new(()),
        })
    }

    pub fn now(&self) -> Arc<Footing> {
        self.footing.borrow().clone()
    }

    /// Hears of every change after this moment.
    pub fn changes(&self) -> watch::Receiver<Arc<Footing>> {
        self.footing.subscribe()
    }

    /// The stream that is open is doubted: whoever listens to it asks for another one.
    pub fn ask_anew(&self) {
        self.anew.send_replace(());
    }

    /// Hears of doubts after this moment.
    pub fn doubts(&self) -> watch::Receiver<()> {
        self.anew.subscribe()
    }

    /// A count of milliseconds that only runs forward.
    pub(super) fn ticks_ms(&self) -> Millis {
        self.clock.ticks_ms()
    }

    /// From now on everybody calls as `identity`.
    pub fn identify(&self, identity: Arc<Identity>, standing: Standing) -> Result<u64, AgentError> {
        let trust = self.now().trust.clone();
        self.step_onto(identity, trust, standing)
    }

    /// The authority has taken a call of this footing.
    pub fn prove(&self, number: u64) {
        self.footing.send_if_modified(|held| {
            let proven = held.number == number && held.standing == Standing::OnTrial;
            if proven {
                *held = Arc::new(Footing {
                    standing: Standing::Taken,
                    ..held.again()
                });
            }
            proven
        });
    }

    /// Makes a call; again if it was refused for a certificate that was being replaced meanwhile.
    pub async fn call<T, F, C>(&self, make: F) -> Result<T, CallError>
    where
        F: Fn(AuthorityClient) -> C,
        C: Future<Output = Result<T, CallError>>,
    {
        let mut repeats = 0;
        loop {
            let footing = self.now();
            match make(footing.client.clone()).await {
                Err(error) if error.is_about_certificate() && repeats < REPEATS_MAX => {
                    if !self.moves_on(&footing).await {
                        return Err(error);
                    }
                    repeats += 1;
                }
                result => return result,
            }
        }
    }

    /// For what proves itself, when nobody can be believed.
    pub fn believing_anybody(&self) -> Result<AuthorityClient, AgentError> {
        AuthorityClient::believing_anybody(&self.base, &self.names)
    }

    /// Whether there is another footing than this, now or, while one is on trial, soon.
    async fn moves_on(&self, footing: &Footing) -> bool {
        let mut changes = self.changes();
        let settled = changes
            .wait_for(|held| held.number != footing.number || held.standing == Standing::Taken);
        let settled = tokio::time::timeout(SETTLE_MAX, settled).await;
        matches!(settled, Ok(Ok(held)) if held.number != footing.number || footing.standing == Standing::OnTrial)
    }

    /// From now on everybody calls as `identity`, and takes only servers under these roots for the
    /// authority.
    pub fn step_onto(
        &self,
        identity: Arc<Identity>,
        trust: Trust,
        standing: Standing,
    ) -> Result<u64, AgentError> {
        let clock = Some(self.clock.clone());
        let anchors = trust.anchors();
        let client = AuthorityClient::new(&self.base, &identity, anchors, clock, &self.names)?;
        let mut number = 0;
        self.footing.send_modify(|held| {
            number = held.number + 1;
            *held = Arc::new(Footing {
                number,
                goes_on_from: match trust.believes_all_of(&held.trust) {
                    true => held.goes_on_from,
                    false => number,
                },
                identity,
                trust,
                client,
                standing,
            });
        });
        Ok(number)
    }
}

impl Footing {
    fn again(&self) -> Self {
        Self {
            number: self.number,
            identity: self.identity.clone(),
            trust: self.trust.clone(),
            client: self.client.clone(),
            standing: self.standing,
            goes_on_from: self.goes_on_from,
        }
    }
}

#[async_trait]
impl ChargeDesk for Line {
    async fn start(&self, request: &ChargeRequest) -> Result<ChargeState, CallError> {
        let request = request.clone();
        self.call(move |client| {
            let request = request.clone();
            async move { client.start(&request).await }
        })
        .await
    }

    async fn look(&self, charge: ChargeId) -> Result<ChargeState, CallError> {
        self.call(|client| async move { client.look(charge).await })
            .await
    }

    async fn cancel(&self, charge: ChargeId) -> Result<ChargeState, CallError> {
        self.call(|client| async move { client.cancel(charge).await })
            .await
    }
}

#[async_trait]
impl BooksDesk for Line {
    async fn refund(&self, request: &RefundRequest) -> Result<RefundResponse, CallError> {
        let request = request.clone();
        self.call(move |client| {
            let request = request.clone();
            async move { client.refund(&request).await }
        })
        .await
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, CallError> {
        let query = query.clone();
        self.call(move |client| {
            let query = query.clone();
            async move { client.history(&query).await }
        })
        .await
    }

    async fn day(&self) -> Result<DayReport, CallError> {
        self.call(|client| async move { client.day().await }).await
    }
}
