//! What may an operator do with a merchant's books: terms, PIN, refunds, closed days, history?

use protocol::ids::{ChargeId, MerchantId, RefundId};
use protocol::money::{AMOUNT_MINOR_MAX, Money};
use protocol::problem::ProblemType;
use protocol::settlement::{RailTotals, Totals};
use protocol::time::Timestamp;
use protocol::wire::history::{HistoryPage, HistoryQuery};
use protocol::wire::refunds::{Pin, RefundResponse};
use serde::{Deserialize, Serialize};

use super::{Asker, LIST_MAX, Verb, malformed, refused};
use crate::app::App;
use crate::services::days::{self, Zone};
use crate::services::settlements::{self, file::Form};
use crate::services::{Failure, history, pins, refunds};
use crate::store::{Cursor, HistoryOf, NewTerms, Settlement};

/// Sets what was decided for one merchant; what is left out stays.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MerchantSet {
    pub merchant: MerchantId,
    #[serde(default)]
    pub zone: Option<String>,
    #[serde(default)]
    pub refund_day_max_minor: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MerchantShow {
    pub merchant: MerchantId,
}

/// Sets the PIN for refunds, and ends a lock. Mute: the PIN in it is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MerchantPin {
    pub merchant: MerchantId,
    pub pin: Pin,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MerchantHistory {
    pub merchant: MerchantId,
    #[serde(default)]
    pub cursor: Option<String>,
    #[serde(default)]
    pub limit: Option<u32>,
}

/// Gives money back to the account that paid. The same refund id again is the same refund.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundGive {
    pub charge: ChargeId,
    pub amount: Money,
    #[serde(default)]
    pub reason: Option<String>,
    /// Of the asker's making, and made before it is sent: whatever happens to the answer, asking again gives
    /// nothing twice.
    pub refund: RefundId,
}

/// Closes a merchant's days that are over; with `until_now` the day so far, too.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettlementClose {
    pub merchant: MerchantId,
    #[serde(default)]
    pub until_now: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettlementList {
    pub merchant: MerchantId,
    #[serde(default)]
    pub before: Option<u64>,
}

