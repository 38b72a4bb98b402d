//! How do wallets look and pay? Public listener, `/v1/wallet/`.

use std::sync::Arc;

use http::StatusCode;
use http::header::{HeaderName, LOCATION, RETRY_AFTER};
use protocol::ids::PaymentId;
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;
use protocol::wire::claims::PUBLIC_BODY_MAX;
use protocol::wire::wallet::{
    IDEMPOTENCY_HEADER, IdempotencyKey, PAYMENTS_PATH, PaymentRequest, ViewRequest, WalletPayment,
};
use serde::Serialize;
use warp::reply::Response;
use warp::{Filter, Reply};

use super::asker::{self, Asked};
use super::public::{insert, private, to_the_end};
use super::{Public, Routes, body};
use crate::services::Failure;
use crate::services::journey::Journey;
use crate::services::payments::PENDING_RETRY_S;
use crate::services::wallet::{self, Holder, Paid, Pay};
use crate::store::hurried;

pub fn routes(journey: &Arc<Journey>) -> Routes<Public> {
    views(journey)
        .or(pay(journey))
        .or(payment(journey))
        .or(accounts(journey))
}

fn views(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "wallet" / "views")
        .and(warp::post())
        .and(asker::asked())
        .and(body::json::<ViewRequest>(PUBLIC_BODY_MAX))
        .then(move |asked: Asked, request: ViewRequest| {
            let journey = journey.clone();
            async move {
                let looking = async {
                    let now = journey.app.clock.now();
                    let holder = holder(&journey, &asked, now).await?;
                    let view = wallet::view(&journey, &holder, &request.token, now).await?;
                    Ok(json(StatusCode::OK, &view))
                };
                asker::answered(&journey, looking.await).await
            }
        });
    Routes::new("wallet-view", route)
}

fn pay(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "wallet" / "payments")
        .and(warp::post())
        .and(asker::asked())
        .and(body::json::<PaymentRequest>(PUBLIC_BODY_MAX))
        .then(move |asked: Asked, request: PaymentRequest| {
            let (journey, answering) = (journey.clone(), journey.clone());
            let work = async move {
                let now = journey.app.clock.now();
                let holder = holder(&journey, &asked, now).await?;
                let pay = Pay {
                    name: &name(&asked)?,
                    request: &request,
                };
                let paid = wallet::pay(&journey, &holder, &pay, now).await?;
                Ok(paid_answer(paid))
            };
            hurried(async move { asker::answered(&answering, to_the_end(work).await).await })
        });
    Routes::new("wallet-pay", route)
}

fn payment(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "wallet" / "payments" / PaymentId)
        .and(warp::get())
        .and(asker::asked())
        .then(move |id: PaymentId, asked: Asked| {
            let journey = journey.clone();
            async move {
                let looking = async {
                    let now = journey.app.clock.now();
                    let holder = holder(&journey, &asked, now).await?;
                    let payment = wallet::payment(&journey.app, &holder, id).await?;
                    Ok(json(StatusCode::OK, &payment))
                };
                asker::answered(&journey, looking.await).await
            }
        });
    Routes::new("wallet-payment", route)
}

fn accounts(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "wallet" / "accounts")
        .and(warp::get())
        .and(asker::asked())
        .then(move |asked: Asked| {
            let journey = journey.clone();
            async move {
                let looking = async {
                    let now = journey.app.clock.now();
                    let holder = holder(&journey, &asked, now).await?;
                    let accounts = wallet::accounts(&journey.app, &holder).await?;
                    Ok(json(StatusCode::OK, &accounts))
                };
                asker::answered(&journey, looking.await).await
            }
        });
    Routes::new("wallet-accounts", route)
}

async fn holder(journey: &Journey, asked: &Asked, now: Timestamp) -> Result<Holder, Failure> {
    Holder::of(asked.must_be_signed_in(journey, now).await?)
}

fn name(asked: &Asked) -> Result<IdempotencyKey, Failure> {
    let unnamed = |detail: String| {
        let problem = Problem::new(ProblemType::RequestUnnamed);
        Failure::from(problem.with_detail(detail))
    };
    let header = asked.only(HeaderName::from_static(IDEMPOTENCY_HEADER));
    let header = header.map_err(|_several| unnamed("more than one Idempotency-Key".into()))?;
    let header = header.ok_or_else(|| unnamed("the header is missing".into()))?;
    IdempotencyKey::parse(header).map_err(|bad| unnamed(bad.to_string()))
}

fn paid_answer(paid: Paid) -> Response {
    match paid {
        Paid::Now(payment) => located(StatusCode::CREATED, &payment),
        Paid::Pending(payment) => {
            let mut response = located(StatusCode::ACCEPTED, &payment);
            insert(&mut response, RETRY_AFTER, &PENDING_RETRY_S.to_string());
            response
        }
        Paid::Refused { status, body } => super::problem::again(status, body),
    }
}

fn located(status: StatusCode, payment: &WalletPayment) -> Response {
    let mut response = json(status, payment);
    let place = format!("{PAYMENTS_PATH}/{}", payment.payment);
    insert(&mut response, LOCATION, &place);
    response
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = private(warp::reply::json(body)).into_response();
    *response.status_mut() = status;
    response
}
