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

/// All providers of the configuration, in its order.
pub(super) fn choices(site: &Site, carries: &[(&'static str, String)]) -> Vec<Choice> {
    let providers = site.journey.app.config.identity_providers.iter();
    providers
        .map(|provider| Choice {
            letter: provider.name.chars().next().unwrap_or('?'),
            action: format!("/sign-in/{}", provider.name),
            name: provider.name.clone(),
            carries: carries.to_vec(),
        })
        .collect()
}
