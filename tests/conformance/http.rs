//! Plain HTTP on the same port: the pages, the health check, the figures.

use std::collections::BTreeSet;

use crate::counters::{Tally, samples};
use crate::exposition;
use crate::harness::{Program, Server};
use crate::http_client::{Response, read_response, request};

conformance! {
    the_pages_and_their_files_are_served,
    files_have_their_types,
    pages_are_guarded_by_their_headers,
    what_has_not_changed_is_not_sent_again,
    head_is_get_without_the_body,
    health_is_ok,
    figures_are_in_the_prometheus_text_format,
    figures_are_in_openmetrics_where_asked,
    the_format_with_the_higher_quality_is_sent,
    options_tells_the_methods,
    clients_messages_and_deliveries_are_counted,
    what_is_not_there_is_404,
    nothing_outside_the_pages_can_be_reached,
    other_methods_are_405_and_told_which_are_not,
    a_query_does_not_matter_to_a_page,
    a_request_may_name_the_whole_address,
    requests_on_one_connection_are_answered_in_turn,
    requests_in_one_segment_are_answered_in_turn,
    a_client_may_ask_for_the_connection_to_end,
}

const PAGES: [&str; 4] = ["/", "/index.html", "/chat.html", "/dashboard.html"];

/// The files of this host that a page names in `src` and `href`.
fn files_of(page: &Response) -> BTreeSet<String> {
    let named = page.text().split(['"', '\'']).collect::<Vec<_>>();
    let attributes = named
        .windows(2)
        .filter(|pair| pair[0].ends_with("src=") || pair[0].ends_with("href="));
    let local = attributes
        .map(|pair| pair[1])
        .filter(|name| !name.contains(':') && !name.starts_with('#'));
    local
        .map(|name| format!("/{}", name.trim_start_matches("./").trim_start_matches('/')))
        .collect()
}

/// Every path that serves a page or one of its files.
fn all_paths(server: &Server) -> BTreeSet<String> {
    let mut paths: BTreeSet<String> = PAGES.into_iter().map(str::to_owned).collect();
    for page in PAGES {
        let files = files_of(&server.get(page));
        assert!(!files.is_empty(), "{page} names no file");
        paths.extend(
            files
                .into_iter()
                .map(|file| file.split(['?', '#']).next().unwrap_or_default().to_owned()),
        );
    }
    paths
}

fn has_extension(path: &str, extension: &str) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(_, found)| found == extension)
}

fn the_pages_and_their_files_are_served(program: Program) {
    let server = program.start("");
    let paths = all_paths(&server);
    assert!(paths.contains("/styles.css"), "{paths:?}");
    assert!(
        paths.iter().any(|path| has_extension(path, "js")),
        "{paths:?}"
    );
    for path in &paths {
        let response = server.get(path);
        assert_eq!(response.status, 200, "{path}");
        let length = response.header("content-length").expect("a length");
        assert_eq!(length, response.body.len().to_string(), "{path}");
        assert!(!response.body.is_empty(), "{path}");
    }
    assert_eq!(server.get("/").body, server.get("/index.html").body);
}

fn files_have_their_types(program: Program) {
    let server = program.start("");
    for path in all_paths(&server) {
        let response = server.get(&path);
        let kind = response
            .header("content-type")
            .expect("a type")
            .to_ascii_lowercase();
        let expected = match path.rsplit_once('.') {
            None if path == "/healthz" => "text/plain; charset=utf-8",
            None if path == "/metrics" => continue,
            None | Some((_, "html")) => "text/html; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "svg")) => "image/svg+xml",
            Some((_, "png")) => "image/png",
            Some((_, "ico")) => "image/x-icon",
            Some((_, other)) => panic!("a page names a file of type {other}"),
        };
        assert_eq!(kind, expected, "{path}");
    }
}

