//! What has a server process used up?

use std::future::Future;

use harness::authority::Authority;
use harness::{Failure, tools, web};

use crate::client::Request;

const REFUSED: &str = "m2key_authority_connections_refused_total{listener=\"agents\",reason=\"";

/// A running server and what is asked of it.
pub(crate) struct Server {
    pub(crate) pid: u32,
    pub(crate) port: u16,
    /// The cheapest answer it has.
    pub(crate) asks: Request,
}

impl Server {
    pub(crate) fn at(pid: u32, port: u16, asks: Request) -> Self {
        Self { pid, port, asks }
    }

    /// Its processor time, in microseconds, for each thing that `work` has it do.
    pub(crate) async fn cost(
        &self,
        work: impl Future<Output = Result<u64, Failure>>,
    ) -> Result<f64, Failure> {
        let before = self.processor_us()?;
        let asked = format!("port {}, {:?}", self.port, self.asks);
        let done = work.await.map_err(Failure::of(asked))?;
        Ok((self.processor_us()? - before) as f64 / done.max(1) as f64)
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
        let kilobytes = kilobytes.ok_or_else(|| Failure::new("no VmRSS in /proc"))?;
        Ok(kilobytes * 1_024)
    }

    /// Of all its threads, as the scheduler counts it.
    fn processor_us(&self) -> Result<u64, Failure> {
        let mut all = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            let ran_ns: Option<u64> = text
                .split_whitespace()
                .next()
                .and_then(|it| it.parse().ok());
            all += ran_ns.ok_or_else(|| Failure::new("no time in schedstat"))? / 1_000;
        }
        Ok(all)
    }
}

/// Which connections the agents' listener has refused or cut since it came up, by reason, in words.
pub(crate) async fn refusals(authority: &Authority) -> Result<String, Failure> {
    let url = format!("{}/metrics", authority.loopback_url()?);
    let response = web::plain()?.get(url).send().await;
    let response = response.map_err(|error| web::sent(&error))?;
    let text = response.text().await.map_err(|error| web::sent(&error))?;
    let refused = text.lines().filter_map(|line| {
        let (reason, count) = line.strip_prefix(REFUSED)?.split_once("\"} ")?;
        Some(format!("{reason} {count}"))
    });
    let refused: Vec<String> = refused.collect();
    Ok(match refused.is_empty() {
        true => "none".into(),
        false => refused.join(", "),
    })
}

/// All its threads on this core; where there is one core only, they are there already.
pub(crate) fn pin(pid: u32, core: usize) -> Result<(), Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    on(pid, &core.min(cores - 1).to_string())
}

/// All its threads on all cores again, and whatever it starts.
pub(crate) fn unpin(pid: u32) -> Result<(), Failure> {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
    on(pid, online.trim())
}

fn on(pid: u32, cores: &str) -> Result<(), Failure> {
    tools::run("taskset", &["-a", "-c", "-p", cores, &pid.to_string()]).map(drop)
}
