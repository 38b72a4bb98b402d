//! Was this link read from a tag of this terminal?
//!
//! ```text
//! link ─▶ the terminal's tags ─▶ HSM: their keys ─▶ mac ─▶ KeyedTap ─▶ store.claim judges it
//! ```
//! A link does not say in the clear which tag it is of, so each of the terminal's few is tried. Their
//! keys are nowhere but in the HSM's answer, for as long as this takes.

use std::collections::BTreeMap;

use hsm::{Cmac, KeyLabel, Priority};
use protocol::aes_key::{AesKey, diversification_input};
use protocol::problem::{Problem, ProblemType};
use protocol::sun::{KeySlot, SunKeys, SunLink, TagUid, key_input};

use super::Failure;
use crate::app::App;
use crate::store::{CountingTag, KeyedTap, TapRefusal};

/// What checks a link, in this order.
const CHECKING: [KeySlot; 2] = [KeySlot::Meta, KeySlot::Mac];

/// The tap that the link proves; refused if no tag of its terminal has signed it.
pub(super) async fn prove(app: &App, link: &SunLink) -> Result<KeyedTap, Failure> {
    let tags = app.store.tags_of(link.terminal()).await?;
    let keyring = app.keyring();
    let mut by_master: BTreeMap<&KeyLabel, Vec<&CountingTag>> = BTreeMap::new();
    for tag in &tags {
        if let Some(master) = keyring.believed_tag_master(&tag.master) {
            by_master.entry(&master.label).or_default().push(tag);
        }
    }
    for (master, tags) in by_master {
        let wanted = tags.iter().flat_map(|tag| {
            let of = |slot| (tag.uid, slot, tag.key_version);
            CHECKING.map(of)
        });
        let keys = diversified(app, master, wanted, Priority::Payment).await?;
        let proved = tags.iter().zip(keys.chunks(CHECKING.len()));
        if let Some(tap) = proved
            .clone()
            .find_map(|(tag, keys)| proven(link, tag, keys))
        {
            return Ok(tap);
        }
    }
    tracing::info!(terminal = %link.terminal(), "a signed link is of no tag of its terminal");
    Err(ProblemType::TagRefused.into())
}

/// All five keys of one tag, by the numbers of their slots.
pub(super) async fn keys_of_tag(
    app: &App,
    master: &KeyLabel,
    uid: TagUid,
    key_version: u8,
) -> Result<[AesKey; 5], Failure> {
    let wanted = KeySlot::ALL
        .into_iter()
        .map(|slot| (uid, slot, key_version));
    let keys = diversified(app, master, wanted, Priority::Renewal).await?;
    keys.try_into().map_err(|_| ProblemType::Internal.into())
}

/// Keys after AN10922, computed in the HSM.
async fn diversified(
    app: &App,
    master: &KeyLabel,
    wanted: impl Iterator<Item = (TagUid, KeySlot, u8)>,
    priority: Priority,
) -> Result<Vec<AesKey>, Failure> {
    let input = |(uid, slot, version)| diversification_input(&key_input(uid, slot, version));
    let inputs: Vec<Vec<u8>> = wanted.map(input).collect();
    let wanted = inputs.len();
    let macs = app.hsm.cmac_batch(master, inputs, priority).await?;
    if macs.len() != wanted {
        return Err(ProblemType::Internal.into());
    }
    let key = |mac: &Cmac| AesKey::from_bytes(mac.0);
    Ok(macs.iter().map(key).collect())
}

fn proven(link: &SunLink, tag: &CountingTag, keys: &[AesKey]) -> Option<KeyedTap> {
    let [meta, mac] = keys else {
        return None;
    };
    let keys = SunKeys {
        meta: meta.clone(),
        mac: mac.clone(),
    };
    let tap = link.verify(&keys).ok()?;
    (tap.uid() == tag.uid).then_some(KeyedTap {
        tap,
        key_version: tag.key_version,
    })
}

/// In words for whoever holds the phone.
pub(super) fn refused(refusal: TapRefusal) -> Problem {
    Problem::new(match refusal {
        TapRefusal::Unsigned => ProblemType::TapUnsigned,
        TapRefusal::Unknown
        | TapRefusal::Elsewhere
        | TapRefusal::Retired
        | TapRefusal::Disbelieved => ProblemType::TagRefused,
        TapRefusal::Stale => ProblemType::TokenPassed,
        TapRefusal::Repeated => ProblemType::TokenSpent,
    })
}
