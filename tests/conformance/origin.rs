//! Which hosts a server answers for, and which pages may open a WebSocket: those of the same host, loopback pages to a
//! loopback server, and the allowed.

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
    a_page_without_an_origin_gets_nothing_of_the_past,
    pages_without_an_origin_can_be_kept_out,
    an_unknown_host_is_421_on_every_path,
    a_server_answers_for_its_addresses_and_what_it_is_told,
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
        "file://",
        "",
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
        "null, null",
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
    assert_eq!(response.status, 421);
    let own = format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n");
    let response = server.exchange(
        "GET",
        format!("GET /ws/chat HTTP/1.1\r\n{own}{UPGRADE}\r\n"),
    );
    assert_eq!(response.status, 101);
}

/// A page opened as a file cannot be told from a sandboxed frame of any site.
fn a_page_without_an_origin_gets_nothing_of_the_past(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut inside = server.join();
    inside.say("Alice", "not for a stranger");
    assert_eq!(inside.next_json()["id"], 1);
    for origin in ["null", "file://", ""] {
        let origin = format!("Origin: {origin}\r\n");
        for query in ["history=1000", "since=nonsense:0"] {
            let opened = server.try_open(&format!("/ws/chat?{query}"), &origin);
            let mut page = opened.unwrap_or_else(|response| panic!("{response:?}"));
            let welcome = page.next_json();
            assert_eq!(
                (&welcome["code"], welcome.get("recovered")),
                (&"welcome".into(), None)
            );
            page.say("File", "what is said now");
            assert_eq!(page.next_of_type("chat")["text"], "what is said now");
        }
    }
}

fn pages_without_an_origin_can_be_kept_out(program: Program) {
    let server = program.start("--refuse-null-origin");
    for origin in ["null", "file://", ""] {
        assert!(!lets_in(&server, origin), "{origin}");
    }
    assert!(lets_in(&server, "http://localhost:5500"));
    let server = program.start("--refuse-null-origin --allow-origin null");
    assert!(lets_in(&server, "null"), "it was asked for by name");
}

/// The status of a request with this target and `Host`.
fn status(server: &Server, target: &str, host: &str) -> u16 {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    server.exchange("GET", request).status
}

fn an_unknown_host_is_421_on_every_path(program: Program) {
    let server = program.start("");
    let tally = Tally::new(&server, "host");
    let hosts = [
        "evil.example",
        "evil.example:8765",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.0.2.1",
        "[2001:db8::1]",
    ];
    for host in hosts {
        for path in [
            "/",
            "/chat.html",
            "/healthz",
            "/metrics",
            "/nowhere",
            "/ws/chat",
        ] {
            assert_eq!(status(&server, path, host), 421, "{path} of {host}");
        }
        let upgrade = format!("GET /ws/chat HTTP/1.1\r\nHost: {host}\r\n{UPGRADE}\r\n");
        assert_eq!(server.exchange("GET", upgrade).status, 421, "{host}");
        let whole = format!("http://{host}/healthz");
        assert_eq!(status(&server, &whole, "localhost"), 421, "{whole}");
    }
    tally.rises_by(hosts.len() as u64 * 8);
}

fn a_server_answers_for_its_addresses_and_what_it_is_told(program: Program) {
    let flags =
        "--allow-origin https://app.example --allow-host lab.example --allow-host 192.0.2.1";
    let server = program.start(flags);
    let port = server.address.port();
    for host in [
        "localhost",
        "LOCALHOST:1",
        "app.localhost",
        "127.0.0.1",
        "127.1.2.3",
        "[::1]",
        "app.example",
        "lab.example",
        "Lab.Example.",
        "192.0.2.1",
        "",
    ] {
        assert_eq!(status(&server, "/metrics", host), 200, "{host}");
        if !host.is_empty() {
            let host = format!("{}:{port}", host.trim_end_matches(":1"));
            assert_eq!(status(&server, "/healthz", &host), 200, "{host}");
        }
    }
    let own = format!("Host: lab.example\r\nOrigin: https://lab.example\r\n{UPGRADE}");
    let response = server.exchange("GET", format!("GET /ws/chat HTTP/1.1\r\n{own}\r\n"));
    assert_eq!(response.status, 101, "a page of a host that was named");
    assert_eq!(status(&server, "/healthz", "my.lab.example"), 421);
    let without = server.exchange("GET", "GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!(without.status, 200, "a health check names no host");

    let mut command = program.command("--bind 127.0.0.1:0");
    command.env("WSLAB_ALLOW_HOST", "one.example,two.example");
    let server = Server::start(&mut command);
    assert_eq!(status(&server, "/healthz", "two.example"), 200);
    let server = program.start("--allow-host *");
    assert_eq!(status(&server, "/healthz", "whatever.example"), 200);
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
    for foreign in ["evil.example", "192.0.2.1", "0.0.0.0"] {
        assert_eq!(status(&server, "/metrics", foreign), 421, "{foreign}");
    }
    assert!(lets_in(&server, &format!("http://{}", server.address)));
    assert!(lets_in(&server, "https://app.example"));
    for origin in [
        "http://localhost:5500",
        "http://127.0.0.1:1",
        "http://[::1]:5500",
        "null",
        "file://",
        "",
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
