//! What does an owner thread do with a request, whatever goes wrong?
//!
//! ```text
//!  pop ─▶ stale or abandoned? ─▶ refuse unexecuted
//!      ─▶ attempt ─ lost session ─▶ new session ─┐
//!                 ─ lost device ──▶ restart ─────┴─▶ attempt once more
//!                 ─ panic ────────▶ new session, "bug"
//!      ─▶ tell the breaker ─▶ answer, exactly once
//! ```
//! It knows no PKCS#11: [`Link`] stands for the HSM token.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::{
    HsmError,
    breaker::Breaker,
    clock,
    failure::{Class, Failure},
    queue::Queue,
    reply::Sender,
};

/// One HSM token as its worker sees it.
pub(crate) trait Link {
    type Session;

    /// Works on the session, which is made if there is none.
    fn work(&mut self, task: &mut dyn Task<Self::Session>) -> Result<(), Failure>;
    /// The session is not to be used again.
    fn forget_session(&mut self);
    /// Starts the module again.
    fn restart(&mut self) -> Result<(), Failure>;
    /// Between requests: whatever keeps the module healthy.
    fn maintain(&mut self);
}

/// A request that can be tried more than once and is answered once.
pub(crate) trait Task<S>: Send {
    fn attempt(&mut self, session: &mut S) -> Result<(), Failure>;
    /// Answers with what the last attempt gave, or with an error. Later calls do nothing.
    fn settle(&mut self, outcome: Result<(), HsmError>);
    /// Whether nobody waits for it any more.
    fn abandoned(&self) -> bool;
}

pub(crate) struct Job<S> {
    pub(crate) deadline: Instant,
    pub(crate) task: Box<dyn Task<S>>,
}

/// What the workers of one HSM token share with its callers.
pub(crate) struct Desk<S> {
    pub(crate) queue: Queue<Job<S>>,
    breaker: Mutex<Breaker>,
}

impl<S> Desk<S> {
    pub(crate) fn new(queue_max: usize, workers: usize) -> Self {
        Self {
            queue: Queue::new(queue_max, workers),
            breaker: Mutex::new(Breaker::new()),
        }
    }

    pub(crate) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, outcome: &Result<(), Failure>) {
        let mut breaker = self.breaker();
        match outcome {
            Err(failure) if failure.class.is_our_trouble() => {
                breaker.handle_failure(clock::now(), failure.error.clone());
            }
            _ => breaker.handle_answer(),
        }
    }
}

/// Serves requests until the queue is closed.
pub(crate) fn serve<L: Link>(link: &mut L, desk: &Desk<L::Session>) {
    while let Some((mut job, in_hand)) = desk.queue.pop() {
        let outcome = execute(link, desk, &mut job);
        job.task.settle(outcome);
        drop(in_hand);
        if catch_unwind(AssertUnwindSafe(|| link.maintain())).is_err() {
            tracing::error!("maintaining the HSM module panicked");
        }
    }
}

/// A task with the operation it is made of and the caller that waits for it.
pub(crate) struct Call<T, F> {
    operation: F,
    result: Option<T>,
    reply: Option<Sender<Result<T, HsmError>>>,
}

impl<T, F> Call<T, F> {
    pub(crate) fn new(operation: F, reply: Sender<Result<T, HsmError>>) -> Self {
        Self {
            operation,
            result: None,
            reply: Some(reply),
        }
    }
}

impl<S, T, F> Task<S> for Call<T, F>
where
    T: Send,
    F: FnMut(&mut S) -> Result<T, Failure> + Send,
{
    fn attempt(&mut self, session: &mut S) -> Result<(), Failure> {
        self.result = Some((self.operation)(session)?);
        Ok(())
    }

    fn settle(&mut self, outcome: Result<(), HsmError>) {
        let Some(reply) = self.reply.take() else {
            return;
        };
        let answer = outcome.and_then(|()| {
            self.result.take().ok_or_else(|| HsmError::Bug {
                detail: "a request ended without a result".into(),
            })
        });
        reply.send(answer);
    }

    fn abandoned(&self) -> bool {
        self.reply.as_ref().is_none_or(Sender::abandoned)
    }
}

