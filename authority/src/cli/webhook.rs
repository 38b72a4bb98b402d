//! `m2key-authority webhook …`: where is a merchant told, and what could it not be told?

use clap::Subcommand;
use protocol::ids::MerchantId;

use super::daemon::ask;
use super::{Arguments, CliError, Say, tell};
use crate::services::operators::{
    RetriedView, WebhookList, WebhookRemove, WebhookRetry, WebhookSet, WebhookView, WebhooksView,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Tell a merchant there of payments, refunds and closed days, from now on
    Set {
        merchant: MerchantId,
        /// An https address of the public internet
        url: String,
    },
    /// List webhooks, and what waits or is parked
    List {
        /// Only those after this merchant
        #[arg(long)]
        after: Option<MerchantId>,
    },
    /// Tell a merchant nothing any more; what waits is parked
    Remove { merchant: MerchantId },
    /// Have what is parked tried again
    Retry { merchant: MerchantId },
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::Set { merchant, url } => {
            let (merchant, url) = (*merchant, url.clone());
            tell(arguments, &ask(arguments, WebhookSet { merchant, url })?);
        }
        Verb::List { after } => {
            tell(arguments, &ask(arguments, WebhookList { after: *after })?);
        }
        Verb::Remove { merchant } => {
            let merchant = *merchant;
            tell(arguments, &ask(arguments, WebhookRemove { merchant })?);
        }
        Verb::Retry { merchant } => {
            let merchant = *merchant;
            tell(arguments, &ask(arguments, WebhookRetry { merchant })?);
        }
    }
    Ok(())
}

impl Say for WebhooksView {
    fn say(&self) -> String {
        if self.webhooks.is_empty() {
            return "no webhook".into();
        }
        let line = |it: &WebhookView| {
            let WebhookView {
                merchant,
                url,
                waiting,
                parked,
                ..
            } = it;
            format!("{merchant}  {url}  {waiting} waiting, {parked} parked")
        };
        let lines: Vec<_> = self.webhooks.iter().map(line).collect();
        lines.join("\n")
    }
}

impl Say for RetriedView {
    fn say(&self) -> String {
        format!("{} notices are tried again", self.notices)
    }
}
