//! A message with a `cid`: acknowledged to its sender, and broadcast once however often it is sent.

use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::Program;

conformance! {
    the_sender_alone_is_acknowledged,
    without_a_cid_there_is_no_acknowledgement,
    a_cid_has_1_to_64_characters,
    a_repeated_cid_is_acknowledged_but_not_broadcast,
    the_same_cid_with_another_text_or_name_is_another_message,
    a_repeated_cid_does_not_use_the_rate_limit_up,
    a_cid_is_forgotten_with_its_message,
    what_was_refused_may_be_sent_again_under_its_cid,
}

/// Says something with a `cid` and returns the id in its acknowledgement. The broadcast, if any, may come on
/// either side of it.
fn acknowledged(client: &mut Client, text: &str, cid: &str) -> u64 {
    client.say_with_cid(text, cid);
    let mut received = vec![client.next_json()];
    while received.iter().all(|value| value["type"] != "ack") {
        received.push(client.next_json());
    }
    received.extend(client.answers_so_far());
    let acks: Vec<_> = received
        .iter()
        .filter(|value| value["type"] == "ack")
        .collect();
    assert_eq!(acks.len(), 1, "{received:?}");
    assert_eq!(acks[0]["cid"], cid);
    acks[0]["id"].as_u64().expect("an id")
}

fn texts_of_chats(received: &[Value]) -> Vec<&str> {
    let chats = received.iter().filter(|value| value["type"] == "chat");
    chats
        .map(|chat| chat["text"].as_str().expect("a text"))
        .collect()
}

fn the_sender_alone_is_acknowledged(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut bystander = server.join();
    let mut sender = server.join();
    assert_eq!(bystander.next_json()["code"], "joined");
    sender.say_with_cid("Hello", "mine");
    let mut received = [sender.next_json(), sender.next_json()];
    received.sort_by_key(|value| value["type"].to_string());
    let [ack, chat] = received;
    assert_eq!(
        (&chat["type"], &chat["text"], &chat["id"]),
        (&json!("chat"), &json!("Hello"), &json!(1))
    );
    assert_eq!(chat.get("cid"), None, "the broadcast is the same for all");
    assert_eq!(
        ack,
        json!({"type": "ack", "cid": "mine", "id": 1, "ts": chat["ts"], "stored": "room"})
    );
    assert_eq!(bystander.next_json(), chat);
    assert_eq!(bystander.heard_so_far(), [] as [Value; 0]);
}

fn without_a_cid_there_is_no_acknowledgement(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    client.say("Alice", "Hello");
    assert_eq!(client.next_json()["type"], "chat");
    assert_eq!(client.answers_so_far(), [] as [Value; 0]);
}

fn a_cid_has_1_to_64_characters(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    let good = ["x", "0", "c-1:\"\\/\0é", &"x".repeat(64), &"🦀".repeat(64)];
    for (id, cid) in (1..).zip(good) {
        assert_eq!(acknowledged(&mut client, "Hello", cid), id);
    }
    let too_long = ["x".repeat(65), "🦀".repeat(65), "x".repeat(5_000)].map(Value::from);
    let bad = [
        json!(""),
        json!(17),
        json!(null),
        json!(true),
        json!(["x"]),
        json!({"cid": "x"}),
    ];
    for cid in bad.into_iter().chain(too_long) {
        client.json(&json!({"type": "chat", "name": "Alice", "text": "Hello", "cid": cid}));
        let error = client.next_json();
        assert_eq!(
            error["code"], "bad_message",
            "{cid} is answered with {error}"
        );
        assert_eq!(error.get("cid"), None, "no valid cid to carry");
    }
    assert_eq!(
        acknowledged(&mut client, "Hello", "the next one"),
        6,
        "what is refused takes no id"
    );
}

