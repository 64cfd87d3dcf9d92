//! The checks that a chat message passes, in their order, and what the sender of a refused one is told.

use serde_json::{Value, json};

use crate::client::Client;
use crate::counters::Tally;
use crate::frame::{self, Frame};
use crate::harness::Program;
use crate::texts;

conformance! {
    what_is_no_json_is_refused,
    what_is_no_chat_message_is_refused,
    a_blank_name_or_text_is_refused,
    a_text_over_500_is_refused,
    the_first_failing_check_answers,
    only_the_sender_hears_of_a_refusal,
    a_refusal_names_the_cid_it_refuses,
    each_refusal_is_counted_by_its_code,
    half_a_surrogate_pair_is_refused,
    a_binary_frame_of_json_is_taken_like_text,
    the_last_of_two_equal_keys_counts,
    unknown_fields_are_ignored,
    deep_nesting_is_an_error_like_any_other,
}

/// Sends a text that must be refused, and checks the answer and that the connection goes on.
fn refused(client: &mut Client, message: impl AsRef<[u8]>, code: &str, text: &str) {
    let shown = String::from_utf8_lossy(message.as_ref())
        .chars()
        .take(100)
        .collect::<String>();
    client.text(message);
    let answer = client.next_json();
    assert!(answer["ts"].is_u64(), "{shown}: {answer}");
    let answer = (
        &answer["type"],
        &answer["code"],
        &answer["text"],
        answer.get("cid"),
    );
    assert_eq!(
        answer,
        (&json!("error"), &json!(code), &json!(text), None),
        "{shown}"
    );
}

/// Sends a message that must be accepted and returns it as it is broadcast.
fn accepted(client: &mut Client, message: &Value) -> Value {
    client.json(message);
    let broadcast = client.next_json();
    assert_eq!(
        broadcast["type"], "chat",
        "{message} is answered with {broadcast}"
    );
    broadcast
}

fn what_is_no_json_is_refused(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    let bad = [
        "",
        " ",
        "hello",
        "{",
        "}",
        "{\"type\":\"chat\",\"name\":\"Alice\",\"text\":\"Hello\"",
        "{\"type\":\"chat\",\"name\":\"Alice\",\"text\":\"Hello\"} and more",
        "{\"type\":\"chat\",\"name\":\"Alice\",\"text\":\"Hello\"}{}",
        "{\"type\":\"chat\",\"name\":\"Alice\",\"text\":\"Hello\",}",
        "{'type':'chat','name':'Alice','text':'Hello'}",
        "{type:\"chat\"}",
        "{\"type\":\"chat\",\"name\":\"a\0b\",\"text\":\"NUL as it is\"}",
        "{\"type\":\"chat\",\"name\":\"two\nlines\",\"text\":\"as they are\"}",
        "{\"type\":\"chat\",\"name\":1,\"text\":",
        "[1,2",
        "nul",
    ];
    for message in bad {
        refused(&mut client, message, "bad_json", texts::BAD_JSON);
    }
    client.send(&Frame::new(
        frame::BINARY,
        b"{\"type\":\"chat\",\"name\":\"\xFF\",\"text\":\"Hello\"}",
    ));
    assert_eq!(
        client.next_json()["code"],
        "bad_json",
        "binary that is not UTF-8"
    );
    accepted(
        &mut client,
        &json!({"type": "chat", "name": "Alice", "text": "still here"}),
    );
}

fn what_is_no_chat_message_is_refused(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    let bad = [
        json!(null),
        json!(true),
        json!(17),
        json!("chat"),
        json!([]),
        json!(["chat", "Alice", "Hello"]),
        json!([{"type": "chat", "name": "Alice", "text": "Hello"}]),
        json!({}),
        json!({"name": "Alice", "text": "Hello"}),
        json!({"type": "Chat", "name": "Alice", "text": "Hello"}),
        json!({"type": "system", "name": "Alice", "text": "Hello"}),
        json!({"type": "subscribe", "metrics": ["cpu"]}),
        json!({"type": null, "name": "Alice", "text": "Hello"}),
        json!({"type": ["chat"], "name": "Alice", "text": "Hello"}),
        json!({"type": "chat", "name": 1, "text": "Hello"}),
        json!({"type": "chat", "name": null, "text": "Hello"}),
        json!({"type": "chat", "name": ["Alice"], "text": "Hello"}),
        json!({"type": "chat", "name": "Alice", "text": 5.5}),
        json!({"type": "chat", "name": "Alice", "text": {"en": "Hello"}}),
        json!({"type": "chat", "name": "Alice", "text": false}),
    ];
    for message in bad {
        refused(
            &mut client,
            message.to_string(),
            "bad_message",
            texts::BAD_MESSAGE,
        );
    }
    accepted(
        &mut client,
        &json!({"type": "chat", "name": "Alice", "text": "still here"}),
    );
}

