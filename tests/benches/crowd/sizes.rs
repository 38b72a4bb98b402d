//! How large is the crowd?

use super::Fault;

/// What the crowd has, and how much of it is measured.
#[derive(Debug, Clone)]
pub(crate) struct Sizes {
    /// Terminals of the crowd.
    pub(crate) terminals: u32,
    /// Spent tokens that it keeps, each with its turn.
    pub(crate) spent: u64,
    /// Payments that it keeps, with everything that hangs on one.
    pub(crate) payments: u64,
    /// Terminals of the house beside it.
    pub(crate) few: u32,
    /// Of the crowd's terminals, drawn among all of them: their seeds are real, and they are measured.
    pub(crate) sample: u32,
    pub(crate) rounds: usize,
    pub(crate) engines: Vec<String>,
}

/// A bank with ten times the terminals of a large one, where nothing else is said.
const TERMINALS: u64 = 1_000_000;
/// Some months of a hundred thousand terminals; a tenth of what is promised, so that `make bench` ends within minutes.
const SPENT: u64 = 10_000_000;
const PAYMENTS: u64 = 200_000;
const FEW: u64 = 1_000;
const SAMPLE: u64 = 8_000;
const ROUNDS: u64 = 7;
const ENGINES: &str = "sqlite,postgres";

impl Sizes {
    pub(crate) fn read() -> Result<Self, Fault> {
        let engines = std::env::var("M2KEY_CROWD_ENGINES").unwrap_or_else(|_| ENGINES.into());
        let sizes = Self {
            terminals: u32::try_from(number("M2KEY_CROWD_TERMINALS", TERMINALS)?)?,
            spent: number("M2KEY_CROWD_SPENT", SPENT)?,
            payments: number("M2KEY_CROWD_PAYMENTS", PAYMENTS)?,
            few: u32::try_from(number("M2KEY_CROWD_FEW", FEW)?)?,
            sample: u32::try_from(number("M2KEY_CROWD_SAMPLE", SAMPLE)?)?,
            rounds: usize::try_from(number("M2KEY_CROWD_ROUNDS", ROUNDS)?)?,
            engines: engines.split(',').map(str::to_owned).collect(),
        };
        let holds = sizes.few > 0
            && sizes.few <= sizes.sample
            && sizes.sample < sizes.terminals
            && sizes.terminals <= protocol::ids::TERMINAL_NUMBERS / 2
            && sizes.rounds > 0;
        match holds {
            true => Ok(sizes),
            false => Err(format!("these sizes do not fit each other: {sizes:?}").into()),
        }
    }
}

fn number(name: &str, unless: u64) -> Result<u64, Fault> {
    let Ok(text) = std::env::var(name) else {
        return Ok(unless);
    };
    let digits = text.replace('_', "");
    digits
        .parse()
        .map_err(|error| format!("{name}={text}: {error}").into())
}
