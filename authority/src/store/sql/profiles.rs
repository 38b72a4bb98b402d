//! How do identities come to a profile, and how do they leave it?

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::ids::{AccountId, SessionId};
use protocol::time::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::SqlStore;
use super::brought::{bring, close, close_all};
use super::parted::{forget, keep};
use super::persons::{Person, find_person, forget_person, join, person_of};
use super::row::{all, currency, find, get, one, time, time_or_none, uuid};
use super::sessions::{end_of_identity, end_of_person, open_session};
use super::writer::{Stop, Tx, Verdict};
use crate::store::sqlite::error::corrupt;
use crate::store::{
    Brought, Deleted, EndReason, IDENTITIES_MAX, Linked, OfferLink, OfferedLink, PersonKey,
    Profile, ProfileAccount, ProfileIdentity, Profiles, Result, Unlinked,
};

#[async_trait]
impl Profiles for SqlStore {
    async fn profile(&self, person: PersonKey) -> Result<Option<Profile>> {
        self.read(move |conn| match find_person(conn, &person)? {
            Some(person) => profile(conn, &person).map(Some),
            None => Ok(None),
        })
        .await
    }

    async fn offer_link(&self, offer: OfferLink) -> Result<()> {
        self.write(move |tx| Ok(insert_offer(tx, &offer)?)).await
    }

    async fn offered_link(
        &self,
        id: Uuid,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Option<OfferedLink>> {
        self.read(move |conn| {
            let found = find_offer(conn, id, session, now)?;
            Ok(found.map(|offer| offer.shown(id)))
        })
        .await
    }

    async fn link(&self, id: Uuid, session: SessionId, at: Timestamp) -> Result<Linked> {
        self.write(move |tx| link(tx, id, session, at)).await
    }

    async fn unlink(
        &self,
        person: PersonKey,
        identity: PersonKey,
        at: Timestamp,
    ) -> Result<Unlinked> {
        self.write(move |tx| unlink(tx, &person, &identity, at))
            .await
    }

    async fn set_default_account(
        &self,
        person: PersonKey,
        account: AccountId,
        at: Timestamp,
    ) -> Result<bool> {
        self.write(move |tx| set_default(tx, &person, account, at))
            .await
    }

    async fn delete_profile(&self, person: PersonKey, at: Timestamp) -> Result<Deleted> {
        self.write(move |tx| delete(tx, &person, at)).await
    }

    async fn forget_parted(&self, now: Timestamp, limit: u32) -> Result<usize> {
        self.write(move |tx| Ok(forget(tx, now, limit)?)).await
    }
}

fn profile(conn: &Conn, person: &Person) -> Result<Profile> {
    Ok(Profile {
        identities: identities(conn, &person.id)?,
        accounts: all(
            conn,
            "SELECT s.id, s.rail, s.name, s.currency, s.issuer, s.added_at_ms,
                    p.default_account IS NOT DISTINCT FROM s.id AS is_default
             FROM service_accounts s JOIN persons p ON p.id = s.person
             WHERE s.person = ?1 AND s.closed_at_ms IS NULL
             ORDER BY is_default DESC, s.added_at_ms, s.id",
            [person.id],
            read_account,
        )?,
        locked: locked(conn, person)?,
    })
}

fn identities(conn: &Conn, person: &[u8; 16]) -> Result<Vec<ProfileIdentity>> {
    all(
        conn,
        "SELECT issuer, subject, linked_at_ms FROM identities WHERE person = ?1
         ORDER BY linked_at_ms, issuer, subject",
        [person],
        |row| {
            Ok(ProfileIdentity {
                key: read_key(row)?,
                linked_at: time(row, "linked_at_ms")?,
            })
        },
    )
}

fn locked(conn: &Conn, person: &Person) -> Result<Option<(Timestamp, String)>> {
    one(
        conn,
        "SELECT locked_at_ms, lock_reason FROM persons WHERE id = ?1",
        [person.id],
        |row| match time_or_none(row, "locked_at_ms")? {
            Some(at) => Ok(Some((at, get(row, "lock_reason")?))),
            None => Ok(None),
        },
    )
}

fn read_account(row: &Row<'_>) -> Result<ProfileAccount> {
    Ok(ProfileAccount {
        id: AccountId(uuid(row, "id")?),
        rail: get(row, "rail")?,
        name: get(row, "name")?,
        currency: currency(row, "currency")?,
        issuer: get(row, "issuer")?,
        is_default: get(row, "is_default")?,
    })
}

fn read_key(row: &Row<'_>) -> Result<PersonKey> {
    Ok(PersonKey {
        issuer: get(row, "issuer")?,
        subject: get(row, "subject")?,
    })
}

struct Offer {
    identity: PersonKey,
    provider: String,
    brought: Option<Brought>,
}

impl Offer {
    fn shown(self, id: Uuid) -> OfferedLink {
        OfferedLink {
            id,
            identity: self.identity,
            provider: self.provider,
            accounts: self.brought.map_or(Vec::new(), |brought| brought.accounts),
        }
    }
}

fn insert_offer(tx: &mut Tx<'_>, offer: &OfferLink) -> Result<()> {
    let brought = offer.brought.as_ref();
    let brought = brought.map(|brought| json!(brought).to_string());
    // A later one of the same session takes the place of an earlier.
    tx.execute(
        "DELETE FROM offered_links WHERE session = ?1",
        [offer.session.0.as_bytes()],
    )?;
    tx.execute_one(
        "INSERT INTO offered_links (id, session, issuer, subject, provider, brought, expires_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            offer.id.as_bytes(),
            offer.session.0.as_bytes(),
            offer.identity.issuer,
            offer.identity.subject,
            offer.provider,
            brought,
            offer.expires_at.ms()
        ],
    )?;
    let body = json!({ "link": offer.id, "session": offer.session, "provider": offer.provider });
    tx.record("link.offered", offer.at, &body)
}

