//! Is it alive, is it ready, and what does it measure?

use std::sync::Arc;

use http::StatusCode;
use warp::{Filter, Reply};

use super::{Loopback, Routes};
use crate::app::App;
use crate::services::readiness;

/// `GET /live`, `GET /ready`, `GET /metrics`.
pub fn routes(app: &Arc<App>) -> Routes<Loopback> {
    live().or(ready(app)).or(metrics(app))
}

fn live() -> Routes<Loopback> {
    let route = warp::path!("live").and(warp::get());
    Routes::new("live", route.map(|| "alive\n"))
}

fn ready(app: &Arc<App>) -> Routes<Loopback> {
    let app = app.clone();
    let route = warp::path!("ready").and(warp::get()).and_then(move || {
        let app = app.clone();
        async move {
            let found = readiness::check(&app).await;
            let status = match found.ready {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            Ok::<_, warp::Rejection>(warp::reply::with_status(warp::reply::json(&found), status))
        }
    });
    Routes::new("ready", route)
}

fn metrics(app: &Arc<App>) -> Routes<Loopback> {
    let app = app.clone();
    let route = warp::path!("metrics").and(warp::get()).map(move || {
        readiness::measure(&app);
        let text = app.metrics.text();
        warp::reply::with_header(text, "content-type", "text/plain; version=0.0.4").into_response()
    });
    Routes::new("metrics", route)
}
