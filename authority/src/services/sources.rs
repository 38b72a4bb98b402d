//! Does one client address ask too often?
//!
//! ```text
//! 2001:db8:1:2::7 ─▶ /64 ≤ limit ─▶ /56 ≤ 4 · limit ─▶ /48 ≤ 16 · limit ─▶ counted in all three
//! 192.0.2.1       ─▶ one address ≤ limit
//! a poll that proves to hold its claim ─▶ claim ≤ own limit ─▶ address ≤ own limit
//! ```
//! Counted per minute and kind of request, in memory: it protects the machine, not the money, so it may
//! forget. When more addresses ask than are kept, all are forgotten: a full table must not become a way to
//! keep others out. What is refused counts nothing, so that no network fills the table by itself.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::ids::ClaimId;
use protocol::problem::{Problem, ProblemType};
use protocol::time::{Millis, Timestamp};
use subtle::ConstantTimeEq;

use super::phone::PhoneCookie;
use crate::config::TrafficConfig;

/// Counts that are kept at a time.
pub const SOURCES_MAX: usize = 65_536;
/// Claims whose phones are known at a time.
pub const HOLDERS_MAX: usize = 65_536;
/// How often a minute a phone may ask how far its own claim is: a page that follows a rail asks 86 times.
pub const POLLS_PER_CLAIM: u32 = 240;
/// The same of all phones behind one address: two hundred that wait at once.
pub const POLLS_PER_ADDRESS: u32 = 6_000;
/// Prefixes of IPv6 that are counted besides the /64, and how many times its limit each may ask: a home or
/// an office is given a /56 or a /48, and whoever rents one has all of its addresses.
pub const WIDER: [(u8, u32); 2] = [(56, 4), (48, 16)];
const MINUTE_MS: Millis = 60_000;

/// Where a request comes from: an IPv4 address, or a /64 of IPv6, because a phone has all of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

/// What is counted together: a source, or a wider network around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Traffic {
    /// Claims, approvals, and whatever else changes something.
    Acts,
    /// Tokens and claims that are only looked at.
    Looks,
    SignIns,
    /// Looks of a phone at the claim that it is known to hold.
    Polls,
}

/// Requests of the running minute, and who is known to hold which claim.
#[derive(Default)]
pub struct Sources {
    counted: Mutex<Counted>,
    /// What the database keeps of the phone's secret.
    holders: Mutex<HashMap<ClaimId, [u8; 32]>>,
}

#[derive(Default)]
struct Counted {
    minute: i64,
    requests: HashMap<(Who, Traffic), u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Network(Network),
    Claim(ClaimId),
}

impl Source {
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => Self(IpAddr::V6(cut(address, 64))),
            v4 => Self(v4),
        }
    }

    /// The source itself and what is around it, each with how many times the limit of one it may have.
    pub fn networks(self) -> impl Iterator<Item = (Network, u32)> {
        let itself = Network {
            address: self.0,
            prefix: if self.0.is_ipv6() { 64 } else { 32 },
        };
        let around = match self.0 {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        };
        let around = around.into_iter().flat_map(|address| {
            WIDER.into_iter().map(move |(prefix, times)| {
                let address = IpAddr::V6(cut(address, prefix));
                (Network { address, prefix }, times)
            })
        });
        std::iter::once((itself, 1)).chain(around)
    }

    /// The widest network around it, and how many times the limit of one address it may have.
    pub fn widest(self) -> (Network, u32) {
        let widest = self.networks().last();
        widest.expect("a source is around itself")
    }
}

fn cut(address: Ipv6Addr, prefix: u8) -> Ipv6Addr {
    let mask = u128::MAX << (128 - u32::from(prefix));
    Ipv6Addr::from(u128::from(address) & mask)
}

