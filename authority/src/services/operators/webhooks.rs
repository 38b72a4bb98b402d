//! Where is a merchant told what happened?

use protocol::ids::MerchantId;
use protocol::problem::ProblemType;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{LIST_MAX, Verb, malformed, refused};
use crate::app::App;
use crate::services::Failure;
use crate::services::webhooks::guard;
use crate::store::Webhook;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSet {
    pub merchant: MerchantId,
    pub url: String,
}

/// What waits is parked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookRemove {
    pub merchant: MerchantId,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookList {
    #[serde(default)]
    pub after: Option<MerchantId>,
}

/// What is parked waits again.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookRetry {
    pub merchant: MerchantId,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct WebhooksView {
    pub webhooks: Vec<WebhookView>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct WebhookView {
    pub merchant: MerchantId,
    pub url: String,
    pub set_at: Timestamp,
    pub waiting: u64,
    /// Given up; each is an alarm.
    pub parked: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct RetriedView {
    pub merchant: MerchantId,
    pub notices: u64,
}

impl Verb for WebhookSet {
    const NAME: &'static str = "webhook-set";
    const CHANGES: bool = true;
    type Answer = WebhooksView;

    async fn run(self, app: &App) -> Result<WebhooksView, Failure> {
        let private = app.config.webhooks.private_addresses;
        let url = guard::check(&self.url, private).map_err(malformed)?;
        set(app, self.merchant, Some(url.into())).await
    }
}

impl Verb for WebhookRemove {
    const NAME: &'static str = "webhook-remove";
    const CHANGES: bool = true;
    type Answer = WebhooksView;

    async fn run(self, app: &App) -> Result<WebhooksView, Failure> {
        set(app, self.merchant, None).await
    }
}

impl Verb for WebhookList {
    const NAME: &'static str = "webhook-list";
    const CHANGES: bool = false;
    type Answer = WebhooksView;

    async fn run(self, app: &App) -> Result<WebhooksView, Failure> {
        let webhooks = app.store.webhooks(self.after, LIST_MAX).await?;
        Ok(view(webhooks))
    }
}

impl Verb for WebhookRetry {
    const NAME: &'static str = "webhook-retry";
    const CHANGES: bool = true;
    type Answer = RetriedView;

    async fn run(self, app: &App) -> Result<RetriedView, Failure> {
        let (merchant, now) = (self.merchant, app.clock.now());
        let notices = app.store.retry_notices(merchant, now).await?;
        Ok(RetriedView { merchant, notices })
    }
}

async fn set(
    app: &App,
    merchant: MerchantId,
    url: Option<String>,
) -> Result<WebhooksView, Failure> {
    if !app
        .store
        .set_webhook(merchant, url, app.clock.now())
        .await?
    {
        let detail = format!("no merchant {merchant}");
        return Err(refused(ProblemType::Unknown, detail));
    }
    let mut all = app.store.webhooks(None, LIST_MAX).await?;
    all.retain(|it| it.merchant == merchant);
    Ok(view(all))
}

fn view(webhooks: Vec<Webhook>) -> WebhooksView {
    let one = |it: Webhook| WebhookView {
        merchant: it.merchant,
        url: it.url,
        set_at: it.set_at,
        waiting: it.waiting,
        parked: it.parked,
    };
    WebhooksView {
        webhooks: webhooks.into_iter().map(one).collect(),
    }
}
