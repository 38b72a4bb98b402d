//! How does a merchant hear what happened, at least once and in order, whatever its server does?
//!
//! ```text
//! notice (in the transaction of its fact) ─▶ its document is signed ─▶ POST, signed (RFC 9421) ─▶ 2xx
//!                                                            no ─▶ later, and later, ─▶ parked: an alarm
//! ```
//! One call at a time per merchant, each merchant on its own: a server that hangs holds up nobody else.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::ids::MerchantId;
use protocol::problem::ProblemType;
use protocol::time::{Millis, Timestamp};
use protocol::typ;
use protocol::wire::history::HistoryEntry;
use protocol::wire::notices::{Notice, Noticed};
use reqwest::{Certificate, redirect};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::Failure;
use super::requests::{Request, Requests};
use crate::app::App;
use crate::config::WebhooksConfig;
use crate::store::{NoticeEvent, NoticeRecord};

pub mod guard;

/// Merchants that are told something at the same time.
pub const MERCHANTS_MAX: usize = 64;
/// From the call to the answer's head.
const DEADLINE: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// From the first try to the second; twice as long each time.
const RETRY_FIRST_MS: Millis = 5_000;
/// The longest of these waits.
const RETRY_MAX_MS: Millis = 3_600_000;
/// Tries before a notice is parked: about three days.
pub const TRIES_MAX: u32 = 80;
/// Most notices that one merchant is told in one go, before others have their turn.
const RUN_MAX: usize = 256;
/// Longest reason that is kept of a failed try, in characters.
const PROBLEM_MAX: usize = 200;

/// Tells merchants.
pub struct Webhooks {
    app: Arc<App>,
    requests: Requests,
    client: reqwest::Client,
    /// Who is being told, and who has to wait because the last call failed.
    merchants: Mutex<HashMap<MerchantId, Turn>>,
    places: Arc<Semaphore>,
}

/// Merchants cannot be told as the configuration says.
#[derive(Debug, thiserror::Error)]
#[error("webhooks: {0}")]
pub struct WebhooksError(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    UnderWay,
    /// So many calls failed in a row: none before then.
    Resting(u32, Timestamp),
}

impl Webhooks {
    pub fn new(app: Arc<App>) -> Result<Arc<Self>, WebhooksError> {
        Ok(Arc::new(Self {
            requests: Requests::of(&app),
            client: client(&app.config.webhooks)?,
            merchants: Mutex::default(),
            places: Arc::new(Semaphore::new(MERCHANTS_MAX)),
            app,
        }))
    }

    /// Begins to tell every merchant that has something due and is not being told; the handles end when
    /// they are done.
    pub async fn begin(self: &Arc<Self>, now: Timestamp) -> Result<Vec<JoinHandle<()>>, Failure> {
        let parked = self.app.store.count_parked().await?;
        let parked = i64::try_from(parked).unwrap_or(i64::MAX);
        self.app.metrics.notices_parked.set(parked);
        let due = self.app.store.merchants_to_tell(now, u32::MAX).await?;
        let mut begun = Vec::new();
        for merchant in due {
            let Ok(place) = self.places.clone().try_acquire_owned() else {
                break;
            };
            let Some(failed) = self.take_turn(merchant, now) else {
                continue;
            };
            let this = self.clone();
            begun.push(tokio::spawn(async move {
                let _place = place;
                tokio::select! {
                    () = this.tell(merchant, failed) => {}
                    () = this.app.draining() => {}
                    () = this.app.fence.until_fenced() => {}
                }
            }));
        }
        Ok(begun)
    }

    /// How often it failed so far, if it is this merchant's turn.
    fn take_turn(&self, merchant: MerchantId, now: Timestamp) -> Option<u32> {
        let mut merchants = self.merchants();
        let failed = match merchants.get(&merchant) {
            Some(Turn::UnderWay) => return None,
            Some(Turn::Resting(_, until)) if now < *until => return None,
            Some(Turn::Resting(failed, _)) => *failed,
            None => 0,
        };
        merchants.insert(merchant, Turn::UnderWay);
        Some(failed)
    }

    /// One notice after the other, until none is due or one fails.
    async fn tell(&self, merchant: MerchantId, failed: u32) {
        let told = self.tell_run(merchant).await;
        let now = self.app.clock.now();
        let mut merchants = self.merchants();
        match told {
            Ok(true) => merchants.remove(&merchant),
            Ok(false) => {
                let until = now + retry_after_ms(failed);
                merchants.insert(merchant, Turn::Resting(failed.saturating_add(1), until))
            }
            Err(why) => {
                tracing::warn!(%merchant, error = %why, "a webhook waits for the house itself");
                let until = now + RETRY_FIRST_MS;
                merchants.insert(merchant, Turn::Resting(failed, until))
            }
        };
    }