impl Traffic {
    /// As metrics and limits call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Acts => "acts",
            Self::Looks => "looks",
            Self::SignIns => "sign-ins",
            Self::Polls => "polls",
        }
    }

    fn limit(self, config: &TrafficConfig) -> u32 {
        match self {
            Self::Acts => config.acts_per_address,
            Self::Looks => config.looks_per_address,
            Self::SignIns => config.sign_ins_per_address,
            Self::Polls => POLLS_PER_ADDRESS,
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
        self.count(from, traffic, traffic.limit(config), None, now)
    }

    /// The same for a phone that asks after the claim it holds.
    pub fn poll(&self, from: Source, claim: ClaimId, now: Timestamp) -> Result<(), Problem> {
        let own = Some((Who::Claim(claim), POLLS_PER_CLAIM));
        self.count(from, Traffic::Polls, POLLS_PER_ADDRESS, own, now)
    }

    /// Call once the books have said that the claim of this cookie is its own.
    pub fn note_holder(&self, cookie: &PhoneCookie) {
        let mut holders = self.holders();
        if holders.len() >= HOLDERS_MAX {
            holders.clear();
        }
        holders.insert(cookie.claim(), cookie.hash());
    }

    /// Whether the phone with this cookie is known to hold its claim. No look at the books: whoever is not
    /// known looks once, and is.
    pub fn is_holder(&self, cookie: &PhoneCookie) -> bool {
        let holders = self.holders();
        let phone = holders.get(&cookie.claim());
        phone.is_some_and(|phone| bool::from(phone.ct_eq(&cookie.hash())))
    }

    fn count(
        &self,
        from: Source,
        traffic: Traffic,
        limit: u32,
        own: Option<(Who, u32)>,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let minute = now.ms().div_euclid(MINUTE_MS);
        let networks = from.networks();
        let networks = networks.map(|(it, times)| (Who::Network(it), limit.saturating_mul(times)));
        let all: Vec<_> = own.into_iter().chain(networks).collect();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.minute != minute || counted.requests.len() + all.len() > SOURCES_MAX {
            counted.minute = minute;
            counted.requests.clear();
        }
        let asked = |who: &Who| counted.requests.get(&(*who, traffic)).copied();
        if all.iter().any(|(who, max)| asked(who).unwrap_or(0) >= *max) {
            let left = (minute + 1) * MINUTE_MS - now.ms();
            let problem = Problem::new(ProblemType::TooManyRequests);
            return Err(problem.with_retry_after(super::seconds(left)));
        }
        for (who, _) in all {
            *counted.requests.entry((who, traffic)).or_default() += 1;
        }
        Ok(())
    }

    fn holders(&self) -> MutexGuard<'_, HashMap<ClaimId, [u8; 32]>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CONFIG: TrafficConfig = TrafficConfig {
        claims_per_shopper: 1,
        payments_per_wallet_key: 1,
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
    fn whoever_rents_a_48_has_sixteen_times_one_limit_and_not_65536_times() {
        let sources = Sources::default();
        let look = |address: &str| sources.pass(source(address), Traffic::Looks, &CONFIG, NOW);
        let of_48 = |n: u32| look(&format!("2001:db8:1:{n:x}::1"));
        let passed = (0..65_536).filter(|n| of_48(*n).is_ok()).count();
        assert_eq!(passed, 16);
        let kept = sources.counted.lock().unwrap().requests.len();
        assert!(kept <= 3 * 16, "what is refused fills no table: {kept}");
        let of_56 = |n: u32| look(&format!("2001:db8:2:ab{n:02x}::1"));
        assert_eq!((0..256).filter(|n| of_56(*n).is_ok()).count(), 4);
        look("2001:db8:3::1").unwrap();
    }

    #[test]
    fn polls_of_a_claim_have_limits_of_their_own() {
        let sources = Sources::default();
        let claim = |n: u8| ClaimId::from_parts(1, &[n; 10]);
        let shop = source("192.0.2.1");
        for _ in 0..POLLS_PER_CLAIM {
            sources.poll(shop, claim(1), NOW).unwrap();
        }
        sources.poll(shop, claim(1), NOW).unwrap_err();
        sources.poll(shop, claim(2), NOW).unwrap();
        sources.pass(shop, Traffic::Looks, &CONFIG, NOW).unwrap();
        let all = (0..=255).flat_map(|n| std::iter::repeat_n(n, POLLS_PER_CLAIM as usize));
        let passed = all.filter(|n| sources.poll(shop, claim(*n), NOW + MINUTE_MS).is_ok());
        assert_eq!(passed.count(), POLLS_PER_ADDRESS as usize);
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
