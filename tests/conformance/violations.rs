//! Frames that RFC 6455 forbids: each is answered with the right Close, counted, and hurts nobody else.

use crate::client::Client;
use crate::counters::Tally;
use crate::frame::{self, CONTINUATION, Frame, header};
use crate::harness::{Program, Server};
use crate::wire::Ending;

conformance! {
    an_unmasked_frame_is_1002,
    a_reserved_bit_is_1002,
    a_reserved_opcode_is_1002,
    a_bad_control_frame_is_1002,
    fragments_out_of_turn_are_1002,
    a_bad_close_code_is_1002,
    a_length_in_a_longer_form_than_needed_is_1002,
    a_violation_is_seen_before_its_frame_is_whole,
    text_that_is_not_utf8_is_1007,
    text_that_is_not_utf8_is_refused_before_it_is_whole,
    violations_are_counted,
    what_came_before_a_violation_is_answered_first,
    what_was_said_before_a_violation_is_heard,
    a_close_is_not_lost_to_what_is_still_on_its_way,
    the_others_only_hear_that_it_left,
    noise_after_the_upgrade_is_survived,
    many_bad_clients_do_not_grow_memory,
}

/// A client that sends these bytes is closed with this code.
fn closed_with(server: &Server, code: u16, what: &str, bytes: &[u8]) {
    for path in ["/ws/echo", "/ws/chat"] {
        let mut client = server.open(path);
        client.wire().send(bytes);
        assert_eq!(client.await_close(), Some(code), "{what} on {path}");
        client.wire().read_to_end();
    }
}

fn an_unmasked_frame_is_1002(program: Program) {
    let server = program.start("");
    for opcode in [frame::TEXT, frame::BINARY, frame::PING, frame::CLOSE] {
        closed_with(
            &server,
            1002,
            "an unmasked frame",
            &Frame::new(opcode, "").encode_unmasked(),
        );
    }
    closed_with(
        &server,
        1002,
        "an unmasked text",
        &Frame::new(frame::TEXT, "{}").encode_unmasked(),
    );
}

fn a_reserved_bit_is_1002(program: Program) {
    let server = program.start("");
    for bits in [0x40, 0x20, 0x10, 0x70] {
        for opcode in [frame::TEXT, frame::PING] {
            closed_with(
                &server,
                1002,
                "a reserved bit",
                &Frame::new(opcode, "{}").encode_with_reserved_bits(bits),
            );
        }
    }
}

fn a_reserved_opcode_is_1002(program: Program) {
    let server = program.start("");
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        closed_with(
            &server,
            1002,
            "a reserved opcode",
            &Frame::new(opcode, "").encode(),
        );
    }
}

fn a_bad_control_frame_is_1002(program: Program) {
    let server = program.start("");
    for opcode in [frame::PING, frame::PONG, frame::CLOSE] {
        closed_with(
            &server,
            1002,
            "a control frame in fragments",
            &Frame::unfinished(opcode, "").encode(),
        );
        closed_with(
            &server,
            1002,
            "a long control frame",
            &Frame::new(opcode, [b'x'; 126]).encode(),
        );
    }
}

fn fragments_out_of_turn_are_1002(program: Program) {
    let server = program.start("");
    closed_with(
        &server,
        1002,
        "a continuation of nothing",
        &Frame::new(CONTINUATION, "x").encode(),
    );
    closed_with(
        &server,
        1002,
        "a continuation of nothing",
        &Frame::unfinished(CONTINUATION, "x").encode(),
    );
    for second in [frame::TEXT, frame::BINARY] {
        let frames = [Frame::unfinished(frame::TEXT, "x"), Frame::new(second, "y")];
        closed_with(
            &server,
            1002,
            "a message in a message",
            &frames.map(|frame| frame.encode()).concat(),
        );
    }
    let frames = [
        Frame::unfinished(frame::TEXT, "x"),
        Frame::new(CONTINUATION, "y"),
        Frame::new(CONTINUATION, "z"),
    ];
    let mut client = server.open("/ws/echo");
    client
        .wire()
        .send(&frames.map(|frame| frame.encode()).concat());
    assert_eq!(client.next_text(), "xy");
    client.expect_close(1002);
}

/// RFC 6455, 5.2: "the minimal number of bytes MUST be used to encode the length".
fn a_length_in_a_longer_form_than_needed_is_1002(program: Program) {
    let server = program.start("");
    for (opcode, payload) in [
        (frame::TEXT, "Hello"),
        (frame::BINARY, ""),
        (frame::PING, "?"),
    ] {
        for bytes in [2, 8] {
            closed_with(
                &server,
                1002,
                "a length in a longer form",
                &Frame::new(opcode, payload).encode_with_length_in(bytes),
            );
        }
    }
    closed_with(
        &server,
        1002,
        "a length of 16 bits in 64",
        &Frame::new(frame::BINARY, [1; 126]).encode_with_length_in(8),
    );
}

