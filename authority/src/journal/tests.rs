#![allow(clippy::unwrap_used)]

use std::io::Write;

use super::*;
use protocol::audit::Head;
use protocol::ids::TerminalId;
use protocol::sun::TagUid;

const NOW: Timestamp = Timestamp::from_ms(1_795_459_200_000);

fn generation(generation: u32) -> Fact {
    Fact::Generation { generation }
}

fn banned(number: u32, version: u32) -> Fact {
    Fact::Banned {
        terminal: TerminalId::from_number(number).unwrap(),
        version,
        banned_at: NOW,
        reason: "stolen\n\"from\" the counter".into(),
    }
}

fn revoked(serial: &str, not_after: Timestamp) -> Fact {
    Fact::Revoked(Revoked {
        serial: serial.into(),
        issuer_key: "aa".into(),
        not_after,
        revoked_at: NOW,
        reason: "key-compromise".into(),
    })
}

fn heads(sequence: u64) -> Vec<Head> {
    vec![Head {
        node: "node-1".into(),
        sequence,
        hash: "0".repeat(64),
    }]
}

fn checkpoint(sequence: u64) -> Fact {
    Fact::Checkpoint {
        heads: heads(sequence),
    }
}

fn shown(generation: u32, sequence: u64) -> Fact {
    Fact::Shown {
        terminal: "00000000".into(),
        generation,
        heads: heads(sequence),
    }
}

fn crl(number: u64) -> Fact {
    Fact::Crl {
        issuer_key: "aa".into(),
        number,
    }
}

fn made(kid: &str) -> Fact {
    Fact::Made(MadeKey {
        kid: kid.into(),
        purpose: "receipt".into(),
        label: "m2key-receipt-2".into(),
        public_point: "04".into(),
        made_at: NOW,
    })
}

fn tainted(kid: &str) -> Fact {
    Fact::Tainted(TaintedKey {
        kid: kid.into(),
        purpose: "receipt".into(),
        label: "m2key-receipt-1".into(),
        public_point: Some("04".into()),
        made_at: NOW,
        tainted_at: NOW,
    })
}

fn reseeded(number: u32, version: u32) -> Fact {
    Fact::Reseeded {
        terminal: TerminalId::from_number(number).unwrap(),
        version,
    }
}

fn operator_revoked(name: &str) -> Fact {
    Fact::OperatorRevoked {
        operator: name.into(),
        by: "olga".into(),
        revoked_at: NOW,
    }
}

fn tag_retired(uid: u8, key_version: u8) -> Fact {
    Fact::TagRetired(RetiredTag {
        uid: TagUid::from_bytes([uid; 7]),
        key_version,
        retired_at: NOW,
        reason: "lost".into(),
    })
}

fn policy(number: u64, required: u32) -> Fact {
    Fact::Policy(NumberedPolicy {
        number,
        policy: pki::consent::Policy {
            required,
            ..Default::default()
        },
        set_by: "olga".into(),
        set_at: NOW,
    })
}

/// A life with everything in it.
fn life() -> Vec<Fact> {
    let far = NOW + known::REVOKED_KEPT_MS;
    vec![
        generation(1),
        banned(1, 1),
        checkpoint(10),
        revoked("01", far),
        crl(7),
        made("k-1"),
        tainted("k-1"),
        reseeded(1, 2),
        operator_revoked("mallory"),
        tag_retired(1, 2),
        tag_retired(2, 1),
        policy(1, 1),
        generation(2),
        banned(2, 1),
        revoked("02", far),
        crl(9),
        made("k-2"),
        tainted("k-2"),
        reseeded(1, 4),
        reseeded(2, 2),
        operator_revoked("eve"),
        tag_retired(1, 3),
        policy(2, 2),
        checkpoint(4),
        shown(2, 20),
        shown(5, 3),
    ]
}

