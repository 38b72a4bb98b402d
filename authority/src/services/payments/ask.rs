//! What is a rail asked next about an intent, and what does its answer mean?
//!
//! | state | first | again | after too long |
//! |---|---|---|---|
//! | authorising | authorise | query; authorise if it was never seen | query; take back unless it was taken |
//! | capturing | capture | query; capture if it is still set aside | query; take back unless it was taken |
//! | reversing | reverse | reverse | reverse, and an operator is told |
//!
//! A rail that is not in the configuration answers nothing; what is capturing or reversing there waits for it.
//!
//! What was taken is never taken back for being late: in a restored database an open intent may have been
//! paid, with a receipt, in the time that is lost.

use protocol::time::Timestamp;

use super::{OVERDUE_MS, Payments, again_at};
use crate::clock::Stopwatch;
use crate::services::Failure;
use crate::services::rails::{Answer, Order, Rail, Reason, Standing};
use crate::store::{Intent, IntentState, IntentStep};

impl Payments {
    /// Asks the rail of an open intent; answers the step that follows from what it said.
    pub(super) async fn ask(&self, intent: &Intent) -> Result<IntentStep, Failure> {
        let now = self.app.clock.now();
        let Some(rail) = self.rails.get(&intent.rail) else {
            return Ok(not_there(intent, intent.is_in_doubt(self.since, now), now));
        };
        let order = Order::of(intent);
        let asking = Stopwatch::start();
        let step = match intent.state {
            _ if intent.is_in_doubt(self.since, now) => {
                Ok(self.last_word(&*rail, intent, &order).await?)
            }
            IntentState::Authorising => authorise(&*rail, intent, &order).await,
            IntentState::Capturing => self.capture(&*rail, intent, &order).await?,
            _ => reverse(&*rail, &order).await,
        };
        self.observe(intent, &step, asking);
        Ok(step.unwrap_or_else(|why| unanswered(intent, &why, self.app.clock.now())))
    }

    async fn capture(
        &self,
        rail: &dyn Rail,
        intent: &Intent,
        order: &Order,
    ) -> Result<Said, Failure> {
        let reference = match taken(rail, intent, order).await {
            Ok(Ok(reference)) => reference,
            Ok(Err(step)) => return Ok(Ok(step)),
            Err(why) => return Ok(Err(why)),
        };
        let moved = self.moved(&intent.approved, self.app.clock.now()).await?;
        Ok(Ok(IntentStep::Captured { reference, moved }))
    }

    /// Nobody waits any longer: it is paid if the money was taken, and taken back if not.
    async fn last_word(
        &self,
        rail: &dyn Rail,
        intent: &Intent,
        order: &Order,
    ) -> Result<IntentStep, Failure> {
        Ok(match (rail.query(order).await, intent.state) {
            (Standing::Captured { reference }, IntentState::Capturing) => {
                let moved = self.moved(&intent.approved, self.app.clock.now()).await?;
                IntentStep::Captured { reference, moved }
            }
            (Standing::Captured { reference }, _) => IntentStep::Authorised { reference },
            (Standing::Declined { reason }, IntentState::Authorising) => {
                IntentStep::Declined { reason }
            }
            _ => turned_back(Reason::Silent),
        })
    }

    fn observe(&self, intent: &Intent, step: &Said, asking: Stopwatch) {
        let outcome = match step {
            Ok(IntentStep::Declined { .. }) => "declined",
            Ok(IntentStep::TurnedBack { .. }) => "taken-back",
            Ok(_) => "done",
            Err(_) => "unanswered",
        };
        let labels = [intent.rail.as_str(), intent.state.name(), outcome];
        let metrics = &self.app.metrics;
        metrics.rail_calls.with_label_values(&labels).inc();
        let rail = [intent.rail.as_str()];
        let seconds = metrics.rail_seconds.with_label_values(&rail);
        seconds.observe(asking.seconds());
    }
}

/// A step, or why there is none yet.
type Said = Result<IntentStep, String>;

async fn authorise(rail: &dyn Rail, intent: &Intent, order: &Order) -> Said {
    if intent.tries > 0 {
        match rail.query(order).await {
            Standing::Unseen => {}
            // Captured, though nobody asked for that: asking for it now is what makes it right.
            Standing::Authorised { reference } | Standing::Captured { reference } => {
                return Ok(IntentStep::Authorised { reference });
            }
            Standing::Declined { reason } => return Ok(IntentStep::Declined { reason }),
            Standing::Reversed => return Ok(turned_back(Reason::Refused)),
            Standing::Unknown { why } => return Err(why),
        }
    }
    match rail.authorise(order).await {
        Answer::Done { reference } => Ok(IntentStep::Authorised { reference }),
        Answer::Declined { reason } => Ok(IntentStep::Declined { reason }),
        Answer::Unknown { why } => Err(why),
    }
}

/// The reference of what was taken, or the step that follows from a refusal.
async fn taken(
    rail: &dyn Rail,
    intent: &Intent,
    order: &Order,
) -> Result<Result<String, IntentStep>, String> {
    if intent.tries > 0 {
        match rail.query(order).await {
            Standing::Authorised { .. } => {}
            Standing::Captured { reference } => return Ok(Ok(reference)),
            Standing::Declined { reason } => return Ok(Err(IntentStep::Declined { reason })),
            // It has lost what it had agreed to.
            Standing::Unseen | Standing::Reversed => return Ok(Err(turned_back(Reason::Refused))),
            Standing::Unknown { why } => return Err(why),
        }
    }
    match rail.capture(order).await {
        Answer::Done { reference } => Ok(Ok(reference)),
        Answer::Declined { reason } => Ok(Err(IntentStep::Declined { reason })),
        Answer::Unknown { why } => Err(why),
    }
}

async fn reverse(rail: &dyn Rail, order: &Order) -> Said {
    match rail.reverse(order).await {
        Answer::Done { .. } => Ok(IntentStep::Reversed),
        // It may not, so it counts as no answer.
        Answer::Declined { reason } => Err(format!("the rail declines to reverse ({reason})")),
        Answer::Unknown { why } => Err(why),
    }
}

fn turned_back(reason: Reason) -> IntentStep {
    IntentStep::TurnedBack { reason }
}

/// The configuration has no such rail. It may have been asked all the same, before this start: so nothing
/// is certain, and what was not being taken yet is taken back once the rail is there again.
fn not_there(intent: &Intent, in_doubt: bool, now: Timestamp) -> IntentStep {
    if intent.state == IntentState::Authorising && in_doubt {
        return turned_back(Reason::Silent);
    }
    IntentStep::Unanswered {
        next_at: again_at(intent, now),
    }
}

fn unanswered(intent: &Intent, why: &str, now: Timestamp) -> IntentStep {
    let (payment, rail, state) = (intent.payment, &intent.rail, intent.state);
    if now - intent.started_at >= OVERDUE_MS {
        tracing::error!(%payment, rail, %state, tries = intent.tries, why,
            "an intent is open for too long: ask whoever runs the rail");
    } else {
        tracing::warn!(%payment, rail, %state, tries = intent.tries, why, "a rail did not answer");
    }
    IntentStep::Unanswered {
        next_at: again_at(intent, now),
    }
}
