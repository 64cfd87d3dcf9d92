//! Messages in several frames (RFC 6455, section 5.4).

use crate::client::{Client, Message};
use crate::frame::{self, CONTINUATION, Frame};
use crate::harness::Program;

conformance! {
    fragments_are_one_message,
    control_frames_may_come_between_fragments,
    a_character_may_break_across_fragments,
    utf8_that_breaks_for_good_is_1007,
    the_limit_is_the_whole_messages,
    endless_fragments_do_not_grow_memory,
    a_fragmented_chat_message_is_heard,
}

/// Sends the pieces as fragments of one message.
fn send_in_pieces(client: &mut Client, opcode: u8, pieces: &[&[u8]]) {
    for (index, piece) in pieces.iter().enumerate() {
        let opcode = if index == 0 { opcode } else { CONTINUATION };
        let last = index + 1 == pieces.len();
        client.send(&Frame {
            last,
            ..Frame::new(opcode, piece)
        });
    }
}

fn fragments_are_one_message(program: Program) {
    let server = program.start("");
    let mut client = server.open("/ws/echo");
    send_in_pieces(&mut client, frame::TEXT, &[b"Hel", b"", b"lo", b""]);
    assert_eq!(client.message(), Message::Text("Hello".to_owned()));
    send_in_pieces(&mut client, frame::BINARY, &[b"", &[0xFF], &[0x00]]);
    assert_eq!(client.message(), Message::Binary(vec![0xFF, 0x00]));
    send_in_pieces(&mut client, frame::TEXT, &[b"", b""]);
    assert_eq!(client.message(), Message::Text(String::new()));
}

fn control_frames_may_come_between_fragments(program: Program) {
    let server = program.start("");
    let mut client = server.open("/ws/echo");
    client.send(&Frame::unfinished(frame::TEXT, "Hel"));
    client.send(&Frame::new(frame::PING, "between"));
    assert_eq!(
        client.message(),
        Message::Pong(b"between".to_vec()),
        "before the message is whole"
    );
    client.send(&Frame::new(frame::PONG, ""));
    client.send(&Frame::new(CONTINUATION, "lo"));
    assert_eq!(client.next_text(), "Hello");
}

fn a_character_may_break_across_fragments(program: Program) {
    let server = program.start("");
    let mut client = server.open("/ws/echo");
    let bytes = "một 🦀".as_bytes();
    let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
    send_in_pieces(&mut client, frame::TEXT, &pieces);
    assert_eq!(client.next_text(), "một 🦀");
}

fn utf8_that_breaks_for_good_is_1007(program: Program) {
    let server = program.start("");
    let crab = "🦀".as_bytes();
    let broken: [&[&[u8]]; 4] = [
        &[&crab[..2], b"x"],
        &[&crab[..3], b""],
        &[b"fine", &crab[1..]],
        &[b"fine", b"too", &[0xED, 0xA0], &[0x80]],
    ];
    for pieces in broken {
        let mut client = server.open("/ws/echo");
        send_in_pieces(&mut client, frame::TEXT, pieces);
        client.expect_close(1007);
    }
}

fn the_limit_is_the_whole_messages(program: Program) {
    let server = program.start("--max-message 1KiB");
    let mut client = server.open("/ws/echo");
    send_in_pieces(
        &mut client,
        frame::BINARY,
        &[&[1; 500], &[1; 500], &[1; 24]],
    );
    assert_eq!(client.message(), Message::Binary(vec![1; 1024]));
    send_in_pieces(
        &mut client,
        frame::BINARY,
        &[&[1; 500], &[1; 500], &[1; 25]],
    );
    client.expect_close(1009);
}

/// Empty fragments count nothing towards a limit in bytes, so something else must keep them from piling up.
fn endless_fragments_do_not_grow_memory(program: Program) {
    let server = program.start("");
    let mut client = server.open("/ws/echo");
    #[cfg(target_os = "linux")]
    let before = server.process.memory_kib("VmRSS");
    client.send(&Frame::unfinished(frame::TEXT, ""));
    let thousand = Frame::unfinished(CONTINUATION, "").encode().repeat(1000);
    for _ in 0..100 {
        // The server may have refused the client for it; that is as good.
        if client.wire().try_send(&thousand).is_err() {
            break;
        }
    }
    server.open("/ws/echo").leave();
    #[cfg(target_os = "linux")]
    {
        let grown = server.process.memory_kib("VmRSS").saturating_sub(before);
        assert!(grown < 4096, "{grown} KiB for 100,000 empty fragments");
    }
}

fn a_fragmented_chat_message_is_heard(program: Program) {
    let server = program.start("");
    let mut client = server.join();
    let message = "{\"type\":\"chat\",\"name\":\"Alice\",\"text\":\"Chào 🌊\"}".as_bytes();
    let pieces: Vec<&[u8]> = message.chunks(7).collect();
    send_in_pieces(&mut client, frame::TEXT, &pieces);
    assert_eq!(client.next_json()["text"], "Chào 🌊");
}
