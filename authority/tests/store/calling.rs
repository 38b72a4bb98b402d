//! Does what is called out reach the others, once, and hold up nothing that refuses?

use authority::store::{News, NewsListener, Nodes as _, Terminals as _};
use own_postgres::SUPERUSER;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};

use crate::cluster::Database;
use crate::nodes::{LOOK, PATIENCE, Two, until};
use crate::world::{NOW, World, number};

/// More calls than wait to be said.
const FLOOD: usize = 5_000;

fn closed(n: u32) -> News {
    News::Closed(number(n))
}

/// Of this many streams.
fn words(count: u32) -> Vec<String> {
    (0..count)
        .map(|n| format!("closed/{}", number(n)))
        .collect()
}

/// Another node bans, and calls these words out in the same moment: how many of them are heard before the ban.
async fn heard_before_the_ban(two: &Two, said: &[String]) -> usize {
    let mut news = two.there.news();
    let heard = tokio::spawn(async move {
        let mut before = 0;
        loop {
            match news.next().await {
                News::Banned(_) => return before,
                News::Closed(_) => before += 1,
                _ => {}
            }
        }
    });
    two.database.sql(&format!(
        "INSERT INTO news (number, node, kind, about)
             SELECT coalesce(max(number), 0) + 1, 'node-9', 'banned', '{}' FROM news;
         SELECT pg_notify('m2key_news', word) FROM unnest(string_to_array('{}', ',')) word",
        number(7),
        said.join(",")
    ));
    let heard = tokio::time::timeout(PATIENCE, heard).await;
    heard.expect("the ban is not heard").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_there_are_rows_is_followed_before_the_calls_behind_it() {
    let two = Two::new();
    let mut said = vec!["rows".to_owned()];
    said.extend(words(20));
    assert_eq!(heard_before_the_ban(&two, &said).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_read_again_however_many_calls_wait() {
    let two = Two::new();
    let fleet = words(1_000);
    let before = heard_before_the_ban(&two, &fleet).await;
    assert!(before < fleet.len() / 10, "{before} calls first");
}

/// What is called out in this database from here on, as long as the client is kept.
async fn overheard(database: &Database) -> (Client, UnboundedReceiver<String>) {
    let place = database.place();
    let mut config = Config::new();
    config.host_path(&place.hosts[0]).user(SUPERUSER);
    config.dbname(&place.database);
    let (client, mut connection) = config.connect(NoTls).await.unwrap();
    let (tell, heard) = unbounded_channel();
    tokio::spawn(async move {
        let mut next = async || std::future::poll_fn(|it| connection.poll_message(it)).await;
        while let Some(Ok(said)) = next().await {
            if let AsyncMessage::Notification(said) = said {
                let _ = tell.send(said.payload().to_owned());
            }
        }
    });
    client.batch_execute("LISTEN m2key_news").await.unwrap();
    (client, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_is_called_out_and_not_only_found() {
    let two = Two::new();
    let terminal = World::new(two.here.clone()).terminal(1).await;
    let (_client, mut heard) = overheard(&two.database).await;
    two.here
        .ban_terminal(terminal, "stolen".into(), NOW)
        .await
        .unwrap();
    let called = async { while heard.recv().await.unwrap() != "rows" {} };
    assert!(tokio::time::timeout(PATIENCE, called).await.is_ok());
}

/// Calls out until the other node has heard that it missed some.
async fn calls_until_some_are_missed(two: &Two, news: &mut NewsListener) {
    let called = async {
        loop {
            two.here.call(&[closed(3)]);
            if tokio::time::timeout(LOOK, news.next()).await == Ok(News::Missed) {
                return;
            }
        }
    };
    let called = tokio::time::timeout(PATIENCE, called).await;
    assert!(called.is_ok(), "nobody is told that calls were lost");
}

fn end(database: &Database, pid: &str) {
    let ended = database.sql(&format!("SELECT pg_terminate_backend({pid}, 30000)"));
    assert_eq!(ended, "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_hears_their_own_calls_also_over_a_new_line() {
    let two = Two::new();
    for _ in 0..2 {
        let (mut here, mut there) = (two.here.news(), two.there.news());
        two.here.call(&[closed(1)]);
        until(&mut there, &closed(1)).await;
        two.there.call(&[closed(2)]);
        let mut before = Vec::new();
        while before.last() != Some(&closed(2)) {
            let heard = tokio::time::timeout(PATIENCE, here.next()).await;
            before.push(heard.expect("the other one is heard"));
        }
        assert!(!before.contains(&closed(1)), "{before:?}");
        assert!(!before.contains(&News::Missed), "{before:?}");
        end(&two.database, &two.database.caller("node-1"));
        calls_until_some_are_missed(&two, &mut there).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_for_which_there_was_no_room_are_told_of() {
    let two = Two::new();
    let mut news = two.there.news();
    let hushed = two.database.hush("node-1");
    (0..FLOOD).for_each(|_| two.here.call(&[closed(1)]));
    drop(hushed);
    calls_until_some_are_missed(&two, &mut news).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_line_was_lost_takes_calls_for_missed() {
    let two = Two::new();
    let mut news = two.there.news();
    let listens = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()
        AND application_name = 'm2key-authority node-2 listening'";
    end(&two.database, &two.database.sql(listens));
    until(&mut news, &News::Missed).await;
}

/// They were deleted, or the database is an earlier one.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_gone_before_they_were_read_are_everything() {
    let two = Two::new();
    let mut news = two.there.news();
    two.database.sql(
        "INSERT INTO news (number, node, kind)
             SELECT coalesce(max(number), 0) + 2, 'node-9', 'fact' FROM news",
    );
    until(&mut news, &News::All).await;
}
