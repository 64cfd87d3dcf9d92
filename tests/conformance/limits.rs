//! Limits on messages, and on a client that does nothing but make mistakes.

use crate::client::{Client, Message};
use crate::counters::Tally;
use crate::frame::{self, Frame, claim};
use crate::harness::Program;

conformance! {
    a_message_over_64_kib_is_1009,
    the_limit_can_be_set,
    an_enormous_claim_is_refused_at_once,
    a_claim_alone_takes_no_memory,
    #[cfg(target_os = "linux")]
    an_idle_client_does_not_remember_its_largest_message,
    fifty_mistakes_in_a_row_are_forgiven,
    mistakes_on_the_dashboard_count_too,
    an_accepted_message_wipes_the_slate,
}

fn a_message_over_64_kib_is_1009(program: Program) {
    let server = program.start("");
    let tally = Tally::new(&server, "too_big");
    for (path, opcode) in [
        ("/ws/chat", frame::TEXT),
        ("/ws/dashboard", frame::TEXT),
        ("/ws/echo", frame::BINARY),
    ] {
        let mut client = server.open(path);
        client.send(&Frame::new(opcode, " ".repeat(64 * 1024 + 1)));
        client.expect_close(1009);
    }
    tally.rises_by(3);
}

fn the_limit_can_be_set(program: Program) {
    let server = program.start("--max-message 1KiB");
    let mut client = server.open("/ws/echo");
    client.send(&Frame::new(frame::BINARY, [1; 1024]));
    assert_eq!(client.message(), Message::Binary(vec![1; 1024]));
    client.send(&Frame::new(frame::BINARY, [1; 1025]));
    client.expect_close(1009);
    let server = program.start("--max-message 1MiB --max-unsent 4MiB");
    let mut client = server.open("/ws/echo");
    client.send(&Frame::new(frame::BINARY, vec![1; 1024 * 1024]));
    assert_eq!(client.message(), Message::Binary(vec![1; 1024 * 1024]));
}

/// The claim is enough: nobody waits for bytes that would be refused anyway. 2^63 is no length at all, since
/// "the most significant bit MUST be 0" (RFC 6455, 5.2), so either code is right for it.
fn an_enormous_claim_is_refused_at_once(program: Program) {
    let server = program.start("");
    for length in [65_537, 1 << 20, 1 << 32, (1 << 63) - 1] {
        let mut client = server.open("/ws/echo");
        client.wire().send(&claim(frame::BINARY, length));
        client.expect_close(1009);
    }
    for length in [1 << 63, u64::MAX] {
        let mut client = server.open("/ws/echo");
        client.wire().send(&claim(frame::BINARY, length));
        let code = client.await_close();
        assert!(code == Some(1009) || code == Some(1002), "{code:?}");
    }
}

fn a_claim_alone_takes_no_memory(program: Program) {
    let server = program.start("--max-message 1MiB");
    let mut clients: Vec<_> = (0..64).map(|_| server.open("/ws/echo")).collect();
    for client in &mut clients {
        client.text("settled");
        assert_eq!(client.next_text(), "settled");
    }
    #[cfg(target_os = "linux")]
    let before = server.process.memory_kib("VmData");
    for client in &mut clients {
        client.wire().send(&claim(frame::BINARY, 1024 * 1024));
        client.wire().send(b"one byte and more to come");
    }
    let mut other = server.open("/ws/echo");
    for _ in 0..20 {
        other.text("the others' headers have been read by now");
        other.next_text();
    }
    #[cfg(target_os = "linux")]
    {
        let grown = server.process.memory_kib("VmData").saturating_sub(before);
        assert!(grown < 16 * 1024, "{grown} KiB for 64 claims of 1 MiB");
    }
}

/// Whatever a client once sent, between messages it costs what any idle client does. The first of them let the
/// allocator take what it needs for one such message at a time.
#[cfg(target_os = "linux")]
fn an_idle_client_does_not_remember_its_largest_message(program: Program) {
    const WARM_UP: usize = 40;
    let server = program.start("--ping-interval 1h");
    let mut clients: Vec<_> = (0..WARM_UP + 120)
        .map(|_| server.open("/ws/echo"))
        .collect();
    for client in &mut clients {
        client.text("settled");
        assert_eq!(client.next_text(), "settled");
    }
    let long = "x".repeat(64 * 1024);
    let talk_at_length = |clients: &mut [Client]| {
        for client in clients {
            client.text(&long);
            assert_eq!(client.next_text(), long);
            client.send(&Frame::unfinished(frame::TEXT, &long[1..]));
            client.send(&Frame::new(frame::CONTINUATION, &long[..1]));
            assert_eq!(client.next_text(), long);
            // The beginning of the next frame comes with the end of a long one.
            let (first, second) = (
                Frame::new(frame::BINARY, &long).encode(),
                Frame::new(frame::TEXT, "settled").encode(),
            );
            client.wire().send(&[&first[..], &second[..3]].concat());
            assert_eq!(client.message(), Message::Binary(long.clone().into()));
            client.wire().send(&second[3..]);
            assert_eq!(client.next_text(), "settled");
        }
        server.process.memory_kib("VmRSS")
    };
    let (warm_up, measured) = clients.split_at_mut(WARM_UP);
    let before = talk_at_length(warm_up);
    let grown = talk_at_length(measured).saturating_sub(before);
    let most = measured.len() as u64 + 2048;
    assert!(grown < most, "{grown} KiB for {} clients", measured.len());
}

/// Sends a message that is refused, and checks that it is answered.
fn err(client: &mut Client) {
    client.text("no JSON");
    assert_eq!(client.next_of_type("error")["code"], "bad_json");
}

fn fifty_mistakes_in_a_row_are_forgiven(program: Program) {
    let server = program.start("--chat-interval 1h");
    let tally = Tally::new(&server, "too_many_faults");
    let mut client = server.join();
    let mut bystander = server.join();
    assert_eq!(client.next_json()["code"], "joined");
    for _ in 0..10 {
        err(&mut client);
    }
    client.say("Alice", "accepted");
    assert_eq!(client.next_json()["type"], "chat");
    assert_eq!(bystander.next_json()["type"], "chat");
    // Whatever the refusals are for, the rate limit among them, they count alike.
    for _ in 0..25 {
        err(&mut client);
        client.say("Alice", "too soon");
        assert_eq!(client.next_json()["code"], "rate_limited");
    }
    client.text("one too many");
    client.expect_close(1008);
    assert_eq!(bystander.next_json()["code"], "left");
    tally.rises_by(1);
}

fn mistakes_on_the_dashboard_count_too(program: Program) {
    let server = program.start("--metric-interval 1h");
    let mut client = server.watch();
    for _ in 0..50 {
        err(&mut client);
    }
    client.text("one too many");
    client.expect_close(1008);
}

fn an_accepted_message_wipes_the_slate(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    for _ in 0..3 {
        for _ in 0..50 {
            err(&mut client);
        }
        client.say("Alice", "accepted");
        assert_eq!(client.next_json()["type"], "chat");
    }
}
