//! Who is there before the first shopper comes? Terminals that are connected and show tokens, phones that are
//! signed in.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::jwk::JwkSet;
use tokio::task::{AbortHandle, JoinSet};

use super::agent::Agent;
use super::fleet::Fleet;
use super::idle::Idle;
use super::options::Share;
use super::phone::{Air, Phone};
use super::random::Dice;
use super::stopwatch::Stopwatch;
use crate::Failure;

/// Terminals that connect, and phones that sign in, at one time: a storm is another verb.
const AT_ONCE: usize = 16;
/// How long a terminal may take to be there.
const ARRIVAL_MAX: Duration = Duration::from_secs(60);
/// So that terminals without a line are not drawn by the same numbers as the shoppers.
const OFFLINE_SEED: u64 = 0x0FF1_14E5;

/// A fleet that is ready.
pub struct Stage {
    pub fleet: Fleet,
    pub watch: Stopwatch,
    pub keys: JwkSet,
    pub air: Arc<Air>,
    pub agents: Vec<Arc<Agent>>,
    pub terminals: Arc<Idle<Arc<Agent>>>,
    pub phones: Arc<Idle<Phone>>,
    /// Terminals that hear nothing.
    pub offline: BTreeSet<usize>,
    _streams: JoinSet<()>,
}

impl Stage {
    /// Terminals connect and fetch, then this share of them loses its line; phones sign in.
    pub async fn set(
        fleet: Fleet,
        offline: Share,
        patience: Duration,
        seed: u64,
    ) -> Result<Self, Failure> {
        let watch = Stopwatch::start();
        let air = Air::of(&fleet, patience).await?;
        let agents = load_agents(&fleet, watch)?;
        let mut streams = JoinSet::new();
        let lines = connect(&agents, &mut streams).await?;
        let offline = drawn(agents.len(), offline, seed);
        for number in &offline {
            lines[*number].abort();
            agents[*number].lose_line();
        }
        let phones = stream::iter(fleet.shoppers.iter().enumerate())
            .map(|(number, customer)| Phone::of(&air, customer, number))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(Self {
            watch,
            keys: air.keys().await?,
            air,
            terminals: Idle::new(agents.clone()),
            phones: Idle::new(phones),
            agents,
            offline,
            fleet,
            _streams: streams,
        })
    }

    /// Those that have a line.
    pub fn online(&self) -> Vec<Arc<Agent>> {
        let all = self.agents.iter().enumerate();
        let online = all.filter(|(number, _)| !self.offline.contains(number));
        online.map(|(_, agent)| agent.clone()).collect()
    }
}

/// Every terminal of the fleet; more than one node get them in turn, and whose node is lost goes to the next.
pub fn load_agents(fleet: &Fleet, watch: Stopwatch) -> Result<Vec<Arc<Agent>>, Failure> {
    let nodes: Vec<&str> = fleet.agents.iter().map(String::as_str).collect();
    let places = fleet.terminals.iter().enumerate();
    let load = |(number, dir): (usize, &std::path::PathBuf)| {
        let agent = Agent::load(dir, &nodes, watch)?;
        agent.go_to(number % nodes.len());
        Ok(agent)
    };
    places.map(load).collect()
}

async fn connect(
    agents: &[Arc<Agent>],
    streams: &mut JoinSet<()>,
) -> Result<Vec<AbortHandle>, Failure> {
    let mut lines = Vec::with_capacity(agents.len());
    for some in agents.chunks(AT_ONCE) {
        lines.extend(
            some.iter()
                .map(|it| streams.spawn(it.clone().listen(|_| {}))),
        );
        let ready = stream::iter(some).map(|agent| async move {
            let up = agent
                .until(ARRIVAL_MAX, |heard| heard.up.then_some(()))
                .await;
            up.ok_or_else(|| Failure::new(format!("terminal {} does not connect", agent.id())))?;
            let fetched = agent.fetch().await;
            fetched.map_err(Failure::of(format!("terminal {}", agent.id())))
        });
        ready.buffered(AT_ONCE).try_collect::<()>().await?;
    }
    Ok(lines)
}

/// So many of these, drawn from the seed.
fn drawn(count: usize, share: Share, seed: u64) -> BTreeSet<usize> {
    let mut dice = Dice::new(seed ^ OFFLINE_SEED);
    let mut left: Vec<_> = (0..count).collect();
    let draw = |_| left.swap_remove(dice.number() as usize % left.len());
    (0..share.of(count)).map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_terminals_lose_their_line_and_the_same_ones_for_the_same_seed() {
        let five: Share = "5%".parse().unwrap();
        let first = drawn(200, five, 1);
        assert_eq!(first.len(), 10);
        assert_eq!(first, drawn(200, five, 1));
        assert_ne!(first, drawn(200, five, 2));
        assert!(drawn(200, "0%".parse().unwrap(), 1).is_empty());
        assert_eq!(drawn(7, "100%".parse().unwrap(), 1).len(), 7);
    }
}
