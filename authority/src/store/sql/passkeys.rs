//! How is a challenge signed once, and by a passkey that goes only forward?

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use protocol::ids::{AccountId, ClaimId};
use protocol::time::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::SqlStore;
use super::payments::Step;
use super::persons::{Person, find_person, person, person_of};
use super::row::{all, find, get, time, time_or_none, uuid, uuid_or_none};
use super::writer::{Stop, Tx, Verdict};
use crate::journal::{Fact, RemovedPasskey, hex};
use crate::store::sqlite::error::corrupt;
use crate::store::{
    About, AddPasskey, Barred, CHALLENGES_MAX, Challenge, Confirmation, NewPasskey, PASSKEYS_MAX,
    Passkey, PasskeyBook, Passkeys, Pay, PayOutcome, PersonKey, Result,
};

#[async_trait]
impl PasskeyBook for SqlStore {
    async fn passkeys(&self, person: PersonKey) -> Result<Option<Passkeys>> {
        self.read(move |conn| {
            let Some(person) = find_person(conn, &person)? else {
                return Ok(None);
            };
            Ok(Some(Passkeys {
                handle: person.handle(),
                passkeys: of_person(conn, &person)?,
            }))
        })
        .await
    }

    async fn passkey(&self, person: PersonKey, id: Vec<u8>) -> Result<Option<Passkey>> {
        self.read(move |conn| match find_person(conn, &person)? {
            Some(person) => one_of(conn, &person, &id),
            None => Ok(None),
        })
        .await
    }

    async fn add_challenge(
        &self,
        key: PersonKey,
        challenge: Challenge,
        at: Timestamp,
    ) -> Result<()> {
        self.write(move |tx| {
            let person = person(tx, &key, at)?;
            Ok(insert_challenge(tx, &person, &challenge, at)?)
        })
        .await
    }

    async fn challenge(
        &self,
        person: PersonKey,
        challenge: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Challenge>> {
        self.read(move |conn| match find_person(conn, &person)? {
            Some(person) => find_challenge(conn, &person, &challenge, now),
            None => Ok(None),
        })
        .await
    }

    async fn add_passkey(&self, passkey: NewPasskey) -> Result<AddPasskey> {
        self.write(move |tx| add(tx, &passkey)).await
    }

    async fn rename_passkey(
        &self,
        person: PersonKey,
        id: Vec<u8>,
        name: String,
        at: Timestamp,
    ) -> Result<bool> {
        let sql = "UPDATE passkeys SET name = ?3
                   WHERE id = ?1 AND person = ?2 AND removed_at_ms IS NULL";
        self.write(move |tx| {
            change(tx, &person, &id, at, "passkey.renamed", |tx, person| {
                tx.execute(sql, params![id, person.id, name])
            })
        })
        .await
    }

    async fn remove_passkey(&self, person: PersonKey, id: Vec<u8>, at: Timestamp) -> Result<bool> {
        let sql = "UPDATE passkeys SET removed_at_ms = ?3
                   WHERE id = ?1 AND person = ?2 AND removed_at_ms IS NULL";
        self.write(move |tx| {
            change(tx, &person, &id, at, "passkey.removed", |tx, person| {
                let removed = tx.execute(sql, params![id, person.id, at.ms()])?;
                if removed == 1 {
                    tx.tell(at, removed_fact(&person.id, &id, at));
                }
                Ok(removed)
            })
        })
        .await
    }

    async fn note_regression(
        &self,
        key: PersonKey,
        id: Vec<u8>,
        shown: u32,
        at: Timestamp,
    ) -> Result<()> {
        self.write(move |tx| {
            let person = person(tx, &key, at)?;
            let known = one_of(tx.conn, &person, &id)?.map(|it| it.counter);
            let body = json!({
                "person": person.commitment(),
                "passkey": name_of(&id),
                "counter": known,
                "shown": shown,
            });
            Ok(tx.record("passkey.regressed", at, &body)?)
        })
        .await
    }
}

/// The evidence of a confirmed payment: its challenge is gone, its counter taken over, both once.
pub(super) fn use_up(
    tx: &mut Tx<'_>,
    pay: &Pay,
    person: &Person,
    account: AccountId,
    by: &Confirmation,
) -> Step<()> {
    let refused = |why| Err(Stop::Refused(PayOutcome::Barred(why)));
    let about = About::Payment {
        claim: pay.approved.claimed().claim,
        amount_minor: pay.approved.amount().amount_minor(),
        account,
    };
    let open = find_challenge(tx.conn, person, &by.challenge, pay.at)?;
    let Some(challenge) = open.filter(|open| open.about == about) else {
        return refused(Barred::ChallengeOver);
    };
    tx.execute_one(
        "DELETE FROM challenges WHERE challenge = ?1",
        [challenge.challenge],
    )?;
    let touched = tx.execute(
        "UPDATE passkeys SET counter = ?3, used_at_ms = ?4
         WHERE id = ?1 AND person = ?2 AND removed_at_ms IS NULL
           AND (counter < ?3 OR (counter = 0 AND ?3 = 0))",
        params![by.passkey, person.id, by.counter, pay.at.ms()],
    )?;
    if touched != 1 {
        return refused(Barred::PasskeyRefused);
    }
    tx.execute_one(
        "INSERT INTO confirmations (payment, passkey, nonce, authenticator_data, client_data, signature)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            pay.payment.0.as_bytes(),
            by.passkey,
            challenge.nonce,
            by.authenticator_data,
            by.client_data,
            by.signature
        ],
    )?;
    let body = json!({
        "payment": pay.payment,
        "person": person.commitment(),
        "passkey": name_of(&by.passkey),
        "client_data_sha256": hex(&Sha256::digest(&by.client_data)),
        "signature_sha256": hex(&Sha256::digest(&by.signature)),
    });
    Ok(tx.record("payment.confirmed", pay.at, &body)?)
}

