//! Who gets in, with what, and how many?

use base64ct::{Base64, Encoding};
use pki::signer::{
    AdminAsk, CONNECTIONS_MAX, ClientOptions, Doors, SignerClient, SignerError, Uids, ask_admin,
};
use pki::{Issuer, IssuerHealth};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::world::{NOW, World, request, signer_error};

/// Anything but ours: the system gives small numbers to its own and large ones to people.
const NOBODY_HERE: u32 = 0x7fff_fff0;

fn serve_for(world: &World, askers: u32, admins: u32) -> watch::Sender<bool> {
    let (askers, admins) = (Uids::new([askers]), Uids::new([admins]));
    let doors = Doors::open(&world.config, None, askers, admins).unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(doors.serve(world.signer.clone(), stopped));
    stop
}

fn told(error: SignerError) -> String {
    match error {
        SignerError::Told(told) => told.message,
        other => panic!("{other:?}"),
    }
}

/// Sends bytes as they are; everything that comes back until the end.
async fn raw(socket: std::path::PathBuf, bytes: Vec<u8>) -> String {
    let talk = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    });
    talk.await.unwrap()
}

fn framed(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&length[..], text.as_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_not_named_gets_neither_a_certificate_nor_a_step() {
    let world = World::new().await;
    let _stop = serve_for(&world, NOBODY_HERE, NOBODY_HERE);
    let asked = SignerClient::open(world.client_options()).await.map(drop);
    assert!(told(signer_error(asked)).contains("is not let in"));
    let asked = ask_admin(&world.config.admin_socket(), AdminAsk::List).await;
    assert!(told(signer_error(asked)).contains("is not let in"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_at_one_door_is_not_understood_at_the_other() {
    let world = World::new().await;
    let _stop = world.serve();
    let retire = r#"{"id":1,"ask":{"taint":{"label":"m2key-issuing-1","dry_run":false}}}"#;
    let answer = raw(world.config.socket(), framed(retire)).await;
    assert!(answer.contains("not understood"), "{answer}");
    let look = r#"{"id":1,"ask":"look"}"#;
    let answer = raw(world.config.admin_socket(), framed(look)).await;
    assert!(answer.contains("not understood"), "{answer}");
    assert_eq!(world.states().await, ["m2key-issuing-1 active"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_is_too_long_or_makes_no_sense_ends_the_connection_and_nothing_else() {
    let world = World::new().await;
    let _stop = world.serve();
    let client = world.client().await;
    let long = [0xff; 8].to_vec();
    let nonsense = framed("{\"id\":1,\"ask\":{\"issue\":[[[[");
    let trailing = framed("{\"id\":1,\"ask\":\"look\"} and more");
    // Begun, and then nothing more comes.
    let half = framed("{\"id\":1,\"ask\":\"look\"}")[..9].to_vec();
    let wrong = [
        (long, "at most 16777216"),
        (nonsense, "not understood"),
        (trailing, "not understood"),
        (half, "took longer"),
    ];
    for (bytes, why) in wrong {
        let answer = raw(world.config.socket(), bytes).await;
        assert!(answer.contains(why), "{answer}");
    }
    client.issue(request(1, NOW)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_limited_and_one_more_is_told_that_we_are_busy() {
    let world = World::new().await;
    let _stop = world.serve();
    let socket = world.config.socket();
    let open: Vec<UnixStream> = (0..CONNECTIONS_MAX)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    let refused = SignerClient::open(world.client_options()).await.map(drop);
    let refused = signer_error(refused);
    assert!(told(refused).contains("more to do than it takes on"));
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sockets_are_for_their_owner_and_for_the_group_that_is_named() {
    let world = World::new().await;
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let own_group = rustix::process::getgid().as_raw();
    let (askers, admins) = (Uids::new([0]), Uids::new([0]));
    let doors = Doors::open(&world.config, Some(own_group), askers, admins).unwrap();
    assert_eq!(mode(&world.config.socket()), 0o660);
    assert_eq!(mode(&world.config.admin_socket()), 0o600);
    drop(doors);
    let _doors = Doors::bind(&world.config).unwrap();
    assert_eq!(mode(&world.config.socket()), 0o600);
}

/// Between client and signer: every request for a certificate is exchanged for another one.
async fn exchange_requests(listener: tokio::net::UnixListener, signer: std::path::PathBuf) {
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut behind = tokio::net::UnixStream::connect(&signer).await.unwrap();
        tokio::spawn(async move {
            while let Some(mut asked) = frame(&mut client).await {
                if let Some(issue) = asked["ask"].get_mut("issue") {
                    let other = request(1, NOW).csr.der().to_vec();
                    issue["csr"] = Base64::encode_string(&other).into();
                }
                send(&mut behind, &asked).await;
                let answer = frame(&mut behind).await.unwrap();
                send(&mut client, &answer).await;
            }
        });
    }
}

async fn frame(from: &mut tokio::net::UnixStream) -> Option<serde_json::Value> {
    let length = from.read_u32().await.ok()?;
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes).await.ok()?;
    serde_json::from_slice(&bytes).ok()
}

async fn send(to: &mut tokio::net::UnixStream, content: &serde_json::Value) {
    to.write_all(&framed(&content.to_string())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_key_is_not_taken_for_the_answer() {
    let world = World::new().await;
    let _stop = world.serve();
    let socket = world.dir.path().join("between.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(exchange_requests(listener, world.config.socket()));
    let options = ClientOptions {
        socket,
        ..world.client_options()
    };
    let client = SignerClient::open(options).await.unwrap();
    let refused = signer_error(client.issue(request(1, NOW)).await);
    assert!(
        refused.to_string().contains("a certificate of another key"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_another_domain_is_not_served_by_mistake() {
    let world = World::new().await;
    let _stop = world.serve();
    let options = ClientOptions {
        domain: "other.example".parse().unwrap(),
        ..world.client_options()
    };
    let refused = signer_error(SignerClient::open(options).await.map(drop));
    assert!(
        matches!(refused, SignerError::OtherDomain { .. }),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_sees_a_new_ca_with_the_next_answer_and_keeps_it_for_the_next_start() {
    let world = World::new().await;
    let stop = world.serve();
    let client = world.client().await;
    let first = client.chain();
    world.next_ca().await.unwrap();
    client.refresh().await.unwrap();
    assert_ne!(client.chain(), first);
    assert_eq!(client.issuing_cas().len(), 2);
    world.taint("m2key-issuing-1").await.unwrap();
    client.refresh().await.unwrap();
    let kept = std::fs::read_to_string(&world.client_options().known).unwrap();
    assert_eq!(
        kept,
        client.chain().issuing().pem(),
        "what is tainted is not kept"
    );
    stop.send_replace(true);
    drop(client);
    let _ = std::fs::remove_file(world.config.socket());
    let without = SignerClient::open(world.client_options()).await.unwrap();
    assert_eq!(without.chain().issuing().pem(), kept);
    assert!(matches!(without.health(), IssuerHealth::Down(_)));
    let refused = signer_error(without.issue(request(1, NOW)).await);
    assert!(matches!(refused, SignerError::Absent { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_what_was_asked_before_it() {
    let world = World::new().await;
    let stop = world.serve();
    let client = std::sync::Arc::new(world.client().await);
    let asked: Vec<_> = (0..20)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.issue(request(number, NOW)).await })
        })
        .collect();
    // Once one is answered the others are on their way.
    let mut answered = 0;
    for (place, asked) in asked.into_iter().enumerate() {
        answered += u32::from(asked.await.unwrap().is_ok());
        if place == 0 {
            stop.send_replace(true);
        }
    }
    let certificates =
        |entry: &pki::signer::Entry| matches!(entry, pki::signer::Entry::Certificate { .. });
    let logged = world
        .log()
        .iter()
        .filter(|entry| certificates(entry))
        .count();
    assert_eq!(logged, answered as usize, "what was taken on was answered");
}
