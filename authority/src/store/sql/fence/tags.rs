//! Which retired tags has a restored copy forgotten?
//!
//! A tag whose last keys were made in the lost time has no row for them here. Nothing that it signs counts
//! without one, and the next keys are of a later version than any that the journal calls retired.

use crate::store::sql::conn::{Conn, params};
use protocol::sun::TagUid;
use protocol::time::Timestamp;

use super::super::row::{all, get, one};
use super::super::tags::{read_retired, retire_again};
use super::super::writer::Tx;
use crate::journal::{Fact, Known, RetiredTag};
use crate::store::Result;

/// Tags that were retired and count here. Without their last keys a copy is told by its generation alone:
/// a raise does not bring them back.
pub(super) fn missing_tags(conn: &Conn, known: &Known, generation: u32) -> Result<Vec<TagUid>> {
    let mut missing = Vec::new();
    for (uid, gone) in &known.tags {
        let here = here(conn, &gone.tag)?;
        let is_lost = gone.generation >= generation && here.last < gone.tag.key_version;
        if here.counts || is_lost {
            missing.push(*uid);
        }
    }
    Ok(missing)
}

struct Here {
    /// Whether keys of a version that was retired do.
    counts: bool,
    /// Version of its last keys.
    last: u8,
}

fn here(conn: &Conn, tag: &RetiredTag) -> Result<Here> {
    one(
        conn,
        "SELECT coalesce(max(key_version), 0) AS last,
             coalesce(max(CASE WHEN retired_at_ms IS NULL AND key_version <= ?2 THEN 1 ELSE 0 END), 0)
                 AS counts
         FROM tags WHERE uid = ?1",
        params![tag.uid.as_bytes(), tag.key_version],
        |row| {
            Ok(Here {
                counts: get(row, "counts")?,
                last: get(row, "last")?,
            })
        },
    )
}

/// What a crash kept from the journal, with the time of each. What later keys of the same tag ended is not
/// worth a line.
pub(super) fn unjournalled_tags(conn: &Conn, known: &Known) -> Result<Vec<(Timestamp, Fact)>> {
    let retired = all(
        conn,
        "SELECT uid, key_version, retired_at_ms, retired_because FROM tags t
         WHERE retired_at_ms IS NOT NULL AND NOT EXISTS (
             SELECT 1 FROM tags later WHERE later.uid = t.uid
             AND later.key_version > t.key_version
             AND (later.retired_at_ms IS NOT NULL OR later.signing_since_ms IS NOT NULL))
         ORDER BY uid",
        params![],
        read_retired,
    )?;
    let owed = retired
        .into_iter()
        .filter(|tag| known.retired_up_to(tag.uid) < tag.key_version);
    Ok(owed
        .map(|tag| (tag.retired_at, Fact::TagRetired(tag)))
        .collect())
}

pub(super) fn retire_tags(tx: &mut Tx<'_>, known: &Known, at: Timestamp) -> Result<Vec<TagUid>> {
    let mut again = Vec::new();
    for (uid, gone) in &known.tags {
        if retire_again(tx, &gone.tag, at)? {
            again.push(*uid);
        }
    }
    Ok(again)
}
