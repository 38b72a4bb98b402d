//! When does the next shopper want to pay, and how?
//!
//! A Poisson process: shoppers know nothing of each other, nor of how long the authority takes. Its rate may
//! follow a shop's day, pressed into the time of the run, or come in bursts; the mean is the same. All is drawn
//! from the seed, before anything is sent.

use std::time::Duration;

use clap::ValueEnum;
use protocol::token::Channel;

use super::options::{Channels, Share};
use super::random::Dice;

/// What a shop sells in each hour of its day, in parts of nothing in particular.
const DAY: [f64; 24] = [
    0.2, 0.1, 0.1, 0.1, 0.2, 1.0, 3.0, 6.0, 7.0, 7.0, 8.0, 10.0, 12.0, 11.0, 9.0, 9.0, 10.0, 12.0,
    11.0, 8.0, 5.0, 3.0, 1.0, 0.5,
];
/// From one burst to the next.
const BURST_PERIOD_S: f64 = 10.0;
const BURST_S: f64 = 1.0;
/// Against the mean; the rest of the period has what is left.
const BURST_FACTOR: f64 = 5.5;

/// How the rate changes over the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Curve {
    /// The same all the time
    Steady,
    /// A shop's day of 24 hours, pressed into the time of the run
    Day,
    /// 5.5 times the mean in one second of ten
    Bursts,
}

/// What shoppers want.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Payments per second, in the mean.
    pub rate: f64,
    pub span: Duration,
    pub curve: Curve,
    pub channels: Channels,
    /// Of payments whose amount the till says; the others are at the merchant's price.
    pub till: Share,
    /// Mean of the time that a shopper looks before each confirmation.
    pub think: Duration,
    pub total_max: usize,
    pub seed: u64,
}

/// One shopper who wants to pay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    pub number: usize,
    /// From the start of the run: latency counts from here, whatever keeps the shopper waiting.
    pub due: Duration,
    pub channel: Channel,
    pub at_till: bool,
    /// Before the claim, and before the approval.
    pub think: [Duration; 2],
    /// Which of the free terminals, and which of the free phones.
    pub place: u64,
    pub shopper: u64,
}

/// All of them, in order.
pub struct Arrivals {
    wanted: Wanted,
    dice: Dice,
    at_s: f64,
    number: usize,
}

impl Curve {
    /// The rate at this share of the run and this second, against the mean.
    fn factor(self, share: f64, at_s: f64) -> f64 {
        match self {
            Self::Steady => 1.0,
            Self::Day => {
                let hour = (share * 24.0) as usize;
                DAY[hour.min(23)] * 24.0 / DAY.iter().sum::<f64>()
            }
            Self::Bursts if at_s % BURST_PERIOD_S < BURST_S => BURST_FACTOR,
            Self::Bursts => (BURST_PERIOD_S - BURST_FACTOR * BURST_S) / (BURST_PERIOD_S - BURST_S),
        }
    }

    fn highest(self) -> f64 {
        match self {
            Self::Steady => 1.0,
            Self::Day => {
                DAY.iter().fold(0.0, |most: f64, it| most.max(*it)) * 24.0 / DAY.iter().sum::<f64>()
            }
            Self::Bursts => BURST_FACTOR,
        }
    }
}

impl Arrivals {
    pub fn new(wanted: Wanted) -> Self {
        Self {
            dice: Dice::new(wanted.seed),
            wanted,
            at_s: 0.0,
            number: 0,
        }
    }

