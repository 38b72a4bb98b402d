//! Does a listener hold when clients come in a crowd, fall silent, dribble or do not listen?

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use authority::listen::{FIRST_REQUEST_TIMEOUT, HANDSHAKE_TIMEOUT, HANDSHAKES_MAX};

use crate::certificates::{Shown, operator};
use crate::enrolling::enrol;
use crate::house::{Daemon, House};

/// Far past every limit that is tried here.
const PATIENCE: Duration = FIRST_REQUEST_TIMEOUT.saturating_mul(4);
pub const CACERTS: &[u8] = b"GET /.well-known/est/cacerts HTTP/1.1\r\nhost: localhost\r\n\r\n";
pub const EVENTS: &[u8] =
    b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n";

/// A foreign TLS client that says what it is told to, and nothing by itself.
pub struct Client {
    process: Child,
    says: Option<ChildStdin>,
    hears: BufReader<ChildStdout>,
}

impl Client {
    pub fn connect(port: u16, shown: Option<&Shown>) -> Self {
        let address = format!("localhost:{port}");
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address, "-quiet"]);
        if let Some(shown) = shown {
            let curl = shown.curl();
            let (certificate, key) = (curl[1], curl[3]);
            command.args([
                "-cert",
                certificate,
                "-key",
                key,
                "-cert_chain",
                certificate,
            ]);
        }
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            says: process.stdin.take(),
            hears: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    pub fn say(&mut self, bytes: &[u8]) {
        let says = self.says.as_mut().unwrap();
        says.write_all(bytes).unwrap();
        says.flush().unwrap();
    }

    /// The next line that begins so; without its end.
    pub fn hear(&mut self, begin: &str) -> String {
        let mut heard = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.hears.read_line(&mut line).unwrap(), 0, "{heard}");
            if line.starts_with(begin) {
                return line.trim_end().to_owned();
            }
            heard += &line;
        }
    }

    /// Reads the head of an answer and its body of a stated length.
    pub fn answer(&mut self) -> String {
        let status = self.hear("HTTP/1.1");
        let length: usize = self.hear("content-length:")[15..].trim().parse().unwrap();
        while !self.hear("").is_empty() {}
        let mut body = vec![0; length];
        self.hears.read_exact(&mut body).unwrap();
        status
    }

    fn until_closed(mut self) {
        self.hears.read_to_end(&mut Vec::new()).unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn plain(port: u16, first: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(first).unwrap();
    socket
}

fn is_closed(mut socket: TcpStream) {
    // A reset is an end, too.
    let _ = socket.read_to_end(&mut Vec::new());
}

pub fn refused(daemon: &Daemon, listener: &str, reason: &str) -> u64 {
    let name = format!(
        "m2key_authority_connections_refused_total{{listener=\"{listener}\",reason=\"{reason}\"}} "
    );
    number(daemon, &name)
}

fn number(daemon: &Daemon, name: &str) -> u64 {
    let metrics = daemon.loopback("/metrics").body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |number| number.trim().parse().unwrap())
}

#[test]
fn whoever_dribbles_is_cut_by_name_and_whoever_rests_between_requests_is_not() {
    let house = House::new();
    let daemon = house.serve();
    let port = daemon.port("agents");
    // Longer than there are turns: none of them may hold up the others.
    let silent: Vec<TcpStream> = (0..HANDSHAKES_MAX).map(|_| plain(port, b"")).collect();
    let half_a_hello: Vec<TcpStream> = (0..HANDSHAKES_MAX).map(|_| plain(port, b"\x16")).collect();
    let mut never_asks = Client::connect(port, None);
    never_asks.say(b"");
    let mut half_a_head = Client::connect(port, None);
    half_a_head.say(b"GET / HTTP/1.1\r\nhost: lo");
    let (mut rests, mut dribbles) = (Client::connect(port, None), Client::connect(port, None));
    for client in [&mut rests, &mut dribbles] {
        client.say(CACERTS);
        assert_eq!(client.answer(), "HTTP/1.1 200 OK");
    }
    dribbles.say(&CACERTS[..9]);
    silent.into_iter().chain(half_a_hello).for_each(is_closed);
    never_asks.until_closed();
    half_a_head.until_closed();
    dribbles.until_closed();
    rests.say(CACERTS);
    assert_eq!(rests.answer(), "HTTP/1.1 200 OK");
    let cut = |reason| refused(&daemon, "agents", reason);
    assert_eq!(cut("handshake-timeout"), 2 * HANDSHAKES_MAX as u64);
    assert_eq!((cut("no-request"), cut("slow-head")), (1, 2));
    assert!(HANDSHAKE_TIMEOUT < FIRST_REQUEST_TIMEOUT);
}

