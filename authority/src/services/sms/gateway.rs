//! How is an SMS handed to the gateway?
//!
//! Kannel's smsbox takes it by HTTP. User and password go in headers, never in an address: addresses are
//! logged.

use std::time::Duration;

use http::StatusCode;
use reqwest::{Client, Url, redirect};
use zeroize::Zeroizing;

use crate::config::SmsConfig;
use crate::services::sign_in::keys::is_loopback;
use crate::sms::gsm::{Coding, coding};
use crate::sms::one_time::read_private;
use crate::sms::{PhoneNumber, SecretError};

/// From the request to the answer.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What the gateway's own documentation calls them.
const USER: &str = "X-Kannel-Username";
const PASSWORD: &str = "X-Kannel-Password";
const FROM: &str = "X-Kannel-From";
const TO: &str = "X-Kannel-To";
const CODING: &str = "X-Kannel-Coding";

/// Where SMS leave the house.
pub(super) struct Gateway {
    client: Client,
    url: Url,
    user: String,
    password: Zeroizing<String>,
    short_number: String,
}

/// The gateway cannot be reached as configured.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error("send_url: {0}")]
    Url(String),
    #[error(transparent)]
    Password(#[from] SecretError),
}

/// Why an SMS was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsent {
    /// Busy, away, or it does not know us: again later.
    #[error("the gateway does not take it now ({0})")]
    Later(String),
    /// It will not take this one.
    #[error("the gateway refuses it ({0})")]
    Never(StatusCode),
}

impl Gateway {
    pub(super) fn open(config: &SmsConfig) -> Result<Self, GatewayError> {
        let failed = |error: &dyn std::fmt::Display| GatewayError::Url(error.to_string());
        let send = &config.send;
        let url = Url::parse(&send.url).map_err(|error| failed(&error))?;
        let password = read_private(&send.password_file)?;
        Ok(Self {
            client: client(&url).map_err(|error| failed(&error))?,
            url,
            user: send.user.clone(),
            password: Zeroizing::new(password.trim_end().to_owned()),
            short_number: config.short_number.clone(),
        })
    }

    pub(super) async fn send(&self, to: &PhoneNumber, text: &str) -> Result<(), Unsent> {
        let coding = match coding(text) {
            Coding::Gsm => "0",
            Coding::Ucs2 => "2",
        };
        let request = self.client.post(self.url.clone());
        let request = request
            .header("Content-Type", "text/plain; charset=UTF-8")
            .header(USER, &self.user)
            .header(PASSWORD, self.password.as_str())
            .header(FROM, &self.short_number)
            .header(TO, to.expose())
            .header(CODING, coding)
            .body(text.to_owned());
        let answered = request
            .send()
            .await
            .map_err(|error| later(&error.without_url()))?;
        match answered.status() {
            status if status.is_success() => Ok(()),
            // Credentials are the operator's to put right; the rest passes.
            status @ (StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS) => Err(later(&status)),
            status if status.is_client_error() => Err(Unsent::Never(status)),
            status => Err(later(&status)),
        }
    }
}

fn later(why: &dyn std::fmt::Display) -> Unsent {
    Unsent::Later(why.to_string())
}

fn client(url: &Url) -> Result<Client, String> {
    // The one provider of this process; whoever comes second finds it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .timeout(SEND_TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(redirect::Policy::none())
        .https_only(url.scheme() == "https");
    let builder = match url.host_str().is_some_and(is_loopback) {
        true => builder.no_proxy(),
        false => builder,
    };
    builder.build().map_err(|error| error.to_string())
}
