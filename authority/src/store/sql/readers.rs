//! How do reads stay out of the writer's way?
//!
//! A few connections of their own, on blocking threads. Each read is one snapshot. A look at a few rows by
//! their keys runs where it is asked for if the database is a file: handing it over costs more than it does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::store::sql::conn::Conn;
use tokio::sync::{Semaphore, oneshot};

use crate::store::sqlite::error::{corrupt, unusable};
use crate::store::{Result, StoreError};

/// Most reads that wait for a connection.
pub(super) const READS_WAITING_MAX: usize = 4_096;

/// A read that has not begun by then at a replica is done elsewhere.
const BEGIN_WITHIN: Duration = Duration::from_secs(1);
/// For a read that has begun there: a server that stands still says nothing.
const READ_WITHIN: Duration = Duration::from_secs(15);

pub(in crate::store) struct Readers {
    pool: Arc<Pool>,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Looks at once where the database is a file; none at a server far away.
    looks: Semaphore,
}

struct Pool(Mutex<Vec<Conn>>);

/// A read that keeps its own answer. One type for all reads: the blocking pool's code is compiled once, not
/// once for each.
type Work = Box<dyn FnOnce(&Conn) + Send>;

impl Readers {
    pub(in crate::store) fn new(connections: Vec<Conn>) -> Self {
        let count = connections.len();
        let beside = connections.iter().all(|it| matches!(it, Conn::Sqlite(_)));
        let looks = if beside { looks_max().min(count) } else { 0 };
        Self {
            pool: Arc::new(Pool(Mutex::new(connections))),
            permits: Arc::new(Semaphore::new(count)),
            waiting: AtomicUsize::new(0),
            looks: Semaphore::new(looks),
        }
    }

    pub(super) async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Conn) -> Result<T> + Send + 'static,
    {
        let (answer, mut answered) = oneshot::channel();
        self.lend(Box::new(move |conn| {
            // Nobody waits for it any more: then nobody misses it.
            let _ = answer.send(work(conn));
        }))
        .await?;
        answered
            .try_recv()
            .unwrap_or_else(|_| Err(corrupt("a read did not answer")))
    }

    /// The same for what finds a few rows by their keys.
    pub(super) async fn look<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Conn) -> Result<T> + Send + 'static,
    {
        let (Ok(_look), Ok(_permit)) = (self.looks.try_acquire(), self.permits.try_acquire())
        else {
            return self.read(work).await;
        };
        let lent = Lent::take(&self.pool);
        let looking = AssertUnwindSafe(|| lent.read(work)?);
        catch_unwind(looking).unwrap_or_else(|_| Err(panicked()))
    }

    /// A read at a server that may be gone.
    pub(super) async fn read_soon<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Conn) -> Result<T> + Send + 'static,
    {
        let (begins, begun) = oneshot::channel();
        let mut read = pin!(self.read(move |conn| match begins.send(()) {
            Ok(()) => work(conn),
            Err(()) => Err(unusable("nobody waits for it any more")),
        }));
        tokio::select! {
            biased;
            read = read.as_mut() => return read,
            began = tokio::time::timeout(BEGIN_WITHIN, begun) => {
                began.map_err(|_| unusable("a replica does not answer"))?.ok()
            }
        };
        let read = tokio::time::timeout(READ_WITHIN, read).await;
        read.unwrap_or_else(|_| Err(unusable("a replica stands still")))
    }

    async fn lend(&self, work: Work) -> Result<()> {
        let permit = {
            let _place = Place::take(&self.waiting)?;
            let permits = Arc::clone(&self.permits);
            permits.acquire_owned().await
        }
        .map_err(|_| unusable("its readers have stopped"))?;
        let pool = Arc::clone(&self.pool);
        let reading = tokio::task::spawn_blocking(move || {
            let lent = Lent::take(&pool);
            let result = lent.read(work);
            drop(lent);
            drop(permit);
            result
        });
        reading.await.unwrap_or_else(|_| Err(panicked()))
    }
}

/// A disk that stands still holds up all but one of the runtime's threads.
fn looks_max() -> usize {
    tokio::runtime::Handle::try_current().map_or(0, |it| it.metrics().num_workers() - 1)
}

fn panicked() -> StoreError {
    corrupt("a read panicked")
}

/// A place in the line of those who wait.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self> {
        let place = Self(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) < READS_WAITING_MAX {
            Ok(place)
        } else {
            Err(StoreError::Busy)
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that goes back to the pool, also when a read panics.
struct Lent<'a> {
    pool: &'a Pool,
    conn: Option<Conn>,
}

impl<'a> Lent<'a> {
    fn take(pool: &'a Pool) -> Self {
        let conn = pool.lock().pop();
        Self { pool, conn }
    }

    fn read<T>(&self, work: impl FnOnce(&Conn) -> T) -> Result<T> {
        let conn = self
            .conn
            .as_ref()
            .ok_or_else(|| corrupt("more readers than connections"))?;
        conn.snapshot(work)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.pool.lock().extend(self.conn.take());
    }
}

impl Pool {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Conn>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
