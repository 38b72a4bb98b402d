//! How does a till ask for money? Over the terminal's loopback address, with the till's secret.

use std::time::{SystemTime, UNIX_EPOCH};

use protocol::ids::{ChargeId, RefundId};
use protocol::money::{Currency, Money};
use protocol::wire::charges::{CHARGES_PATH, ChargeRequest};
use protocol::wire::push::{ChargeStage, ChargeState};
use protocol::wire::refunds::{Pin, REFUNDS_PATH, RefundRequest, RefundResponse};
use reqwest::{Client, Method};

use crate::web::{self, Answer};
use crate::{Failure, wait};

/// The till beside a terminal.
pub struct Till {
    url: String,
    refunds_url: String,
    secret: String,
    http: Client,
}

impl Till {
    /// The till of a terminal at this loopback address.
    pub fn at(address: &str, secret: &str) -> Result<Self, Failure> {
        Ok(Self {
            url: format!("http://{address}{CHARGES_PATH}"),
            refunds_url: format!("http://{address}{REFUNDS_PATH}"),
            secret: secret.trim().into(),
            http: web::plain()?,
        })
    }

    /// Asks for an amount in euro cents.
    pub async fn start(&self, minor: i64, reference: &str) -> Answer<ChargeState> {
        let amount = Money::new(minor, Currency::EUR).map_err(Failure::new)?;
        let request = ChargeRequest {
            charge: fresh_id(ChargeId::from_parts)?,
            amount,
            reference: Some(reference.into()),
        };
        let post = self.request(Method::POST, &self.url).json(&request);
        web::read_answer(post.send().await.map_err(|e| web::sent(&e))?).await
    }

    /// Asks for what must be accepted.
    pub async fn must_start(&self, minor: i64, reference: &str) -> Result<ChargeState, Failure> {
        let answer = self.start(minor, reference).await?;
        answer.map_err(|problem| Failure::new(format!("the charge is refused: {}", problem.title)))
    }

    pub async fn look(&self, charge: ChargeId) -> Answer<ChargeState> {
        let get = self.request(Method::GET, &self.one(charge));
        web::read_answer(get.send().await.map_err(|e| web::sent(&e))?).await
    }

    /// Cancels, whatever became of the charge.
    pub async fn cancel(&self, charge: ChargeId) -> Result<(), Failure> {
        let delete = self.request(Method::DELETE, &self.one(charge));
        let response = delete.send().await.map_err(|e| web::sent(&e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        Err(Failure::new(format!("the till cannot cancel: {status}")))
    }

    /// Asks to give so many euro cents back; the same request again is the same refund.
    pub async fn refund(&self, request: &RefundRequest) -> Answer<RefundResponse> {
        let post = self.request(Method::POST, &self.refunds_url).json(request);
        web::read_answer(post.send().await.map_err(|e| web::sent(&e))?).await
    }

    /// A refund that was not asked for before.
    pub fn new_refund(charge: ChargeId, minor: i64, pin: &str) -> Result<RefundRequest, Failure> {
        Ok(RefundRequest {
            refund: fresh_id(RefundId::from_parts)?,
            charge,
            amount: Money::new(minor, Currency::EUR).map_err(Failure::new)?,
            reason: Some("wrong size".into()),
            pin: Pin::parse(pin).map_err(Failure::new)?,
        })
    }

    /// Waits until the till shows "paid"; the receipt it holds then.
    pub async fn paid(&self, charge: ChargeId) -> Result<String, Failure> {
        let look = async || match self.look(charge).await.ok()?.ok()?.stage {
            ChargeStage::Paid { receipt, .. } => Some(receipt),
            _ => None,
        };
        wait::until("the till to show paid", look).await
    }

    fn one(&self, charge: ChargeId) -> String {
        format!("{}/{charge}", self.url)
    }

    fn request(&self, method: Method, url: &str) -> reqwest::RequestBuilder {
        self.http.request(method, url).bearer_auth(&self.secret)
    }
}

/// A UUIDv7 of the till's own making.
fn fresh_id<T>(from_parts: impl FnOnce(u64, &[u8; 10]) -> T) -> Result<T, Failure> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(Failure::of("random bytes"))?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let unix_ms = since.map_err(Failure::new)?.as_millis() as u64;
    Ok(from_parts(unix_ms, &random))
}
