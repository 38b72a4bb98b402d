//! What may a page of ours do in a browser?
//!
//! Nothing but what is named here: one style sheet, two scripts, one icon, by their full addresses; forms
//! to ourselves. A form's redirects count as well in some browsers, which is why nothing of ours answers
//! a form with a redirect to an identity provider: a page of its own leads there ([`super::onward`]).
//!
//! `Referrer-Policy` is `strict-origin`, not `no-referrer`: with the latter browsers send `Origin: null`
//! with our own forms (Fetch, section 3.2). Either way no path leaves, and the token is in a path.

use http::HeaderName;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use warp::reply::Response;

use super::assets::Assets;
use crate::http::public::insert;

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
/// What no page needs; passkeys are left to their default, which is ourselves.
const FORBIDDEN: &str = "display-capture=(), fullscreen=(), geolocation=(), microphone=(), \
                         midi=(), payment=(), serial=(), usb=(), browsing-topics=()";

/// Headers of every page, made once.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    content: String,
    /// Only where the name is ours on every port: the header speaks for all of them.
    transport: bool,
}

/// Whether a page may open the camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Camera {
    Shut,
    Ours,
}

impl Policy {
    pub(super) fn new(origin: &str, assets: &Assets, own_port: bool) -> Self {
        let (style, script) = (&assets.style.path, &assets.script.path);
        let (passkey, icon) = (&assets.passkey.path, &assets.icon.path);
        let content = format!(
            "default-src 'none'; style-src {origin}{style}; script-src {origin}{script} {origin}{passkey}; \
             img-src {origin}{icon}; connect-src 'self'; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
        );
        Self {
            content,
            transport: own_port,
        }
    }

    /// For this browser only: kept nowhere, framed nowhere, passed on nowhere.
    pub(super) fn apply(&self, response: &mut Response, camera: Camera) {
        let camera = match camera {
            Camera::Shut => "()",
            Camera::Ours => "(self)",
        };
        let permissions = format!("camera={camera}, {FORBIDDEN}");
        insert(response, CONTENT_SECURITY_POLICY, &self.content);
        insert(response, PERMISSIONS_POLICY, &permissions);
        insert(response, CACHE_CONTROL, "no-store");
        insert(response, REFERRER_POLICY, "strict-origin");
        insert(response, OPENER_POLICY, "same-origin");
        insert(response, VARY, "accept-language, cookie");
        if self.transport {
            insert(response, STRICT_TRANSPORT_SECURITY, "max-age=31536000");
        }
        asset(response);
    }
}

/// What files need, too.
pub(super) fn asset(response: &mut Response) {
    insert(response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    insert(response, RESOURCE_POLICY, "same-origin");
}
