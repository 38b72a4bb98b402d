//! Are there as many file descriptors as connections are promised?
//!
//! Every connection is one. Where the process may not have that many, fewer connections are promised: a
//! client that is turned away comes back, while a process without a descriptor cannot even open its store.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::CONNECTIONS_MAX;
use crate::config::Config;

/// What the store, the HSM module, the journal, the log and their kind have open.
const OWN_FILES: u64 = 512;
/// Of the other two listeners.
const OTHERS: u64 = 2 * CONNECTIONS_MAX as u64;

/// How many connections the agents' listener may have, and why not more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    pub agents: usize,
    /// None: as many as the configuration says.
    pub shortage: Option<String>,
}

/// Takes as many file descriptors as the system lets this process have, and looks whether they are enough.
pub fn make(config: &Config) -> Room {
    let wanted = config.agents.connections_max;
    let limit = getrlimit(Resource::Nofile);
    // The hard limit is what somebody decided; the soft one is a default for programs that use select().
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let had = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    divide(wanted, had)
}

fn divide(wanted: usize, descriptors: Option<u64>) -> Room {
    let rest = descriptors.map_or(u64::MAX, |had| {
        had.saturating_sub(OWN_FILES + OTHERS).max(had / 2)
    });
    let rest = usize::try_from(rest).unwrap_or(usize::MAX);
    if wanted <= rest {
        return Room {
            agents: wanted,
            shortage: None,
        };
    }
    let needed = wanted as u64 + OTHERS + OWN_FILES;
    let had = descriptors.unwrap_or(u64::MAX);
    Room {
        agents: rest,
        shortage: Some(format!(
            "this process may have {had} open files, so at most {rest} agents connect and not the {wanted} of \
             agents.connections_max: whoever runs this machine sets LimitNOFILE={needed} in the unit (or ulimit -n \
             {needed}), or lowers agents.connections_max to {rest}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_descriptors_are_as_many_connections_as_configured() {
        let enough = 120_000 + OTHERS + OWN_FILES;
        for descriptors in [Some(enough), Some(1_000_000), None] {
            let room = divide(120_000, descriptors);
            assert_eq!(
                room,
                Room {
                    agents: 120_000,
                    shortage: None
                }
            );
        }
    }

    #[test]
    fn too_few_descriptors_are_fewer_connections_and_a_word_who_must_act() {
        let enough = 120_000 + OTHERS + OWN_FILES;
        let room = divide(120_000, Some(enough - 1));
        assert_eq!(room.agents, 119_999);
        let said = room.shortage.unwrap_or_default();
        assert!(said.contains(&format!("LimitNOFILE={enough}")), "{said}");
        assert!(said.contains("agents.connections_max to 119999"), "{said}");
        let few = divide(120_000, Some(1_024));
        assert_eq!(few.agents, 512, "never none");
    }
}
