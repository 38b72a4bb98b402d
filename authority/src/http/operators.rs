//! How do operators reach the running daemon? `POST /v1/operator/<verb>`, agents' listener.

use std::sync::Arc;

use warp::reply::Response;
use warp::{Filter, Reply};

use super::body::Arrived;
use super::extract::{AuthenticatedOperator, operator};
use super::{Private, Routes, body, problem};
use crate::app::App;
use crate::services::operators::{self, Verb, carry_out_to_the_end};

/// Where the verbs are.
pub const OPERATOR_PATH: &str = "/v1/operator";

/// Every verb. The route's type demands an operator's certificate.
pub fn routes(app: &Arc<App>) -> Routes<Private> {
    macro_rules! all {
        ($first:ident, $($verb:ident),+ $(,)?) => {
            verb::<operators::$first>(app)$(.or(verb::<operators::$verb>(app)))+
        };
    }
    operators::every_verb!(all)
}

fn verb<V: Verb>(app: &Arc<App>) -> Routes<Private> {
    let handler_app = app.clone();
    let route = warp::path!("v1" / "operator" / ..)
        .and(warp::path(V::NAME))
        .and(warp::path::end())
        .and(warp::post())
        .and(operator(app))
        .and(body::arrived(V::BODY_MAX))
        .boxed()
        .then(move |operator, body: Arrived| {
            let app = handler_app.clone();
            async move { handle::<V>(&app, &operator, &body).await }
        });
    Routes::new(V::NAME, route).at(format!("{OPERATOR_PATH}/{}", V::NAME))
}

async fn handle<V: Verb>(
    app: &Arc<App>,
    operator: &AuthenticatedOperator,
    body: &Arrived,
) -> Response {
    let verb = match body.json::<V>() {
        Ok(verb) => verb,
        Err(problem) => return problem::response(&problem),
    };
    match carry_out_to_the_end(app, operator.name(), verb).await {
        Ok(answer) => warp::reply::json(&answer).into_response(),
        Err(failure) => problem::response(&failure.into_operator_problem()),
    }
}
