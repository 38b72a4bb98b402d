//! How long does one wait for a server that is so busy?
//!
//! Known results: Pollaczek and Khinchine for one server, Erlang for many that are alike, Allen and
//! Cunneen between them, Cobham for who goes first.

/// Requests of one kind.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    pub per_s: f64,
    /// How long one occupies a server; always the same.
    pub takes_s: f64,
}

/// Servers side by side with one queue.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub servers: f64,
    pub busy: f64,
    /// Of those who go first.
    pub busy_first: f64,
    mean_s: f64,
    /// Square of the coefficient of variation.
    variation: f64,
}

impl Load {
    /// `first` goes before `second`.
    pub fn of(servers: f64, first: &[Stream], second: &[Stream]) -> Self {
        let all = || first.iter().chain(second);
        let rate: f64 = all().map(|it| it.per_s).sum();
        let mean_s =
            all().map(|it| it.per_s * it.takes_s).sum::<f64>() / rate.max(f64::MIN_POSITIVE);
        let square = all()
            .map(|it| it.per_s * it.takes_s * it.takes_s)
            .sum::<f64>()
            / rate.max(f64::MIN_POSITIVE);
        let work = |of: &[Stream]| of.iter().map(|it| it.per_s * it.takes_s).sum::<f64>();
        Self {
            servers,
            busy: (work(first) + work(second)) / servers,
            busy_first: work(first) / servers,
            mean_s,
            variation: square / (mean_s * mean_s).max(f64::MIN_POSITIVE) - 1.0,
        }
    }

    /// If everybody waited in one line; endless if there is more work than servers.
    pub fn wait_s(&self) -> f64 {
        if self.busy >= 1.0 {
            return f64::INFINITY;
        }
        let waits = erlang_c(self.servers, self.busy * self.servers);
        let of_exponential = waits * self.mean_s / (self.servers * (1.0 - self.busy));
        of_exponential * (1.0 + self.variation) / 2.0
    }

    /// Of those who go first.
    pub fn wait_first_s(&self) -> f64 {
        match self.busy_first < 1.0 {
            true => self.wait_if_first_s() / (1.0 - self.busy_first),
            false => f64::INFINITY,
        }
    }

    /// Of those who let the others go first.
    pub fn wait_second_s(&self) -> f64 {
        match self.busy < 1.0 {
            true => self.wait_if_first_s() / ((1.0 - self.busy_first) * (1.0 - self.busy)),
            false => f64::INFINITY,
        }
    }

    /// Until the first server is free, for somebody whom nobody is before.
    fn wait_if_first_s(&self) -> f64 {
        match self.busy < 1.0 {
            true => self.wait_s() * (1.0 - self.busy),
            false => self.mean_s * (1.0 + self.variation) / 2.0 / self.servers,
        }
    }
}

/// How likely one has to wait; `servers` may be any number from 1 on, and is rounded down.
fn erlang_c(servers: f64, offered: f64) -> f64 {
    let mut blocked = 1.0;
    for n in 1..=(servers.max(1.0) as u64) {
        blocked = offered * blocked / (n as f64 + offered * blocked);
    }
    let busy = offered / servers.max(1.0).floor();
    blocked / (1.0 - busy * (1.0 - blocked))
}
