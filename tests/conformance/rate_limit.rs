//! One accepted message an interval and client.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::Client;
use crate::harness::Program;
use crate::texts;

conformance! {
    the_default_is_one_message_a_second,
    a_message_is_accepted_when_the_server_said,
    refusals_do_not_push_the_next_message_back,
    what_was_refused_does_not_use_the_limit_up,
    each_client_has_a_limit_of_its_own,
    an_interval_of_zero_is_no_limit,
}

/// Says something and returns the answer, a broadcast or an error.
fn answer_to(client: &mut Client, text: &str) -> Value {
    client.say("Alice", text);
    client.next_json()
}

fn retry_after(answer: &Value) -> Duration {
    assert_eq!(answer["code"], "rate_limited", "{answer}");
    assert_eq!(answer["text"], texts::RATE_LIMITED);
    Duration::from_millis(
        answer["retry_after_ms"]
            .as_u64()
            .expect("whole milliseconds"),
    )
}

fn the_default_is_one_message_a_second(program: Program) {
    let server = program.start("");
    let mut client = server.join();
    let sent = Instant::now();
    assert_eq!(answer_to(&mut client, "first")["type"], "chat");
    let wait = retry_after(&answer_to(&mut client, "second"));
    let least = Duration::from_secs(1).saturating_sub(sent.elapsed());
    assert!(
        least <= wait && wait <= Duration::from_secs(1),
        "{wait:?} is not {least:?} to 1 s"
    );
}

fn a_message_is_accepted_when_the_server_said(program: Program) {
    let server = program.start("--chat-interval 500ms");
    let mut client = server.join();
    for round in 0..2 {
        assert_eq!(
            answer_to(&mut client, "in time")["type"],
            "chat",
            "round {round}"
        );
        let wait = retry_after(&answer_to(&mut client, "too soon"));
        assert!(wait <= Duration::from_millis(500), "{wait:?}");
        // The time itself is the event here: the server named the moment, and it must be right to the millisecond.
        thread::sleep(wait);
    }
}

fn refusals_do_not_push_the_next_message_back(program: Program) {
    let server = program.start("--chat-interval 1s");
    let mut client = server.join();
    assert_eq!(answer_to(&mut client, "first")["type"], "chat");
    let mut wait = retry_after(&answer_to(&mut client, "too soon"));
    for _ in 0..3 {
        thread::sleep(wait / 4);
        let left = retry_after(&answer_to(&mut client, "still too soon"));
        assert!(
            left < wait,
            "{left:?} left after {wait:?}: a refusal pushed the message back"
        );
        wait = left;
    }
    thread::sleep(wait);
    assert_eq!(answer_to(&mut client, "now")["type"], "chat");
}

fn what_was_refused_does_not_use_the_limit_up(program: Program) {
    let server = program.start("--chat-interval 1h");
    let mut client = server.join();
    assert_eq!(answer_to(&mut client, "")["code"], "empty");
    assert_eq!(answer_to(&mut client, &"a".repeat(501))["code"], "too_long");
    client.text("no JSON");
    assert_eq!(client.next_json()["code"], "bad_json");
    assert_eq!(
        answer_to(&mut client, "the first to be accepted")["type"],
        "chat"
    );
    assert_eq!(answer_to(&mut client, "the second")["code"], "rate_limited");
}

fn each_client_has_a_limit_of_its_own(program: Program) {
    let server = program.start("--chat-interval 1h");
    let mut first = server.join();
    assert_eq!(answer_to(&mut first, "first")["type"], "chat");
    let mut second = server.join();
    assert_eq!(
        answer_to(&mut second, "of the same name, but another client")["type"],
        "chat"
    );
    assert_eq!(answer_to(&mut second, "again")["code"], "rate_limited");
}

fn an_interval_of_zero_is_no_limit(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    for _ in 0..200 {
        client.say("Alice", "as fast as it goes");
    }
    for id in 1..=200 {
        assert_eq!(client.next_json()["id"], id);
    }
}
