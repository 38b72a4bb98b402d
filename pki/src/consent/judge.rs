//! Do these consents count, and are they enough?

use std::collections::BTreeSet;

use super::request::{Consent, Request};
use super::statement::{BadStatement, Signed};

/// A request that enough others consented to; only [`judge`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consented {
    request: Request,
    by: Vec<String>,
}

/// Not enough of them count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} of {required} operators have consented", .by.len())]
pub struct TooFew {
    /// Whose consents count, in alphabetical order.
    pub by: Vec<String>,
    pub required: u32,
}

impl Consented {
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Whose consents count, in alphabetical order.
    pub fn by(&self) -> &[String] {
        &self.by
    }
}

/// Counts every operator once, whatever number of certificates they have, and never the one who asks.
/// `required` is what the caller's policy says now; the request's own number counts, too, if it is
/// higher: a bar that was lowered afterwards does not help.
pub fn judge(
    request: &Signed<Request>,
    consents: &[Signed<Consent>],
    required: u32,
) -> Result<Consented, TooFew> {
    let counted = consents.iter().filter(|c| counts(request, c).is_ok());
    let by: BTreeSet<&str> = counted.map(|consent| consent.name()).collect();
    let by: Vec<String> = by.into_iter().map(str::to_owned).collect();
    let required = required.max(request.claims().required);
    if by.len() < required as usize {
        return Err(TooFew { by, required });
    }
    Ok(Consented {
        request: request.claims().clone(),
        by,
    })
}

/// Whether this consent is one to this request.
pub fn counts(request: &Signed<Request>, consent: &Signed<Consent>) -> Result<(), BadStatement> {
    let said = consent.claims();
    request.is_meant(&said.request, &said.request_sha256, said.iat)?;
    match consent.name() == request.name() {
        true => Err(BadStatement::Own),
        false => Ok(()),
    }
}
