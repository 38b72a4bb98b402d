//! What can happen at a terminal? One line of text each, so that a list can be kept and played again.

use std::fmt;
use std::str::FromStr;

use harness::pcsc::Cut;
use proptest::prelude::*;

/// Longest time that one operation lets pass, in seconds.
const PASS_MAX: u32 = 3 * 86_400;

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// So many seconds go by.
    Pass(u32),
    /// The machine sleeps so many seconds: nothing runs, its clocks go on.
    Sleep(u32),
    /// A phone reads the tag.
    Tap,
    /// The phone that read last claims with it.
    Claim,
    /// Somebody scans the screen and claims with it.
    Scan,
    /// Somebody taps and claims so many times, and pays nothing.
    Burn(u8),
    /// Somebody with a phone tries to write on the tag.
    Scrawl,
    /// The next visit to the tag is cut; the tag is away after it.
    Tear(Cut),
    TakeTag,
    BringTag,
    Unplug,
    Plug,
    /// The network is gone.
    Lose,
    /// The network is back.
    Find,
    /// The authority's next answer to reports gets lost on the way.
    LoseAnswer,
    /// Frames of the authority are held back from now on.
    Hold,
    /// What was held arrives, newest first.
    Release,
    /// An old frame arrives once more.
    Echo,
    /// The agent is killed and starts again.
    Kill,
    /// The agent is killed in its next visit to the tag, after so many commands, and starts again.
    Crash(usize),
    /// The machine loses its power, and starts again with the agent.
    PowerCut,
    /// The agent stops in good order and starts again.
    Restart,
    /// The authority has another policy for what it has not issued yet, and says so.
    Policy(u8),
    /// The authority starts anew; what it numbers, it numbers from the start.
    Reboot,
    /// The wall clock is set by so many seconds.
    SetWall(i32),
}

pub(crate) fn any_op() -> impl Strategy<Value = Op> {
    let cut = (0..60_usize, any::<bool>());
    prop_oneof![
        8 => (1..900_u32).prop_map(Op::Pass),
        3 => (900..7_200_u32).prop_map(Op::Pass),
        1 => (7_200..=PASS_MAX / 2).prop_map(Op::Pass),
        2 => (60..200_000_u32).prop_map(Op::Sleep),
        8 => Just(Op::Tap),
        5 => Just(Op::Claim),
        3 => Just(Op::Scan),
        1 => (1..40_u8).prop_map(Op::Burn),
        1 => Just(Op::Scrawl),
        5 => cut.prop_map(|(after, is_heard)| Op::Tear(Cut { after, is_heard })),
        2 => Just(Op::TakeTag),
        4 => Just(Op::BringTag),
        1 => Just(Op::Unplug),
        3 => Just(Op::Plug),
        2 => Just(Op::Lose),
        4 => Just(Op::Find),
        2 => Just(Op::LoseAnswer),
        2 => Just(Op::Hold),
        4 => Just(Op::Release),
        2 => Just(Op::Echo),
        2 => Just(Op::Kill),
        3 => (0..60_usize).prop_map(Op::Crash),
        1 => Just(Op::PowerCut),
        2 => Just(Op::Restart),
        1 => (0..3_u8).prop_map(Op::Policy),
        1 => Just(Op::Reboot),
        1 => (-90_000..90_000_i32).prop_map(Op::SetWall),
    ]
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass(seconds) => write!(f, "pass {seconds}"),
            Self::Sleep(seconds) => write!(f, "sleep {seconds}"),
            Self::Tear(Cut { after, is_heard }) => {
                let half = if *is_heard { "heard" } else { "unheard" };
                write!(f, "tear {after} {half}")
            }
            Self::Crash(after) => write!(f, "crash {after}"),
            Self::Burn(count) => write!(f, "burn {count}"),
            Self::Policy(number) => write!(f, "policy {number}"),
            Self::SetWall(seconds) => write!(f, "set-wall {seconds}"),
            plain => f.write_str(plain.word()),
        }
    }
}

impl Op {
    /// Those that need no number.
    const PLAIN: [Self; 18] = [
        Self::PowerCut,
        Self::Scrawl,
        Self::Tap,
        Self::Claim,
        Self::Scan,
        Self::TakeTag,
        Self::BringTag,
        Self::Unplug,
        Self::Plug,
        Self::Lose,
        Self::Find,
        Self::LoseAnswer,
        Self::Hold,
        Self::Release,
        Self::Echo,
        Self::Kill,
        Self::Restart,
        Self::Reboot,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Pass(_) => "pass",
            Self::Sleep(_) => "sleep",
            Self::Tap => "tap",
            Self::Claim => "claim",
            Self::Scan => "scan",
            Self::Burn(_) => "burn",
            Self::Scrawl => "scrawl",
            Self::Tear(_) => "tear",
            Self::TakeTag => "take-tag",
            Self::BringTag => "bring-tag",
            Self::Unplug => "unplug",
            Self::Plug => "plug",
            Self::Lose => "lose",
            Self::Find => "find",
            Self::LoseAnswer => "lose-answer",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Echo => "echo",
            Self::Kill => "kill",
            Self::Crash(_) => "crash",
            Self::PowerCut => "power-cut",
            Self::Restart => "restart",
            Self::Policy(_) => "policy",
            Self::Reboot => "reboot",
            Self::SetWall(_) => "set-wall",
        }
    }
}

impl FromStr for Op {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let bad = || format!("no operation: {line}");
        let words: Vec<&str> = line.split_whitespace().collect();
        let op = match words[..] {
            ["pass", n] => Self::Pass(n.parse().map_err(|_| bad())?),
            ["sleep", n] => Self::Sleep(n.parse().map_err(|_| bad())?),
            ["crash", n] => Self::Crash(n.parse().map_err(|_| bad())?),
            ["burn", n] => Self::Burn(n.parse().map_err(|_| bad())?),
            ["policy", n] => Self::Policy(n.parse().map_err(|_| bad())?),
            ["set-wall", n] => Self::SetWall(n.parse().map_err(|_| bad())?),
            ["tear", n, half @ ("heard" | "unheard")] => Self::Tear(Cut {
                after: n.parse().map_err(|_| bad())?,
                is_heard: half == "heard",
            }),
            [word] => Self::PLAIN
                .into_iter()
                .find(|op| op.word() == word)
                .ok_or_else(bad)?,
            _ => return Err(bad()),
        };
        Ok(op)
    }
}

/// A list as text: an operation per line, `#` begins a remark.
pub(crate) fn read(text: &str) -> Vec<Op> {
    let line = |line: &str| line.split('#').next().unwrap_or_default().trim().to_owned();
    let lines = text.lines().map(line).filter(|line| !line.is_empty());
    lines.map(|line| line.parse().unwrap()).collect()
}

/// What [`read`] reads.
pub(crate) fn write(ops: &[Op]) -> String {
    ops.iter().map(|op| format!("{op}\n")).collect()
}

proptest! {
    #[test]
    fn a_list_is_read_as_it_was_written(ops in prop::collection::vec(any_op(), 0..40)) {
        prop_assert_eq!(read(&write(&ops)), ops);
    }
}
