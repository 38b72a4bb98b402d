//! What does a connected terminal cost, beside nginx with the same certificates on the same core?
//!
//! A released authority and an nginx, each pinned to one core, and one client process on another: processor time of
//! the server for each handshake and each kept-alive request, the server's memory for each terminal that only listens,
//! and how long a fleet takes to come back after a restart. On all cores: schedules a second beside what they are made of.
//! `make bench` prints the table and writes it into docs/PERFORMANCE.md. `M2KEY_FRONT_AGENTS` says how many terminals
//! there are.

use std::future::Future;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use harness::Failure;
use harness::load::house::House;

mod bare;
mod client;
#[path = "../shared/itself.rs"]
#[expect(dead_code, reason = "the authority is a harness's own here")]
mod itself;
mod nginx;
#[path = "../shared/page.rs"]
#[expect(dead_code, reason = "rows without targets are of the other benchmarks")]
mod page;
mod server;
mod table;

use bare::Bare;
use client::{Clients, Request};
use nginx::Nginx;
use server::Server;

const AGENTS: &str = "M2KEY_FRONT_AGENTS";
const AGENTS_DEFAULT: u32 = 2_000;
/// How long one rate is measured.
const SPAN: Duration = Duration::from_millis(2_000);
/// Shakes hands, or asks, at one time.
const HANDSHAKING: usize = 16;
const ASKING: usize = 32;
/// The client has a core of its own, where there are two.
const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;
/// No line for each request, as nginx writes none here.
const QUIET: &str = "\n[log]\nfilter = \"warn\"\n";

/// Server's processor microseconds, one number per round; first ours, then nginx's.
#[derive(Default)]
struct Rounds {
    handshake: [Vec<f64>; 2],
    handshake_and_request: [Vec<f64>; 2],
    request: [Vec<f64>; 2],
    /// A request of a terminal that is proven in the store, which nginx has no like of.
    proven: Vec<f64>,
}

/// Per second, one number per round, and nobody pinned.
#[derive(Default)]
struct Schedules {
    /// Each with a new epoch.
    issued: Vec<f64>,
    /// Kept-alive requests that do nothing.
    asked: Vec<f64>,
    bare: Vec<bare::Rates>,
}

struct Measured {
    rounds: Rounds,
    schedules: Schedules,
    agents: usize,
    /// Resident bytes for each of them.
    idle: [f64; 2],
    storm: client::Storm,
}

fn main() -> ExitCode {
    itself::run(|role| match role {
        Some(bare::ROLE) => bare::obey(),
        _ => {
            let text = itself::runtime()?.block_on(measure())?;
            println!("\n{text}\nwritten into docs/PERFORMANCE.md");
            Ok(())
        }
    })
}

async fn measure() -> Result<String, Failure> {
    let agents = match std::env::var(AGENTS) {
        Ok(text) => text.parse().map_err(Failure::of(AGENTS))?,
        Err(_) => AGENTS_DEFAULT,
    };
    let dir = tempfile::tempdir()?;
    eprintln!("an authority is made, with {agents} terminals");
    let mut house = House::open(dir.path(), agents, 1).await?;
    house.authority.stop().await?;
    house.authority.configure(QUIET)?;
    let mut bare = Bare::start(&house.authority)?;
    house.authority.serve().await?;
    let measured = compare(&mut house, &mut bare, dir.path(), agents).await;
    // Also when it failed: did we end the connection?
    tell_refused(&house).await?;
    let measured = measured?;
    let text = table::of(&measured);
    page::write("front", &text)?;
    table::tell(&measured)?;
    Ok(text)
}

