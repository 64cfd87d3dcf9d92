//! Coming back: `/ws/chat?since=EPOCH:ID` continues where a client was cut off, or says that it cannot.

use serde_json::Value;

use crate::harness::{Program, Server};

conformance! {
    an_epoch_is_one_life_of_the_history,
    what_was_missed_is_sent,
    one_who_missed_nothing_gets_nothing,
    what_the_ring_has_lost_cannot_be_recovered,
    a_wrong_epoch_cannot_be_recovered,
    the_query_may_be_percent_encoded,
    a_room_where_nobody_spoke_can_be_resumed,
    nothing_is_missed_or_doubled_by_one_who_keeps_coming_back,
}

fn epoch_of(server: &Server) -> String {
    let welcome = server.open("/ws/chat").next_json();
    welcome["epoch"].as_str().expect("a string").to_owned()
}

fn speak(server: &Server, messages: u32) {
    let mut speaker = server.join();
    for number in 1..=messages {
        speaker.say("Alice", &number.to_string());
        speaker.next_of_type("chat");
    }
}

/// What the welcome says of `recovered`, and the ids sent after it.
fn resumed(server: &Server, since: &str) -> (Value, Vec<u64>) {
    let mut client = server.open(&format!("/ws/chat?since={since}"));
    let welcome = client.next_json();
    assert_eq!(welcome["code"], "welcome");
    let mut messages = client.answers_so_far();
    // Of the leaving of those before, a server tells when it gets to know of it.
    messages.retain(|message| message["type"] != "system");
    (
        welcome["recovered"].clone(),
        messages
            .iter()
            .map(|message| message["id"].as_u64().expect("an id"))
            .collect(),
    )
}

fn an_epoch_is_one_life_of_the_history(program: Program) {
    let server = program.start("");
    let epoch = epoch_of(&server);
    speak(&server, 1);
    assert_eq!(epoch_of(&server), epoch);
    let another_life = program.start("");
    assert_ne!(epoch_of(&another_life), epoch);
}

fn what_was_missed_is_sent(program: Program) {
    let server = program.start("--chat-interval 0s");
    let epoch = epoch_of(&server);
    speak(&server, 6);
    assert_eq!(
        resumed(&server, &format!("{epoch}:0")),
        (true.into(), vec![1, 2, 3, 4, 5, 6])
    );
    assert_eq!(
        resumed(&server, &format!("{epoch}:4")),
        (true.into(), vec![5, 6])
    );
}

fn one_who_missed_nothing_gets_nothing(program: Program) {
    let server = program.start("--chat-interval 0s");
    let epoch = epoch_of(&server);
    speak(&server, 6);
    assert_eq!(
        resumed(&server, &format!("{epoch}:6")),
        (true.into(), vec![])
    );
}

fn what_the_ring_has_lost_cannot_be_recovered(program: Program) {
    let server = program.start("--chat-interval 0s --history 3");
    let epoch = epoch_of(&server);
    speak(&server, 10);
    assert_eq!(
        resumed(&server, &format!("{epoch}:8")),
        (true.into(), vec![9, 10])
    );
    assert_eq!(
        resumed(&server, &format!("{epoch}:7")),
        (true.into(), vec![8, 9, 10]),
        "the ring just reaches"
    );
    assert_eq!(
        resumed(&server, &format!("{epoch}:6")),
        (false.into(), vec![8, 9, 10]),
        "one is lost"
    );
    assert_eq!(
        resumed(&server, &format!("{epoch}:0")),
        (false.into(), vec![8, 9, 10])
    );
}

fn a_wrong_epoch_cannot_be_recovered(program: Program) {
    let server = program.start("--chat-interval 0s");
    let epoch = epoch_of(&server);
    speak(&server, 3);
    assert_eq!(
        resumed(&server, "another-life:2"),
        (false.into(), vec![1, 2, 3])
    );
    assert_eq!(
        resumed(&server, &format!("{epoch}x:2")),
        (false.into(), vec![1, 2, 3])
    );
}

/// A browser's `URLSearchParams` writes the colon as `%3A`.
fn the_query_may_be_percent_encoded(program: Program) {
    let server = program.start("--chat-interval 0s");
    let epoch = epoch_of(&server);
    speak(&server, 3);
    assert_eq!(
        resumed(&server, &format!("{epoch}%3A2")),
        (true.into(), vec![3])
    );
}

fn a_room_where_nobody_spoke_can_be_resumed(program: Program) {
    let server = program.start("");
    let epoch = epoch_of(&server);
    assert_eq!(
        resumed(&server, &format!("{epoch}:0")),
        (true.into(), vec![])
    );
    assert_eq!(resumed(&server, "another-life:0"), (false.into(), vec![]));
}

fn nothing_is_missed_or_doubled_by_one_who_keeps_coming_back(program: Program) {
    let server = program.start("--chat-interval 0s");
    let epoch = epoch_of(&server);
    let mut speaker = server.join();
    let mut last_id = 0;
    for round in 1..=20 {
        for _ in 0..20 {
            speaker.say("Alice", "Hello");
        }
        let mut client = server.open(&format!("/ws/chat?since={epoch}:{last_id}"));
        assert_eq!(client.next_json()["recovered"], true);
        // Cut off at some point that differs from round to round.
        for _ in 0..round {
            last_id += 1;
            assert_eq!(client.next_of_type("chat")["id"], last_id, "round {round}");
        }
        client.vanish();
    }
}