/// The person leaves: no passkey of theirs confirms anything, or says where it came from.
pub(super) fn forget(tx: &mut Tx<'_>, person: &[u8; 16], at: Timestamp) -> Result<()> {
    tx.execute("DELETE FROM challenges WHERE person = ?1", [person])?;
    for id in ids_of(tx.conn, person)? {
        tx.tell(at, removed_fact(person, &id, at));
    }
    tx.execute(
        "UPDATE passkeys SET name = '', removed_at_ms = coalesce(removed_at_ms, ?2)
         WHERE person = ?1",
        params![person, at.ms()],
    )?;
    Ok(())
}

/// Removes a passkey again that a restored copy took for good: the one of this SHA-256. False if the
/// profile has no such passkey.
pub(super) fn remove_again(
    tx: &mut Tx<'_>,
    person: &[u8; 16],
    sha256: &str,
    at: Timestamp,
) -> Result<bool> {
    let Some(id) = good_one(tx.conn, person, sha256)? else {
        return Ok(false);
    };
    tx.execute_one(
        "UPDATE passkeys SET removed_at_ms = ?2 WHERE id = ?1 AND removed_at_ms IS NULL",
        params![id, at.ms()],
    )?;
    tx.tell(at, removed_fact(person, &id, at));
    let body = json!({
        "person": person_of(tx.conn, person)?.commitment(),
        "passkey": name_of(&id),
        "by": "fence-raise",
    });
    tx.record("passkey.removed", at, &body)?;
    Ok(true)
}

/// The passkey of this profile that is good and has this SHA-256.
pub(super) fn good_one(conn: &Conn, person: &[u8; 16], sha256: &str) -> Result<Option<Vec<u8>>> {
    let mut ids = ids_of(conn, person)?.into_iter();
    Ok(ids.find(|id| hex(&Sha256::digest(id)) == *sha256))
}

/// What a restored copy must not forget of a passkey that was removed.
pub(super) fn removed_fact(person: &[u8; 16], id: &[u8], removed_at: Timestamp) -> Fact {
    Fact::PasskeyRemoved(RemovedPasskey {
        person: hex(person),
        sha256: hex(&Sha256::digest(id)),
        removed_at,
    })
}

/// Of the good ones.
fn ids_of(conn: &Conn, person: &[u8; 16]) -> Result<Vec<Vec<u8>>> {
    all(
        conn,
        "SELECT id FROM passkeys WHERE person = ?1 AND removed_at_ms IS NULL ORDER BY id",
        [person],
        |row| get(row, "id"),
    )
}

impl Person {
    /// What authenticators know the profile by.
    fn handle(&self) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.pairwise_salt())
            .expect("HMAC takes keys of any length");
        mac.update(b"m2key/passkey-handle/1\0");
        mac.finalize().into_bytes().into()
    }
}

/// What the audit calls a passkey: nobody finds its authenticator by that.
fn name_of(id: &[u8]) -> String {
    hex(&Sha256::digest(id)[..8])
}

fn of_person(conn: &Conn, person: &Person) -> Result<Vec<Passkey>> {
    all(
        conn,
        "SELECT * FROM passkeys WHERE person = ?1 AND removed_at_ms IS NULL
         ORDER BY added_at_ms, id",
        [person.id],
        read,
    )
}

