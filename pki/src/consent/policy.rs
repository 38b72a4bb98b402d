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

    /// As strict as either of the two, for every verb.
    pub fn stricter(&self, other: &Self) -> Self {
        let of =
            |policy: &Self, group| policy.groups.get(group).copied().unwrap_or(policy.required);
        let named = self.groups.keys().chain(other.groups.keys());
        let groups = named.map(|group| (group.clone(), of(self, group).max(of(other, group))));
        let both = Self {
            required: self.required.max(other.required),
            groups: groups.collect(),
            life_h: self.life_h.min(other.life_h),
        };
        if both.groups.len() <= GROUPS_MAX {
            return both;
        }
        // Too many names: then everything needs as many as the strictest.
        Self {
            required: both.strictest(),
            groups: BTreeMap::new(),
            ..both
        }
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
    fn the_stricter_of_two_is_as_strict_as_either_for_every_verb() {
        let pairs = [
            (policy(0, &[]), policy(2, &[])),
            (policy(1, &[("seed", 0)]), policy(0, &[("key", 3)])),
            (policy(2, &[("fence", 1)]), policy(1, &[("fence", 2)])),
        ];
        for (one, other) in pairs {
            let both = one.stricter(&other);
            assert_eq!(both, other.stricter(&one));
            for verb in [
                "seed-rotate",
                "key-step",
                "fence-raise",
                "policy-set",
                "x-y",
            ] {
                let least = one.required_for(verb).max(other.required_for(verb));
                assert!(both.required_for(verb) >= least, "{verb}");
            }
        }
    }

    #[test]
    fn two_policies_with_too_many_groups_come_to_one_that_may_be_set() {
        let named = |first: u8| {
            let groups = (0..GROUPS_MAX as u8).map(|n| {
                format!("{}{}", first as char, (b'a' + n % 26) as char).repeat(1 + n as usize / 26)
            });
            Policy {
                required: 1,
                groups: groups.map(|group| (group, 2)).collect(),
                life_h: 5,
            }
        };
        let both = named(b'a').stricter(&named(b'b'));
        assert_eq!(both.check(), Ok(()));
        assert_eq!((both.required, both.life_h), (2, 5));
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
