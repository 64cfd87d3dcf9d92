//! The chat room: who hears what, in which words.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::Program;
use crate::texts;

conformance! {
    a_newcomer_is_welcomed_first,
    the_others_hear_of_a_newcomer,
    those_who_stay_hear_of_one_who_leaves,
    those_who_stay_hear_of_one_who_vanishes,
    those_who_stay_hear_of_one_who_stops_sending,
    only_the_room_counts_as_online,
    everyone_hears_a_message_in_the_same_bytes,
    times_are_the_servers_own,
    a_client_of_the_frozen_protocol_is_spoken_to,
}

fn milliseconds_now() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970");
    u64::try_from(now.as_millis()).expect("a clock before the year 500,000,000")
}

/// A notice of the room without its time.
fn notice(code: &str, text: &str, online: usize) -> Value {
    json!({"type": "system", "code": code, "text": text, "online_count": online})
}

fn without_time(mut value: Value) -> Value {
    let ts = value.as_object_mut().expect("an object").remove("ts");
    assert!(ts.is_some_and(|ts| ts.is_u64()), "no ts in {value}");
    value
}

fn a_newcomer_is_welcomed_first(program: Program) {
    let server = program.start("");
    for said_before in 0..3 {
        let mut client = server.open("/ws/chat");
        let welcome = client.next_json();
        assert!(welcome["ts"].is_u64(), "{welcome}");
        assert_eq!(welcome.get("recovered"), None, "nothing was to be resumed");
        assert_eq!(welcome["type"], "system");
        assert_eq!(welcome["code"], "welcome");
        assert_eq!(welcome["text"], texts::welcome(1));
        assert_eq!(welcome["online_count"], 1);
        assert_eq!(welcome["last_id"], said_before);
        assert_ne!(welcome["epoch"].as_str().expect("a string"), "");
        assert_eq!(client.heard_so_far(), [] as [Value; 0], "not of itself");
        client.leave();
    }
}

fn the_others_hear_of_a_newcomer(program: Program) {
    let server = program.start("");
    let mut first = server.join();
    let mut second = server.open("/ws/chat");
    assert_eq!(second.next_json()["text"], texts::welcome(2));
    assert_eq!(
        without_time(first.next_json()),
        notice("joined", texts::JOINED, 2)
    );
    let mut third = server.open("/ws/chat");
    assert_eq!(third.next_json()["text"], texts::welcome(3));
    for other in [&mut first, &mut second] {
        assert_eq!(
            without_time(other.next_json()),
            notice("joined", texts::JOINED, 3)
        );
    }
    for client in [&mut first, &mut second, &mut third] {
        let heard = client.heard_so_far();
        assert!(
            heard.iter().all(|value| value["type"] == "chat"),
            "{heard:?}"
        );
    }
}

fn those_who_stay_hear_of_one_who_leaves(program: Program) {
    let server = program.start("");
    let mut stays = server.join();
    let leaves = server.join();
    assert_eq!(stays.next_json()["code"], "joined");
    leaves.leave();
    assert_eq!(
        without_time(stays.next_json()),
        notice("left", texts::LEFT, 1)
    );
    assert_eq!(stays.heard_so_far(), [] as [Value; 0]);
}

fn those_who_stay_hear_of_one_who_vanishes(program: Program) {
    let server = program.start("");
    let mut stays = server.join();
    let vanishes = server.join();
    assert_eq!(stays.next_json()["code"], "joined");
    vanishes.vanish();
    assert_eq!(
        without_time(stays.next_json()),
        notice("left", texts::LEFT, 1)
    );
    assert_eq!(stays.heard_so_far(), [] as [Value; 0]);
}

/// A peer that has ended its stream can never send the Close that it owes, so it has left.
fn those_who_stay_hear_of_one_who_stops_sending(program: Program) {
    let server = program.start("");
    let mut stays = server.join();
    let mut stops = server.join();
    assert_eq!(stays.next_json()["code"], "joined");
    stops.wire().finish_writing();
    assert_eq!(
        without_time(stays.next_json()),
        notice("left", texts::LEFT, 1)
    );
    stops.wire().read_to_end();
}

