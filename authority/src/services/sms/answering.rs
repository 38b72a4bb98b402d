//! What follows from a text?

use std::collections::HashMap;

use protocol::charge::HOLD_SIGNED_IN_MS;
use protocol::ids::ClaimId;
use protocol::money::Money;
use protocol::problem::ProblemType;
use protocol::time::Timestamp;
use protocol::wire::claims::ClaimState;

use super::{BATCH, PHONES_AT_ONCE, Sms, for_all, is_refusal};
use crate::ids;
use crate::services::Failure;
use crate::services::phone::PhoneCookie;
use crate::sms::amount::BadAmount;
use crate::sms::one_time::OneTime;
use crate::sms::talk::{
    self, Next, TEXT_GIVEN_UP_MS, TEXT_LIFE_MS, WRONG_IN_SPAN_MAX, WRONG_SPAN_MS,
};
use crate::sms::text::{self, Code, Heard};
use crate::sms::{Language, PhoneNumber, Say, Stage, Talk, TalkId, TypedAmount, Why};
use crate::store::sms::TEXTS_KEPT_MS;
use crate::store::{Choice, ClaimRecord, StoredText, TalkTurn, TextId, Turn};

/// A text in hand.
struct Asked<'a> {
    id: &'a TextId,
    number: &'a PhoneNumber,
    language: Language,
    now: Timestamp,
}

impl Sms {
    /// Answers what waits, one text of a phone after the other; answers how many.
    pub(super) async fn answer_texts(&self, now: Timestamp) -> Result<usize, Failure> {
        let since = now - WRONG_SPAN_MS;
        let waiting = self.app.store.texts_waiting(since, BATCH).await?;
        let mut phones: HashMap<String, Vec<StoredText>> = HashMap::new();
        for stored in waiting {
            let number = stored.text.number.expose().to_owned();
            phones.entry(number).or_default().push(stored);
        }
        let phones = phones.into_values().collect();
        let of_phone = |texts: Vec<StoredText>| async move {
            for stored in &texts {
                self.answer(stored, now).await?;
            }
            Ok(())
        };
        let answered = for_all(phones, PHONES_AT_ONCE, "answer a text", of_phone).await;
        self.app
            .store
            .forget_texts(now - TEXTS_KEPT_MS, BATCH)
            .await?;
        Ok(answered)
    }

    async fn answer(&self, stored: &StoredText, now: Timestamp) -> Result<(), Failure> {
        let text = &stored.text;
        let talk = self.app.store.talk_of(text.number.clone()).await?;
        let number = match &talk {
            Some(talk) => self.number_of(talk).await?,
            None => None,
        };
        let asked = Asked {
            id: &text.id,
            number: &text.number,
            language: stored.language.unwrap_or(self.config.language),
            now,
        };
        let is_right = |_: &Talk, reply: &_| number.is_some_and(|number| number.matches(reply));
        let heard = text::read(&text.text);
        let print = match &heard {
            Heard::Pay { code, .. } => Some(self.secret.print(&text.number, &code.0.shown())),
            _ => None,
        };
        let next = talk::next(talk.as_ref(), &heard, print, now, is_right);
        match next {
            _ if now - text.at > TEXT_GIVEN_UP_MS => {
                self.say(&asked, Say::NotPaid(Why::Unavailable), None).await
            }
            Next::Begin { .. } | Next::GoOn { .. } if now - text.at > TEXT_LIFE_MS => {
                self.end_or_say(&asked, talk, Why::Unavailable).await
            }
            Next::Begin { .. } if stored.wrong >= WRONG_IN_SPAN_MAX => {
                self.say(&asked, Say::NotPaid(Why::Locked), None).await
            }
            Next::Begin { code, amount } => {
                let print = print.unwrap_or_default();
                self.begin(&asked, talk, code, amount, print).await
            }
            next => self.follow(&asked, talk, next).await,
        }
    }