async fn compare(
    house: &mut House,
    bare: &mut Bare,
    dir: &Path,
    agents: u32,
) -> Result<Measured, Failure> {
    let clients = Clients::load(&house.fleet.terminals, &house.authority.root())?;
    let port = house.fleet.agents[0].rsplit(':').next().unwrap_or_default();
    let port = port.parse().map_err(Failure::of("the agents' port"))?;
    let nginx = Nginx::start(dir, &house.authority, agents).await?;
    server::pin(std::process::id(), CLIENT_CORE)?;
    let ours = Server::at(house.authority.pid()?, port, Request::Csrattrs);
    let theirs = Server::at(nginx.pid(), nginx.port(), Request::Root);
    server::pin(ours.pid, SERVER_CORE)?;
    server::pin(theirs.pid, SERVER_CORE)?;
    eprintln!("{agents} terminals listen");
    // First, while neither has memory left over from other work.
    let idle = [
        idle(&clients, &ours, Request::Events).await?,
        idle(&clients, &theirs, Request::Root).await?,
    ];
    let rounds = rounds(&clients, &ours, &theirs).await?;
    for pid in [ours.pid, std::process::id()] {
        server::unpin(pid)?;
    }
    let schedules = schedules(&clients, &ours, bare).await?;
    eprintln!("{agents} terminals come back");
    tell_refused(house).await?;
    house.authority.stop().await?;
    house.authority.serve().await?;
    let back = Server::at(house.authority.pid()?, port, Request::Events);
    let storm = clients.all_at_once(back.port).await?;
    Ok(Measured {
        rounds,
        schedules,
        agents: clients.count(),
        idle,
        storm,
    })
}

async fn tell_refused(house: &House) -> Result<(), Failure> {
    let refused = server::refusals(&house.authority).await?;
    eprintln!("connections refused or cut by the authority: {refused}");
    Ok(())
}

/// Ours and nginx take turns, so that a slow moment of the machine hits both.
async fn rounds(clients: &Clients, ours: &Server, theirs: &Server) -> Result<Rounds, Failure> {
    let mut rounds = Rounds::default();
    for round in 1..=page::ROUNDS {
        eprintln!("round {round} of {}", page::ROUNDS);
        for (place, server) in [ours, theirs].into_iter().enumerate() {
            let port = server.port;
            let hands = server.cost(clients.shake_hands(port, None)).await?;
            rounds.handshake[place].push(hands);
            let whole = server.cost(clients.shake_hands(port, Some(server.asks)));
            rounds.handshake_and_request[place].push(whole.await?);
            let asked = server.cost(clients.ask(port, server.asks)).await?;
            rounds.request[place].push(asked);
        }
        let proven = ours.cost(clients.ask(ours.port, Request::Keys)).await?;
        rounds.proven.push(proven);
    }
    Ok(rounds)
}

/// What they are made of takes turns with them.
async fn schedules(
    clients: &Clients,
    ours: &Server,
    bare: &mut Bare,
) -> Result<Schedules, Failure> {
    let mut schedules = Schedules::default();
    for round in 1..=page::ROUNDS {
        eprintln!("schedules, round {round} of {}", page::ROUNDS);
        schedules.bare.push(bare.rates()?);
        let asked = per_second(clients.ask(ours.port, ours.asks)).await?;
        schedules.asked.push(asked);
        let issued = per_second(clients.ask(ours.port, Request::Schedule)).await?;
        schedules.issued.push(issued);
    }
    Ok(schedules)
}

async fn per_second(work: impl Future<Output = Result<u64, Failure>>) -> Result<f64, Failure> {
    let began = Instant::now();
    let done = work.await?;
    Ok(done as f64 / began.elapsed().as_secs_f64())
}

/// Resident bytes for each terminal that is connected and says nothing.
async fn idle(clients: &Clients, server: &Server, first: Request) -> Result<f64, Failure> {
    let before = server.resident()?;
    let connected = clients.connect_all(server.port, first).await?;
    // What is freed after the handshakes is free by then.
    client::settle().await;
    let after = server.resident()?;
    let each = after.saturating_sub(before) as f64 / connected.len().max(1) as f64;
    drop(connected);
    Ok(each)
}
