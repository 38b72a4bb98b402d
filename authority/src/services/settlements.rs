//! When does a merchant's day close, and what does its bookkeeper get?
//!
//! ```text
//! day over (or an operator) ─▶ store.close_day ─▶ digests of the files ─▶ statement (HSM)
//!                                   └── does not add up: nothing is closed, and there is an alarm
//! ```
//! A file is made of the rows that the close numbered, the same bytes every time; the statement holds
//! its digest.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use hsm::Priority;
use protocol::ids::MerchantId;
use protocol::problem::{Problem, ProblemType};
use protocol::receipt::Payee;
use protocol::settlement::SettlementClaims;
use protocol::time::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::days::{self, Zone};
use super::{Failure, keyring};
use crate::app::App;
use crate::store::{CloseDay, CloseOutcome, Cursor, MerchantTerms, Settlement, Unsettled};

pub mod file;

use file::Form;

/// Who closes a day that is over.
pub const BY_ITSELF: &str = "authority";
/// Merchants looked at, at a time.
const MERCHANTS_BATCH: u32 = 256;
/// Days of one merchant closed in one go, after a long rest.
const DAYS_MAX: usize = 64;
/// Statements signed at a time.
const STATEMENTS_BATCH: u32 = 64;
/// Lines read at a time.
const LINES_BATCH: u32 = 500;

/// Closes days without being asked.
pub struct Settlements {
    app: Arc<App>,
    /// Merchants whose day does not add up: each is told to the audit once per process.
    alarmed: Mutex<BTreeSet<MerchantId>>,
}

impl Settlements {
    pub fn new(app: Arc<App>) -> Self {
        Self {
            app,
            alarmed: Mutex::default(),
        }
    }

    /// Closes every day that is over, and signs what is due; answers how many were closed, or
    /// the first error when everybody had a turn.
    pub async fn close_due(&self, now: Timestamp) -> Result<usize, Failure> {
        let (mut after, mut closed, mut broken) = (None, 0, BTreeSet::new());
        let mut failed = None;
        loop {
            let found = self.app.store.unsettled(after, MERCHANTS_BATCH).await?;
            after = found.last().map(|it| it.merchant);
            for merchant in &found {
                match close_merchant(&self.app, merchant, BY_ITSELF, false, now).await {
                    Ok(days) => closed += days.len(),
                    Err(why) if is_difference(&why) => {
                        broken.insert(merchant.merchant);
                    }
                    // The others' days close all the same.
                    Err(why) => {
                        tracing::error!(merchant = %merchant.merchant, error = %why, "its days stay open");
                        failed.get_or_insert(why);
                    }
                }
            }
            if after.is_none() {
                break;
            }
        }
        self.alarm(broken, now).await?;
        sign_due(&self.app, now).await?;
        failed.map_or(Ok(closed), Err)
    }

    async fn alarm(&self, broken: BTreeSet<MerchantId>, now: Timestamp) -> Result<(), Failure> {
        let number = i64::try_from(broken.len()).unwrap_or(i64::MAX);
        self.app.metrics.books_differ.set(number);
        let known = {
            let mut alarmed = self.alarmed.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *alarmed, broken.clone())
        };
        for merchant in broken.difference(&known) {
            let body = json!({ "merchant": merchant }).to_string();
            self.app.store.note("settlement.refused", body, now).await?;
        }
        Ok(())
    }
}

/// Whether a day stayed open because it does not add up.
pub(crate) fn is_difference(why: &Failure) -> bool {
    why.kind().problem_type() == Some(ProblemType::BooksDiffer)
}

/// Closes a merchant's days that are over; with `until_now` the day so far, too.
pub async fn close(
    app: &App,
    merchant: MerchantId,
    by: &str,
    until_now: bool,
    now: Timestamp,
) -> Result<Vec<Settlement>, Failure> {
    if app.store.merchant(merchant).await?.is_none() {
        let detail = format!("no merchant {merchant}");
        return Err(Problem::new(ProblemType::Unknown)
            .with_detail(detail)
            .into());
    }
    let all = app.store.unsettled(before(merchant), 1).await?;
    let closed = match all.iter().find(|it| it.merchant == merchant) {
        Some(found) => close_merchant(app, found, by, until_now, now).await?,
        None => Vec::new(),
    };
    sign_due(app, now).await?;
    Ok(closed)
}

/// The id just before, so that a list "after" it begins with this one.
fn before(merchant: MerchantId) -> Option<MerchantId> {
    let number = merchant.0.as_u128().checked_sub(1)?;
    Some(MerchantId(uuid::Uuid::from_u128(number)))
}

async fn close_merchant(
    app: &App,
    found: &Unsettled,
    by: &str,
    until_now: bool,
    now: Timestamp,
) -> Result<Vec<Settlement>, Failure> {
    let terms = MerchantTerms {
        zone: found.zone.clone(),
        ..MerchantTerms::default()
    };
    let zone = days::zone_of(app, &terms);
    let (mut closed, mut next) = (Vec::new(), Some(found.clone()));
    while let Some(found) = next.filter(|_| closed.len() < DAYS_MAX) {
        let Some(close) = next_close(app, &zone, &found, by, until_now, now)? else {
            break;
        };
        let to = close.to;
        // What was booked in the very millisecond of the cut stays for the next one.
        let Some(done) = close_one(app, close).await? else {
            break;
        };
        closed.push(done);
        let rest = app.store.unsettled(before(found.merchant), 1).await?;
        let rest = rest.into_iter().find(|it| it.merchant == found.merchant);
        // What is left begins later, or nothing moves.
        next = rest.filter(|rest| rest.last_cut == Some(to));
    }
    Ok(closed)
}

