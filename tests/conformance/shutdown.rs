//! The drain: a signal, a Close to each client, what is queued is sent, exit status 0 in time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, Message};
use crate::frame::{self, Frame};
use crate::harness::{Program, Server};
use crate::http_client::{read_response, request};
use crate::wire::{Ending, PATIENCE, Wire};

conformance! {
    a_signal_closes_every_client_with_1001,
    ctrl_c_is_as_good,
    a_terminal_that_goes_away_is_as_good,
    #[cfg(target_os = "linux")]
    a_server_under_nohup_stays,
    an_idle_server_stops_at_once,
    what_is_queued_is_sent_before_the_close,
    what_is_acknowledged_is_heard_by_all_who_stay,
    who_reads_late_gets_all_that_is_queued_and_the_close,
    an_answer_on_its_way_is_sent_to_its_end,
    clients_that_do_not_answer_do_not_hold_the_exit_up,
    an_unanswered_close_is_given_up_after_its_own_timeout,
    a_client_that_does_not_read_does_not_hold_the_exit_up,
    half_a_request_does_not_hold_the_exit_up,
    a_draining_server_says_so_and_lets_nobody_in,
    a_second_signal_stops_at_once,
    the_port_is_free_for_the_next_server,
}

const SHORT: &str = "--drain-timeout 500ms --close-timeout 1h";
const LONG: &str = "--drain-timeout 1h --close-timeout 1h";

/// Sees the server exit with status 0 before `limit` has passed.
fn assert_exits(mut server: Server, limit: Duration) {
    let status = server.process.wait_until(Instant::now() + limit);
    assert_eq!(status.code(), Some(0), "{status}");
}

fn closes_every_client(program: Program, signal: &str) {
    let server = program.start("--metric-interval 1ms");
    let mut clients = [
        server.join(),
        server.join(),
        server.watch(),
        server.open("/ws/echo"),
    ];
    server.process.signal(signal);
    for client in &mut clients {
        client.expect_close(1001);
    }
    assert_exits(server, Duration::from_secs(3));
}

fn a_signal_closes_every_client_with_1001(program: Program) {
    closes_every_client(program, "TERM");
}

fn ctrl_c_is_as_good(program: Program) {
    closes_every_client(program, "INT");
}

fn a_terminal_that_goes_away_is_as_good(program: Program) {
    closes_every_client(program, "HUP");
}

#[cfg(target_os = "linux")]
fn a_server_under_nohup_stays(program: Program) {
    let server = Server::start(&mut program.command_after("trap '' HUP", "--bind 127.0.0.1:0"));
    let mut client = server.open("/ws/echo");
    server.process.signal("HUP");
    client.text("still here");
    assert_eq!(client.next_text(), "still here");
}

fn an_idle_server_stops_at_once(program: Program) {
    let server = program.start(LONG);
    server.join().leave();
    server.process.signal("TERM");
    assert_exits(server, Duration::from_secs(3));
}

fn what_is_queued_is_sent_before_the_close(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut speaker = server.join();
    let mut listener = server.join();
    let text = "🦀".repeat(500);
    for id in 1..=100 {
        speaker.say("Alice", &text);
        assert_eq!(speaker.next_of_type("chat")["id"], id);
    }
    server.process.signal("TERM");
    speaker.expect_close(1001);
    for id in 1..=100 {
        assert_eq!(listener.next_json()["id"], id);
    }
    listener.expect_close(1001);
    assert_exits(server, Duration::from_secs(3));
}

/// Everyone speaks as fast as it can when the signal comes. Repeated, because what it looks for is a race.
fn what_is_acknowledged_is_heard_by_all_who_stay(program: Program) {
    const CLIENTS: usize = 64;
    const MESSAGES: usize = 12;
    for round in 0..50 {
        let server = program.start("--chat-interval 0s --log warn");
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.join()).collect();
        let mut bursts = clients.iter_mut().enumerate().map(|(number, client)| {
            let burst: Vec<u8> = (0..MESSAGES)
                .flat_map(|message| {
                    let chat = json!({"type": "chat", "name": format!("n{number}"), "text": "x", "cid": message.to_string()});
                    Frame::new(frame::TEXT, chat.to_string()).encode()
                })
                .collect();
            client.wire().send(&burst);
        });
        bursts.by_ref().take(CLIENTS / 2).for_each(drop);
        server.process.signal("TERM");
        bursts.for_each(drop);
        let mut acknowledged = BTreeSet::new();
        let mut heard = Vec::new();
        for client in &mut clients {
            let mut ids = BTreeSet::new();
            while let Message::Text(text) = client.message() {
                let value: Value = serde_json::from_str(&text).expect("JSON");
                let id = value["id"].as_u64();
                match value["type"].as_str() {
                    Some("ack") => acknowledged.extend(id),
                    Some("chat") => ids.extend(id),
                    _ => {}
                }
            }
            let _ = client.wire().try_send(&Frame::close(1001, "").encode());
            heard.push(ids);
        }
        for ids in heard {
            let unheard: Vec<_> = acknowledged.difference(&ids).collect();
            assert!(
                unheard.is_empty(),
                "round {round}: {unheard:?} of {}",
                acknowledged.len()
            );
        }
        assert_exits(server, Duration::from_secs(3));
    }
}

