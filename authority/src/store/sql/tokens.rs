//! How is a token spent exactly once, and a charge held by one phone?

use crate::store::sql::conn::{Conn, params};
use async_trait::async_trait;
use protocol::charge::{ChargeKind, Claimed, RELEASES_MAX};
use protocol::ids::{ChargeId, ClaimId, TerminalId};
use protocol::money::Money;
use protocol::receipt::Payee;
use protocol::time::Timestamp;
use protocol::token::{TokenId, WindowId};
use protocol::wire::claims::ClaimState;
use protocol::wire::push::{ChargeStage, ChargeState, EndReason};
use serde_json::json;

use super::SqlStore;
use super::merchants::find_merchant;
use super::payments::receipt_of_claim;
use super::persons::{Person, person};
use super::retention::is_behind_fence;
use super::row::{count, find, get, one, uuid};
use super::settle::{end, find_charge, find_claim, kind_text, release, till_charge};
use super::subjects::of_claim;
use super::tags::{insert_tap, refuse_tap};
use super::terminals::{active_terminal, find_terminal, version_for};
use super::turns::{Moved, move_all, move_from, raise_revision, revisions, turn, turns_since};
use super::wallets::keep_approval;
use super::writer::{Stop, Tx, Verdict};
use crate::store::sqlite::error::corrupt;
use crate::store::{
    Asked, ChargeRecord, ChargeStatus, Claim, ClaimOutcome, ClaimRecord, KeyedTap, Merchant, Offer,
    PushState, Result, TapRefusal, Terminal, TerminalStatus, Tokens,
};

#[async_trait]
impl Tokens for SqlStore {
    async fn turns(&self, windows: Vec<WindowId>) -> Result<Vec<u16>> {
        self.look(move |conn| windows.iter().map(|window| turn(conn, window)).collect())
            .await
    }

    async fn claim(&self, claim: Claim) -> Result<ClaimOutcome> {
        self.write_on(of_claim(&claim), move |tx| spend_and_hold(tx, &claim))
            .await
    }

    async fn claim_record(&self, id: ClaimId) -> Result<Option<ClaimRecord>> {
        self.look(move |conn| Ok(find_claim(conn, id)?.map(|claim| claim.record)))
            .await
    }

    async fn is_spent(&self, token: TokenId) -> Result<bool> {
        let spender = self.read(move |conn| spender(conn, &token)).await?;
        Ok(spender.is_some())
    }

    async fn spender(&self, token: TokenId) -> Result<Option<ClaimId>> {
        self.read(move |conn| spender(conn, &token)).await
    }

    async fn release_claim(
        &self,
        id: ClaimId,
        moved: Vec<WindowId>,
        at: Timestamp,
    ) -> Result<bool> {
        let touches = self.at_claim(id).await?;
        self.write_on(touches, move |tx| release_claim(tx, id, &moved, at))
            .await
    }

    async fn push_state(&self, terminal: TerminalId, epoch: u32) -> Result<Option<PushState>> {
        self.read(move |conn| push_state(conn, terminal, epoch))
            .await
    }

    async fn revisions(&self, terminals: Vec<TerminalId>) -> Result<Vec<(TerminalId, u64)>> {
        self.read(move |conn| revisions(conn, &terminals)).await
    }

    async fn charge_on_offer(&self, terminal: TerminalId) -> Result<Option<ChargeKind>> {
        self.read(move |conn| charge_on_offer(conn, terminal)).await
    }

    async fn offer(&self, terminal: TerminalId, now: Timestamp) -> Result<Option<Offer>> {
        self.read(move |conn| offer(conn, terminal, now)).await
    }
}

