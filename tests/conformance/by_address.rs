//! What one address may take, and whose address counts behind a proxy.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::client::Client;
use crate::counters::Tally;
use crate::harness::{Program, Server};
use crate::http_client::{Response, read_response, request};
use crate::texts;

conformance! {
    handshakes_over_the_rate_are_429,
    messages_over_the_rate_are_refused_on_every_endpoint,
    a_refused_message_is_named_and_may_come_again_later,
    an_address_that_goes_on_is_closed,
    a_trusted_proxy_says_whose_address_it_is,
    a_forged_address_is_ignored_and_counted,
    an_ipv6_client_is_its_64_bits,
    a_proxy_header_names_the_client,
    a_proxy_header_from_elsewhere_is_400,
    a_malformed_proxy_header_is_400,
    sockets_behind_a_proxy_are_counted_by_client,
    a_proxy_may_name_clients_by_both,
}

const PROXY: &str = "--trusted-proxy 127.0.0.1";

/// A client for whom a proxy on this machine speaks with these header lines.
fn by_way_of(server: &Server, headers: &str) -> Result<Client, Response> {
    server.try_open("/ws/echo", headers)
}

fn for_address(server: &Server, address: &str) -> Result<Client, Response> {
    by_way_of(server, &format!("X-Forwarded-For: {address}\r\n"))
}

/// A client behind a proxy that first sends this.
fn behind(server: &Server, proxy_header: &[u8]) -> Result<Client, Response> {
    let mut wire = server.wire();
    wire.send(proxy_header);
    Client::upgrade(wire, server.address, "/ws/echo", "")
}

#[track_caller]
fn refused_with(status: u16, answer: Result<Client, Response>) -> Response {
    let refusal = answer.err().expect("it is over the limit");
    assert_eq!(refusal.status, status, "{refusal:?}");
    refusal
}

fn version_2(source: [u8; 4]) -> Vec<u8> {
    let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    [&head[..], &source, &[127, 0, 0, 1, 0x12, 0x67, 0, 80]].concat()
}

fn handshakes_over_the_rate_are_429(program: Program) {
    let server = program.start("--max-handshakes-per-address 2");
    let tally = Tally::new(&server, "address_handshakes");
    let first = [server.join(), server.join()];
    let mut refused = 0;
    let last = loop {
        match server.try_open("/ws/chat", "") {
            // A slow machine has had half a second.
            Ok(client) => drop(client),
            Err(response) => {
                refused += 1;
                break response;
            }
        }
    };
    assert_eq!(last.status, 429);
    assert!(last.header("retry-after").is_some() && last.ends_connection());
    assert!(last.text().contains("--max-handshakes-per-address"));
    tally.rises_by(refused);
    assert_eq!(
        server.get("/chat.html").status,
        200,
        "only WebSockets count"
    );
    // The rate is the event here: half a second brings another.
    thread::sleep(Duration::from_millis(600));
    server.join().leave();
    drop(first);
}

fn messages_over_the_rate_are_refused_on_every_endpoint(program: Program) {
    let server =
        program.start("--max-messages-per-address 1 --chat-interval 0s --metric-interval 1h");
    let tally = Tally::new(&server, "address_messages");
    let (mut chat, mut dashboard, mut echo) =
        (server.join(), server.watch(), server.open("/ws/echo"));
    echo.text("the one of this second");
    assert_eq!(echo.next_text(), "the one of this second");
    for client in [&mut chat, &mut dashboard, &mut echo] {
        let mut answers = Vec::new();
        // Whatever the machine does meanwhile, of three in a row one is too many.
        for _ in 0..3 {
            client.json(&json!({"type": "ping"}));
            answers.push(client.next_json());
        }
        let error = answers.iter().find(|answer| answer["type"] == "error");
        let error = error.unwrap_or_else(|| panic!("none is refused: {answers:?}"));
        assert_eq!(error["code"], "rate_limited");
        assert_eq!(error["text"], texts::RATE_LIMITED);
        let wait = error["retry_after_ms"]
            .as_u64()
            .expect("whole milliseconds");
        assert!((1..=1000).contains(&wait), "{wait}");
    }
    tally.rises();
}

