//! How many clients are let in: in all, and from one address.

use crate::client::Client;
use crate::counters::Tally;
use crate::harness::{Program, Server};
use crate::http_client::{UPGRADE, read_response, request};

conformance! {
    over_the_limit_clients_are_refused_with_503,
    a_place_that_is_left_is_free_again,
    a_full_server_still_answers_http,
    #[cfg(target_os = "linux")]
    a_house_full_of_unfinished_heads_still_answers_health_checks,
    sockets_from_one_address_are_limited_from_the_accept_on,
    one_address_cannot_take_all_places,
    without_a_limit_for_an_address_there_is_none,
    a_storm_of_clients_is_let_in,
}

fn assert_refused(server: &Server, path: &str) {
    let refusal = server
        .try_open(path, "")
        .err()
        .unwrap_or_else(|| panic!("{path} is let in over the limit"));
    assert_eq!(refusal.status, 503, "{path}");
    let seconds = refusal
        .header("retry-after")
        .expect("when to try again")
        .parse::<u32>();
    assert!(
        seconds.is_ok_and(|seconds| (1..=3600).contains(&seconds)),
        "{refusal:?}"
    );
}

fn over_the_limit_clients_are_refused_with_503(program: Program) {
    let server = program.start("--max-clients 3");
    let tally = Tally::new(&server, "full");
    let mut inside = server.join();
    let _others = (server.watch(), server.open("/ws/echo"));
    for path in ["/ws/chat", "/ws/dashboard", "/ws/echo"] {
        assert_refused(&server, path);
    }
    tally.rises_by(3);
    inside.say("Alice", "unharmed");
    assert_eq!(inside.next_json()["text"], "unharmed");
}

fn a_place_that_is_left_is_free_again(program: Program) {
    let server = program.start("--max-clients 2");
    let mut clients = vec![server.join(), server.join()];
    for round in 0..10 {
        assert_refused(&server, "/ws/chat");
        let leaves = clients.swap_remove(0);
        if round % 2 == 0 {
            leaves.leave();
        } else {
            leaves.vanish();
        }
        clients.push(server.open_when_free("/ws/chat"));
    }
}

fn a_full_server_still_answers_http(program: Program) {
    let server = program.start("--max-clients 1");
    let _inside = server.join();
    assert_refused(&server, "/ws/chat");
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(server.get("/metrics").status, 200);
}

/// Every socket that the server takes is held by a head that never ends. Only Linux hands over a connection together with
/// the request that came on it.
#[cfg(target_os = "linux")]
fn a_house_full_of_unfinished_heads_still_answers_health_checks(program: Program) {
    let server =
        program.start("--max-clients 8 --max-clients-per-address 2 --handshake-timeout 60s");
    let tally = Tally::new(&server, "full");
    // Some more than there is room for: whoever asked before may still be counted when the first of them come.
    crate::counters::await_no_connection_but_ours(&server);
    let mut wires: Vec<_> = (0..8 + 256 + 16).map(|_| server.wire()).collect();
    for wire in &mut wires {
        wire.send(b"G");
    }
    let page = loop {
        let response = server.get("/chat.html");
        if response.status == 503 {
            break response;
        }
        assert_eq!(response.status, 200, "not all heads have come in yet");
    };
    assert!(page.ends_connection());
    for path in ["/healthz", "/metrics"] {
        for method in ["GET", "HEAD"] {
            let response = server.request(method, path, "");
            assert_eq!(response.status, 200, "{method} {path}");
            assert!(response.ends_connection(), "{method} {path}");
        }
    }
    let rebound = server.exchange("GET", "GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(rebound.status, 421);
    assert_refused(&server, "/ws/chat");
    tally.rises();
}

/// Neither clients nor requests count here, but whatever is open.
fn sockets_from_one_address_are_limited_from_the_accept_on(program: Program) {
    let server = program.start("--max-sockets-per-address 3");
    let inside = server.join();
    let tally = Tally::new(&server, "address_sockets");
    let mut unfinished = [server.wire(), server.wire()];
    for wire in &mut unfinished {
        wire.send(b"GET / HT");
    }
    let refused = loop {
        match server.try_open("/ws/chat", "") {
            Ok(client) => client.leave(),
            Err(response) => break response,
        }
    };
    assert_eq!(refused.status, 503);
    assert!(
        refused.text().contains("--max-sockets-per-address"),
        "{refused:?}"
    );
    #[cfg(target_os = "linux")]
    {
        tally.rises();
        assert_eq!(server.get("/healthz").status, 200);
        let wire = crate::wire::Wire::connect_from(([127, 0, 0, 2], 0).into(), server.address);
        let neighbour = Client::upgrade(wire, server.address, "/ws/chat", "");
        assert!(neighbour.is_ok(), "another address has sockets of its own");
    }
    drop(unfinished);
    server.open_when_free("/ws/chat").leave();
    inside.leave();
}

/// The whole of 127.0.0.0/8 is this host on Linux.
fn one_address_cannot_take_all_places(program: Program) {
    let server = program.start("--max-clients-per-address 2");
    let tally = Tally::new(&server, "address_full");
    let clients = [server.join(), server.open("/ws/echo")];
    assert_refused(&server, "/ws/chat");
    tally.rises_by(1);
    #[cfg(target_os = "linux")]
    {
        let wire = crate::wire::Wire::connect_from(([127, 0, 0, 2], 0).into(), server.address);
        let neighbour = Client::upgrade(wire, server.address, "/ws/chat", "");
        assert!(neighbour.is_ok(), "another address has places of its own");
    }
    let [leaves, stays] = clients;
    leaves.leave();
    server.open_when_free("/ws/chat").leave();
    drop::<Client>(stays);
}

fn without_a_limit_for_an_address_there_is_none(program: Program) {
    let server = program.start("");
    let clients: Vec<_> = (0..100).map(|_| server.open("/ws/echo")).collect();
    for mut client in clients {
        client.text("Hello");
        assert_eq!(client.next_text(), "Hello");
    }
}

/// All connect before the first is answered, as after a restart.
fn a_storm_of_clients_is_let_in(program: Program) {
    let server = program.start("");
    let mut wires: Vec<_> = (0..300).map(|_| server.wire()).collect();
    for wire in &mut wires {
        wire.send(request("GET", server.address, "/ws/echo", UPGRADE).as_bytes());
    }
    for mut wire in wires {
        assert_eq!(read_response(&mut wire, "GET").status, 101);
        let mut client = Client::after_upgrade(wire);
        client.text("Hello");
        assert_eq!(client.next_text(), "Hello");
    }
}