fn folded(facts: &[Fact]) -> Known {
    let mut known = Known::nothing("j-1".into(), "node-1".into());
    facts.iter().for_each(|fact| known.take(fact));
    known
}

fn contents(path: &Path) -> Contents {
    match read(path).unwrap() {
        Found::Journal(contents) => *contents,
        Found::Nothing => panic!("there is no journal"),
    }
}

/// What counts, whatever line it stands in.
fn meaning(known: &Known) -> Known {
    Known {
        last: (0, GENESIS),
        ..known.clone()
    }
}

async fn write(journal: &Journal, facts: &[Fact]) {
    let facts = facts.iter().map(|fact| (NOW, fact.clone())).collect();
    journal.written(facts).await.unwrap();
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fence.journal");
    (dir, path)
}

#[tokio::test]
async fn what_was_written_is_read_back_whole() {
    let (_dir, path) = place();
    assert!(matches!(read(&path).unwrap(), Found::Nothing));
    let journal = Journal::open(&path, folded(&[])).unwrap();
    for fact in life() {
        write(&journal, &[fact]).await;
    }
    let contents = contents(&path);
    assert_eq!(contents.broken, None);
    assert_eq!(contents.known, journal.known().await.unwrap());
    assert_eq!(meaning(&contents.known), folded(&life()));
    assert_eq!(
        contents.hash_of(journal.last().n),
        Some(&journal.last().hash)
    );
}

#[tokio::test]
async fn a_line_cut_in_half_was_never_acknowledged_and_is_left_out() {
    let (_dir, path) = place();
    let journal = Journal::open(&path, folded(&[])).unwrap();
    write(&journal, &life()).await;
    drop(journal);
    let whole = std::fs::read(&path).unwrap();
    let before = contents(&path).known;
    let (line, _) = Line {
        n: before.last.0 + 1,
        at: NOW,
        fact: banned(3, 1),
    }
    .write(&before.last.1);
    for cut in 0..line.len() {
        std::fs::write(&path, [&whole, &line.as_bytes()[..cut]].concat()).unwrap();
        let found = contents(&path);
        assert_eq!(
            (found.broken, &found.known),
            (None, &before),
            "cut at {cut}"
        );
    }
    std::fs::write(&path, [&whole[..], &[0; 64], b"\n"].concat()).unwrap();
    assert_eq!(contents(&path).broken, None, "a block of zeros");
    let journal = Journal::open(&path, contents(&path).known).unwrap();
    write(&journal, &[banned(3, 1)]).await;
    let found = contents(&path);
    assert_eq!((found.broken, found.known.bans.len()), (None, 3));
}

#[tokio::test]
async fn a_changed_removed_or_foreign_line_breaks_the_journal_and_still_refuses() {
    let (_dir, path) = place();
    let journal = Journal::open(&path, folded(&[])).unwrap();
    write(&journal, &life()).await;
    drop(journal);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for place in 1..lines.len() - 1 {
        let mut fewer = lines.clone();
        fewer.remove(place);
        std::fs::write(&path, fewer.concat()).unwrap();
        assert!(contents(&path).broken.is_some(), "without line {place}");
        let mut swapped = lines.clone();
        swapped.swap(place, place + 1);
        std::fs::write(&path, swapped.concat()).unwrap();
        assert!(contents(&path).broken.is_some(), "line {place} swapped");
    }
    std::fs::write(&path, text.replace("node-1", "node-2")).unwrap();
    assert!(contents(&path).broken.is_some());
    std::fs::write(&path, text.replacen("\"number\":7", "\"number\":70", 1)).unwrap();
    let found = contents(&path);
    assert!(found.broken.is_some());
    assert_eq!((found.known.bans.len(), found.known.revoked.len()), (2, 2));
    std::fs::write(&path, "").unwrap();
    assert!(contents(&path).broken.is_some(), "an empty file");
}

