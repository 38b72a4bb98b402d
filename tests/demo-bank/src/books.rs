//! What did this bank set aside, take, give back, and promise never to do?
//!
//! A file of JSON lines that only grows: a line is on the disk before anybody is told what it says, and a
//! start reads them all. Every order has a random key, and what was done under it is done once.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use protocol::money::{Currency, Money};
use protocol::wire::rails::{OrderCall, Outcome, RailAnswer, RefundCall};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How far back payments count against the cap of a month, in seconds.
const MONTH_S: i64 = 30 * 24 * 3_600;

/// Most that one account pays; a carrier has to have such caps.
#[derive(Clone, Copy, Default)]
pub struct Caps {
    pub payment_minor: Option<i64>,
    pub month_minor: Option<i64>,
}

/// The books, in memory as the file says them.
pub struct Books {
    file: File,
    caps: Caps,
    balances: HashMap<String, Balance>,
    orders: HashMap<Uuid, Entry>,
    refunds: HashMap<Uuid, RailAnswer>,
}

/// What an account holds.
struct Balance {
    minor: i64,
    currency: Currency,
}

/// One order.
#[derive(Clone)]
struct Entry {
    account: String,
    amount: Money,
    at: i64,
    refunded_minor: i64,
    standing: Standing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Authorised,
    Captured,
    Declined(&'static str),
    /// Whatever comes under this key from now on comes too late.
    Tombstone,
}

/// One line of the file: what happened, and when (Unix seconds).
#[derive(Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line {
    Opened {
        account: String,
        amount: Money,
    },
    Authorised {
        key: Uuid,
        account: String,
        amount: Money,
        at: i64,
    },
    Declined {
        key: Uuid,
        account: String,
        amount: Money,
        at: i64,
        reason: String,
    },
    Captured {
        key: Uuid,
        at: i64,
    },
    Reversed {
        key: Uuid,
        account: String,
        amount: Money,
        at: i64,
    },
    Refunded {
        key: Uuid,
        of: Uuid,
        amount: Money,
        at: i64,
    },
}

const REASONS: [&str; 5] = [
    "funds-short",
    "over-limit",
    "account-unknown",
    "account-closed",
    "refused",
];