fn a_repeated_cid_is_acknowledged_but_not_broadcast(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut bystander = server.join();
    let mut sender = server.join();
    assert_eq!(bystander.next_json()["code"], "joined");
    assert_eq!(acknowledged(&mut sender, "Hello", "mine"), 1);
    assert_eq!(acknowledged(&mut sender, "something else", "yours"), 2);
    assert_eq!(acknowledged(&mut sender, "Hello", "mine"), 1);
    sender.vanish();
    let mut reconnected = server.join();
    assert_eq!(acknowledged(&mut reconnected, "Hello", "mine"), 1);
    assert_eq!(acknowledged(&mut reconnected, "at last", "new"), 3);
    assert_eq!(
        texts_of_chats(&bystander.heard_so_far()),
        ["Hello", "something else", "at last"]
    );
}

/// Two people who chose one name and one `cid` say two things, and a name cannot be made to run into a `cid`.
fn the_same_cid_with_another_text_or_name_is_another_message(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut bystander = server.join();
    let (mut first, mut second) = (server.join(), server.join());
    assert_eq!(acknowledged(&mut first, "the one", "1"), 1);
    assert_eq!(acknowledged(&mut second, "the other", "1"), 2);
    assert_eq!(acknowledged(&mut first, "the one", "1"), 1, "a repeat");
    assert_eq!(acknowledged(&mut second, "the other", "1"), 2, "a repeat");
    for (id, name, cid) in [(3, "b\0c", "a"), (4, "c", "a\0b")] {
        first.json(&json!({"type": "chat", "name": name, "text": "same", "cid": cid}));
        let ack = loop {
            let value = first.next_json();
            if value["type"] == "ack" {
                break value;
            }
        };
        assert_eq!((&ack["cid"], &ack["id"]), (&json!(cid), &json!(id)));
    }
    assert_eq!(
        texts_of_chats(&bystander.heard_so_far()),
        ["the one", "the other", "same", "same"]
    );
}

fn a_repeated_cid_does_not_use_the_rate_limit_up(program: Program) {
    let server = program.start("--chat-interval 1h");
    let mut sender = server.join();
    assert_eq!(acknowledged(&mut sender, "Hello", "mine"), 1);
    assert_eq!(
        acknowledged(&mut sender, "Hello", "mine"),
        1,
        "nor is it held up by the limit"
    );
    sender.say_with_cid("too soon", "another");
    assert_eq!(sender.next_of_type("error")["code"], "rate_limited");
    sender.vanish();
    let mut reconnected = server.join();
    assert_eq!(acknowledged(&mut reconnected, "Hello", "mine"), 1);
    assert_eq!(
        acknowledged(&mut reconnected, "the first of this client", "third"),
        2
    );
}

fn a_cid_is_forgotten_with_its_message(program: Program) {
    let server = program.start("--chat-interval 0s --history 2");
    let mut client = server.join();
    assert_eq!(acknowledged(&mut client, "Hello", "first"), 1);
    assert_eq!(acknowledged(&mut client, "Hello", "second"), 2);
    assert_eq!(
        acknowledged(&mut client, "Hello", "first"),
        1,
        "still in the history kept"
    );
    assert_eq!(acknowledged(&mut client, "Hello", "third"), 3);
    assert_eq!(
        acknowledged(&mut client, "Hello", "second"),
        2,
        "still in the history kept"
    );
    assert_eq!(
        acknowledged(&mut client, "Hello", "first"),
        4,
        "no longer in the history"
    );
}

fn what_was_refused_may_be_sent_again_under_its_cid(program: Program) {
    let server = program.start("--chat-interval 1h");
    let mut first = server.join();
    first.say_with_cid("", "mine");
    assert_eq!(first.next_json()["code"], "empty");
    assert_eq!(acknowledged(&mut first, "Hello", "mine"), 1);
    first.say_with_cid("too soon", "next");
    assert_eq!(first.next_json()["code"], "rate_limited");
    let mut second = server.join();
    assert_eq!(acknowledged(&mut second, "too soon", "next"), 2);
}