/// Refusals come before the first change where they can; what is found out later undoes everything.
fn spend_and_hold(tx: &mut Tx<'_>, claim: &Claim) -> Verdict<ClaimOutcome> {
    let token = claim.live.token();
    if is_behind_fence(tx.conn, token.window.epoch)? {
        return Ok(ClaimOutcome::Spent);
    }
    let Some(terminal) = active_terminal(tx.conn, token.window.terminal)? else {
        return Ok(ClaimOutcome::TerminalRefused);
    };
    // The seed may have been replaced since the token was recognised.
    let version = version_for(tx.conn, terminal.id, token.window.epoch)?;
    if version != Some(token.window.version) {
        return Ok(ClaimOutcome::Spent);
    }
    if let Some(refusal) = refuse_tap(tx.conn, claim)? {
        return Ok(ClaimOutcome::Tap(refusal));
    }
    spend(tx, &token, claim.id)?;
    let charge = charge_to_hold(tx.conn, claim, &terminal)?;
    let person = claim
        .person
        .as_ref()
        .map(|key| person(tx, key, claim.at))
        .transpose()?;
    if let Some(person) = &person {
        may_hold(tx.conn, person, claim.held_max)?;
    }
    let record = hold(tx, claim, &charge, person.as_ref())?;
    if let Some(tap) = &claim.tap
        && !insert_tap(tx, claim, tap)?
    {
        return Err(Stop::Refused(ClaimOutcome::Tap(TapRefusal::Repeated)));
    }
    raise_revision(tx, terminal.id);
    record_claim(tx, claim, charge.id(), person.as_ref())?;
    if let Some(approval) = &claim.approval
        && !keep_approval(tx, claim.id, approval, claim.at)?
    {
        return Err(Stop::Refused(ClaimOutcome::ApprovalUsed));
    }
    Ok(ClaimOutcome::Claimed(Box::new(record)))
}

/// A step of a claim: it goes on, or the claim is refused and nothing was spent.
type Step<T> = std::result::Result<T, Stop<ClaimOutcome>>;

fn spend(tx: &Tx<'_>, token: &TokenId, claim: ClaimId) -> Step<()> {
    let refused = |outcome| Err(Stop::Refused(outcome));
    let id = &token.window;
    let touched = tx.execute(
        "INSERT INTO spent (epoch, terminal, version, channel, \"window\", turn, claim)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
        params![
            id.epoch,
            id.terminal.value(),
            id.version,
            id.channel.byte(),
            id.window,
            token.turn,
            claim.0.as_bytes()
        ],
    )?;
    if touched != 1 {
        return refused(ClaimOutcome::Spent);
    }
    match move_from(tx, token)? {
        Moved::Yes => Ok(()),
        Moved::NotThisTurn => refused(ClaimOutcome::Spent),
        Moved::Exhausted => refused(ClaimOutcome::TurnsExhausted),
    }
}

/// One phone does not hold the charges of many tills.
fn may_hold(conn: &Conn, person: &Person, held_max: u32) -> Step<()> {
    if person.locked {
        return Err(Stop::Refused(ClaimOutcome::Locked));
    }
    match held_by(conn, person)? < held_max {
        true => Ok(()),
        false => Err(Stop::Refused(ClaimOutcome::TooMany)),
    }
}

/// Claims of this person that are held, or were claimed by nobody known and signed in for by them.
pub(super) fn held_by(conn: &Conn, person: &Person) -> Result<u32> {
    one(
        conn,
        "SELECT (SELECT count(*) FROM claims
                 WHERE person = ?1 AND state IN ('held', 'paying'))
              + (SELECT count(*) FROM claims
                 WHERE signed_in_by = ?1 AND person IS DISTINCT FROM ?1 AND state IN ('held', 'paying'))
                AS held",
        [person.id],
        |row| get(row, "held"),
    )
}

/// What a claim holds.
enum ToHold {
    /// What the till asks for.
    Till(ChargeId),
    /// What is made for this claim, by the merchant's own rule.
    Idle(Box<Claimed>, Merchant),
}

impl ToHold {
    fn id(&self) -> ChargeId {
        match self {
            Self::Till(id) => *id,
            Self::Idle(claimed, _) => claimed.charge,
        }
    }
}

