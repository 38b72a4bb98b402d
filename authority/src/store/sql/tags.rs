//! Does this tap spend a token, and what does a terminal's report change about the next?
//!
//! ```text
//!  made ──first report, or first tap──▶ signing ──▶ retired
//!    unsigned links go on                 unsigned links of the terminal's tag are refused
//! ```
//! Keys that sign retire the earlier ones of the same tag, but never those that bind another terminal: only an
//! operator ends that.

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::ids::TerminalId;
use protocol::sun::{COUNTER_MAX, TagUid};
use protocol::time::Timestamp;
use protocol::wire::reports::{Seen, TagSigns};
use serde_json::json;

use super::SqlStore;
use super::row::{all, count, find, get, one, terminal, time, time_or_none};
use super::terminals::active_terminal;
use super::writer::{Tx, Verdict};
use crate::journal::{Fact, RetiredTag};
use crate::store::sqlite::error::corrupt;
use crate::store::{
    Claim, CountingTag, KeyedTap, NewTag, Result, TAGS_PER_TERMINAL_MAX, TagAdded, TagRecord, Tags,
    TapRefusal,
};

/// Every column of a tag, and its taps: as many rows as it was paid with, so for people, not for claims.
const SELECT: &str = "SELECT t.*, (SELECT count(*) FROM taps p
     WHERE p.uid = t.uid AND p.key_version = t.key_version) AS taps FROM tags t";

#[async_trait]
impl Tags for SqlStore {
    async fn next_key_version(&self, uid: TagUid, above: u8) -> Result<Option<u8>> {
        self.read(move |conn| {
            let sql = "SELECT max(key_version) AS last FROM tags WHERE uid = ?1";
            let last = one(conn, sql, [uid.as_bytes()], |row| {
                get::<Option<u8>>(row, "last")
            })?;
            Ok(last.unwrap_or(0).max(above).checked_add(1))
        })
        .await
    }

    async fn add_tag(&self, tag: NewTag) -> Result<TagAdded> {
        self.write(move |tx| add(tx, &tag)).await
    }

    async fn tags_of(&self, terminal: TerminalId) -> Result<Vec<CountingTag>> {
        self.read(move |conn| {
            all(
                conn,
                "SELECT uid, key_version, master FROM tags
                 WHERE terminal = ?1 AND retired_at_ms IS NULL
                 ORDER BY made_at_ms DESC, key_version DESC LIMIT ?2",
                params![terminal.value(), TAGS_PER_TERMINAL_MAX],
                |row| {
                    Ok(CountingTag {
                        uid: TagUid::from_bytes(get(row, "uid")?),
                        key_version: get(row, "key_version")?,
                        master: get(row, "master")?,
                    })
                },
            )
        })
        .await
    }

    async fn tag(&self, uid: TagUid) -> Result<Vec<TagRecord>> {
        self.read(move |conn| {
            let sql = format!("{SELECT} WHERE t.uid = ?1 ORDER BY t.key_version DESC");
            all(conn, &sql, [uid.as_bytes()], read_tag)
        })
        .await
    }

    async fn tags(
        &self,
        terminal: Option<TerminalId>,
        after: Option<(TagUid, u8)>,
        limit: u32,
    ) -> Result<Vec<TagRecord>> {
        self.read(move |conn| {
            let sql = format!(
                "{SELECT} WHERE (?1 IS NULL OR t.terminal = ?1) AND (t.uid, t.key_version) > (?2, ?3)
                 ORDER BY t.uid, t.key_version LIMIT ?4"
            );
            let (uid, version) = match &after {
                Some((uid, version)) => (&uid.as_bytes()[..], *version),
                None => (&[][..], 0),
            };
            let terminal = terminal.map(TerminalId::value);
            all(conn, &sql, params![terminal, uid, version, limit], read_tag)
        })
        .await
    }

