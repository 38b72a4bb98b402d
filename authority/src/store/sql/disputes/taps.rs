//! What is known of the tag around a claim, and what rings at its terminal?

use crate::store::sql::conn::{Conn, params};
use protocol::sun::{TagUid, UID_BYTES};
use protocol::time::Timestamp;
use protocol::token::Channel;
use protocol::window::EpochClock;
use protocol::wire::reports::{Seen, SeenWindow, TagCounter, TerminalEvent};
use uuid::Uuid;

use super::super::retention::report_fence;
use super::super::row::{all, count, find, get, time, uuid};
use super::super::taps::{Place, Span, alarms, claims_between, taps_that_prove};
use super::{With, moment};
use crate::store::sqlite::error::corrupt;
use crate::store::tap_rules::untapped;
use crate::store::{Dispute, Moment, Result, Source, TAPS_AROUND_MS, TAPS_MAX, TagAlarm, day_of};

/// A claim of this charge that came on nfc.
#[derive(Debug, Clone, Copy)]
struct OnNfc {
    id: Uuid,
    at: Timestamp,
    place: Place,
}

/// What the terminal says phones did at its tag around then, whether that explains the claims, and what does
/// not fit together there on these days.
pub(super) fn taps(conn: &Conn, dispute: &Dispute) -> Result<Vec<Moment>> {
    let claims = claims(conn, dispute)?;
    let (Some(first), Some(last)) = (claims.first(), claims.last()) else {
        return Ok(Vec::new());
    };
    let (first, last) = (first.0, last.0);
    let on_nfc: Vec<OnNfc> = claims.iter().filter_map(|claim| claim.1).collect();
    let mut moments = events(conn, dispute, first, last, &on_nfc)?;
    moments.append(&mut signed(conn, dispute)?);
    let mut days = vec![day_of(first), day_of(last)];
    for claim in &on_nfc {
        days.push(day_of(
            EpochClock::of(dispute.terminal).opens(claim.place.epoch),
        ));
        moments.push(explained(conn, dispute, claim)?);
    }
    days.sort_unstable();
    days.dedup();
    for day in days {
        moments.extend(open_alarms(conn, dispute, day)?);
    }
    Ok(moments)
}

type Claimed = (Timestamp, Option<OnNfc>);

/// Claims whose link the tag signed: for one read, by keys that only it and the HSM have.
fn signed(conn: &Conn, dispute: &Dispute) -> Result<Vec<Moment>> {
    all(
        conn,
        "SELECT taps.uid, taps.key_version, taps.counter, taps.at_ms, taps.claim FROM claims
         JOIN taps ON taps.claim = claims.id WHERE claims.charge = ?1",
        [dispute.charge.0.as_bytes()],
        |row| {
            let uid: [u8; UID_BYTES] = get(row, "uid")?;
            let read = moment(
                time(row, "at_ms")?,
                Source::Authority,
                "tag signed this read",
            );
            Ok(read
                .with("claim", uuid(row, "claim")?)
                .with("tag", TagUid::from_bytes(uid))
                .with("key_version", get::<u8>(row, "key_version")?)
                .with("counter", count(row, "counter")?))
        },
    )
}

fn claims(conn: &Conn, dispute: &Dispute) -> Result<Vec<Claimed>> {
    all(
        conn,
        "SELECT id, claimed_at_ms, channel, epoch, \"window\", turn FROM claims WHERE charge = ?1
         ORDER BY claimed_at_ms",
        [dispute.charge.0.as_bytes()],
        |row| {
            let at = time(row, "claimed_at_ms")?;
            let place = Place::read(row)?.ok_or_else(|| corrupt("a claim without a token"))?;
            let is_nfc = get::<u8>(row, "channel")? == Channel::Nfc.byte();
            let id = uuid(row, "id")?;
            Ok((at, is_nfc.then_some(OnNfc { id, at, place })))
        },
    )
}

fn events(
    conn: &Conn,
    dispute: &Dispute,
    first: Timestamp,
    last: Timestamp,
    on_nfc: &[OnNfc],
) -> Result<Vec<Moment>> {
    let from = first - TAPS_AROUND_MS;
    let fence = report_fence(conn)?;
    let gone = "nothing earlier is kept of what the terminal saw";
    let gone = (from < fence).then(|| moment(fence, Source::Terminal, gone));
    let events = all(
        conn,
        "SELECT event FROM reports WHERE terminal = ?1 AND at_ms BETWEEN ?2 AND ?3
         ORDER BY at_ms LIMIT ?4",
        params![
            dispute.terminal.value(),
            from.ms(),
            (last + TAPS_AROUND_MS).ms(),
            TAPS_MAX
        ],
        |row| {
            let text: String = get(row, "event")?;
            serde_json::from_str(&text).map_err(|error| corrupt(format!("an event: {error}")))
        },
    )?;
    let seen = events.iter().filter_map(|it| seen(it, on_nfc));
    Ok(gone.into_iter().chain(seen).collect())
}

