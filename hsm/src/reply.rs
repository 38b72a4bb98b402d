//! How does one answer get from a worker thread to one async caller?
//!
//! By a slot of its own, which needs no particular async runtime: the sender answers at most once
//! because answering consumes it, and a sender that is dropped says so instead of leaving the
//! caller to wait.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use crate::sync::{Arc, Mutex, lock};

/// The worker's end.
pub(crate) struct Sender<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

/// The caller's end.
pub(crate) struct Receiver<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

/// The sender went away without an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

pub(crate) fn pair<T>() -> (Sender<T>, Receiver<T>) {
    let slot = Arc::new(Mutex::new(Slot {
        state: State::Waiting(None),
        abandoned: false,
    }));
    (Sender { slot: slot.clone() }, Receiver { slot })
}

impl<T> Sender<T> {
    pub(crate) fn send(self, value: T) {
        self.finish(State::Answered(value));
    }

    /// Whether nobody waits any more.
    pub(crate) fn abandoned(&self) -> bool {
        lock(&self.slot).abandoned
    }

    fn finish(&self, with: State<T>) {
        let mut slot = lock(&self.slot);
        let State::Waiting(waker) = &mut slot.state else {
            return;
        };
        let waker = waker.take();
        slot.state = with;
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.finish(State::Gone);
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, Gone>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = lock(&self.slot);
        match std::mem::replace(&mut slot.state, State::Gone) {
            State::Answered(value) => Poll::Ready(Ok(value)),
            State::Gone => Poll::Ready(Err(Gone)),
            State::Waiting(_) => {
                slot.state = State::Waiting(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        lock(&self.slot).abandoned = true;
    }
}

struct Slot<T> {
    state: State<T>,
    abandoned: bool,
}

enum State<T> {
    Waiting(Option<Waker>),
    Answered(T),
    Gone,
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    fn poll<T>(receiver: &mut Receiver<T>) -> Poll<Result<T, Gone>> {
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(receiver).poll(&mut context)
    }

    #[test]
    fn an_answer_arrives_once() {
        let (sender, mut receiver) = pair();
        assert!(poll(&mut receiver).is_pending());
        sender.send(7);
        assert_eq!(poll(&mut receiver), Poll::Ready(Ok(7)));
        assert_eq!(poll(&mut receiver), Poll::Ready(Err(Gone)));
    }

    #[test]
    fn a_dropped_sender_is_told_to_the_caller() {
        let (sender, mut receiver) = pair::<u8>();
        drop(sender);
        assert_eq!(poll(&mut receiver), Poll::Ready(Err(Gone)));
    }

    #[test]
    fn a_dropped_caller_is_told_to_the_sender() {
        let (sender, receiver) = pair::<u8>();
        assert!(!sender.abandoned());
        drop(receiver);
        assert!(sender.abandoned());
    }
}
