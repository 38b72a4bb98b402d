//! What moves the money, when it is not the built-in ledger?
//!
//! A rail is asked with a key that it acts on once. It answers that it is done or that it declines;
//! whatever else comes back, or nothing at all, is *unknown*, and is asked for again under the same key.
//!
//! ```text
//! authorise ─▶ may this account pay it?          capture ─▶ take it
//! query     ─▶ how does this key stand?          reverse ─▶ this key never has an effect, from now on
//! refund    ─▶ give back, under a key of its own
//! ```

mod http;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::requests::Requests;
use crate::app::App;

pub use crate::store::{RailKey, Reason};
pub use http::{HttpRail, RailError};
pub use types::{Answer, Order, Refund, Standing};

/// Most characters of a reference that a rail gives.
pub const REFERENCE_CHARS_MAX: usize = 64;

/// Somebody who moves money when asked.
///
/// Every verb is idempotent by the key of what it is asked with: the same again is answered the same and
/// does nothing more. None of them fails: what is not certain is [`Answer::Unknown`].
#[async_trait]
pub trait Rail: Send + Sync + 'static {
    /// Sets the amount aside.
    async fn authorise(&self, order: &Order) -> Answer;

    /// Takes what was set aside.
    async fn capture(&self, order: &Order) -> Answer;

    /// Undoes whatever was done under this key, and leaves a tombstone: what comes late under it is
    /// declined. Also for a key that was never seen.
    async fn reverse(&self, order: &Order) -> Answer;

    /// Gives back a part, or all, of what was captured under another key.
    async fn refund(&self, refund: &Refund) -> Answer;

    /// How this key stands.
    async fn query(&self, order: &Order) -> Standing;
}

/// The rails of the configuration, by the name that service accounts give.
#[derive(Clone, Default)]
pub struct Rails(BTreeMap<String, Arc<dyn Rail>>);

impl Rails {
    pub fn new(rails: impl IntoIterator<Item = (String, Arc<dyn Rail>)>) -> Self {
        Self(rails.into_iter().collect())
    }

    /// Those of the configuration.
    pub fn configured(app: &Arc<App>) -> Result<Self, RailError> {
        let requests = Requests::of(app);
        if !app.config.rails.is_empty() && !requests.has_key() {
            tracing::error!(
                "rails are configured and there is no request key: nothing can be asked \
                of them before `key prepare request` and `key activate`"
            );
        }
        http::all(&app.config.rails, &requests)
    }

    pub fn get(&self, name: &str) -> Option<Arc<dyn Rail>> {
        self.0.get(name).cloned()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
