//! What does the person in front of the terminal see?
//!
//! One page on loopback, drawn anew by server-sent events. It is opened once with its key, which
//! becomes a cookie that scripts cannot read.

mod view;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use protocol::problem::ProblemType;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use warp::Filter;
use warp::Reply;
use warp::filters::BoxedFilter;
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

pub use view::View;

use crate::core::Board;
use crate::files::Secret;
use crate::http::refuse;
use crate::scene::Scene;

const PAGE: &str = include_str!("../../assets/kiosk.html");
const STYLE: &str = include_str!("../../assets/kiosk.css");
const SCRIPT: &str = include_str!("../../assets/kiosk.js");
const COOKIE: &str = "m2key-kiosk";
/// How often the page hears that the agent is alive.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What the page works with.
#[derive(Clone)]
pub struct Kiosk {
    pub board: watch::Receiver<Board>,
    pub secret: Arc<Secret>,
}

#[derive(Deserialize)]
struct Opening {
    key: Option<String>,
}

pub fn routes(kiosk: Kiosk) -> BoxedFilter<(Response,)> {
    let root = warp::path!("kiosk" / ..).and(warp::get());
    let secret = kiosk.secret.clone();
    let open = root
        .and(warp::path::end())
        .and(warp::query::<Opening>())
        .and_then(move |opening: Opening| std::future::ready(unlock(&secret, opening)));
    let inside = root.and(cookie(&kiosk.secret));
    let page = inside
        .clone()
        .and(warp::path::end())
        .map(|| text(PAGE, "text/html; charset=utf-8"));
    let style = inside
        .clone()
        .and(warp::path!("kiosk.css"))
        .map(|| text(STYLE, "text/css; charset=utf-8"));
    let script = inside
        .clone()
        .and(warp::path!("kiosk.js"))
        .map(|| text(SCRIPT, "text/javascript; charset=utf-8"));
    let events = inside
        .and(warp::path!("events"))
        .map(move || events(kiosk.board.clone()));
    open.or(page)
        .unify()
        .or(style)
        .unify()
        .or(script)
        .unify()
        .or(events)
        .unify()
        .boxed()
}

/// The address that opens the page, once.
pub fn url(address: std::net::SocketAddr, secret: &Secret) -> String {
    format!("http://{address}/kiosk?key={}", secret.expose())
}

/// The key in the address becomes a cookie; a page without a key is left to the next route.
fn unlock(secret: &Secret, opening: Opening) -> Result<Response, warp::Rejection> {
    let Some(key) = opening.key else {
        return Err(warp::reject::not_found());
    };
    if !secret.matches(&key) {
        return Err(locked());
    }
    let mut reply = StatusCode::SEE_OTHER.into_response();
    let cookie = format!(
        "{COOKIE}={}; Path=/kiosk; HttpOnly; SameSite=Strict",
        cookie_value(secret)
    );
    let headers = reply.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_static("/kiosk"));
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        headers.insert(header::SET_COOKIE, cookie);
    }
    Ok(reply)
}

fn cookie(secret: &Secret) -> BoxedFilter<()> {
    let wanted = Arc::new(cookie_value(secret));
    warp::cookie::optional::<String>(COOKIE)
        .and_then(move |cookie: Option<String>| {
            let fits = cookie.is_some_and(|c| c.as_bytes().ct_eq(wanted.as_bytes()).into());
            std::future::ready(if fits { Ok(()) } else { Err(locked()) })
        })
        .untuple_one()
        .boxed()
}

/// Not the secret itself, so that a look into the browser does not give the key away.
fn cookie_value(secret: &Secret) -> String {
    let mut hash = Sha256::new();
    hash.update(b"m2key/kiosk-cookie/1\0");
    hash.update(secret.expose().as_bytes());
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

fn locked() -> warp::Rejection {
    refuse(
        ProblemType::CertificateRefused,
        "this page needs its key; m2key-agent kiosk-url prints the address that opens it",
    )
}

fn text(body: &'static str, media: &'static str) -> Response {
    let mut reply = body.into_response();
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    reply
}

fn events(board: watch::Receiver<Board>) -> Response {
    let views = stream::unfold((board, true), next).map(|view| {
        let event = warp::sse::Event::default().event("view");
        Ok::<_, Infallible>(event.json_data(view).unwrap_or_default())
    });
    warp::sse::reply(views).into_response()
}

/// The first view at once, then one per change, and the same one again when nothing changes: a page
/// that hears nothing shows nothing.
async fn next(
    (mut board, first): (watch::Receiver<Board>, bool),
) -> Option<(View, (watch::Receiver<Board>, bool))> {
    if !first && let Ok(Err(_)) = tokio::time::timeout(KEEP_ALIVE, board.changed()).await {
        return None;
    }
    let view = View::of(Scene::of(&board.borrow_and_update()));
    Some((view, (board, false)))
}
