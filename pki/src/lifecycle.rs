//! Where does a key stand in its life, and which step may come next?
//!
//! ```text
//! prepare ──▶ prepared ──activate──▶ active ──(another is activated)──▶ superseded ──retire──▶ retired
//!                 │                                                       │  ▲            ▲
//!                 └──────────────────────────taint────────────────────────┴─▶ tainted ──retire
//! ```
//! The same for every kind of key. An active key is never tainted or retired: another one takes its
//! place first, so that nobody is left without.

use std::fmt;
use std::str::FromStr;

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyState {
    /// Made and published; not used yet.
    Prepared,
    /// The one that is used.
    Active,
    /// Believed, but not used for anything new.
    Superseded,
    /// Not believed any more: whatever depends on it is replaced now.
    Tainted,
    /// Gone from the HSM; what it signed may outlive it.
    Retired,
}

/// What an operator does to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Activate,
    /// Another key was activated in its place.
    Supersede,
    Taint,
    Retire,
}

/// The key is not in a state from which this step leads on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key that is {from} cannot be {step}")]
pub struct WrongStep {
    pub from: KeyState,
    pub step: Step,
}

impl WrongStep {
    /// What to do instead.
    pub fn hint(self) -> &'static str {
        match (self.from, self.step) {
            (KeyState::Active, Step::Taint | Step::Retire) => {
                "prepare and activate another key of this purpose first"
            }
            (KeyState::Retired, _) => "it is gone for good: prepare a new key",
            _ => "list the keys and their states first",
        }
    }
}

impl KeyState {
    pub const ALL: [Self; 5] = [
        Self::Prepared,
        Self::Active,
        Self::Superseded,
        Self::Tainted,
        Self::Retired,
    ];

    /// Where `step` leads; the state itself if the step was done before, so that it may be repeated
    /// after a crash.
    pub fn after(self, step: Step) -> Result<Self, WrongStep> {
        use KeyState::{Active, Prepared, Retired, Superseded, Tainted};
        let to = match (self, step) {
            (Prepared | Active, Step::Activate) => Active,
            (Active | Superseded, Step::Supersede) => Superseded,
            (Prepared | Superseded | Tainted, Step::Taint) => Tainted,
            (Prepared | Superseded | Tainted | Retired, Step::Retire) => Retired,
            (from, step) => return Err(WrongStep { from, step }),
        };
        Ok(to)
    }

    /// As tables and JSON have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Superseded => "superseded",
            Self::Tainted => "tainted",
            Self::Retired => "retired",
        }
    }

    /// Whether what it signed is believed.
    pub fn is_believed(self) -> bool {
        matches!(self, Self::Prepared | Self::Active | Self::Superseded)
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Activate => "activated",
            Self::Supersede => "superseded",
            Self::Taint => "tainted",
            Self::Retire => "retired",
        })
    }
}

/// No state has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the state of a key")]
pub struct NoSuchState;

impl FromStr for KeyState {
    type Err = NoSuchState;

    fn from_str(text: &str) -> Result<Self, NoSuchState> {
        let named = |state: &Self| state.name() == text;
        Self::ALL.into_iter().find(named).ok_or(NoSuchState)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const STEPS: [Step; 4] = [Step::Activate, Step::Supersede, Step::Taint, Step::Retire];

    #[test]
    fn no_step_leads_back() {
        for state in KeyState::ALL {
            for step in STEPS {
                if let Ok(to) = state.after(step) {
                    assert!(to >= state, "{state} {step} {to}");
                }
            }
        }
    }

    #[test]
    fn an_active_key_is_neither_tainted_nor_retired_before_another_takes_its_place() {
        for step in [Step::Taint, Step::Retire] {
            let refused = KeyState::Active.after(step).unwrap_err();
            assert!(refused.hint().contains("activate another"));
        }
        let superseded = KeyState::Active.after(Step::Supersede).unwrap();
        assert_eq!(superseded.after(Step::Taint), Ok(KeyState::Tainted));
    }

    #[test]
    fn a_tainted_or_retired_key_is_never_used_or_believed_again() {
        for state in [KeyState::Tainted, KeyState::Retired] {
            assert!(state.after(Step::Activate).is_err());
            assert!(!state.is_believed());
        }
    }

    #[test]
    fn every_step_may_be_repeated_after_a_crash() {
        for state in KeyState::ALL {
            for step in STEPS {
                if let Ok(to) = state.after(step) {
                    assert_eq!(to.after(step), Ok(to));
                }
            }
        }
    }

    #[test]
    fn states_read_back_by_their_names() {
        for state in KeyState::ALL {
            assert_eq!(state.name().parse(), Ok(state));
        }
        assert!("".parse::<KeyState>().is_err());
    }
}
