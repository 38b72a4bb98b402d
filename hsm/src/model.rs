//! Can the hand-over lose a wake-up, answer twice, or not at all?
//!
//! Loom runs every interleaving of these small worlds, up to [`PREEMPTIONS_MAX`] forced switches. A
//! lost wake-up shows as a deadlock, a second answer as a count.

use loom::{
    future::block_on,
    model::Builder,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{
    Priority,
    queue::{Queue, Refused},
    reply::{Gone, Receiver, Sender, pair},
};

/// Forced thread switches per run. Two find the lost wake-ups that were planted to try it (a push
/// that notifies nobody, a waker registered after the lock was let go); three take minutes.
const PREEMPTIONS_MAX: usize = 2;

type Requests = Queue<(u8, Sender<u8>)>;

#[test]
fn every_request_is_executed_once_and_answered() {
    explore(|| {
        let world = World::new(4, 1);
        let worker = world.worker();
        let renewal = world.caller(2, Priority::Renewal);
        assert_eq!(world.ask(1, Priority::Payment), Ok(Ok(1)));
        assert_eq!(renewal.join().unwrap(), Ok(Ok(2)));
        drop(world.queue.close());
        worker.join().unwrap();
        assert_eq!(world.executed.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn two_workers_share_the_requests_and_neither_sleeps_through_one() {
    explore(|| {
        let world = World::new(4, 2);
        let workers = [world.worker(), world.worker()];
        let renewal = world.push(2, Priority::Renewal).unwrap();
        let payment = world.push(1, Priority::Payment).unwrap();
        assert_eq!(block_on(payment), Ok(1));
        assert_eq!(block_on(renewal), Ok(2));
        drop(world.queue.close());
        for worker in workers {
            worker.join().unwrap();
        }
        assert_eq!(world.executed.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn renewals_never_have_both_workers_and_all_of_them_are_served() {
    explore(|| {
        let world = World::new(4, 2);
        let workers = [world.worker(), world.worker()];
        let renewals = [2, 3].map(|n| world.push(n, Priority::Renewal).unwrap());
        for (n, renewal) in [2, 3].into_iter().zip(renewals) {
            assert_eq!(block_on(renewal), Ok(n));
        }
        drop(world.queue.close());
        for worker in workers {
            worker.join().unwrap();
        }
        assert_eq!(world.together_max.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn closing_leaves_no_caller_waiting_and_no_worker_asleep() {
    explore(|| {
        let world = World::new(4, 1);
        let worker = world.worker();
        let caller = world.caller(1, Priority::Renewal);
        drop(world.queue.close());
        let answer = caller.join().unwrap();
        worker.join().unwrap();
        let executed = world.executed.load(Ordering::SeqCst);
        match answer {
            Ok(Ok(1)) => assert_eq!(executed, 1),
            Ok(Err(Gone)) | Err(Refused::Closed) => assert_eq!(executed, 0),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_caller_that_gives_up_disturbs_nobody() {
    explore(|| {
        let world = World::new(4, 1);
        let worker = world.worker();
        poll_once_and_drop(world.push(1, Priority::Payment).unwrap());
        assert_eq!(world.ask(2, Priority::Renewal), Ok(Ok(2)));
        drop(world.queue.close());
        worker.join().unwrap();
        assert_eq!(world.executed.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_full_queue_refuses_at_once_and_the_others_are_answered() {
    explore(|| {
        let world = World::new(1, 1);
        let worker = world.worker();
        let other = world.caller(1, Priority::Payment);
        let mine = world.ask(2, Priority::Payment);
        let other = other.join().unwrap();
        drop(world.queue.close());
        worker.join().unwrap();
        let answers = [(1, other), (2, mine)];
        let answered = answers.iter().filter(|(n, it)| *it == Ok(Ok(*n))).count();
        let refused = answers.iter().filter(|(_, it)| *it == Err(Refused::Full));
        assert_eq!(answered + refused.count(), 2);
        assert_eq!(world.executed.load(Ordering::SeqCst), answered);
    });
}

#[test]
fn a_worker_that_dies_with_a_request_tells_its_caller() {
    explore(|| {
        let world = World::new(4, 1);
        let queue = world.queue.clone();
        let dying = thread::spawn(move || drop(queue.pop()));
        assert_eq!(world.ask(1, Priority::Payment), Ok(Err(Gone)));
        dying.join().unwrap();
    });
}

type Answer = Result<Result<u8, Gone>, Refused>;

#[derive(Clone)]
struct World {
    queue: Arc<Requests>,
    executed: Arc<AtomicUsize>,
    /// In the hands of workers now, and at most so far.
    together: Arc<AtomicUsize>,
    together_max: Arc<AtomicUsize>,
}

impl World {
    fn new(queue_max: usize, workers: usize) -> Self {
        Self {
            queue: Arc::new(Queue::new(queue_max, workers)),
            executed: Arc::new(AtomicUsize::new(0)),
            together: Arc::new(AtomicUsize::new(0)),
            together_max: Arc::new(AtomicUsize::new(0)),
        }
    }

    fn worker(&self) -> thread::JoinHandle<()> {
        let world = self.clone();
        thread::spawn(move || {
            while let Some(((n, sender), _in_hand)) = world.queue.pop() {
                let together = world.together.fetch_add(1, Ordering::SeqCst) + 1;
                world.together_max.fetch_max(together, Ordering::SeqCst);
                world.executed.fetch_add(1, Ordering::SeqCst);
                sender.send(n);
                world.together.fetch_sub(1, Ordering::SeqCst);
            }
        })
    }

    fn caller(&self, n: u8, priority: Priority) -> thread::JoinHandle<Answer> {
        let world = self.clone();
        thread::spawn(move || world.ask(n, priority))
    }

    fn ask(&self, n: u8, priority: Priority) -> Answer {
        self.push(n, priority).map(block_on)
    }

    fn push(&self, n: u8, priority: Priority) -> Result<Receiver<u8>, Refused> {
        let (sender, receiver) = pair();
        self.queue.push((n, sender), priority)?;
        Ok(receiver)
    }
}

fn poll_once_and_drop(mut receiver: Receiver<u8>) {
    use std::{future::Future, pin::Pin, task};
    let mut context = task::Context::from_waker(task::Waker::noop());
    let _ = Pin::new(&mut receiver).poll(&mut context);
}

pub(crate) fn explore(world: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(world);
}
