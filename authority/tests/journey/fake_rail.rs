//! A rail in memory, with books of its own and a script of mishaps.
//!
//! It refuses to be shipped: nothing but tests includes this file.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use authority::services::rails::{Answer, Order, Rail, RailKey, Reason, Refund, Standing};
use tokio::sync::Notify;

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// It never arrives.
    Lost,
    /// It is carried out, and the answer is lost.
    Unanswered,
    /// It never arrives, and the caller never hears anything: as if it had died just before the call.
    HangsBefore,
    /// It is carried out, and the caller never hears anything: as if it had died just after the call.
    HangsAfter,
    /// Declined, whatever the books say.
    Declines,
}

#[derive(Default)]
pub struct FakeRail {
    books: Mutex<Books>,
    hanging: Notify,
    refunded: Notify,
}

#[derive(Default)]
struct Books {
    balances: HashMap<String, i64>,
    orders: HashMap<RailKey, Entry>,
    refunds: HashMap<RailKey, (RailKey, i64, Answer)>,
    script: HashMap<&'static str, VecDeque<Mishap>>,
    calls: Vec<&'static str>,
}

struct Entry {
    account: String,
    minor: i64,
    refunded: i64,
    standing: Standing,
}

impl FakeRail {
    pub fn with_account(account: &str, minor: i64) -> Self {
        let rail = Self::default();
        rail.books().balances.insert(account.into(), minor);
        rail
    }

    /// One more account.
    pub fn open(&self, account: &str, minor: i64) {
        self.books().balances.insert(account.into(), minor);
    }

    /// What goes wrong with the next calls of this verb, one after the other.
    pub fn script(&self, verb: &'static str, mishaps: &[Mishap]) {
        let script = &mut self.books().script;
        script.entry(verb).or_default().extend(mishaps);
    }

    /// Returns once a call hangs.
    pub async fn hangs(&self) {
        self.hanging.notified().await;
    }

    /// Returns once it has answered a refund.
    pub async fn refunded(&self) {
        self.refunded.notified().await;
    }

    pub fn balance(&self, account: &str) -> i64 {
        self.books().balances[account]
    }

    /// How many payments were taken and not given back.
    pub fn captured(&self) -> usize {
        let books = self.books();
        let orders = books.orders.values();
        let taken = |entry: &&Entry| matches!(entry.standing, Standing::Captured { .. });
        orders.filter(taken).count()
    }

    /// How many are set aside and neither taken nor let go.
    pub fn authorised(&self) -> usize {
        let books = self.books();
        let orders = books.orders.values();
        let set_aside = |entry: &&Entry| matches!(entry.standing, Standing::Authorised { .. });
        orders.filter(set_aside).count()
    }

    pub fn calls(&self, verb: &str) -> usize {
        self.books().calls.iter().filter(|it| **it == verb).count()
    }

    async fn serve(&self, verb: &'static str, work: impl FnOnce(&mut Books) -> Answer) -> Answer {
        let mishap = {
            let mut books = self.books();
            books.calls.push(verb);
            books.script.get_mut(verb).and_then(VecDeque::pop_front)
        };
        match mishap {
            None => work(&mut self.books()),
            Some(Mishap::Lost) => lost(),
            Some(Mishap::Declines) => Answer::Declined {
                reason: Reason::Refused,
            },
            Some(Mishap::Unanswered) => {
                work(&mut self.books());
                lost()
            }
            Some(Mishap::HangsBefore) => self.hang().await,
            Some(Mishap::HangsAfter) => {
                work(&mut self.books());
                self.hang().await
            }
        }
    }

    async fn hang(&self) -> Answer {
        self.hanging.notify_one();
        std::future::pending().await
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }
}

fn lost() -> Answer {
    Answer::Unknown {
        why: "on purpose".into(),
    }
}

fn reference(key: RailKey) -> String {
    format!("fake-{key}")
}

fn declined(reason: Reason) -> Answer {
    Answer::Declined { reason }
}

impl Entry {
    fn is_about(&self, order: &Order) -> bool {
        let reversed = self.standing == Standing::Reversed;
        reversed || (self.account == order.account && self.minor == order.amount.amount_minor())
    }
}

