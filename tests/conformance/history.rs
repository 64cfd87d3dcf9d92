//! What a newcomer may hear of the past: `/ws/chat?history=N`.

use serde_json::{Value, json};

use crate::client::Client;
use crate::counters::await_unsent;
use crate::harness::{Program, Server};
use crate::wire::Wire;

conformance! {
    ids_count_up_without_gaps,
    without_a_query_nothing_of_the_past_is_sent,
    the_newest_messages_come_oldest_first,
    history_is_a_ring,
    what_comes_again_is_what_was_broadcast,
    nothing_is_missed_or_doubled_while_others_speak,
    a_long_history_waits_in_the_history_and_not_for_each_client,
    live_messages_follow_a_long_history_that_is_read_late,
    #[cfg(unix)]
    a_stopping_server_sends_the_rest_of_a_history_before_its_close,
    a_query_that_makes_no_sense_hurts_nobody,
}

/// Says `texts` in the room, all of which are accepted.
fn say_all(client: &mut Client, texts: std::ops::RangeInclusive<u32>) -> Vec<Value> {
    texts
        .map(|number| {
            client.say("Alice", &number.to_string());
            client.next_of_type("chat")
        })
        .collect()
}

/// The texts that a newcomer gets before anything else happens.
fn replayed(server: &Server, query: &str) -> Vec<Value> {
    let mut client = server.open(&format!("/ws/chat{query}"));
    assert_eq!(client.next_json()["code"], "welcome");
    let mut messages = client.answers_so_far();
    // Of the leaving of those before, a server tells when it gets to know of it.
    messages.retain(|message| message["type"] != "system");
    messages
}

fn texts(messages: &[Value]) -> Vec<&str> {
    messages
        .iter()
        .map(|message| message["text"].as_str().expect("a text"))
        .collect()
}

fn ids_count_up_without_gaps(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    for id in 1..=20 {
        client.text("a refused message takes no id");
        assert_eq!(client.next_json()["type"], "error");
        client.say("Alice", "Hello");
        assert_eq!(client.next_json()["id"], id);
    }
    let welcome = server.open("/ws/chat").next_json();
    assert_eq!(welcome["last_id"], 20);
    assert_eq!(welcome.get("recovered"), None);
}

fn without_a_query_nothing_of_the_past_is_sent(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut speaker = server.join();
    say_all(&mut speaker, 1..=3);
    for query in ["", "?", "?history=0", "?something=else"] {
        assert_eq!(replayed(&server, query), [] as [Value; 0], "{query}");
    }
}

fn the_newest_messages_come_oldest_first(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut speaker = server.join();
    say_all(&mut speaker, 1..=5);
    assert_eq!(texts(&replayed(&server, "?history=1")), ["5"]);
    assert_eq!(texts(&replayed(&server, "?history=3")), ["3", "4", "5"]);
    assert_eq!(
        texts(&replayed(&server, "?history=5")),
        ["1", "2", "3", "4", "5"]
    );
    assert_eq!(
        texts(&replayed(&server, "?history=50")),
        ["1", "2", "3", "4", "5"]
    );
    assert_eq!(
        texts(&replayed(&server, "?something=else&history=2")),
        ["4", "5"]
    );
}

fn history_is_a_ring(program: Program) {
    let server = program.start("--chat-interval 0s --history 3");
    let mut speaker = server.join();
    say_all(&mut speaker, 1..=10);
    assert_eq!(texts(&replayed(&server, "?history=50")), ["8", "9", "10"]);
    assert_eq!(texts(&replayed(&server, "?history=2")), ["9", "10"]);
}

fn what_comes_again_is_what_was_broadcast(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut speaker = server.join();
    speaker.json(&json!({"type": "chat", "name": "Alice \u{0}", "text": "Chào 🌊", "cid": "mine"}));
    let received = [speaker.next_json(), speaker.next_json()];
    let broadcast = received.into_iter().find(|value| value["type"] == "chat");
    assert_eq!(replayed(&server, "?history=1").pop(), broadcast);
}

/// Newcomers arrive while the room talks; each must find the live messages right behind its history.
fn nothing_is_missed_or_doubled_while_others_speak(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut speaker = server.join();
    let mut newcomers = Vec::new();
    for round in 0..20_u64 {
        for _ in 0..20 {
            speaker.say("Alice", "Hello");
        }
        let mut client = server.open(&format!("/ws/chat?history={}", round * 5));
        let welcome = client.next_json();
        newcomers.push((
            client,
            welcome["last_id"].as_u64().expect("an id"),
            round * 5,
        ));
    }
    speaker.say("Alice", "the end");
    for (mut client, last_id, history) in newcomers {
        let first = last_id - history.min(last_id) + 1;
        for id in first..=401 {
            assert_eq!(
                client.next_of_type("chat")["id"],
                id,
                "history {history} and last id {last_id}"
            );
        }
    }
    for id in 1..=401 {
        assert_eq!(speaker.next_of_type("chat")["id"], id);
    }
}