/// A header alone can be wrong; nobody waits for a payload that would be refused anyway.
fn a_violation_is_seen_before_its_frame_is_whole(program: Program) {
    let server = program.start("--ping-interval 1h");
    let long = Frame::new(frame::BINARY, [1; 1000]);
    let mut unmasked = long.encode();
    unmasked[1] &= 0x7F;
    let control = Frame::new(frame::PING, [1; 1000]);
    let continuation = Frame::new(CONTINUATION, [1; 1000]);
    for (what, bytes) in [
        ("an unmasked frame", unmasked),
        ("a reserved bit", long.encode_with_reserved_bits(0x40)),
        ("a longer length", long.encode_with_length_in(8)),
        ("a long control frame", control.encode()),
        ("a continuation of nothing", continuation.encode()),
    ] {
        closed_with(&server, 1002, what, &bytes[..14]);
    }
}

fn a_bad_close_code_is_1002(program: Program) {
    let server = program.start("");
    for code in [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        closed_with(
            &server,
            1002,
            &format!("close code {code}"),
            &Frame::close(code, "").encode(),
        );
    }
    closed_with(
        &server,
        1002,
        "half a close code",
        &Frame::new(frame::CLOSE, [3]).encode(),
    );
    let mut reason = 1000_u16.to_be_bytes().to_vec();
    reason.extend(b"\xFF\xFE");
    closed_with(
        &server,
        1007,
        "a close reason that is not UTF-8",
        &Frame::new(frame::CLOSE, reason).encode(),
    );
}

fn text_that_is_not_utf8_is_1007(program: Program) {
    let server = program.start("");
    let bad: [&[u8]; 8] = [
        b"\xFF",
        b"fine\x80",
        b"\xC0\xAF",
        b"\xE0\x80\x80",
        b"\xED\xA0\x80",
        b"\xF4\x90\x80\x80",
        b"cut short \xF0\x9F\xA6",
        b"{\"type\":\"chat\",\"name\":\"\xFF\",\"text\":\"Hello\"}",
    ];
    for bytes in bad {
        closed_with(
            &server,
            1007,
            "not UTF-8",
            &Frame::new(frame::TEXT, bytes).encode(),
        );
    }
}

/// As soon as it is seen (Autobahn's 6.4.3 and 6.4.4): in the middle of a frame, however it comes.
fn text_that_is_not_utf8_is_refused_before_it_is_whole(program: Program) {
    let server = program.start("--ping-interval 1h");
    let crab = "🦀".as_bytes();
    let beginnings: [&[&[u8]]; 4] = [
        &[b"fine ", &[0xF4, 0x90]],
        &[&[0xCE, 0xBA], &[0xE1], &[0xBD], &[0xB9, 0xED], &[0xA0]],
        &[&crab[..3], b"x"],
        &[&[b'x'; 5000], &[0xFF]],
    ];
    for pieces in beginnings {
        for fragments in [vec![], vec![&b"fine"[..], &crab[..1], &crab[1..]]] {
            let mut client = server.open("/ws/echo");
            for (index, fragment) in fragments.iter().enumerate() {
                let opcode = if index == 0 {
                    frame::TEXT
                } else {
                    CONTINUATION
                };
                client.send(&Frame::unfinished(opcode, fragment));
            }
            let opcode = if fragments.is_empty() {
                frame::TEXT
            } else {
                CONTINUATION
            };
            let come = pieces.concat();
            let frame = Frame::new(opcode, [&come[..], &[b'.'; 2000]].concat()).encode();
            let mut rest = &frame[..frame.len() - 2000];
            let header = rest.len() - come.len();
            for piece in [header]
                .into_iter()
                .chain(pieces.iter().map(|piece| piece.len()))
            {
                client.wire().send(&rest[..piece]);
                rest = &rest[piece..];
            }
            assert_eq!(client.await_close(), Some(1007), "{come:?}");
            client.wire().read_to_end();
        }
    }
}

fn violations_are_counted(program: Program) {
    let server = program.start("");
    let (protocol, utf8) = (
        Tally::new(&server, "protocol_error"),
        Tally::new(&server, "bad_utf8"),
    );
    closed_with(
        &server,
        1002,
        "an unmasked frame",
        &Frame::new(frame::TEXT, "").encode_unmasked(),
    );
    closed_with(
        &server,
        1002,
        "a bad close code",
        &Frame::close(1005, "").encode(),
    );
    closed_with(
        &server,
        1007,
        "not UTF-8",
        &Frame::new(frame::TEXT, b"\xFF").encode(),
    );
    // On two endpoints each.
    protocol.rises_by(4);
    utf8.rises_by(2);
}

