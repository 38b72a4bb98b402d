//! What does each verb answer, refusals included?

pub(crate) mod allowances;
pub(crate) mod books;
pub(crate) mod certificates;
pub(crate) mod charges;
pub(crate) mod intents;
pub(crate) mod leaving;
pub(crate) mod payments;
pub(crate) mod profiles;
pub(crate) mod records;
pub(crate) mod retention;
pub(crate) mod rotation;
pub(crate) mod sign_ins;
pub(crate) mod tags;
pub(crate) mod taps;
pub(crate) mod terminals;
pub(crate) mod texts;
pub(crate) mod trust;
pub(crate) mod wallets;
pub(crate) mod wear;

use authority::store::{ChargeStatus, PushState};
use protocol::charge::ChargeKind;
use protocol::ids::TerminalId;
use protocol::wire::claims::ClaimState;
use protocol::wire::push::ChargeStage;

use crate::world::World;

async fn push(world: &World, terminal: TerminalId) -> PushState {
    world.store.push_state(terminal, 0).await.unwrap().unwrap()
}

fn stage(state: PushState) -> ChargeStage {
    state.charge.unwrap().stage
}

async fn offer(world: &World, terminal: TerminalId) -> Option<ChargeKind> {
    world.store.charge_on_offer(terminal).await.unwrap()
}

async fn status_of(world: &World, charge: protocol::ids::ChargeId) -> ChargeStatus {
    world.store.charge(charge).await.unwrap().unwrap().status
}

async fn claim_state(world: &World, claim: protocol::ids::ClaimId) -> ClaimState {
    world
        .store
        .claim_record(claim)
        .await
        .unwrap()
        .unwrap()
        .state
}