fn pages_are_guarded_by_their_headers(program: Program) {
    let server = program.start("");
    for path in all_paths(&server) {
        let response = server.get(&path);
        assert_eq!(
            response.header("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
        assert!(response.header("cache-control").is_some(), "{path}");
        assert!(response.header("date").is_some(), "{path}: RFC 9110, 6.6.1");
        if response
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/html"))
        {
            let policy = response
                .header("content-security-policy")
                .expect("a policy");
            assert!(
                policy.contains("default-src") && !policy.contains("unsafe"),
                "{path}: {policy}"
            );
        }
    }
}

fn what_has_not_changed_is_not_sent_again(program: Program) {
    let server = program.start("");
    for path in PAGES {
        let first = server.get(path);
        let tag = first.header("etag").expect("an entity tag");
        for known in [
            tag.to_owned(),
            format!("\"another\", {tag}"),
            format!("W/{tag}"),
            "*".to_owned(),
        ] {
            let again = server.request("GET", path, &format!("If-None-Match: {known}\r\n"));
            assert_eq!(
                (again.status, again.body.len()),
                (304, 0),
                "{path} known as {known}"
            );
            assert_eq!(again.header("etag"), Some(tag), "{path}");
        }
        let changed = server.request("GET", path, "If-None-Match: \"another\"\r\n");
        assert_eq!(
            (changed.status, &changed.body),
            (200, &first.body),
            "{path}"
        );
    }
}

fn head_is_get_without_the_body(program: Program) {
    let server = program.start("");
    for path in ["/", "/chat.html", "/styles.css", "/healthz"] {
        let (get, head) = (server.get(path), server.request("HEAD", path, ""));
        assert_eq!(head.status, 200, "{path}");
        for header in ["content-type", "content-length", "etag", "cache-control"] {
            assert_eq!(
                head.header(header),
                get.header(header),
                "{header} of {path}"
            );
        }
    }
    assert_eq!(server.request("HEAD", "/metrics", "").status, 200);
    assert_eq!(server.request("HEAD", "/nowhere", "").status, 404);
    let mut wire = server.wire();
    wire.send(request("HEAD", server.address, "/", "Connection: close\r\n").as_bytes());
    assert_eq!(read_response(&mut wire, "HEAD").status, 200);
    assert!(wire.unread().is_empty(), "a body after HEAD");
    assert!(
        wire.fill(std::time::Instant::now() + crate::wire::PATIENCE)
            .is_err(),
        "a body after HEAD"
    );
}

fn health_is_ok(program: Program) {
    let server = program.start("");
    let health = server.get("/healthz");
    assert_eq!((health.status, health.text().trim_end()), (200, "ok"));
}

fn figures_are_in_the_prometheus_text_format(program: Program) {
    let server = program.start("");
    let _inside = (server.join(), server.watch());
    assert_eq!(server.get("/nowhere").status, 404);
    for accept in [
        "",
        "Accept: */*\r\n",
        "Accept: text/plain;version=0.0.4\r\n",
    ] {
        let response = server.request("GET", "/metrics", accept);
        let kind = response.header("content-type").expect("a type");
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        assert!(exposition::text(response.text()) > 10);
    }
}

fn figures_are_in_openmetrics_where_asked(program: Program) {
    let server = program.start("");
    let _inside = (server.join(), server.watch());
    let accept = "Accept: application/openmetrics-text; version=1.0.0\r\n";
    let response = server.request("GET", "/metrics", accept);
    let kind = response.header("content-type").expect("a type");
    assert_eq!(
        kind,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(exposition::openmetrics(response.text()) > 10);
}

fn the_format_with_the_higher_quality_is_sent(program: Program) {
    let server = program.start("");
    for (accept, status, kind) in [
        (
            "application/openmetrics-text;q=0, text/plain",
            200,
            "text/plain",
        ),
        (
            "application/openmetrics-text;q=0.5, text/plain",
            200,
            "text/plain",
        ),
        (
            "application/openmetrics-text, text/plain;q=0.5",
            200,
            "application/openmetrics-text",
        ),
        (
            "text/plain;q=0, */*;q=0.1",
            200,
            "application/openmetrics-text",
        ),
        (
            "application/openmetrics-text;version=0.0.1, */*;q=0.1",
            200,
            "text/plain",
        ),
        ("application/json", 200, "text/plain"),
        (
            "text/plain;q=0, application/openmetrics-text;q=0",
            406,
            "text/plain",
        ),
    ] {
        let response = server.request("GET", "/metrics", &format!("Accept: {accept}\r\n"));
        assert_eq!(response.status, status, "{accept}");
        let sent = response.header("content-type").expect("a type");
        assert!(sent.starts_with(kind), "{accept}: {sent}");
    }
}

/// RFC 9110, 9.3.7; it is how a proxy asks whether a server is there, also of one that knows no host.
fn options_tells_the_methods(program: Program) {
    let server = program.start("");
    for target in ["*", "/", "/chat.html", "/healthz", "/metrics", "/ws/chat"] {
        let response = server.request("OPTIONS", target, "");
        assert_eq!((response.status, response.body.len()), (204, 0), "{target}");
        assert_eq!(
            response.header("allow"),
            Some("GET, HEAD, OPTIONS"),
            "{target}"
        );
        assert_eq!(response.header("content-length"), None, "{target}");
    }
    let check = server.exchange("OPTIONS", "OPTIONS / HTTP/1.0\r\n\r\n");
    assert_eq!(check.status, 204);
    assert_eq!(server.request("OPTIONS", "/nowhere", "").status, 404);
}

fn clients_messages_and_deliveries_are_counted(program: Program) {
    let server = program.start("--chat-interval 0s");
    let sum = |word: &str, label: &str| {
        let named = |sample: &crate::counters::Sample| {
            sample.name.contains(word)
                && (label.is_empty() || sample.labels.iter().any(|(_, value)| value == label))
        };
        samples(&server)
            .iter()
            .filter(|sample| named(sample))
            .map(|sample| sample.figure)
            .sum::<f64>()
    };
    let (messages, deliveries) = (sum("messages", ""), sum("deliveries", ""));
    let mut clients = [server.join(), server.join(), server.join()];
    let _dashboard = server.watch();
    assert!((sum("clients", "chat") - 3.0).abs() < 0.5);
    assert!((sum("clients", "dashboard") - 1.0).abs() < 0.5);
    assert!(sum("clients", "echo").abs() < 0.5);
    for _ in 0..10 {
        clients[0].say("Alice", "Hello");
    }
    for client in &mut clients {
        for id in 1..=10 {
            assert_eq!(client.next_of_type("chat")["id"], id);
        }
    }
    assert!((sum("messages", "") - messages - 10.0).abs() < 0.5);
    // Thirty broadcasts, besides welcomes and notices.
    assert!(sum("deliveries", "") - deliveries >= 30.0);
}

fn what_is_not_there_is_404(program: Program) {
    let server = program.start("");
    for path in [
        "/nowhere",
        "/ws",
        "/ws/",
        "/ws/other",
        "/ws/chat/",
        "/ws/CHAT",
        "//",
        "/index.html/",
        "/favicon.icon",
    ] {
        let response = server.get(path);
        assert_eq!(response.status, 404, "{path}");
        assert_eq!(
            response.header("content-length"),
            Some(response.body.len().to_string().as_str()),
            "{path}"
        );
    }
}

fn nothing_outside_the_pages_can_be_reached(program: Program) {
    let server = program.start("");
    let paths = [
        "/../Cargo.toml",
        "/../src/lib.rs",
        "/%2e%2e/Cargo.toml",
        "/..%2fCargo.toml",
        "/..\\Cargo.toml",
        "/%2e%2e%5cCargo.toml",
        "/./../../../../etc/passwd",
        "//etc/passwd",
        "/etc/passwd",
        "/chat.html%00.css",
        "/client/chat.html",
        "/.git/config",
    ];
    for path in paths {
        let status = server.get(path).status;
        assert!(status == 404 || status == 400, "{path}: {status}");
    }
}

fn other_methods_are_405_and_told_which_are_not(program: Program) {
    let server = program.start("");
    let tally = Tally::new(&server, "method");
    for path in ["/", "/chat.html", "/healthz", "/metrics", "/ws/chat"] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
            let response = server.request(method, path, "Content-Length: 0\r\n");
            assert_eq!(response.status, 405, "{method} {path}");
            let allowed = response
                .header("allow")
                .expect("the methods that are allowed");
            assert!(
                allowed.split(',').any(|method| method.trim() == "GET"),
                "{allowed}"
            );
        }
    }
    tally.rises_by(30);
}

fn a_query_does_not_matter_to_a_page(program: Program) {
    let server = program.start("");
    assert_eq!(
        server.get("/chat.html?server=ws://localhost:9").body,
        server.get("/chat.html").body
    );
    assert_eq!(server.get("/healthz?verbose").status, 200);
}

/// RFC 9112, 3.2.2: "a server MUST accept the absolute-form in requests".
fn a_request_may_name_the_whole_address(program: Program) {
    let server = program.start("");
    for scheme in ["http", "https", "HTTP"] {
        let whole = format!("{scheme}://{}/healthz", server.address);
        assert_eq!(server.get(&whole).status, 200, "{whole}");
        let whole = format!("{scheme}://{}/ws/chat", server.address);
        assert!(server.try_open(&whole, "").is_ok(), "{whole}");
    }
    for scheme in ["ws", "ftp"] {
        let whole = format!("{scheme}://{}/healthz", server.address);
        assert_eq!(server.get(&whole).status, 400, "{whole}");
    }
    assert_eq!(
        server
            .get(&format!("http://{}/nowhere", server.address))
            .status,
        404
    );
}

fn requests_on_one_connection_are_answered_in_turn(program: Program) {
    let server = program.start("");
    let mut wire = server.wire();
    for path in ["/healthz", "/", "/nowhere", "/healthz"] {
        wire.send(request("GET", server.address, path, "").as_bytes());
        let response = read_response(&mut wire, "GET");
        assert_eq!(
            response.status,
            if path == "/nowhere" { 404 } else { 200 },
            "{path}"
        );
        if response.ends_connection() {
            wire.read_to_end();
            wire = server.wire();
        }
    }
}

fn requests_in_one_segment_are_answered_in_turn(program: Program) {
    let server = program.start("");
    let mut wire = server.wire();
    let both = request("GET", server.address, "/healthz", "")
        + &request("GET", server.address, "/styles.css", "");
    wire.send(both.as_bytes());
    let first = read_response(&mut wire, "GET");
    assert_eq!((first.status, first.text().trim_end()), (200, "ok"));
    if first.ends_connection() {
        assert!(wire.unread().is_empty(), "more after the last response");
        wire.read_to_end();
    } else {
        let second = read_response(&mut wire, "GET");
        assert_eq!(
            second.header("content-type"),
            Some("text/css; charset=utf-8")
        );
    }
}

fn a_client_may_ask_for_the_connection_to_end(program: Program) {
    let server = program.start("");
    let old = format!("GET /healthz HTTP/1.0\r\nHost: {}\r\n\r\n", server.address);
    for bytes in [
        request("GET", server.address, "/healthz", "Connection: close\r\n"),
        old,
    ] {
        let mut wire = server.wire();
        wire.send(bytes.as_bytes());
        assert_eq!(read_response(&mut wire, "GET").status, 200);
        wire.read_to_end();
    }
}
