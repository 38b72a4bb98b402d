//! What does one of each cost, and who says so?
//!
//! Every number of the model stands here or in [`super::hsm`], once.

/// Who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// On the machine of docs/PERFORMANCE.md, or by the test that is named.
    Measured(&'static str),
    /// It follows from code or configuration.
    Code(&'static str),
    /// By its maker.
    Documented(&'static str),
    /// Nobody yet: a bank puts its own number in.
    Assumed(&'static str),
}

/// One number of the model.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub what: &'static str,
    pub value: f64,
    pub unit: &'static str,
    pub source: Source,
}

macro_rules! costs {
    ($($name:ident: $what:literal, $value:literal $unit:literal, $source:ident $says:literal;)*) => {
        $(pub const $name: Cost =
            Cost { what: $what, value: $value, unit: $unit, source: Source::$source($says) };)*
        /// All of them, in the order of the page.
        pub const ALL: &[Cost] = &[$($name),*];
    };
}

costs! {
    PAYMENTS_A_DAY: "payments of a terminal", 50.0 "a day", Assumed "`--payments`";
    PEAK: "busiest hour beside the mean of the day", 4.0 "times", Assumed "`--peak`";
    TAPS: "payments by a link that a tag signed", 0.5 "of all", Assumed "`--taps`";
    TAGS: "terminals with a tag", 1.0 "of all", Assumed "`--tags`";
    HORIZON_H: "hours of a schedule", 24.0 "hours", Code "`schedule.horizon_epochs`";
    RENEWAL_H: "hours between renewals", 6.0 "hours", Code "a quarter of those held, six at most";
    TAG_WINDOW_S: "a window of a tag, on average", 270.0 "s", Code "`policy.nfc`, 3 to 6 minutes";
    TOLD_TOGETHER: "events of a terminal in one report", 1.0 "events", Code "the outbox is rung by each";
    SIGN_S: "a stream's sign of life, from memory", 10.0 "s apart", Code "two thirds of `KEEP_ALIVE_S`";
    LOOK_S: "a stream looks at the terminal's state", 60.0 "s apart", Code "`QUIET_MAX` signs of life";
    LOOKED_AROUND: "terminals whose revisions one read compares, every 10 s", 256.0 "terminals", Code "`REVISIONS_MAX`";
    LOOK_READS: "reads of one look", 3.0 "reads", Code "state, terminal, certificate";
    PAYMENT_WRITES: "writes of a payment", 4.0 "writes", Code "charge, claim, approval, receipt";
    PAYMENT_READS: "reads of a payment, looks of its streams included", 40.0 "reads", Assumed "ten for each write";
    KEYS_KEPT: "terminals whose epoch keys a node keeps", 20000.0 "terminals", Code "`TERMINALS_KEPT_MAX`";
    IN_USE_H: "a terminal is in use at a node, after a payment there", 26.0 "hours", Code "`IN_USE_MS`";
    AHEAD_H: "hours of a terminal in use that are loaded at a time", 6.0 "hours", Code "`EPOCHS_AHEAD`";
    BINDINGS_KEPT: "sealed seeds whose binding is remembered to hold", 131072.0 "seeds", Code "`BINDINGS_MAX`";
    QUEUE_MAX: "requests that wait for an HSM", 1024.0 "requests", Code "`hsm.queue_max`";
    DEADLINE_S: "a request waits for an HSM at most", 5.0 "s", Code "`hsm.deadline_ms`";
    BATCH_MAX: "writes that share a commit at most", 256.0 "writes", Code "the store's writer";
    PAYMENTS_IN_A_ROW: "payments before a waiting renewal at most", 8.0 "payments", Code "the queue of the HSM";
    WRITE_HERE_MS: "one write on SQLite, statements and audit", 0.128 "ms", Measured "2 614 payments/s of 3 writes";
    WRITE_MS: "one write occupies the writer of its node, PostgreSQL", 1.0 "ms", Assumed "`--write-ms`; eight times SQLite";
    WRITE_CORE_MS: "a core of the database, for one write", 0.6 "ms", Assumed "`--write-core-ms`";
    READ_CORE_MS: "a core of the database, for one read", 0.05 "ms", Assumed "`--read-core-ms`";
    COMMIT_MS: "a durable commit, synchronous standby next door", 2.0 "ms", Assumed "`--commit-ms`; 0.4 ms here";
    PAYMENT_CORE_MS: "a core of the node, for one payment", 0.77 "ms", Measured "2 cores, 2 614 payments/s, all in one";
    HANDSHAKE_CORE_MS: "a core of the node, for one TLS handshake", 0.72 "ms", Measured "pinned to a core";
    REQUEST_CORE_MS: "a core of the node, for a kept-alive request", 0.03 "ms", Measured "pinned to a core";
    SIGN_CORE_MS: "a core of the node, for one sign of life", 0.01 "ms", Assumed "half of a request";
    CONNECTION_KB: "memory of a connected terminal", 60.0 "kB", Assumed "`--connection-kb`";
    CONNECTIONS: "terminals connected to a node at most", 100000.0 "terminals", Assumed "`--connections`";
    NODE_CORES: "cores of a node", 16.0 "cores", Assumed "`--node-cores`";
    DATABASE_CORES: "cores of the largest database server", 96.0 "cores", Assumed "`--database-cores`";
    BUSY: "as busy as anything may be in the busiest hour", 0.6 "of all", Assumed "`--busy`";
    PAGES: "pages that a write leaves for the disk", 4.0 "of 8 kB", Assumed "index pages shared by neighbours";
    KEEP_ALIVE_BYTES: "a sign of life on the wire", 120.0 "bytes", Assumed "TCP, IP and TLS around 12 bytes";
    PAYMENT_BYTES: "a payment on the wire", 24000.0 "bytes", Assumed "handshake, page, receipt, 4 frames";
    RENEWAL_BYTES: "a renewal on the wire", 3000.0 "bytes", Assumed "an epoch or six";
    REPORT_BYTES: "a report on the wire", 900.0 "bytes", Assumed "both ways";
}