/// The till's charge if it asks for one, else a new one by the merchant's own rule.
fn charge_to_hold(conn: &Conn, claim: &Claim, terminal: &Terminal) -> Step<ToHold> {
    let till = till_charge(conn, terminal.id)?;
    match till.map(|charge| (charge.status, charge)) {
        Some((ChargeStatus::Held(_), _)) => Err(Stop::Refused(ClaimOutcome::Held)),
        Some((ChargeStatus::Offered, charge)) if claim.at < charge.until => {
            Ok(ToHold::Till(charge.id))
        }
        _ => idle_charge(conn, claim, terminal),
    }
}

fn idle_charge(conn: &Conn, claim: &Claim, terminal: &Terminal) -> Step<ToHold> {
    let merchant = merchant_of(conn, terminal)?;
    let Some((kind, asked, cap)) = idle_terms(&merchant) else {
        return Err(Stop::Refused(ClaimOutcome::NothingToPay));
    };
    let claimed = Claimed {
        claim: claim.id,
        token: claim.live.token(),
        terminal: terminal.id,
        payee: merchant.id,
        charge: claim.idle_charge,
        kind,
        asked,
        cap,
        reference: None,
        mark: claim.mark,
        claimed_at: claim.at,
        held_until: claim.held_until,
    };
    Ok(ToHold::Idle(Box::new(claimed), merchant))
}

/// Kind, amount and cap of what a shopper may pay when the till asks for nothing. A fixed amount
/// goes before an open one.
fn idle_terms(merchant: &Merchant) -> Option<(ChargeKind, Option<Money>, Option<Money>)> {
    match (merchant.fixed, merchant.open_cap) {
        (Some(fixed), _) => Some((ChargeKind::Fixed, Some(fixed), None)),
        (None, Some(cap)) => Some((ChargeKind::Open, None, Some(cap))),
        (None, None) => None,
    }
}

fn merchant_of(conn: &Conn, terminal: &Terminal) -> Result<Merchant> {
    find_merchant(conn, terminal.merchant)?
        .ok_or_else(|| corrupt("a terminal without its merchant"))
}

/// Claim and charge point to each other from now on.
fn hold(
    tx: &Tx<'_>,
    claim: &Claim,
    charge: &ToHold,
    person: Option<&Person>,
) -> Result<ClaimRecord> {
    match charge {
        ToHold::Till(id) => {
            insert_claim(tx, claim, *id, person)?;
            tx.execute_one(
                "UPDATE charges SET state = 'held', claim = ?2 WHERE id = ?1 AND state = 'offered'",
                params![id.0.as_bytes(), claim.id.0.as_bytes()],
            )?;
            let stored = find_claim(tx.conn, claim.id)?;
            Ok(stored.ok_or_else(|| corrupt("a claim vanished"))?.record)
        }
        ToHold::Idle(claimed, merchant) => {
            insert_held(tx, claimed, merchant)?;
            insert_claim(tx, claim, claimed.charge, person)?;
            Ok(ClaimRecord {
                claimed: Claimed::clone(claimed),
                payee_name: merchant.name.clone(),
                state: ClaimState::Held,
                paying: false,
                phone: claim.phone,
            })
        }
    }
}

/// A charge that was never on offer to anybody else.
fn insert_held(tx: &Tx<'_>, claimed: &Claimed, merchant: &Merchant) -> Result<()> {
    tx.execute_one(
        "INSERT INTO charges (id, terminal, merchant, kind, currency, asked_minor, cap_minor,
                              state, claim, until_ms, releases, started_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'held', ?8, ?9, 0, ?10)",
        params![
            claimed.charge.0.as_bytes(),
            claimed.terminal.value(),
            merchant.id.0.as_bytes(),
            kind_text(claimed.kind),
            merchant.currency.code(),
            claimed.asked.map(Money::amount_minor),
            claimed.cap.map(Money::amount_minor),
            claimed.claim.0.as_bytes(),
            claimed.held_until.ms(),
            claimed.claimed_at.ms()
        ],
    )
}

