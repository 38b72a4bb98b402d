//! What does a failure of PostgreSQL mean to the caller?

use tokio_postgres::error::{DbError, Error, Severity, SqlState};

use crate::store::StoreError;
use crate::store::sql::control::Trouble;
use crate::store::sqlite::error::{cannot_write, corrupt, unusable};

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        let detail = said(&error);
        match error.code() {
            None if error.is_closed() || error.as_db_error().is_none() => unusable(detail),
            Some(_) if is_of_other_tables(&error) => StoreError::Busy,
            Some(code) => of_state(code, detail),
            None => corrupt(detail),
        }
    }
}

/// PostgreSQL's own words; never the values of a statement.
fn said(error: &Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("PostgreSQL: {} ({})", said.message(), said.code().code()),
        None => format!("PostgreSQL: {}", with_causes(error)),
    }
}

/// The driver says what it did, and its causes why it failed.
fn with_causes(error: &Error) -> String {
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let why = error.to_string();
        if !said.contains(&why) {
            said = format!("{said}: {why}");
        }
        cause = error.source();
    }
    said
}

/// Whether the statement was prepared before a step of the schema added to its table. PostgreSQL has no code of
/// its own for that.
pub(super) fn is_of_other_tables(error: &Error) -> bool {
    let said = error.as_db_error();
    said.is_some_and(|said| {
        *said.code() == SqlState::FEATURE_NOT_SUPPORTED && said.message().contains("cached plan")
    })
}

/// What may be tried again.
pub(super) fn trouble(error: &Error) -> Option<Trouble> {
    match error.code() {
        Some(_) if is_of_other_tables(error) => Some(Trouble::Crossed),
        Some(code) if crossed(code) => Some(Trouble::Crossed),
        Some(code) if is_away(code) => Some(Trouble::Lost),
        Some(_) => ended_the_session(error).then_some(Trouble::Lost),
        None => (error.is_closed() || is_of_the_line(error)).then_some(Trouble::Lost),
    }
}

/// FATAL ends the session, PANIC all of them: what was under way may have happened.
fn ended_the_session(error: &Error) -> bool {
    let severity = error.as_db_error().map(DbError::parsed_severity);
    matches!(severity, Some(Some(Severity::Fatal | Severity::Panic)))
}

/// A reset, a silence, or an end that TLS was not told of: the driver calls only a plain end closed.
fn is_of_the_line(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.is::<std::io::Error>())
}

fn crossed(code: &SqlState) -> bool {
    *code == SqlState::T_R_SERIALIZATION_FAILURE
        || *code == SqlState::T_R_DEADLOCK_DETECTED
        || *code == SqlState::LOCK_NOT_AVAILABLE
}

/// The server stops, has started anew, or was found not to be the one that writes.
fn is_away(code: &SqlState) -> bool {
    let class = code.code().get(..2).unwrap_or_default();
    class == "08"
        || class == "57" && *code != SqlState::QUERY_CANCELED
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
        || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
}

fn of_state(code: &SqlState, detail: String) -> StoreError {
    let class = code.code().get(..2).unwrap_or_default();
    match class {
        _ if crossed(code) || *code == SqlState::QUERY_CANCELED => StoreError::Busy,
        _ if is_away(code) => unusable(detail),
        // Out of disk, memory or connections.
        "53" | "58" => cannot_write(detail),
        "28" | "3D" | "42" => unusable(detail),
        _ => corrupt(detail),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read;
    use std::net::TcpListener;
    use std::time::Duration;

    use tokio_postgres::{Config, NoTls};

    use super::*;

    #[tokio::test]
    async fn a_line_that_was_reset_is_lost_though_nobody_closed_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = Config::new();
        config.host("127.0.0.1").user("anybody");
        config.port(listener.local_addr().unwrap().port());
        let server = std::thread::spawn(move || {
            let (mut line, _) = listener.accept().unwrap();
            line.read_exact(&mut [0]).unwrap();
            rustix::net::sockopt::set_socket_linger(&line, Some(Duration::ZERO)).unwrap();
        });
        let reset = config.connect(NoTls).await.err().unwrap();
        server.join().unwrap();
        assert!(!reset.is_closed(), "{reset:?}");
        assert_eq!(trouble(&reset), Some(Trouble::Lost));
    }
}