impl Books {
    /// Reads the books, and opens the accounts that are not in them yet.
    pub fn open(path: &Path, caps: Caps, accounts: &[(String, Money)]) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(path)?;
        let mut books = Self {
            file: file.try_clone()?,
            caps,
            balances: HashMap::new(),
            orders: HashMap::new(),
            refunds: HashMap::new(),
        };
        for line in BufReader::new(file).lines() {
            books.enter(&serde_json::from_str(&line?)?);
        }
        for (account, amount) in accounts {
            if !books.balances.contains_key(account) {
                let (account, amount) = (account.clone(), *amount);
                books.write(&Line::Opened { account, amount })?;
            }
        }
        Ok(books)
    }

    /// Sets the amount aside.
    pub fn authorise(&mut self, call: &OrderCall, at: i64) -> io::Result<RailAnswer> {
        if let Some(entry) = self.orders.get(&call.key) {
            return Ok(again(call, entry));
        }
        let (key, account, amount) = (call.key, call.account.clone(), call.amount);
        let line = match self.objection(call, at) {
            None => Line::Authorised {
                key,
                account,
                amount,
                at,
            },
            Some(reason) => {
                let reason = reason.to_owned();
                Line::Declined {
                    key,
                    account,
                    amount,
                    at,
                    reason,
                }
            }
        };
        self.write(&line)?;
        Ok(again(call, &self.orders[&key]))
    }

    /// Takes what was set aside.
    pub fn capture(&mut self, call: &OrderCall, at: i64) -> io::Result<RailAnswer> {
        let Some(entry) = self.own(call) else {
            return Ok(declined(call, "refused"));
        };
        match entry.standing {
            Standing::Authorised => {
                self.write(&Line::Captured { key: call.key, at })?;
                Ok(done(call))
            }
            Standing::Captured => Ok(done(call)),
            Standing::Declined(reason) => Ok(declined(call, reason)),
            Standing::Tombstone => Ok(declined(call, "refused")),
        }
    }

    /// Undoes what was done under this key, and refuses it for ever.
    pub fn reverse(&mut self, call: &OrderCall, at: i64) -> io::Result<RailAnswer> {
        let buried = self.orders.get(&call.key).map(|entry| entry.standing);
        if buried != Some(Standing::Tombstone) {
            let (key, account, amount) = (call.key, call.account.clone(), call.amount);
            self.write(&Line::Reversed {
                key,
                account,
                amount,
                at,
            })?;
        }
        Ok(done(call))
    }

    /// Gives back a part of what was taken, or all.
    pub fn refund(&mut self, call: &RefundCall, at: i64) -> io::Result<RailAnswer> {
        if let Some(answer) = self.refunds.get(&call.key) {
            return Ok(answer.clone());
        }
        let left = self.orders.get(&call.of).filter(|entry| {
            entry.standing == Standing::Captured
                && entry.account == call.account
                && entry.amount.currency() == call.amount.currency()
                && entry.refunded_minor + call.amount.amount_minor() <= entry.amount.amount_minor()
        });
        if left.is_none() {
            return Ok(answer(
                call.key,
                call.amount,
                Outcome::Declined,
                Some("refused"),
            ));
        }
        let (key, of, amount) = (call.key, call.of, call.amount);
        self.write(&Line::Refunded {
            key,
            of,
            amount,
            at,
        })?;
        Ok(answer(key, amount, Outcome::Done, None))
    }

    /// How the key stands.
    pub fn query(&self, call: &OrderCall) -> RailAnswer {
        let Some(entry) = self.orders.get(&call.key) else {
            return answer(call.key, call.amount, Outcome::Unseen, None);
        };
        let (outcome, reason) = match entry.standing {
            Standing::Authorised => (Outcome::Authorised, None),
            Standing::Captured => (Outcome::Captured, None),
            Standing::Declined(reason) => (Outcome::Declined, Some(reason)),
            Standing::Tombstone => (Outcome::Reversed, None),
        };
        answer(call.key, call.amount, outcome, reason)
    }

    /// What an account holds now, minor units.
    pub fn balance_minor(&self, account: &str) -> Option<i64> {
        Some(self.balances.get(account)?.minor)
    }

    /// Payments that were taken and not taken back, key and what is left of each.
    pub fn captured(&self) -> Vec<(Uuid, i64)> {
        let taken = |(key, entry): (&Uuid, &Entry)| {
            let left = entry.amount.amount_minor() - entry.refunded_minor;
            (entry.standing == Standing::Captured).then_some((*key, left))
        };
        self.orders.iter().filter_map(taken).collect()
    }

    /// Orders that are set aside and neither taken nor let go.
    pub fn authorised(&self) -> usize {
        let entries = self.orders.values();
        entries
            .filter(|it| it.standing == Standing::Authorised)
            .count()
    }

    fn objection(&self, call: &OrderCall, at: i64) -> Option<&'static str> {
        let minor = call.amount.amount_minor();
        let Some(balance) = self.balances.get(&call.account) else {
            return Some("account-unknown");
        };
        if balance.currency != call.amount.currency() {
            return Some("refused");
        }
        let month = self.spent_since(&call.account, at - MONTH_S) + minor;
        let over = |cap: Option<i64>, minor| cap.is_some_and(|cap| minor > cap);
        if over(self.caps.payment_minor, minor) || over(self.caps.month_minor, month) {
            return Some("over-limit");
        }
        (balance.minor < minor).then_some("funds-short")
    }

    fn spent_since(&self, account: &str, since: i64) -> i64 {
        let counts = |entry: &&Entry| {
            let standing = matches!(entry.standing, Standing::Authorised | Standing::Captured);
            entry.account == account && entry.at > since && standing
        };
        let orders = self.orders.values().filter(counts);
        orders
            .map(|it| it.amount.amount_minor() - it.refunded_minor)
            .sum()
    }

    /// The order of this key, if it is about the same.
    fn own(&self, call: &OrderCall) -> Option<&Entry> {
        let entry = self.orders.get(&call.key)?;
        (entry.account == call.account && entry.amount == call.amount).then_some(entry)
    }

    /// On the disk first, then in memory.
    fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.file.write_all(&text)?;
        self.file.sync_data()?;
        self.enter(line);
        Ok(())
    }

    fn enter(&mut self, line: &Line) {
        match line {
            Line::Opened { account, amount } => {
                let (minor, currency) = (amount.amount_minor(), amount.currency());
                let balance = Balance { minor, currency };
                self.balances.insert(account.clone(), balance);
            }
            Line::Authorised {
                key,
                account,
                amount,
                at,
            } => {
                self.move_money(account, -amount.amount_minor());
                self.insert(*key, account, *amount, *at, Standing::Authorised);
            }
            Line::Declined {
                key,
                account,
                amount,
                at,
                reason,
            } => {
                let known = REASONS.into_iter().find(|it| it == reason);
                let standing = Standing::Declined(known.unwrap_or("refused"));
                self.insert(*key, account, *amount, *at, standing);
            }
            Line::Captured { key, .. } => {
                if let Some(entry) = self.orders.get_mut(key) {
                    entry.standing = Standing::Captured;
                }
            }
            Line::Reversed {
                key,
                account,
                amount,
                at,
            } => self.bury(*key, account, *amount, *at),
            Line::Refunded {
                key, of, amount, ..
            } => {
                if let Some(entry) = self.orders.get_mut(of) {
                    entry.refunded_minor += amount.amount_minor();
                    let account = entry.account.clone();
                    self.move_money(&account, amount.amount_minor());
                }
                let answer = answer(*key, *amount, Outcome::Done, None);
                self.refunds.insert(*key, answer);
            }
        }
    }

    fn bury(&mut self, key: Uuid, account: &str, amount: Money, at: i64) {
        let back = match self.orders.get(&key) {
            Some(entry) if matches!(entry.standing, Standing::Authorised | Standing::Captured) => {
                entry.amount.amount_minor() - entry.refunded_minor
            }
            _ => 0,
        };
        self.move_money(account, back);
        self.insert(key, account, amount, at, Standing::Tombstone);
    }

    fn insert(&mut self, key: Uuid, account: &str, amount: Money, at: i64, standing: Standing) {
        let entry = Entry {
            account: account.to_owned(),
            amount,
            at,
            refunded_minor: 0,
            standing,
        };
        self.orders.insert(key, entry);
    }

    fn move_money(&mut self, account: &str, minor: i64) {
        if let Some(balance) = self.balances.get_mut(account) {
            balance.minor += minor;
        }
    }
}

fn again(call: &OrderCall, entry: &Entry) -> RailAnswer {
    if entry.account != call.account || entry.amount != call.amount {
        return declined(call, "refused");
    }
    match entry.standing {
        Standing::Authorised | Standing::Captured => done(call),
        Standing::Declined(reason) => declined(call, reason),
        Standing::Tombstone => declined(call, "refused"),
    }
}

fn done(call: &OrderCall) -> RailAnswer {
    answer(call.key, call.amount, Outcome::Done, None)
}

fn declined(call: &OrderCall, reason: &'static str) -> RailAnswer {
    answer(call.key, call.amount, Outcome::Declined, Some(reason))
}

fn answer(key: Uuid, amount: Money, outcome: Outcome, reason: Option<&str>) -> RailAnswer {
    let moved = matches!(
        outcome,
        Outcome::Done | Outcome::Authorised | Outcome::Captured
    );
    RailAnswer {
        key,
        amount,
        outcome,
        reference: moved.then(|| format!("bank-{}", &key.simple().to_string()[..16])),
        reason: reason.map(str::to_owned),
    }
}
