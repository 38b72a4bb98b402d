//! How does an approved talk become a payment, whatever happens in between?
//!
//! An approval may be asked for again and again: the same claim is paid once, and answers the same receipt.
//! So a talk that is being approved is taken up until the answer is a receipt or a refusal for good.

use protocol::ids::{AccountId, ReceiptId};
use protocol::problem::ProblemType;
use protocol::time::{Millis, Timestamp};
use protocol::wire::claims::{ApprovalRequest, ApprovalResponse};

use super::{BATCH, PHONES_AT_ONCE, Sms, for_all, is_refusal};
use crate::ids;
use crate::services::approvals::Answered;
use crate::services::phone::PhoneCookie;
use crate::services::{Failure, claim_span};
use crate::sms::{PhoneNumber, Say, Stage, Talk, Why};
use crate::store::{AccountCaps, LEDGER, NewServiceAccount, ServiceAccount, TalkTurn, Turn};

/// Between two looks at a payment that has no answer yet.
const AGAIN_MS: Millis = 2_000;

impl Sms {
    /// Talks whose time has come: being approved, or over without an answer.
    pub(super) async fn go_on_with_talks(&self, now: Timestamp) -> Result<usize, Failure> {
        let due = self.app.store.talks_due(now, BATCH).await?;
        let one = |talk: Talk| async move {
            match talk.stage {
                Stage::Approving => self.pay(talk, now).await,
                // The sweep releases the claim; the shopper was told how long it holds.
                _ => self.close(talk, Stage::Over, None, now).await.map(drop),
            }
        };
        Ok(for_all(due, PHONES_AT_ONCE, "go on with a payment by SMS", one).await)
    }

    /// Pays what was approved, or finds out that it is paid.
    pub(super) async fn pay(&self, talk: Talk, now: Timestamp) -> Result<(), Failure> {
        use tracing::Instrument;
        let span = claim_span(talk.claim);
        self.pay_once(talk, now).instrument(span).await
    }

    async fn pay_once(&self, talk: Talk, now: Timestamp) -> Result<(), Failure> {
        let Some(amount) = talk.offered else {
            return Err(ProblemType::Internal.into());
        };
        let record = self.app.store.claim_record(talk.claim).await?;
        let Some(record) = record else {
            return self.refuse(talk, Why::Late, now).await;
        };
        let Some(account) = self.account(&talk.number).await? else {
            return self.refuse(talk, Why::NoAccount, now).await;
        };
        let request = ApprovalRequest {
            amount,
            payee: record.claimed.payee,
            account: Some(account.id),
            assertion: None,
        };
        let cookie = PhoneCookie::of(talk.claim, self.secret.phone(&talk));
        let shopper = self.shopper(&talk.number);
        let approving = self
            .approvals
            .approve(talk.claim, Some(&cookie), &shopper, &request, now);
        match approving.await {
            Ok(Answered::Pending(_)) => self.put_off(talk, now).await,
            Ok(Answered::Receipt(answer)) => {
                let say = Say::Paid {
                    amount,
                    payee: record.payee_name,
                    receipt: receipt_of(&answer)?,
                    mark: record.claimed.mark,
                };
                self.close(talk, Stage::Paid, Some(say), now)
                    .await
                    .map(drop)
            }
            Err(failure) => match self.why_not_paid(&failure) {
                Some(why) => self.refuse(talk, why, now).await,
                None => {
                    tracing::warn!(error = %failure, "an approval by SMS has no answer yet");
                    self.put_off(talk, now).await
                }
            },
        }
    }

    /// Nothing was paid, and nothing will be.
    async fn refuse(&self, talk: Talk, why: Why, now: Timestamp) -> Result<(), Failure> {
        let claim = talk.claim;
        if self
            .close(talk, Stage::Over, Some(Say::NotPaid(why)), now)
            .await?
        {
            self.claims.release(claim, now).await?;
        }
        Ok(())
    }

    /// The shopper hears once that it takes time.
    async fn put_off(&self, talk: Talk, now: Timestamp) -> Result<(), Failure> {
        let say = (!talk.told).then_some(Say::Pending);
        let to = Talk {
            told: true,
            until: now + AGAIN_MS,
            ..talk.clone()
        };
        self.change(&talk, to, say, now).await.map(drop)
    }