fn seen(event: &TerminalEvent, on_nfc: &[OnNfc]) -> Option<Moment> {
    match &event.what {
        Seen::Tap {
            tag_uid,
            count,
            window,
            counter,
        } => {
            let read = moment(event.at, Source::Terminal, "tag read by phones");
            let read = read.with("tag", tag_uid).with("times", count);
            Some(with_counter(with_window(read, *window), *counter))
        }
        Seen::TagWritten {
            tag_uid,
            window,
            counter,
            ..
        } => {
            let of_claim = |claim: &OnNfc| claim.place == Place::from(*window);
            on_nfc.iter().any(of_claim).then(|| {
                let written = moment(event.at, Source::Terminal, "link put on the tag");
                let written = written.with("tag", tag_uid);
                with_counter(with_window(written, Some(*window)), *counter)
            })
        }
        Seen::TagFailed { .. } => None,
    }
}

fn with_window(moment: Moment, window: Option<SeenWindow>) -> Moment {
    match window {
        None => moment,
        Some(window) => moment
            .with("epoch", window.epoch)
            .with("window", window.window)
            .with("turn", window.turn),
    }
}

fn with_counter(moment: Moment, counter: Option<TagCounter>) -> Moment {
    moment
        .with_some("counter_found", counter.and_then(|it| it.found))
        .with_some("counter_left", counter.map(|it| it.left))
}

struct Counted {
    from: Place,
    until: Option<Place>,
    taps: u64,
    counted: bool,
}

/// Whether a phone was at the tag when the token of this claim was on it.
fn explained(conn: &Conn, dispute: &Dispute, claim: &OnNfc) -> Result<Moment> {
    let (terminal, place) = (dispute.terminal, claim.place);
    let reads = moment(claim.at, Source::Authority, "reads that explain the claim")
        .with("epoch", place.epoch)
        .with("window", place.window)
        .with("turn", place.turn);
    if is_signed(conn, claim)? {
        return Ok(reads.with("says", "the tag itself signed this read"));
    }
    let found = find(
        conn,
        "SELECT * FROM tag_links
         WHERE terminal = ?1 AND (epoch, \"window\", turn) <= (?2, ?3, ?4)
         ORDER BY epoch DESC, \"window\" DESC, turn DESC LIMIT 1",
        params![terminal.value(), place.epoch, place.window, place.turn],
        |row| {
            Ok(Counted {
                from: Place::read(row)?.ok_or_else(|| corrupt("a link without a place"))?,
                until: Place::read_until(row)?,
                taps: count(row, "taps")?,
                counted: get(row, "counted")?,
            })
        },
    )?;
    let covers = |it: &Counted| match it.until {
        Some(until) => place < until,
        None => place == it.from,
    };
    let found = found.filter(covers);
    let Some(found) = found else {
        let says = "this terminal has not told that this link was on its tag: it is offline, the tag could \
                    not be written, or it was too long ago; nothing follows";
        return Ok(reads.with("says", says));
    };
    if !found.counted {
        return Ok(reads.with("says", uncounted(conn, dispute)?));
    }
    let reads = reads.with("reads", found.taps);
    let Some(until) = found.until else {
        let says = "the terminal has not told yet what came after this link: more reads may follow";
        return Ok(reads.with("says", says));
    };
    let Some(span) = Span::new(terminal, found.from, until) else {
        return Ok(reads.with("says", "nobody wrote the tag for too long; nothing follows"));
    };
    let claims = claims_between(conn, &span)?;
    let proofs = taps_that_prove(conn, &span, found.taps)?;
    let says = match untapped(claims, proofs) {
        0 => "a phone was at the tag for every claim; which one, a counter does not say".into(),
        missing => format!(
            "{missing} of these claims came without a phone at the tag: by a copy of the link, of the tag, or \
             of what the terminal is given"
        ),
    };
    Ok(reads
        .with("claims", claims)
        .with("signed_taps", proofs.signed)
        .with("says", says))
}

fn is_signed(conn: &Conn, claim: &OnNfc) -> Result<bool> {
    let tap = "SELECT 1 FROM taps WHERE claim = ?1";
    Ok(find(conn, tap, [claim.id.as_bytes()], |_| Ok(()))?.is_some())
}

fn uncounted(conn: &Conn, dispute: &Dispute) -> Result<&'static str> {
    let counts = find(
        conn,
        "SELECT counter IS NOT NULL AS counts FROM tag_watches WHERE terminal = ?1",
        [dispute.terminal.value()],
        |row| get::<bool>(row, "counts"),
    )?;
    Ok(match counts {
        Some(true) => {
            "the tag was exchanged or personalised, or its counter was not known for a while: nothing follows"
        }
        _ => "this terminal's reader or tag does not count reads: nothing follows",
    })
}

fn open_alarms(conn: &Conn, dispute: &Dispute, day: i64) -> Result<Vec<Moment>> {
    let found = all(
        conn,
        "SELECT * FROM tag_alarms WHERE terminal = ?1 AND day = ?2 AND closed_at_ms IS NULL",
        params![dispute.terminal.value(), day],
        alarms::read,
    )?;
    let words = |alarm: TagAlarm| {
        moment(
            alarm.last_at,
            Source::Authority,
            "alarm open at this terminal",
        )
        .with("kind", alarm.kind.name())
        .with("reason", alarm.reason)
    };
    Ok(found.into_iter().map(words).collect())
}
