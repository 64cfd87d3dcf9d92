//! Which pages may open a WebSocket: those of the same host, loopback pages to a loopback server, and the allowed.

use crate::counters::Tally;
use crate::harness::{Program, Server};
use crate::http_client::UPGRADE;

conformance! {
    a_client_without_an_origin_is_let_in,
    a_page_of_the_same_host_is_let_in,
    loopback_pages_are_let_in_while_the_server_is_on_loopback,
    other_pages_are_refused_with_403,
    an_origin_that_only_looks_like_loopback_is_refused,
    a_foreign_name_that_leads_here_is_refused,
    allowed_origins_are_let_in,
    beyond_loopback_only_the_same_host_is_let_in,
    every_endpoint_asks_for_the_origin,
}

fn lets_in(server: &Server, origin: &str) -> bool {
    match server.try_open("/ws/chat", &format!("Origin: {origin}\r\n")) {
        Ok(mut client) => {
            assert_eq!(client.next_json()["code"], "welcome");
            true
        }
        Err(response) => {
            assert_eq!(response.status, 403, "{origin}: {response:?}");
            false
        }
    }
}

fn a_client_without_an_origin_is_let_in(program: Program) {
    let server = program.start("");
    assert!(server.try_open("/ws/chat", "").is_ok());
}

fn a_page_of_the_same_host_is_let_in(program: Program) {
    let server = program.start("");
    assert!(lets_in(&server, &format!("http://{}", server.address)));
}

fn loopback_pages_are_let_in_while_the_server_is_on_loopback(program: Program) {
    let server = program.start("");
    for origin in [
        "http://localhost",
        "http://localhost:5500",
        "https://localhost:8443",
        "http://LOCALHOST:5500",
        "http://127.0.0.1",
        "http://127.0.0.1:5500",
        "http://127.1.2.3:80",
        "http://[::1]",
        "http://[::1]:5500",
        "null",
    ] {
        assert!(lets_in(&server, origin), "{origin}");
    }
}

fn other_pages_are_refused_with_403(program: Program) {
    let server = program.start("");
    let tally = Tally::new(&server, "origin");
    for origin in [
        "http://example.com",
        "https://example.com:8765",
        "http://192.168.0.1",
        "http://10.0.0.1:8765",
        "http://[2001:db8::1]",
    ] {
        assert!(!lets_in(&server, origin), "{origin}");
    }
    tally.rises_by(5);
}

fn an_origin_that_only_looks_like_loopback_is_refused(program: Program) {
    let server = program.start("");
    let port = server.address.port();
    for origin in [
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://notlocalhost",
        "http://example.com/localhost",
        "http://localhost@example.com",
        "http://127.0.0.1@example.com",
        "http://1270.0.0.1",
        "http://[::1].example.com",
        "null.example.com",
        "nullx",
        "localhost",
        "http://",
        "://localhost",
        "",
    ] {
        assert!(!lets_in(&server, origin), "{origin}");
        assert!(
            !lets_in(&server, &format!("{origin}.example.com:{port}")),
            "{origin} with a tail"
        );
    }
}

/// DNS rebinding: a page makes its own name point to this host, so that `Host` and `Origin` agree.
fn a_foreign_name_that_leads_here_is_refused(program: Program) {
    let server = program.start("");
    let port = server.address.port();
    let foreign = format!("Host: evil.example:{port}\r\nOrigin: http://evil.example:{port}\r\n");
    let response = server.exchange(
        "GET",
        format!("GET /ws/chat HTTP/1.1\r\n{foreign}{UPGRADE}\r\n"),
    );
    assert_eq!(response.status, 403);
    let own = format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n");
    let response = server.exchange(
        "GET",
        format!("GET /ws/chat HTTP/1.1\r\n{own}{UPGRADE}\r\n"),
    );
    assert_eq!(response.status, 101);
}

fn allowed_origins_are_let_in(program: Program) {
    let server = program
        .start("--allow-origin https://app.example --allow-origin http://other.example:8080");
    assert!(lets_in(&server, "https://app.example"));
    assert!(lets_in(&server, "http://other.example:8080"));
    assert!(
        lets_in(&server, "http://localhost:5500"),
        "what was allowed before still is"
    );
    for origin in [
        "http://app.example",
        "https://app.example:8443",
        "https://app.example.evil",
        "https://my.app.example",
        "http://other.example",
    ] {
        assert!(!lets_in(&server, origin), "{origin}");
    }
}

fn beyond_loopback_only_the_same_host_is_let_in(program: Program) {
    let mut server =
        Server::start(&mut program.command("--bind 0.0.0.0:0 --allow-origin https://app.example"));
    server.address.set_ip([127, 0, 0, 1].into());
    assert!(lets_in(&server, &format!("http://{}", server.address)));
    assert!(lets_in(&server, "https://app.example"));
    for origin in [
        "http://localhost:5500",
        "http://127.0.0.1:1",
        "http://[::1]:5500",
        "null",
        "http://example.com",
    ] {
        assert!(!lets_in(&server, origin), "{origin}");
    }
}

fn every_endpoint_asks_for_the_origin(program: Program) {
    let server = program.start("");
    for path in ["/ws/chat", "/ws/dashboard", "/ws/echo"] {
        let refusal = server
            .try_open(path, "Origin: http://example.com\r\n")
            .err();
        assert_eq!(refusal.map(|response| response.status), Some(403), "{path}");
    }
    let page = server.request("GET", "/chat.html", "Origin: http://example.com\r\n");
    assert_eq!(page.status, 200, "a page is no secret");
}