fn only_the_room_counts_as_online(program: Program) {
    let server = program.start("");
    let _dashboard = server.watch();
    let _echo = server.open("/ws/echo");
    let mut client = server.open("/ws/chat");
    assert_eq!(client.next_json()["online_count"], 1);
    drop(server.watch());
    drop(server.open("/ws/echo"));
    assert_eq!(client.heard_so_far(), [] as [Value; 0]);
}

fn everyone_hears_a_message_in_the_same_bytes(program: Program) {
    let server = program.start("");
    let mut clients = [server.join(), server.join(), server.join()];
    for (index, client) in clients.iter_mut().enumerate() {
        for _ in index..2 {
            assert_eq!(client.next_json()["code"], "joined");
        }
    }
    clients[1]
        .json(&json!({"type": "chat", "name": "Alice", "text": "Hello everyone", "cid": "mine"}));
    // The acknowledgement and the broadcast come in either order.
    while clients[1].next_json()["type"] != "ack" {}
    clients[1].say("Alice", "too fast");
    clients[2].say("Bob", "Xin chào");
    let heard = clients
        .each_mut()
        .map(|client| [client.next_text(), client.next_text()]);
    assert_eq!(heard[0], heard[2]);
    let message: Value = serde_json::from_str(&heard[0][0]).expect("JSON");
    assert_eq!(
        without_time(message),
        json!({"type": "chat", "name": "Alice", "text": "Hello everyone", "id": 1})
    );
    let message: Value = serde_json::from_str(&heard[0][1]).expect("JSON");
    assert_eq!(
        without_time(message),
        json!({"type": "chat", "name": "Bob", "text": "Xin chào", "id": 2})
    );
}

fn times_are_the_servers_own(program: Program) {
    let server = program.start("--chat-interval 0s");
    let before = milliseconds_now();
    let mut client = server.open("/ws/chat");
    let mut answers = vec![client.next_json()];
    for ts in [
        json!(1),
        json!(-1.5),
        json!("yesterday"),
        json!(null),
        json!([2]),
    ] {
        client
            .json(&json!({"type": "chat", "name": "Alice", "text": "What time is it?", "ts": ts}));
        answers.push(client.next_json());
        assert_eq!(
            answers[answers.len() - 1]["type"],
            "chat",
            "a client's ts is ignored"
        );
    }
    client.text("no JSON");
    answers.push(client.next_json());
    let after = milliseconds_now();
    let times: Vec<_> = answers
        .iter()
        .map(|answer| answer["ts"].as_u64().expect("whole milliseconds"))
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!(
        before <= times[0] && times[6] <= after,
        "{before} {times:?} {after}"
    );
}

/// Part 1 of the protocol for one who knows nothing of part 2: its fields are there, nothing unasked comes.
fn a_client_of_the_frozen_protocol_is_spoken_to(program: Program) {
    let server = program.start("");
    let mut client = server.open("/ws/chat");
    let welcome = client.next_json();
    assert_eq!(welcome["text"], texts::welcome(1));
    client.json(&json!({"type": "chat", "name": "Alice", "text": "Hello everyone", "ts": 1_700_000_000_000_u64}));
    let message = client.next_json();
    assert_eq!(
        (&message["type"], &message["name"]),
        (&json!("chat"), &json!("Alice"))
    );
    assert_eq!(message["text"], "Hello everyone");
    client.json(
        &json!({"type": "chat", "name": "Alice", "text": "and again", "ts": 1_700_000_000_000_u64}),
    );
    let error = client.next_json();
    assert_eq!(
        (&error["type"], &error["text"]),
        (&json!("error"), &json!(texts::RATE_LIMITED))
    );
    assert_eq!(
        client.answers_so_far(),
        [] as [Value; 0],
        "no acknowledgement and no history unasked"
    );
}
