//! What does the person in front of the terminal see?
//!
//! One page on loopback, drawn anew by server-sent events. It is opened once with its key, which
//! becomes a cookie that scripts cannot read.

pub(crate) mod view;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
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
use crate::look::{Look, Theme};
use crate::scene::Scene;
use crate::words::{Language, Words};

const ICON: &str = include_str!("../../assets/kiosk.svg");
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
    pub look: Arc<Look>,
}

/// The page as it is served; it is filled by events.
#[derive(Template)]
#[template(path = "kiosk.html")]
struct Page<'a> {
    words: Words,
    theme: &'a Theme,
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
    let files = inside.clone().and(files(&kiosk.look));
    let events = inside
        .and(warp::path!("events"))
        .map(move || events(kiosk.board.clone(), kiosk.look.language));
    open.or(files).unify().or(events).unify().boxed()
}

/// What never changes while the agent runs.
fn files(look: &Arc<Look>) -> BoxedFilter<(Response,)> {
    let page = Page {
        words: Words(look.language),
        theme: &look.theme,
    };
    let page = page
        .render()
        .expect("the template writes into memory, and its parts are plain text");
    let colours = look.theme.colours.style();
    let logo = look.clone();
    let page = warp::path::end().map(move || file(page.clone(), "text/html; charset=utf-8"));
    let theme =
        warp::path!("theme.css").map(move || file(colours.clone(), "text/css; charset=utf-8"));
    let style = warp::path!("kiosk.css").map(|| file(STYLE, "text/css; charset=utf-8"));
    let script = warp::path!("kiosk.js").map(|| file(SCRIPT, "text/javascript; charset=utf-8"));
    let icon = warp::path!("kiosk.svg").map(|| file(ICON, "image/svg+xml"));
    let logo = warp::path!("logo.png").and_then(move || {
        let logo = logo.theme.logo.clone();
        std::future::ready(
            logo.map(|bytes| file(bytes, "image/png"))
                .ok_or_else(warp::reject::not_found),
        )
    });
    page.or(theme)
        .unify()
        .or(style)
        .unify()
        .or(script)
        .unify()
        .or(icon)
        .unify()
        .or(logo)
        .unify()
        .boxed()
}

/// The address that opens the page, once.
pub fn url(address: std::net::SocketAddr, secret: &Secret) -> String {
    format!("http://{address}/kiosk?key={}", secret.expose())
}

/// What a program that holds the key sends as its `Cookie`.
pub fn cookie_pair(secret: &Secret) -> String {
    format!("{COOKIE}={}", cookie_value(secret))
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
        "{}; Path=/kiosk; HttpOnly; SameSite=Strict",
        cookie_pair(secret)
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

fn file(body: impl Reply, media: &'static str) -> Response {
    let mut reply = body.into_response();
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    reply
}

fn events(board: watch::Receiver<Board>, language: Language) -> Response {
    let views = stream::unfold((board, true), move |state| next(state, language)).map(|view| {
        let event = warp::sse::Event::default().event("view");
        Ok::<_, Infallible>(event.json_data(view).unwrap_or_default())
    });
    warp::sse::reply(views).into_response()
}

/// The first view at once, then one per change, and the same one again when nothing changes: a page
/// that hears nothing shows nothing.
async fn next(
    (mut board, first): (watch::Receiver<Board>, bool),
    language: Language,
) -> Option<(View, (watch::Receiver<Board>, bool))> {
    if !first && let Ok(Err(_)) = tokio::time::timeout(KEEP_ALIVE, board.changed()).await {
        return None;
    }
    let scene = Scene::of(&board.borrow_and_update(), language);
    Some((View::of(scene, Words(language)), (board, false)))
}

#[cfg(test)]
mod tests;
