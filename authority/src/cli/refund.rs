//! `m2key-authority refund`: how does an operator give money back?

use clap::Args;
use protocol::ids::{ChargeId, RefundId};
use protocol::money::{Currency, Money};
use protocol::wire::refunds::{RefundResponse, RefundStage};

use super::account::bad_amount;
use super::daemon::ask;
use super::{Arguments, CliError, Say, tell};
use crate::clock::{Clock, SystemClock};
use crate::ids;
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
    /// To ask again: the same id is the same refund. Without it a fresh one is made, and told
    #[arg(long)]
    refund: Option<RefundId>,
}

pub(super) fn run(arguments: &Arguments, refund: &RefundArguments) -> Result<(), CliError> {
    let fresh = || ids::fresh(SystemClock.now(), RefundId::from_parts);
    let id = refund.refund.unwrap_or_else(fresh);
    if refund.refund.is_none() {
        // Before it is sent: whoever loses patience can still ask for the same one.
        eprintln!("refund {id}");
    }
    let amount = Money::new(refund.amount_minor, refund.currency);
    let verb = RefundGive {
        charge: refund.charge,
        amount: amount.map_err(|error| bad_amount(&error))?,
        reason: refund.reason.clone(),
        refund: id,
    };
    let given = ask(arguments, verb).map_err(|error| with_id(error, id))?;
    tell(arguments, &given);
    Ok(())
}

/// Whatever went wrong, it may have been given: only the same id asks for it again and not for another.
fn with_id(error: CliError, id: RefundId) -> CliError {
    let again = format!("to ask again, and not for a second refund: --refund {id}");
    let hint = match error.hint.as_str() {
        "" => again,
        hint => format!("{hint}\n{again}"),
    };
    CliError { hint, ..error }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Exit;

    #[test]
    fn whatever_goes_wrong_the_hint_says_how_to_ask_for_the_same_refund() {
        let id = ids::fresh(SystemClock.now(), RefundId::from_parts);
        let again = format!("to ask again, and not for a second refund: --refund {id}");
        for (hint, told) in [("", again.clone()), ("wait", format!("wait\n{again}"))] {
            let error = CliError::new(Exit::TryLater, "busy", hint);
            assert_eq!(with_id(error, id).hint, told);
        }
    }
}
