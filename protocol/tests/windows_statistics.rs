//! Can anyone tell a window before it opens, without the epoch key?
//!
//! A test cannot prove that; it can fail to see any pattern. The seeds are fixed, so a run always
//! says the same. Each threshold is what an ideal source would pass by chance in about one of a
//! million choices of seeds, so with some 60 comparisons a false alarm after a change of the
//! derivation is unlikely, and a real pattern of a per cent or so is seen.
#![allow(clippy::unwrap_used)]

mod common;

use common::key;
use protocol::derive::EpochKey;
use protocol::ids::TerminalId;
use protocol::token::Channel;
use protocol::window::{CheckedPolicy, EPOCH_MS, EpochClock, Policy, WindowPlan};

const KEYS: u64 = 200;
const EPOCH: u32 = 495_000;

/// A chi-square sum above this has a chance of 10^-6 (Wilson and Hilferty's approximation, with
/// 4.753 standard deviations of the normal distribution).
fn chi_square_limit(freedom: f64) -> f64 {
    let spread = 2.0 / (9.0 * freedom);
    freedom * (1.0 - spread + 4.753 * spread.sqrt()).powi(3)
}

/// A correlation of n independent pairs is above this with a chance of 10^-6 (two sides).
fn correlation_limit(pairs: usize) -> f64 {
    4.9 / (pairs as f64).sqrt()
}

fn assert_uniform(counts: &[u64], what: &str) {
    let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
    assert!(expected >= 50.0, "{what}: too few to judge");
    let sum: f64 = counts
        .iter()
        .map(|count| (*count as f64 - expected).powi(2) / expected)
        .sum();
    let limit = chi_square_limit(counts.len() as f64 - 1.0);
    assert!(sum < limit, "{what}: chi-square {sum:.1}, limit {limit:.1}");
}

fn assert_uncorrelated(pairs: &[(f64, f64)], what: &str) {
    let n = pairs.len() as f64;
    let mean = |side: fn(&(f64, f64)) -> f64| pairs.iter().map(side).sum::<f64>() / n;
    let (mx, my) = (mean(|p| p.0), mean(|p| p.1));
    let sum = |term: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(term).sum::<f64>();
    let xy = sum(&|p| (p.0 - mx) * (p.1 - my));
    let (xx, yy) = (sum(&|p| (p.0 - mx).powi(2)), sum(&|p| (p.1 - my).powi(2)));
    let r = xy / (xx * yy).sqrt();
    let limit = correlation_limit(pairs.len());
    assert!(
        r.abs() < limit,
        "{what}: correlation {r:.4}, limit {limit:.4}"
    );
}

fn terminal() -> TerminalId {
    TerminalId::from_number(4_711_042).unwrap()
}

fn policy() -> CheckedPolicy {
    Policy::default().check().unwrap()
}

/// Lengths of all windows that were drawn from the whole range: the end of the epoch is not near.
fn lengths(key: &EpochKey, channel: Channel, epoch: u32) -> Vec<f64> {
    let policy = policy();
    let limits = policy.of(channel);
    let clock = EpochClock::of(terminal());
    let far = clock.closes(epoch) - limits.longest_ms - limits.shortest_ms;
    WindowPlan::draw(key, &policy, channel, &clock, epoch)
        .windows()
        .iter()
        .filter(|window| window.opens <= far)
        .map(|window| (window.closes - window.opens) as f64)
        .collect()
}

fn pairs(one: &[f64], other: &[f64]) -> Vec<(f64, f64)> {
    one.iter().copied().zip(other.iter().copied()).collect()
}

fn bin(length: f64, channel: Channel, bins: usize) -> usize {
    let policy = policy();
    let limits = policy.of(channel);
    let span = (limits.longest_ms - limits.shortest_ms + 1) as f64;
    ((length - limits.shortest_ms as f64) / span * bins as f64) as usize
}

#[test]
fn lengths_are_uniform_between_shortest_and_longest() {
    for channel in Channel::ALL {
        let mut counts = [0; 20];
        for number in 0..KEYS {
            for length in lengths(&key(number), channel, EPOCH) {
                counts[bin(length, channel, 20)] += 1;
            }
        }
        assert_uniform(&counts, channel.name());
    }
}

#[test]
fn shortest_and_longest_themselves_occur() {
    let mut seen = (false, false);
    for number in 0..2_000 {
        for length in lengths(&key(number), Channel::Qr, EPOCH) {
            seen.0 |= length == 20_000.0;
            seen.1 |= length == 40_000.0;
        }
    }
    // About 200 000 lengths over 20 001 values: each is missed with a chance of e^-10.
    assert_eq!(seen, (true, true));
}

#[test]
fn all_windows_so_far_say_nothing_of_the_next() {
    for lag in 1..=5 {
        let mut seen = Vec::new();
        for number in 0..KEYS {
            let lengths = lengths(&key(number), Channel::Qr, EPOCH);
            seen.extend(pairs(&lengths, &lengths[lag..]));
        }
        assert_uncorrelated(&seen, &format!("lag {lag}"));
    }
}

