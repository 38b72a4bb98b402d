//! Is this the merchant's PIN, and how often may somebody guess?
//!
//! A try counts before it is looked at, so that a hundred at once are five, and the right one takes the
//! count back. scrypt makes a stolen database slow to search; six digits are no more than that.

use protocol::ids::MerchantId;
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;
use protocol::wire::refunds::Pin;
use scrypt::Params;
use subtle::ConstantTimeEq;
use tokio::sync::OwnedSemaphorePermit;

use super::{Failure, seconds};
use crate::app::App;
use crate::ids;
use crate::store::{PinHash, PinTry};

/// PINs that are checked at the same time: 32 MiB each.
pub const PIN_CHECKS_MAX: usize = 4;
/// scrypt's log2 N, with r = 8 and p = 1: a tenth of a second.
const COST: u8 = 15;

/// A PIN that was right.
#[derive(Debug)]
pub struct RightPin(());

/// Derives what is kept of a new PIN.
pub async fn hash(app: &App, pin: Pin) -> Result<PinHash, Failure> {
    let salt = ids::random();
    let hash = derive(place(app)?, pin, salt, COST).await?;
    Ok(PinHash {
        salt,
        hash,
        cost: COST,
    })
}

/// Compares, and counts what is wrong.
pub async fn check(
    app: &App,
    merchant: MerchantId,
    pin: Pin,
    now: Timestamp,
) -> Result<RightPin, Failure> {
    let checked = compare(app, merchant, pin, now).await;
    let outcome = super::outcome(&checked, "right");
    app.metrics.pins.with_label_values(&[outcome]).inc();
    checked
}

async fn compare(
    app: &App,
    merchant: MerchantId,
    pin: Pin,
    now: Timestamp,
) -> Result<RightPin, Failure> {
    // Before it counts, so that a busy house costs nobody a try.
    let place = place(app)?;
    let stored = match app.store.begin_pin_try(merchant, now).await? {
        PinTry::Check(stored) => stored,
        PinTry::NotSet => return Err(ProblemType::PinMissing.into()),
        PinTry::Locked(until) => return Err(locked(until, now).into()),
    };
    let hash = derive(place, pin, stored.salt, stored.cost).await?;
    if !bool::from(hash.ct_eq(&stored.hash)) {
        tracing::warn!(%merchant, "a wrong PIN");
        return Err(ProblemType::PinRefused.into());
    }
    app.store.pin_was_right(merchant, now).await?;
    Ok(RightPin(()))
}

fn locked(until: Option<Timestamp>, now: Timestamp) -> Problem {
    let problem = Problem::new(ProblemType::PinLocked);
    match until {
        Some(until) => problem.with_retry_after(seconds(until - now)),
        None => problem.with_detail("an operator must set a new PIN"),
    }
}

fn place(app: &App) -> Result<OwnedSemaphorePermit, Problem> {
    let place = app.pin_checks.clone().try_acquire_owned();
    place.map_err(|_| Problem::new(ProblemType::Busy).with_retry_after(1))
}

async fn derive(
    place: OwnedSemaphorePermit,
    pin: Pin,
    salt: [u8; 16],
    cost: u8,
) -> Result<[u8; 32], Failure> {
    let derived = tokio::task::spawn_blocking(move || {
        let _place = place;
        let params = Params::new(cost, 8, 1).ok()?;
        let mut hash = [0; 32];
        scrypt::scrypt(pin.expose(), &salt, &params, &mut hash).ok()?;
        Some(hash)
    });
    let derived = derived.await.ok().flatten();
    Ok(derived.ok_or(ProblemType::Internal)?)
}