#[tokio::test]
async fn a_grown_journal_is_folded_without_losing_what_counts() {
    let (_dir, path) = place();
    let journal = Journal::open(&path, folded(&[])).unwrap();
    write(&journal, &life()).await;
    let long = "x".repeat(1024 * 1024);
    for number in 3..24 {
        let Fact::Banned { terminal, .. } = banned(number, 1) else {
            unreachable!()
        };
        let ban = Fact::Banned {
            terminal,
            version: 1,
            banned_at: NOW,
            reason: long[..60_000].into(),
        };
        let many = vec![ban; 16];
        write(&journal, &many).await;
    }
    let size = std::fs::metadata(&path).unwrap().len();
    assert!(size < file::FOLD_AFTER, "{size}");
    let found = contents(&path);
    assert_eq!(found.broken, None);
    assert_eq!(found.known, journal.known().await.unwrap());
    assert!(found.first > 1, "the numbers go on");
    assert_eq!(found.known.bans.len(), 23);
    assert_eq!(found.known.shown, folded(&life()).shown);
}

#[test]
fn folding_says_the_same_again() {
    let known = folded(&life());
    assert_eq!(folded(&known.facts(NOW)), known);
    assert_eq!(known.highest_generation(), 5);
}

#[test]
fn a_revocation_is_forgotten_only_long_after_its_certificate_is_over() {
    let known = folded(&[revoked("01", NOW)]);
    let kept = |now| folded(&known.facts(now)).revoked.len();
    assert_eq!(kept(NOW + known::REVOKED_KEPT_MS), 1);
    assert_eq!(kept(NOW + known::REVOKED_KEPT_MS + 1), 0);
}

#[test]
fn numbers_never_go_back() {
    let known = folded(&[
        generation(3),
        crl(9),
        generation(2),
        crl(4),
        banned(1, 2),
        banned(1, 1),
        tag_retired(1, 2),
        tag_retired(1, 1),
    ]);
    assert_eq!((known.generation, known.crls["aa"]), (3, 9));
    let uid = TagUid::from_bytes([1; 7]);
    assert_eq!(known.retired_up_to(uid), 2);
    let terminal = TerminalId::from_number(1).unwrap();
    let version = |since| known.ban_since(since, terminal).map(|ban| ban.version);
    assert_eq!(
        (version(0), version(3), version(4)),
        (Some(2), Some(2), None)
    );
}

#[test]
fn a_new_generation_forgets_the_chains_of_the_old_one_and_nothing_else() {
    let mut known = folded(&life());
    known.take(&generation(3));
    assert!(known.heads.is_empty());
    assert_eq!(known.shown.len(), 1, "of a later generation");
    assert_eq!((known.bans.len(), known.revoked.len()), (2, 2));
}

#[test]
fn a_seed_version_that_comes_again_in_a_new_generation_is_banned_on_its_own() {
    let terminal = TerminalId::from_number(1).unwrap();
    let lives = [banned(1, 5), generation(2), banned(1, 2), generation(3)];
    let mut known = folded(&[&[generation(1)], &lives[..]].concat());
    let version = |known: &Known, since| known.ban_since(since, terminal).map(|ban| ban.version);
    for (since, expected) in [(1, Some(5)), (2, Some(2)), (3, None)] {
        assert_eq!(version(&known, since), expected, "since {since}");
    }
    assert_eq!(folded(&known.facts(NOW)), known);
    known.take(&banned(1, 6));
    assert_eq!(known.bans[&terminal].len(), 1, "it covers all");
    assert_eq!(version(&known, 1), Some(6));
}

#[test]
fn what_terminals_show_has_a_limit_that_the_highest_generation_passes() {
    let mut known = folded(&[generation(1)]);
    for sequence in 0..100 {
        known.take(&shown(1, sequence));
    }
    known.take(&shown(9, 1));
    assert_eq!(known.shown.len(), known::SHOWN_MAX);
    assert_eq!(known.highest_generation(), 9);
}

