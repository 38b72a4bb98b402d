//! Who answers a shopper's texts, and makes their payments come true?
//!
//! ```text
//! gateway ─▶ hear ─▶ sms_texts ─▶ answering ─▶ sms_talks ─▶ claims, approvals: as any phone
//!                                     │            │
//! gateway ◀─ sending ◀─ sms_letters ◀─┴────────────┘ what is said is committed with what it tells of
//! ```
//! Every arrow to a table is durable before the next step, so a crash anywhere goes on where it stood:
//! [`crate::sms::talk`] decides, and the database says whether that still fits.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use protocol::time::Timestamp;
use tokio::sync::Notify;

use super::Failure;
use super::approvals::Approvals;
use super::claims::Claims;
use super::sign_in::SignedIn;
use crate::app::App;
use crate::config::SmsConfig;
use crate::ids;
use crate::sms::one_time::SmsSecret;
use crate::sms::{Language, PhoneNumber, Say, SecretError, TalkId, text};
use crate::store::{Chore, Hearing, NewLetter, NewText, PersonKey, TextId, Turn};

mod answering;
mod gateway;
mod paying;
mod sending;

pub use gateway::GatewayError;

use self::gateway::Gateway;

/// How often what waits is looked at, if nothing woke us.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Rows taken up at a time.
const BATCH: u32 = 64;
/// Phones that are answered at the same time.
const PHONES_AT_ONCE: usize = 16;
/// SMS that are handed to the gateway at the same time.
const SENDING_AT_ONCE: usize = 8;

/// Payment by SMS.
pub struct Sms {
    app: Arc<App>,
    config: SmsConfig,
    secret: SmsSecret,
    gateway: Gateway,
    claims: Arc<Claims>,
    approvals: Arc<Approvals>,
    /// Something is there for each of the three that go on by themselves.
    texts: Notify,
    talks: Notify,
    letters: Notify,
}

/// Payment by SMS cannot be set up as configured.
#[derive(Debug, thiserror::Error)]
pub enum SmsError {
    #[error("payment by SMS: {0}")]
    Secret(#[from] SecretError),
    #[error("payment by SMS: {0}")]
    Gateway(#[from] GatewayError),
}

/// A text as the gateway brings it. Mute.
pub struct Delivery {
    pub id: String,
    pub link: String,
    pub from: String,
    pub to: String,
    pub text: String,
}

impl Sms {
    /// None where the configuration has no such section.
    pub fn open(
        app: &Arc<App>,
        claims: &Arc<Claims>,
        approvals: &Arc<Approvals>,
    ) -> Result<Option<Self>, SmsError> {
        let Some(config) = app.config.sms.clone() else {
            return Ok(None);
        };
        Ok(Some(Self {
            app: app.clone(),
            secret: SmsSecret::from_file(&config.secret_file)?,
            gateway: Gateway::open(&config)?,
            config,
            claims: claims.clone(),
            approvals: approvals.clone(),
            texts: Notify::new(),
            talks: Notify::new(),
            letters: Notify::new(),
        }))
    }

    /// Whether this is the secret that the gateway and we share.
    pub fn is_gateway(&self, shown: &[u8]) -> bool {
        self.secret.matches(shown)
    }

    /// Keeps a text, if its sender may pay here. What is answered here, the gateway need not bring again.
    pub async fn hear(&self, delivery: Delivery, now: Timestamp) -> Result<(), Failure> {
        let outcome = match self.sender(&delivery) {
            Ok(number) => self.keep(number, delivery, now).await?,
            Err(stranger) => {
                tracing::info!(link = %delivery.link, stranger, "a text is dropped");
                stranger
            }
        };
        let counter = &self.app.metrics.sms_texts;
        counter.with_label_values(&[outcome]).inc();
        Ok(())
    }

    /// Answers texts, goes on with talks and sends, until the drain starts. Each goes on by itself, so that
    /// a rail that is slow keeps nobody from an answer.
    pub async fn run(&self) {
        tokio::join!(
            self.again(&self.texts, |now| self.answer_texts(now)),
            self.again(&self.talks, |now| self.go_on_with_talks(now)),
            self.again(&self.letters, |now| self.send_letters(now)),
        );
    }

    /// Everything that waits now; answers how much was done.
    pub async fn work(&self, now: Timestamp) -> Result<usize, Failure> {
        let answered = self.answer_texts(now).await?;
        let gone_on = self.go_on_with_talks(now).await?;
        Ok(answered + gone_on + self.send_letters(now).await?)
    }

    async fn again<W, F>(&self, woken: &Notify, work: W)
    where
        W: Fn(Timestamp) -> F,
        F: Future<Output = Result<usize, Failure>>,
    {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = woken.notified() => {}
                () = self.app.draining() => return,
            }
            if !self.app.store.leads(Chore::Texts) {
                continue;
            }
            if let Err(why) = work(self.app.clock.now()).await {
                tracing::warn!(error = %why, "payment by SMS stands still, and is tried again");
            }
        }
    }

