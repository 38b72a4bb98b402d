//! Does the daemon come up, answer, refuse and go down as it should?

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use authority::listen::FIRST_REQUEST_TIMEOUT;

use crate::house::{House, text};

#[test]
fn after_init_the_daemon_is_alive_and_ready() {
    let house = House::new();
    let daemon = house.serve();
    assert_eq!(daemon.loopback("/live").status, 200);
    let ready = daemon.loopback("/ready");
    assert_eq!(
        (ready.status, ready.json()["ready"].as_bool()),
        (200, Some(true)),
        "{ready:?}"
    );
    let metrics = daemon.loopback("/metrics").body;
    for name in [
        "hsm_operation_seconds",
        "http_requests_total",
        "push_streams",
    ] {
        assert!(
            metrics.contains(&format!("m2key_authority_{name}")),
            "{name}"
        );
    }
}

#[test]
fn no_core_dump_can_hold_its_keys() {
    let house = House::new();
    let daemon = house.serve();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let numbers: Vec<&str> = core.unwrap().split_whitespace().skip(4).take(2).collect();
    assert_eq!(numbers, ["0", "0"]);
}

#[test]
fn sigterm_ends_it_in_order() {
    let house = House::new();
    let daemon = house.serve();
    assert_eq!(daemon.stop(), 0);
    assert!(!house.dir().join("run/addresses.json").exists());
    let said = house.verb(&["--offline", "audit", "verify", "--json"]);
    assert_eq!(said.json()["holds"], true);
}

#[test]
fn what_no_route_takes_is_a_problem_and_not_bare() {
    let house = House::new();
    let daemon = house.serve();
    daemon.public("/nothing", &[]).problem(404, "not-found");
    daemon.agents("/nothing", &[]).problem(404, "not-found");
    daemon.loopback("/nothing").problem(404, "not-found");
    let wrong_method = daemon.agents("/.well-known/est/cacerts", &["-X", "DELETE"]);
    wrong_method.problem(405, "method-not-allowed");
}

#[test]
fn a_connection_that_never_asks_gives_its_place_back() {
    let house = House::new();
    let daemon = house.serve();
    let connect = |first: &[u8]| {
        let mut socket = TcpStream::connect(("127.0.0.1", daemon.port("loopback"))).unwrap();
        let patience = FIRST_REQUEST_TIMEOUT * 2;
        socket.set_read_timeout(Some(patience)).unwrap();
        socket.write_all(first).unwrap();
        socket
    };
    // The last has asked once, and may ask again.
    let mut silent = connect(b"");
    let mut half_a_preface = connect(b"PRI * HTTP/2.0\r\n");
    let mut preface_only = connect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let live = b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut asked = connect(live);
    assert_ne!(asked.read(&mut [0; 4096]).unwrap(), 0);
    for socket in [&mut silent, &mut half_a_preface, &mut preface_only] {
        socket.read_to_end(&mut Vec::new()).unwrap();
    }
    asked.write_all(live).unwrap();
    assert_ne!(asked.read(&mut [0; 4096]).unwrap(), 0);
    let metrics = daemon.loopback("/metrics").body;
    assert!(metrics.contains("no-request"), "{metrics}");
}

#[test]
fn no_agent_or_operator_route_answers_on_the_public_port() {
    let house = House::new();
    let daemon = house.serve();
    let post = [
        "-X",
        "POST",
        "-H",
        "content-type: application/json",
        "-d",
        "{}",
    ];
    for path in [
        "/v1/operator/terminal-list",
        "/.well-known/est/simpleenroll",
        "/v1/schedule",
    ] {
        daemon.public(path, &post).problem(404, "not-found");
    }
    daemon
        .public("/.well-known/est/cacerts", &[])
        .problem(404, "not-found");
}

#[test]
fn a_second_daemon_is_refused_by_the_lock() {
    let house = House::new();
    let _daemon = house.serve();
    let said = house.verb(&["serve"]);
    said.refused(
        4,
        "another process works on this authority",
        "stop the running daemon",
    );
}

