//! Which windows take a token now, and which of them does an event move on?

use hsm::Priority;
use protocol::ids::TerminalId;
use protocol::live::{candidates, epochs_needed};
use protocol::time::Timestamp;
use protocol::token::{Channel, WindowId};
use protocol::turn::TurnCause;

use super::Failure;
use crate::app::App;

/// The windows whose turn `cause` advances at `now`; found before the transaction that does it.
pub(super) async fn moved(
    app: &App,
    terminal: TerminalId,
    cause: TurnCause,
    now: Timestamp,
) -> Result<Vec<WindowId>, Failure> {
    let epochs = epochs_needed(terminal, now);
    let loaded = app
        .epoch_keys
        .load(terminal, &epochs, Priority::Payment)
        .await?;
    let acceptable = candidates(terminal, now, &app.config.policy, &loaded, &Channel::ALL);
    Ok(cause.moves(acceptable.into_iter().map(|candidate| candidate.id)))
}
