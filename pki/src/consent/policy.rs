//! How many operators must consent besides the one who asks?
//!
//! A verb belongs to the group that its name begins with: `key-step` to `key`. Who changes the policy
//! or who the operators are could lower every other bar, so these two groups need as many as the
//! strictest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most operators that can be required.
pub const REQUIRED_MAX: u32 = 15;
/// Most groups with a number of their own.
pub const GROUPS_MAX: usize = 32;
/// Longest name of a group, in bytes.
pub const GROUP_MAX_BYTES: usize = 32;
/// How long a request may wait to be carried out, in hours.
pub const LIFE_DEFAULT_H: u32 = 24;
pub const LIFE_MAX_H: u32 = 7 * 24;
/// Groups that need as many as the strictest group.
const KEEPERS: [&str; 2] = ["operator", "policy"];

/// The numbers, as operators set them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// For every group that has no number of its own.
    pub required: u32,
    #[serde(default)]
    pub groups: BTreeMap<String, u32>,
    /// How long a request may wait, in hours.
    #[serde(default = "life_default")]
    pub life_h: u32,
}

/// Why a policy is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPolicy {
    #[error("at most {REQUIRED_MAX} operators can be required")]
    Required,
    #[error("at most {GROUPS_MAX} groups have a number of their own")]
    Groups,
    #[error("a group is named in 1 to {GROUP_MAX_BYTES} of a-z")]
    Group,
    #[error("a request waits for 1 to {LIFE_MAX_H} hours")]
    Life,
}

impl Default for Policy {
    /// One operator is enough, until there are two.
    fn default() -> Self {
        Self {
            required: 0,
            groups: BTreeMap::new(),
            life_h: LIFE_DEFAULT_H,
        }
    }
}

impl Policy {
    pub fn check(&self) -> Result<(), BadPolicy> {
        if self.strictest() > REQUIRED_MAX {
            return Err(BadPolicy::Required);
        }
        if self.groups.len() > GROUPS_MAX {
            return Err(BadPolicy::Groups);
        }
        if !self.groups.keys().all(|group| is_group(group)) {
            return Err(BadPolicy::Group);
        }
        match self.life_h {
            1..=LIFE_MAX_H => Ok(()),
            _ => Err(BadPolicy::Life),
        }
    }

    /// How many must consent to this verb besides the one who asks.
    pub fn required_for(&self, verb: &str) -> u32 {
        let group = group_of(verb);
        if KEEPERS.contains(&group) {
            return self.strictest();
        }
        self.groups.get(group).copied().unwrap_or(self.required)
    }

    /// The most that any group needs.
    pub fn strictest(&self) -> u32 {
        let groups = self.groups.values().copied();
        groups.fold(self.required, u32::max)
    }
}

/// The group of a verb.
pub fn group_of(verb: &str) -> &str {
    verb.split_once('-').map_or(verb, |(group, _)| group)
}

fn is_group(name: &str) -> bool {
    (1..=GROUP_MAX_BYTES).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase())
}

fn life_default() -> u32 {
    LIFE_DEFAULT_H
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(required: u32, groups: &[(&str, u32)]) -> Policy {
        Policy {
            required,
            groups: groups.iter().map(|(g, n)| ((*g).into(), *n)).collect(),
            ..Policy::default()
        }
    }

    #[test]
    fn a_group_has_its_own_number_or_the_common_one() {
        let policy = policy(1, &[("seed", 2), ("key", 0)]);
        assert_eq!(policy.required_for("seed-rotate"), 2);
        assert_eq!(policy.required_for("key-step"), 0);
        assert_eq!(policy.required_for("terminal-unban"), 1);
    }

    #[test]
    fn who_keeps_the_bar_needs_as_many_as_the_strictest_group() {
        let lenient = policy(0, &[("seed", 3), ("operator", 1), ("policy", 0)]);
        for verb in ["policy-set", "operator-add", "operator-revoke"] {
            assert_eq!(lenient.required_for(verb), 3, "{verb}");
        }
    }

    #[test]
    fn numbers_beyond_the_limits_are_refused() {
        assert_eq!(policy(16, &[]).check(), Err(BadPolicy::Required));
        assert_eq!(policy(0, &[("seed", 16)]).check(), Err(BadPolicy::Required));
        assert_eq!(policy(0, &[("Seed", 1)]).check(), Err(BadPolicy::Group));
        assert_eq!(policy(0, &[("", 1)]).check(), Err(BadPolicy::Group));
        for life_h in [0, LIFE_MAX_H + 1] {
            let policy = Policy {
                life_h,
                ..Policy::default()
            };
            assert_eq!(policy.check(), Err(BadPolicy::Life));
        }
        assert_eq!(policy(15, &[("seed", 15)]).check(), Ok(()));
    }
}
