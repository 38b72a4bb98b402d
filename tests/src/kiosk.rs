//! What does the screen of a terminal show, to a person and to a phone's camera?

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, Response};
use rqrr::{Grid, SimpleGrid};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::{Failure, wait, web};

const PAGE_PATH: &str = "/kiosk";
const EVENTS_PATH: &str = "/kiosk/events";
/// Longer than any test; a page that hears nothing for so long is looked at by nobody.
const PAGE_LIMIT: Duration = Duration::from_secs(3_600);

/// The kiosk page of one agent, as a browser on that machine opens it.
pub struct Kiosk {
    data: PathBuf,
    http: Client,
    cookie: Mutex<Option<String>>,
}

/// The page, open: one frame after the other, as they are pushed.
pub struct Page {
    response: Response,
    text: String,
}

/// What the page is told.
#[derive(Deserialize)]
pub struct Frame {
    /// The terminal hears the authority.
    pub online: bool,
    /// How far the payment is, in the page's own words.
    pub screen: String,
    /// The two digits of the claim, once a phone has it.
    pub mark: Option<String>,
    qr: Option<QrPath>,
    code: Option<Code>,
}

#[derive(Deserialize)]
struct QrPath {
    size: usize,
    path: String,
    left_ms: u64,
}

#[derive(Deserialize)]
struct Code {
    text: String,
    left_ms: u64,
}

/// What a camera and a reading person take from the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faces {
    pub link: String,
    pub code: String,
    /// When the QR code changes at the latest, in milliseconds from now.
    pub qr_left_ms: u64,
    /// The same of the typed code.
    pub code_left_ms: u64,
}

impl Kiosk {
    /// The kiosk of the agent with this data folder; nothing is asked yet.
    pub fn of(data: &Path) -> Result<Self, Failure> {
        Ok(Self {
            data: data.to_owned(),
            http: web::plain()?,
            cookie: Mutex::new(None),
        })
    }

    /// `host:port` of screen and till.
    pub fn address(&self) -> Result<String, Failure> {
        let path = self.data.join("kiosk.addr");
        let text = std::fs::read_to_string(&path).map_err(Failure::of(path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// The address that opens the page in a browser.
    pub fn url(&self) -> Result<String, Failure> {
        let path = self.data.join("kiosk.secret");
        let secret = std::fs::read_to_string(&path).map_err(Failure::of(path.display()))?;
        Ok(format!(
            "http://{}{PAGE_PATH}?key={}",
            self.address()?,
            secret.trim()
        ))
    }

    /// Opens the page: the key in the address becomes a cookie.
    pub async fn open(&self) -> Result<(), Failure> {
        let response = self.http.get(self.url()?).send().await;
        let response = response.map_err(|e| web::sent(&e))?;
        let set = response
            .headers()
            .get("set-cookie")
            .and_then(|value| value.to_str().ok());
        let pair = set.and_then(|value| value.split(';').next());
        let pair = pair.ok_or_else(|| Failure::new("the kiosk page gives no cookie"))?;
        *self.cookie.lock().await = Some(pair.to_owned());
        Ok(())
    }

    /// What the page shows now.
    pub async fn frame(&self) -> Result<Frame, Failure> {
        self.page().await?.next().await
    }

    /// The page that stays open; its first frame is what it shows now.
    pub async fn page(&self) -> Result<Page, Failure> {
        let cookie = self.cookie.lock().await.clone().unwrap_or_default();
        let url = format!("http://{}{EVENTS_PATH}", self.address()?);
        let get = self.http.get(url).header("cookie", cookie);
        let response = get.timeout(PAGE_LIMIT).send().await;
        Ok(Page {
            response: response.map_err(|e| web::sent(&e))?,
            text: String::new(),
        })
    }

    /// Waits until QR code and typed code are both shown.
    pub async fn faces(&self) -> Result<Faces, Failure> {
        let look = async || self.frame().await.ok()?.faces();
        wait::until("QR code and typed code on the screen", look).await
    }

    /// Waits until the payment on the screen is this far.
    pub async fn shows(&self, wanted: &str) -> Result<Frame, Failure> {
        let look = async || {
            self.frame()
                .await
                .ok()
                .filter(|frame| frame.screen == wanted)
        };
        wait::until(&format!("the screen to show {wanted:?}"), look).await
    }
}

impl Page {
    /// The next frame, as soon as it is pushed.
    pub async fn next(&mut self) -> Result<Frame, Failure> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = data_of(event);
                self.text = rest.to_owned();
                match data {
                    Some(data) => return web::parse(data.as_bytes()),
                    None => continue,
                }
            }
            let chunk = self.response.chunk().await.map_err(|e| web::sent(&e))?;
            let chunk = chunk.ok_or_else(|| Failure::new("the kiosk's stream ends"))?;
            self.text.push_str(&String::from_utf8_lossy(&chunk));
        }
    }
}

impl Frame {
    /// QR code and typed code, if both are shown.
    pub fn faces(&self) -> Option<Faces> {
        let (qr, code) = (self.qr.as_ref()?, self.code.as_ref()?);
        Some(Faces {
            link: qr.decode()?,
            code: code.text.clone(),
            qr_left_ms: qr.left_ms,
            code_left_ms: code.left_ms,
        })
    }

    /// The link that a camera reads, and for how long it is shown, if there is one.
    pub fn link(&self) -> Option<(String, u64)> {
        let qr = self.qr.as_ref()?;
        Some((qr.decode()?, qr.left_ms))
    }

    /// The typed code, and for how long it is shown, if there is one.
    pub fn code(&self) -> Option<(&str, u64)> {
        let code = self.code.as_ref()?;
        Some((&code.text, code.left_ms))
    }
}

impl QrPath {
    /// What a camera reads off the modules that the page draws.
    fn decode(&self) -> Option<String> {
        let dark = self.dark_modules()?;
        let grid = SimpleGrid::from_func(self.size, |x, y| dark.contains(&(x, y)));
        Grid::new(grid).decode().ok().map(|(_, text)| text)
    }

    /// Every dark module of a path made of `M<x> <y>h<length>v1h-<length>z`.
    fn dark_modules(&self) -> Option<HashSet<(usize, usize)>> {
        let mut dark = HashSet::new();
        for run in self.path.split_terminator('z') {
            let (start, rest) = run.strip_prefix('M')?.split_once('h')?;
            let (x, y) = start.split_once(' ')?;
            let (x, y): (usize, usize) = (x.parse().ok()?, y.parse().ok()?);
            let length: usize = rest.split_once('v')?.0.parse().ok()?;
            dark.extend((x..x + length).map(|x| (x, y)));
        }
        Some(dark)
    }
}

/// The data of one server-sent event, if it has any.
fn data_of(event: &str) -> Option<String> {
    let data = event.lines().filter_map(|line| line.strip_prefix("data:"));
    let data: Vec<_> = data.map(str::trim_start).collect();
    (!data.is_empty()).then(|| data.join("\n"))
}
