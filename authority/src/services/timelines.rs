//! What if the database came back from another server, or from an earlier moment?
//!
//! ```text
//! new timeline, or started anew ──▶ the store stops ──▶ compare with the journal and with what was acknowledged
//!                                                           ├─▶ all of it is there: go on
//!                                                           └─▶ something is missing: fenced
//! ```

use std::sync::Arc;

use super::Failure;
use super::fence::{keep_outside, lost};
use crate::app::App;
use crate::store::StoreError;

/// Answers a question of the store, if it has one; answers how many.
pub async fn look(app: &App) -> Result<usize, Failure> {
    let (Some(server), Some(journal)) = (app.store.server_in_question(), app.fence.journal())
    else {
        return Ok(0);
    };
    let known = journal
        .known()
        .await
        .map_err(|error| StoreError::Unjournalled {
            detail: error.to_string(),
        })?;
    let known = Arc::new(known);
    let difference = app.store.differs_in_question(known.clone()).await?;
    let reasons = lost(&difference, &known);
    let now = app.clock.now();
    if reasons.is_empty() {
        tracing::warn!(
            timeline = server.timeline,
            "the database has another server, or started anew, and lacks nothing that is known"
        );
    } else {
        keep_outside(app, difference.missing);
        app.fence.put_up(reasons, now);
    }
    // Fenced or not: the verbs of the fence must read it.
    app.store.accept_server(server);
    let body = serde_json::json!({ "timeline": server.timeline }).to_string();
    app.store.note("database.timeline", body, now).await?;
    Ok(1)
}
