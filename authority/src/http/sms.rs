//! How does the gateway bring a text? Loopback listener.
//!
//! Loopback is no authentication: the gateway shows the secret that it shares with us, as the password of
//! HTTP Basic, which stands in its own configuration and in no address that it logs.

use std::sync::Arc;

use base64ct::{Base64, Encoding};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use protocol::problem::ProblemType;
use serde::Deserialize;
use warp::Filter;
use warp::reply::Response;
use zeroize::Zeroizing;

use super::problem::{Answer, answer};
use super::{Loopback, Routes, body};
use crate::services::Failure;
use crate::services::journey::Journey;
use crate::services::sms::{Delivery, Sms};

/// Where the gateway brings texts.
pub const TEXTS_PATH: &str = "/v1/texts";
/// Largest text, in bytes: ten parts of a long SMS, in UTF-16.
const TEXT_BODY_MAX: u64 = 4_096;
/// Longest name of a link or of a message that is read.
const NAME_MAX: usize = 128;

/// `POST /v1/texts?id=…&link=…&from=…&to=…`; nothing where nobody pays by SMS.
pub fn routes(journey: &Arc<Journey>) -> Routes<Loopback> {
    if journey.sms.is_none() {
        return Routes::none();
    }
    let journey = journey.clone();
    let route = warp::path!("v1" / "texts")
        .and(warp::post())
        .and(warp::header::headers_cloned())
        .and(warp::query::<Query>())
        .and(body::bytes(TEXT_BODY_MAX))
        .then(move |headers: HeaderMap, query: Query, body: Vec<u8>| {
            let journey = journey.clone();
            async move { answer(take(&journey, &headers, query, &body).await) }
        });
    Routes::new("text", route)
}

#[derive(Deserialize)]
struct Query {
    /// The gateway's own id of the text: the same when it comes again.
    id: String,
    /// The link that it came over.
    link: String,
    from: String,
    to: String,
}

/// Whatever the gateway brings is taken, so that it does not come again; only what we could not keep is
/// not.
async fn take(journey: &Journey, headers: &HeaderMap, query: Query, body: &[u8]) -> Answer {
    let sms = journey.sms.as_ref().ok_or(ProblemType::NotFound)?;
    authenticate(sms, headers)?;
    let Query { id, link, from, to } = query;
    if id.is_empty() || id.len() > NAME_MAX || link.len() > NAME_MAX {
        return Err(ProblemType::MalformedRequest.into());
    }
    let text = decode(headers, body);
    let delivery = Delivery {
        id,
        link,
        from,
        to,
        text,
    };
    sms.hear(delivery, journey.app.clock.now()).await?;
    // 200 and nothing in it: of any other status, also 204, smsbox brings the text again and again.
    Ok(Response::default())
}

fn authenticate(sms: &Sms, headers: &HeaderMap) -> Result<(), Failure> {
    let shown = headers.get(http::header::AUTHORIZATION).and_then(|header| {
        let encoded = header.to_str().ok()?.strip_prefix("Basic ")?;
        Base64::decode_vec(encoded.trim()).ok().map(Zeroizing::new)
    });
    let password = shown.as_ref().and_then(|credentials| {
        let colon = credentials.iter().position(|byte| *byte == b':')?;
        Some(&credentials[colon + 1..])
    });
    match password {
        Some(password) if sms.is_gateway(password) => Ok(()),
        _ => {
            tracing::warn!("a text was brought without the gateway's secret");
            Err(ProblemType::SignInRefused.into())
        }
    }
}

/// UTF-16 where the gateway says so, else UTF-8; what is neither becomes signs that mean nothing.
fn decode(headers: &HeaderMap, body: &[u8]) -> String {
    let media = headers
        .get(CONTENT_TYPE)
        .and_then(|media| media.to_str().ok());
    let media = media.unwrap_or_default().to_ascii_lowercase();
    if !media.contains("utf-16") && !media.contains("ucs-2") {
        return String::from_utf8_lossy(body).into_owned();
    }
    let units = body.chunks(2).map(|pair| match *pair {
        [high, low] => u16::from_be_bytes([high, low]),
        _ => u16::from(char::REPLACEMENT_CHARACTER as u32 as u16),
    });
    char::decode_utf16(units)
        .map(|it| it.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn decoded(media: &str, body: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, media.parse().unwrap());
        decode(&headers, body)
    }

    #[test]
    fn texts_are_read_as_the_gateway_marks_them() {
        let utf8 = "text/plain; charset=\"UTF-8\"";
        assert_eq!(decoded(utf8, "4,20 €".as_bytes()), "4,20 €");
        let utf16 = "text/plain; charset=\"UTF-16BE\"";
        assert_eq!(decoded(utf16, &[0x06, 0x64, 0x20, 0x0b]), "\u{664}\u{200b}");
        assert_eq!(decoded(utf16, &[0xd8, 0x3d, 0xde, 0x00]), "\u{1f600}");
        assert_eq!(decoded("application/octet-stream", b"STOP"), "STOP");
    }

    #[test]
    fn bytes_that_are_no_text_become_signs_that_mean_nothing() {
        for (media, body) in [
            ("text/plain", &[0xff, 0xfe][..]),
            ("text/plain; charset=utf-16be", &[0x00]),
        ] {
            let text = decoded(media, body);
            assert!(text.contains(char::REPLACEMENT_CHARACTER), "{text:?}");
        }
    }
}