fn execute<L: Link>(
    link: &mut L,
    desk: &Desk<L::Session>,
    job: &mut Job<L::Session>,
) -> Result<(), HsmError> {
    if is_stale(job) {
        return Err(HsmError::Busy {
            detail: "the deadline passed before the HSM was free".into(),
        });
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| climb(link, job))).unwrap_or_else(|_| {
        link.forget_session();
        Err(Failure::new(Class::Bug, "a request panicked"))
    });
    desk.note(&outcome);
    outcome.map_err(|failure| failure.error)
}

fn climb<L: Link>(link: &mut L, job: &mut Job<L::Session>) -> Result<(), Failure> {
    let Err(failure) = link.work(&mut *job.task) else {
        return Ok(());
    };
    match failure.class {
        Class::LostSession => link.forget_session(),
        Class::LostDevice => link.restart()?,
        _ => return Err(failure),
    }
    if is_stale(job) {
        return Err(failure);
    }
    tracing::warn!(error = %failure.error, "an HSM request is tried once more");
    let again = link.work(&mut *job.task);
    if again
        .as_ref()
        .is_err_and(|failure| failure.class.is_our_trouble())
    {
        link.forget_session();
    }
    again
}

fn is_stale<S>(job: &Job<S>) -> bool {
    job.task.abandoned() || clock::now() >= job.deadline
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::{collections::VecDeque, future::Future, pin::pin, task, time::Duration};

    use super::*;
    use crate::{HealthState, Priority, reply};

    /// Fails with each class of the script in turn, then works; notes what was done to it.
    #[derive(Default)]
    struct Scripted {
        failures: VecDeque<Class>,
        done: Vec<&'static str>,
    }

    impl Link for Scripted {
        type Session = ();

        fn work(&mut self, task: &mut dyn Task<()>) -> Result<(), Failure> {
            self.done.push("work");
            match self.failures.pop_front() {
                Some(class) => Err(Failure::new(class, "scripted")),
                None => task.attempt(&mut ()),
            }
        }

        fn forget_session(&mut self) {
            self.done.push("forget");
        }

        fn restart(&mut self) -> Result<(), Failure> {
            self.done.push("restart");
            Ok(())
        }

        fn maintain(&mut self) {}
    }

    type Answer = Result<u8, HsmError>;

    struct Bench {
        link: Scripted,
        desk: Desk<()>,
    }

    impl Bench {
        fn with(failures: &[Class]) -> Self {
            let link = Scripted {
                failures: failures.iter().copied().collect(),
                ..Scripted::default()
            };
            let desk = Desk::new(8, 1);
            Self { link, desk }
        }

        fn ask(
            &mut self,
            operation: impl FnMut(&mut ()) -> Result<u8, Failure> + Send + 'static,
        ) -> Answer {
            let deadline = clock::now() + Duration::from_secs(60);
            self.ask_until(deadline, operation)
        }

        fn ask_until(
            &mut self,
            deadline: Instant,
            operation: impl FnMut(&mut ()) -> Result<u8, Failure> + Send + 'static,
        ) -> Answer {
            let (sender, receiver) = reply::pair();
            let task = Box::new(Call::new(operation, sender));
            let mut job = Job { deadline, task };
            let outcome = execute(&mut self.link, &self.desk, &mut job);
            job.task.settle(outcome);
            answer(receiver)
        }
    }

    fn answer(receiver: reply::Receiver<Answer>) -> Answer {
        let mut context = task::Context::from_waker(task::Waker::noop());
        match pin!(receiver).poll(&mut context) {
            task::Poll::Ready(Ok(answer)) => answer,
            other => panic!("no answer: {other:?}"),
        }
    }

    #[test]
    fn a_lost_session_is_made_again_and_the_request_tried_once_more() {
        let mut bench = Bench::with(&[Class::LostSession]);
        assert_eq!(bench.ask(|()| Ok(7)), Ok(7));
        assert_eq!(bench.link.done, ["work", "forget", "work"]);
        assert_eq!(bench.desk.breaker().state(), HealthState::Ready);
    }

    #[test]
    fn a_lost_device_is_started_again_and_the_request_tried_once_more() {
        let mut bench = Bench::with(&[Class::LostDevice]);
        assert_eq!(bench.ask(|()| Ok(7)), Ok(7));
        assert_eq!(bench.link.done, ["work", "restart", "work"]);
    }

    #[test]
    fn a_second_failure_is_final_and_leaves_no_session_behind() {
        let mut bench = Bench::with(&[Class::LostDevice, Class::LostSession]);
        assert_eq!(bench.ask(|()| Ok(7)).unwrap_err().outcome(), "session-lost");
        assert_eq!(bench.link.done, ["work", "restart", "work", "forget"]);
        assert_eq!(bench.desk.breaker().state(), HealthState::Degraded);
    }

    #[test]
    fn what_cannot_get_better_is_not_tried_again() {
        for class in [
            Class::Pin,
            Class::NotOurKey,
            Class::CallersFault,
            Class::Bug,
        ] {
            let mut bench = Bench::with(&[class]);
            assert!(bench.ask(|()| Ok(7)).is_err());
            assert_eq!(bench.link.done, ["work"], "{class:?}");
        }
    }

    #[test]
    fn a_callers_fault_does_not_trouble_the_breaker() {
        let mut bench = Bench::with(&[Class::CallersFault; 10]);
        for _ in 0..10 {
            assert!(bench.ask(|()| Ok(7)).is_err());
        }
        assert_eq!(bench.desk.breaker().state(), HealthState::Ready);
    }

    #[test]
    fn a_panicking_request_is_answered_and_the_worker_lives() {
        let mut bench = Bench::with(&[]);
        let error = bench.ask(|()| panic!("on purpose")).unwrap_err();
        assert_eq!(error.outcome(), "bug");
        assert_eq!(bench.ask(|()| Ok(8)), Ok(8));
    }

    #[test]
    fn a_stale_request_is_refused_unexecuted() {
        let mut bench = Bench::with(&[]);
        let answer = bench.ask_until(clock::now(), |()| Ok(7));
        assert_eq!(answer.unwrap_err().outcome(), "busy");
        assert!(bench.link.done.is_empty());
    }

    #[test]
    fn an_abandoned_request_is_not_executed() {
        let mut bench = Bench::with(&[]);
        let (sender, receiver) = reply::pair::<Answer>();
        drop(receiver);
        let mut job = Job {
            deadline: clock::now() + Duration::from_secs(60),
            task: Box::new(Call::new(|_: &mut ()| Ok(7), sender)),
        };
        assert!(execute(&mut bench.link, &bench.desk, &mut job).is_err());
        assert!(bench.link.done.is_empty());
    }

    #[test]
    fn serving_ends_when_the_queue_is_closed() {
        let mut bench = Bench::with(&[]);
        let (sender, receiver) = reply::pair();
        let job = Job {
            deadline: clock::now() + Duration::from_secs(60),
            task: Box::new(Call::new(|_: &mut ()| Ok(7u8), sender)) as Box<dyn Task<()>>,
        };
        bench.desk.queue.push(job, Priority::Payment).ok().unwrap();
        std::thread::scope(|scope| {
            let (link, desk) = (&mut bench.link, &bench.desk);
            let worker = scope.spawn(move || serve(link, desk));
            while desk.queue.len() > 0 {
                std::thread::yield_now();
            }
            desk.queue.close();
            worker.join().unwrap();
        });
        assert_eq!(answer(receiver), Ok(7));
    }
}
