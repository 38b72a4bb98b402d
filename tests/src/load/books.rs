//! Do the books say what phones and terminals were told?
//!
//! Every payment that a phone has a receipt of is remembered here; at the end the authority's own reports must say
//! the same, terminal by terminal, to the cent.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt, stream};
use protocol::ids::{ClaimId, PaymentId, ReceiptId, TerminalId};
use protocol::money::Money;
use protocol::wire::claims::ClaimState;
use protocol::wire::history::DayReport;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::agent::Agent;
use super::phone::{Air, Held};
use crate::Failure;
use crate::process::{Said, command};

/// Terminals that are asked at one time.
const ASKED_AT_ONCE: usize = 16;
/// Differences that are told in words.
const TOLD_MAX: usize = 5;

/// One payment, as its receipt says.
#[derive(Debug, Clone)]
pub struct Paid {
    pub terminal: TerminalId,
    pub payment: PaymentId,
    pub receipt: ReceiptId,
    pub claim: ClaimId,
    /// Link or code that was spent.
    pub token: String,
    pub amount: Money,
    /// SHA-256 of the receipt as the phone keeps it.
    pub digest: [u8; 32],
}

/// What a run remembers.
#[derive(Default)]
pub struct Books(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    payments: HashSet<PaymentId>,
    receipts: HashSet<ReceiptId>,
    claims: HashSet<ClaimId>,
    /// Digests: a million tokens of a run are not kept as text.
    tokens: HashSet<[u8; 32]>,
    sums: BTreeMap<TerminalId, Sum>,
    /// Approved, and nobody knows yet what came of it.
    open: HashMap<ClaimId, Open>,
    /// Digest of the receipt that a phone holds of each payment.
    held: HashMap<PaymentId, [u8; 32]>,
}

/// An approval on its way.
#[derive(Clone)]
struct Open {
    terminal: TerminalId,
    minor: i64,
    /// With it the claim's state can be asked for afterwards.
    cookie: String,
}

/// Payments at one terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    pub count: u64,
    pub minor: i64,
}

/// How the business day of every terminal stands.
pub type Days = BTreeMap<TerminalId, DayReport>;

/// One thing that was compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub what: &'static str,
    pub ok: bool,
    pub seen: String,
}

/// Mute: it holds cookies.
impl fmt::Debug for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Books(..)")
    }
}

impl Books {
    /// Before an approval is sent: money may move from now on.
    pub fn approving(&self, terminal: TerminalId, held: &Held, amount: Money) {
        let minor = amount.amount_minor();
        self.note(terminal, held.view.claim, minor, &held.cookie);
    }

    fn note(&self, terminal: TerminalId, claim: ClaimId, minor: i64, cookie: &str) {
        let open = Open {
            terminal,
            minor,
            cookie: cookie.into(),
        };
        self.kept().open.insert(claim, open);
    }

    /// It is known what came of it.
    pub fn close(&self, claim: ClaimId) {
        self.kept().open.remove(&claim);
    }

    /// A receipt has come. Refused if it is of something that was paid before.
    pub fn paid(&self, paid: &Paid) -> Result<(), String> {
        let mut kept = self.kept();
        kept.open.remove(&paid.claim);
        kept.held.insert(paid.payment, paid.digest);
        kept.sums.entry(paid.terminal).or_default().add(Sum {
            count: 1,
            minor: paid.amount.amount_minor(),
        });
        let token = Sha256::digest(paid.token.as_bytes()).into();
        let twice = [
            (!kept.tokens.insert(token), "token"),
            (!kept.claims.insert(paid.claim), "claim"),
            (!kept.payments.insert(paid.payment), "payment"),
            (!kept.receipts.insert(paid.receipt), "receipt"),
        ];
        match twice.iter().find(|(is_twice, _)| *is_twice) {
            Some((_, what)) => Err(format!(
                "terminal {}: the {what} of claim {} paid twice",
                paid.terminal, paid.claim
            )),
            None => Ok(()),
        }
    }

