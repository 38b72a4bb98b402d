//! What is simulated: one node of a plan, an ordinary lunch, an HSM at half its rate, a restart?

use super::costs;
use super::fleet::Fleet;
use super::hsm::Hsm;
use super::plan::{Hsms, Machines, Site};
use super::simulation::desk;
use super::simulation::node::Node;
use super::simulation::task::Takes;
use super::simulation::writer;
use super::work::{SIGNATURE, TAP, epoch_keys_anew};

/// Enough to keep every session of an HSM at work, and few enough to be through before the deadline.
pub const DOOR_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    Lunch,
    /// Every command takes twice as long.
    HalfRate,
    /// All agents of the node lose their stream and fetch a whole schedule.
    Restart,
    /// The same, with a door: so many schedules are under way at once, and the others come again.
    RestartWithDoor,
}

/// One node of them; the others are alike.
pub fn node(
    (fleet, machines, site): (&Fleet, &Machines, &Site),
    (hsm, hsms): (&Hsm, &Hsms),
    scenario: Scenario,
    span_s: f64,
    seed: u64,
) -> Node {
    let slower = if scenario == Scenario::HalfRate {
        2.0
    } else {
        1.0
    };
    let takes_s = |commands| hsm.occupied_s(commands) * slower;
    let terminals = fleet.terminals / site.nodes;
    Node {
        seed,
        span_s,
        warm_up_s: span_s / 10.0,
        payments_per_s: fleet.payments_at_peak_per_s() / site.nodes,
        renewals_per_s: fleet.renewals_per_s() / site.nodes,
        reports_per_s: fleet.reports_per_s() / site.nodes,
        checkpoints: true,
        loads_keys: hsms.loads.per_payment,
        ahead_per_s: hsms.loads.ahead_per_s / site.nodes,
        taps: fleet.taps,
        restarted: match scenario {
            Scenario::Restart | Scenario::RestartWithDoor => terminals as usize,
            Scenario::Lunch | Scenario::HalfRate => 0,
        },
        door_max: match scenario {
            Scenario::RestartWithDoor => DOOR_MAX,
            Scenario::Lunch | Scenario::HalfRate | Scenario::Restart => usize::MAX,
        },
        workers: hsms.sessions as usize,
        takes: Takes {
            keys_s: takes_s(hsms.loads.of_payment),
            tap_s: takes_s(TAP),
            renewal_keys_s: takes_s(hsms.loads.renewal),
            ahead_keys_s: takes_s(hsms.loads.ahead),
            fetch_keys_s: takes_s(epoch_keys_anew(fleet.horizon_h + 1.0)),
            signature_s: takes_s(SIGNATURE),
        },
        hsm: desk::Rules {
            queue_max: costs::QUEUE_MAX.value as usize,
            deadline_s: costs::DEADLINE_S.value,
            payments_in_a_row: costs::PAYMENTS_IN_A_ROW.value as u32,
        },
        store: writer::Rules {
            batch_max: costs::BATCH_MAX.value as usize,
            queue_max: costs::QUEUE_MAX.value as usize,
            commit_s: machines.commit_ms / 1_000.0,
            write_s: machines.write_ms / 1_000.0,
        },
    }
}