/// The next day to close, if one is over. Late comers from before the last cut belong to the day after it.
fn next_close(
    app: &App,
    zone: &Zone,
    found: &Unsettled,
    by: &str,
    until_now: bool,
    now: Timestamp,
) -> Result<Option<CloseDay>, Failure> {
    let begins = found.oldest.max(found.last_cut.unwrap_or(found.oldest));
    let day = zone.day_of(begins)?;
    let is_over = day.until + app.config.books.close_after_ms <= now;
    let to = match (is_over, until_now) {
        (true, _) => day.until,
        (false, true) => now.min(day.until),
        (false, false) => return Ok(None),
    };
    Ok(Some(CloseDay {
        merchant: found.merchant,
        day: day.day,
        zone: zone.name().into(),
        to,
        by: by.into(),
        at: now,
    }))
}

async fn close_one(app: &App, close: CloseDay) -> Result<Option<Settlement>, Failure> {
    let (merchant, day) = (close.merchant, close.day.clone());
    let count = |outcome| app.metrics.settlements.with_label_values(&[outcome]).inc();
    match app.store.close_day(close).await? {
        CloseOutcome::Closed(closed) => {
            tracing::info!(%merchant, day, number = closed.number, "day closed");
            count("closed");
            Ok(Some(*closed))
        }
        CloseOutcome::Nothing | CloseOutcome::Refused => Ok(None),
        CloseOutcome::Differs {
            file_minor,
            ledger_minor,
        } => {
            tracing::error!(%merchant, day, file_minor, ledger_minor,
                "ALARM: a day does not add up to the ledger, and stays open");
            count("books-differ");
            let detail =
                format!("{merchant}, {day}: the file says {file_minor}, the ledger {ledger_minor}");
            Err(Problem::new(ProblemType::BooksDiffer)
                .with_detail(detail)
                .into())
        }
    }
}

/// Signs the statements that are due; answers how many are stored now.
pub async fn sign_due(app: &App, now: Timestamp) -> Result<usize, Failure> {
    let mut stored = 0;
    for settlement in app.store.statements_due(STATEMENTS_BATCH).await? {
        match sign(app, &settlement, now).await {
            Ok(_) => stored += 1,
            Err(why) => {
                let (merchant, number) = (settlement.merchant, settlement.number);
                tracing::warn!(%merchant, number, error = %why, "a statement is still due");
            }
        }
    }
    Ok(stored)
}

async fn sign(app: &App, settlement: &Settlement, now: Timestamp) -> Result<String, Failure> {
    let claims = SettlementClaims {
        iss: app.issuer_uri(),
        jti: format!(
            "{}/{}/{}",
            settlement.merchant, app.generation, settlement.number
        ),
        iat: settlement.closed_at.secs(),
        payee: Payee {
            id: settlement.merchant,
            name: settlement.payee_name.clone(),
        },
        number: settlement.number,
        day: settlement.day.clone(),
        zone: settlement.zone.clone(),
        from: settlement.from,
        to: settlement.to,
        currency: settlement.currency,
        totals: settlement.totals,
        rails: settlement.rails.clone(),
        csv_sha256: digest(app, settlement, Form::Csv).await?,
        json_sha256: digest(app, settlement, Form::Json).await?,
    };
    let keys = app.keyring();
    let jws = keyring::sign(&app.hsm, keys.receipt(), &claims, Priority::Renewal).await?;
    let store = &app.store;
    let (merchant, number) = (settlement.merchant, settlement.number);
    Ok(store.store_statement(merchant, number, jws, now).await?)
}

async fn digest(app: &App, settlement: &Settlement, form: Form) -> Result<String, Failure> {
    let (mut hash, mut after) = (Sha256::new(), None);
    loop {
        let (text, next) = piece(app, settlement, form, after).await?;
        hash.update(text.as_bytes());
        after = next;
        if after.is_none() {
            return Ok(hash
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect());
        }
    }
}

/// A piece of the file, and where the next begins; none after the last.
pub async fn piece(
    app: &App,
    settlement: &Settlement,
    form: Form,
    after: Option<Cursor>,
) -> Result<(String, Option<Cursor>), Failure> {
    let (merchant, number) = (settlement.merchant, settlement.number);
    let store = &app.store;
    let lines = store.settlement_lines(merchant, number, after, LINES_BATCH);
    let lines = lines.await?;
    let mut text = match after {
        None => form.head(settlement),
        Some(_) => String::new(),
    };
    for (place, (_, entry)) in lines.iter().enumerate() {
        let is_first = after.is_none() && place == 0;
        text += &form.line(entry, &settlement.day, is_first);
    }
    let whole = lines.len() < LINES_BATCH as usize;
    if whole {
        text += &form.foot(settlement);
    }
    let next = lines.last().map(|(at, _)| *at).filter(|_| !whole);
    Ok((text, next))
}