/// A read that ends in an error still delivers what came before it.
fn what_came_before_a_violation_is_answered_first(program: Program) {
    let server = program.start("");
    let bad_endings = [
        (Frame::new(frame::TEXT, "unmasked").encode_unmasked(), 1002),
        (Frame::new(frame::TEXT, b"\xFF").encode(), 1007),
        (
            Frame::new(frame::BINARY, vec![1; 64 * 1024 + 1]).encode(),
            1009,
        ),
    ];
    for (bad_ending, code) in bad_endings {
        let mut client = server.open("/ws/echo");
        let mut bytes = Frame::new(frame::TEXT, "one").encode();
        bytes.extend(Frame::new(frame::PING, "two").encode());
        bytes.extend(Frame::new(frame::BINARY, "three").encode());
        bytes.extend(&bad_ending);
        bytes.extend(Frame::new(frame::TEXT, "not any more").encode());
        client.wire().send(&bytes);
        assert_eq!(
            client.next_frame_but_pings(),
            Frame::new(frame::TEXT, "one")
        );
        assert_eq!(
            client.next_frame_but_pings(),
            Frame::new(frame::PONG, "two")
        );
        assert_eq!(
            client.next_frame_but_pings(),
            Frame::new(frame::BINARY, "three")
        );
        assert_eq!(
            crate::client::close_code(&client.next_frame_but_pings()),
            Some(code),
            "and nothing before the Close"
        );
        client.wire().read_to_end();
    }
}

fn what_was_said_before_a_violation_is_heard(program: Program) {
    let server = program.start("");
    let mut bystander = server.join();
    let mut client = server.join();
    assert_eq!(bystander.next_json()["code"], "joined");
    let message = Frame::new(
        frame::TEXT,
        "{\"type\":\"chat\",\"name\":\"Alice\",\"text\":\"last words\"}",
    );
    client.wire().send(
        &[
            message.encode(),
            Frame::new(frame::TEXT, "unmasked").encode_unmasked(),
        ]
        .concat(),
    );
    assert_eq!(
        client.next_json()["text"],
        "last words",
        "everyone hears it, the sender included"
    );
    assert_eq!(
        crate::client::close_code(&client.next_frame_but_pings()),
        Some(1002)
    );
    assert_eq!(bystander.next_json()["text"], "last words");
    assert_eq!(bystander.next_json()["code"], "left");
}

/// Closing a socket with unread input sends a reset, which can overtake the Close and destroy it.
fn a_close_is_not_lost_to_what_is_still_on_its_way(program: Program) {
    let server = program.start("");
    let rest = Frame::new(frame::BINARY, vec![1; 60_000])
        .encode()
        .repeat(10);
    for _ in 0..20 {
        let mut client = server.open("/ws/echo");
        client
            .wire()
            .send(&Frame::new(frame::TEXT, "unmasked").encode_unmasked());
        client.wire().send(&rest);
        assert_eq!(client.await_close(), Some(1002));
        assert_eq!(
            client.wire().read_to_end(),
            Ending::Closed,
            "in order, not with a reset"
        );
    }
}

fn the_others_only_hear_that_it_left(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut bystander = server.join();
    let bad = [
        Frame::new(frame::TEXT, "unmasked").encode_unmasked(),
        Frame::new(frame::TEXT, b"\xFF").encode(),
        Frame::new(0x3, "").encode(),
        header(0x80 | frame::TEXT, 1 << 40),
        Frame::close(1005, "").encode(),
    ];
    for bytes in &bad {
        let mut client = server.join();
        assert_eq!(bystander.next_json()["code"], "joined");
        client.wire().send(bytes);
        client.await_close();
        client.wire().read_to_end();
        assert_eq!(bystander.next_json()["code"], "left");
        bystander.say("Bob", "unharmed");
        assert_eq!(bystander.next_json()["text"], "unharmed");
    }
}

/// Bytes of a xorshift generator: no meaning, but the same in every run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

fn noise_after_the_upgrade_is_survived(program: Program) {
    let server = program.start("");
    let mut bystander = server.open("/ws/echo");
    for seed in 0..100 {
        let mut client = server.open(
            ["/ws/chat", "/ws/dashboard", "/ws/echo"][usize::try_from(seed % 3).unwrap_or(0)],
        );
        // The server may close at any byte of it.
        let _ = client.wire().try_send(&noise(seed, 300));
        client.wire().finish_writing();
        client.wire().read_to_end();
        bystander.text("unharmed");
        assert_eq!(bystander.next_text(), "unharmed");
    }
}

fn many_bad_clients_do_not_grow_memory(program: Program) {
    let server = program.start("");
    let misbehave = |rounds: u32| {
        for round in 0..rounds {
            let mut client: Client = server.open("/ws/chat");
            let bytes = match round % 4 {
                0 => Frame::new(frame::TEXT, "unmasked").encode_unmasked(),
                1 => Frame::new(frame::TEXT, b"\xFF").encode(),
                2 => header(0x80 | frame::TEXT, 1 << 40),
                _ => [
                    Frame::unfinished(frame::TEXT, [b' '; 10_000]).encode(),
                    header(0x83, 0),
                ]
                .concat(),
            };
            client.wire().send(&bytes);
            client.await_close();
        }
    };
    // The first clients warm the allocator up.
    misbehave(40);
    #[cfg(target_os = "linux")]
    let before = server.process.memory_kib("VmRSS");
    misbehave(200);
    #[cfg(target_os = "linux")]
    {
        let grown = server.process.memory_kib("VmRSS").saturating_sub(before);
        assert!(grown < 2048, "{grown} KiB after 200 bad clients");
    }
}