fn a_refused_message_is_named_and_may_come_again_later(program: Program) {
    let server = program.start("--max-messages-per-address 1 --chat-interval 0s");
    let mut client = server.join();
    let mut number = 0;
    let refused = loop {
        number += 1;
        client.say_with_cid("Hello", &number.to_string());
        let answer = client.next_of_type_among(&["ack", "error"]);
        if answer["type"] == "error" {
            break answer;
        }
    };
    assert_eq!(refused["cid"], number.to_string());
    let wait = refused["retry_after_ms"].as_u64().expect("milliseconds");
    // The time itself is the event here: the server named the moment.
    thread::sleep(Duration::from_millis(wait));
    client.say_with_cid("Hello", &number.to_string());
    let answer = client.next_of_type_among(&["ack", "error"]);
    assert_eq!(
        (&answer["type"], &answer["cid"]),
        (&json!("ack"), &json!(number.to_string()))
    );
}

fn an_address_that_goes_on_is_closed(program: Program) {
    let server = program.start("--max-messages-per-address 1");
    let mut client = server.open("/ws/echo");
    for _ in 0..100 {
        if client
            .wire()
            .try_send(&crate::frame::Frame::new(crate::frame::TEXT, "on and on").encode())
            .is_err()
        {
            break;
        }
    }
    client.expect_close(1008);
}

fn a_trusted_proxy_says_whose_address_it_is(program: Program) {
    let server = program.start(&format!("--max-clients-per-address 1 {PROXY},192.0.2.0/24"));
    let tally = Tally::new(&server, "address_full");
    let first = for_address(&server, "203.0.113.1").expect("the first of its address");
    let _second = for_address(&server, "203.0.113.2").expect("another address");
    let _third = for_address(&server, "203.0.113.3:4711, 192.0.2.9").expect("another still");
    refused_with(503, for_address(&server, "203.0.113.1"));
    refused_with(503, for_address(&server, "203.0.113.1, 192.0.2.9"));
    refused_with(
        503,
        by_way_of(
            &server,
            "X-Forwarded-For: 203.0.113.1\r\nX-Forwarded-For: 192.0.2.9\r\n",
        ),
    );
    tally.rises_by(3);
    server
        .process
        .stderr
        .wait_for("the client's address", |line| {
            line.contains("connected from 203.0.113.1 by way of 127.0.0.1:")
        });
    first.leave();
    for_address(&server, "203.0.113.1")
        .expect("its place is free")
        .leave();
}

fn a_forged_address_is_ignored_and_counted(program: Program) {
    let server = program.start("--max-clients-per-address 1 --trusted-proxy 192.0.2.1");
    let tally = Tally::new(&server, "forwarded_for");
    let first = for_address(&server, "203.0.113.1").expect("the first from here");
    refused_with(503, for_address(&server, "203.0.113.2"));
    refused_with(503, for_address(&server, "192.0.2.1"));
    tally.rises_by(3);
    server
        .process
        .stderr
        .wait_for("what to set", |line| line.contains("--trusted-proxy"));
    first.leave();
    let server = program.start(&format!("--max-clients-per-address 1 {PROXY}"));
    let tally = Tally::new(&server, "forwarded_for");
    let _first = for_address(&server, "203.0.113.1").expect("the first of its address");
    // The client's own words stand before what the proxy appended.
    refused_with(503, for_address(&server, "198.51.100.7, 203.0.113.1"));
    refused_with(503, for_address(&server, "127.0.0.1, 203.0.113.1"));
    tally.rises_by(2);
}

fn an_ipv6_client_is_its_64_bits(program: Program) {
    let server = program.start(&format!("--max-clients-per-address 1 {PROXY}"));
    let _first = for_address(&server, "2001:db8:0:1::1").expect("the first of its network");
    refused_with(
        503,
        for_address(&server, "2001:db8:0:1:ffff:ffff:ffff:ffff"),
    );
    refused_with(503, for_address(&server, "[2001:db8:0:1::2]:4711"));
    for_address(&server, "2001:db8:0:2::1")
        .expect("another network")
        .leave();
}