fn insert_claim(
    tx: &Tx<'_>,
    claim: &Claim,
    charge: ChargeId,
    person: Option<&Person>,
) -> Result<()> {
    let token = claim.live.token();
    tx.execute_one(
        "INSERT INTO claims (id, charge, epoch, version, channel, \"window\", turn, phone, person,
                             mark, state, claimed_at_ms, held_until_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 'held', ?11, ?12)",
        params![
            claim.id.0.as_bytes(),
            charge.0.as_bytes(),
            token.window.epoch,
            token.window.version,
            token.window.channel.byte(),
            token.window.window,
            token.turn,
            claim.phone,
            person.map(|person| person.id),
            claim.mark.value(),
            claim.at.ms(),
            claim.held_until.ms()
        ],
    )
}

fn record_claim(
    tx: &mut Tx<'_>,
    claim: &Claim,
    charge: ChargeId,
    person: Option<&Person>,
) -> Result<()> {
    let token = claim.live.token();
    let mut body = json!({
        "claim": claim.id,
        "charge": charge,
        "token": token,
        "person": person.map(Person::commitment),
    });
    if let Some(KeyedTap { tap, key_version }) = &claim.tap {
        body["tap"] = json!({
            "tag": tap.uid().to_string(),
            "key_version": key_version,
            "counter": tap.counter(),
        });
    }
    tx.record("token.claimed", claim.at, &body)
}

fn spender(conn: &Conn, token: &TokenId) -> Result<Option<ClaimId>> {
    let id = &token.window;
    find(
        conn,
        "SELECT claim FROM spent WHERE epoch = ?1 AND terminal = ?2 AND version = ?3
         AND channel = ?4 AND \"window\" = ?5 AND turn = ?6",
        params![
            id.epoch,
            id.terminal.value(),
            id.version,
            id.channel.byte(),
            id.window,
            token.turn
        ],
        |row| Ok(ClaimId(uuid(row, "claim")?)),
    )
}

fn release_claim(tx: &mut Tx<'_>, id: ClaimId, moved: &[WindowId], at: Timestamp) -> Verdict<bool> {
    let Some(claim) = find_claim(tx.conn, id)?.map(|claim| claim.record) else {
        return Ok(false);
    };
    if claim.state != ClaimState::Held || claim.paying {
        return Ok(false);
    }
    let charge = find_charge(tx.conn, claim.claimed.charge)?
        .ok_or_else(|| corrupt("a claim without its charge"))?;
    count_release(tx, &charge)?;
    // A charge that its claim made is of use to nobody else.
    if charge.kind != ChargeKind::Till || charge.releases + 1 >= RELEASES_MAX {
        end(tx, &charge, EndReason::Released, at)?;
    } else {
        release(tx, id, at)?;
        offer_again(tx, &charge)?;
    }
    move_all(tx, charge.terminal, moved)?;
    raise_revision(tx, charge.terminal);
    Ok(true)
}

fn count_release(tx: &Tx<'_>, charge: &ChargeRecord) -> Result<()> {
    tx.execute_one(
        "UPDATE charges SET releases = releases + 1 WHERE id = ?1",
        [charge.id.0.as_bytes()],
    )
}

fn offer_again(tx: &Tx<'_>, charge: &ChargeRecord) -> Result<()> {
    tx.execute_one(
        "UPDATE charges SET state = 'offered', claim = NULL WHERE id = ?1 AND state = 'held'",
        [charge.id.0.as_bytes()],
    )
}