    /// Ends a talk; answers whether it was this step that did.
    async fn close(
        &self,
        talk: Talk,
        stage: Stage,
        say: Option<Say>,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let to = Talk {
            stage,
            ..talk.clone()
        };
        let closed = self.change(&talk, to, say, now).await?;
        if closed {
            self.count_payment(stage.name());
        }
        Ok(closed)
    }

    async fn change(
        &self,
        from: &Talk,
        to: Talk,
        say: Option<Say>,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let (id, language) = (to.id, to.language);
        let letter = say.map(|say| self.letter(&from.number, language, Some(id), say, now));
        let turn = Turn {
            text: None,
            talk: Some(TalkTurn::To {
                from: from.stage,
                to: Box::new(to),
                wrong: false,
            }),
            letters: letter.into_iter().collect(),
            choice: None,
            at: now,
        };
        self.take(turn).await
    }

    /// Finds what this phone pays from, or has the rail's account made known here, and caps it.
    pub(super) async fn open_account(
        &self,
        number: &PhoneNumber,
        now: Timestamp,
    ) -> Result<Option<AccountId>, Failure> {
        let account = match self.account(number).await? {
            Some(account) => account,
            None if self.config.rail == LEDGER => return Ok(None),
            None => self.bring_account(number, now).await?,
        };
        let caps = AccountCaps {
            rail: account.rail,
            reference: account.reference,
            payment_max: self.config.payment_max,
            month_max: self.config.month_max,
        };
        self.app.store.cap_account(caps, now).await?;
        Ok(Some(account.id))
    }

    /// What this phone pays from: its own account on the carrier's rail, whatever else its owner has.
    async fn account(&self, number: &PhoneNumber) -> Result<Option<ServiceAccount>, Failure> {
        let person = self.shopper(number).person().clone();
        let accounts = self.app.store.service_accounts(person).await?;
        let currency = self.config.payment_max.currency();
        let is_it = |it: &ServiceAccount| {
            let own = it.rail == LEDGER || it.reference == number.expose();
            it.rail == self.config.rail && it.currency == currency && own
        };
        Ok(accounts.into_iter().find(is_it))
    }

    async fn bring_account(
        &self,
        number: &PhoneNumber,
        now: Timestamp,
    ) -> Result<ServiceAccount, Failure> {
        let account = NewServiceAccount {
            id: ids::fresh(now, AccountId::from_parts),
            person: self.shopper(number).person().clone(),
            rail: self.config.rail.clone(),
            reference: number.expose().to_owned(),
            name: format!("Phone bill {number}"),
            currency: self.config.payment_max.currency(),
            at: now,
        };
        Ok(self.app.store.bring_service_account(account).await?)
    }

    /// None: it is not known yet, or it may be different in a moment.
    fn why_not_paid(&self, failure: &Failure) -> Option<Why> {
        let problem = failure.kind();
        Some(match problem.problem_type()? {
            ProblemType::ClaimOver | ProblemType::ClaimUnknown => Why::Late,
            ProblemType::NoAccount => Why::NoAccount,
            ProblemType::FundsShort | ProblemType::RailDeclined => Why::Declined,
            ProblemType::RailSilent => Why::Silent,
            // One payment's cap was looked at before the offer.
            ProblemType::CapReached => Why::OverMonth(self.config.month_max),
            ProblemType::TerminalRefused => Why::OutOfService,
            ProblemType::AmountDiffers | ProblemType::PayeeDiffers => Why::Unavailable,
            // Whatever else refuses the shopper: a lock, a limit of their own.
            _ if is_refusal(problem.status) => Why::Barred,
            _ => return None,
        })
    }

    pub(super) fn count_payment(&self, outcome: &str) {
        let counter = &self.app.metrics.sms_payments;
        counter.with_label_values(&[outcome]).inc();
    }
}

fn receipt_of(answer: &[u8]) -> Result<ReceiptId, Failure> {
    let response: ApprovalResponse =
        serde_json::from_slice(answer).map_err(|_| Failure::from(ProblemType::Internal))?;
    Ok(response.receipt_id)
}