fn a_blank_name_or_text_is_refused(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    let bad = [
        json!({"type": "chat"}),
        json!({"type": "chat", "name": "Alice"}),
        json!({"type": "chat", "text": "Hello"}),
        json!({"type": "chat", "name": "", "text": "Hello"}),
        json!({"type": "chat", "name": "Alice", "text": ""}),
        json!({"type": "chat", "name": " ", "text": "Hello"}),
        json!({"type": "chat", "name": "Alice", "text": " \t\r\n "}),
        json!({"type": "chat", "name": "Alice", "text": "\u{3000}\u{a0}\u{2003}"}),
        json!({"type": "chat", "name": "Alice", "text": " ".repeat(600)}),
    ];
    for message in bad {
        refused(&mut client, message.to_string(), "empty", texts::EMPTY);
    }
    accepted(
        &mut client,
        &json!({"type": "chat", "name": "Alice", "text": "still here"}),
    );
}

fn a_text_over_500_is_refused(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    for letter in ["a", "ế", "e\u{302}", "🦀", "م"] {
        let per_letter = letter.chars().count();
        let longest = letter.repeat(500 / per_letter);
        let broadcast = accepted(
            &mut client,
            &json!({"type": "chat", "name": "Alice", "text": longest}),
        );
        assert_eq!(broadcast["text"], longest);
        let too_long = json!({"type": "chat", "name": "Alice", "text": format!("{longest}!")});
        refused(
            &mut client,
            too_long.to_string(),
            "too_long",
            texts::TOO_LONG,
        );
    }
    let padded = format!(" \n{}\t ", "a".repeat(500));
    let broadcast = accepted(
        &mut client,
        &json!({"type": "chat", "name": "Alice", "text": padded}),
    );
    assert_eq!(
        broadcast["text"],
        "a".repeat(500),
        "what is trimmed away does not count"
    );
}

fn the_first_failing_check_answers(program: Program) {
    let server = program.start("--chat-interval 1h");
    let mut client = server.join();
    let long = "a".repeat(501);
    let cid = "x".repeat(65);
    accepted(
        &mut client,
        &json!({"type": "chat", "name": "Alice", "text": "from now on the rate limit holds"}),
    );
    refused(
        &mut client,
        "{\"type\":\"nonsense\",",
        "bad_json",
        texts::BAD_JSON,
    );
    let blank_and_wrong = json!({"type": "nonsense", "name": "", "text": ""});
    refused(
        &mut client,
        blank_and_wrong.to_string(),
        "bad_message",
        texts::BAD_MESSAGE,
    );
    let no_name_and_wrong_text = json!({"type": "chat", "text": 1});
    refused(
        &mut client,
        no_name_and_wrong_text.to_string(),
        "bad_message",
        texts::BAD_MESSAGE,
    );
    let bad_cid_and_blank = json!({"type": "chat", "name": "", "text": long, "cid": cid});
    refused(
        &mut client,
        bad_cid_and_blank.to_string(),
        "bad_message",
        texts::BAD_MESSAGE,
    );
    let blank_and_long = json!({"type": "chat", "name": " ", "text": long});
    refused(
        &mut client,
        blank_and_long.to_string(),
        "empty",
        texts::EMPTY,
    );
    let long_and_early = json!({"type": "chat", "name": "Alice", "text": long});
    refused(
        &mut client,
        long_and_early.to_string(),
        "too_long",
        texts::TOO_LONG,
    );
    let early = json!({"type": "chat", "name": "Alice", "text": "Hello"});
    refused(
        &mut client,
        early.to_string(),
        "rate_limited",
        texts::RATE_LIMITED,
    );
}

fn only_the_sender_hears_of_a_refusal(program: Program) {
    let server = program.start("--chat-interval 1h");
    let mut bystander = server.join();
    let mut client = server.join();
    assert_eq!(bystander.next_json()["code"], "joined");
    accepted(
        &mut client,
        &json!({"type": "chat", "name": "Alice", "text": "once"}),
    );
    refused(&mut client, "no JSON", "bad_json", texts::BAD_JSON);
    refused(&mut client, "{}", "bad_message", texts::BAD_MESSAGE);
    refused(&mut client, "{\"type\":\"chat\"}", "empty", texts::EMPTY);
    let early = json!({"type": "chat", "name": "Alice", "text": "twice"});
    refused(
        &mut client,
        early.to_string(),
        "rate_limited",
        texts::RATE_LIMITED,
    );
    assert_eq!(bystander.next_json()["text"], "once");
    assert_eq!(bystander.heard_so_far(), [] as [Value; 0]);
}

fn a_refusal_names_the_cid_it_refuses(program: Program) {
    let server = program.start("--chat-interval 1h");
    let mut client = server.join();
    accepted(
        &mut client,
        &json!({"type": "chat", "name": "Alice", "text": "first"}),
    );
    let refusals = [
        (
            json!({"type": "chat", "name": "", "text": "Hello", "cid": "c-1"}),
            "empty",
        ),
        (
            json!({"type": "chat", "name": "Alice", "text": "a".repeat(501), "cid": "c-1"}),
            "too_long",
        ),
        (
            json!({"type": "chat", "name": "Alice", "text": "too soon", "cid": "c-1"}),
            "rate_limited",
        ),
    ];
    for (message, code) in refusals {
        client.json(&message);
        let answer = client.next_json();
        assert_eq!(
            (&answer["code"], &answer["cid"]),
            (&json!(code), &json!("c-1")),
            "{answer}"
        );
    }
}