    async fn follow(
        &self,
        asked: &Asked<'_>,
        talk: Option<Talk>,
        next: Next,
    ) -> Result<(), Failure> {
        match (next, talk) {
            (Next::GoOn { code }, Some(talk)) => self.go_on(asked, talk, code).await,
            (Next::Amount(amount), Some(talk)) => {
                let typed = Some(amount);
                self.propose_again(asked, Talk { typed, ..talk }).await
            }
            (Next::Approve, Some(talk)) => self.approve(asked, talk).await,
            (Next::Wrong { left }, Some(talk)) => self.count_wrong(asked, talk, left).await,
            (Next::End(say), Some(talk)) => self.end(asked, talk, say).await,
            (Next::Answer(say), _) => self.say(asked, say, None).await,
            (Next::Speak(language), _) => {
                let asked = Asked { language, ..*asked };
                self.say(&asked, Say::Help, Some(Choice::Language(language)))
                    .await
            }
            (Next::Forget, Some(talk)) => self.end(asked, talk, Say::Stopped).await,
            (Next::Forget, None) => self.say(asked, Say::Stopped, Some(Choice::Forget)).await,
            (Next::Nothing, _) => self.turn(asked, None, Vec::new(), None).await.map(drop),
            // What needs a talk is only decided where there is one.
            (Next::Begin { .. } | Next::GoOn { .. } | Next::Amount(_), _)
            | (Next::Approve | Next::Wrong { .. } | Next::End(_), None) => {
                self.say(asked, Say::NothingOpen, None).await
            }
        }
    }

    /// Chooses the claim first, so that it is found again after a crash, and lets the earlier one go.
    async fn begin(
        &self,
        asked: &Asked<'_>,
        earlier: Option<Talk>,
        code: Code,
        typed: Option<TypedAmount>,
        print: [u8; 32],
    ) -> Result<(), Failure> {
        let now = asked.now;
        let talk = Talk {
            id: ids::fresh(now, TalkId::from_parts),
            number: asked.number.clone(),
            language: asked.language,
            claim: ids::fresh(now, ClaimId::from_parts),
            print,
            typed,
            stage: Stage::Claiming,
            offered: None,
            wrong: 0,
            told: false,
            until: now + TEXT_LIFE_MS,
        };
        let turn = Turn {
            text: None,
            talk: Some(TalkTurn::Begin {
                talk: Box::new(talk.clone()),
                ends: earlier.as_ref().map(|talk| talk.id),
            }),
            letters: Vec::new(),
            choice: None,
            at: now,
        };
        if !self.app.store.take_turn(turn).await? {
            return Err(ProblemType::Busy.into());
        }
        if let Some(earlier) = earlier {
            self.claims.release(earlier.claim, now).await?;
        }
        self.go_on(asked, talk, code).await
    }

    /// From wherever a crash, or a shopper who heard nothing, left it.
    async fn go_on(&self, asked: &Asked<'_>, talk: Talk, code: Code) -> Result<(), Failure> {
        let made = self.app.store.claim_record(talk.claim).await?;
        if made.is_none() {
            let cookie = PhoneCookie::of(talk.claim, self.secret.phone(&talk));
            let shopper = self.shopper(&talk.number);
            let shown = code.0.shown();
            let claiming = self
                .claims
                .claim_as(cookie, &shown, Some(&shopper), asked.now);
            if let Err(failure) = claiming.await {
                let why = why_not_claimed(&failure).ok_or(failure)?;
                return self.end(asked, talk, Say::NotPaid(why)).await;
            }
        }
        self.propose_again(asked, talk).await
    }

    /// Says what is to be paid, if the claim still holds it.
    async fn propose_again(&self, asked: &Asked<'_>, talk: Talk) -> Result<(), Failure> {
        let record = self.app.store.claim_record(talk.claim).await?;
        let is_held =
            |it: &ClaimRecord| it.state == ClaimState::Held && asked.now < it.claimed.held_until;
        let Some(record) = record.filter(is_held) else {
            return self.end(asked, talk, Say::NotPaid(Why::Late)).await;
        };
        match self.amount_of(&talk, &record) {
            Ok(Some(amount)) => match self.open_account(&talk.number, asked.now).await? {
                Some(_) => self.offer(asked, talk, &record, amount).await,
                None => self.end(asked, talk, Say::NotPaid(Why::NoAccount)).await,
            },
            Ok(None) => self.ask_how_much(asked, talk, &record).await,
            Err(why) => self.end(asked, talk, Say::NotPaid(why)).await,
        }
    }