/// The kernels hold 4 MiB at most for a client; what is beyond that waits in the server when it is told to stop.
fn who_reads_late_gets_all_that_is_queued_and_the_close(program: Program) {
    let server = program.start(&format!("{LONG} --chat-interval 0s --max-unsent 64MiB"));
    let mut speaker = server.join();
    let wire = Wire::connect_with_small_window(server.address);
    let mut late = Client::upgrade(wire, server.address, "/ws/chat", "").expect("let in");
    let mut last = server.join();
    let text = "🦀".repeat(500);
    for id in 1..=2_500 {
        speaker.say("Alice", &text);
        assert_eq!(speaker.next_of_type("chat")["id"], id);
        assert_eq!(last.next_of_type("chat")["id"], id);
    }
    server.process.signal("TERM");
    speaker.expect_close(1001);
    last.expect_close(1001);
    for id in 1..=2_500 {
        assert_eq!(late.next_of_type("chat")["id"], id);
    }
    late.expect_close(1001);
    assert_exits(server, Duration::from_secs(3));
}

fn an_answer_on_its_way_is_sent_to_its_end(program: Program) {
    let report = std::env::temp_dir().join(format!("report-on-its-way-{}", std::process::id()));
    let html = vec![b'x'; 12 << 20];
    std::fs::write(&report, &html).expect("a temporary file");
    let server = program.start(&format!("{LONG} --report {}", report.display()));
    std::fs::remove_file(&report).expect("it was there a moment ago");
    let mut wire = Wire::connect_with_small_window(server.address);
    wire.send(request("GET", server.address, "/report", "").as_bytes());
    wire.fill(Instant::now() + PATIENCE)
        .expect("the beginning of the answer");
    server.process.signal("TERM");
    server
        .process
        .stderr
        .wait_for("the drain", |line| line.contains("Shutting down"));
    assert_eq!(read_response(&mut wire, "GET").body.len(), html.len());
    assert_exits(server, Duration::from_secs(3));
}

fn clients_that_do_not_answer_do_not_hold_the_exit_up(program: Program) {
    let server = program.start(SHORT);
    let mut silent = server.join();
    server.process.signal("TERM");
    assert_eq!(silent.await_close(), Some(1001));
    let start = Instant::now();
    // Nor does one that goes on talking.
    silent.text("not yet");
    assert_exits(server, Duration::from_secs(5));
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
}

fn an_unanswered_close_is_given_up_after_its_own_timeout(program: Program) {
    let server = program.start("--drain-timeout 1h --close-timeout 200ms");
    let mut silent = [server.join(), server.watch(), server.open("/ws/echo")];
    server.process.signal("TERM");
    for client in &mut silent {
        assert_eq!(client.await_close(), Some(1001));
    }
    assert_exits(server, Duration::from_secs(5));
}

fn a_client_that_does_not_read_does_not_hold_the_exit_up(program: Program) {
    let server = program.start(&format!("{SHORT} --chat-interval 0s --max-unsent 64MiB"));
    let mut speaker = server.join();
    let wire = Wire::connect_with_small_window(server.address);
    let deaf = Client::upgrade(wire, server.address, "/ws/chat", "");
    assert!(deaf.is_ok());
    let text = "🦀".repeat(500);
    // More than any kernel buffers, so that the server itself has something left to send.
    for id in 1..=6_000 {
        speaker.say("Alice", &text);
        assert_eq!(speaker.next_of_type("chat")["id"], id);
    }
    server.process.signal("TERM");
    speaker.expect_close(1001);
    assert_exits(server, Duration::from_secs(5));
}

fn half_a_request_does_not_hold_the_exit_up(program: Program) {
    let server = program.start("--handshake-timeout 1h --drain-timeout 500ms");
    let mut half = server.wire();
    half.send(b"GET /ws/chat HTTP/1.1\r\n");
    let _says_nothing = server.wire();
    assert_eq!(
        server.get("/healthz").status,
        200,
        "the half has been accepted by now, and where there is no deferral the silent one too"
    );
    server.process.signal("TERM");
    assert_exits(server, Duration::from_secs(5));
}

fn a_draining_server_says_so_and_lets_nobody_in(program: Program) {
    let server = program.start(LONG);
    let mut stays = server.join();
    server.process.signal("TERM");
    // Whoever does not answer the Close keeps the drain going, so that it can be looked at.
    assert_eq!(
        stays.try_message(Instant::now() + PATIENCE),
        Ok(Message::Close(Some(1001)))
    );
    assert_eq!(server.get("/healthz").status, 503);
    let refusal = server
        .try_open("/ws/chat", "")
        .err()
        .unwrap_or_else(|| panic!("let in while draining"));
    assert_eq!(refusal.status, 503);
    stays.send(&crate::frame::Frame::close(1001, ""));
    assert_ne!(stays.wire().read_to_end(), Ending::TimedOut);
    assert_exits(server, Duration::from_secs(5));
}

fn a_second_signal_stops_at_once(program: Program) {
    for signals in [["TERM", "TERM"], ["INT", "INT"], ["TERM", "INT"]] {
        let mut server = program.start(LONG);
        let mut stays = server.join();
        server.process.signal(signals[0]);
        assert_eq!(stays.await_close(), Some(1001));
        server.process.signal(signals[1]);
        server
            .process
            .wait_until(Instant::now() + Duration::from_secs(3));
    }
}

/// The server ends connections first, so their `TIME_WAIT` is on its port; the next one must bind all the same.
fn the_port_is_free_for_the_next_server(program: Program) {
    let server = program.start("");
    let address = server.address;
    let mut client = server.join();
    let mut wire = server.wire();
    wire.send(request("GET", address, "/healthz", "Connection: close\r\n").as_bytes());
    assert_eq!(read_response(&mut wire, "GET").status, 200);
    wire.read_to_end();
    server.process.signal("TERM");
    client.expect_close(1001);
    assert_exits(server, Duration::from_secs(3));
    let next = Server::start(&mut program.command(&format!("--bind {address}")));
    assert_eq!(next.address, address);
    next.join().leave();
}
