//! Is what jobs write together written once, in order, and only of those that stand? On both databases.
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc;

use own_postgres::{Cluster, Durability, SUPERUSER};
use protocol::time::Timestamp;
use serde_json::json;

use super::super::audit::Chain;
use super::super::conn::params;
use super::super::control::Touches;
use super::super::row::{all, get};
use super::super::turns::raise_revision;
use super::super::writer::{Stop, Verdict, Writer};
use super::*;
use crate::store::StoreError;
use crate::store::nodes::Lanes;
use crate::store::postgres::{Connect, PgConn, PostgresPlace, migrate};
use crate::store::sqlite::schema::open_writer;

const NOW: Timestamp = Timestamp::from_ms(1_795_459_200_000);
const DATABASE: &str = "postgres";
/// Terminals that there are.
const TERMINALS: u32 = 150;

type Job = Box<dyn Fn(&mut Tx<'_>) -> Verdict<()> + Send>;

/// A writer with one lane, and what it writes to.
struct Place {
    writer: Writer,
    _dir: tempfile::TempDir,
    _cluster: Option<Cluster>,
}

impl Place {
    fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let conn = open_writer(&dir.path().join("m2key.db"), "node-1").unwrap();
        Self::over(Conn::Sqlite(conn), dir, None)
    }

    fn postgres() -> Self {
        let cluster = Cluster::start(Durability::OfProcess);
        let place = PostgresPlace {
            hosts: vec![cluster.socket().display().to_string()],
            database: DATABASE.into(),
            user: SUPERUSER.into(),
            password_file: None,
            root: None,
        };
        migrate(&place).unwrap();
        // The driver waits on a runtime of its own.
        let connecting = std::thread::spawn(move || {
            PgConn::open(Connect::to(&place, "writing").unwrap()).unwrap()
        });
        let conn = Conn::Postgres(Box::new(connecting.join().unwrap()));
        Self::over(conn, tempfile::tempdir().unwrap(), Some(cluster))
    }

    fn over(conn: Conn, dir: tempfile::TempDir, cluster: Option<Cluster>) -> Self {
        let lanes = vec![(conn, Chain::of("node-1".into()))];
        let writer = Writer::start(lanes, None, 512, Default::default(), Lanes::narrow());
        Self {
            writer: writer.unwrap(),
            _dir: dir,
            _cluster: cluster,
        }
    }

    /// All of them in one batch; how each ended.
    async fn batch(&self, jobs: Vec<Job>) -> Vec<Result<()>> {
        let (started, starts) = mpsc::channel();
        let (open, closed) = mpsc::channel::<()>();
        let holds = move |_: &mut Tx<'_>| {
            started.send(()).unwrap();
            let _ = closed.recv();
            Ok(())
        };
        let mut held = Box::pin(self.writer.write(Touches::Everything, holds));
        queue(&mut held).await;
        starts.recv().unwrap();
        let mut writes: Vec<_> = jobs
            .into_iter()
            .map(|job| Box::pin(self.writer.write(Touches::Everything, job)))
            .collect();
        for write in &mut writes {
            queue(write).await;
        }
        drop(open);
        held.await.unwrap();
        let mut ended = Vec::new();
        for write in writes {
            ended.push(write.await);
        }
        ended
    }

    async fn one(&self, job: impl Fn(&mut Tx<'_>) -> Verdict<()> + Send + 'static) {
        assert_eq!(self.batch(vec![Box::new(job)]).await, [Ok(())]);
    }

    async fn with_terminals(self) -> Self {
        self.one(|tx| {
            tx.execute_one(
                "INSERT INTO accounts (id, kind, currency, opened_at_ms) VALUES (?1, 'merchant', 'EUR', 1)",
                [[7_u8; 16]],
            )?;
            tx.execute_one(
                "INSERT INTO merchants (id, name, currency, account, added_at_ms) VALUES (?1, 'm', 'EUR', ?1, 1)",
                [[7_u8; 16]],
            )?;
            for id in 0..TERMINALS {
                tx.execute_one(
                    "INSERT INTO terminals (id, merchant, name, version, sequence, revision, added_at_ms)
                     VALUES (?1, ?2, 't', 1, 0, 0, 1)",
                    params![terminal(id).value(), [7_u8; 16]],
                )?;
            }
            Ok(())
        })
        .await;
        self
    }

    /// The kinds of all rows in their order; each follows the one before.
    async fn kinds(&self) -> Vec<String> {
        let read = |tx: &mut Tx<'_>| -> Verdict<Vec<_>> {
            let sql = "SELECT kind, previous, hash FROM audit_rows ORDER BY sequence";
            Ok(all(tx.conn, sql, params![], |row| {
                Ok((
                    get::<String>(row, "kind")?,
                    get::<[u8; 32]>(row, "previous")?,
                    get::<[u8; 32]>(row, "hash")?,
                ))
            })?)
        };
        let rows = self.writer.write(Touches::Everything, read).await.unwrap();
        for pair in rows.windows(2) {
            assert_eq!(pair[1].1, pair[0].2, "{} follows {}", pair[1].0, pair[0].0);
        }
        rows.into_iter().map(|(kind, ..)| kind).collect()
    }

    /// Terminals by number whose revision is not 0, with it.
    async fn revisions(&self) -> Vec<(u32, i64)> {
        let read = |tx: &mut Tx<'_>| -> Verdict<Vec<(u32, i64)>> {
            let sql = "SELECT id, revision FROM terminals WHERE revision > 0 ORDER BY id";
            Ok(all(tx.conn, sql, params![], |row| {
                Ok((get(row, "id")?, get(row, "revision")?))
            })?)
        };
        let raised = self.writer.write(Touches::Everything, read).await.unwrap();
        let number = |id: u32| {
            (0..TERMINALS)
                .find(|it| terminal(*it).value() == id)
                .unwrap()
        };
        let mut raised: Vec<_> = raised
            .into_iter()
            .map(|(id, it)| (number(id), it))
            .collect();
        raised.sort_unstable();
        raised
    }
}