    async fn retire_tag(&self, uid: TagUid, because: String, at: Timestamp) -> Result<Option<u32>> {
        self.write(move |tx| retire(tx, uid, &because, at)).await
    }

    async fn tap_refusal(
        &self,
        terminal: TerminalId,
        tap: Option<KeyedTap>,
    ) -> Result<Option<TapRefusal>> {
        self.read(move |conn| match tap {
            None => unsigned(conn, terminal),
            Some(tap) => match judged(conn, terminal, &tap)? {
                Some(refusal) => Ok(Some(refusal)),
                None => Ok(is_spent(conn, &tap)?.then_some(TapRefusal::Repeated)),
            },
        })
        .await
    }
}

fn add(tx: &mut Tx<'_>, tag: &NewTag) -> Verdict<TagAdded> {
    if active_terminal(tx.conn, tag.terminal)?.is_none() {
        return Ok(TagAdded::TerminalRefused);
    }
    let elsewhere = find(
        tx.conn,
        "SELECT 1 FROM tags WHERE uid = ?1 AND terminal <> ?2 AND retired_at_ms IS NULL
         AND signing_since_ms IS NOT NULL LIMIT 1",
        params![tag.uid.as_bytes(), tag.terminal.value()],
        |_| Ok(()),
    )?;
    if elsewhere.is_some() {
        return Ok(TagAdded::SignsElsewhere);
    }
    let sql = "SELECT 1 FROM keys WHERE kid = ?1 AND purpose = 'tag' AND state = 'active'";
    if find(tx.conn, sql, [&tag.master], |_| Ok(()))?.is_none() {
        return Ok(TagAdded::Moved);
    }
    let counting = one(
        tx.conn,
        "SELECT count(*) AS counting FROM tags WHERE terminal = ?1 AND retired_at_ms IS NULL",
        [tag.terminal.value()],
        |row| get::<u32>(row, "counting"),
    )?;
    if counting >= TAGS_PER_TERMINAL_MAX {
        return Ok(TagAdded::TooMany);
    }
    let added = tx.execute(
        "INSERT INTO tags (uid, key_version, terminal, master, made_at_ms, read_floor)
         VALUES (?1, ?2, ?3, ?4, ?5, 0) ON CONFLICT DO NOTHING",
        params![
            tag.uid.as_bytes(),
            tag.key_version,
            tag.terminal.value(),
            tag.master,
            tag.at.ms()
        ],
    )?;
    if added == 0 {
        return Ok(TagAdded::Moved);
    }
    let body = json!({
        "tag": tag.uid.to_string(),
        "key_version": tag.key_version,
        "terminal": tag.terminal,
        "master": tag.master,
    });
    tx.record("tag.keys_made", tag.at, &body)?;
    Ok(TagAdded::Added)
}

fn retire(tx: &mut Tx<'_>, uid: TagUid, because: &str, at: Timestamp) -> Verdict<Option<u32>> {
    let retired = tx.execute(
        "UPDATE tags SET retired_at_ms = ?2, retired_because = ?3
         WHERE uid = ?1 AND retired_at_ms IS NULL",
        params![uid.as_bytes(), at.ms(), because],
    )?;
    let last = find(
        tx.conn,
        "SELECT * FROM tags WHERE uid = ?1 ORDER BY key_version DESC LIMIT 1",
        [uid.as_bytes()],
        read_retired,
    )?;
    let Some(last) = last else {
        return Ok(None);
    };
    if retired > 0 {
        let body = json!({ "tag": uid.to_string(), "because": because });
        tx.record("tag.retired", at, &body)?;
    }
    // Also when it was retired before: the journal may not have taken it the first time.
    tx.tell(last.retired_at, Fact::TagRetired(last));
    Ok(Some(u32::try_from(retired).unwrap_or(u32::MAX)))
}

