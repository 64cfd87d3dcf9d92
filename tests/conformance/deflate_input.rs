//! Compressed messages of a client (RFC 7692 §6), proper and not.

use crate::client::{Client, Message};
use crate::counters::Tally;
use crate::deflate::{OFFER, open};
use crate::frame::{self, BINARY, CONTINUATION, Frame, PING, PONG, TEXT, deflate};
use crate::harness::{Program, Server};

conformance! {
    a_compressed_message_is_read,
    compressed_and_plain_messages_may_alternate,
    a_compressed_message_may_come_in_fragments,
    each_message_stands_for_itself,
    a_stream_may_end_within_a_message,
    a_compressed_chat_message_is_heard,
    the_first_reserved_bit_where_it_must_not_be_is_1002,
    what_does_not_inflate_is_1007,
    text_that_is_not_utf8_once_inflated_is_1007,
    a_bomb_is_1009,
    a_compressed_frame_that_is_too_long_is_1009_at_its_header,
    what_comes_after_the_servers_close_is_not_read,
    compressed_fragments_that_carry_nothing_do_not_grow_memory,
}

fn echo(server: &Server) -> Client {
    open(server, "/ws/echo", OFFER)
}

fn a_compressed_message_is_read(program: Program) {
    let server = program.start("");
    let mut client = echo(&server);
    for text in ["", "Hello", "Chào 🌊 \0 \u{202e}", &"lặp lại ".repeat(5000)] {
        client.deflated(TEXT, text);
        assert_eq!(client.message(), Message::Text(text.to_owned()));
    }
    // Bytes that do not become smaller, up to the limit.
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(65_536)
    .collect();
    client.deflated(BINARY, &noise);
    assert_eq!(client.message(), Message::Binary(noise));
}

fn compressed_and_plain_messages_may_alternate(program: Program) {
    let server = program.start("");
    let mut client = echo(&server);
    let mut burst = Vec::new();
    for number in 0..100 {
        let text = format!("message {number}");
        burst.extend(Frame::deflated(TEXT, deflate(&text)).encode());
        burst.extend(Frame::new(TEXT, &text).encode());
        burst.extend(Frame::unfinished(TEXT, &text).encode());
        burst.extend(Frame::new(CONTINUATION, "!").encode());
    }
    client.wire().send(&burst);
    for number in 0..100 {
        for end in ["", "", "!"] {
            assert_eq!(client.next_text(), format!("message {number}{end}"));
        }
    }
    // One byte at a time.
    for byte in &burst[..200] {
        client.wire().send(&[*byte]);
    }
    assert_eq!(client.next_text(), "message 0");
}

fn a_compressed_message_may_come_in_fragments(program: Program) {
    let server = program.start("");
    let mut client = echo(&server);
    let text = "Chào 🌊, ".repeat(100);
    let deflated = deflate(&text);
    for size in [1, 2, 7, deflated.len()] {
        let mut opcode = TEXT;
        for piece in deflated.chunks(size) {
            client.send(&Frame {
                deflated: opcode == TEXT,
                last: false,
                ..Frame::new(opcode, piece)
            });
            opcode = CONTINUATION;
            client.send(&Frame::new(PING, "between"));
            assert_eq!(client.message(), Message::Pong(b"between".to_vec()));
            client.send(&Frame::new(PONG, ""));
        }
        client.send(&Frame::new(CONTINUATION, ""));
        assert_eq!(client.next_text(), text);
    }
}

/// The server keeps no window: the same bytes mean the same again.
fn each_message_stands_for_itself(program: Program) {
    let server = program.start("");
    let mut clients = [echo(&server), echo(&server)];
    for number in 0..50 {
        for (index, client) in clients.iter_mut().enumerate() {
            let text = format!("message {number} of client {index} ").repeat(10);
            client.deflated(TEXT, &text);
            client.forget_messages(15);
            assert_eq!(client.next_text(), text);
        }
    }
}

fn a_stream_may_end_within_a_message(program: Program) {
    let server = program.start("");
    let mut client = echo(&server);
    for payload in [
        &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00][..],
        &[
            0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00,
        ],
        &[
            0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00,
        ],
    ] {
        client.send(&Frame::deflated(TEXT, payload));
        assert_eq!(client.next_text(), "Hello", "an example of RFC 7692, 7.2.3");
    }
}

fn a_compressed_chat_message_is_heard(program: Program) {
    let server = program.start("");
    let mut plain = server.join();
    let mut client = open(&server, "/ws/chat", OFFER);
    assert_eq!(client.next_json()["code"], "welcome");
    client.deflated(
        TEXT,
        "{\"type\":\"chat\",\"name\":\"Alice\",\"text\":\"Chào 🌊\"}",
    );
    for client in [&mut client, &mut plain] {
        assert_eq!(client.next_of_type("chat")["text"], "Chào 🌊");
    }
    client.deflated(BINARY, "no JSON");
    assert_eq!(client.next_json()["code"], "bad_json");
}

/// Sends these bytes, and is closed with this code, counted for this reason.
#[track_caller]
fn closed_with(server: &Server, code: u16, reason: &'static str, bytes: &[u8]) {
    let tally = Tally::new(server, reason);
    let mut client = echo(server);
    client.wire().send(bytes);
    client.expect_close(code);
    tally.rises_by(1);
}

