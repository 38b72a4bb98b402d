//! `m2key-authority refund`: how does an operator give money back?

use clap::Args;
use protocol::ids::{ChargeId, RefundId};
use protocol::money::{Currency, Money};
use protocol::wire::refunds::{RefundResponse, RefundStage};

use super::account::bad_amount;
use super::daemon::ask;
use super::{Arguments, CliError, Say, tell};
use crate::services::operators::RefundGive;

#[derive(Debug, Args)]
pub(super) struct RefundArguments {
    /// What was paid, as the receipt names it
    #[arg(long)]
    charge: ChargeId,
    #[arg(long)]
    amount_minor: i64,
    /// Must be the payment's
    #[arg(long, default_value = "EUR")]
    currency: Currency,
    /// The shopper reads it
    #[arg(long)]
    reason: Option<String>,
    /// The same id again is the same refund; a fresh one without it
    #[arg(long)]
    refund: Option<RefundId>,
}

pub(super) fn run(arguments: &Arguments, refund: &RefundArguments) -> Result<(), CliError> {
    let amount = Money::new(refund.amount_minor, refund.currency);
    let verb = RefundGive {
        charge: refund.charge,
        amount: amount.map_err(|error| bad_amount(&error))?,
        reason: refund.reason.clone(),
        refund: refund.refund,
    };
    tell(arguments, &ask(arguments, verb)?);
    Ok(())
}

impl Say for RefundResponse {
    fn say(&self) -> String {
        let Self {
            refund,
            payment,
            amount,
            ..
        } = self;
        let stage = match &self.stage {
            RefundStage::Asked => format!(
                "its rail has not said yet; ask again with --refund {refund}, or look at the history"
            ),
            RefundStage::Refunded { receipt_id, .. } => format!("given back, receipt {receipt_id}"),
            RefundStage::Declined { reason } => format!("the rail declines: {reason}"),
        };
        format!("refund   {refund}\npayment  {payment}\namount   {amount}\n{stage}")
    }
}