#[tokio::test]
async fn a_write_that_failed_is_owed_and_comes_first_at_the_next() {
    let (dir, path) = place();
    let away = dir.path().join("away");
    let place = away.join("fence.journal");
    let journal = Journal::open(&place, folded(&[])).unwrap();
    let failed = journal.written(vec![(NOW, banned(1, 1))]).await;
    assert!(failed.unwrap_err().to_string().contains("fence.journal"));
    assert!(journal.failure().is_some());
    std::fs::create_dir(&away).unwrap();
    write(&journal, &[banned(2, 1)]).await;
    assert_eq!(journal.failure(), None);
    assert_eq!(contents(&place).known.bans.len(), 2);
    drop(path);
}

#[tokio::test]
async fn of_all_checkpoints_that_a_full_disk_owes_only_the_last_is_kept() {
    let (dir, _) = place();
    let away = dir.path().join("away");
    let place = away.join("fence.journal");
    let journal = Journal::open(&place, folded(&[])).unwrap();
    for fact in [checkpoint(1), banned(1, 1), checkpoint(2), checkpoint(3)] {
        let failed = journal.written(vec![(NOW, fact)]).await;
        assert!(failed.is_err(), "{failed:?}");
    }
    std::fs::create_dir(&away).unwrap();
    write(&journal, &[banned(2, 1)]).await;
    let found = contents(&place);
    assert_eq!(found.hashes.len(), 4, "its opening, two bans, a checkpoint");
    assert_eq!(
        (found.known.bans.len(), found.known.heads["node-1"].sequence),
        (2, 3)
    );
}

#[tokio::test]
async fn a_renewed_journal_has_its_own_lines_and_keeps_the_old_one_aside() {
    let (_dir, path) = place();
    let journal = Journal::open(&path, folded(&[])).unwrap();
    write(&journal, &life()).await;
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    file.write_all(b"rubbish\n").unwrap();
    for keeps in [true, false] {
        let renewal = Renewal {
            journal: "j-2".into(),
            keeps,
            at: NOW,
        };
        let before = std::fs::read(&path).unwrap();
        let aside = journal.renew(renewal).await.unwrap().unwrap();
        assert_eq!(std::fs::read(&aside).unwrap(), before);
        let known = contents(&path).known;
        assert_eq!(known.journal, "j-2", "whole before the first fact");
        assert_eq!(known.bans.is_empty(), !keeps);
        write(&journal, &[generation(7)]).await;
        let found = contents(&path);
        assert_eq!((found.broken, found.first), (None, 1));
        let known = found.known;
        assert_eq!((known.journal.as_str(), known.generation), ("j-2", 7));
        assert_eq!(known.bans.is_empty(), !keeps);
    }
}

#[tokio::test]
async fn a_journal_whose_successor_cannot_be_written_stays_in_its_place() {
    let (_dir, path) = place();
    let journal = Journal::open(&path, folded(&[])).unwrap();
    write(&journal, &life()).await;
    let before = contents(&path);
    std::fs::create_dir(path.with_extension("new")).unwrap();
    let renewal = Renewal {
        journal: "j-2".into(),
        keeps: true,
        at: NOW,
    };
    let failed = journal.renew(renewal).await;
    assert!(failed.is_err(), "{failed:?}");
    assert_eq!(contents(&path).hashes, before.hashes);
    assert!(!path.with_extension("broken-1").exists());
    assert_eq!(journal.known().await.unwrap(), before.known);
}

#[tokio::test]
async fn writes_that_wait_together_share_a_sync_and_are_all_there() {
    let (_dir, path) = place();
    let journal = Journal::open(&path, folded(&[])).unwrap();
    let writes = (0..500).map(|number| {
        let journal = journal.clone();
        tokio::spawn(async move { write(&journal, &[banned(number, 1)]).await })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap();
    }
    let found = contents(&path);
    assert_eq!((found.broken, found.known.bans.len()), (None, 500));
}
