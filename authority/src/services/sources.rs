//! Does one client address ask too often?
//!
//! Counted per minute and kind of request, in memory: it protects the machine, not the money, so it may
//! forget. When more addresses ask than are kept, all are forgotten: a full table must not become a way to
//! keep others out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use protocol::problem::{Problem, ProblemType};
use protocol::time::{Millis, Timestamp};

use crate::config::TrafficConfig;

/// Addresses that are counted at a time.
pub const SOURCES_MAX: usize = 65_536;
const MINUTE_MS: Millis = 60_000;

/// Where a request comes from: an IPv4 address, or a /64 of IPv6, because a phone has all of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Traffic {
    /// Claims, approvals, and whatever else changes something.
    Acts,
    /// Tokens and claims that are only looked at.
    Looks,
    SignIns,
}

/// Requests of the running minute.
#[derive(Default)]
pub struct Sources {
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    minute: i64,
    requests: HashMap<(Source, Traffic), u32>,
}

impl Source {
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let mut segments = address.segments();
                segments[4..].fill(0);
                Self(IpAddr::V6(segments.into()))
            }
            v4 => Self(v4),
        }
    }
}

impl Traffic {
    /// As metrics and limits call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Acts => "acts",
            Self::Looks => "looks",
            Self::SignIns => "sign-ins",
        }
    }

    fn limit(self, config: &TrafficConfig) -> u32 {
        match self {
            Self::Acts => config.acts_per_address,
            Self::Looks => config.looks_per_address,
            Self::SignIns => config.sign_ins_per_address,
        }
    }
}

impl Sources {
    /// Counts a request, or refuses it.
    pub fn pass(
        &self,
        from: Source,
        traffic: Traffic,
        config: &TrafficConfig,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let minute = now.ms().div_euclid(MINUTE_MS);
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.minute != minute || counted.requests.len() >= SOURCES_MAX {
            counted.minute = minute;
            counted.requests.clear();
        }
        let requests = counted.requests.entry((from, traffic)).or_default();
        *requests = requests.saturating_add(1);
        match *requests <= traffic.limit(config) {
            true => Ok(()),
            false => {
                let left = (minute + 1) * MINUTE_MS - now.ms();
                Err(Problem::new(ProblemType::TooManyRequests)
                    .with_retry_after(super::seconds(left)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CONFIG: TrafficConfig = TrafficConfig {
        claims_per_shopper: 1,
        acts_per_address: 3,
        looks_per_address: 1,
        sign_ins_per_address: 1,
        connections_per_address: 1,
    };
    const NOW: Timestamp = Timestamp::from_ms(1_795_459_201_000);

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    #[test]
    fn a_phone_has_a_whole_64_and_one_address_of_the_old_kind() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }

    #[test]
    fn each_address_has_its_own_count_for_each_kind_and_a_new_one_each_minute() {
        let sources = Sources::default();
        let pass = |from, traffic, at| sources.pass(source(from), traffic, &CONFIG, at);
        for _ in 0..3 {
            pass("192.0.2.1", Traffic::Acts, NOW).unwrap();
        }
        let refused = pass("192.0.2.1", Traffic::Acts, NOW).unwrap_err();
        let kind = refused.problem_type();
        assert_eq!(kind, Some(ProblemType::TooManyRequests));
        assert_eq!(refused.retry_after_s, Some(59));
        pass("192.0.2.1", Traffic::Looks, NOW).unwrap();
        pass("192.0.2.2", Traffic::Acts, NOW).unwrap();
        pass("192.0.2.1", Traffic::Acts, NOW + MINUTE_MS).unwrap();
    }

    #[test]
    fn memory_is_bounded_and_a_flood_of_addresses_keeps_nobody_out() {
        let sources = Sources::default();
        for number in 0..2 * SOURCES_MAX as u32 {
            let from = Source::of(IpAddr::V4(number.into()));
            sources.pass(from, Traffic::Looks, &CONFIG, NOW).unwrap();
            let kept = sources.counted.lock().unwrap().requests.len();
            assert!(kept <= SOURCES_MAX);
        }
    }
}