fn the_first_reserved_bit_where_it_must_not_be_is_1002(program: Program) {
    let server = program.start("");
    let hello = deflate("Hello");
    let begun = Frame {
        last: false,
        ..Frame::deflated(TEXT, &hello[..3])
    }
    .encode();
    let plain = Frame::unfinished(TEXT, "Hel").encode();
    let again = Frame::deflated(CONTINUATION, &hello[3..]).encode();
    let message = Frame::deflated(TEXT, &hello);
    let wrong = [
        [begun.clone(), again.clone()].concat(),
        [plain.clone(), again].concat(),
        [begun.clone(), message.encode()].concat(),
        [plain, message.encode()].concat(),
        [begun, Frame::deflated(PING, "").encode()].concat(),
        Frame::deflated(PING, "").encode(),
        Frame::deflated(PONG, "").encode(),
        Frame::deflated(frame::CLOSE, 1000_u16.to_be_bytes()).encode(),
        Frame::deflated(CONTINUATION, &hello).encode(),
        message.encode_with_reserved_bits(0x20),
        message.encode_with_reserved_bits(0x10),
    ];
    for bytes in wrong {
        closed_with(&server, 1002, "protocol_error", &bytes);
    }
}

fn what_does_not_inflate_is_1007(program: Program) {
    let server = program.start("");
    let hello = deflate("Hello");
    for payload in [&b""[..], b"Hello", &[0xFF; 20], &hello[..3], &hello[..5]] {
        for opcode in [TEXT, BINARY] {
            let bytes = Frame::deflated(opcode, payload).encode();
            closed_with(&server, 1007, "bad_deflate", &bytes);
        }
    }
}

fn text_that_is_not_utf8_once_inflated_is_1007(program: Program) {
    let server = program.start("");
    for text in [
        &[0xFF][..],
        b"fine \xED\xA0\x80",
        "🦀".as_bytes().split_last().expect("bytes").1,
    ] {
        let bytes = Frame::deflated(TEXT, deflate(text)).encode();
        closed_with(&server, 1007, "bad_utf8", &bytes);
    }
    let mut client = echo(&server);
    client.deflated(BINARY, [0xFF]);
    assert_eq!(client.message(), Message::Binary(vec![0xFF]));
}

fn a_bomb_is_1009(program: Program) {
    let server = program.start("--max-message 10KiB");
    let mut client = echo(&server);
    client.deflated(TEXT, "x".repeat(10 << 10));
    assert_eq!(client.next_text().len(), 10 << 10);
    #[cfg(target_os = "linux")]
    let before = server.process.memory_kib("VmRSS");
    for size in [(10 << 10) + 1, 8 << 20] {
        let bomb = deflate("x".repeat(size));
        closed_with(
            &server,
            1009,
            "too_big",
            &Frame::deflated(TEXT, &bomb).encode(),
        );
        let (first, rest) = bomb.split_at(bomb.len() / 2);
        let begun = Frame {
            last: false,
            ..Frame::deflated(TEXT, first)
        };
        let pieces = [begun.encode(), Frame::new(CONTINUATION, rest).encode()].concat();
        closed_with(&server, 1009, "too_big", &pieces);
    }
    #[cfg(target_os = "linux")]
    {
        let grown = server.process.memory_kib("VmRSS").saturating_sub(before);
        assert!(grown < 2048, "{grown} KiB for bombs of 8 MiB");
    }
}

fn a_compressed_frame_that_is_too_long_is_1009_at_its_header(program: Program) {
    let server = program.start("--max-message 10KiB");
    closed_with(
        &server,
        1009,
        "too_big",
        &frame::claim(TEXT | frame::RSV1, 1 << 20),
    );
    // Many that are not, each of them.
    let begun = Frame {
        last: false,
        ..Frame::deflated(BINARY, [0; 10 << 10])
    };
    let more = Frame::unfinished(CONTINUATION, [0; 10 << 10]);
    closed_with(
        &server,
        1009,
        "too_big",
        &[begun.encode(), more.encode()].concat(),
    );
}

fn what_comes_after_the_servers_close_is_not_read(program: Program) {
    let server = program.start("");
    let mut client = open(&server, "/ws/chat", OFFER);
    assert_eq!(client.next_json()["code"], "welcome");
    // The server closes for too many faults; what stands behind them does not inflate.
    let fault = Frame::deflated(TEXT, deflate("no JSON")).encode();
    let mut burst = fault.repeat(51);
    burst.extend(Frame::deflated(TEXT, "no DEFLATE").encode());
    burst.extend(
        Frame {
            last: false,
            ..Frame::deflated(TEXT, "no DEFLATE")
        }
        .encode(),
    );
    burst.extend(Frame::new(CONTINUATION, "no DEFLATE").encode());
    client.wire().send(&burst);
    client.expect_close(1008);
}

fn compressed_fragments_that_carry_nothing_do_not_grow_memory(program: Program) {
    let server = program.start("");
    let mut client = echo(&server);
    #[cfg(target_os = "linux")]
    let before = server.process.memory_kib("VmRSS");
    client.send(&Frame {
        last: false,
        ..Frame::deflated(TEXT, "")
    });
    let thousand = Frame::unfinished(CONTINUATION, "").encode().repeat(1000);
    for _ in 0..100 {
        client.wire().send(&thousand);
    }
    client.send(&Frame::new(CONTINUATION, deflate("Hello")));
    assert_eq!(client.next_text(), "Hello");
    #[cfg(target_os = "linux")]
    {
        let grown = server.process.memory_kib("VmRSS").saturating_sub(before);
        assert!(grown < 4096, "{grown} KiB for 100,000 empty fragments");
    }
}
