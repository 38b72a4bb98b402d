//! What does a node still know when it is asked for it again?
//!
//! It keeps a bounded number of things, and is asked for some of them more often than for others: for its own
//! terminals, and for those of other nodes.

/// So many, each asked for so often a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    pub count: f64,
    pub per_s: f64,
}

/// Halvings of an interval: as exact as a number is.
const HALVINGS: u32 = 200;
const LONGEST_S: f64 = 1e12;

/// What is there of each, if what came first gives way first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stay {
    /// Infinite if there is room for all.
    pub for_s: f64,
    pub share: [f64; 2],
}

/// A thing that came stays for the same time
/// `t` whoever asks for it, and is gone until it is asked for: λt / (1 + λt) of the time it is there (Dan and Towsley,
/// "An approximate analysis of the LRU and FIFO buffer replacement schemes", 1990).
pub fn first_in_first_out(asked: &[Asked; 2], kept: f64) -> Stay {
    let there = |it: &Asked, t: f64| it.per_s * t / (1.0 + it.per_s * t);
    match settle(asked, kept, there) {
        None => Stay {
            for_s: f64::INFINITY,
            share: [1.0; 2],
        },
        Some(for_s) => Stay {
            for_s,
            share: asked.map(|it| there(&it, for_s)),
        },
    }
}

/// The share that is new within each span of so many seconds, of what is asked for so often.
pub fn first_of(span_s: f64, per_s: f64) -> f64 {
    match per_s * span_s {
        times if times > 0.0 => (1.0 - (-times).exp()) / times,
        _ => 1.0,
    }
}

/// The share of each that is known, if with one more than can be remembered all are forgotten: between two such
/// moments, `t` apart, a thing is new once, if it comes at all.
pub fn forgotten_at_once(asked: &[Asked; 2], remembered: f64) -> [f64; 2] {
    let came = |it: &Asked, t: f64| 1.0 - (-it.per_s * t).exp();
    let known = |it: Asked, t: f64| match it.per_s * t {
        times if times > 0.0 => 1.0 - came(&it, t) / times,
        _ => 0.0,
    };
    settle(asked, remembered, came).map_or([1.0; 2], |t| asked.map(|it| known(it, t)))
}

/// After which time so many of them are held; none if there is room for all.
fn settle(asked: &[Asked; 2], room: f64, held: impl Fn(&Asked, f64) -> f64) -> Option<f64> {
    let all: f64 = asked.iter().map(|it| it.count).sum();
    if all <= room {
        return None;
    }
    let (mut short, mut long) = (0.0, LONGEST_S);
    for _ in 0..HALVINGS {
        let t = f64::midpoint(short, long);
        let sum: f64 = asked.iter().map(|it| it.count * held(it, t)).sum();
        match sum < room {
            true => short = t,
            false => long = t,
        }
    }
    Some(short)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashSet, VecDeque};

    use super::*;

    const DRAWS: u32 = 400_000;

    /// Which class is asked for, and which of it, one after the other.
    fn draws(asked: [Asked; 2]) -> impl Iterator<Item = (usize, u64)> {
        let mut state = 1_u64;
        // Knuth's MMIX generator; its upper bits are the random ones.
        let mut dice = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let rates = asked.map(|it| it.count * it.per_s);
        let first = rates[0] / (rates[0] + rates[1]);
        std::iter::from_fn(move || {
            let class = usize::from(dice() >= first);
            Some((class, (dice() * asked[class].count) as u64))
        })
    }

    /// Plays it, and answers the share of each class that was known.
    fn play(asked: [Asked; 2], mut knows: impl FnMut((usize, u64)) -> bool) -> [f64; 2] {
        let mut counted = [[0_u32; 2]; 2];
        for it in draws(asked).take(DRAWS as usize) {
            counted[it.0][usize::from(knows(it))] += 1;
        }
        counted.map(|[new, known]| f64::from(known) / f64::from((new + known).max(1)))
    }

    fn agree(played: [f64; 2], reckoned: [f64; 2]) {
        for (played, reckoned) in played.into_iter().zip(reckoned) {
            assert!((played - reckoned).abs() < 0.02, "{played} and {reckoned}");
        }
    }

    /// Its own are asked for ten times as often as the others, which are many more.
    const UNEVEN: [Asked; 2] = [
        Asked {
            count: 300.0,
            per_s: 10.0,
        },
        Asked {
            count: 3_000.0,
            per_s: 1.0,
        },
    ];

    #[test]
    fn a_queue_that_is_played_knows_as_much_as_is_reckoned() {
        for kept in [100, 1_000, 3_000, 3_300] {
            let (mut order, mut there) = (VecDeque::new(), HashSet::new());
            let played = play(UNEVEN, |it| {
                let known = !there.insert(it);
                if !known {
                    order.push_back(it);
                }
                if order.len() > kept
                    && let Some(first) = order.pop_front()
                {
                    there.remove(&first);
                }
                known
            });
            agree(played, first_in_first_out(&UNEVEN, kept as f64).share);
        }
    }

    #[test]
    fn a_memory_that_is_played_knows_as_much_as_is_reckoned() {
        for remembered in [100, 1_000, 3_000, 3_300] {
            let mut held = HashSet::new();
            let played = play(UNEVEN, |it| {
                if held.contains(&it) {
                    return true;
                }
                if held.len() >= remembered {
                    held.clear();
                }
                held.insert(it);
                false
            });
            agree(played, forgotten_at_once(&UNEVEN, remembered as f64));
        }
    }
}
