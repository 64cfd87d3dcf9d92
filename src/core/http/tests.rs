//! Whole requests and their whole answers.

use std::num::NonZeroU8;
use std::time::{Duration, SystemTime};

use super::*;
use crate::core::protocol::Replay;

const HANDSHAKE: &str = "Host: localhost:8765\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

struct Given {
    access: AccessPolicy,
    draining: bool,
    degraded: Option<&'static str>,
    last: bool,
    report: Option<&'static [u8]>,
    deflate: bool,
}

fn given() -> Given {
    let access = AccessPolicy {
        loopback_only: true,
        hosts: vec!["a".parse().unwrap()],
        ..AccessPolicy::default()
    };
    Given {
        access,
        draining: false,
        degraded: None,
        last: false,
        report: None,
        deflate: true,
    }
}

impl Given {
    #[track_caller]
    fn ask(&self, request: &str) -> Got {
        let mut head = Head::default();
        head.push(request.as_bytes());
        let Step::Request(request) = head.next_step() else {
            panic!("not a request: {request:?}")
        };
        assert!(head.is_empty());
        let asked_for_metrics = request.path == "/metrics";
        let metrics = |format| {
            assert!(asked_for_metrics, "made only when asked for");
            format!("{format:?}")
        };
        let site = Site {
            model: "evloop",
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
            access: &self.access,
            local: std::net::Ipv4Addr::LOCALHOST.into(),
            draining: self.draining,
            degraded: self.degraded,
            last: self.last,
            report: self.report,
            deflate: self.deflate,
            metrics: &metrics,
            trace: &|| "{\"traceEvents\":[]}".to_owned(),
        };
        let mut out = Vec::new();
        let outcome = respond(&request, &site, &mut out);
        Got::parse(outcome, &out)
    }

    /// Asks for this path as a browser does.
    #[track_caller]
    fn get(&self, path: &str) -> Got {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost:8765\r\n\r\n"
        ))
    }

    /// Asks for a WebSocket.
    #[track_caller]
    fn open(&self, path: &str, more_headers: &str) -> Got {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\n{HANDSHAKE}{more_headers}\r\n"
        ))
    }
}

struct Got {
    outcome: Outcome,
    status: String,
    fields: Vec<(String, String)>,
    body: String,
}

impl Got {
    fn parse(outcome: Outcome, bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let (status, fields) = head.split_once("\r\n").unwrap();
        let fields = fields
            .split("\r\n")
            .map(|line| line.split_once(": ").unwrap());
        Self {
            outcome,
            status: status.strip_prefix("HTTP/1.1 ").unwrap().to_owned(),
            fields: fields
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            body: body.to_owned(),
        }
    }

    #[track_caller]
    fn field(&self, name: &str) -> Option<&str> {
        let mut values = self
            .fields
            .iter()
            .filter(|field| field.0 == name)
            .map(|field| field.1.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} twice");
        value
    }

    /// Checks a refusal, and that what is announced is what the driver is told.
    #[track_caller]
    fn refused(&self, with: Refusal, keep_alive: bool) {
        assert_eq!(
            self.outcome,
            Outcome::Responded {
                keep_alive,
                refused: Some(with)
            }
        );
        assert_eq!(self.status, with.status().to_string());
        assert!(self.field("Connection").unwrap().ends_with(if keep_alive {
            "keep-alive"
        } else {
            "close"
        }));
        assert_eq!(
            self.field("Retry-After"),
            self.status.starts_with("503").then_some("5")
        );
    }

    #[track_caller]
    fn responded(&self, status: &str, keep_alive: bool) {
        assert_eq!(
            self.outcome,
            Outcome::Responded {
                keep_alive,
                refused: None
            }
        );
        assert_eq!(self.status, status);
        assert_eq!(
            self.field("Connection"),
            Some(if keep_alive { "keep-alive" } else { "close" })
        );
    }
}

#[test]
fn pages_and_files_are_served_by_their_paths() {
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/index.html", "text/html; charset=utf-8"),
        ("/chat", "text/html; charset=utf-8"),
        (
            "/chat.html?server=ws://localhost:1",
            "text/html; charset=utf-8",
        ),
        ("/dashboard", "text/html; charset=utf-8"),
        ("/dashboard.html", "text/html; charset=utf-8"),
        ("/styles.css", "text/css; charset=utf-8"),
        ("/connection.js", "text/javascript; charset=utf-8"),
    ] {
        let got = given().get(path);
        got.responded("200 OK", true);
        assert_eq!(got.field("Content-Type"), Some(content_type), "{path}");
        assert_eq!(
            got.field("Content-Length"),
            Some(got.body.len().to_string().as_str())
        );
        assert!(!got.body.is_empty());
    }
}

