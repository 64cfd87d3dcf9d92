//! The closing handshake (RFC 6455, section 7), and the server that does not wait for it for ever.

use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Client, close_code};
use crate::counters::{self, Tally};
use crate::frame::{self, Frame};
use crate::harness::Program;
use crate::http_client::{UPGRADE, read_response, request};
use crate::wire::{Ending, PATIENCE};

conformance! {
    a_close_is_answered_with_its_code,
    a_close_without_a_code_is_answered,
    what_was_sent_before_a_close_is_answered_first,
    what_is_sent_after_a_close_is_ignored,
    nothing_comes_after_a_close,
    a_whole_visit_in_one_segment_is_answered_in_order,
    the_server_ends_the_connection_first,
    who_has_said_goodbye_holds_no_socket,
    a_client_that_does_not_answer_a_close_is_cut_off,
    a_client_that_goes_on_sending_after_a_close_is_cut_off,
}

fn a_close_is_answered_with_its_code(program: Program) {
    let server = program.start("");
    for code in [1000, 1001, 1003, 1011, 3000, 4999] {
        let mut client = server.open("/ws/echo");
        client.send(&Frame::close(code, "tạm biệt"));
        let answer = client.next_frame_but_pings();
        assert_eq!(
            (answer.opcode, close_code(&answer)),
            (frame::CLOSE, Some(code))
        );
        assert_eq!(client.wire().read_to_end(), Ending::Closed);
    }
}

fn a_close_without_a_code_is_answered(program: Program) {
    let server = program.start("");
    let mut client = server.open("/ws/echo");
    client.send(&Frame::new(frame::CLOSE, ""));
    let answer = client.next_frame_but_pings();
    assert_eq!(answer.opcode, frame::CLOSE);
    assert!(
        matches!(close_code(&answer), None | Some(1000)),
        "{answer:?}"
    );
    assert_eq!(client.wire().read_to_end(), Ending::Closed);
}

fn what_was_sent_before_a_close_is_answered_first(program: Program) {
    let server = program.start("");
    let mut client = server.open("/ws/echo");
    let last_words = [
        Frame::new(frame::TEXT, "one"),
        Frame::new(frame::TEXT, "two"),
        Frame::close(1000, ""),
    ];
    client
        .wire()
        .send(&last_words.map(|frame| frame.encode()).concat());
    assert_eq!(client.next_text(), "one");
    assert_eq!(client.next_text(), "two");
    assert_eq!(client.await_close(), Some(1000));
    assert_eq!(client.wire().read_to_end(), Ending::Closed);
    let mut client = server.join();
    let message = Frame::new(
        frame::TEXT,
        "{\"type\":\"chat\",\"name\":\"Alice\",\"text\":\"last words\"}",
    );
    client.wire().send(
        &[message, Frame::close(1000, "")]
            .map(|frame| frame.encode())
            .concat(),
    );
    assert_eq!(
        client.next_json()["text"],
        "last words",
        "everyone hears it, the sender included"
    );
    assert_eq!(client.await_close(), Some(1000));
}

fn what_is_sent_after_a_close_is_ignored(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut bystander = server.join();
    let mut client = server.join();
    assert_eq!(bystander.next_json()["code"], "joined");
    let late = Frame::new(
        frame::TEXT,
        "{\"type\":\"chat\",\"name\":\"Alice\",\"text\":\"too late\"}",
    );
    let bytes = [Frame::close(1000, ""), late, Frame::new(frame::PING, "")]
        .map(|frame| frame.encode())
        .concat();
    client.wire().send(&bytes);
    assert_eq!(client.next_frame_but_pings().opcode, frame::CLOSE);
    client.wire().read_to_end();
    assert_eq!(bystander.next_json()["code"], "left");
    assert_eq!(bystander.heard_so_far(), [] as [Value; 0]);
}