/// Retires what a restored copy took for good of a tag that was retired. False if it has no such keys.
pub(super) fn retire_again(tx: &mut Tx<'_>, tag: &RetiredTag, at: Timestamp) -> Result<bool> {
    let retired = tx.execute(
        "UPDATE tags SET retired_at_ms = ?3, retired_because = ?4
         WHERE uid = ?1 AND key_version <= ?2 AND retired_at_ms IS NULL",
        params![tag.uid.as_bytes(), tag.key_version, at.ms(), tag.reason],
    )?;
    if retired > 0 {
        let body = json!({ "tag": tag.uid, "because": tag.reason, "by": "fence-raise" });
        tx.record("tag.retired", at, &body)?;
    }
    Ok(retired > 0)
}

/// What a restored copy must not forget of it.
pub(super) fn read_retired(row: &Row<'_>) -> Result<RetiredTag> {
    Ok(RetiredTag {
        uid: TagUid::from_bytes(get(row, "uid")?),
        key_version: get(row, "key_version")?,
        retired_at: time(row, "retired_at_ms")?,
        reason: get(row, "retired_because")?,
    })
}

/// Refuses a claim before anything is spent; what only the insert of the tap finds out comes after.
pub(super) fn refuse_tap(conn: &Conn, claim: &Claim) -> Result<Option<TapRefusal>> {
    let window = claim.live.token().window;
    match (&claim.tap, window.channel) {
        (Some(tap), _) => judged(conn, window.terminal, tap),
        (None, protocol::token::Channel::Nfc) => unsigned(conn, window.terminal),
        (None, _) => Ok(None),
    }
}

/// False if a link with this counter has spent a token before.
pub(super) fn insert_tap(tx: &mut Tx<'_>, claim: &Claim, tap: &KeyedTap) -> Result<bool> {
    let token = claim.live.token();
    let uid = tap.tap.uid();
    let inserted = tx.execute(
        "INSERT INTO taps (uid, key_version, counter, terminal, version, epoch, \"window\", turn,
                           claim, at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (uid, key_version, counter) DO NOTHING",
        params![
            uid.as_bytes(),
            tap.key_version,
            tap.tap.counter(),
            token.window.terminal.value(),
            token.window.version,
            token.window.epoch,
            token.window.window,
            token.turn,
            claim.id.0.as_bytes(),
            claim.at.ms()
        ],
    )?;
    if inserted == 1 {
        begin_signing(tx, token.window.terminal, uid, tap.key_version, claim.at)?;
    }
    Ok(inserted == 1)
}

/// What a terminal tells of its tag. What is of another terminal's tag, or of keys that are retired,
/// changes nothing.
pub(super) fn follow_report(
    tx: &mut Tx<'_>,
    from: TerminalId,
    seen: &Seen,
    at: Timestamp,
) -> Result<()> {
    let Seen::TagWritten {
        tag_uid,
        signs: Some(signs),
        ..
    } = seen
    else {
        return Ok(());
    };
    match TagUid::parse(tag_uid) {
        Some(uid) if signs.counter <= COUNTER_MAX => raise_floor(tx, from, uid, *signs, at),
        _ => Ok(()),
    }
}

fn raise_floor(
    tx: &mut Tx<'_>,
    from: TerminalId,
    uid: TagUid,
    signs: TagSigns,
    at: Timestamp,
) -> Result<()> {
    let raised = tx.execute(
        "UPDATE tags SET read_floor = max(read_floor, ?4), written_at_ms = ?5
         WHERE uid = ?1 AND key_version = ?2 AND terminal = ?3 AND retired_at_ms IS NULL",
        params![
            uid.as_bytes(),
            signs.key_version,
            from.value(),
            signs.counter,
            at.ms()
        ],
    )?;
    match raised {
        0 => Ok(()),
        _ => begin_signing(tx, from, uid, signs.key_version, at),
    }
}

