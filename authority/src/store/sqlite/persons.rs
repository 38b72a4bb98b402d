//! How is a person kept so that the audit names nobody and can forget them?
//!
//! Every person has two random salts. The audit holds SHA-256(audit salt ‖ issuer ‖ 0 ‖ subject), a
//! merchant sees base64url(HMAC-SHA-256(pairwise salt, merchant id)[..16]); without the salts neither
//! leads back.

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use protocol::ids::MerchantId;
use rusqlite::{Connection, Row, params};
use sha2::{Digest, Sha256};

use super::error::unusable;
use super::row::{find, get};
use super::writer::Tx;
use crate::store::{PersonKey, Result};

/// A person with a row.
pub(super) struct Person {
    pub(super) id: [u8; 16],
    key: PersonKey,
    audit_salt: [u8; 32],
    pairwise_salt: [u8; 32],
}

impl Person {
    /// What the audit says instead of who.
    pub(super) fn commitment(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.audit_salt);
        hash.update(self.key.issuer.as_bytes());
        hash.update([0]);
        hash.update(self.key.subject.as_bytes());
        hex(&hash.finalize())
    }

    /// What this merchant sees instead of who.
    pub(super) fn pseudonym(&self, merchant: MerchantId) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.pairwise_salt)
            .expect("HMAC takes keys of any length");
        mac.update(merchant.0.as_bytes());
        Base64UrlUnpadded::encode_string(&mac.finalize().into_bytes()[..16])
    }
}

pub(super) fn find_person(conn: &Connection, key: &PersonKey) -> Result<Option<Person>> {
    find(
        conn,
        "SELECT id, issuer, subject, audit_salt, pairwise_salt FROM persons
         WHERE issuer = ?1 AND subject = ?2",
        params![key.issuer, key.subject],
        read_person,
    )
}

/// The person's row, made now if there is none.
pub(super) fn person(tx: &Tx<'_>, key: &PersonKey) -> Result<Person> {
    if let Some(person) = find_person(tx.conn, key)? {
        return Ok(person);
    }
    let person = Person {
        id: random()?,
        key: key.clone(),
        audit_salt: random()?,
        pairwise_salt: random()?,
    };
    tx.execute_one(
        "INSERT INTO persons (id, issuer, subject, audit_salt, pairwise_salt)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            person.id,
            key.issuer,
            key.subject,
            person.audit_salt,
            person.pairwise_salt
        ],
    )?;
    Ok(person)
}

pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| unusable(format!("no random bytes: {error}")))?;
    Ok(bytes)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_person(row: &Row<'_>) -> Result<Person> {
    Ok(Person {
        id: get(row, "id")?,
        key: PersonKey {
            issuer: get(row, "issuer")?,
            subject: get(row, "subject")?,
        },
        audit_salt: get(row, "audit_salt")?,
        pairwise_salt: get(row, "pairwise_salt")?,
    })
}