fn find_offer(conn: &Conn, id: Uuid, session: SessionId, now: Timestamp) -> Result<Option<Offer>> {
    find(
        conn,
        "SELECT * FROM offered_links WHERE id = ?1 AND session = ?2 AND expires_at_ms > ?3",
        params![id.as_bytes(), session.0.as_bytes(), now.ms()],
        |row| {
            let brought = get::<Option<String>>(row, "brought")?;
            let read = |text: String| {
                serde_json::from_str(&text).map_err(|error| corrupt(format!("a link: {error}")))
            };
            Ok(Offer {
                identity: read_key(row)?,
                provider: get(row, "provider")?,
                brought: brought.map(read).transpose()?,
            })
        },
    )
}

fn link(tx: &mut Tx<'_>, id: Uuid, session: SessionId, at: Timestamp) -> Verdict<Linked> {
    let offer = find_offer(tx.conn, id, session, at)?;
    let open = open_session(tx.conn, session)?;
    let (Some(offer), Some((_, person))) = (offer, open) else {
        return Ok(Linked::Unknown);
    };
    let mut person = person_of(tx.conn, &person)?;
    tx.execute_one("DELETE FROM offered_links WHERE id = ?1", [id.as_bytes()])?;
    let opens = find_person(tx.conn, &offer.identity)?;
    let moved = match &opens {
        Some(other) if other.id == person.id => return Ok(Linked::Already),
        // Whoever holds a locked profile must not leave a key of theirs in it.
        Some(_) | None if person.locked => return Err(Stop::Refused(Linked::Locked)),
        Some(_) | None if is_full(tx.conn, &person)? => return Err(Stop::Refused(Linked::TooMany)),
        Some(other) if !is_empty(tx.conn, other)? => return Err(Stop::Refused(Linked::Taken)),
        Some(other) => leave(tx, other, &offer.identity, at)?,
        None => false,
    };
    join(tx, &mut person, &offer.identity, at)?;
    let body = json!({
        "person": person.commitment(),
        "provider": offer.provider,
        "session": session,
        "moved": moved,
    });
    tx.record("identity.linked", at, &body)?;
    if let Some(brought) = &offer.brought {
        bring(tx, &person, &offer.identity, brought, at)?;
    }
    Ok(Linked::Done)
}

fn is_full(conn: &Conn, person: &Person) -> Result<bool> {
    let identities = identities(conn, &person.id)?.len();
    Ok(identities >= IDENTITIES_MAX as usize)
}

/// Nothing is in this profile but one identity and what that brought, and none of it was ever used.
fn is_empty(conn: &Conn, person: &Person) -> Result<bool> {
    one(
        conn,
        "SELECT (SELECT count(*) FROM identities WHERE person = ?1) = 1
            AND NOT EXISTS (SELECT 1 FROM persons WHERE id = ?1 AND locked_at_ms IS NOT NULL)
            AND NOT EXISTS (SELECT 1 FROM accounts WHERE person = ?1)
            AND NOT EXISTS (SELECT 1 FROM passkeys WHERE person = ?1 AND removed_at_ms IS NULL)
            AND NOT EXISTS (SELECT 1 FROM claims WHERE person = ?1)
            AND NOT EXISTS (SELECT 1 FROM claims
                            WHERE signed_in_by = ?1 AND state IN ('held', 'paying'))
            AND NOT EXISTS (SELECT 1 FROM service_accounts s WHERE s.person = ?1 AND (
                    EXISTS (SELECT 1 FROM payments WHERE service_account = s.id)
                    OR EXISTS (SELECT 1 FROM intents WHERE service_account = s.id))) AS empty",
        [person.id],
        |row| get(row, "empty"),
    )
}

/// The identity leaves a profile that is empty without it. Answers that it did.
fn leave(tx: &mut Tx<'_>, other: &Person, identity: &PersonKey, at: Timestamp) -> Result<bool> {
    remove(tx, other, identity, at)?;
    tx.record(
        "profile.deleted",
        at,
        &json!({ "person": other.commitment() }),
    )?;
    erase(tx, other, at)?;
    Ok(true)
}

