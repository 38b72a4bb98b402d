//! What is known of this terminal's tags over a power cut?

use rusqlite::{OptionalExtension, params};
use zeroize::Zeroizing;

use super::{State, StateError};
use crate::tag::{LeftOn, Programming, TagError, TagRecord, TagSafe, hex};

const LEFT: &str = "left_on_tag";

impl TagSafe for State {
    fn recall(&self, uid: &[u8]) -> Result<Option<TagRecord>, TagError> {
        self.tag_record(uid).map_err(not_kept)
    }

    fn keep(&self, uid: &[u8], record: &TagRecord) -> Result<(), TagError> {
        self.keep_tag_record(uid, record).map_err(not_kept)
    }

    fn forget(&self, uid: &[u8]) -> Result<(), TagError> {
        let forget = "DELETE FROM tag_record WHERE uid = ?1";
        let forgotten = self.lock().execute(forget, [uid]);
        forgotten.map(|_| ()).map_err(|e| not_kept(e.into()))
    }

    fn adopt(&self, uid: &[u8]) -> Result<(), TagError> {
        self.adopt_tag(uid).map_err(not_kept)
    }

    fn count(&self, uid: &[u8], what: &Programming) -> Result<(), TagError> {
        self.count_or_wait(&hex(uid), what).map_err(not_kept)
    }

    fn own(&self) -> Result<Option<Vec<u8>>, TagError> {
        let query = "SELECT uid FROM tag_record WHERE own = 1";
        let own = self.lock().query_row(query, [], |row| row.get(0));
        own.optional().map_err(|e| not_kept(e.into()))
    }
}

impl State {
    fn tag_record(&self, uid: &[u8]) -> Result<Option<TagRecord>, StateError> {
        let query = "SELECT record FROM tag_record WHERE uid = ?1";
        let text = self
            .lock()
            .query_row(query, [uid], |row| {
                row.get::<_, String>(0).map(Zeroizing::new)
            })
            .optional()?;
        Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    fn keep_tag_record(&self, uid: &[u8], record: &TagRecord) -> Result<(), StateError> {
        let text = Zeroizing::new(serde_json::to_string(record)?);
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        transaction.execute(
            "INSERT INTO tag_record (uid, record) VALUES (?1, ?2)
             ON CONFLICT (uid) DO UPDATE SET record = excluded.record",
            params![uid, text.as_str()],
        )?;
        // A chip that gets keys or settings may count from 0 again, and that is no other chip.
        transaction.execute("UPDATE tag SET counter = NULL WHERE uid = ?1", [hex(uid)])?;
        Ok(transaction.commit()?)
    }

    /// What the last run left on the tag; told once, for after a power cut nobody knows.
    pub fn take_left_on_tag(&self) -> Result<Option<LeftOn>, StateError> {
        let left = self.fact(LEFT)?;
        self.lock()
            .execute("DELETE FROM fact WHERE name = ?1", [LEFT])?;
        Ok(left)
    }

    /// The run ends in good order.
    pub fn keep_left_on_tag(&self, left: &LeftOn) -> Result<(), StateError> {
        self.set_fact(LEFT, left)
    }

    /// The terminal has no tag of its own any more; what is known of it stays known.
    pub fn disown_tag(&self) -> Result<(), StateError> {
        let disown = "UPDATE tag_record SET own = NULL WHERE own = 1";
        self.lock().execute(disown, [])?;
        Ok(())
    }

    fn adopt_tag(&self, uid: &[u8]) -> Result<(), StateError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        transaction.execute("UPDATE tag_record SET own = NULL WHERE own = 1", [])?;
        transaction.execute("UPDATE tag_record SET own = 1 WHERE uid = ?1", [uid])?;
        Ok(transaction.commit()?)
    }
}

/// The words of the database's fault; the hint beside them is the tag error's own.
fn not_kept(error: StateError) -> TagError {
    TagError::NotKept(error.to_string())
}
