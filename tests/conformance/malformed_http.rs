//! Request heads that are broken, too big, too slow or no HTTP at all.

use std::time::{Duration, Instant};

use crate::counters::Tally;
use crate::harness::{Program, Server};
use crate::http_client::{Response, read_response, request};
use crate::wire::{Ending, PATIENCE};

conformance! {
    a_head_in_single_bytes_is_understood,
    a_malformed_head_is_400,
    what_is_no_http_is_turned_away,
    a_bare_line_feed_does_not_hang,
    a_head_over_8_kib_is_431,
    more_than_64_headers_are_refused,
    a_head_that_never_ends_does_not_grow_memory,
    a_head_that_stops_is_408,
    a_head_that_drips_is_cut_off_all_the_same,
    one_who_says_nothing_is_cut_off,
    one_who_says_nothing_more_is_cut_off,
    one_who_connects_and_goes_is_forgotten,
    a_request_with_a_body_does_not_smuggle_another,
}

/// The response to bytes after which the server ends the connection.
fn last_response(server: &Server, bytes: impl AsRef<[u8]>) -> Response {
    let mut wire = server.wire();
    wire.send(bytes.as_ref());
    let response = read_response(&mut wire, "GET");
    assert!(response.ends_connection(), "{response:?}");
    assert_eq!(
        wire.read_to_end(),
        Ending::Closed,
        "in order, not with a reset"
    );
    response
}

/// A request for `/healthz` whose head is `length` bytes in all.
fn head_of(server: &Server, length: usize) -> String {
    let bare = request("GET", server.address, "/healthz", "X-Filler: \r\n").len();
    request(
        "GET",
        server.address,
        "/healthz",
        &format!("X-Filler: {}\r\n", "x".repeat(length - bare)),
    )
}

fn a_head_in_single_bytes_is_understood(program: Program) {
    let server = program.start("");
    let mut wire = server.wire();
    for byte in request("GET", server.address, "/healthz", "").bytes() {
        wire.send(&[byte]);
    }
    assert_eq!(read_response(&mut wire, "GET").status, 200);
}

fn a_malformed_head_is_400(program: Program) {
    let server = program.start("");
    let heads = [
        "GET\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1 more\r\nHost: x\r\n\r\n",
        "GET / HTTX/1.1\r\nHost: x\r\n\r\n",
        "G\0T / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon here\r\n\r\n",
        "GET / HTTP/1.1\r\n: no name\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nFolded: one\r\n two\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        "GET nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
        "hello there\r\n\r\n",
    ];
    let tally = Tally::new(&server, "bad_request");
    for head in heads {
        assert_eq!(last_response(&server, head).status, 400, "{head:?}");
    }
    tally.rises_by(heads.len() as u64);
}

fn what_is_no_http_is_turned_away(program: Program) {
    let server = program.start("--handshake-timeout 300ms");
    let client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03random bytes of a browser that was told https";
    let noise: Vec<u8> = (0..=255).cycle().take(2048).collect();
    for bytes in [
        &client_hello[..],
        &noise,
        &[0; 512],
        b"\xff\xfe\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        let mut wire = server.wire();
        wire.send(bytes);
        // With 400, or 408 where the bytes look like the start of something; but turned away.
        let mut answer = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        let ending = loop {
            match wire.fill(deadline) {
                Ok(()) => answer.extend(wire.take(wire.unread().len())),
                Err(ending) => break ending,
            }
        };
        assert_ne!(ending, Ending::TimedOut, "{bytes:x?}");
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 40"),
            "{answer}"
        );
    }
}

/// RFC 9112, 2.2: a recipient "may recognize a single LF as a line terminator", or refuse it.
fn a_bare_line_feed_does_not_hang(program: Program) {
    let server = program.start("");
    let response = server.exchange(
        "GET",
        format!("GET /healthz HTTP/1.1\nHost: {}\n\n", server.address),
    );
    assert!(
        response.status == 200 || response.status == 400,
        "{response:?}"
    );
}

fn a_head_over_8_kib_is_431(program: Program) {
    let server = program.start("");
    let tally = Tally::new(&server, "head_too_large");
    assert_eq!(
        server.exchange("GET", head_of(&server, 8192)).status,
        200,
        "the limit itself"
    );
    assert_eq!(last_response(&server, head_of(&server, 8193)).status, 431);
    assert_eq!(
        last_response(
            &server,
            format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(9000))
        )
        .status,
        431
    );
    assert_eq!(
        last_response(&server, head_of(&server, 600_000)).status,
        431,
        "the refusal is not lost to a reset"
    );
    tally.rises_by(3);
}

