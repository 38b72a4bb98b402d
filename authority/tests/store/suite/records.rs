//! What do books, counts, reports and the audit say?

use authority::store::{Balance, ClaimOutcome, MissCount, NewAccount, StoredCheckpoint};
use protocol::ids::{EventId, TerminalId};
use protocol::money::Money;
use protocol::token::Channel;
use protocol::wire::reports::{Seen, TerminalEvent};

use crate::world::{NOW, World, eur, live, number, person};

pub(crate) async fn accounts_are_one_per_person_and_currency(world: &World) {
    let open = |name, currency: &str| {
        world.store.open_account(NewAccount {
            id: world.account_id(),
            person: person(name),
            currency: currency.parse().unwrap(),
            at: NOW,
        })
    };
    assert_eq!(open("anna", "EUR").await, Ok(true));
    assert_eq!(open("anna", "EUR").await, Ok(false));
    assert_eq!(open("anna", "JPY").await, Ok(true));
    assert_eq!(open("ben", "EUR").await, Ok(true));
    let accounts = world.store.accounts_of(person("anna")).await.unwrap();
    let currencies: Vec<_> = accounts.iter().map(|a| a.currency.code()).collect();
    assert_eq!(currencies, ["EUR", "JPY"]);
    assert_eq!(
        world.store.accounts_of(person("nobody")).await,
        Ok(Vec::new())
    );
}

pub(crate) async fn a_credit_reference_counts_once(world: &World) {
    let anna = world.shopper("anna", 0).await;
    let ben = world.shopper("ben", 0).await;
    let account = world.store.accounts_of(anna.clone()).await.unwrap()[0].clone();
    let other = world.store.accounts_of(ben).await.unwrap()[0].id;
    for _ in 0..2 {
        let Balance::Is(now) = world.credit(account.id, 500, "r1").await else {
            panic!("not credited")
        };
        assert_eq!(now.balance_minor, 500);
    }
    assert_eq!(
        world.credit(account.id, 501, "r1").await,
        Balance::ReferenceTaken
    );
    assert_eq!(
        world.credit(other, 500, "r1").await,
        Balance::ReferenceTaken
    );
    let nobody = world.account_id();
    assert_eq!(world.credit(nobody, 5, "r2").await, Balance::NoAccount);
    let payee = world.merchant().await.account;
    assert_eq!(world.credit(payee, 5, "r2").await, Balance::NoAccount);
    let yen = authority::store::Credit {
        account: account.id,
        amount: Money::new(5, "JPY".parse().unwrap()).unwrap(),
        reference: "r2".into(),
        at: NOW,
    };
    assert_eq!(world.store.credit(yen).await, Ok(Balance::Currency));
    assert_eq!(world.balance(&anna).await, 500);
    let report = world.store.ledger_report().await.unwrap();
    assert_eq!(
        (report.entries, report.sums),
        (2, vec![(account.currency, 0)])
    );
}

pub(crate) async fn misses_are_counted_per_person_and_window(world: &World) {
    let window = |n| live(number(n), Channel::Code, 0).token().window;
    let miss = |name, n, at| world.store.add_miss(person(name), window(n), NOW, at);
    let count = |person, window| Ok(MissCount { person, window });
    assert_eq!(miss("anna", 1, NOW - 1).await, count(0, 1));
    assert_eq!(miss("anna", 1, NOW).await, count(1, 2));
    assert_eq!(miss("anna", 1, NOW).await, count(2, 3));
    assert_eq!(miss("anna", 2, NOW + 5).await, count(3, 1));
    assert_eq!(miss("ben", 1, NOW + 5).await, count(1, 4));
    let asked = |name, n| world.store.misses(person(name), window(n), NOW);
    assert_eq!(asked("anna", 1).await, count(3, 4));
    assert_eq!(asked("nobody", 1).await, count(0, 4));
    assert_eq!(asked("nobody", 3).await, count(0, 0));
}