#[test]
fn the_next_length_is_uniform_whatever_quarter_the_last_one_was_in() {
    let mut counts = [[0; 8]; 4];
    for number in 0..KEYS {
        for pair in lengths(&key(number), Channel::Qr, EPOCH).windows(2) {
            let (last, next) = (pair[0], pair[1]);
            counts[bin(last, Channel::Qr, 4)][bin(next, Channel::Qr, 8)] += 1;
        }
    }
    for (quarter, counts) in counts.iter().enumerate() {
        assert_uniform(counts, &format!("after quarter {quarter}"));
    }
}

#[test]
fn the_time_passed_in_an_epoch_does_not_tell_the_next_length() {
    let mut seen = Vec::new();
    for number in 0..KEYS {
        let mut passed = 0.0;
        for (index, length) in lengths(&key(number), Channel::Qr, EPOCH).iter().enumerate() {
            // Less the time that this many windows take on average.
            seen.push((passed - 30_000.0 * index as f64, *length));
            passed += length;
        }
    }
    assert_uncorrelated(&seen, "time passed");
}

#[test]
fn two_keys_two_epochs_and_two_channels_have_plans_of_their_own() {
    let (mut keys, mut bits, mut channels, mut codes) = (vec![], vec![], vec![], vec![]);
    for number in 0..KEYS {
        let here = key(number);
        let qr = lengths(&here, Channel::Qr, EPOCH);
        keys.extend(pairs(
            &qr,
            &lengths(&key(number + KEYS), Channel::Qr, EPOCH),
        ));
        let mut flipped = *here.expose();
        flipped[(number % 32) as usize] ^= 1 << (number % 8);
        let flipped = EpochKey::from_bytes(flipped);
        bits.extend(pairs(&qr, &lengths(&flipped, Channel::Qr, EPOCH)));
        let nfc = lengths(&here, Channel::Nfc, EPOCH);
        channels.extend(pairs(&qr, &nfc));
        codes.extend(pairs(&nfc, &lengths(&here, Channel::Code, EPOCH)));
    }
    // Two epochs of one terminal differ in their epoch keys, so this is the same comparison.
    assert_uncorrelated(&keys, "two keys");
    assert_uncorrelated(&bits, "two keys that differ in one bit");
    assert_uncorrelated(&channels, "qr and nfc");
    assert_uncorrelated(&codes, "nfc and code");
}

#[test]
fn every_rotating_digit_is_uniform_and_so_is_the_whole_code() {
    let mut places = [[0; 10]; 7];
    let mut hundreds = [0; 100];
    for number in 0..20 {
        let key = key(number);
        for window in 0..60 {
            for turn in 0..20 {
                let code = key.code(window, turn);
                for (place, counts) in places.iter_mut().enumerate() {
                    counts[(code / 10u32.pow(place as u32) % 10) as usize] += 1;
                }
                hundreds[(code / 100_000) as usize] += 1;
            }
        }
    }
    for (place, counts) in places.iter().enumerate() {
        assert_uniform(counts, &format!("digit {place} from the right"));
    }
    assert_uniform(&hundreds, "first two digits");
}

#[test]
fn a_code_does_not_tell_the_code_of_the_next_turn_or_window() {
    let (mut turns, mut windows) = (vec![], vec![]);
    for number in 0..10 {
        let key = key(number);
        for window in 0..60 {
            for turn in 0..20 {
                let code = f64::from(key.code(window, turn));
                turns.push((code, f64::from(key.code(window, turn + 1))));
                windows.push((code, f64::from(key.code(window + 1, turn))));
            }
        }
    }
    assert_uncorrelated(&turns, "next turn");
    assert_uncorrelated(&windows, "next window");
}

#[test]
fn every_bit_of_a_token_is_even() {
    let mut ones = [0u32; 128];
    let samples: u32 = 20_000;
    for number in 0..samples {
        let key = key(u64::from(number / 100));
        let token = key.token(Channel::Qr, (number % 100) as u16, 0);
        let bits = u128::from_be_bytes(*token.as_bytes());
        for (place, count) in ones.iter_mut().enumerate() {
            *count += (bits >> place & 1) as u32;
        }
    }
    // Six standard deviations of a binomial: 2·10^-9 for one bit, 3·10^-7 for all.
    let spread = 6.0 * (f64::from(samples) * 0.25).sqrt();
    for (place, count) in ones.iter().enumerate() {
        let off = (f64::from(*count) - f64::from(samples) / 2.0).abs();
        assert!(off < spread, "bit {place} is off by {off}");
    }
}

#[test]
fn the_hours_of_a_fleet_begin_all_over_the_hour() {
    let mut counts = [0; 60];
    for number in 0..20_000 {
        let clock = EpochClock::of(TerminalId::from_number(number * 499).unwrap());
        counts[(clock.opens(0).ms() * 60 / EPOCH_MS) as usize] += 1;
    }
    assert_uniform(&counts, "minutes of the hour");
}
