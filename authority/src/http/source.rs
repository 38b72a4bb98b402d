//! Which requests of one client address are too many?
//!
//! One filter before all public routes, so that no route is mounted past it.

use std::sync::Arc;

use http::Method;
use warp::Filter;
use warp::path::FullPath;

use super::problem::refuse;
use super::{Public, Routes};
use crate::services::journey::Journey;
use crate::services::sources::{Source, Traffic};

/// The same routes, behind the limits per address.
pub fn limited(journey: &Arc<Journey>, routes: Routes<Public>) -> Routes<Public> {
    let journey = journey.clone();
    let pass = warp::method()
        .and(warp::path::full())
        .and(warp::ext::optional::<Source>())
        .and_then(
            move |method: Method, path: FullPath, from: Option<Source>| {
                let journey = journey.clone();
                async move {
                    match (traffic(&method, path.as_str()), from) {
                        (Some(traffic), Some(from)) => pass(&journey, traffic, from),
                        _ => Ok(()),
                    }
                }
            },
        )
        .untuple_one();
    routes.behind(pass)
}

fn pass(journey: &Journey, traffic: Traffic, from: Source) -> Result<(), warp::Rejection> {
    let (config, now) = (
        &journey.app.config.spending.traffic,
        journey.app.clock.now(),
    );
    journey
        .sources
        .pass(from, traffic, config, now)
        .map_err(|problem| {
            let throttled = &journey.app.metrics.throttled;
            throttled.with_label_values(&[traffic.name()]).inc();
            refuse(problem)
        })
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
