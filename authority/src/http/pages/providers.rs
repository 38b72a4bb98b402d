//! With whom can a shopper sign in?

use super::Site;

/// One button.
pub(super) struct Choice {
    pub(super) name: String,
    pub(super) letter: char,
    pub(super) action: String,
    /// What its form carries.
    pub(super) carries: Vec<(&'static str, String)>,
}

/// The same once more, although somebody is signed in: for what takes a sign-in of the last minutes.
pub(super) fn again(site: &Site, then: (&'static str, String)) -> Vec<Choice> {
    choices(site, &[then, ("fresh", "1".to_owned())])
}

/// All providers of the configuration, in its order.
pub(super) fn choices(site: &Site, carries: &[(&'static str, String)]) -> Vec<Choice> {
    let providers = site.journey.app.config.identity_providers.iter();
    let with_browsers = providers.filter_map(|it| Some((it, it.sign_in.as_ref()?)));
    with_browsers
        .map(|(provider, sign_in)| Choice {
            letter: provider.name.chars().next().unwrap_or('?'),
            action: format!("/sign-in/{}", sign_in.id),
            name: provider.name.clone(),
            carries: carries.to_vec(),
        })
        .collect()
}
