//! What do the numbers say beside each other?

use super::page::median;
use super::page::targets::{self, CROWD};
use super::sizes::Sizes;

/// What is measured.
pub(crate) struct What {
    /// As the process is asked.
    pub(crate) asked: &'static str,
    told: &'static str,
    /// Whether a target is set for it.
    is_target: bool,
}

/// Per second, one number per round.
#[derive(Default)]
pub(crate) struct Rates {
    pub(crate) few: Vec<f64>,
    pub(crate) crowd: Vec<f64>,
}

/// One database, in both sizes.
pub(crate) struct Measured {
    name: &'static str,
    pub(crate) rates: Vec<(What, Rates)>,
    /// Resident, of few and crowd.
    pub(crate) takes: [u64; 2],
    /// On the disk.
    pub(crate) bytes: [u64; 2],
    /// Of the database's own processes, if it has any.
    pub(crate) server: Option<u64>,
}

impl Measured {
    pub(crate) fn new(name: &'static str) -> Self {
        let what = |asked, told, is_target| {
            let what = What {
                asked,
                told,
                is_target,
            };
            (what, Rates::default())
        };
        Self {
            name,
            rates: vec![
                what(
                    "schedules",
                    "schedules: 24 epoch keys, recorded, signed",
                    true,
                ),
                what(
                    "claims",
                    "claims: token judged and spent, charge held",
                    true,
                ),
                what(
                    "payments",
                    "payments: claim, approval, ledger, receipt",
                    false,
                ),
            ],
            takes: [0; 2],
            bytes: [0; 2],
            server: None,
        }
    }

    fn rows(&self) -> String {
        let row = |(what, rates): &(What, Rates)| {
            let (few, crowd) = (median(&rates.few), median(&rates.crowd));
            let cost = few / crowd;
            let target = match what.is_target {
                true => CROWD.cells(cost),
                false => "– |".into(),
            };
            format!(
                "| {} | {} | {few:.0} | {crowd:.0} | {cost:.2} | {target} |\n",
                self.name, what.told
            )
        };
        self.rates.iter().map(row).collect()
    }

    /// The highest cost that the target allows.
    pub(crate) fn worst(&self) -> f64 {
        let named = self.rates.iter().filter(|(what, _)| what.is_target);
        let costs = named.map(|(_, rates)| median(&rates.few) / median(&rates.crowd));
        costs.fold(0.0, f64::max)
    }

    fn takes(&self) -> String {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let server = match self.server {
            Some(bytes) => format!("{:.0}", mb(bytes)),
            None => "–".into(),
        };
        let ([few, crowd], [few_takes, crowd_takes]) = (self.bytes, self.takes);
        format!(
            "| {} | {:.1} | {:.1} | {:.0} | {:.0} | {server} |\n",
            self.name,
            mb(few),
            mb(crowd),
            mb(few_takes),
            mb(crowd_takes)
        )
    }
}

pub(crate) fn render(all: &[Measured], sizes: &Sizes) -> String {
    let rows: String = all.iter().map(Measured::rows).collect();
    let takes: String = all.iter().map(Measured::takes).collect();
    format!(
        "{} terminals, {} spent tokens and {} payments kept, beside {} terminals and nothing.\n\n\
         | database | what | few: per second | crowd: per second | cost in the crowd | target | |\n\
         |---|---|--:|--:|--:|--:|---|\n{rows}\n\
         | database | few: MB on the disk | crowd: MB on the disk | few: MB of the authority | crowd: MB | \
         MB of the server |\n|---|--:|--:|--:|--:|--:|\n{takes}",
        grouped(sizes.terminals.into()),
        grouped(sizes.spent),
        grouped(sizes.payments),
        grouped(sizes.few.into())
    )
}

/// Onto the page of all targets: the dearest of what has a target.
pub(crate) fn tell(all: &[Measured], sizes: &Sizes) -> std::io::Result<()> {
    let worst = all.iter().map(Measured::worst).fold(0.0, f64::max);
    let how = format!(
        "{} terminals, {} spent",
        grouped(sizes.terminals.into()),
        grouped(sizes.spent)
    );
    targets::tell(&CROWD, worst, &how)
}

/// 1 000 000 for 1000000.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
