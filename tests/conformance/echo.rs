//! `/ws/echo`: text and binary messages back as they came, and the control frames that every endpoint answers.

use crate::client::Message;
use crate::frame::{self, Frame};
use crate::harness::Program;

conformance! {
    text_comes_back,
    binary_comes_back,
    an_empty_message_comes_back_empty,
    the_largest_message_comes_back,
    many_messages_come_back_in_order,
    messages_right_behind_each_other_come_back,
    a_message_in_single_bytes_comes_back,
    a_ping_is_answered_with_its_payload,
    an_unasked_pong_is_ignored,
}

fn text_comes_back(program: Program) {
    let server = program.start("");
    let mut client = server.open("/ws/echo");
    for text in [
        "Hello",
        "Chào 🌊 \0 \u{202e}",
        "{\"type\":\"chat\"}",
        "no JSON",
    ] {
        client.text(text);
        assert_eq!(client.message(), Message::Text(text.to_owned()));
    }
}

fn binary_comes_back(program: Program) {
    let server = program.start("");
    let mut client = server.open("/ws/echo");
    let every_byte: Vec<u8> = (0..=255).collect();
    client.send(&Frame::new(frame::BINARY, &every_byte));
    assert_eq!(client.message(), Message::Binary(every_byte));
}

fn an_empty_message_comes_back_empty(program: Program) {
    let server = program.start("");
    let mut client = server.open("/ws/echo");
    client.text("");
    assert_eq!(client.message(), Message::Text(String::new()));
    client.send(&Frame::new(frame::BINARY, ""));
    assert_eq!(client.message(), Message::Binary(Vec::new()));
}

/// Every length at which the form of a frame's header changes, up to the default limit of 64 KiB.
fn the_largest_message_comes_back(program: Program) {
    let server = program.start("");
    let mut client = server.open("/ws/echo");
    for length in [1, 125, 126, 127, 128, 65_535, 65_536] {
        client.send(&Frame::new(frame::BINARY, vec![0xA5; length]));
        assert_eq!(client.message(), Message::Binary(vec![0xA5; length]));
    }
}

fn many_messages_come_back_in_order(program: Program) {
    let server = program.start("");
    let mut client = server.open("/ws/echo");
    for number in 0..500 {
        client.text(format!("{number}"));
    }
    for number in 0..500 {
        assert_eq!(client.next_text(), number.to_string());
    }
}

fn messages_right_behind_each_other_come_back(program: Program) {
    let server = program.start("");
    let mut client = server.open("/ws/echo");
    let burst: Vec<u8> = (0..200)
        .flat_map(|number| Frame::new(frame::TEXT, format!("{number}")).encode())
        .collect();
    client.wire().send(&burst);
    for number in 0..200 {
        assert_eq!(client.next_text(), number.to_string());
    }
}

fn a_message_in_single_bytes_comes_back(program: Program) {
    let server = program.start("");
    let mut client = server.open("/ws/echo");
    for byte in Frame::new(frame::TEXT, "một 🦀").encode() {
        client.wire().send(&[byte]);
    }
    assert_eq!(client.next_text(), "một 🦀");
}

fn a_ping_is_answered_with_its_payload(program: Program) {
    let server = program.start("--metric-interval 1h");
    for path in ["/ws/chat", "/ws/dashboard", "/ws/echo"] {
        let mut client = server.open(path);
        if path != "/ws/echo" {
            client.next_json();
        }
        for payload in [&b""[..], b"are you there?", &[0xFF; 125]] {
            client.send(&Frame::new(frame::PING, payload));
            assert_eq!(
                client.next_frame_but_pings(),
                Frame::new(frame::PONG, payload),
                "{path}"
            );
        }
    }
}

fn an_unasked_pong_is_ignored(program: Program) {
    let server = program.start("");
    let mut client = server.open("/ws/echo");
    client.send(&Frame::new(frame::PONG, "nobody asked"));
    client.send(&Frame::new(frame::PONG, ""));
    client.text("still here");
    assert_eq!(client.next_text(), "still here");
}
