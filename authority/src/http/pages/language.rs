//! Which language does this browser want from now on?

use std::sync::Arc;

use protocol::problem::ProblemType;
use serde::Deserialize;
use warp::Filter;

use super::visit::{Visit, form};
use super::words::{LANGUAGE_COOKIE, Language};
use super::{Site, add_cookie, answer};
use crate::http::problem::Answer;
use crate::http::{Public, Routes};

const KEPT_S: u32 = 365 * 24 * 3600;
/// Longest path that a change of the language leads back to.
const BACK_MAX: usize = 128;

#[derive(Clone, Deserialize)]
struct Chosen {
    language: String,
    #[serde(default)]
    back: String,
}

pub(super) fn routes(site: &Arc<Site>) -> Routes<Public> {
    let (of, site) = (site.clone(), site.clone());
    let route = warp::path!("language").and(form::<Chosen>(&of)).then(
        move |visit: Arc<Visit>, chosen: Chosen| {
            let (work_site, work_visit) = (site.clone(), visit.clone());
            let work = async move { choose(&work_site, &work_visit, &chosen) };
            answer(site.clone(), visit, work)
        },
    );
    Routes::new("page-language", route)
}

fn choose(site: &Site, visit: &Visit, chosen: &Chosen) -> Answer {
    let language = Language::of_tag(&chosen.language);
    let language = language.ok_or(ProblemType::MalformedRequest)?;
    let back = match is_path_of_ours(&chosen.back) {
        true => &chosen.back,
        false => "/",
    };
    let mut response = site.see_other(visit, back);
    let tag = language.tag();
    let cookie = format!(
        "{LANGUAGE_COOKIE}={tag}; Secure; HttpOnly; SameSite=Lax; Path=/; Max-Age={KEPT_S}"
    );
    add_cookie(&mut response, &cookie);
    Ok(response)
}

/// A path, and nothing that a browser takes for another host.
fn is_path_of_ours(path: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'/' | b'-' | b'.' | b'_');
    path.starts_with('/')
        && !path.starts_with("//")
        && path.len() <= BACK_MAX
        && path.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::is_path_of_ours;

    #[test]
    fn a_change_of_language_leads_nowhere_else() {
        for path in ["/", "/me", "/t/47110422.448FT7303N447EFB8H2JK8WRP4"] {
            assert!(is_path_of_ours(path), "{path}");
        }
        for path in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a?b=c",
            "/a\r\nb",
            "/%2f/evil",
        ] {
            assert!(!is_path_of_ours(path), "{path}");
        }
    }
}
