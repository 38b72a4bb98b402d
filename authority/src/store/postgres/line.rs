//! How does a thread that waits for its answers speak over one connection?
//!
//! A statement that must only have happened is sent and not waited for: its answer is taken before anything
//! after it is believed. So a verb waits for the server as often as it asks it something, not as often as it
//! writes.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::error::Severity;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, Error, Notification, Row, Socket, Statement};

use super::value::Encoded;
use crate::store::Result;
use crate::store::sqlite::error::unusable;

type Asked<T> = std::result::Result<T, Error>;

/// A connection, with the runtime that moves its bytes while somebody waits.
pub(in crate::store) struct Line {
    runtime: Runtime,
    connection: Pin<Box<dyn Stream<Item = Asked<AsyncMessage>> + Send>>,
    client: Arc<Client>,
    heard: VecDeque<Notification>,
    sent: VecDeque<Sent>,
    warnings: Arc<AtomicU32>,
}

/// A statement that was sent and not waited for.
enum Sent {
    Asked(Pin<Box<dyn Future<Output = Asked<u64>> + Send>>),
    Answered(Asked<u64>),
}

impl Sent {
    /// Takes what has come of its answer: the line brings no more of any until somebody has.
    fn take_in(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Self::Asked(asked) = self {
            match asked.as_mut().poll(context) {
                Poll::Ready(answer) => *self = Self::Answered(answer),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }
}

impl Line {
    pub(super) fn open<T>(config: &Config, tls: T) -> Result<Self>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T::TlsConnect: TlsConnect<Socket>,
    {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| unusable(format!("no runtime for PostgreSQL: {error}")))?;
        let (client, mut connection) = runtime.block_on(config.connect(tls))?;
        let warnings = Arc::new(AtomicU32::new(0));
        let warned = warnings.clone();
        let messages = stream::poll_fn(move |context| {
            let message = connection.poll_message(context);
            if let Poll::Ready(Some(Ok(AsyncMessage::Notice(said)))) = &message {
                tracing::info!("PostgreSQL: {}: {}", said.severity(), said.message());
                if said.parsed_severity() == Some(Severity::Warning) {
                    warned.fetch_add(1, Ordering::Relaxed);
                }
            }
            message
        });
        Ok(Self {
            runtime,
            connection: Box::pin(messages),
            client: Arc::new(client),
            heard: VecDeque::new(),
            sent: VecDeque::new(),
            warnings,
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// How often the server warned since this was asked last.
    pub(super) fn warnings(&self) -> u32 {
        self.warnings.swap(0, Ordering::Relaxed)
    }

    pub(super) fn prepare(&mut self, sql: &str, kinds: &[Type]) -> Asked<Statement> {
        let client = self.client.clone();
        self.wait(client.prepare_typed(sql, kinds))
    }

    pub(super) fn execute(
        &mut self,
        statement: &Statement,
        values: &[&(dyn ToSql + Sync)],
    ) -> Asked<u64> {
        let client = self.client.clone();
        self.wait(client.execute(statement, values))
    }

    pub(super) fn query(
        &mut self,
        statement: &Statement,
        values: &[&(dyn ToSql + Sync)],
    ) -> Asked<Vec<Row>> {
        let client = self.client.clone();
        self.wait(client.query(statement, values))
    }

    /// Statements that are given nothing and answer nothing.
    pub(super) fn batch(&mut self, sql: &str) -> Asked<()> {
        let client = self.client.clone();
        self.wait(client.batch_execute(sql))
    }

    /// Hands over one row after the other.
    pub(super) fn each<E: From<Error>>(
        &mut self,
        sql: &str,
        take: &mut dyn FnMut(&Row) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let client = self.client.clone();
        let none: [&(dyn ToSql + Sync); 0] = [];
        let rows = self.wait(async { client.query_raw(sql, none).await })?;
        let mut rows = pin!(rows);
        while let Some(row) = self.wait(async { rows.next().await.transpose() })? {
            take(&row)?;
        }
        Ok(())
    }

    /// Sends a statement; [`Line::answer`] says what became of it, in the order of sending.
    pub(super) fn send(&mut self, statement: Statement, values: Vec<Encoded>) {
        let client = self.client.clone();
        self.queue(async move { client.execute_raw(&statement, values).await });
    }

    /// The same for a statement that is given nothing and answers nothing: as if it touched one row. It is on its
    /// way when this returns, because nothing may be asked for a while.
    pub(super) fn send_now(&mut self, sql: &'static str) -> Asked<()> {
        let client = self.client.clone();
        self.queue(async move { client.batch_execute(sql).await.map(|()| 1) });
        let connection = &mut self.connection;
        let heard = &mut self.heard;
        self.runtime.block_on(poll_fn(|context| {
            let moved = turn(connection.as_mut(), heard, context);
            Poll::Ready(moved.map(|_| ()))
        }))
    }

    fn queue(&mut self, asked: impl Future<Output = Asked<u64>> + Send + 'static) {
        let mut sent = Sent::Asked(Box::pin(asked));
        // Asked once, it has been put into the connection's queue, before whatever is asked next.
        let _ = sent.take_in(&mut Context::from_waker(Waker::noop()));
        self.sent.push_back(sent);
    }

    /// How many were sent and have no answer yet.
    pub(super) fn unanswered(&self) -> usize {
        self.sent.len()
    }

    /// How many rows the next of those that were sent touched; none if there is none.
    pub(super) fn answer(&mut self) -> Option<Asked<u64>> {
        match self.sent.pop_front()? {
            Sent::Answered(answer) => Some(answer),
            Sent::Asked(asked) => Some(self.wait(asked)),
        }
    }

    /// Waits so long for others to call out.
    pub(super) fn hear(&mut self, wait: Duration) -> Asked<()> {
        let connection = &mut self.connection;
        let heard = &mut self.heard;
        let first = poll_fn(|context| {
            let over = turn(connection.as_mut(), heard, context)?;
            match over || !heard.is_empty() {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            }
        });
        let waiting = async { tokio::time::timeout(wait, first).await };
        self.runtime.block_on(waiting).unwrap_or(Ok(()))
    }

    /// The next of what they said.
    pub(super) fn heard(&mut self) -> Option<Notification> {
        self.heard.pop_front()
    }

    fn wait<T>(&mut self, asked: impl Future<Output = Asked<T>>) -> Asked<T> {
        let mut asked = pin!(asked);
        let connection = &mut self.connection;
        let (heard, sent) = (&mut self.heard, &mut self.sent);
        self.runtime.block_on(poll_fn(|context| {
            // The question is put before the bytes are moved, and the answer taken after.
            if let Poll::Ready(answer) = asked.as_mut().poll(context) {
                return Poll::Ready(answer);
            }
            turn(connection.as_mut(), heard, context)?;
            for sent in sent.iter_mut() {
                if sent.take_in(context).is_pending() {
                    break;
                }
            }
            asked.as_mut().poll(context)
        }))
    }
}

/// Moves what can be moved; true once the server has hung up.
fn turn(
    mut connection: Pin<&mut (dyn Stream<Item = Asked<AsyncMessage>> + Send)>,
    heard: &mut VecDeque<Notification>,
    context: &mut Context<'_>,
) -> Asked<bool> {
    loop {
        match connection.as_mut().poll_next(context) {
            Poll::Ready(Some(message)) => {
                if let AsyncMessage::Notification(said) = message? {
                    heard.push_back(said);
                }
            }
            Poll::Ready(None) => return Ok(true),
            Poll::Pending => return Ok(false),
        }
    }
}
