//! Which SMS go out now?

use protocol::time::{Millis, Timestamp};

use super::gateway::Unsent;
use super::{BATCH, SENDING_AT_ONCE, Sms, for_all};
use crate::services::Failure;
use crate::sms::{Say, Stage};
use crate::store::Letter;

/// First pause after the gateway did not take an SMS; it doubles up to the longest.
const PAUSE_MS: Millis = 1_000;
const PAUSE_MAX_MS: Millis = 60_000;
/// An SMS that nobody could be sent for so long is given up, and counted.
const LETTER_LIFE_MS: Millis = 24 * 60 * 60 * 1000;

impl Sms {
    /// Hands what is due to the gateway; answers how many it took.
    pub(super) async fn send_letters(&self, now: Timestamp) -> Result<usize, Failure> {
        let due = self.app.store.letters_due(now, BATCH).await?;
        let sending = |letter| self.send(letter, now);
        let sent = for_all(due, SENDING_AT_ONCE, "send an SMS", sending).await;
        let waiting = self.app.store.letters_waiting().await?;
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        self.app.metrics.sms_waiting.set(waiting);
        Ok(sent)
    }

    async fn send(&self, letter: Letter, now: Timestamp) -> Result<(), Failure> {
        let (store, id) = (&self.app.store, letter.letter.id);
        let outcome = match self.wording(&letter, now).await? {
            None => "late",
            Some(text) => match self.gateway.send(&letter.letter.number, &text).await {
                Ok(()) => "sent",
                Err(Unsent::Later(why)) if now - letter.made_at < LETTER_LIFE_MS => {
                    tracing::warn!(why, tries = letter.tries, "the gateway takes no SMS");
                    self.count_sent("put-off");
                    store.letter_again(id, now + pause(letter.tries)).await?;
                    return Ok(());
                }
                Err(why) => {
                    tracing::error!(number = %letter.letter.number, %why, "an SMS is given up");
                    "given-up"
                }
            },
        };
        self.count_sent(outcome);
        store.letter_done(id).await?;
        Ok(())
    }

    /// The text; none for an offer that nobody can take up any more.
    async fn wording(&self, letter: &Letter, now: Timestamp) -> Result<Option<String>, Failure> {
        let (say, language) = (&letter.letter.say, letter.letter.language);
        if !matches!(say, Say::Offer { .. }) {
            return Ok(Some(say.text(language, None)));
        }
        let is_good = |talk: &&_| {
            let talk: &crate::sms::Talk = talk;
            talk.stage == Stage::Offered && now < talk.until
        };
        let Some(talk) = letter.talk.as_ref().filter(is_good) else {
            return Ok(None);
        };
        let number = self.number_of(talk).await?;
        Ok(number.map(|number| say.text(language, Some(&number))))
    }

    fn count_sent(&self, outcome: &str) {
        let counter = &self.app.metrics.sms_sent;
        counter.with_label_values(&[outcome]).inc();
    }
}

fn pause(tries: u32) -> Millis {
    let doubled = PAUSE_MS.checked_shl(tries.min(16)).unwrap_or(PAUSE_MAX_MS);
    doubled.min(PAUSE_MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        assert_eq!(
            [0, 1, 2, 5, 6, 99].map(pause),
            [1_000, 2_000, 4_000, 32_000, 60_000, 60_000]
        );
    }
}