#[test]
fn a_file_carries_what_keeps_a_browser_safe_and_its_copy_fresh() {
    let got = given().get("/");
    let csp = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
               connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    assert_eq!(got.field("Content-Security-Policy"), Some(csp));
    assert_eq!(got.field("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(got.field("Referrer-Policy"), Some("no-referrer"));
    assert_eq!(got.field("Cache-Control"), Some("no-cache"));
    assert_eq!(got.field("Date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_eq!(got.field("Server"), Some("ws-realtime-lab (evloop)"));
    let etag = got.field("ETag").unwrap();
    assert!(
        etag.len() == 18 && etag.starts_with('"') && etag.ends_with('"'),
        "{etag}"
    );
    assert_ne!(got.field("ETag"), given().get("/chat").field("ETag"));
}

#[test]
fn a_fresh_copy_is_not_sent_again() {
    let etag = given().get("/styles.css").field("ETag").unwrap().to_owned();
    for method in ["GET", "HEAD"] {
        let request = format!(
            "{method} /styles.css HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"x\", W/{etag}\r\n\r\n"
        );
        let got = given().ask(&request);
        got.responded("304 Not Modified", true);
        assert_eq!(
            (got.field("ETag"), got.body.as_str()),
            (Some(etag.as_str()), "")
        );
        assert_eq!(
            (got.field("Content-Length"), got.field("Cache-Control")),
            (None, Some("no-cache"))
        );
    }
    given()
        .ask("GET /styles.css HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"x\"\r\n\r\n")
        .responded("200 OK", true);
}

#[test]
fn head_is_get_without_the_body() {
    for path in ["/", "/healthz", "/metrics", "/nothing", "/ws/chat"] {
        let get = given().get(path);
        let head = given().ask(&format!(
            "HEAD {path} HTTP/1.1\r\nHost: localhost:8765\r\n\r\n"
        ));
        assert_eq!(
            (&head.status, &head.fields, &head.outcome),
            (&get.status, &get.fields, &get.outcome)
        );
        assert_eq!(head.body, "", "{path}");
    }
}

#[test]
fn health_turns_with_draining() {
    let got = given().get("/healthz");
    got.responded("200 OK", true);
    assert_eq!(
        (got.body.as_str(), got.field("Cache-Control")),
        ("ok", Some("no-store"))
    );
    let got = Given {
        draining: true,
        ..given()
    }
    .get("/healthz");
    got.responded("503 Service Unavailable", false);
    assert_eq!(
        (got.body.as_str(), got.field("Retry-After")),
        ("draining", Some("5"))
    );
}

#[test]
fn metrics_come_in_the_format_that_the_scraper_reads() {
    for (accept, content_type, body) in [
        ("", "text/plain; version=0.0.4; charset=utf-8", "Text"),
        (
            "Accept: text/plain\r\n",
            "text/plain; version=0.0.4; charset=utf-8",
            "Text",
        ),
        (
            "Accept: application/openmetrics-text; version=1.0.0, text/plain;q=0.5\r\n",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "OpenMetrics",
        ),
    ] {
        let got = given().ask(&format!("GET /metrics HTTP/1.1\r\nHost: a\r\n{accept}\r\n"));
        got.responded("200 OK", true);
        assert_eq!(
            (got.field("Content-Type"), got.body.as_str()),
            (Some(content_type), body)
        );
    }
}

#[test]
fn a_report_is_shown_where_there_is_one() {
    given().get("/report").refused(Refusal::NotFound, true);
    let got = Given {
        report: Some(b"<p>measured"),
        ..given()
    }
    .get("/report");
    got.responded("200 OK", true);
    assert_eq!(
        (got.field("Content-Type"), got.body.as_str()),
        (Some("text/html; charset=utf-8"), "<p>measured")
    );
    let csp =
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";
    assert_eq!(got.field("Content-Security-Policy"), Some(csp));
}

#[test]
fn what_is_not_there_is_not_found_whatever_the_method() {
    for path in [
        "/nothing",
        "/ws",
        "/ws/",
        "/ws/chat/",
        "/client/chat.html",
        "/../Cargo.toml",
    ] {
        for method in ["GET", "POST", "OPTIONS"] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            given().ask(&request).refused(Refusal::NotFound, true);
        }
    }
}

#[test]
fn a_websocket_is_found_only_where_one_is() {
    for path in ["/", "/chat", "/healthz", "/metrics", "/ws/other"] {
        given().open(path, "").refused(Refusal::NotFound, false);
    }
    // Other protocols on offer are not taken up.
    let h2c =
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n";
    given().ask(h2c).responded("200 OK", true);
}

#[test]
fn other_methods_are_told_which_are_allowed() {
    for path in ["/", "/healthz", "/ws/chat"] {
        for method in ["POST", "PUT", "TRACE", "get"] {
            let got = given().ask(&format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            got.refused(Refusal::Method, true);
            assert_eq!(got.field("Allow"), Some("GET, HEAD, OPTIONS"));
        }
        given()
            .ask(&format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
            ))
            .refused(Refusal::Method, false);
    }
}

#[test]
fn options_tells_the_methods() {
    for target in [
        "*",
        "/",
        "/chat",
        "/healthz",
        "/metrics",
        "/ws/chat",
        "http://localhost",
    ] {
        for version in ["1.1", "1.0"] {
            let host = if version == "1.1" { "Host: a\r\n" } else { "" };
            let got = given().ask(&format!("OPTIONS {target} HTTP/{version}\r\n{host}\r\n"));
            got.responded("204 No Content", version == "1.1");
            assert_eq!(got.field("Allow"), Some("GET, HEAD, OPTIONS"), "{target}");
            assert_eq!((got.field("Content-Length"), got.body.as_str()), (None, ""));
        }
    }
    given()
        .ask("GET * HTTP/1.1\r\nHost: a\r\n\r\n")
        .refused(Refusal::NotFound, true);
}

#[test]
fn figures_in_neither_format_are_not_acceptable() {
    given()
        .ask("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: */*;q=0\r\n\r\n")
        .refused(Refusal::NotAcceptable, true);
}

#[test]
fn a_host_that_is_not_the_servers_is_refused_on_every_path() {
    for path in ["/", "/nothing", "/healthz", "/metrics", "/ws/chat", "*"] {
        for method in ["GET", "POST", "OPTIONS"] {
            given()
                .ask(&format!(
                    "{method} {path} HTTP/1.1\r\nHost: evil.example:8765\r\n\r\n"
                ))
                .refused(Refusal::Host, true);
        }
    }
    let rebound = HANDSHAKE.replace("localhost", "evil.example");
    let request =
        format!("GET /ws/chat HTTP/1.1\r\n{rebound}Origin: http://evil.example:8765\r\n\r\n");
    given().ask(&request).refused(Refusal::Host, false);
    // The target's host counts, whatever the header says.
    given()
        .ask("GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .refused(Refusal::Host, true);
    for target in [
        "http://localhost/healthz",
        "https://localhost:8765/healthz",
        "/healthz",
    ] {
        given()
            .ask(&format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"))
            .responded("200 OK", true);
    }
}

#[test]
fn a_page_without_an_origin_gets_nothing_of_the_past() {
    for origin in ["null", "file://", ""] {
        let origin = format!("Origin: {origin}\r\n");
        for query in ["", "?history=50", "?since=abc:17"] {
            let got = given().open(&format!("/ws/chat{query}"), &origin);
            assert_eq!(
                got.outcome,
                Outcome::Upgraded(Opening::Chat(Replay::Nothing).into())
            );
        }
        let got = given().open("/ws/dashboard", &origin);
        assert_eq!(got.outcome, Outcome::Upgraded(Opening::Dashboard.into()));
    }
}

#[test]
fn the_guides_handshake_gets_the_guides_answer() {
    let got = given().open("/ws/chat", "");
    assert_eq!(
        got.outcome,
        Outcome::Upgraded(Opening::Chat(Replay::Nothing).into())
    );
    assert_eq!(got.status, "101 Switching Protocols");
    assert_eq!(got.field("Upgrade"), Some("websocket"));
    assert_eq!(got.field("Connection"), Some("Upgrade"));
    assert_eq!(
        got.field("Sec-WebSocket-Accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(got.field("Server"), Some("ws-realtime-lab (evloop)"));
    assert_eq!((got.fields.len(), got.body.as_str()), (4, ""));
}

#[test]
fn a_websocket_opens_for_what_its_path_and_query_say() {
    let since = Replay::Since {
        epoch: "abc".to_owned(),
        id: 17,
    };
    for (target, opening) in [
        ("/ws/chat?history=50", Opening::Chat(Replay::Newest(50))),
        ("/ws/chat?history=50&since=abc:17", Opening::Chat(since)),
        ("/ws/dashboard?history=x", Opening::Dashboard),
        ("/ws/echo", Opening::Echo),
    ] {
        let got = given().open(
            target,
            "Sec-WebSocket-Extensions: x-unknown\r\nSec-WebSocket-Protocol: x\r\n",
        );
        assert_eq!(got.outcome, Outcome::Upgraded(opening.into()));
        assert_eq!(got.fields.len(), 4, "nothing is negotiated");
    }
    let got = given().open("/ws/chat?history=x", "");
    assert_eq!(got.status, "400 Bad Request");
    assert!(got.body.contains("?history=50"), "{}", got.body);
}

#[test]
fn compression_is_agreed_to_where_it_is_offered_and_on() {
    let offers = "Sec-WebSocket-Extensions: x-unknown, permessage-deflate; server_max_window_bits=8\r\n\
         sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n";
    let agreed = "permessage-deflate; client_no_context_takeover";
    let mut given = given();
    for (path, opening, window_bits) in [
        ("/ws/chat", Opening::Chat(Replay::Nothing), 12),
        ("/ws/dashboard", Opening::Dashboard, 12),
        ("/ws/echo", Opening::Echo, 15),
    ] {
        given.deflate = true;
        let got = given.open(path, offers);
        let deflate = NonZeroU8::new(window_bits);
        let upgrade = Upgrade {
            opening: opening.clone(),
            deflate,
        };
        assert_eq!(got.outcome, Outcome::Upgraded(upgrade));
        assert_eq!(got.field("Sec-WebSocket-Extensions"), Some(agreed));
        given.deflate = false;
        let got = given.open(path, offers);
        assert_eq!(got.outcome, Outcome::Upgraded(opening.into()));
        assert_eq!(got.field("Sec-WebSocket-Extensions"), None);
    }
    for malformed in ["a;", "permessage-deflate; x=\"", "\u{e9}"] {
        let offer = format!("Sec-WebSocket-Extensions: {malformed}\r\n");
        let got = given.open("/ws/echo", &offer);
        assert_eq!(got.status, "400 Bad Request");
        assert!(
            got.body.contains("Sec-WebSocket-Extensions"),
            "{}",
            got.body
        );
    }
}

#[test]
fn a_handshake_may_spread_its_lists_over_headers() {
    let request = "GET /ws/echo HTTP/1.1\r\nHost: a\r\nCONNECTION: keep-alive\r\nconnection: x ,UPGRADE\r\n\
         Upgrade: h2c\r\nUpgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-version: 13\r\n\r\n";
    assert_eq!(
        given().ask(request).outcome,
        Outcome::Upgraded(Opening::Echo.into())
    );
}

#[test]
fn without_a_whole_upgrade_the_client_is_told_to_upgrade() {
    let got = given().get("/ws/chat");
    got.refused(Refusal::UpgradeRequired, true);
    assert_eq!(
        (got.field("Upgrade"), got.field("Connection")),
        (Some("websocket"), Some("upgrade, keep-alive"))
    );
    for (from, to) in [
        ("Connection: keep-alive, Upgrade", "Connection: keep-alive"),
        ("Upgrade: WebSocket", "Upgrade: x"),
    ] {
        let request = format!(
            "GET /ws/chat HTTP/1.1\r\n{}\r\n",
            HANDSHAKE.replace(from, to)
        );
        given()
            .ask(&request)
            .refused(Refusal::UpgradeRequired, true);
    }
    given()
        .ask(&format!("GET /ws/chat HTTP/1.0\r\n{HANDSHAKE}\r\n"))
        .refused(Refusal::UpgradeRequired, true);
    given()
        .ask(&format!("HEAD /ws/chat HTTP/1.1\r\n{HANDSHAKE}\r\n"))
        .refused(Refusal::UpgradeRequired, false);
}

#[test]
fn another_version_of_websocket_is_told_the_right_one() {
    for version in [
        "Sec-WebSocket-Version: 8\r\n",
        "Sec-WebSocket-Version: 13, 8\r\n",
        "",
    ] {
        let headers = HANDSHAKE.replace("Sec-WebSocket-Version: 13\r\n", version);
        let got = given().ask(&format!("GET /ws/chat HTTP/1.1\r\n{headers}\r\n"));
        got.refused(Refusal::WebSocketVersion, false);
        assert_eq!(got.field("Sec-WebSocket-Version"), Some("13"));
        assert_eq!(got.field("Upgrade"), Some("websocket"));
    }
}

#[test]
fn a_key_that_is_missing_repeated_or_no_key_is_malformed() {
    for key in [
        "",
        "Sec-WebSocket-Key: \r\n",
        "Sec-WebSocket-Key: c2hvcnQ=\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ] {
        let headers = HANDSHAKE.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", key);
        let got = given().ask(&format!("GET /ws/chat HTTP/1.1\r\n{headers}\r\n"));
        assert_eq!(
            (got.status.as_str(), got.field("Connection")),
            ("400 Bad Request", Some("close")),
            "{key}"
        );
    }
}

#[test]
fn pages_of_a_foreign_origin_are_refused() {
    let local = given().open("/ws/chat", "Origin: http://localhost:3000\r\n");
    assert_eq!(
        local.outcome,
        Outcome::Upgraded(Opening::Chat(Replay::Nothing).into())
    );
    given()
        .open("/ws/chat", "Origin: http://evil.example\r\n")
        .refused(Refusal::Origin, false);
    let twice = "Origin: http://localhost:8765\r\nOrigin: http://evil.example\r\n";
    given()
        .open("/ws/chat", twice)
        .refused(Refusal::Origin, false);
}

#[test]
fn a_draining_server_takes_no_client_and_keeps_no_connection() {
    let draining = Given {
        draining: true,
        ..given()
    };
    draining
        .open("/ws/chat", "")
        .refused(Refusal::Draining, false);
    draining.get("/").responded("200 OK", false);
    draining.get("/nothing").refused(Refusal::NotFound, false);
}

#[test]
fn checks_come_in_their_order() {
    let given = Given {
        draining: true,
        ..given()
    };
    let evil = "Origin: http://evil.example\r\n";
    let no_version = HANDSHAKE.replace("Version: 13", "Version: 8") + evil;
    given
        .ask(&format!(
            "POST /nothing HTTP/1.1\r\n{}\r\n",
            no_version.replace("localhost", "evil.example")
        ))
        .refused(Refusal::Host, false);
    given
        .ask(&format!("POST /nothing HTTP/1.1\r\n{no_version}\r\n"))
        .refused(Refusal::NotFound, false);
    given
        .ask(&format!("POST /ws/chat HTTP/1.1\r\n{no_version}\r\n"))
        .refused(Refusal::Method, false);
    given
        .ask(&format!("GET /ws/chat HTTP/1.1\r\n{no_version}\r\n"))
        .refused(Refusal::WebSocketVersion, false);
    given.open("/ws/chat", evil).refused(Refusal::Origin, false);
    given.open("/ws/chat", "").refused(Refusal::Draining, false);
}

#[test]
fn the_last_answer_says_that_it_is() {
    let last = Given {
        last: true,
        ..given()
    };
    last.get("/").responded("200 OK", false);
    last.get("/nothing").refused(Refusal::NotFound, false);
    let got = last.get("/ws/chat");
    got.refused(Refusal::UpgradeRequired, false);
    assert_eq!(got.field("Connection"), Some("upgrade, close"));
}

#[test]
fn a_connection_is_kept_as_the_peer_wishes() {
    given()
        .ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .responded("200 OK", false);
    given()
        .ask("GET / HTTP/1.0\r\n\r\n")
        .responded("200 OK", false);
    given()
        .ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .responded("200 OK", true);
}

#[test]
fn a_clock_before_1970_is_no_reason_to_stop() {
    let mut out = Vec::new();
    refuse(
        Refusal::Full,
        "evloop",
        SystemTime::UNIX_EPOCH - Duration::from_secs(9),
        &mut out,
    );
    assert!(out.starts_with(
        b"HTTP/1.1 503 Service Unavailable\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    ));
}