fn push_state(conn: &Conn, id: TerminalId, epoch: u32) -> Result<Option<PushState>> {
    let Some(terminal) = find_terminal(conn, id)? else {
        return Ok(None);
    };
    let revision = find(
        conn,
        "SELECT revision FROM terminals WHERE id = ?1",
        [id.value()],
        |row| count(row, "revision"),
    )?;
    let charge = till_charge(conn, id)?
        .map(|charge| shown(conn, charge))
        .transpose()?;
    Ok(Some(PushState {
        revision: revision.unwrap_or(0),
        turns: turns_since(conn, id, epoch)?,
        charge,
        banned: terminal.status != TerminalStatus::Active,
    }))
}

fn shown(conn: &Conn, charge: ChargeRecord) -> Result<ChargeState> {
    let stage = match charge.status {
        ChargeStatus::Offered => ChargeStage::Offered {
            until: charge.until,
        },
        ChargeStatus::Held(claim) => held_stage(conn, claim)?,
        ChargeStatus::Paid(claim) => paid_stage(conn, claim)?,
        ChargeStatus::Ended(reason) => ChargeStage::Ended { reason },
    };
    Ok(ChargeState {
        charge: charge.id,
        kind: charge.kind,
        amount: charge.amount,
        reference: charge.reference,
        stage,
    })
}

fn held_stage(conn: &Conn, id: ClaimId) -> Result<ChargeStage> {
    let claim = find_claim(conn, id)?.ok_or_else(|| corrupt("a held charge without its claim"))?;
    Ok(ChargeStage::Held {
        claim: id,
        mark: claim.record.claimed.mark,
        until: claim.record.claimed.held_until,
    })
}

/// Held until the receipt is there: nothing shows "paid" without one.
fn paid_stage(conn: &Conn, id: ClaimId) -> Result<ChargeStage> {
    match (held_stage(conn, id)?, receipt_of_claim(conn, id)?) {
        (ChargeStage::Held { claim, mark, .. }, Some(receipt)) => Ok(ChargeStage::Paid {
            claim,
            mark,
            receipt,
        }),
        (held, _) => Ok(held),
    }
}

fn charge_on_offer(conn: &Conn, id: TerminalId) -> Result<Option<ChargeKind>> {
    let Some(terminal) = active_terminal(conn, id)? else {
        return Ok(None);
    };
    let status = till_charge(conn, id)?.map(|charge| charge.status);
    if let Some(ChargeStatus::Offered | ChargeStatus::Held(_)) = status {
        return Ok(Some(ChargeKind::Till));
    }
    Ok(idle_terms(&merchant_of(conn, &terminal)?).map(|(kind, ..)| kind))
}

fn offer(conn: &Conn, id: TerminalId, now: Timestamp) -> Result<Option<Offer>> {
    let Some(terminal) = active_terminal(conn, id)? else {
        return Ok(None);
    };
    let merchant = merchant_of(conn, &terminal)?;
    let till = till_charge(conn, id)?;
    let asked = match till.map(|charge| (charge.status, charge)) {
        Some((ChargeStatus::Held(claim), _)) => Asked::Held {
            until: held_until(conn, claim)?,
        },
        Some((ChargeStatus::Offered, charge)) if now < charge.until => Asked::Till {
            amount: charge
                .amount
                .ok_or_else(|| corrupt("a till's charge without an amount"))?,
            reference: charge.reference,
        },
        _ => asked_when_idle(&merchant),
    };
    Ok(Some(Offer {
        payee: Payee {
            id: merchant.id,
            name: merchant.name,
        },
        terminal_name: terminal.name,
        asked,
    }))
}

fn held_until(conn: &Conn, id: ClaimId) -> Result<Timestamp> {
    let claim = find_claim(conn, id)?.ok_or_else(|| corrupt("a held charge without its claim"))?;
    Ok(claim.record.claimed.held_until)
}

fn asked_when_idle(merchant: &Merchant) -> Asked {
    match idle_terms(merchant) {
        Some((_, Some(amount), _)) => Asked::Fixed(amount),
        Some((_, None, Some(cap))) => Asked::Open { cap },
        _ => Asked::Nothing,
    }
}