    /// The next moment: drawn at the highest rate, kept as often as the rate of that moment says.
    fn moment(&mut self) -> Option<f64> {
        let (curve, span_s) = (self.wanted.curve, self.wanted.span.as_secs_f64());
        let mean_s = 1.0 / (self.wanted.rate * curve.highest());
        loop {
            self.at_s += self.dice.pause(mean_s);
            if self.at_s >= span_s {
                return None;
            }
            let kept = curve.factor(self.at_s / span_s, self.at_s) / curve.highest();
            if self.dice.share() < kept {
                return Some(self.at_s);
            }
        }
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        if self.number == self.wanted.total_max {
            return None;
        }
        let due = Duration::from_secs_f64(self.moment()?);
        let dice = &mut self.dice;
        let think_s = self.wanted.think.as_secs_f64();
        let arrival = Arrival {
            number: self.number,
            due,
            channel: self.wanted.channels.drawn(dice.share()),
            at_till: dice.share() < self.wanted.till.of_one(),
            think: [(); 2].map(|()| Duration::from_secs_f64(dice.pause(think_s))),
            place: dice.number(),
            shopper: dice.number(),
        };
        self.number += 1;
        Some(arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN_S: u64 = 1_000;
    const RATE: f64 = 20.0;

    fn wanted(curve: Curve) -> Wanted {
        Wanted {
            rate: RATE,
            span: Duration::from_secs(SPAN_S),
            curve,
            channels: "nfc=6,qr=3,code=1".parse().unwrap(),
            till: "70%".parse().unwrap(),
            think: Duration::ZERO,
            total_max: usize::MAX,
            seed: 7,
        }
    }

    fn per_second(curve: Curve) -> Vec<usize> {
        let mut counts = vec![0; SPAN_S as usize];
        for arrival in Arrivals::new(wanted(curve)) {
            counts[arrival.due.as_secs() as usize] += 1;
        }
        counts
    }

    /// Within five standard deviations of a Poisson count: one seed in a million is outside.
    #[track_caller]
    fn is_about(count: usize, expected: f64) {
        let off = (count as f64 - expected).abs();
        assert!(off < 5.0 * expected.sqrt(), "{count} and not {expected}");
    }

    #[test]
    fn every_curve_has_the_rate_that_was_asked_for() {
        for curve in [Curve::Steady, Curve::Day, Curve::Bursts] {
            let count = per_second(curve).iter().sum();
            is_about(count, RATE * SPAN_S as f64);
        }
    }

    #[test]
    fn shoppers_know_nothing_of_each_other() {
        // The variance of counts is their mean; of arrivals in step it would be next to nothing.
        let counts = per_second(Curve::Steady);
        let squares = counts.iter().map(|it| (*it as f64 - RATE).powi(2));
        let variance = squares.sum::<f64>() / counts.len() as f64;
        assert!((0.8 * RATE..1.2 * RATE).contains(&variance), "{variance}");
    }

    #[test]
    fn a_day_is_quiet_at_night_and_bursts_come_in_one_second_of_ten() {
        let day = per_second(Curve::Day);
        let hour = |n: usize| {
            day[n * 1_000 / 24..(n + 1) * 1_000 / 24]
                .iter()
                .sum::<usize>()
        };
        assert!(hour(12) > 50 * hour(2).max(1), "{} {}", hour(12), hour(2));
        let bursts = per_second(Curve::Bursts);
        let within: usize = bursts.iter().step_by(10).sum();
        is_about(within, RATE * BURST_FACTOR * SPAN_S as f64 / 10.0);
    }

    #[test]
    fn the_same_seed_is_the_same_load_and_another_seed_another() {
        let drawn = |seed| {
            let wanted = Wanted {
                seed,
                ..wanted(Curve::Day)
            };
            Arrivals::new(wanted).collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }

    #[test]
    fn channels_and_tills_come_as_often_as_was_said() {
        let all: Vec<_> = Arrivals::new(wanted(Curve::Steady)).collect();
        let of = |channel| all.iter().filter(|it| it.channel == channel).count();
        for (channel, share) in [
            (Channel::Nfc, 0.6),
            (Channel::Qr, 0.3),
            (Channel::Code, 0.1),
        ] {
            is_about(of(channel), share * all.len() as f64);
        }
        let at_till = all.iter().filter(|it| it.at_till).count();
        is_about(at_till, 0.7 * all.len() as f64);
    }

    #[test]
    fn there_are_never_more_than_the_most() {
        let wanted = Wanted {
            total_max: 10,
            ..wanted(Curve::Steady)
        };
        assert_eq!(Arrivals::new(wanted).count(), 10);
    }
}
