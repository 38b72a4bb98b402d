//! How is the store kept in PostgreSQL, for more than one node?

mod conn;
mod connect;
mod error;

pub(in crate::store) use self::conn::PgConn;
pub use self::connect::PostgresPlace;