    /// What is asked for; what the shopper wrote has to be the same. None: the shopper has to say.
    fn amount_of(&self, talk: &Talk, record: &ClaimRecord) -> Result<Option<Money>, Why> {
        let claimed = &record.claimed;
        let most = self.config.payment_max;
        let currency = claimed.asked.or(claimed.cap).map(Money::currency);
        if currency != Some(most.currency()) {
            return Err(Why::Currency);
        }
        let typed = talk
            .typed
            .map(|typed| typed.money(most.currency()))
            .transpose();
        let amount = match (claimed.asked, typed) {
            (Some(asked), Ok(Some(typed))) if typed != asked => Err(Why::AmountDiffers(asked)),
            (Some(asked), Err(_)) => Err(Why::AmountDiffers(asked)),
            (Some(asked), Ok(_)) => Ok(Some(asked)),
            (None, Ok(typed)) => Ok(typed),
            (None, Err(BadAmount::Currency)) => Err(Why::Currency),
            (None, Err(BadAmount::Decimals | BadAmount::Size)) => Err(Why::AmountUnclear),
        }?;
        match (amount, claimed.cap) {
            (Some(amount), _) if amount.amount_minor() > most.amount_minor() => {
                Err(Why::OverPayment(most))
            }
            (Some(amount), Some(cap)) if amount.amount_minor() > cap.amount_minor() => {
                Err(Why::OverCap(cap))
            }
            (amount, _) => Ok(amount),
        }
    }

    async fn ask_how_much(
        &self,
        asked: &Asked<'_>,
        talk: Talk,
        record: &ClaimRecord,
    ) -> Result<(), Failure> {
        let most = self.config.payment_max;
        let cap = record.claimed.cap.unwrap_or(most);
        let say = Say::HowMuch {
            payee: record.payee_name.clone(),
            cap: if cap.amount_minor() < most.amount_minor() {
                cap
            } else {
                most
            },
        };
        let to = Talk {
            stage: Stage::WantsAmount,
            until: record.claimed.held_until,
            ..talk.clone()
        };
        self.step(asked, &talk, to, Some(say), false)
            .await
            .map(drop)
    }

    async fn offer(
        &self,
        asked: &Asked<'_>,
        talk: Talk,
        record: &ClaimRecord,
        amount: Money,
    ) -> Result<(), Failure> {
        let claimed = &record.claimed;
        let left = (claimed.held_until - asked.now).clamp(0, HOLD_SIGNED_IN_MS);
        let say = Say::Offer {
            amount,
            payee: record.payee_name.clone(),
            mark: claimed.mark,
            minutes: u32::try_from(left / 60_000).unwrap_or(0).max(1),
        };
        let to = Talk {
            stage: Stage::Offered,
            offered: Some(amount),
            until: claimed.held_until,
            ..talk.clone()
        };
        self.step(asked, &talk, to, Some(say), false)
            .await
            .map(drop)
    }

    async fn count_wrong(&self, asked: &Asked<'_>, talk: Talk, left: u32) -> Result<(), Failure> {
        let wrong = talk.wrong + 1;
        let to = Talk {
            wrong,
            ..talk.clone()
        };
        let counted = self
            .step(asked, &talk, to, Some(Say::Wrong { left }), true)
            .await;
        counted.map(drop)
    }

    /// The shopper has agreed: that is committed before anything is paid.
    async fn approve(&self, asked: &Asked<'_>, talk: Talk) -> Result<(), Failure> {
        let to = Talk {
            stage: Stage::Approving,
            until: asked.now,
            ..talk.clone()
        };
        if self.step(asked, &talk, to, None, false).await? {
            self.talks.notify_one();
        }
        Ok(())
    }

