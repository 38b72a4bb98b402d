//! Which key is due to be replaced, and who hears of it?
//!
//! The ages are policy, not cryptography: a key that is replaced every year is one that a team knows
//! how to replace.

use pki::lifecycle::KeyState;
use protocol::time::{Millis, Timestamp};

use crate::app::App;
use crate::store::{KeyPurpose, KeyRecord};

const DAY_MS: Millis = 24 * 3_600_000;
/// Terminals hold what it signs for a day: replacing it is cheap.
pub const SCHEDULE_KEY_DAYS: i64 = 90;
pub const RECEIPT_KEY_DAYS: i64 = 365;
pub const CHECKPOINT_KEY_DAYS: i64 = 365;
pub const REQUEST_KEY_DAYS: i64 = 365;
pub const SEALING_KEY_DAYS: i64 = 365;
pub const BINDING_KEY_DAYS: i64 = 365;
/// Its successor is for new tags: each tag has to be laid on a reader to get other keys.
pub const TAG_KEY_DAYS: i64 = 1_825;
/// A key that was replaced, or never used, waits no longer than this for its next step.
pub const WAITING_KEY_DAYS: i64 = 30;

/// By when its next step is due; none if there is none.
pub fn due(key: &KeyRecord) -> Option<Timestamp> {
    let days = match key.state {
        KeyState::Active => of_purpose(key.purpose),
        // It waits for its tags to wear out.
        KeyState::Superseded if key.purpose == KeyPurpose::Tag => TAG_KEY_DAYS,
        KeyState::Prepared | KeyState::Superseded | KeyState::Tainted => WAITING_KEY_DAYS,
        KeyState::Retired => return None,
    };
    Some(key.since + days * DAY_MS)
}

/// What is overdue at `now`, in words, with the verb that comes next.
pub fn overdue(keys: &[KeyRecord], now: Timestamp) -> Vec<String> {
    let late = |key: &&KeyRecord| due(key).is_some_and(|due| due < now);
    keys.iter().filter(late).map(say).collect()
}

/// Ages and states as gauges.
pub fn measure(app: &App) {
    let now = app.clock.now();
    let metrics = &app.metrics;
    for key in app.keyring().records() {
        let labels = [key.purpose.name(), key.label.0.as_str()];
        let age = now.secs() - key.made_at.secs();
        metrics.key_age.with_label_values(&labels).set(age);
        let state = metrics.key_state.with_label_values(&labels);
        state.set(number_of(key.state));
        let due = due(key).map_or(0, |due| due.secs());
        metrics.key_due.with_label_values(&labels).set(due);
    }
}

fn of_purpose(purpose: KeyPurpose) -> i64 {
    match purpose {
        KeyPurpose::Schedule => SCHEDULE_KEY_DAYS,
        KeyPurpose::Receipt => RECEIPT_KEY_DAYS,
        KeyPurpose::Request => REQUEST_KEY_DAYS,
        KeyPurpose::Checkpoint => CHECKPOINT_KEY_DAYS,
        KeyPurpose::Sealing => SEALING_KEY_DAYS,
        KeyPurpose::Binding => BINDING_KEY_DAYS,
        KeyPurpose::Tag => TAG_KEY_DAYS,
    }
}

fn say(key: &KeyRecord) -> String {
    let (label, purpose) = (&key.label.0, key.purpose);
    match key.state {
        KeyState::Active => format!("{label} is due to be replaced: key prepare {purpose}"),
        KeyState::Prepared => format!("{label} waits to be activated: key activate {purpose}"),
        _ => format!("{label} waits to be retired: key retire {label}"),
    }
}

/// The order of their lives.
fn number_of(state: KeyState) -> i64 {
    match state {
        KeyState::Prepared => 0,
        KeyState::Active => 1,
        KeyState::Superseded => 2,
        KeyState::Tainted => 3,
        KeyState::Retired => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hsm::KeyLabel;

    fn key(purpose: KeyPurpose, state: KeyState) -> KeyRecord {
        let made = Timestamp::from_ms(0);
        KeyRecord::new(purpose, state, KeyLabel("m2key-x-1".into()), None, made)
    }

    #[test]
    fn every_key_that_is_not_retired_is_due_one_day() {
        for purpose in KeyPurpose::ALL {
            for state in KeyState::ALL {
                let due = due(&key(purpose, state));
                assert_eq!(due.is_none(), state == KeyState::Retired);
            }
        }
    }

    #[test]
    fn a_key_is_named_from_its_last_day_on() {
        let keys = [key(KeyPurpose::Schedule, KeyState::Active)];
        let last = Timestamp::from_ms(SCHEDULE_KEY_DAYS * DAY_MS);
        assert!(overdue(&keys, last).is_empty());
        let said = overdue(&keys, last + 1);
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("key prepare schedule"), "{said:?}");
    }
}