    /// Asks what came of every approval that was not answered. What is still held stays open.
    pub async fn settle(&self, air: &Air) {
        let open: Vec<_> = self.kept().open.clone().into_iter().collect();
        for (claim, of) in open {
            match air.look(claim, &of.cookie).await {
                Ok(ClaimState::Paid) => self.count(&of),
                Ok(ClaimState::Released) => {}
                Ok(ClaimState::Held) | Err(_) => continue,
            }
            self.close(claim);
        }
    }

    fn count(&self, open: &Open) {
        self.kept().sums.entry(open.terminal).or_default().add(Sum {
            count: 1,
            minor: open.minor,
        });
    }

    /// Compares what the terminals' reports say more than before with what phones have receipts of.
    pub fn compare(&self, before: &Days, after: &Days) -> Check {
        let kept = self.kept();
        let (mut wrong, mut all) = (Vec::new(), Sum::default());
        for (terminal, now) in after {
            let Some(was) = before.get(terminal).filter(|was| was.day == now.day) else {
                return check(true, "not compared: a business day ended during the run");
            };
            let told = Sum {
                count: now.totals.credits - was.totals.credits,
                minor: now.totals.credit_minor - was.totals.credit_minor,
            };
            all.add(told);
            if let Some(known) = kept.differs(*terminal, told) {
                let words = format!("terminal {terminal}: {told:?} told, {known:?} in receipts");
                wrong.push(words);
            }
        }
        wrong.truncate(TOLD_MAX);
        let (Sum { count, minor }, open) = (all, kept.open.len());
        let fits = format!("{count} payments, {minor} minor units, {open} of unknown outcome");
        match wrong.is_empty() {
            true => check(true, &fits),
            false => check(false, &wrong.join("; ")),
        }
    }

    /// SHA-256 of every receipt that a phone got, by its payment.
    pub fn held(&self) -> HashMap<PaymentId, [u8; 32]> {
        self.kept().held.clone()
    }

    /// Approvals of which nobody knows what came of them.
    pub fn open(&self) -> usize {
        self.kept().open.len()
    }