/// The tag has these keys, and so no others; where it binds another terminal, that is not enough to let it go.
fn begin_signing(
    tx: &mut Tx<'_>,
    terminal: TerminalId,
    uid: TagUid,
    key_version: u8,
    at: Timestamp,
) -> Result<()> {
    let begun = tx.execute(
        "UPDATE tags SET signing_since_ms = ?3
         WHERE uid = ?1 AND key_version = ?2 AND signing_since_ms IS NULL",
        params![uid.as_bytes(), key_version, at.ms()],
    )?;
    if begun == 0 {
        return Ok(());
    }
    let because = format!("it has keys of version {key_version}");
    let replaced = tx.execute(
        "UPDATE tags SET retired_at_ms = ?3, retired_because = ?4
         WHERE uid = ?1 AND key_version < ?2 AND retired_at_ms IS NULL
         AND (terminal = ?5 OR signing_since_ms IS NULL)",
        params![
            uid.as_bytes(),
            key_version,
            at.ms(),
            because,
            terminal.value()
        ],
    )?;
    let body = json!({
        "tag": uid.to_string(),
        "key_version": key_version,
        "replaced": replaced,
    });
    tx.record("tag.signing", at, &body)
}

/// A link without a tap proves nothing where the tag would have signed it.
fn unsigned(conn: &Conn, terminal: TerminalId) -> Result<Option<TapRefusal>> {
    let signing = find(
        conn,
        "SELECT 1 FROM tags WHERE terminal = ?1 AND retired_at_ms IS NULL
         AND signing_since_ms IS NOT NULL LIMIT 1",
        [terminal.value()],
        |_| Ok(()),
    )?;
    Ok(signing.map(|()| TapRefusal::Unsigned))
}

fn judged(conn: &Conn, at: TerminalId, tap: &KeyedTap) -> Result<Option<TapRefusal>> {
    let found = find(
        conn,
        "SELECT terminal, read_floor, retired_at_ms, EXISTS (
             SELECT 1 FROM keys k WHERE k.kid = t.master AND k.purpose = 'tag'
             AND k.state IN ('active', 'superseded')) AS believed
         FROM tags t WHERE uid = ?1 AND key_version = ?2",
        params![tap.tap.uid().as_bytes(), tap.key_version],
        |row| {
            Ok(match () {
                () if terminal(row, "terminal")? != at => Some(TapRefusal::Elsewhere),
                () if time_or_none(row, "retired_at_ms")?.is_some() => Some(TapRefusal::Retired),
                () if !get::<bool>(row, "believed")? => Some(TapRefusal::Disbelieved),
                () if tap.tap.counter() <= get(row, "read_floor")? => Some(TapRefusal::Stale),
                () => None,
            })
        },
    )?;
    Ok(found.unwrap_or(Some(TapRefusal::Unknown)))
}

fn is_spent(conn: &Conn, tap: &KeyedTap) -> Result<bool> {
    let found = find(
        conn,
        "SELECT 1 FROM taps WHERE uid = ?1 AND key_version = ?2 AND counter = ?3",
        params![tap.tap.uid().as_bytes(), tap.key_version, tap.tap.counter()],
        |_| Ok(()),
    )?;
    Ok(found.is_some())
}

fn read_tag(row: &Row<'_>) -> Result<TagRecord> {
    let retired_at = time_or_none(row, "retired_at_ms")?;
    let because: Option<String> = get(row, "retired_because")?;
    Ok(TagRecord {
        uid: TagUid::from_bytes(get(row, "uid")?),
        key_version: get(row, "key_version")?,
        terminal: terminal(row, "terminal")?,
        master: get(row, "master")?,
        made_at: time(row, "made_at_ms")?,
        read_floor: get(row, "read_floor")?,
        signing_since: time_or_none(row, "signing_since_ms")?,
        written_at: time_or_none(row, "written_at_ms")?,
        retired: match (retired_at, because) {
            (None, None) => None,
            (Some(at), Some(because)) => Some((at, because)),
            _ => return Err(corrupt("a tag is retired for no reason")),
        },
        taps: count(row, "taps")?,
    })
}