/// A server whose history is 2 MB, and the one who said all of it.
fn with_a_long_history(program: Program) -> (Server, Client) {
    let server = program.start("--chat-interval 0s");
    let mut speaker = server.join();
    let text = "🦀".repeat(500);
    for id in 1..=1000 {
        speaker.say("Alice", &text);
        assert_eq!(speaker.next_of_type("chat")["id"], id);
    }
    (server, speaker)
}

/// One who asks for all of it, and has read its welcome only.
fn ask_for_everything(server: &Server) -> Client {
    let wire = Wire::connect_with_small_window(server.address);
    let mut client = Client::upgrade(wire, server.address, "/ws/chat?history=1000", "")
        .unwrap_or_else(|response| panic!("refused: {response:?}"));
    assert_eq!(client.next_json()["code"], "welcome");
    client
}

fn a_long_history_waits_in_the_history_and_not_for_each_client(program: Program) {
    const CLIENTS: usize = 50;
    let (server, _speaker) = with_a_long_history(program);
    #[cfg(target_os = "linux")]
    let before = server.process.memory_kib("VmRSS");
    let deaf: Vec<Client> = (0..CLIENTS).map(|_| ask_for_everything(&server)).collect();
    await_unsent(&server, |unsent| unsent > 0.0);
    await_unsent(&server, |unsent| unsent < (CLIENTS * 64 * 1024) as f64);
    #[cfg(target_os = "linux")]
    {
        let grown = server.process.memory_kib("VmRSS").saturating_sub(before);
        assert!(
            grown < CLIENTS as u64 * 100,
            "{grown} KiB for {CLIENTS} clients"
        );
    }
    assert_eq!(deaf.len(), CLIENTS);
}

fn live_messages_follow_a_long_history_that_is_read_late(program: Program) {
    let (server, mut speaker) = with_a_long_history(program);
    let mut late = ask_for_everything(&server);
    for id in 1001..=1100 {
        speaker.say("Alice", "Hello");
        assert_eq!(speaker.next_of_type("chat")["id"], id);
    }
    // The oldest hundred are no longer there for newcomers.
    for id in 1..=1100 {
        assert_eq!(late.next_of_type("chat")["id"], id);
    }
    speaker.say("Alice", "and on");
    assert_eq!(late.next_of_type("chat")["id"], 1101);
}

#[cfg(unix)]
fn a_stopping_server_sends_the_rest_of_a_history_before_its_close(program: Program) {
    let (mut server, mut speaker) = with_a_long_history(program);
    let mut late = ask_for_everything(&server);
    speaker.say("Alice", "acknowledged just before the end");
    assert_eq!(speaker.next_of_type("chat")["id"], 1001);
    server.process.signal("TERM");
    speaker.expect_close(1001);
    for id in 1..=1001 {
        assert_eq!(late.next_of_type("chat")["id"], id);
    }
    late.expect_close(1001);
    server
        .process
        .wait_until(std::time::Instant::now() + crate::wire::PATIENCE);
}

fn a_query_that_makes_no_sense_hurts_nobody(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut speaker = server.join();
    say_all(&mut speaker, 1..=2);
    let long = format!("?since={}:1", "e".repeat(4_000));
    let queries = [
        "?history=",
        "?history=-1",
        "?history=1.5",
        "?history=abc",
        "?history=99999999999999999999999",
        "?history=%",
        "?history=%FF",
        "?since=",
        "?since=:",
        "?since=1",
        "?since=:1",
        "?since=a:b",
        "?since=a:-1",
        "?since=%00:%00",
        "?since=a:99999999999999999999999",
        "?since=a:1&since=b:2",
        "?history=1&since=a:1",
        "?&&==&",
        long.as_str(),
    ];
    for query in queries {
        match server.try_open(&format!("/ws/chat{query}"), "") {
            Ok(mut client) => assert_eq!(client.next_json()["code"], "welcome", "{query}"),
            Err(response) => assert_eq!(response.status, 400, "{query}"),
        }
    }
    say_all(&mut speaker, 3..=3);
}
