//! How do reads stay out of the writer's way?
//!
//! A few connections of their own, on blocking threads. Each read is one snapshot. A look at a few rows by
//! their keys runs where it is asked for if the database is a file: handing it over costs more than it does, and
//! so does it to wait a moment for another look's end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::store::sql::conn::Conn;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, oneshot};

use crate::store::sqlite::error::{corrupt, unusable};
use crate::store::{Result, StoreError};

/// Most reads that wait for a connection.
pub(super) const READS_WAITING_MAX: usize = 4_096;

/// A read that has not begun by then at a replica is done elsewhere.
const BEGIN_WITHIN: Duration = Duration::from_secs(1);
/// For a read that has begun there: a server that stands still says nothing.
const READ_WITHIN: Duration = Duration::from_secs(15);
/// A look that has not had its turn by then is read as all else is: a disk stands still, or the threads are busy.
const LOOK_WITHIN: Duration = Duration::from_millis(5);

pub(in crate::store) struct Readers {
    pool: Arc<Pool>,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Looks at once where the database is a file; none at a server far away.
    looks: Option<Semaphore>,
    /// Told when one has ended.
    looked: Notify,
    look_within: Duration,
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
        let looks = (looks > 0).then(|| Semaphore::new(looks));
        Self {
            pool: Arc::new(Pool(Mutex::new(connections))),
            permits: Arc::new(Semaphore::new(count)),
            waiting: AtomicUsize::new(0),
            looks,
            looked: Notify::new(),
            look_within: LOOK_WITHIN,
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
        let Some(turn) = self.turn_to_look().await else {
            return self.read(work).await;
        };
        let Ok(_permit) = self.permits.try_acquire() else {
            drop(turn);
            return self.read(work).await;
        };
        let lent = Lent::take(&self.pool);
        let looking = AssertUnwindSafe(|| lent.read(work)?);
        catch_unwind(looking).unwrap_or_else(|_| Err(panicked()))
    }

    /// Looks take a moment, and the thread that ends one goes on with who waits by itself; another thread would have to
    /// be woken, and to wake this one again. None is kept for whoever waits, who may come to run much later.
    async fn turn_to_look(&self) -> Option<Turn<'_>> {
        let looks = self.looks.as_ref()?;
        let turn = || {
            Some(Turn {
                permit: Some(looks.try_acquire().ok()?),
                looked: &self.looked,
            })
        };
        if let Some(turn) = turn() {
            return Some(turn);
        }
        if self.permits.available_permits() == 0 {
            return None;
        }
        let waited = async {
            loop {
                // Of one that ends in between it hears, too.
                let looked = self.looked.notified();
                if let Some(turn) = turn() {
                    return turn;
                }
                looked.await;
            }
        };
        let turn = tokio::time::timeout(self.look_within, waited).await;
        turn.ok()
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

/// A look that may be made.
struct Turn<'a> {
    permit: Option<SemaphorePermit<'a>>,
    looked: &'a Notify,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.looked.notify_one();
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::pin::Pin;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use tokio::runtime::{Builder, Runtime};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::store::sql::conn::NO_PARAMS;
    use crate::store::sql::row::one;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Two threads, so that one look is made at a time, and so many for what is handed over.
    fn runtime(others: usize) -> Runtime {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(2).max_blocking_threads(others);
        builder.enable_time().build().unwrap()
    }

    fn readers(connections: usize, look_within: Duration) -> Arc<Readers> {
        let open = || Conn::Sqlite(rusqlite::Connection::open_in_memory().unwrap());
        Arc::new(Readers {
            look_within,
            ..Readers::new((0..connections).map(|_| open()).collect())
        })
    }

    fn seven(conn: &Conn) -> Result<i64> {
        one(conn, "SELECT 7 AS seven", NO_PARAMS, |row| row.get("seven"))
    }

    /// Begins it, and whether it has to wait.
    fn waits<T>(look: &mut Pin<Box<impl Future<Output = T>>>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        look.as_mut().poll(&mut context).is_pending()
    }

    async fn soon<T>(work: impl Future<Output = T>) -> T {
        tokio::time::timeout(PATIENCE, work).await.expect("never")
    }

    /// A look that has begun and goes on once it is let go.
    async fn standing(readers: &Arc<Readers>) -> (mpsc::Sender<()>, JoinHandle<Result<i64>>) {
        let (let_go, held) = mpsc::channel::<()>();
        let (began, begun) = oneshot::channel();
        let readers = readers.clone();
        let looking = tokio::spawn(async move {
            let look = readers.look(move |conn| {
                began.send(()).unwrap();
                // As long as the disk says nothing.
                let _ = held.recv();
                seven(conn)
            });
            look.await
        });
        soon(begun).await.unwrap();
        (let_go, looking)
    }

    #[test]
    fn who_cannot_look_at_once_looks_next_and_needs_no_other_thread() {
        runtime(1).block_on(async {
            let readers = readers(4, PATIENCE);
            let (let_go, held) = mpsc::channel::<()>();
            // Whatever was handed over would wait behind this.
            let holding = tokio::task::spawn_blocking(move || held.recv());
            let (let_look, first) = standing(&readers).await;
            let mut others: Vec<_> = (0..8).map(|_| Box::pin(readers.look(seven))).collect();
            for other in &mut others {
                assert!(waits(other), "two look at a time");
            }
            drop(let_look);
            for other in others {
                assert_eq!(soon(other).await.unwrap(), 7);
            }
            assert_eq!(soon(first).await.unwrap().unwrap(), 7);
            drop(let_go);
            assert!(soon(holding).await.unwrap().is_err());
        });
    }

    #[test]
    fn a_look_that_stands_still_holds_up_no_other() {
        runtime(1).block_on(async {
            let readers = readers(4, Duration::from_millis(1));
            let (let_look, first) = standing(&readers).await;
            assert_eq!(soon(readers.look(seven)).await.unwrap(), 7);
            drop(let_look);
            assert_eq!(soon(first).await.unwrap().unwrap(), 7);
        });
    }

    #[test]
    fn who_finds_no_connection_waits_for_one_and_for_no_turn() {
        runtime(4).block_on(async {
            let readers = readers(1, PATIENCE);
            let (let_go, held) = mpsc::channel::<()>();
            let (began, begun) = oneshot::channel();
            let reading = readers.clone();
            let reading = tokio::spawn(async move {
                let read = reading.read(move |conn| {
                    began.send(()).unwrap();
                    let _ = held.recv();
                    seven(conn)
                });
                read.await
            });
            soon(begun).await.unwrap();
            let mut looks: Vec<_> = (0..3).map(|_| Box::pin(readers.look(seven))).collect();
            for look in &mut looks {
                assert!(waits(look));
            }
            assert_eq!(readers.waiting.load(Ordering::Relaxed), 3);
            drop(let_go);
            for look in looks {
                assert_eq!(soon(look).await.unwrap(), 7);
            }
            assert_eq!(soon(reading).await.unwrap().unwrap(), 7);
        });
    }
}