    /// False if the merchant's server did not take one.
    async fn tell_run(&self, merchant: MerchantId) -> Result<bool, Failure> {
        for _ in 0..RUN_MAX {
            let (store, now) = (&self.app.store, self.app.clock.now());
            let Some(notice) = store.next_notice(merchant, now).await? else {
                return Ok(true);
            };
            if !self.tell_one(&notice).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn tell_one(&self, notice: &NoticeRecord) -> Result<bool, Failure> {
        let body = serde_json::to_vec(&self.body(notice).await?)
            .expect("ids, amounts, texts and times of the store serialize");
        let posted = self.post(notice, body).await?;
        let (store, now) = (&self.app.store, self.app.clock.now());
        let count = |outcome| self.app.metrics.notices.with_label_values(&[outcome]).inc();
        match posted {
            Ok(()) => {
                count("delivered");
                store.notice_delivered(notice.id, now).await?;
                Ok(true)
            }
            Err(problem) => {
                let next_at = next_try(notice.tries, now);
                let (merchant, id) = (notice.merchant, notice.id);
                match next_at {
                    Some(_) => tracing::info!(%merchant, notice = %id, problem, "not taken"),
                    None => tracing::error!(%merchant, notice = %id, problem,
                        "ALARM: a merchant cannot be told, and the notice is parked"),
                }
                count(if next_at.is_some() {
                    "failed"
                } else {
                    "parked"
                });
                store.notice_failed(id, problem, next_at, now).await?;
                Ok(false)
            }
        }
    }

    /// Why the merchant did not take it, in words; a failure is the house's own.
    async fn post(
        &self,
        notice: &NoticeRecord,
        body: Vec<u8>,
    ) -> Result<Result<(), String>, Failure> {
        let private = self.app.config.webhooks.private_addresses;
        let url = match guard::check(&notice.url, private) {
            Ok(url) => url,
            Err(problem) => return Ok(Err(problem.to_string())),
        };
        let id = notice.id.to_string();
        let asked = Request {
            url: url.as_str(),
            tag: typ::WEBHOOK,
            idempotency_key: &id,
            body: &body,
        };
        let headers = self.requests.sign(&asked).await.map_err(|error| {
            tracing::warn!(%error, "a webhook cannot be signed");
            Failure::new(ProblemType::NotReady)
        })?;
        let mut request = self.client.post(url).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        Ok(match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("it answers {}", answer.status())),
            Err(error) => Err(chain(&error)),
        })
    }

    /// The same with every try.
    async fn body(&self, notice: &NoticeRecord) -> Result<Notice, Failure> {
        let document = notice.document.clone();
        let what = match notice.about {
            NoticeEvent::Paid { movement } => Noticed::Paid {
                entry: self.entry(movement).await?,
                receipt: document,
            },
            NoticeEvent::Refunded { movement } => Noticed::Refunded {
                entry: self.entry(movement).await?,
                receipt: document,
            },
            NoticeEvent::Closed { number } => Noticed::Closed {
                number,
                statement: document,
            },
        };
        Ok(Notice {
            notice: notice.id,
            merchant: notice.merchant,
            at: notice.made_at,
            what,
        })
    }

    async fn entry(&self, movement: uuid::Uuid) -> Result<HistoryEntry, Failure> {
        let entry = self.app.store.booked(movement).await?;
        Ok(HistoryEntry {
            // As it was then: what is given back later has notices of its own.
            refunded_minor: 0,
            ..entry.ok_or(ProblemType::Internal)?
        })
    }

    fn merchants(&self) -> MutexGuard<'_, HashMap<MerchantId, Turn>> {
        self.merchants
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn client(config: &WebhooksConfig) -> Result<reqwest::Client, WebhooksError> {
    // The one provider of this process; whoever comes second finds it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .timeout(DEADLINE)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .dns_resolver(Arc::new(guard::Resolver::new(config.private_addresses)));
    let builder = match &config.ca_file {
        None => builder,
        // Beside the public ones: each merchant has a server of its own.
        Some(path) => builder.tls_certs_merge(private_cas(path)?),
    };
    builder
        .build()
        .map_err(|error| WebhooksError(chain(&error)))
}

fn private_cas(path: &Path) -> Result<Vec<Certificate>, WebhooksError> {
    let failed = |error: String| WebhooksError(format!("{}: {error}", path.display()));
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.to_string()))?;
    match found.is_empty() {
        true => Err(failed("no certificate in it".into())),
        false => Ok(found),
    }
}

/// None: parked.
fn next_try(tries: u32, now: Timestamp) -> Option<Timestamp> {
    (tries + 1 < TRIES_MAX).then(|| now + retry_after_ms(tries))
}

fn retry_after_ms(tries: u32) -> Millis {
    (RETRY_FIRST_MS << tries.min(16)).min(RETRY_MAX_MS)
}

/// The error and what is behind it, without the address.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::from("no answer");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.chars().take(PROBLEM_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_grow_apart_and_end_after_three_days() {
        let (mut now, mut tries) = (Timestamp::from_ms(0), 0);
        while let Some(next) = next_try(tries, now) {
            assert!(next - now <= RETRY_MAX_MS);
            (now, tries) = (next, tries + 1);
        }
        let days = now.ms() / 86_400_000;
        assert_eq!((tries + 1, days), (TRIES_MAX, 2));
        assert_eq!(retry_after_ms(0), RETRY_FIRST_MS);
        assert_eq!(retry_after_ms(u32::MAX), RETRY_MAX_MS);
    }
}
