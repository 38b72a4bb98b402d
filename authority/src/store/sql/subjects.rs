//! What does a frequent write touch, so that it need not be alone?
//!
//! Everything that happens at one terminal touches that terminal; what a shopper may still spend is
//! theirs. Whoever changes a row that several subjects share holds the row ([`hold`]).

use protocol::ids::{ChargeId, ClaimId, PaymentId, TerminalId};

use super::SqlStore;
use super::conn::{Conn, params};
use super::control::{Subject, Touches};
use super::row::{find, terminal};
use crate::store::{Claim, Pay, Result};

/// Rows that are held one by one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Held {
    Person,
    Merchant,
}

impl SqlStore {
    /// What touches the terminal of this claim.
    pub(super) async fn at_claim(&self, id: ClaimId) -> Result<Touches> {
        let id = id.0.into_bytes();
        self.at_terminal_of(
            "SELECT charges.terminal FROM claims JOIN charges ON charges.id = claims.charge
             WHERE claims.id = ?1",
            id,
        )
        .await
    }

    /// What touches the terminal of this charge.
    pub(super) async fn at_charge(&self, id: ChargeId) -> Result<Touches> {
        let sql = "SELECT terminal FROM charges WHERE id = ?1";
        self.at_terminal_of(sql, id.0.into_bytes()).await
    }

    /// What touches the terminal of this payment, or of the intent that is to become it.
    pub(super) async fn at_payment(&self, id: PaymentId) -> Result<Touches> {
        self.at_terminal_of(
            "SELECT charges.terminal FROM charges JOIN claims ON claims.charge = charges.id
             WHERE claims.id = (SELECT claim FROM payments WHERE id = ?1
                                UNION SELECT claim FROM intents WHERE payment = ?1)",
            id.0.into_bytes(),
        )
        .await
    }

    /// A terminal's row never changes hands, so what is read here still holds in the transaction.
    async fn at_terminal_of(&self, sql: &'static str, id: [u8; 16]) -> Result<Touches> {
        if !self.writes_beside_others {
            return Ok(Touches::Everything);
        }
        let found = self
            .read(move |conn| find(conn, sql, params![id], |row| terminal(row, "terminal")))
            .await?;
        Ok(found.map_or(Touches::Everything, at))
    }
}

/// What touches this terminal alone.
pub(super) fn at(terminal: TerminalId) -> Touches {
    Touches::these(&[Subject::Terminal(terminal)])
}

/// What touches one thing with a name, that nothing else hangs on.
pub(super) fn only(what: &'static str, name: &[u8]) -> Touches {
    Touches::these(&[Subject::Named(what, name)])
}

/// A claim counts for its terminal, and for whoever claims.
pub(super) fn of_claim(claim: &Claim) -> Touches {
    let terminal = Subject::Terminal(claim.live.token().window.terminal);
    match &claim.person {
        Some(person) => Touches::these(&[terminal, Subject::Person(person)]),
        None => Touches::these(&[terminal]),
    }
}

/// A payment takes from its shopper, and from a merchant who is paid no more than so much a day.
pub(super) fn of_payment(pay: &Pay) -> Touches {
    let claimed = pay.approved.claimed();
    let (terminal, person) = (
        Subject::Terminal(claimed.terminal),
        Subject::Person(&pay.person),
    );
    match pay.rules.merchant_day_minor {
        Some(_) => Touches::these(&[terminal, person, Subject::Merchant(claimed.payee)]),
        None => Touches::these(&[terminal, person]),
    }
}

/// Nobody else changes what hangs on this row until the commit; for what was not known to be touched when
/// the batch began, as a profile that two identities open.
pub(super) fn hold(conn: &Conn, row: Held, id: &[u8; 16]) -> Result<()> {
    if let Conn::Sqlite(_) = conn {
        return Ok(());
    }
    let sql = match row {
        Held::Person => "SELECT 1 FROM persons WHERE id = ?1 FOR NO KEY UPDATE",
        Held::Merchant => "SELECT 1 FROM merchants WHERE id = ?1 FOR NO KEY UPDATE",
    };
    find(conn, sql, [id], |_| Ok(()))?;
    Ok(())
}

/// The same for what an account on some rail may still pay.
pub(super) fn hold_cap(conn: &Conn, rail: &str, reference: &str) -> Result<()> {
    if let Conn::Sqlite(_) = conn {
        return Ok(());
    }
    let sql = "SELECT 1 FROM account_caps WHERE rail = ?1 AND reference = ?2 FOR NO KEY UPDATE";
    find(conn, sql, [rail, reference], |_| Ok(()))?;
    Ok(())
}
