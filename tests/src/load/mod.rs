//! How long do people wait when a whole fleet is paid at?
//!
//! ```text
//!  seed ─▶ arrivals ─▶ queue ─▶ payment: agent (mTLS, push) and phone (HTTPS) ─▶ record ─▶ report, plot
//!                        │                 └─▶ books: compared with the authority's at the end
//!                        └── told the time; whoever waits keeps the moment at which they wanted to pay
//!  fleet: which terminals and shoppers    house: makes an authority with a fleet    storm: all connect at once
//! ```
//! `m2key-load` is the program; `make bench` plays a bounded profile of it.

pub mod agent;
pub mod arrivals;
pub mod books;
pub mod fleet;
pub mod house;
pub mod idle;
pub mod options;
pub mod payment;
pub mod phone;
pub mod plot;
pub mod progress;
pub mod queue;
pub mod random;
pub mod record;
pub mod renewals;
pub mod report;
pub mod run;
pub mod stage;
pub mod stopwatch;
pub mod storm;
