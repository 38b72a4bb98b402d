//! What was paid and given back, as the shopper and the merchant both read it?

use protocol::ids::{ReceiptId, TerminalId};
use protocol::problem::{Problem, ProblemType};
use protocol::receipt::Payee;
use protocol::settlement::{RailTotals, Totals};
use protocol::time::{Millis, Timestamp};
use protocol::wire::history::{DayReport, HISTORY_MAX, HistoryPage, HistoryQuery};

use super::{Failure, days};
use crate::app::App;
use crate::store::{Cursor, HistoryOf, PersonKey, RailSum, may_lag};

/// What is so far back is the same in a copy of the database that is a little behind.
const LOOKS_BACK_MS: Millis = 60 * 60_000;

/// A page of somebody's history, the newest first.
pub async fn page(app: &App, of: HistoryOf, query: &HistoryQuery) -> Result<HistoryPage, Failure> {
    let before = query.cursor.as_deref().map(str::parse::<Cursor>);
    let before = before
        .transpose()
        .map_err(|error| Problem::new(ProblemType::MalformedRequest).with_detail(error))?;
    let limit = query.limit.unwrap_or(HISTORY_MAX).clamp(1, HISTORY_MAX);
    // One more than is shown tells whether there is a next page.
    let reading = app.store.history(of, before, limit + 1);
    let now = app.clock.now();
    let mut found = match before.is_some_and(|it| it.at + LOOKS_BACK_MS < now) {
        true => may_lag(reading).await?,
        false => reading.await?,
    };
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| more).map(|(at, _)| at.to_string());
    Ok(HistoryPage {
        entries: found.into_iter().map(|(_, entry)| entry).collect(),
        next,
    })
}

/// The receipt of one of this person's payments or refunds, once it is signed.
pub async fn receipt(
    app: &App,
    person: PersonKey,
    receipt: ReceiptId,
) -> Result<Option<String>, Failure> {
    Ok(app.store.own_receipt(person, receipt).await?)
}

/// How the terminal's business day stands.
pub async fn day(app: &App, terminal: TerminalId, now: Timestamp) -> Result<DayReport, Failure> {
    let known = app.store.terminal(terminal).await?;
    let id = known.ok_or(ProblemType::TerminalRefused)?.merchant;
    let merchant = app.store.merchant(id).await?;
    let merchant = merchant.ok_or(ProblemType::Internal)?;
    let zone = days::zone_of(app, &app.store.terms(id).await?);
    let day = zone.day_of(now)?;
    let sums = app.store.booked_at_terminal(terminal, day.from, day.until);
    let rails: Vec<_> = sums.await?.into_iter().map(of_rail).collect();
    Ok(DayReport {
        terminal,
        payee: Payee {
            id,
            name: merchant.name,
        },
        day: day.day,
        zone: zone.name().into(),
        from: day.from,
        until: now,
        currency: merchant.currency,
        totals: rails
            .iter()
            .fold(Totals::default(), |all, rail| sum(all, rail.totals)),
        rails,
    })
}

fn of_rail(sum: RailSum) -> RailTotals {
    RailTotals {
        rail: sum.rail,
        totals: Totals {
            opening_minor: 0,
            closing_minor: sum.credit_minor - sum.debit_minor,
            credits: sum.credits,
            credit_minor: sum.credit_minor,
            debits: sum.debits,
            debit_minor: sum.debit_minor,
        },
    }
}

fn sum(a: Totals, b: Totals) -> Totals {
    Totals {
        opening_minor: a.opening_minor + b.opening_minor,
        closing_minor: a.closing_minor + b.closing_minor,
        credits: a.credits + b.credits,
        credit_minor: a.credit_minor + b.credit_minor,
        debits: a.debits + b.debits,
        debit_minor: a.debit_minor + b.debit_minor,
    }
}
