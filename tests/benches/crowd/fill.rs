//! What is a database like after years of a great many terminals?
//!
//! Rows are written by statements over whole sets, into the real tables. What one row is like is taken from a row
//! that the code itself wrote; what tells rows apart is written over it: ids as random, or by time, as in life.
//! Hours and payments lie as far back as retention keeps them.

use super::Fault;
use super::engine::Engine;
use super::sizes::Sizes;

/// How far back spent tokens are kept (`[retention] spent_days`).
pub(crate) const DAYS: u32 = 90;
pub(crate) const DAY_EPOCHS: u32 = 24;
pub(crate) const HOUR_MS: i64 = 3_600_000;
/// Merchants have so many terminals, shoppers so many payments.
const PER_MERCHANT: u32 = 3;
const PER_SHOPPER: u64 = 8;
/// Payments of one statement.
const CHUNK: u64 = 250_000;
/// Ids that one statement is given as text.
const IDS: usize = 4_000;
/// The node whose audit chain the crowd's rows are.
const NODE: &str = "crowd";

/// One database, while it is filled.
pub(crate) struct Fill<'a> {
    pub(crate) engine: &'a Engine<'a>,
    pub(crate) sizes: &'a Sizes,
    pub(crate) now_ms: i64,
}

impl Fill<'_> {
    /// `free`: numbers that no terminal has yet, in their order.
    pub(crate) fn fill(&self, free: &[u32]) -> Result<(), Fault> {
        self.engine.hurry();
        self.merchants(free.len() as u32 / PER_MERCHANT + 1)?;
        self.terminals(free)?;
        self.shoppers()?;
        let mut paid = 0;
        while paid < self.sizes.payments {
            let until = (paid + CHUNK).min(self.sizes.payments);
            self.payments(paid, until)?;
            paid = until;
            eprintln!("  {paid} payments");
        }
        self.spent()?;
        for table in ["merchants", "terminals", "shoppers", "payments"] {
            self.engine
                .run(&format!("DROP TABLE IF EXISTS crowd_{table}"))?;
        }
        self.engine.settle()
    }

    fn merchants(&self, number: u32) -> Result<(), Fault> {
        let (engine, at) = (self.engine, self.now_ms);
        let (id, account) = (engine.id_at(&at.to_string()), engine.id_at(&at.to_string()));
        self.scratch("merchants", "n BIGINT PRIMARY KEY, id BLOB, account BLOB")?;
        engine.run(&format!(
            "INSERT INTO crowd_merchants {} SELECT n, {id}, {account} FROM k",
            numbers(0, number.into())
        ))?;
        self.like(
            "accounts",
            "kind = 'merchant'",
            "crowd_merchants f",
            &[("id", "f.account")],
        )?;
        let own = [("id", "f.id"), ("account", "f.account")];
        self.like("merchants", "1 = 1", "crowd_merchants f", &own)
    }

    fn terminals(&self, free: &[u32]) -> Result<(), Fault> {
        let engine = self.engine;
        self.scratch(
            "terminals",
            "n BIGINT PRIMARY KEY, id BIGINT, slice BIGINT, merchant BLOB",
        )?;
        let slices = self.slices(free.len());
        for (some, first) in free.chunks(IDS).zip((0..).step_by(IDS)) {
            let rows = some
                .iter()
                .zip(first..)
                .map(|(id, n)| format!("({n},{id})"));
            let rows: Vec<String> = rows.collect();
            engine.run(&format!(
                "INSERT INTO crowd_terminals (n, id) VALUES {}",
                rows.join(",")
            ))?;
        }
        let slice = engine.below(slices);
        engine.run(&format!(
            "UPDATE crowd_terminals SET slice = {slice}, merchant =
                 (SELECT id FROM crowd_merchants WHERE n = crowd_terminals.n / {PER_MERCHANT});
             CREATE INDEX crowd_slices ON crowd_terminals (slice, id);"
        ))?;
        let from = "crowd_terminals f";
        let own = [
            ("id", "f.id"),
            ("merchant", "f.merchant"),
            ("till_charge", "NULL"),
        ];
        self.like("terminals", "sequence > 0", from, &own)?;
        // A seed that opens, whoever's it is: a start tries some.
        let own = [("terminal", "f.id")];
        self.like("seeds", "1 = 1", from, &own)?;
        let own = [("terminal", "f.id"), ("hash", engine.random32())];
        self.like("join_tokens", "1 = 1", from, &own)
    }

    fn shoppers(&self) -> Result<(), Fault> {
        let (engine, number) = (self.engine, self.shopper_count());
        self.scratch("shoppers", "n BIGINT PRIMARY KEY, id BLOB, account BLOB")?;
        let account = engine.id_at(&self.now_ms.to_string());
        engine.run(&format!(
            "INSERT INTO crowd_shoppers {} SELECT n, {}, {account} FROM k",
            numbers(0, number),
            engine.random16()
        ))?;
        let from = "crowd_shoppers f";
        let own = [
            ("id", "f.id"),
            ("audit_salt", engine.random32()),
            ("pairwise_salt", engine.random32()),
        ];
        self.like("persons", "1 = 1", from, &own)?;
        let own = [("person", "f.id"), ("subject", "'crowd-' || f.n")];
        self.like("identities", "1 = 1", from, &own)?;
        let own = [("id", "f.account"), ("person", "f.id")];
        self.like("accounts", "kind = 'shopper'", from, &own)?;
        let reference = engine.hex("f.account");
        let own = [
            ("id", "f.account"),
            ("person", "f.id"),
            ("reference", reference.as_str()),
        ];
        self.like("service_accounts", "1 = 1", from, &own)?;
        self.like("allowances", "1 = 1", from, &[("person", "f.id")])
    }

    /// Those from the one number to the other, and all that hangs on a payment.
    fn payments(&self, from: u64, until: u64) -> Result<(), Fault> {
        let engine = self.engine;
        engine.run("DROP TABLE IF EXISTS crowd_payments")?;
        self.scratch(
            "payments",
            "n BIGINT PRIMARY KEY, at_ms BIGINT, terminal BIGINT, merchant BLOB, earns BLOB, person BLOB,
             pays BLOB, charge BLOB, claim BLOB, payment BLOB, receipt BLOB",
        )?;
        let span = i64::from(DAYS) * 24 * HOUR_MS;
        let at = format!(
            "({} + k.n * {})",
            self.now_ms - span - HOUR_MS,
            span / self.sizes.payments.max(1) as i64
        );
        let id = engine.id_at(&at);
        let (terminals, shoppers) = (
            self.sizes.terminals - self.sizes.sample,
            self.shopper_count(),
        );
        engine.run(&format!(
            "INSERT INTO crowd_payments {} SELECT k.n, {at}, t.id, m.id, m.account, p.id, p.account,
                 {id}, {id}, {id}, {id} FROM k
             JOIN crowd_terminals t ON t.n = (k.n * 7919 + 13) % {terminals}
             JOIN crowd_merchants m ON m.n = t.n / {PER_MERCHANT}
             JOIN crowd_shoppers p ON p.n = (k.n * 104729 + 7) % {shoppers}",
            numbers(from, until)
        ))?;
        self.of_payments()
    }

    fn of_payments(&self) -> Result<(), Fault> {
        let (engine, from) = (self.engine, "crowd_payments f");
        let epoch = format!("f.at_ms / {HOUR_MS}");
        let own = [
            ("id", "f.charge"),
            ("terminal", "f.terminal"),
            ("merchant", "f.merchant"),
            ("claim", "f.claim"),
            ("until_ms", "f.at_ms"),
            ("started_at_ms", "f.at_ms"),
        ];
        self.like("charges", "state = 'paid'", from, &own)?;
        let own = [
            ("id", "f.claim"),
            ("charge", "f.charge"),
            ("epoch", epoch.as_str()),
            ("phone", engine.random32()),
            ("person", "f.person"),
            ("claimed_at_ms", "f.at_ms"),
            ("held_until_ms", "f.at_ms"),
        ];
        self.like("claims", "state = 'paid'", from, &own)?;
        let own = [
            ("id", "f.payment"),
            ("receipt", "f.receipt"),
            ("claim", "f.claim"),
            ("service_account", "f.pays"),
            ("account", "f.pays"),
            ("approved_at_ms", "f.at_ms"),
            ("paid_at_ms", "f.at_ms"),
        ];
        self.like("payments", "1 = 1", from, &own)?;
        let own = [("payment", "f.payment"), ("stored_at_ms", "f.at_ms")];
        self.like("receipts", "1 = 1", from, &own)?;
        for (account, amount) in [("f.pays", "-420"), ("f.earns", "420")] {
            let own = [
                ("account", account),
                ("movement", "f.payment"),
                ("amount_minor", amount),
            ];
            self.like("ledger_entries", "1 = 1", from, &own)?;
        }
        // All days but today's are closed.
        let own = [
            ("movement", "f.payment"),
            ("payment", "f.payment"),
            ("merchant", "f.merchant"),
            ("person", "f.person"),
            ("terminal", "f.terminal"),
            ("booked_at_ms", "f.at_ms"),
            ("settlement", "1"),
        ];
        self.like("bookings", "1 = 1", from, &own)?;
        let id = engine.id_at("f.at_ms");
        let own = [
            ("id", id.as_str()),
            ("terminal", "f.terminal"),
            ("at_ms", "f.at_ms"),
        ];
        self.like("reports", "1 = 1", from, &own)?;
        self.audit()
    }

    /// The rows that a payment leaves in the chain of a node.
    fn audit(&self) -> Result<(), Fault> {
        let hash = self.engine.random32();
        let kinds = [
            "schedule.issued",
            "token.claimed",
            "payment.paid",
            "receipt.stored",
        ];
        for (kind, place) in kinds.iter().zip(1..) {
            let (node, sequence) = (format!("'{NODE}'"), format!("f.n * 4 + {place}"));
            let own = [
                ("node", node.as_str()),
                ("sequence", sequence.as_str()),
                ("previous", hash),
                ("hash", hash),
                ("at_ms", "f.at_ms"),
            ];
            let is = format!("kind = '{kind}'");
            self.like("audit_rows", &is, "crowd_payments f", &own)?;
        }
        Ok(())
    }

    /// Day by day, as they lie: in each hour one slice of the terminals.
    fn spent(&self) -> Result<(), Fault> {
        let engine = self.engine;
        let slices = self.slices((self.sizes.terminals - self.sizes.sample) as usize);
        let today = u32::try_from(self.now_ms / HOUR_MS)? / DAY_EPOCHS * DAY_EPOCHS;
        let (channel, window) = (engine.below(3), engine.below(120));
        let claim = engine.random16();
        if self.sizes.spent == 0 {
            return Ok(());
        }
        for day in 1..=DAYS {
            let from = today - (DAYS + 1 - day) * DAY_EPOCHS;
            engine.run(&format!(
                "INSERT INTO spent (epoch, terminal, version, channel, \"window\", turn, claim)
                 {} SELECT k.n, t.id, 1, 1 + {channel}, {window}, 0, {claim} FROM k
                 JOIN crowd_terminals t ON t.slice = k.n % {slices} ORDER BY k.n, t.id",
                numbers(from.into(), (from + DAY_EPOCHS).into())
            ))?;
            engine.run(&format!(
                "INSERT INTO turns (epoch, terminal, version, channel, \"window\", turn)
                 SELECT epoch, terminal, version, channel, \"window\", 1 FROM spent
                 WHERE epoch >= {from} AND epoch < {from} + {DAY_EPOCHS}
                 ORDER BY epoch, terminal, version, channel, \"window\""
            ))?;
            if day % 30 == 0 {
                eprintln!("  {day} days of spent tokens");
            }
        }
        Ok(())
    }

    /// So many, that a slice of the terminals in each hour makes as many spent tokens as are wanted.
    fn slices(&self, terminals: usize) -> u32 {
        let hours = u64::from(DAYS * DAY_EPOCHS);
        let all = terminals as u64 * hours;
        (all / self.sizes.spent.max(1)).clamp(1, hours) as u32
    }

    fn shopper_count(&self) -> u64 {
        self.sizes.payments / PER_SHOPPER + 1
    }

    fn scratch(&self, name: &str, columns: &str) -> Result<(), Fault> {
        let columns = match self.engine {
            Engine::Sqlite(_) => columns.to_owned(),
            Engine::Postgres(..) => columns.replace("BLOB", "BYTEA"),
        };
        let begins = self.engine.scratch();
        self.engine
            .run(&format!("{begins} crowd_{name} ({columns})"))
    }

    /// A row for each of `from`, like one of the table that the code wrote, but for what is its own.
    fn like(
        &self,
        table: &str,
        which: &str,
        from: &str,
        own: &[(&str, &str)],
    ) -> Result<(), Fault> {
        let columns = self.engine.columns(table)?;
        if let Some((lost, _)) = own
            .iter()
            .find(|(own, _)| !columns.iter().any(|it| it == own))
        {
            return Err(format!("{table} has no column {lost}").into());
        }
        let begins = self.engine.scratch();
        self.engine.run(&format!(
            "{begins} crowd_one AS SELECT * FROM {table} WHERE {which} LIMIT 1"
        ))?;
        let value = |column: &String| {
            let found = own.iter().find(|(own, _)| own == column);
            found.map_or(format!("one.\"{column}\""), |(_, value)| {
                (*value).to_owned()
            })
        };
        let values: Vec<String> = columns.iter().map(value).collect();
        let names: Vec<String> = columns.iter().map(|it| format!("\"{it}\"")).collect();
        self.engine.run(&format!(
            "INSERT INTO {table} ({}) SELECT {} FROM {from} CROSS JOIN crowd_one one ORDER BY f.n",
            names.join(", "),
            values.join(", ")
        ))?;
        let found = self.engine.column("SELECT count(*) || '' FROM crowd_one")?;
        self.engine.run("DROP TABLE crowd_one")?;
        match found.first().is_some_and(|rows| rows == "1") {
            true => Ok(()),
            false => Err(format!("the code wrote no row of {table} where {which}").into()),
        }
    }
}

/// A table `k` of the numbers from one to before the other.
fn numbers(from: u64, until: u64) -> String {
    format!(
        "WITH RECURSIVE k (n) AS (SELECT CAST({from} AS BIGINT) WHERE {from} < {until}
             UNION ALL SELECT n + 1 FROM k WHERE n + 1 < {until})"
    )
}