/// Polls once, which puts the write into the queue.
async fn queue<T>(write: &mut (impl Future<Output = T> + Unpin)) {
    std::future::poll_fn(|context| {
        let _ = Pin::new(&mut *write).poll(context);
        std::task::Poll::Ready(())
    })
    .await;
}

fn terminal(number: u32) -> TerminalId {
    TerminalId::from_number(number).unwrap()
}

fn note(tx: &mut Tx<'_>, kind: &str) -> Result<()> {
    tx.record(kind, NOW, &json!({}))
}

/// A change of the database that nobody looks at.
fn change(tx: &mut Tx<'_>) -> Result<usize> {
    tx.execute(
        "INSERT INTO probe (only_row, value) VALUES (1, ?1)
         ON CONFLICT (only_row) DO UPDATE SET value = excluded.value",
        [[7_u8; 16]],
    )
}

fn job(work: impl Fn(&mut Tx<'_>) -> Verdict<()> + Send + 'static) -> Job {
    Box::new(work)
}

/// On SQLite, and on PostgreSQL.
async fn everywhere(fact: impl AsyncFn(Place)) {
    fact(Place::sqlite().with_terminals().await).await;
    fact(Place::postgres().with_terminals().await).await;
}

#[tokio::test]
async fn a_batch_of_any_size_has_its_rows_in_order_and_each_terminal_once() {
    everywhere(async |place| {
        let (mut expected, mut raised) = (Vec::new(), vec![0; TERMINALS as usize]);
        // On PostgreSQL 64 jobs are a batch, and one job may raise many terminals.
        for (rows, terminals) in [(1, 1), (2, 3), (31, 5), (32, 17), (63, 64), (40, 150)] {
            let kind = move |row: usize| format!("of {rows}, row {row}");
            let jobs = (0..rows).map(|row| {
                job(move |tx| {
                    note(tx, &kind(row))?;
                    for number in 0..terminals {
                        raise_revision(tx, terminal(number));
                    }
                    Ok(())
                })
            });
            let ended = place.batch(jobs.collect()).await;
            assert!(ended.iter().all(Result::is_ok), "{ended:?}");
            expected.extend((0..rows).map(kind));
            raised[..terminals as usize]
                .iter_mut()
                .for_each(|it| *it += 1);
        }
        assert_eq!(place.kinds().await, expected);
        let raised = (0..TERMINALS).zip(raised).collect::<Vec<(u32, i64)>>();
        assert_eq!(place.revisions().await, raised);
    })
    .await;
}

#[tokio::test]
async fn what_a_refused_job_left_to_wait_goes_with_it() {
    // A batch that is kept whole, and one in which each job has its savepoint.
    for each in [false, true] {
        everywhere(async |place| {
            let refused = |number: u32| {
                job(move |tx| {
                    note(tx, "undone")?;
                    raise_revision(tx, terminal(number));
                    Err(Stop::Refused(()))
                })
            };
            let kept = |number: u32| {
                job(move |tx| {
                    note(tx, "first of two")?;
                    note(tx, "second of two")?;
                    raise_revision(tx, terminal(number));
                    Ok(())
                })
            };
            let torn = job(move |tx| {
                change(tx)?;
                note(tx, "undone")?;
                if each { Err(Stop::Refused(())) } else { Ok(()) }
            });
            let ended = place.batch(vec![kept(1), refused(2), torn, kept(3), refused(1)]);
            assert_eq!(ended.await, vec![Ok(()); 5]);
            let pair = ["first of two", "second of two"];
            let mut expected = pair.to_vec();
            if !each {
                expected.push("undone");
            }
            expected.extend(pair);
            assert_eq!(place.kinds().await, expected, "each: {each}");
            assert_eq!(place.revisions().await, [(1, 1), (3, 1)], "each: {each}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_job_that_caught_up_is_undone_with_what_it_wrote_and_nobody_elses() {
    everywhere(async |place| {
        let kept = |kind: &'static str| job(move |tx| Ok(note(tx, kind)?));
        let refused = job(|tx| {
            note(tx, "undone")?;
            tx.catch_up()?;
            note(tx, "undone, too")?;
            Err(Stop::Refused(()))
        });
        let panics = job(|tx| {
            note(tx, "undone")?;
            raise_revision(tx, terminal(5));
            panic!("on purpose");
        });
        let ended = place.batch(vec![kept("a"), refused, kept("b"), panics, kept("c")]);
        let ended = ended.await;
        assert!(
            matches!(ended[3], Err(StoreError::Corrupt { .. })),
            "{ended:?}"
        );
        let others = [0, 1, 2, 4].map(|it| ended[it].clone());
        assert_eq!(others, [Ok(()), Ok(()), Ok(()), Ok(())]);
        assert_eq!(place.kinds().await, ["a", "b", "c"]);
        assert_eq!(place.revisions().await, []);
    })
    .await;
}

#[tokio::test]
async fn a_job_whose_statement_fails_fails_alone_and_hears_why() {
    everywhere(async |place| {
        let kept = |kinds: [&'static str; 2]| {
            job(move |tx| {
                note(tx, kinds[0])?;
                Ok(note(tx, kinds[1])?)
            })
        };
        // On PostgreSQL it is sent and not waited for. Nobody else writes one row alone, so the statement for that is
        // prepared after this has failed, and hears only that something did.
        let failing = job(|tx| {
            let account = "INSERT INTO accounts (id, kind, currency, opened_at_ms) VALUES (?1, 'merchant', 'EUR', 1)";
            tx.execute_one(account, [[7_u8; 16]])?;
            Ok(note(tx, "undone")?)
        });
        let ended = place.batch(vec![kept(["a", "b"]), failing, kept(["c", "d"])]);
        let ended = ended.await;
        assert_eq!((&ended[0], &ended[2]), (&Ok(()), &Ok(())));
        let why = ended[1].as_ref().unwrap_err().to_string();
        let says = ["UNIQUE constraint failed", "duplicate key"];
        assert!(says.iter().any(|it| why.contains(it)), "{why}");
        assert_eq!(place.kinds().await, ["a", "b", "c", "d"]);
    })
    .await;
}

#[tokio::test]
async fn a_raise_of_a_terminal_that_is_not_there_fails_alone() {
    everywhere(async |place| {
        let raise = |number: u32| {
            job(move |tx| {
                raise_revision(tx, terminal(number));
                Ok(())
            })
        };
        let ended = place
            .batch(vec![raise(1), raise(TERMINALS), raise(2)])
            .await;
        assert_eq!((&ended[0], &ended[2]), (&Ok(()), &Ok(())));
        assert!(
            matches!(ended[1], Err(StoreError::Corrupt { .. })),
            "{ended:?}"
        );
        assert_eq!(place.revisions().await, [(1, 1), (2, 1)]);
    })
    .await;
}

#[tokio::test]
async fn a_job_for_a_whole_fleet_does_not_keep_all_its_rows() {
    let place = Place::sqlite();
    place
        .one(|tx| {
            for _ in 0..2 * WAITING_MAX {
                note(tx, "of one job")?;
                assert!(tx.together.borrow().rows.len() <= WAITING_MAX);
            }
            Ok(())
        })
        .await;
    assert_eq!(place.kinds().await.len(), 2 * WAITING_MAX);
}

/// Every text there is, planned by SQLite: no terminal is looked for from end to end.
#[tokio::test]
async fn terminals_are_found_by_their_numbers() {
    let place = Place::sqlite();
    place
        .one(|tx| {
            for count in TERMINALS_AT_ONCE {
                let plan = format!("EXPLAIN QUERY PLAN {}", raising(count));
                let given = vec![&0_u32 as &dyn Bind; count];
                let steps: Vec<String> = all(tx.conn, &plan, &given[..], |row| get(row, "detail"))?;
                assert_eq!(steps.len(), 1, "{steps:?}");
                assert!(
                    steps[0].starts_with("SEARCH terminals USING INTEGER PRIMARY KEY"),
                    "{steps:?}"
                );
            }
            Ok(())
        })
        .await;
}
