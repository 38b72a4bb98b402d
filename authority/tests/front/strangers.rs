//! Does an agent get in while strangers hold the agents' listener in every way they can?

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;

use authority::listen::{self, HANDSHAKES_MAX, TURN_MAX, TURN_WAIT};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::certificates::Shown;
use crate::crowding::{CACERTS, Client, EVENTS, refused};
use crate::enrolling::enrol;
use crate::house::{Daemon, House};

/// Of a place of their own, and of the address that agents have, too.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const NEXT_DOOR: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Connections of the listener, and of them strangers of one address: more than can shake hands at one time, as ever.
const PLACES: usize = 2 * HANDSHAKES_MAX;
const STRANGERS: usize = HANDSHAKES_MAX + 16;
/// More than there are turns for while one waits: so many that each takes one keep everybody out.
const CROWD: usize = 2 * HANDSHAKES_MAX * (TURN_WAIT.as_millis() / TURN_MAX.as_millis()) as usize;

fn from(address: Ipv4Addr, port: u16) -> TcpStream {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &SocketAddrV4::new(address, 0)).unwrap();
    connect(&fd, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).unwrap();
    TcpStream::from(fd)
}

/// A stranger whose place may have gone to somebody else meanwhile.
fn says(socket: &mut impl Write, bytes: &[u8]) {
    let _ = socket.write_all(bytes);
}

fn tls(house: &House) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    for root in listen::tls::chain(&house.dir().join("root.pem")).unwrap() {
        roots.add(root).unwrap();
    }
    let config = ClientConfig::builder_with_provider(listen::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

fn hello(house: &House) -> Vec<u8> {
    let mut hello = Vec::new();
    tls(house).write_tls(&mut hello).unwrap();
    hello
}

/// What a stranger does with its socket.
type Way = fn(&House, TcpStream) -> Box<dyn Write>;

const WAYS: [(&str, Way); 6] = [
    ("says nothing", |_, socket| Box::new(socket)),
    ("says one byte", |_, mut socket| {
        says(&mut socket, b"\x16");
        Box::new(socket)
    }),
    ("says all of its hello but one byte", |house, mut socket| {
        let hello = hello(house);
        says(&mut socket, &hello[..hello.len() - 1]);
        Box::new(socket)
    }),
    ("says its hello and no more", |house, mut socket| {
        says(&mut socket, &hello(house));
        Box::new(socket)
    }),
    ("shows no certificate and never asks", |house, socket| {
        let mut stream = StreamOwned::new(tls(house), socket);
        says(&mut stream, b"");
        let _ = stream.flush();
        Box::new(stream)
    }),
    (
        "asks for what strangers may have and rests",
        |house, socket| {
            let mut stream = StreamOwned::new(tls(house), socket);
            says(&mut stream, CACERTS);
            let _ = stream.read(&mut [0; 4_096]);
            Box::new(stream)
        },
    ),
];

fn house(places: usize, strangers: usize) -> House {
    let house = House::new();
    let limits =
        format!("[agents]\nconnections_max = {places}\nstrangers_per_address = {strangers}");
    house.edit_config("[agents]", &limits);
    house
}

fn agent(house: &House, daemon: &Daemon) -> Shown {
    let (terminal, token) = house.terminal();
    enrol(house, daemon, &terminal, &token)
}

/// Connects, and hears where its terminal stands.
fn listens(daemon: &Daemon, shown: &Shown) -> Client {
    let mut client = Client::connect(daemon.port("agents"), Some(shown));
    client.say(EVENTS);
    assert_eq!(client.hear("event:"), "event: state");
    client
}

#[test]
fn an_agent_gets_in_however_strangers_hold_their_sockets_and_none_is_pushed_out() {
    let house = house(PLACES, STRANGERS);
    let daemon = house.serve();
    let port = daemon.port("agents");
    let shown = agent(&house, &daemon);
    let mut inside = Client::connect(port, Some(&shown));
    for (way, holds) in WAYS {
        let addresses = [ELSEWHERE, NEXT_DOOR].into_iter().cycle();
        let mut strangers: Vec<_> = addresses
            .take(2 * PLACES)
            .map(|address| holds(&house, from(address, port)))
            .collect();
        eprintln!("a stranger {way}");
        listens(&daemon, &shown);
        // They go on a byte at a time.
        for stranger in &mut strangers {
            says(stranger, b"\x00");
        }
        listens(&daemon, &shown);
        inside.say(CACERTS);
        assert_eq!(inside.answer(), "HTTP/1.1 200 OK", "{way}");
    }
    assert!(refused(&daemon, "agents", "gave-way") > 0);
    assert_eq!(refused(&daemon, "agents", "full"), 0);
}

#[test]
fn a_byte_takes_no_turn() {
    let house = house(120_000, 2 * CROWD);
    let daemon = house.serve();
    let shown = agent(&house, &daemon);
    let begin = |_| {
        let mut socket = from(NEXT_DOOR, daemon.port("agents"));
        says(&mut socket, b"\x16");
        socket
    };
    let _strangers: Vec<_> = (0..CROWD).map(begin).collect();
    listens(&daemon, &shown);
    assert_eq!(refused(&daemon, "agents", "no-turn"), 0);
}

#[test]
fn an_address_that_takes_all_turns_and_falls_silent_keeps_nobody_out_but_itself() {
    let house = house(120_000, 2 * CROWD);
    let daemon = house.serve();
    let shown = agent(&house, &daemon);
    let hello = hello(&house);
    let begin = |_| {
        let mut socket = from(ELSEWHERE, daemon.port("agents"));
        says(&mut socket, &hello);
        socket
    };
    let _strangers: Vec<_> = (0..CROWD).map(begin).collect();
    listens(&daemon, &shown);
}