impl Books {
    fn authorise(&mut self, order: &Order) -> Answer {
        let minor = order.amount.amount_minor();
        if let Some(entry) = self.orders.get(&order.key) {
            return match entry.is_about(order) {
                true => answer_to_authorise(&entry.standing, order.key),
                false => declined(Reason::Refused),
            };
        }
        let standing = match self.balances.get_mut(&order.account) {
            None => Standing::Declined {
                reason: Reason::AccountUnknown,
            },
            Some(balance) if *balance < minor => Standing::Declined {
                reason: Reason::FundsShort,
            },
            Some(balance) => {
                *balance -= minor;
                Standing::Authorised {
                    reference: reference(order.key),
                }
            }
        };
        let answer = answer_to_authorise(&standing, order.key);
        let entry = Entry {
            account: order.account.clone(),
            minor,
            refunded: 0,
            standing,
        };
        self.orders.insert(order.key, entry);
        answer
    }

    fn capture(&mut self, order: &Order) -> Answer {
        let reference = reference(order.key);
        match self.orders.get_mut(&order.key) {
            Some(entry) if entry.is_about(order) => match entry.standing {
                Standing::Authorised { .. } | Standing::Captured { .. } => {
                    entry.standing = Standing::Captured {
                        reference: reference.clone(),
                    };
                    Answer::Done { reference }
                }
                _ => declined(Reason::Refused),
            },
            _ => declined(Reason::Refused),
        }
    }

    fn reverse(&mut self, order: &Order) -> Answer {
        let entry = self.orders.entry(order.key).or_insert_with(|| Entry {
            account: order.account.clone(),
            minor: 0,
            refunded: 0,
            standing: Standing::Unseen,
        });
        if let Standing::Authorised { .. } | Standing::Captured { .. } = entry.standing {
            *self.balances.get_mut(&entry.account).unwrap() += entry.minor - entry.refunded;
        }
        entry.standing = Standing::Reversed;
        Answer::Done {
            reference: reference(order.key),
        }
    }

    fn refund(&mut self, refund: &Refund) -> Answer {
        if let Some((_, _, answer)) = self.refunds.get(&refund.key) {
            return answer.clone();
        }
        let minor = refund.amount.amount_minor();
        let answer = match self.orders.get_mut(&refund.of) {
            Some(entry)
                if matches!(entry.standing, Standing::Captured { .. })
                    && entry.refunded + minor <= entry.minor
                    && entry.account == refund.account =>
            {
                entry.refunded += minor;
                *self.balances.get_mut(&entry.account).unwrap() += minor;
                Answer::Done {
                    reference: reference(refund.key),
                }
            }
            _ => declined(Reason::Refused),
        };
        let kept = (refund.of, minor, answer.clone());
        self.refunds.insert(refund.key, kept);
        answer
    }
}

fn answer_to_authorise(standing: &Standing, key: RailKey) -> Answer {
    match standing {
        Standing::Authorised { .. } | Standing::Captured { .. } => Answer::Done {
            reference: reference(key),
        },
        Standing::Declined { reason } => declined(*reason),
        _ => declined(Reason::Refused),
    }
}

#[async_trait]
impl Rail for FakeRail {
    async fn authorise(&self, order: &Order) -> Answer {
        self.serve("authorise", |books| books.authorise(order))
            .await
    }

    async fn capture(&self, order: &Order) -> Answer {
        self.serve("capture", |books| books.capture(order)).await
    }

    async fn reverse(&self, order: &Order) -> Answer {
        self.serve("reverse", |books| books.reverse(order)).await
    }

    async fn refund(&self, refund: &Refund) -> Answer {
        let answer = self.serve("refund", |books| books.refund(refund)).await;
        self.refunded.notify_one();
        answer
    }

    async fn query(&self, order: &Order) -> Standing {
        let mut found = Standing::Unseen;
        let looked = self.serve("query", |books| {
            if let Some(entry) = books.orders.get(&order.key) {
                found = entry.standing.clone();
            }
            Answer::Done {
                reference: reference(order.key),
            }
        });
        match looked.await {
            Answer::Done { .. } => found,
            Answer::Declined { reason } => Standing::Declined { reason },
            Answer::Unknown { why } => Standing::Unknown { why },
        }
    }
}
