//! Which requests of one client address are too many?
//!
//! One filter before all public routes, so that no route is mounted past it. A phone that waits for its own
//! claim asks every other second, and many wait behind one address: such a look has limits of its own.

use std::sync::Arc;

use http::{HeaderMap, Method};
use protocol::ids::ClaimId;
use protocol::wire::claims::CLAIM_COOKIE;
use warp::Filter;
use warp::path::FullPath;

use super::problem::refuse;
use super::web::cookie;
use super::{Public, Routes};
use crate::services::journey::Journey;
use crate::services::phone::PhoneCookie;
use crate::services::sources::{Source, Traffic};

/// The same routes, behind the limits per address.
pub fn limited(journey: &Arc<Journey>, routes: Routes<Public>) -> Routes<Public> {
    let journey = journey.clone();
    let pass = warp::method()
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<Source>())
        .and_then(
            move |method: Method, path: FullPath, headers: HeaderMap, from: Option<Source>| {
                let journey = journey.clone();
                async move {
                    match (traffic(&method, path.as_str()), from) {
                        (Some(traffic), Some(from)) => {
                            let own = own_claim(&journey, traffic, path.as_str(), &headers);
                            pass(&journey, traffic, own, from)
                        }
                        _ => Ok(()),
                    }
                }
            },
        )
        .untuple_one();
    routes.behind(pass)
}

fn pass(
    journey: &Journey,
    traffic: Traffic,
    own: Option<ClaimId>,
    from: Source,
) -> Result<(), warp::Rejection> {
    let (config, now) = (
        &journey.app.config.spending.traffic,
        journey.app.clock.now(),
    );
    let (traffic, passed) = match own {
        Some(claim) => (Traffic::Polls, journey.sources.poll(from, claim, now)),
        None => (traffic, journey.sources.pass(from, traffic, config, now)),
    };
    passed.map_err(|problem| {
        let throttled = &journey.app.metrics.throttled;
        throttled.with_label_values(&[traffic.name()]).inc();
        refuse(problem)
    })
}

/// The claim that is looked at, if the phone that looks is known to hold it.
fn own_claim(
    journey: &Journey,
    traffic: Traffic,
    path: &str,
    headers: &HeaderMap,
) -> Option<ClaimId> {
    let claim = claim_in(path).filter(|_| traffic == Traffic::Looks)?;
    let cookie = cookie(headers, CLAIM_COOKIE).and_then(PhoneCookie::parse)?;
    let is_own = cookie.claim() == claim && journey.sources.is_holder(&cookie);
    is_own.then_some(claim)
}

/// The claim that this address shows, or the state of.
fn claim_in(path: &str) -> Option<ClaimId> {
    let of_page = path.strip_prefix("/pay/");
    let of_page = of_page.map(|claim| claim.strip_suffix("/state").unwrap_or(claim));
    let claim = of_page.or_else(|| path.strip_prefix("/v1/claims/"))?;
    claim.parse().ok()
}

/// What a request is counted as; nothing for what costs nothing, and for what servers send.
fn traffic(method: &Method, path: &str) -> Option<Traffic> {
    let under = |prefix: &str| path.starts_with(prefix);
    if under("/logout/backchannel/") {
        return None;
    }
    if under("/sign-in") || under("/sign-out") || (under("/v1/passkeys") && method != Method::GET) {
        return Some(Traffic::SignIns);
    }
    if method != Method::GET && method != Method::HEAD {
        return Some(Traffic::Acts);
    }
    let looks = ["/t/", "/v1/", "/pay/", "/me"].into_iter().any(under);
    looks.then_some(Traffic::Looks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_claims_own_addresses_are_polled() {
        let claim = ClaimId::from_parts(1, &[0; 10]);
        for path in [
            format!("/pay/{claim}"),
            format!("/pay/{claim}/state"),
            format!("/v1/claims/{claim}"),
        ] {
            assert_eq!(claim_in(&path), Some(claim), "{path}");
        }
        for path in [
            format!("/v1/claims/{claim}/approval"),
            format!("/t/{claim}"),
            format!("/pay/{claim}/other"),
            "/pay/".to_owned(),
        ] {
            assert_eq!(claim_in(&path), None, "{path}");
        }
    }

    #[test]
    fn whatever_changes_something_is_counted() {
        let (get, post) = (Method::GET, Method::POST);
        for (method, path, counted) in [
            (&post, "/v1/claims", Some(Traffic::Acts)),
            (&post, "/claim", Some(Traffic::Acts)),
            (&Method::DELETE, "/anything", Some(Traffic::Acts)),
            (
                &get,
                "/t/47110422.448FT7303N447EFB8H2JK8WRP4",
                Some(Traffic::Looks),
            ),
            (&get, "/v1/claims/1", Some(Traffic::Looks)),
            (&post, "/sign-in/bank", Some(Traffic::SignIns)),
            (&get, "/sign-in/callback", Some(Traffic::SignIns)),
            (&post, "/v1/passkeys/options", Some(Traffic::SignIns)),
            (&get, "/v1/passkeys", Some(Traffic::Looks)),
            (&post, "/logout/backchannel/bank", None),
            (&get, "/", None),
            (&get, "/.well-known/jwks.json", None),
        ] {
            assert_eq!(traffic(method, path), counted, "{method} {path}");
        }
    }
}
