//! What does a bank have to buy for so many terminals?
//!
//! ```text
//!  costs: what one of each costs ─┐
//!  fleet: how many, how busy ─────┼─▶ work: what happens a second ─▶ plan: what to buy ─▶ page
//!  hsm: how fast is which HSM ────┘              │
//!                                                └─▶ simulation: the same, event by event
//! ```
//! The plan is arithmetic and queueing theory, the simulation knows neither: where both can say
//! something, they must agree. `m2key-capacity` prints either for a bank's own numbers.

pub mod cli;
pub mod costs;
pub mod fleet;
pub mod growth;
pub mod hsm;
pub mod keeping;
pub mod page;
pub mod plan;
pub mod queueing;
pub mod scenarios;
pub mod simulation;
#[cfg(test)]
mod tests;
pub mod work;