fn one_of(conn: &Conn, person: &Person, id: &[u8]) -> Result<Option<Passkey>> {
    find(
        conn,
        "SELECT * FROM passkeys WHERE id = ?1 AND person = ?2 AND removed_at_ms IS NULL",
        params![id, person.id],
        read,
    )
}

fn read(row: &Row<'_>) -> Result<Passkey> {
    Ok(Passkey {
        id: get(row, "id")?,
        public_point: get(row, "public_point")?,
        counter: get(row, "counter")?,
        name: get(row, "name")?,
        added_at: time(row, "added_at_ms")?,
        used_at: time_or_none(row, "used_at_ms")?,
    })
}

/// What is over goes, and the oldest, so that nobody fills the table.
fn insert_challenge(tx: &Tx<'_>, person: &Person, it: &Challenge, at: Timestamp) -> Result<()> {
    tx.execute(
        "DELETE FROM challenges WHERE person = ?1 AND (ends_at_ms <= ?2 OR challenge NOT IN
             (SELECT challenge FROM challenges WHERE person = ?1
              ORDER BY ends_at_ms DESC, challenge LIMIT ?3))",
        params![person.id, at.ms(), CHALLENGES_MAX - 1],
    )?;
    let (claim, amount_minor, account) = match it.about {
        About::Registration => (None, None, None),
        About::Payment {
            claim,
            amount_minor,
            account,
        } => (Some(claim), Some(amount_minor), Some(account)),
    };
    tx.execute_one(
        "INSERT INTO challenges (challenge, person, nonce, claim, amount_minor, account, ends_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            it.challenge,
            person.id,
            it.nonce,
            claim.map(|it| *it.0.as_bytes()),
            amount_minor,
            account.map(|it| *it.0.as_bytes()),
            it.ends_at.ms()
        ],
    )
}

fn find_challenge(
    conn: &Conn,
    person: &Person,
    challenge: &[u8; 32],
    now: Timestamp,
) -> Result<Option<Challenge>> {
    find(
        conn,
        "SELECT * FROM challenges WHERE challenge = ?1 AND person = ?2 AND ends_at_ms > ?3",
        params![challenge, person.id, now.ms()],
        |row| {
            Ok(Challenge {
                challenge: get(row, "challenge")?,
                nonce: get(row, "nonce")?,
                about: read_about(row)?,
                ends_at: time(row, "ends_at_ms")?,
            })
        },
    )
}

fn read_about(row: &Row<'_>) -> Result<About> {
    match uuid_or_none(row, "claim")?.map(ClaimId) {
        None => Ok(About::Registration),
        Some(claim) => Ok(About::Payment {
            claim,
            amount_minor: get(row, "amount_minor")?,
            account: AccountId(uuid(row, "account")?),
        }),
    }
}

fn add(tx: &mut Tx<'_>, new: &NewPasskey) -> Verdict<AddPasskey> {
    let person = person(tx, &new.person, new.at)?;
    let open = find_challenge(tx.conn, &person, &new.challenge, new.at)?;
    if open.is_none_or(|open| open.about != About::Registration) {
        return Ok(AddPasskey::ChallengeOver);
    }
    tx.execute_one(
        "DELETE FROM challenges WHERE challenge = ?1",
        [new.challenge],
    )?;
    if of_person(tx.conn, &person)?.len() >= PASSKEYS_MAX {
        return Ok(AddPasskey::TooMany);
    }
    let touched = tx.execute(
        "INSERT INTO passkeys (id, person, public_point, counter, name, added_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        params![
            new.id,
            person.id,
            new.public_point,
            new.counter,
            new.name,
            new.at.ms()
        ],
    )?;
    if touched != 1 {
        return Ok(AddPasskey::Taken);
    }
    let body = json!({ "person": person.commitment(), "passkey": name_of(&new.id) });
    tx.record("passkey.added", new.at, &body)?;
    Ok(AddPasskey::Added)
}

/// One statement about one passkey of this person; true if there was one to change.
fn change(
    tx: &mut Tx<'_>,
    key: &PersonKey,
    id: &[u8],
    at: Timestamp,
    kind: &str,
    statement: impl FnOnce(&mut Tx<'_>, &Person) -> Result<usize>,
) -> Verdict<bool> {
    let Some(person) = find_person(tx.conn, key)? else {
        return Ok(false);
    };
    match statement(tx, &person)? {
        0 => Ok(false),
        1 => {
            let body = json!({ "person": person.commitment(), "passkey": name_of(id) });
            tx.record(kind, at, &body)?;
            Ok(true)
        }
        rows => Err(corrupt(format!("{rows} passkeys of one id")).into()),
    }
}
