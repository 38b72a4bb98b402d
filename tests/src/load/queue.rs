//! Who is next, when shoppers do not wait for each other but the house has only so many doors?
//!
//! ```text
//!  arrivals ──due──▶ ┌───────┐ ──poll(now)──▶ this one goes in now
//!  ended() ────────▶ │ Queue │ ──wake_at()──▶ when to ask again; none: when one has ended
//!                    └───────┘
//! ```
//! It is told the time. Who has to wait keeps the moment at which they were due, and latency counts from there: a
//! generator that waits for answers before it sends would leave out just the shoppers who are kept waiting.

use std::iter::Peekable;
use std::time::Duration;

use super::arrivals::Arrival;

/// All who arrive, and how many are at it.
pub struct Queue<A: Iterator<Item = Arrival>> {
    arrivals: Peekable<A>,
    running: usize,
    running_max: usize,
}

impl<A: Iterator<Item = Arrival>> Queue<A> {
    pub fn new(arrivals: A, running_max: usize) -> Self {
        Self {
            arrivals: arrivals.peekable(),
            running: 0,
            running_max,
        }
    }

    /// The next one who goes in now.
    pub fn poll(&mut self, now: Duration) -> Option<Arrival> {
        if self.running == self.running_max {
            return None;
        }
        let next = self.arrivals.next_if(|next| next.due <= now)?;
        self.running += 1;
        Some(next)
    }

    /// When to ask again; none while only an end can change anything.
    pub fn wake_at(&mut self) -> Option<Duration> {
        match self.running < self.running_max {
            true => self.arrivals.peek().map(|next| next.due),
            false => None,
        }
    }

    /// One is through.
    pub fn ended(&mut self) {
        self.running -= 1;
    }

    pub fn running(&self) -> usize {
        self.running
    }

    /// Nobody is left outside.
    pub fn is_empty(&mut self) -> bool {
        self.arrivals.peek().is_none()
    }

    /// Nobody goes in any more: how many were due by now and had to stay outside.
    pub fn close(mut self, now: Duration) -> usize {
        let waiting = self.arrivals.by_ref().take_while(|next| next.due <= now);
        waiting.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::{Both, Lap};
    use protocol::token::Channel;

    const SERVED: Duration = Duration::from_millis(1);
    const STALL: Duration = Duration::from_secs(2);

    /// A shopper every ten milliseconds, for ten seconds.
    fn shoppers() -> impl Iterator<Item = Arrival> {
        (0..1_000).map(|number| Arrival {
            number,
            due: Duration::from_millis(10 * number as u64),
            channel: Channel::Qr,
            at_till: false,
            think: [Duration::ZERO; 2],
            place: 0,
            shopper: 0,
        })
    }

    /// A house that serves each in a millisecond, but one of them in two seconds; on a clock of its own.
    fn played(doors: usize, stalled: usize) -> Both {
        let mut queue = Queue::new(shoppers(), doors);
        let (mut now, mut both) = (Duration::ZERO, Both::default());
        let mut under_way: Vec<Lap> = Vec::new();
        while !queue.is_empty() || queue.running() > 0 {
            while let Some(Arrival { due, number, .. }) = queue.poll(now) {
                let takes = if number == stalled { STALL } else { SERVED };
                let (sent, done) = (now, now + takes);
                under_way.push(Lap { due, sent, done });
            }
            let ends = under_way.iter().map(|lap| lap.done);
            now = ends
                .chain(queue.wake_at())
                .min()
                .expect("somebody is there");
            under_way.retain(|lap| {
                let ends = lap.done <= now;
                if ends {
                    both.add(lap);
                    queue.ended();
                }
                !ends
            });
        }
        both
    }

    #[test]
    fn a_stall_is_seen_by_all_who_wanted_to_pay_in_it_and_not_only_by_the_one_who_was_served() {
        let both = played(1, 500);
        assert_eq!(both.from_intent.len(), 1_000);
        // Counted from when each was sent, one of a thousand was slow: as if nobody had waited.
        assert!(both.from_send.value_at_quantile(0.998) < 2_000);
        // Two seconds of arrivals stood outside, a fifth of all.
        assert!(both.from_intent.value_at_quantile(0.90) > 500_000);
        assert!(both.from_intent.value_at_quantile(0.99) > 1_500_000);
        assert!(both.from_intent.value_at_quantile(0.50) < 2_000);
    }

    #[test]
    fn without_a_stall_both_say_the_same() {
        let both = played(1, usize::MAX);
        let quantile = |q| {
            (
                both.from_intent.value_at_quantile(q),
                both.from_send.value_at_quantile(q),
            )
        };
        for q in [0.5, 0.99, 1.0] {
            let (intent, send) = quantile(q);
            assert_eq!(intent, send);
        }
    }

    #[test]
    fn no_more_go_in_than_there_are_doors_and_who_never_went_in_is_counted() {
        let mut queue = Queue::new(shoppers(), 2);
        let late = Duration::from_millis(95);
        assert!(queue.poll(late).is_some());
        assert!(queue.poll(late).is_some());
        assert_eq!(queue.poll(late), None);
        assert_eq!(queue.wake_at(), None);
        queue.ended();
        assert_eq!(queue.poll(late).map(|it| it.number), Some(2));
        assert_eq!(queue.close(late), 7);
    }

    #[test]
    fn nobody_goes_in_before_they_want_to() {
        let mut queue = Queue::new(shoppers(), 9);
        assert!(queue.poll(Duration::ZERO).is_some());
        assert_eq!(queue.poll(Duration::from_millis(9)), None);
        assert_eq!(queue.wake_at(), Some(Duration::from_millis(10)));
    }
}
