//! Who signed in, and what do they pay from?

use std::collections::BTreeSet;

use protocol::money::Currency;
use protocol::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::config::ProviderRail;
use crate::store::{ACCOUNTS_BROUGHT_MAX, Brought, BroughtAccount, PersonKey};

/// Longest reference and name of an account, in bytes.
const REFERENCE_MAX: usize = 128;
const NAME_MAX: usize = 64;

/// Whom a provider named, believed.
pub(super) struct Who {
    pub(super) person: PersonKey,
    pub(super) provider_session: Option<String>,
    pub(super) authenticated_at: Timestamp,
    pub(super) strong: bool,
    /// None: the provider brings no accounts, or could not be asked for them.
    pub(super) brought: Option<Brought>,
}

/// The claim `m2key_accounts`.
pub(super) enum Says {
    Nothing,
    These(Value),
}

#[derive(Deserialize)]
struct Raw {
    id: String,
    name: String,
    currency: Currency,
}

/// The accounts as the rail and the shopper call them. A provider that names none has one, called after
/// it; an entry that cannot be read is passed over.
pub(super) fn brought(rail: &ProviderRail, provider: &str, subject: &str, says: Says) -> Brought {
    let accounts = match says {
        Says::Nothing => vec![BroughtAccount {
            reference: subject.into(),
            name: provider.into(),
            currency: rail.currency,
        }],
        Says::These(value) => read(provider, value),
    };
    Brought {
        rail: rail.name.clone(),
        accounts,
    }
}

fn read(provider: &str, value: Value) -> Vec<BroughtAccount> {
    let Value::Array(entries) = value else {
        tracing::warn!(provider, "m2key_accounts is no list");
        return Vec::new();
    };
    let mut seen = BTreeSet::new();
    let mut accounts = Vec::new();
    for entry in entries.into_iter().take(ACCOUNTS_BROUGHT_MAX) {
        match serde_json::from_value::<Raw>(entry) {
            Ok(raw) if is_plain(&raw.id, REFERENCE_MAX) && is_plain(&raw.name, NAME_MAX) => {
                if seen.insert(raw.id.clone()) {
                    accounts.push(BroughtAccount {
                        reference: raw.id,
                        name: raw.name,
                        currency: raw.currency,
                    });
                }
            }
            // What it is stays out of the log: it names an account.
            _ => tracing::warn!(provider, "an account that cannot be read is passed over"),
        }
    }
    accounts
}

fn is_plain(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn of(says: Says) -> Vec<BroughtAccount> {
        let rail = ProviderRail {
            name: "bank".into(),
            currency: Currency::EUR,
        };
        brought(&rail, "Bank", "ann", says).accounts
    }

    #[test]
    fn a_provider_that_names_no_accounts_has_one_called_after_it() {
        let expected = BroughtAccount {
            reference: "ann".into(),
            name: "Bank".into(),
            currency: Currency::EUR,
        };
        assert_eq!(of(Says::Nothing), [expected]);
    }

    #[test]
    fn what_cannot_be_read_is_passed_over_and_named_twice_counts_once() {
        let says = json!([
            { "id": "1", "name": "Current", "currency": "EUR" },
            { "id": "1", "name": "Again", "currency": "EUR" },
            { "id": "2", "name": "", "currency": "EUR" },
            { "id": "3", "name": "a\nb", "currency": "EUR" },
            { "id": "4", "name": "Savings", "currency": "Euro" },
            { "id": 5, "name": "Savings", "currency": "EUR" },
            "6",
            { "id": "7", "name": "Card", "currency": "USD", "more": true },
        ]);
        let found = of(Says::These(says));
        let ids: Vec<_> = found.iter().map(|it| it.reference.as_str()).collect();
        assert_eq!(ids, ["1", "7"]);
        assert_eq!(of(Says::These(json!({ "id": "1" }))), []);
    }
}