    /// Nobody could be asked.
    pub fn not_compared(why: &Failure) -> Check {
        check(false, &why.to_string())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// What is known of this terminal, if that is not what its report tells. An approval that nobody answered may
    /// have paid or not.
    fn differs(&self, terminal: TerminalId, told: Sum) -> Option<Sum> {
        let known = self.sums.get(&terminal).copied().unwrap_or_default();
        let mut most = known;
        for open in self.open.values().filter(|it| it.terminal == terminal) {
            most.add(Sum {
                count: 1,
                minor: open.minor,
            });
        }
        let fits = (known.count..=most.count).contains(&told.count)
            && (known.minor..=most.minor).contains(&told.minor);
        (!fits).then_some(known)
    }
}

impl Sum {
    fn add(&mut self, more: Self) {
        self.count += more.count;
        self.minor += more.minor;
    }
}

fn check(ok: bool, seen: &str) -> Check {
    Check {
        what: "the terminals' day reports add up to the receipts",
        ok,
        seen: seen.into(),
    }
}

/// Asks every terminal for the report of its day.
pub async fn days(agents: &[Arc<Agent>]) -> Result<Days, Failure> {
    let asked = stream::iter(agents.iter().cloned()).map(|agent| async move {
        let day = agent.day().await;
        let day = day.map_err(Failure::of(format!("terminal {}", agent.id())))?;
        Ok((agent.id(), day))
    });
    let answers: Vec<_> = asked.buffer_unordered(ASKED_AT_ONCE).collect().await;
    answers.into_iter().collect()
}

/// What the authority's own verbs say of ledger and audit chain.
pub fn ask_authority(config: &Path) -> Vec<Check> {
    [
        ("the ledger balances", ["account", "check"], "balanced"),
        ("the audit chain is whole", ["audit", "verify"], "holds"),
    ]
    .map(|(what, verb, member)| {
        let said = verb_of(config, &verb);
        let ok = said.as_ref().is_ok_and(|it| it[member] == true);
        let seen = said.map_or_else(|failure| failure.to_string(), |it| it.to_string());
        Check { what, ok, seen }
    })
    .into()
}

fn verb_of(config: &Path, arguments: &[&str]) -> Result<Value, Failure> {
    let mut verb = command("m2key-authority")?;
    verb.arg("--json").arg("--config").arg(config);
    Said::by(verb.args(arguments))?.json()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::ids::MerchantId;
    use protocol::money::Currency;
    use protocol::receipt::Payee;
    use protocol::settlement::Totals;
    use protocol::time::Timestamp;

    fn terminal() -> TerminalId {
        TerminalId::from_number(1_234_567).unwrap()
    }

    fn paid(number: u8) -> Paid {
        Paid {
            terminal: terminal(),
            payment: PaymentId::from_parts(1, &[number; 10]),
            receipt: ReceiptId::from_parts(2, &[number; 10]),
            claim: ClaimId::from_parts(3, &[number; 10]),
            token: format!("token {number}"),
            amount: Money::new(420, Currency::EUR).unwrap(),
            digest: [number; 32],
        }
    }

    fn day(credits: u64, credit_minor: i64) -> Days {
        let report = DayReport {
            terminal: terminal(),
            payee: Payee {
                id: MerchantId::from_parts(1, &[0; 10]),
                name: "Bakery".into(),
            },
            day: "2026-11-26".into(),
            zone: "UTC".into(),
            from: Timestamp::from_secs(0),
            until: Timestamp::from_secs(86_400),
            currency: Currency::EUR,
            totals: Totals {
                credits,
                credit_minor,
                ..Totals::default()
            },
            rails: Vec::new(),
        };
        BTreeMap::from([(terminal(), report)])
    }

    #[test]
    fn reports_that_say_what_the_receipts_say_are_right_and_no_others() {
        let books = Books::default();
        books.paid(&paid(1)).unwrap();
        books.paid(&paid(2)).unwrap();
        let says = |count, minor| books.compare(&day(5, 1_000), &day(count, minor)).ok;
        assert!(says(7, 1_840));
        assert!(!says(6, 1_420), "a payment is missing");
        assert!(!says(8, 2_260), "somebody paid without a receipt");
        assert!(!says(7, 1_839), "a cent is missing");
    }

    #[test]
    fn an_approval_without_an_answer_may_have_paid_or_not() {
        let books = Books::default();
        let open = paid(3);
        books.note(open.terminal, open.claim, 420, "");
        let says = |count, minor| books.compare(&day(0, 0), &day(count, minor)).ok;
        assert!(says(0, 0) && says(1, 420) && !says(2, 840));
        books.close(open.claim);
        let says = |count, minor| books.compare(&day(0, 0), &day(count, minor)).ok;
        assert!(says(0, 0) && !says(1, 420));
    }

    #[test]
    fn nothing_is_paid_twice() {
        type Change = fn(&mut Paid);
        let same = |change: Change| {
            let (books, mut second) = (Books::default(), paid(2));
            books.paid(&paid(1)).unwrap();
            change(&mut second);
            books.paid(&second)
        };
        assert!(same(|_| {}).is_ok());
        let twice: [(Change, &str); 4] = [
            (|it| it.token = paid(1).token, "token"),
            (|it| it.claim = paid(1).claim, "claim"),
            (|it| it.payment = paid(1).payment, "payment"),
            (|it| it.receipt = paid(1).receipt, "receipt"),
        ];
        for (change, what) in twice {
            let refused = same(change).unwrap_err();
            assert!(refused.contains(what), "{refused}");
        }
    }
}
