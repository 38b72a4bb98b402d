//! What do the pages load, and under which names may it be kept for ever?
//!
//! A style sheet, two scripts and an icon, part of the program. Each is served under a path that holds a
//! hash of its bytes, so that a browser never asks twice and never shows an old one. They are small
//! enough to go uncompressed: a page with a form token in it is better not compressed at all (BREACH),
//! and the rest would save one packet or two.

use base64ct::{Base64UrlUnpadded, Encoding};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use sha2::{Digest, Sha256};
use warp::reply::Response;
use warp::{Filter, Reply};

use super::secure;
use crate::config::PagesConfig;
use crate::http::public::insert;
use crate::http::{Public, Routes};

const STYLE: &str = include_str!("../../../assets/pages.css");
const SCRIPT: &str = include_str!("../../../assets/pages.js");
const PASSKEY: &str = include_str!("../../../assets/passkey.js");
const ICON: &str = include_str!("../../../assets/icon.svg");
/// The accent in the icon's file, as it is without a configuration.
const ICON_ACCENT: &str = "#0b5d57";
const SCRIPT_MEDIA: &str = "text/javascript; charset=utf-8";
/// Bytes of the hash that stand in the path.
const HASH_BYTES: usize = 12;

/// One file.
#[derive(Debug, Clone)]
pub(super) struct Asset {
    pub(super) path: String,
    media: &'static str,
    bytes: Bytes,
}

/// All files there are.
#[derive(Debug, Clone)]
pub(super) struct Assets {
    pub(super) style: Asset,
    pub(super) script: Asset,
    /// Only where a passkey is asked for.
    pub(super) passkey: Asset,
    pub(super) icon: Asset,
}

impl Assets {
    /// In the operator's colours.
    pub(super) fn new(config: &PagesConfig) -> Self {
        let (accent, dark) = (&config.accent, &config.accent_dark);
        let colours = format!(":root{{--brand-accent:{accent};--brand-accent-dark:{dark}}}\n");
        let icon = ICON.replace(ICON_ACCENT, accent);
        Self {
            style: Asset::new("css", "text/css; charset=utf-8", colours + STYLE),
            script: Asset::new("js", SCRIPT_MEDIA, SCRIPT.into()),
            passkey: Asset::new("js", SCRIPT_MEDIA, PASSKEY.into()),
            icon: Asset::new("svg", "image/svg+xml", icon),
        }
    }

    pub(super) fn routes(&self) -> Routes<Public> {
        let known = [&self.style, &self.script, &self.passkey, &self.icon].map(Clone::clone);
        let route = warp::path!("assets" / String).and(warp::get());
        let route = route.and_then(move |name: String| {
            let is_it = |it: &&Asset| it.path.strip_prefix("/assets/") == Some(&name);
            let found = known.iter().find(is_it).map(Asset::response);
            std::future::ready(found.ok_or_else(warp::reject::not_found))
        });
        Routes::new("page-asset", route)
    }
}

impl Asset {
    fn new(extension: &str, media: &'static str, text: String) -> Self {
        let digest = Sha256::digest(&text);
        let hash = Base64UrlUnpadded::encode_string(&digest[..HASH_BYTES]);
        Self {
            path: format!("/assets/{hash}.{extension}"),
            media,
            bytes: text.into(),
        }
    }

    fn response(&self) -> Response {
        let mut response = http::Response::new(self.bytes.clone()).into_response();
        insert(&mut response, CONTENT_TYPE, self.media);
        let kept = "public, max-age=31536000, immutable";
        insert(&mut response, CACHE_CONTROL, kept);
        secure::asset(&mut response);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::{ICON, ICON_ACCENT, PASSKEY, SCRIPT, STYLE};

    #[test]
    fn the_style_sheet_knows_no_left_and_no_right() {
        let sides = ["left", "right", "-top:", "-bottom:", "width:", "height:"];
        for line in STYLE.lines().filter(|line| !line.starts_with("/*")) {
            let line = line
                .replace("stroke-width:", "")
                .replace("line-height:", "");
            let media = line.starts_with("@media");
            let physical = sides.iter().find(|side| line.contains(**side));
            assert!(media || physical.is_none(), "{physical:?} in {line}");
        }
    }

    #[test]
    fn the_icon_takes_the_accent_and_the_scripts_write_no_markup() {
        assert!(ICON.contains(ICON_ACCENT));
        for markup in [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
        ] {
            assert!(
                !SCRIPT.contains(markup) && !PASSKEY.contains(markup),
                "{markup}"
            );
        }
    }
}
