//! From HTTP to WebSocket: the handshake of RFC 6455, section 4, and what is refused before it.

use crate::client::Client;
use crate::counters::Tally;
use crate::frame::{self, Frame};
use crate::harness::Program;
use crate::http_client::{ACCEPT, UPGRADE, read_response, request};

conformance! {
    the_handshake_of_the_rfc_is_answered,
    header_names_and_tokens_are_taken_in_any_case,
    frames_right_behind_the_request_are_answered,
    a_handshake_in_single_bytes_is_understood,
    a_request_that_is_no_upgrade_is_426,
    a_handshake_with_something_missing_is_refused,
    another_version_is_told_the_right_one,
    another_path_is_404_before_the_upgrade,
    other_methods_cannot_upgrade,
    a_client_may_be_refused_and_try_again,
}

fn the_handshake_of_the_rfc_is_answered(program: Program) {
    let server = program.start("");
    let response = server.request("GET", "/ws/chat", UPGRADE);
    assert_eq!(response.status, 101);
    assert_eq!(
        response
            .header("upgrade")
            .map(str::to_ascii_lowercase)
            .as_deref(),
        Some("websocket")
    );
    assert_eq!(
        response
            .header("connection")
            .map(str::to_ascii_lowercase)
            .as_deref(),
        Some("upgrade")
    );
    assert_eq!(response.header("sec-websocket-accept"), Some(ACCEPT));
    assert_eq!(response.header("sec-websocket-protocol"), None);
    assert_eq!(response.header("content-length"), None, "RFC 9110, 8.6");
}

fn header_names_and_tokens_are_taken_in_any_case(program: Program) {
    let server = program.start("");
    for headers in [
        UPGRADE
            .to_ascii_lowercase()
            .replace("dghlihnhbxbszsbub25jzq==", "dGhlIHNhbXBsZSBub25jZQ=="),
        UPGRADE.replace("Connection: Upgrade", "Connection: keep-alive, Upgrade"),
        UPGRADE.replace(
            "Connection: Upgrade",
            "Connection: keep-alive\r\nConnection:Upgrade",
        ),
        UPGRADE.replace("Upgrade: websocket", "UPGRADE:WebSocket"),
        UPGRADE.replace("Version: 13", "Version:   13  "),
    ] {
        let response = server.request("GET", "/ws/chat", &headers);
        assert_eq!(
            (response.status, response.header("sec-websocket-accept")),
            (101, Some(ACCEPT)),
            "{headers}"
        );
    }
}

fn frames_right_behind_the_request_are_answered(program: Program) {
    let server = program.start("");
    let mut wire = server.wire();
    let mut bytes = request("GET", server.address, "/ws/echo", UPGRADE).into_bytes();
    bytes.extend(Frame::new(frame::TEXT, "one").encode());
    bytes.extend(Frame::new(frame::TEXT, "two").encode());
    wire.send(&bytes);
    assert_eq!(read_response(&mut wire, "GET").status, 101);
    let mut client = Client::after_upgrade(wire);
    assert_eq!(client.next_text(), "one");
    assert_eq!(client.next_text(), "two");
    client.text("three");
    assert_eq!(client.next_text(), "three");
}

fn a_handshake_in_single_bytes_is_understood(program: Program) {
    let server = program.start("");
    let mut wire = server.wire();
    let bytes = [
        request("GET", server.address, "/ws/echo", UPGRADE).into_bytes(),
        Frame::new(frame::TEXT, "one").encode(),
    ];
    for byte in bytes.concat() {
        wire.send(&[byte]);
    }
    assert_eq!(read_response(&mut wire, "GET").status, 101);
    assert_eq!(Client::after_upgrade(wire).next_text(), "one");
}

fn a_request_that_is_no_upgrade_is_426(program: Program) {
    let server = program.start("");
    let tally = Tally::new(&server, "upgrade_required");
    for path in ["/ws/chat", "/ws/dashboard", "/ws/echo"] {
        for headers in [
            "",
            "Connection: Upgrade\r\n",
            "Connection: Upgrade\r\nUpgrade: h2c\r\n",
        ] {
            let response = server.request("GET", path, headers);
            assert_eq!(response.status, 426, "{path} with {headers:?}");
            assert_eq!(response.header("upgrade"), Some("websocket"), "{path}");
        }
    }
    tally.rises_by(9);
}

fn a_handshake_with_something_missing_is_refused(program: Program) {
    let server = program.start("");
    let without = |line: &str| {
        UPGRADE
            .split_inclusive("\r\n")
            .filter(|header| !header.starts_with(line))
            .collect::<String>()
    };
    for headers in [
        without("Upgrade:"),
        without("Connection:"),
        without("Sec-WebSocket-Key:"),
        without("Sec-WebSocket-Version:"),
        UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", ""),
        UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="),
        UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", "no base64 at all!!!!!!!!"),
    ] {
        let status = server.request("GET", "/ws/chat", &headers).status;
        assert!(status == 400 || status == 426, "{status} for {headers}");
    }
}

/// RFC 6455, 4.4: "the server MUST respond with one or more |Sec-WebSocket-Version| header fields".
fn another_version_is_told_the_right_one(program: Program) {
    let server = program.start("");
    for version in ["12", "8", "0", "113", "13, 8", "thirteen"] {
        let response = server.request("GET", "/ws/chat", &UPGRADE.replace("13", version));
        assert!(
            response.status == 426 || response.status == 400,
            "{version}: {response:?}"
        );
        assert_eq!(
            response.header("sec-websocket-version"),
            Some("13"),
            "{version}"
        );
    }
}

fn another_path_is_404_before_the_upgrade(program: Program) {
    let server = program.start("");
    let tally = Tally::new(&server, "not_found");
    for path in [
        "/ws",
        "/ws/",
        "/ws/other",
        "/ws/chat/",
        "/ws/chatter",
        "/nowhere",
    ] {
        let refusal = server.try_open(path, "").err();
        assert_eq!(refusal.map(|response| response.status), Some(404), "{path}");
    }
    tally.rises_by(6);
}

fn other_methods_cannot_upgrade(program: Program) {
    let server = program.start("");
    for method in ["POST", "PUT", "CONNECT", "HEAD"] {
        let status = server.request(method, "/ws/chat", UPGRADE).status;
        assert!((400..500).contains(&status), "{method}: {status}");
    }
    let old = format!(
        "GET /ws/chat HTTP/1.0\r\nHost: {}\r\n{UPGRADE}\r\n",
        server.address
    );
    let status = server.exchange("GET", old).status;
    assert!(
        (400..500).contains(&status),
        "RFC 6455, 4.1 asks for HTTP/1.1: {status}"
    );
}

fn a_client_may_be_refused_and_try_again(program: Program) {
    let server = program.start("");
    let mut wire = server.wire();
    wire.send(request("GET", server.address, "/ws/echo", "").as_bytes());
    let refusal = read_response(&mut wire, "GET");
    assert_eq!(refusal.status, 426);
    if refusal.ends_connection() {
        wire.read_to_end();
        wire = server.wire();
    }
    let mut client = Client::upgrade(wire, server.address, "/ws/echo", "")
        .unwrap_or_else(|response| panic!("{response:?}"));
    client.text("Hello");
    assert_eq!(client.next_text(), "Hello");
}