fn each_refusal_is_counted_by_its_code(program: Program) {
    let server = program.start("--chat-interval 1h");
    let tallies = [
        "bad_json",
        "bad_message",
        "empty",
        "too_long",
        "rate_limited",
    ]
    .map(|code| Tally::new(&server, code));
    let mut client = server.join();
    client.say("Alice", "accepted");
    client.text("no JSON");
    client.text("[]");
    client.say("Alice", "");
    client.say("Alice", &"a".repeat(501));
    client.say("Alice", "too soon");
    for _ in 0..6 {
        client.next_json();
    }
    for tally in tallies {
        tally.rises_by(1);
    }
}

/// JSON's grammar allows it, no encoding of Unicode does; so it may count as no JSON or as no string.
fn half_a_surrogate_pair_is_refused(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    for half in ["\\ud83e", "\\udd80", "\\udd80\\ud83e"] {
        client.text(format!(
            "{{\"type\":\"chat\",\"name\":\"Alice\",\"text\":\"{half}\"}}"
        ));
        let answer = client.next_json();
        assert!(
            answer["code"] == "bad_json" || answer["code"] == "bad_message",
            "{answer}"
        );
    }
    accepted(
        &mut client,
        &json!({"type": "chat", "name": "Alice", "text": "still here"}),
    );
}

fn a_binary_frame_of_json_is_taken_like_text(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    client.send(&Frame::new(
        frame::BINARY,
        "{\"type\":\"chat\",\"name\":\"Alice\",\"text\":\"Chào 🌊\"}",
    ));
    assert_eq!(
        client.next_json()["text"],
        "Chào 🌊",
        "and the broadcast is a text frame"
    );
    client.send(&Frame::new(frame::BINARY, "{}"));
    assert_eq!(client.next_json()["code"], "bad_message");
    client.send(&Frame::new(frame::BINARY, ""));
    assert_eq!(client.next_json()["code"], "bad_json");
}

/// As in the original: Python's parser keeps the last value of a key.
fn the_last_of_two_equal_keys_counts(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    client.text("{\"type\":\"chat\",\"name\":\"Alice\",\"name\":\"Bob\",\"text\":\"first\",\"text\":\"last\"}");
    let message = client.next_json();
    assert_eq!(
        (&message["name"], &message["text"]),
        (&json!("Bob"), &json!("last"))
    );
    client.text("{\"type\":\"nonsense\",\"type\":\"chat\",\"name\":\"Alice\",\"text\":\"a chat in the end\"}");
    assert_eq!(client.next_json()["text"], "a chat in the end");
    let last_is_wrong = "{\"type\":\"chat\",\"type\":\"nonsense\",\"name\":\"Alice\",\"text\":\"no chat in the end\"}";
    refused(
        &mut client,
        last_is_wrong,
        "bad_message",
        texts::BAD_MESSAGE,
    );
}

fn unknown_fields_are_ignored(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    let message = json!({
        "type": "chat", "name": "Alice", "text": "Hello", "id": 99, "epoch": "mine", "online_count": -1,
        "metrics": "cpu", "constructor": {"prototype": [1, {"deep": null}]}, "": "",
    });
    let broadcast = accepted(&mut client, &message);
    assert_eq!(broadcast["id"], 1);
    assert_eq!(
        broadcast.as_object().expect("an object").len(),
        5,
        "{broadcast}"
    );
    client.text(
        " \r\n\t{ \"text\" : \"white space and order do not matter\" , \"name\":\"A\\u006cice\", \"type\":\"chat\"} ",
    );
    assert_eq!(client.next_json()["name"], "Alice");
}

/// Whether 20,000 brackets count as JSON depends on the parser; that they are refused and survived does not.
fn deep_nesting_is_an_error_like_any_other(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    let (open, shut) = ("[".repeat(20_000), "]".repeat(20_000));
    refused(&mut client, &open, "bad_json", texts::BAD_JSON);
    refused(
        &mut client,
        "{\"a\":".repeat(10_000),
        "bad_json",
        texts::BAD_JSON,
    );
    for nested in [
        format!("{open}{shut}"),
        format!("{{\"type\":{open}{shut}}}"),
    ] {
        client.text(nested);
        let answer = client.next_json();
        assert_eq!(answer["type"], "error", "{answer}");
        assert!(
            answer["code"] == "bad_json" || answer["code"] == "bad_message",
            "{answer}"
        );
    }
    let beside = format!(
        "{{\"type\":\"chat\",\"name\":\"Alice\",\"text\":\"Hello\",\"beside\":{open}{shut}}}"
    );
    client.text(beside);
    let answer = client.next_json();
    assert!(
        answer["type"] == "chat" || answer["code"] == "bad_json",
        "{answer}"
    );
    accepted(
        &mut client,
        &json!({"type": "chat", "name": "Alice", "text": "still here"}),
    );
}