pub(crate) async fn reports_are_stored_once_and_by_their_own_terminal(world: &World) {
    let (a, b) = (world.terminal(1).await, world.terminal(2).await);
    let event = |n: u8| TerminalEvent {
        id: EventId::from_parts(NOW.ms() as u64, &[n; 10]),
        at: NOW + i64::from(n),
        what: Seen::Tap {
            tag_uid: "04a1".into(),
            count: u32::from(n),
            window: None,
            counter: None,
        },
    };
    let add = |terminal: TerminalId, events| world.store.add_reports(terminal, events, NOW);
    let ids = |numbers: &[u8]| numbers.iter().map(|n| event(*n).id).collect::<Vec<_>>();
    assert_eq!(add(a, vec![event(1), event(2)]).await, Ok(ids(&[1, 2])));
    assert_eq!(add(a, vec![event(2), event(3)]).await, Ok(ids(&[2, 3])));
    assert_eq!(add(b, vec![event(3), event(4)]).await, Ok(ids(&[4])));
    assert_eq!(add(a, vec![event(1)]).await, Ok(ids(&[1])));
    let stored = world.store.reports(a, 2).await.unwrap();
    assert_eq!(stored, [event(3), event(2)]);
    let kinds = world.audit_kinds().await;
    assert_eq!(kinds.iter().filter(|k| *k == "reports.stored").count(), 3);
}

pub(crate) async fn checkpoints_come_in_order(world: &World) {
    let checkpoint = |n: i64| StoredCheckpoint {
        at: NOW + n,
        jws: format!("checkpoint {n}"),
    };
    assert_eq!(world.store.audit_heads().await, Ok(Vec::new()));
    for n in 0..3 {
        world
            .store
            .add_checkpoint(checkpoint(n), Vec::new())
            .await
            .unwrap();
    }
    let read = |skip, limit| world.store.checkpoints(skip, limit);
    assert_eq!(read(0, 2).await.unwrap(), [checkpoint(0), checkpoint(1)]);
    assert_eq!(read(2, 2).await.unwrap(), [checkpoint(2)]);
    world
        .store
        .note("daemon.started", "{}".into(), NOW)
        .await
        .unwrap();
    world.store.probe().await.unwrap();
    assert_eq!(world.audit_kinds().await, ["daemon.started"]);
}

pub(crate) async fn pseudonyms_differ_between_merchants(world: &World) {
    let anna = world.shopper("anna", 10_000).await;
    let mut seen = Vec::new();
    let mut terminals = vec![world.terminal(1).await, world.terminal(2).await];
    terminals.push(terminals[0]);
    for terminal in terminals {
        world.start(terminal, 420).await;
        let record = world.claimed(terminal).await;
        seen.push(world.paid(&record, &anna).await.pseudonym);
    }
    assert_eq!(seen[0], seen[2]);
    assert_ne!(seen[0], seen[1]);
    assert_eq!(seen[0].len(), 22);
}

pub(crate) async fn the_audit_names_nobody(world: &World) {
    let merchant = world.merchant_with(Some(eur(250)), None).await;
    let terminal = world.terminal_of(&merchant, 1).await;
    let anna = world.shopper("anna-subject", 1_000).await;
    let mut claim = world.claim_of(live(terminal, Channel::Code, 0));
    claim.person = Some(anna.clone());
    let window = claim.live.token().window;
    world
        .store
        .add_miss(anna.clone(), window, NOW, NOW)
        .await
        .unwrap();
    let ClaimOutcome::Claimed(record) = world.store.claim(claim).await.unwrap() else {
        panic!("not claimed")
    };
    let payment = world.paid(&record, &anna).await;
    world.receipt(&payment, "jws").await.unwrap();
    let rows = world.store.audit_rows(crate::NODE, 0, 100).await.unwrap();
    for row in &rows {
        assert!(!row.row.body.contains("anna-subject"), "{row:?}");
        assert!(!row.row.body.contains("id.example"), "{row:?}");
        assert!(!row.row.body.contains(&payment.pseudonym), "{row:?}");
    }
    let about = |kind: &str| {
        let row = rows.iter().find(|row| row.row.kind == kind).unwrap();
        let body: serde_json::Value = serde_json::from_str(&row.row.body).unwrap();
        body["person"].as_str().unwrap().to_owned()
    };
    for kind in ["code.missed", "token.claimed", "payment.paid"] {
        assert_eq!(about(kind), about("account.opened"));
    }
}