fn more_than_64_headers_are_refused(program: Program) {
    let server = program.start("");
    // With `Host` these are 64 and 65.
    let some = request(
        "GET",
        server.address,
        "/healthz",
        &"X-Filler: x\r\n".repeat(63),
    );
    assert_eq!(server.exchange("GET", some).status, 200);
    let many = request(
        "GET",
        server.address,
        "/healthz",
        &"X-Filler: x\r\n".repeat(64),
    );
    let refusal = last_response(&server, many).status;
    assert!(refusal == 431 || refusal == 400, "{refusal}");
}

fn a_head_that_never_ends_does_not_grow_memory(program: Program) {
    let server = program.start("--close-timeout 300ms");
    #[cfg(target_os = "linux")]
    let before = server.process.memory_kib("VmRSS");
    let mut wire = server.wire();
    wire.send(b"GET / HTTP/1.1\r\n");
    let header = format!("X-Filler: {}\r\n", "x".repeat(1000)).repeat(64);
    let deadline = Instant::now() + PATIENCE;
    // The server may read on for a while, so that its refusal is not lost; then writing fails.
    while wire.try_send(header.as_bytes()).is_ok() {
        assert!(
            Instant::now() < deadline,
            "the server reads a request head for ever"
        );
    }
    #[cfg(target_os = "linux")]
    {
        let grown = server.process.memory_kib("VmRSS").saturating_sub(before);
        assert!(grown < 4096, "{grown} KiB");
    }
}

fn a_head_that_stops_is_408(program: Program) {
    let server = program.start("--handshake-timeout 200ms");
    let tally = Tally::new(&server, "head_timeout");
    for start in [
        "G",
        "GET / HTTP/1.1\r\n",
        "GET /ws/chat HTTP/1.1\r\nUpgrade: websocket\r\n",
    ] {
        assert_eq!(last_response(&server, start).status, 408, "{start:?}");
    }
    tally.rises_by(3);
}

/// The head must arrive whole in time; a byte now and then does not put the deadline off.
fn a_head_that_drips_is_cut_off_all_the_same(program: Program) {
    let server = program.start("--handshake-timeout 300ms");
    let mut wire = server.wire();
    let start = Instant::now();
    let mut drops = "GET / HTTP/1.1\r\nX-Filler: "
        .bytes()
        .chain(std::iter::repeat(b'x'));
    while wire.try_send(&[drops.next().expect("endless")]).is_ok() && wire.unread().is_empty() {
        assert!(start.elapsed() < PATIENCE, "the server still waits");
        // The wait between two drops, unless the answer comes first.
        if matches!(
            wire.fill(Instant::now() + Duration::from_millis(20)),
            Err(Ending::Closed | Ending::Reset)
        ) {
            break;
        }
    }
    assert!(
        start.elapsed() >= Duration::from_millis(300),
        "cut off too early"
    );
    assert!(
        wire.unread().starts_with(b"HTTP/1.1 408 "),
        "{:?}",
        String::from_utf8_lossy(wire.unread())
    );
}

/// The timeout is longer than the second for which Linux keeps the silent from the server.
fn one_who_says_nothing_is_cut_off(program: Program) {
    let server = program.start("--handshake-timeout 1200ms");
    let start = Instant::now();
    let mut silent = [server.wire(), server.wire(), server.wire()];
    for wire in &mut silent {
        wire.read_to_end();
    }
    assert!(
        start.elapsed() >= Duration::from_millis(1200),
        "cut off too early"
    );
}

fn one_who_says_nothing_more_is_cut_off(program: Program) {
    let server = program.start("--handshake-timeout 200ms");
    let mut wire = server.wire();
    wire.send(request("GET", server.address, "/healthz", "").as_bytes());
    assert_eq!(read_response(&mut wire, "GET").status, 200);
    wire.read_to_end();
}

fn one_who_connects_and_goes_is_forgotten(program: Program) {
    let server = program.start("");
    for _ in 0..50 {
        drop(server.wire());
        server.wire().vanish();
        let mut wire = server.wire();
        wire.send(b"GET / HT");
        wire.vanish();
        let mut wire = server.wire();
        wire.send(request("GET", server.address, "/", "").as_bytes());
        wire.vanish();
    }
    crate::counters::await_no_connection_but_ours(&server);
}

/// Bytes announced as a body must never be read as the next request.
fn a_request_with_a_body_does_not_smuggle_another(program: Program) {
    let server = program.start("");
    let smuggled = request("GET", server.address, "/styles.css", "");
    let length = smuggled.len();
    let chunked =
        format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{smuggled}\r\n0\r\n\r\n");
    let bodies = [
        format!(
            "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{smuggled}"
        ),
        format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{smuggled}"),
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{chunked}"),
    ];
    for bytes in bodies {
        let mut wire = server.wire();
        wire.send(bytes.as_bytes());
        wire.finish_writing();
        let mut answer = Vec::new();
        while wire.fill(Instant::now() + PATIENCE).is_ok() {
            answer.extend(wire.take(wire.unread().len()));
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
        assert!(!answer.contains("text/css"), "{answer}");
    }
}
