//! How is a person kept so that the audit names nobody and can forget them?
//!
//! A person is a profile that several identities open. It has two random salts: the audit holds
//! SHA-256(audit salt ‖ id), a merchant sees base64url(HMAC-SHA-256(pairwise salt, merchant id)[..16]);
//! without the salts neither leads back.

use crate::store::sql::conn::{Conn, Row, params};
use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use protocol::ids::{AccountId, MerchantId};
use protocol::time::Timestamp;
use sha2::{Digest, Sha256};

use super::allowances::lock_person;
use super::parted::take_up;
use super::row::{find, get, one};
use super::writer::Tx;
use crate::journal::hex;
use crate::store::sqlite::error::unusable;
use crate::store::{PersonKey, Result};

/// A person with a row.
pub(super) struct Person {
    pub(super) id: [u8; 16],
    audit_salt: [u8; 32],
    pairwise_salt: [u8; 32],
    /// Claims and pays nothing.
    pub(super) locked: bool,
}

impl Person {
    /// What the audit says instead of who.
    pub(super) fn commitment(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.audit_salt);
        hash.update(self.id);
        hex(&hash.finalize())
    }

    /// Key of what others know the profile by.
    pub(super) fn pairwise_salt(&self) -> &[u8; 32] {
        &self.pairwise_salt
    }

    /// What this merchant sees instead of who.
    pub(super) fn pseudonym(&self, merchant: MerchantId) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.pairwise_salt)
            .expect("HMAC takes keys of any length");
        mac.update(merchant.0.as_bytes());
        Base64UrlUnpadded::encode_string(&mac.finalize().into_bytes()[..16])
    }
}

pub(super) fn find_person(conn: &Conn, key: &PersonKey) -> Result<Option<Person>> {
    find(
        conn,
        "SELECT persons.id, audit_salt, pairwise_salt, locked_at_ms FROM identities
         JOIN persons ON persons.id = identities.person
         WHERE issuer = ?1 AND subject = ?2",
        params![key.issuer, key.subject],
        read_person,
    )
}

/// A profile that a row points to.
pub(super) fn person_of(conn: &Conn, id: &[u8; 16]) -> Result<Person> {
    one(
        conn,
        "SELECT id, audit_salt, pairwise_salt, locked_at_ms FROM persons WHERE id = ?1",
        [id],
        read_person,
    )
}

/// Nobody is left who could be named: the salts behind commitments and pseudonyms are gone.
pub(super) fn forget_person(tx: &mut Tx<'_>, id: &[u8; 16], at: Timestamp) -> Result<()> {
    super::passkeys::forget(tx, id, at)?;
    let (audit, pairwise): ([u8; 32], [u8; 32]) = (random()?, random()?);
    tx.execute_one(
        "UPDATE persons SET deleted_at_ms = ?2, audit_salt = ?3, pairwise_salt = ?4,
                            default_account = NULL
         WHERE id = ?1 AND deleted_at_ms IS NULL",
        params![id, at.ms(), audit, pairwise],
    )
}

/// The person whom this identity opens, made now if there is none.
pub(super) fn person(tx: &mut Tx<'_>, key: &PersonKey, at: Timestamp) -> Result<Person> {
    if let Some(person) = find_person(tx.conn, key)? {
        return Ok(person);
    }
    let mut person = Person {
        id: random()?,
        audit_salt: random()?,
        pairwise_salt: random()?,
        locked: false,
    };
    tx.execute_one(
        "INSERT INTO persons (id, audit_salt, pairwise_salt) VALUES (?1, ?2, ?3)",
        params![person.id, person.audit_salt, person.pairwise_salt],
    )?;
    join(tx, &mut person, key, at)?;
    Ok(person)
}

/// The identity opens this profile from now on, and brings along what counts against it.
pub(super) fn join(
    tx: &mut Tx<'_>,
    person: &mut Person,
    key: &PersonKey,
    at: Timestamp,
) -> Result<()> {
    tx.execute_one(
        "INSERT INTO identities (issuer, subject, person, linked_at_ms) VALUES (?1, ?2, ?3, ?4)",
        params![key.issuer, key.subject, person.id, at.ms()],
    )?;
    if let Some(reason) = take_up(tx, person, key, at)? {
        // Only a raise leaves a lock for somebody who is not here.
        lock_person(tx, person, &reason, Some("fence-raise"), at)?;
        person.locked = true;
    }
    Ok(())
}

/// Who pays from this service account.
pub(super) fn person_of_account(conn: &Conn, account: AccountId) -> Result<Option<Person>> {
    find(
        conn,
        "SELECT persons.id, audit_salt, pairwise_salt, locked_at_ms FROM service_accounts
         JOIN persons ON persons.id = service_accounts.person
         WHERE service_accounts.id = ?1",
        [account.0.as_bytes()],
        read_person,
    )
}

pub(in crate::store) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| unusable(format!("no random bytes: {error}")))?;
    Ok(bytes)
}

fn read_person(row: &Row<'_>) -> Result<Person> {
    Ok(Person {
        id: get(row, "id")?,
        audit_salt: get(row, "audit_salt")?,
        pairwise_salt: get(row, "pairwise_salt")?,
        locked: get::<Option<i64>>(row, "locked_at_ms")?.is_some(),
    })
}
