//! Who moves a turn, and how does the terminal learn of it?

use std::sync::LazyLock;

use crate::store::sql::conn::{Bind, Conn, params};
use protocol::ids::TerminalId;
use protocol::token::{TokenId, WindowId};
use protocol::turn::{TurnState, next_turn};

use super::row::{all, count, find, get, listed, terminal, window};
use super::writer::Tx;
use crate::store::sqlite::error::corrupt;
use crate::store::{News, REVISIONS_MAX, Result};

/// Windows that one statement moves.
const MOVED_AT_ONCE_MAX: usize = 16;

/// The stored turn; 0 where none is stored.
pub(super) fn turn(conn: &Conn, window: &WindowId) -> Result<u16> {
    let stored = find(
        conn,
        "SELECT turn FROM turns WHERE epoch = ?1 AND terminal = ?2 AND version = ?3
         AND channel = ?4 AND \"window\" = ?5",
        params![
            window.epoch,
            window.terminal.value(),
            window.version,
            window.channel.byte(),
            window.window
        ],
        |row| get(row, "turn"),
    )?;
    Ok(stored.unwrap_or(0))
}

/// Every stored turn of a terminal in `epoch` and later: one seek per epoch, not one per terminal.
pub(super) fn turns_since(conn: &Conn, terminal: TerminalId, epoch: u32) -> Result<Vec<TurnState>> {
    all(
        conn,
        "WITH RECURSIVE later (epoch) AS (
             SELECT min(epoch) FROM turns WHERE epoch >= ?2
             UNION ALL
             SELECT (SELECT min(epoch) FROM turns WHERE epoch > later.epoch)
             FROM later WHERE epoch IS NOT NULL
         )
         SELECT t.* FROM later CROSS JOIN turns t WHERE t.epoch = later.epoch AND t.terminal = ?1",
        params![terminal.value(), epoch],
        |row| {
            Ok(TurnState {
                window: window(row)?,
                turn: get(row, "turn")?,
            })
        },
    )
}

/// What a spend found.
pub(super) enum Moved {
    Yes,
    /// The stored turn is another one.
    NotThisTurn,
    /// There is no turn after this one.
    Exhausted,
}

/// Moves the token's window on if the token's turn is the stored one.
pub(super) fn move_from(tx: &Tx<'_>, token: &TokenId) -> Result<Moved> {
    let Some(next) = next_turn(token.turn) else {
        return Ok(Moved::Exhausted);
    };
    let id = &token.window;
    // A window without a row is at turn 0; no row ever says 0.
    let sql = if token.turn == 0 {
        "INSERT INTO turns (epoch, terminal, version, channel, \"window\", turn)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE ?7 = 0 ON CONFLICT DO NOTHING"
    } else {
        "UPDATE turns SET turn = ?6 WHERE epoch = ?1 AND terminal = ?2 AND version = ?3
         AND channel = ?4 AND \"window\" = ?5 AND turn = ?7"
    };
    let touched = tx.execute(
        sql,
        params![
            id.epoch,
            id.terminal.value(),
            id.version,
            id.channel.byte(),
            id.window,
            next,
            token.turn
        ],
    )?;
    Ok(if touched == 1 {
        Moved::Yes
    } else {
        Moved::NotThisTurn
    })
}

/// Moves each window on by one, whatever its turn, or as often as it is named; at the last turn it stays shut.
pub(super) fn move_all(tx: &Tx<'_>, terminal: TerminalId, moved: &[WindowId]) -> Result<()> {
    let mut often: Vec<(WindowId, u16)> = Vec::new();
    for id in moved {
        if id.terminal != terminal {
            return Err(corrupt(format!(
                "a window of {} cannot move for {terminal}",
                id.terminal
            )));
        }
        // Once each: one statement cannot move a row twice.
        match often.iter_mut().find(|(known, _)| known == id) {
            Some((_, times)) => *times = times.saturating_add(1),
            None => often.push((*id, 1)),
        }
    }
    for some in often.chunks(MOVED_AT_ONCE_MAX) {
        let mut values: Vec<&dyn Bind> = Vec::new();
        let channels: Vec<u8> = some.iter().map(|(id, _)| id.channel.byte()).collect();
        for ((id, times), channel) in some.iter().zip(&channels) {
            values.extend([
                &id.epoch as &dyn Bind,
                &id.version,
                channel,
                &id.window,
                times,
            ]);
        }
        let terminal = terminal.value();
        values.extend([&terminal as &dyn Bind, &u16::MAX]);
        tx.execute_exactly(some.len(), &MOVING[some.len() - 1], &values[..])?;
    }
    Ok(())
}

/// One statement for all of them: beside each other they cost a database little more than one. Terminals have so few
/// windows at a time that two or three are all that are used; the first is for one window.
static MOVING: LazyLock<[String; MOVED_AT_ONCE_MAX]> =
    LazyLock::new(|| std::array::from_fn(|place| moving(place + 1)));

fn moving(count: usize) -> String {
    let (terminal, last) = (5 * count + 1, 5 * count + 2);
    let rows = (0..count).map(|row| {
        let [epoch, version, channel, window, times] = [1, 2, 3, 4, 5].map(|place| 5 * row + place);
        format!("(?{epoch}, ?{terminal}, ?{version}, ?{channel}, ?{window}, ?{times})")
    });
    let rows = rows.collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO turns (epoch, terminal, version, channel, \"window\", turn) VALUES {rows}
         ON CONFLICT (epoch, terminal, version, channel, \"window\")
             DO UPDATE SET turn = min(turns.turn + excluded.turn, ?{last})"
    )
}

/// Read by their keys, so that a few hundred terminals cost one statement. It is the same one for every
/// number of them: what is lacking is the first one again.
pub(super) fn revisions(conn: &Conn, terminals: &[TerminalId]) -> Result<Vec<(TerminalId, u64)>> {
    static STATEMENT: LazyLock<String> = LazyLock::new(|| {
        let asked = listed(1..=REVISIONS_MAX);
        format!("SELECT id, revision FROM terminals WHERE id IN {asked}")
    });
    let Some(first) = terminals.first() else {
        return Ok(Vec::new());
    };
    let asked = terminals.iter().chain(std::iter::repeat(first));
    let asked: Vec<u32> = asked.take(REVISIONS_MAX).map(|it| it.value()).collect();
    let asked: Vec<&dyn Bind> = asked.iter().map(|it| it as &dyn Bind).collect();
    let mut found = Vec::with_capacity(terminals.len());
    conn.query(&STATEMENT, &asked[..], &mut |row| {
        found.push((terminal(row, "id")?, count(row, "revision")?));
        Ok(true)
    })?;
    Ok(found)
}

/// What the terminal is told has changed.
pub(super) fn raise_revision(tx: &Tx<'_>, terminal: TerminalId) {
    tx.spread(News::Terminal(terminal));
    tx.together.borrow_mut().add_terminal(terminal);
}
