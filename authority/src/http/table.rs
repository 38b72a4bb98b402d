//! Which routes may a path be of, without asking all of them?
//!
//! A filter says no as slowly as it says yes, and there are eighty. Routes that say where they are
//! ([`Routes::at`](super::Routes::at)) are found by the beginning of the path; those that do not are asked after them.

use std::collections::HashMap;
use std::sync::Arc;

use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem;

/// All routes of one listener: whatever none of them takes is answered as a problem, too.
#[derive(Clone)]
pub(crate) struct Table(Arc<Places>);

struct Places {
    by_path: HashMap<String, BoxedFilter<(Response,)>>,
    anywhere: BoxedFilter<(Response,)>,
}

impl Table {
    pub(super) fn of(branches: Vec<(String, BoxedFilter<(Response,)>)>) -> Self {
        let (anywhere, placed): (Vec<_>, Vec<_>) = branches
            .into_iter()
            .partition(|(place, _)| place.is_empty());
        let nothing =
            warp::any().and_then(|| async { Err::<Response, _>(warp::reject::not_found()) });
        let anywhere = anywhere
            .into_iter()
            .fold(nothing.boxed(), |all, (_, one)| one.or(all).unify().boxed());
        let whole = |filter: BoxedFilter<(Response,)>| {
            let answered = filter.recover(problem::recover).unify();
            answered.boxed()
        };
        let placed = placed.into_iter().map(|(place, filter)| {
            let first = filter.or(anywhere.clone()).unify().boxed();
            (place, whole(first))
        });
        Self(Arc::new(Places {
            by_path: placed.collect(),
            anywhere: whole(anywhere),
        }))
    }

    /// The routes that are at this path, or nearest above it.
    pub(crate) fn at(&self, path: &str) -> BoxedFilter<(Response,)> {
        let mut place = path;
        while !place.is_empty() {
            if let Some(found) = self.0.by_path.get(place) {
                return found.clone();
            }
            place = place.rsplit_once('/').map_or("", |(above, _)| above);
        }
        self.0.anywhere.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;
    use http_body_util::{BodyExt, Empty};
    use tower_service::Service;

    use super::super::{Private, Routes};
    use super::*;

    fn route(name: &'static str) -> Routes<Private> {
        let path = warp::path("v1")
            .and(warp::path(name))
            .and(warp::path::end());
        Routes::new(name, path.map(move || name.to_owned()))
    }

    async fn answer(table: &Table, method: &str, path: &str) -> (u16, String) {
        let request = http::Request::builder().method(method).uri(path);
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answering = warp::service(table.at(path)).call(request);
        let (head, body) = answering.await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        (head.status.as_u16(), body)
    }

    async fn body(table: &Table, path: &str) -> (u16, String) {
        answer(table, "GET", path).await
    }

    #[tokio::test]
    async fn a_route_is_found_where_it_says_that_it_is_and_the_others_after_it() {
        let deep = warp::path!("v1" / "one" / u8).map(|number: u8| number.to_string());
        let deep = Routes::<Private>::new("deep", deep);
        let table = route("one")
            .at("/v1/one")
            .or(route("two").at("/v1/two"))
            .or(route("three"))
            .or(deep)
            .complete();
        for name in ["one", "two", "three"] {
            let path = format!("/v1/{name}");
            assert_eq!(body(&table, &path).await, (200, name.to_owned()));
        }
        assert_eq!(body(&table, "/v1/one/7").await, (200, "7".to_owned()));
        for nowhere in ["/", "/v1", "/v1/one/x", "/v1/onetwo", "/v2/one"] {
            assert_eq!(body(&table, nowhere).await.0, 404, "{nowhere}");
        }
    }

    #[tokio::test]
    async fn routes_at_one_place_are_both_asked() {
        let get = warp::path!("v1" / "both")
            .and(warp::get())
            .map(|| "got".to_owned());
        let put = warp::path!("v1" / "both")
            .and(warp::put())
            .map(|| "put".to_owned());
        let table = Routes::<Private>::new("get", get)
            .at("/v1/both")
            .or(Routes::new("put", put).at("/v1/both"))
            .complete();
        for (method, said) in [("GET", 200), ("PUT", 200), ("POST", 405)] {
            let answered = answer(&table, method, "/v1/both").await;
            assert_eq!(answered.0, said, "{method}");
        }
    }
}