    /// Commits what was decided; false if it does not fit any more.
    async fn take(&self, turn: Turn) -> Result<bool, Failure> {
        let says = !turn.letters.is_empty();
        let taken = self.app.store.take_turn(turn).await?;
        if taken && says {
            self.letters.notify_one();
        }
        Ok(taken)
    }

    /// On-net only: over a link and from a number of the carrier's own.
    fn sender(&self, delivery: &Delivery) -> Result<PhoneNumber, &'static str> {
        let config = &self.config;
        if !config.on_net.contains(&delivery.link) {
            return Err("off-net");
        }
        if delivery.to.trim_start_matches('+') != config.short_number {
            return Err("other-number");
        }
        let number: PhoneNumber = delivery.from.parse().map_err(|_| "no-number")?;
        match config
            .prefixes
            .iter()
            .any(|prefix| number.begins_with(prefix))
        {
            true => Ok(number),
            false => Err("foreign-number"),
        }
    }

    async fn keep(
        &self,
        number: PhoneNumber,
        delivery: Delivery,
        now: Timestamp,
    ) -> Result<&'static str, Failure> {
        let reading = text::read(&delivery.text).reading();
        let text = NewText {
            id: TextId {
                gateway: delivery.link,
                message: delivery.id,
            },
            print: reading.map(|reading| self.secret.print(&number, &reading)),
            number,
            text: delivery.text,
            at: now,
        };
        let number = text.number.clone();
        let hearing = self.app.store.hear(text).await?;
        tracing::info!(%number, ?hearing, "a text came");
        Ok(match hearing {
            Hearing::Heard => {
                self.texts.notify_one();
                "heard"
            }
            Hearing::Again => "again",
            Hearing::TooMany => "too-many",
        })
    }

    /// Who owns this phone, as far as identities go.
    fn shopper(&self, number: &PhoneNumber) -> SignedIn {
        let carrier = self.config.carrier.as_str();
        let person = PersonKey {
            issuer: format!("urn:m2key:sms:{carrier}"),
            subject: number.expose().to_owned(),
        };
        SignedIn::by_phone(person, carrier)
    }

    fn letter(
        &self,
        number: &PhoneNumber,
        language: Language,
        talk: Option<TalkId>,
        say: Say,
        now: Timestamp,
    ) -> NewLetter {
        NewLetter {
            id: ids::fresh(now, TalkId::from_parts).0,
            number: number.clone(),
            language,
            talk,
            say,
        }
    }
}

/// Does `work` for all of `items`, so many at a time; what fails is logged and left for the next look.
async fn for_all<T, W, F>(items: Vec<T>, at_once: usize, what: &str, work: W) -> usize
where
    W: Fn(T) -> F,
    F: Future<Output = Result<(), Failure>>,
{
    let done = stream::iter(items).map(|item| async {
        match work(item).await {
            Ok(()) => 1,
            Err(why) => {
                tracing::warn!(what, error = %why, "put off");
                0
            }
        }
    });
    done.buffer_unordered(at_once)
        .fold(0, |sum, one| async move { sum + one })
        .await
}

/// The shopper's move; what is too much just now, or our own trouble, may be different in a moment.
fn is_refusal(status: u16) -> bool {
    (400..500).contains(&status) && status != 429
}