fn a_proxy_header_names_the_client(program: Program) {
    let server = program.start(&format!("--max-clients-per-address 1 {PROXY}"));
    let line = b"PROXY TCP4 203.0.113.1 127.0.0.1 4711 80\r\n";
    let mut first = behind(&server, line).expect("the first of its address");
    first.text("Hello");
    assert_eq!(first.next_text(), "Hello");
    refused_with(503, behind(&server, line));
    refused_with(503, behind(&server, &version_2([203, 0, 113, 1])));
    let _second = behind(&server, &version_2([203, 0, 113, 2])).expect("another address");
    server
        .process
        .stderr
        .wait_for("the client's address", |line| {
            line.contains("connected from 203.0.113.1:4711")
        });
    // In pieces, and the proxy's own check.
    let mut wire = server.wire();
    for byte in b"PROXY UNKNOWN\r\n" {
        wire.send(&[*byte]);
    }
    wire.send(request("GET", server.address, "/healthz", "").as_bytes());
    assert_eq!(read_response(&mut wire, "GET").status, 200);
    assert_eq!(server.get("/healthz").status, 200, "it need not be sent");
}

fn a_proxy_header_from_elsewhere_is_400(program: Program) {
    let server = program.start("--trusted-proxy 192.0.2.1");
    let tally = Tally::new(&server, "untrusted_proxy");
    let line = b"PROXY TCP4 203.0.113.1 127.0.0.1 4711 80\r\n";
    for header in [&line[..], &version_2([203, 0, 113, 1])] {
        let answer = refused_with(400, behind(&server, header));
        assert!(answer.text().contains("--trusted-proxy"), "{answer:?}");
        assert!(answer.ends_connection());
    }
    tally.rises_by(2);
}

fn a_malformed_proxy_header_is_400(program: Program) {
    let server = program.start(PROXY);
    let tally = Tally::new(&server, "bad_request");
    for header in [
        &b"PROXY TCP4 203.0.113.1\r\n"[..],
        b"PROXY TCP4 one two 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c            ",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    ] {
        refused_with(400, behind(&server, header));
    }
    tally.rises_by(4);
}

fn sockets_behind_a_proxy_are_counted_by_client(program: Program) {
    let server = program.start(&format!("--max-sockets-per-address 1 {PROXY}"));
    let tally = Tally::new(&server, "address_sockets");
    let first = for_address(&server, "203.0.113.1").expect("the first of its address");
    let _second = behind(&server, &version_2([203, 0, 113, 2])).expect("another address");
    refused_with(503, for_address(&server, "203.0.113.1"));
    refused_with(503, behind(&server, &version_2([203, 0, 113, 2])));
    tally.rises_by(2);
    // The proxy's own requests, and one connection for the requests of several clients.
    let mut wire = server.wire();
    for address in ["203.0.113.3", "203.0.113.4", "203.0.113.3"] {
        let headers = format!("X-Forwarded-For: {address}\r\n");
        wire.send(request("GET", server.address, "/healthz", &headers).as_bytes());
        assert_eq!(read_response(&mut wire, "GET").status, 200);
    }
    for_address(&server, "203.0.113.4")
        .expect("that one has none open")
        .leave();
    first.leave();
    drop(wire);
}

fn a_proxy_may_name_clients_by_both(program: Program) {
    let server = program.start(&format!("--max-clients-per-address 1 {PROXY},192.0.2.1"));
    let through = |client: &str| {
        let mut wire = server.wire();
        wire.send(b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 80\r\n");
        Client::upgrade(
            wire,
            server.address,
            "/ws/echo",
            &format!("X-Forwarded-For: {client}\r\n"),
        )
    };
    let _first = through("203.0.113.1").expect("the first of its address");
    refused_with(503, through("203.0.113.1"));
    through("203.0.113.2").expect("another address").leave();
}