/// While the room talks and the clock ticks: "the application MUST NOT send any more data frames after sending a Close" (5.5.1).
fn nothing_comes_after_a_close(program: Program) {
    let server = program.start("--chat-interval 0s --metric-interval 1ms");
    let mut speaker = server.join();
    thread::scope(|scope| {
        let (stop, stopped) = mpsc::channel::<()>();
        scope.spawn(move || {
            while stopped.try_recv() == Err(TryRecvError::Empty) {
                speaker.say("Alice", "and on it goes");
                while speaker.next_json()["type"] != "chat" {}
            }
        });
        for _ in 0..100 {
            let mut client = server.join();
            client.next_of_type("chat");
            client.leave();
            let mut watcher = server.watch();
            assert_eq!(watcher.next_json()["type"], "metric");
            watcher.leave();
        }
        drop(stop);
    });
}

/// It comes, speaks and leaves before the server has answered anything.
fn a_whole_visit_in_one_segment_is_answered_in_order(program: Program) {
    let server = program.start("");
    let mut wire = server.wire();
    let speech = Frame::new(
        frame::TEXT,
        "{\"type\":\"chat\",\"name\":\"Alice\",\"text\":\"Hello\"}",
    );
    let visit = [
        request("GET", server.address, "/ws/chat", UPGRADE).into_bytes(),
        speech.encode(),
        Frame::close(1000, "").encode(),
    ];
    wire.send(&visit.concat());
    assert_eq!(read_response(&mut wire, "GET").status, 101);
    let mut client = Client::after_upgrade(wire);
    assert_eq!(client.next_json()["code"], "welcome");
    assert_eq!(client.next_json()["text"], "Hello");
    assert_eq!(client.await_close(), Some(1000));
    assert_eq!(client.wire().read_to_end(), Ending::Closed);
}

/// RFC 6455, 7.1.1: "in most cases the server should close" first, so that `TIME_WAIT` is not the client's.
fn the_server_ends_the_connection_first(program: Program) {
    let server = program.start("--close-timeout 1h");
    let mut client = server.open("/ws/echo");
    client.send(&Frame::close(1000, ""));
    assert_eq!(client.await_close(), Some(1000));
    assert_eq!(client.wire().read_to_end(), Ending::Closed);
}

/// However long it takes to close its own side: after both have said Close there is nothing to wait for.
fn who_has_said_goodbye_holds_no_socket(program: Program) {
    let server = program.start("--close-timeout 1h --chat-interval 0s");
    let mut clients = vec![
        server.open("/ws/echo"),
        server.join(),
        server.watch(),
        server.join(),
    ];
    let mut offender = clients.pop().expect("it was put there");
    for client in &mut clients {
        client.send(&Frame::close(1000, ""));
        assert_eq!(client.await_close(), Some(1000));
    }
    offender
        .wire()
        .send(&Frame::new(frame::TEXT, "no JSON").encode().repeat(51));
    offender.expect_close(1008);
    counters::await_no_connection_but_ours(&server);
}

/// Neither answers the Close nor ends its side; the server waits for that no longer than the timeout.
fn a_client_that_does_not_answer_a_close_is_cut_off(program: Program) {
    let server = program.start("--close-timeout 200ms");
    let tally = Tally::new(&server, "close_timeout");
    let mut bystander = server.join();
    let mut client = server.join();
    assert_eq!(bystander.next_json()["code"], "joined");
    // More mistakes than are forgiven.
    client
        .wire()
        .send(&Frame::new(frame::TEXT, "no JSON").encode().repeat(51));
    assert_eq!(client.await_close(), Some(1008));
    assert_eq!(
        bystander.next_json()["code"],
        "left",
        "the others need not wait for it"
    );
    client.wire().read_to_end();
    tally.rises_by(1);
}

fn a_client_that_goes_on_sending_after_a_close_is_cut_off(program: Program) {
    let server = program.start("--close-timeout 200ms");
    let mut client = server.open("/ws/echo");
    client
        .wire()
        .send(&Frame::new(frame::TEXT, "unmasked").encode_unmasked());
    assert_eq!(client.await_close(), Some(1002));
    let deadline = Instant::now() + PATIENCE;
    let more = Frame::new(frame::TEXT, "and another thing").encode();
    // Writing fails once the socket at the other end is closed for good.
    while client.wire().try_send(&more).is_ok() {
        assert!(Instant::now() < deadline, "the server still reads");
        assert_ne!(
            client
                .wire()
                .fill(Instant::now() + Duration::from_millis(10)),
            Ok(()),
            "an answer after the Close"
        );
    }
}