/// A piece of the file of a closed day.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettlementExport {
    pub merchant: MerchantId,
    pub number: u64,
    pub form: Form,
    #[serde(default)]
    pub after: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TermsView {
    pub merchant: MerchantId,
    pub zone: String,
    pub refund_day_max_minor: i64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pin_set_at: Option<Timestamp>,
    /// Wrong PINs since the last right one.
    pub pin_misses: u32,
    /// Wrong PINs of the last day that had one.
    #[serde(default)]
    pub pin_day_misses: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pin_locked_until: Option<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SettlementsView {
    pub settlements: Vec<SettlementView>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SettlementView {
    pub merchant: MerchantId,
    pub number: u64,
    pub day: String,
    pub zone: String,
    pub from: Timestamp,
    pub to: Timestamp,
    pub totals: Totals,
    pub rails: Vec<RailTotals>,
    pub closed_by: String,
    pub closed_at: Timestamp,
    pub signed: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Piece {
    pub text: String,
    /// Where the next piece begins; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
    /// Compact JWS over the digest of the whole file, once it is signed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub statement: Option<String>,
}

impl Verb for MerchantSet {
    const NAME: &'static str = "merchant-set";
    const CHANGES: bool = true;
    type Answer = TermsView;

    async fn run(self, app: &App) -> Result<TermsView, Failure> {
        let zone = self.zone.as_deref().map(Zone::parse).transpose();
        let zone = zone.map_err(malformed)?;
        let max = 0..=AMOUNT_MINOR_MAX;
        if self
            .refund_day_max_minor
            .is_some_and(|it| !max.contains(&it))
        {
            let rule = format!("the most refunded on a day is 0 to {AMOUNT_MINOR_MAX}");
            return Err(malformed(rule));
        }
        let terms = NewTerms {
            zone: zone.map(|zone| zone.name().to_owned()),
            refund_day_max_minor: self.refund_day_max_minor,
        };
        if !app
            .store
            .set_terms(self.merchant, terms, app.clock.now())
            .await?
        {
            return Err(no_merchant(self.merchant));
        }
        view(app, self.merchant).await
    }
}

impl Verb for MerchantShow {
    const NAME: &'static str = "merchant-show";
    const CHANGES: bool = false;
    type Answer = TermsView;

    async fn run(self, app: &App) -> Result<TermsView, Failure> {
        view(app, self.merchant).await
    }
}

impl Verb for MerchantPin {
    const NAME: &'static str = "merchant-pin";
    const CHANGES: bool = true;
    type Answer = TermsView;

    async fn run(self, app: &App) -> Result<TermsView, Failure> {
        let pin = pins::hash(app, self.pin).await?;
        if !app
            .store
            .set_pin(self.merchant, pin, app.clock.now())
            .await?
        {
            return Err(no_merchant(self.merchant));
        }
        view(app, self.merchant).await
    }
}

impl Verb for MerchantHistory {
    const NAME: &'static str = "merchant-history";
    const CHANGES: bool = false;
    const MAY_LAG: bool = true;
    type Answer = HistoryPage;

    async fn run(self, app: &App) -> Result<HistoryPage, Failure> {
        let query = HistoryQuery {
            cursor: self.cursor,
            limit: self.limit,
        };
        history::page(app, HistoryOf::Merchant(self.merchant), &query).await
    }
}

impl Verb for RefundGive {
    const NAME: &'static str = "refund-give";
    const CHANGES: bool = true;
    type Answer = RefundResponse;

    async fn run(self, app: &App) -> Result<RefundResponse, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    async fn run_as(self, app: &App, asker: &Asker) -> Result<RefundResponse, Failure> {
        let now = app.clock.now();
        let asked = refunds::Asked {
            refund: self.refund,
            charge: self.charge,
            amount: self.amount,
            reason: self.reason,
        };
        refunds::by_operator(app, &asker.by, asked, now).await
    }
}

impl Verb for SettlementClose {
    const NAME: &'static str = "settlement-close";
    const CHANGES: bool = true;
    type Answer = SettlementsView;

    async fn run(self, app: &App) -> Result<SettlementsView, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    async fn run_as(self, app: &App, asker: &Asker) -> Result<SettlementsView, Failure> {
        let (merchant, now) = (self.merchant, app.clock.now());
        let closed = settlements::close(app, merchant, &asker.by, self.until_now, now).await;
        if closed.as_ref().is_err_and(settlements::is_difference) {
            let body = serde_json::json!({ "merchant": merchant }).to_string();
            app.store.note("settlement.refused", body, now).await?;
        }
        let mut settlements = Vec::new();
        for closed in closed? {
            // Once more, for the statement that was signed since.
            let found = app.store.settlement(merchant, closed.number).await?;
            settlements.extend(found.map(SettlementView::of));
        }
        Ok(SettlementsView { settlements })
    }
}

impl Verb for SettlementList {
    const NAME: &'static str = "settlement-list";
    const CHANGES: bool = false;
    type Answer = SettlementsView;

    async fn run(self, app: &App) -> Result<SettlementsView, Failure> {
        let found = app.store.settlements(self.merchant, self.before, LIST_MAX);
        Ok(SettlementsView {
            settlements: found.await?.into_iter().map(SettlementView::of).collect(),
        })
    }
}

impl Verb for SettlementExport {
    const NAME: &'static str = "settlement-export";
    const CHANGES: bool = false;
    const MAY_LAG: bool = true;
    type Answer = Piece;

    async fn run(self, app: &App) -> Result<Piece, Failure> {
        let after = self.after.as_deref().map(str::parse::<Cursor>);
        let after = after.transpose().map_err(malformed)?;
        let found = app.store.settlement(self.merchant, self.number).await?;
        let settlement = found.ok_or_else(|| {
            let detail = format!("{} has closed no day {}", self.merchant, self.number);
            refused(ProblemType::Unknown, detail)
        })?;
        let (text, next) = settlements::piece(app, &settlement, self.form, after).await?;
        Ok(Piece {
            text,
            next: next.map(|next| next.to_string()),
            statement: settlement.statement,
        })
    }
}

impl SettlementView {
    fn of(settlement: Settlement) -> Self {
        Self {
            merchant: settlement.merchant,
            number: settlement.number,
            day: settlement.day,
            zone: settlement.zone,
            from: settlement.from,
            to: settlement.to,
            totals: settlement.totals,
            rails: settlement.rails,
            closed_by: settlement.closed_by,
            closed_at: settlement.closed_at,
            signed: settlement.statement.is_some(),
        }
    }
}

async fn view(app: &App, merchant: MerchantId) -> Result<TermsView, Failure> {
    if app.store.merchant(merchant).await?.is_none() {
        return Err(no_merchant(merchant));
    }
    let terms = app.store.terms(merchant).await?;
    let zone = days::zone_of(app, &terms).name().to_owned();
    let max = terms.refund_day_max_minor;
    Ok(TermsView {
        merchant,
        zone,
        refund_day_max_minor: max.unwrap_or(app.config.books.refund_day_max_minor),
        pin_set_at: terms.pin_set_at,
        pin_misses: terms.pin_misses,
        pin_day_misses: terms.pin_day_misses,
        pin_locked_until: terms.pin_locked_until,
    })
}

fn no_merchant(merchant: MerchantId) -> Failure {
    refused(ProblemType::Unknown, format!("no merchant {merchant}"))
}