fn remove(tx: &mut Tx<'_>, person: &Person, identity: &PersonKey, at: Timestamp) -> Result<()> {
    end_of_identity(tx, identity, EndReason::Unlinked, at)?;
    close_all(tx, person, identity, at)?;
    keep(tx, person, identity, at)?;
    tx.execute_one(
        "DELETE FROM identities WHERE issuer = ?1 AND subject = ?2 AND person = ?3",
        params![identity.issuer, identity.subject, person.id],
    )
}

fn unlink(
    tx: &mut Tx<'_>,
    key: &PersonKey,
    identity: &PersonKey,
    at: Timestamp,
) -> Verdict<Unlinked> {
    let (Some(person), Some(opens)) = (find_person(tx.conn, key)?, find_person(tx.conn, identity)?)
    else {
        return Ok(Unlinked::Unknown);
    };
    if opens.id != person.id {
        return Ok(Unlinked::Unknown);
    }
    if locked(tx.conn, &person)?.is_some() {
        return Ok(Unlinked::Locked);
    }
    if identities(tx.conn, &person.id)?.len() <= 1 {
        return Ok(Unlinked::Last);
    }
    remove(tx, &person, identity, at)?;
    let body = json!({ "person": person.commitment(), "issuer": identity.issuer });
    tx.record("identity.unlinked", at, &body)?;
    Ok(Unlinked::Done)
}

fn set_default(
    tx: &mut Tx<'_>,
    key: &PersonKey,
    account: AccountId,
    at: Timestamp,
) -> Verdict<bool> {
    let Some(person) = find_person(tx.conn, key)? else {
        return Ok(false);
    };
    let touched = tx.execute(
        "UPDATE persons SET default_account = ?2 WHERE id = ?1 AND EXISTS
             (SELECT 1 FROM service_accounts
              WHERE id = ?2 AND person = ?1 AND closed_at_ms IS NULL)",
        params![person.id, account.0.as_bytes()],
    )?;
    if touched == 0 {
        return Ok(false);
    }
    let body = json!({ "person": person.commitment(), "account": account });
    tx.record("profile.default-account", at, &body)?;
    Ok(true)
}

fn delete(tx: &mut Tx<'_>, key: &PersonKey, at: Timestamp) -> Verdict<Deleted> {
    let Some(person) = find_person(tx.conn, key)? else {
        return Ok(Deleted::Unknown);
    };
    if let Some(refused) = why_not(tx.conn, &person)? {
        return Ok(refused);
    }
    tx.record(
        "profile.deleted",
        at,
        &json!({ "person": person.commitment() }),
    )?;
    end_of_person(tx, &person.id, EndReason::Deleted, at)?;
    let open = all(
        tx.conn,
        "SELECT id FROM service_accounts WHERE person = ?1 AND closed_at_ms IS NULL",
        [person.id],
        |row| Ok(AccountId(uuid(row, "id")?)),
    )?;
    for account in open {
        close(tx, account, at)?;
    }
    for identity in identities(tx.conn, &person.id)? {
        keep(tx, &person, &identity.key, at)?;
    }
    tx.execute("DELETE FROM identities WHERE person = ?1", [person.id])?;
    erase(tx, &person, at)?;
    Ok(Deleted::Done)
}

fn why_not(conn: &Conn, person: &Person) -> Result<Option<Deleted>> {
    if locked(conn, person)?.is_some() {
        return Ok(Some(Deleted::Locked));
    }
    let exists = |sql: &str| one(conn, sql, [person.id], |row| get::<bool>(row, "found"));
    if exists(
        "SELECT EXISTS (SELECT 1 FROM accounts WHERE person = ?1 AND balance_minor <> 0) AS found",
    )? {
        return Ok(Some(Deleted::BalanceLeft));
    }
    let held = exists(
        "SELECT EXISTS (SELECT 1 FROM claims
                        WHERE (person = ?1 OR signed_in_by = ?1) AND state IN ('held', 'paying'))
             OR EXISTS (SELECT 1 FROM intents JOIN service_accounts s ON s.id = intents.service_account
                        WHERE s.person = ?1 AND next_at_ms IS NOT NULL) AS found",
    )?;
    Ok(held.then_some(Deleted::Unsettled))
}

/// What named the shopper goes. What a rail calls an account that paid stays with the payment, because
/// books are kept and refunds go there.
fn erase(tx: &mut Tx<'_>, person: &Person, at: Timestamp) -> Result<()> {
    tx.execute(
        "UPDATE service_accounts SET issuer = NULL, subject = NULL, name = '' WHERE person = ?1",
        [person.id],
    )?;
    for sql in [
        "DELETE FROM offered_links WHERE session IN (SELECT id FROM sessions WHERE person = ?1)",
        "DELETE FROM sign_in_attempts WHERE session IN (SELECT id FROM sessions WHERE person = ?1)
             OR opened IN (SELECT id FROM sessions WHERE person = ?1)",
        "DELETE FROM sessions WHERE person = ?1",
    ] {
        tx.execute(sql, [person.id])?;
    }
    forget_person(tx, &person.id, at)
}