#[test]
fn a_full_listener_turns_away_by_name_and_serves_on() {
    let house = House::new();
    house.edit_config("[agents]", "[agents]\nconnections_max = 2");
    let daemon = house.serve();
    let port = daemon.port("agents");
    let places = "m2key_authority_connections_max{listener=\"agents\"} ";
    assert_eq!(number(&daemon, places), 2);
    let shown = operator(&house);
    let mut inside = Client::connect(port, Some(&shown));
    inside.say(CACERTS);
    inside.answer();
    let mut another = Client::connect(port, Some(&shown));
    another.say(CACERTS);
    another.answer();
    is_closed(plain(port, b""));
    assert_eq!(refused(&daemon, "agents", "full"), 1);
    drop(another);
    inside.say(CACERTS);
    assert_eq!(inside.answer(), "HTTP/1.1 200 OK");
    inside.say(
        b"GET /.well-known/est/cacerts HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    );
    inside.until_closed();
    daemon.agents("/.well-known/est/cacerts", &[]);
}

#[test]
fn a_stream_has_its_connection_for_itself_and_whoever_says_more_on_it_is_cut_by_name() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let shown = enrol(&house, &daemon, &terminal, &token);
    let mut client = Client::connect(daemon.port("agents"), Some(&shown));
    client.say(CACERTS);
    assert_eq!(client.answer(), "HTTP/1.1 200 OK");
    client.say(EVENTS);
    assert_eq!(client.hear("HTTP/1.1"), "HTTP/1.1 200 OK");
    let head: Vec<String> =
        std::iter::from_fn(|| Some(client.hear("")).filter(|it| !it.is_empty())).collect();
    for said in [
        "transfer-encoding: chunked",
        "connection: close",
        "content-type: text/event-stream",
    ] {
        assert!(head.iter().any(|line| line == said), "{head:?}");
    }
    for field in ["date: ", "x-request-id: "] {
        assert!(head.iter().any(|line| line.starts_with(field)), "{head:?}");
    }
    assert_eq!(client.hear("event:"), "event: state");
    let state: serde_json::Value = serde_json::from_str(&client.hear("data: ")[6..]).unwrap();
    assert_eq!(state["schedule_due"], true);
    assert_eq!(number(&daemon, "m2key_authority_push_streams "), 1);
    client.say(CACERTS);
    client.until_closed();
    assert_eq!(refused(&daemon, "agents", "talks-on-stream"), 1);
    assert_eq!(number(&daemon, "m2key_authority_push_streams "), 0);
}

#[test]
fn a_ban_cuts_a_stream_that_has_its_connection_for_itself() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let shown = enrol(&house, &daemon, &terminal, &token);
    let mut client = Client::connect(daemon.port("agents"), Some(&shown));
    client.say(EVENTS);
    client.hear("event:");
    let ban = ["terminal", "ban", &terminal, "--reason", "stolen"];
    assert_eq!(house.verb(&ban).code, 0);
    client.until_closed();
    assert_eq!(number(&daemon, "m2key_authority_push_streams "), 0);
}