    async fn end(&self, asked: &Asked<'_>, talk: Talk, say: Say) -> Result<(), Failure> {
        let wrong = say == Say::NotPaid(Why::WrongTooOften);
        let forgotten = say == Say::Stopped;
        let to = Talk {
            stage: Stage::Over,
            wrong: talk.wrong + u32::from(wrong),
            ..talk.clone()
        };
        let letter = self.letter(asked.number, asked.language, Some(talk.id), say, asked.now);
        let change = TalkTurn::To {
            from: talk.stage,
            to: Box::new(to),
            wrong,
        };
        let choice = forgotten.then_some(Choice::Forget);
        if self.turn(asked, Some(change), vec![letter], choice).await? {
            self.count_payment("over");
            self.claims.release(talk.claim, asked.now).await?;
        }
        Ok(())
    }

    async fn end_or_say(
        &self,
        asked: &Asked<'_>,
        talk: Option<Talk>,
        why: Why,
    ) -> Result<(), Failure> {
        match talk {
            Some(talk) => self.end(asked, talk, Say::NotPaid(why)).await,
            None => self.say(asked, Say::NotPaid(why), None).await,
        }
    }

    async fn say(
        &self,
        asked: &Asked<'_>,
        say: Say,
        choice: Option<Choice>,
    ) -> Result<(), Failure> {
        let letter = self.letter(asked.number, asked.language, None, say, asked.now);
        self.turn(asked, None, vec![letter], choice).await.map(drop)
    }

    async fn step(
        &self,
        asked: &Asked<'_>,
        from: &Talk,
        to: Talk,
        say: Option<Say>,
        wrong: bool,
    ) -> Result<bool, Failure> {
        let (id, language) = (to.id, to.language);
        let letter = say.map(|say| self.letter(asked.number, language, Some(id), say, asked.now));
        let change = TalkTurn::To {
            from: from.stage,
            to: Box::new(to),
            wrong,
        };
        self.turn(asked, Some(change), letter.into_iter().collect(), None)
            .await
    }

    /// False: another step came first, and the text is looked at again with what is true then.
    async fn turn(
        &self,
        asked: &Asked<'_>,
        talk: Option<TalkTurn>,
        letters: Vec<crate::store::NewLetter>,
        choice: Option<Choice>,
    ) -> Result<bool, Failure> {
        let turn = Turn {
            text: Some(asked.id.clone()),
            talk,
            letters,
            choice: choice.map(|choice| (asked.number.clone(), choice)),
            at: asked.now,
        };
        self.take(turn).await
    }

    /// The number that approves what this talk has come to.
    pub(super) async fn number_of(&self, talk: &Talk) -> Result<Option<OneTime>, Failure> {
        let (Stage::Offered, Some(amount)) = (talk.stage, talk.offered) else {
            return Ok(None);
        };
        let record = self.app.store.claim_record(talk.claim).await?;
        Ok(record.map(|record| self.secret.number(talk, amount, record.claimed.payee)))
    }
}

/// What the shopper is told; none if it may be different in a moment.
fn why_not_claimed(failure: &Failure) -> Option<Why> {
    let problem = failure.kind();
    Some(match problem.problem_type()? {
        ProblemType::MalformedToken => Why::Slip,
        ProblemType::TokenUnknown | ProblemType::TokenPassed => Why::CodeUnknown,
        ProblemType::TokenSpent => Why::CodeSpent,
        ProblemType::TooManyMisses => Why::Wait,
        ProblemType::NothingToPay => Why::NothingToPay,
        ProblemType::ChargeHeld => Why::SomebodyElse,
        ProblemType::TerminalRefused => Why::OutOfService,
        ProblemType::CodePaused => Why::Unavailable,
        _ if is_refusal(problem.status) => Why::Barred,
        _ => return None,
    })
}
