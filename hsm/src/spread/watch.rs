//! When is an HSM token of a spread looked at, and may it be asked?
//!
//! ```text
//!           its breaker opened, or it was silent
//!  in use ───────────────────────────────────────▶ away ── a look every [`AWAY_PAUSE`] at most ─┐
//!    ▲                                                                                          │
//!    └────────────────── it answered, and showed the same keys as the others ◀──────────────────┘
//! ```
//! It is told the time.

use std::time::{Duration, Instant};

/// Between two looks at a member that is away; its breaker pauses longer by itself.
pub(super) const AWAY_PAUSE: Duration = Duration::from_millis(250);
/// Between two looks at one that works and has not all keys: somebody may have put them in.
pub(super) const AMISS_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Why it is passed over.
    away: Option<String>,
    under_way: bool,
    /// A key came that it was not asked for so far.
    has_news: bool,
    looked_at: Option<Instant>,
}

impl Watch {
    /// Passed over from now on, until a look says otherwise.
    pub(super) fn handle_away(&mut self, reason: String) {
        self.away.get_or_insert(reason);
    }

    /// To be looked at soon, once; it is in use meanwhile.
    pub(super) fn handle_news(&mut self) {
        self.has_news = true;
    }

    /// Whether to look now; the answer yes is given once, until the look has ended.
    pub(super) fn poll(&mut self, now: Instant, is_amiss: bool) -> bool {
        let pause = match (&self.away, is_amiss) {
            (Some(_), _) => AWAY_PAUSE,
            (None, true) => AMISS_PAUSE,
            (None, false) if !self.has_news => return false,
            (None, false) => Duration::ZERO,
        };
        let rests = self.looked_at.is_some_and(|at| now < at + pause);
        if self.under_way || (rests && !self.has_news) {
            return false;
        }
        self.under_way = true;
        self.has_news = false;
        true
    }

    /// A look has ended; `trouble` is why it said nothing.
    pub(super) fn handle_looked(&mut self, now: Instant, trouble: Option<String>) {
        self.under_way = false;
        self.looked_at = Some(now);
        self.away = trouble;
    }

    pub(super) fn is_away(&self) -> bool {
        self.away.is_some()
    }

    pub(super) fn reason(&self) -> Option<&str> {
        self.away.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_away_is_looked_at_once_per_pause_until_it_is_back() {
        let mut watch = Watch::default();
        let now = crate::clock::now();
        assert!(!watch.poll(now, false));
        watch.handle_away("lost".into());
        assert!(watch.is_away());
        assert!(watch.poll(now, false));
        assert!(!watch.poll(now + AWAY_PAUSE * 9, false), "one at a time");
        watch.handle_looked(now, Some("still lost".into()));
        assert_eq!(watch.reason(), Some("still lost"));
        assert!(!watch.poll(now, false));
        assert!(watch.poll(now + AWAY_PAUSE, false));
        watch.handle_looked(now + AWAY_PAUSE, None);
        assert!(!watch.is_away());
        assert!(!watch.poll(now + AMISS_PAUSE * 9, false));
    }

    #[test]
    fn news_is_looked_at_at_once_and_once() {
        let mut watch = Watch::default();
        let now = crate::clock::now();
        watch.handle_looked(now, None);
        assert!(!watch.poll(now, true));
        watch.handle_news();
        assert!(watch.poll(now, true));
        watch.handle_news();
        assert!(!watch.poll(now, true), "one at a time");
        watch.handle_looked(now, None);
        assert!(watch.poll(now, false), "what came meanwhile");
        watch.handle_looked(now, None);
        assert!(!watch.poll(now, true));
    }

    #[test]
    fn who_lacks_a_key_is_in_use_and_looked_at_now_and_then() {
        let mut watch = Watch::default();
        let now = crate::clock::now();
        assert!(watch.poll(now, true));
        watch.handle_looked(now, None);
        assert!(!watch.is_away());
        assert!(!watch.poll(now + AWAY_PAUSE, true));
        assert!(watch.poll(now + AMISS_PAUSE, true));
    }
}
