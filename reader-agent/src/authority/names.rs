//! Which addresses does the authority's name have at this moment?
//!
//! The system is asked anew for every connection, so a name that moves is followed. The system's question
//! cannot be taken back, and may take a minute where no name server answers: it gets a thread of its own, and
//! only so many may hang in it.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::{Semaphore, oneshot};

/// How long a name server may take.
pub(crate) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(4);
/// Most questions that may hang at once.
pub(crate) const LOOKUPS_MAX: usize = 4;

type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Asks for names; a clone shares the limit.
#[derive(Clone)]
pub(crate) struct Names {
    lookup: Arc<Lookup>,
    room: Arc<Semaphore>,
}

impl Names {
    /// As the system resolves them.
    pub(crate) fn of_system() -> Self {
        Self::by(|name| Ok((name, 0).to_socket_addrs()?.collect()))
    }

    pub(crate) fn by(
        lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            lookup: Arc::new(lookup),
            room: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        }
    }

    async fn look_up(self, name: String) -> io::Result<Vec<SocketAddr>> {
        let silent = || io::Error::new(io::ErrorKind::TimedOut, "no name server answers");
        let room = self.room.try_acquire_owned().map_err(|_| silent())?;
        let (done, answer) = oneshot::channel();
        let lookup = self.lookup;
        std::thread::Builder::new()
            .name("name-lookup".into())
            .spawn(move || {
                // Nobody waits for it any more if it is late.
                let _ = done.send(lookup(&name));
                drop(room);
            })?;
        match tokio::time::timeout(LOOKUP_TIMEOUT, answer).await {
            Ok(Ok(found)) => found,
            _ => Err(silent()),
        }
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let looking = self.clone().look_up(name.as_str().to_owned());
        Box::pin(async move {
            let found = looking.await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_name_server_that_never_answers_holds_a_bounded_number_of_threads() {
        let hanging = Arc::new(AtomicUsize::new(0));
        let (release, released) = mpsc::channel::<()>();
        let (count, released) = (hanging.clone(), Mutex::new(released));
        let names = Names::by(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = released.lock().unwrap().recv();
            count.fetch_sub(1, Ordering::SeqCst);
            Ok(Vec::new())
        });
        let asked = (0..3 * LOOKUPS_MAX).map(|_| names.clone().look_up("pay.example".into()));
        for answer in futures_util::future::join_all(asked).await {
            assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        assert!(hanging.load(Ordering::SeqCst) <= LOOKUPS_MAX);
        // One that returns after all makes room for the next.
        for _ in 0..LOOKUPS_MAX + 1 {
            release.send(()).unwrap();
        }
        let answer = async { while names.clone().look_up("pay.example".into()).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(60), answer)
            .await
            .unwrap();
    }
}