#[test]
fn offline_verbs_wait_until_the_daemon_is_stopped() {
    let house = House::new();
    let daemon = house.serve();
    let verb = ["--offline", "terminal", "list"];
    house
        .verb(&verb)
        .refused(4, "another process works on this authority", "--offline");
    daemon.stop();
    assert_eq!(house.verb(&verb).out, "no terminals\n");
}

#[test]
fn a_wrong_pin_is_told_and_not_tried_again() {
    let house = House::new();
    std::fs::write(house.dir().join("hsm/authority.pin"), "000000").unwrap();
    let said = house.verb(&["serve"]);
    said.refused(4, "refused the PIN", "wrong PINs lock it");
    assert!(
        said.err.contains("m2key-authority") && !said.err.contains("000000"),
        "{said:?}"
    );
}

#[test]
fn a_pin_file_that_others_can_read_is_refused_with_the_command_that_helps() {
    let house = House::new();
    let pin = house.dir().join("hsm/authority.pin");
    std::fs::set_permissions(&pin, std::fs::Permissions::from_mode(0o644)).unwrap();
    house.verb(&["serve"]).refused(4, "chmod 600", "PIN files");
}

#[test]
fn an_absent_module_is_named() {
    let house = House::new();
    house.edit_config("/usr/lib/softhsm/libsofthsm2.so", "/nowhere/libhsm.so");
    house
        .verb(&["serve"])
        .refused(4, "/nowhere/libhsm.so", "hsm.module");
}

#[test]
fn an_unknown_hsm_token_is_named() {
    let house = House::new();
    house.edit_config(
        "token_label = \"m2key-authority\"",
        "token_label = \"elsewhere\"",
    );
    house
        .verb(&["serve"])
        .refused(4, "no HSM token labelled \"elsewhere\"", "token_label");
}

#[test]
fn a_store_that_is_not_there_is_not_made_anew() {
    let house = House::new();
    std::fs::remove_file(house.dir().join("store.sqlite")).unwrap();
    house
        .verb(&["serve"])
        .refused(4, "store.sqlite", "[store] path");
    assert!(!house.dir().join("store.sqlite").exists());
}

#[test]
fn the_issuing_certificate_of_another_authority_is_refused() {
    let (house, other) = (House::new(), House::of_its_own());
    for name in ["root.pem", "issuing.pem"] {
        std::fs::copy(other.dir().join(name), house.dir().join(name)).unwrap();
    }
    let said = house.verb(&["serve"]);
    said.refused(4, "does not hang on a root in", "[signer] and [trust]");
}

#[test]
fn a_port_that_is_taken_is_told() {
    let house = House::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    house.edit_config("127.0.0.1:0", &address);
    house
        .verb(&["serve"])
        .refused(4, &format!("cannot listen on {address}"), "another address");
}

#[test]
fn a_configuration_with_typos_is_refused_with_all_of_them() {
    let house = House::new();
    house.edit_config("node = \"authority-1\"", "node = \"No Good\"");
    house.edit_config("link_host = \"localhost\"", "link_host = \"UPPER\"");
    let said = house.verb(&["check-config"]);
    said.refused(4, "node: ", "public.link_host: ");
    house.edit_config("[store]", "[stroe]");
    house
        .verb(&["check-config"])
        .refused(4, "stroe", "authority.full.toml");
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let house = House::empty();
    let missing = house.scratch("nothing.toml");
    let said = house.command(&["--config", text(&missing), "serve"]);
    said.refused(4, "nothing.toml", "m2key-authority init");
}

#[test]
fn check_hsm_finds_nothing_missing_in_softhsm() {
    let house = House::new();
    let view = house.verb(&["check-hsm", "--json"]).json();
    assert_eq!(view["ok"], true, "{view}");
    let keys = view["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 7);
    assert!(keys.iter().all(|key| key["extractable"] == false), "{view}");
}

#[test]
fn json_logs_are_one_object_per_line() {
    let house = House::new();
    let text = std::fs::read_to_string(house.config()).unwrap();
    std::fs::write(house.config(), text + "\n[log]\nformat = \"json\"\n").unwrap();
    let daemon = house.serve();
    let lines: Vec<serde_json::Value> = daemon
        .log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines.iter().any(|line| line["message"] == "serving"),
        "{lines:?}"
    );
}
