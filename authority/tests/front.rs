//! Does the frame of the authority hold: init, serve, enrolment, operators, and every refusal?
//!
//! Everything here is the real binary with a real SoftHSM, asked with openssl and curl as an
//! integrator would.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "front/homes.rs"]
mod homes;
#[path = "front/house.rs"]
mod house;
#[path = "front/room.rs"]
mod room;
#[path = "front/stage.rs"]
mod stage;

#[path = "front/accounts.rs"]
mod accounts;
#[path = "front/adopting.rs"]
mod adopting;
#[path = "front/ceremonies.rs"]
mod ceremonies;
#[path = "front/certificates.rs"]
mod certificates;
#[path = "front/consenting.rs"]
mod consenting;
#[path = "front/crowding.rs"]
mod crowding;
#[path = "front/denying.rs"]
mod denying;
#[path = "front/draining.rs"]
mod draining;
#[path = "front/enrolling.rs"]
mod enrolling;
#[path = "front/forgotten.rs"]
mod forgotten;
#[path = "front/gates.rs"]
mod gates;
#[path = "front/guards.rs"]
mod guards;
#[path = "front/hanging_up.rs"]
mod hanging_up;
#[path = "front/help.rs"]
mod help;
#[path = "front/hsm_tokens.rs"]
mod hsm_tokens;
#[path = "front/initialising.rs"]
mod initialising;
#[path = "front/issuing.rs"]
mod issuing;
#[path = "front/keeping.rs"]
mod keeping;
#[path = "front/operating.rs"]
mod operating;
#[path = "front/operators.rs"]
mod operators;
#[path = "front/outside.rs"]
mod outside;
#[path = "front/proofs.rs"]
mod proofs;
#[path = "front/renewing.rs"]
mod renewing;
#[path = "front/restoring.rs"]
mod restoring;
#[path = "front/returning.rs"]
mod returning;
#[path = "front/revoking.rs"]
mod revoking;
#[path = "front/rotating.rs"]
mod rotating;
#[path = "front/same_keys.rs"]
mod same_keys;
#[path = "front/serving.rs"]
mod serving;
#[path = "front/signing.rs"]
mod signing;
#[path = "front/strangers.rs"]
mod strangers;
#[path = "front/trust.rs"]
mod trust;
#[path = "front/two_people.rs"]
mod two_people;
#[path = "front/unknown_keys.rs"]
mod unknown_keys;
#[path = "front/vouching.rs"]
mod vouching;
