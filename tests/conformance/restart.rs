//! The gentle drain: clients are told to leave a few at a time, and the room goes on for the others.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, Message};
use crate::frame::{self, Frame};
use crate::harness::{Program, Server};
use crate::wire::{Ending, PATIENCE};

conformance! {
    clients_are_closed_one_after_the_other_with_1012,
    the_room_goes_on_for_those_who_are_in,
    what_is_acknowledged_is_heard_by_all_who_stay,
    no_client_is_let_in_meanwhile,
    a_second_signal_stops_at_once,
    a_server_without_clients_stops_at_once,
    the_last_client_to_leave_ends_it,
    an_unanswered_close_is_given_up_meanwhile,
}

fn assert_exits(mut server: Server, limit: Duration) {
    let status = server.process.wait_until(Instant::now() + limit);
    assert_eq!(status.code(), Some(0), "{status}");
}

/// Reads what still comes up to the last message and the Close behind it, and answers that; tells the message.
fn await_restart(client: &mut Client) -> Value {
    let mut last = Value::Null;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.try_message(deadline).expect("a Close") {
            Message::Text(text) => last = serde_json::from_str(&text).expect("JSON"),
            Message::Close(code) => {
                assert_eq!(code, Some(1012), "after {last}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let _ = client.wire().try_send(&Frame::close(1012, "").encode());
    client.expect_nothing_more();
    assert_eq!(
        (&last["type"], &last["code"]),
        (&json!("system"), &json!("restart"))
    );
    assert!(last["text"].is_string() && last["ts"].is_u64(), "{last}");
    last
}

fn clients_are_closed_one_after_the_other_with_1012(program: Program) {
    const CLIENTS: u32 = 6;
    let spread = Duration::from_millis(1200);
    let server = program.start("--drain-spread 1200ms");
    let mut clients = vec![server.join(), server.join(), server.join()];
    clients.extend([server.watch(), server.watch(), server.open("/ws/echo")]);
    server.process.signal("TERM");
    let signalled = Instant::now();
    let told = std::thread::scope(|scope| {
        let readers: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(move || (await_restart(client), signalled.elapsed())))
            .collect();
        let told = readers
            .into_iter()
            .map(|reader| reader.join().expect("told"));
        told.collect::<Vec<_>>()
    });
    let last = told.iter().map(|(_, at)| *at).max().expect("some");
    // The server may have been told a little before the clock was read.
    let slack = Duration::from_millis(50);
    assert!(
        last + slack >= spread / CLIENTS * (CLIENTS - 1),
        "all within {last:?}"
    );
    let waits: BTreeSet<_> = told
        .iter()
        .map(|(message, _)| message["retry_after_ms"].as_u64().expect("milliseconds"))
        .collect();
    assert!(waits.len() > 1, "who leaves first waits longest: {waits:?}");
    assert!(
        waits.iter().all(|wait| (1000..=3100).contains(wait)),
        "{waits:?}"
    );
    assert_exits(server, Duration::from_secs(3));
}

/// A server that has told the first of these members to leave, and the others not for a long time: they come first.
fn one_of_three_told(program: Program, flags: &str) -> (Server, [Client; 2], Client) {
    let server = program.start(&format!("--drain-spread 1h --chat-interval 0s {flags}"));
    let mut clients: Vec<_> = (0..3).map(|_| server.join()).collect();
    server.process.signal("TERM");
    server
        .process
        .stderr
        .wait_for("the drain", |line| line.contains("Restarting: 3 clients"));
    let mut told = None;
    for (number, client) in clients.iter_mut().enumerate() {
        client.say_with_cid("still in?", "1");
        loop {
            match client.message() {
                Message::Close(code) => {
                    assert_eq!(code, Some(1012));
                    assert_eq!(told.replace(number), None, "one at once");
                    break;
                }
                Message::Text(text) if text.contains("\"type\":\"ack\"") => break,
                _ => {}
            }
        }
    }
    let told = clients.remove(told.expect("the first is told at once"));
    let stay = clients.try_into().unwrap_or_else(|_| panic!("two stay"));
    (server, stay, told)
}

fn the_room_goes_on_for_those_who_are_in(program: Program) {
    let (server, [mut one, mut other], mut told) = one_of_three_told(program, "");
    told.send(&Frame::close(1012, ""));
    told.expect_nothing_more();
    for (text, speaker) in [("from one", 0), ("from the other", 1)] {
        let speaker = if speaker == 0 { &mut one } else { &mut other };
        speaker.say_with_cid(text, text);
        for client in [&mut one, &mut other] {
            while client.next_of_type_among(&["chat"])["text"] != text {}
        }
    }
    server.process.signal("TERM");
    assert_exits(server, Duration::from_secs(3));
}

/// Everyone speaks as fast as it can when the signal comes. Repeated, because what it looks for is a race.
fn what_is_acknowledged_is_heard_by_all_who_stay(program: Program) {
    const CLIENTS: usize = 48;
    const MESSAGES: usize = 12;
    for round in 0..12 {
        let server = program.start("--chat-interval 0s --log warn --drain-spread 120ms");
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.join()).collect();
        server.process.signal("TERM");
        let heard = std::thread::scope(|scope| {
            let talkers: Vec<_> = clients
                .iter_mut()
                .enumerate()
                .map(|(number, client)| scope.spawn(move || talk(client, number, MESSAGES)))
                .collect();
            let heard = talkers
                .into_iter()
                .map(|talker| talker.join().expect("heard"));
            heard.collect::<Vec<_>>()
        });
        let all = heard
            .iter()
            .map(|(ids, _)| ids)
            .max_by_key(|ids| ids.len())
            .expect("some");
        for (ids, acknowledged) in &heard {
            let last = ids.len() as u64;
            assert!(
                ids.iter().copied().eq(1..=last),
                "round {round}: a gap in {ids:?}"
            );
            assert!(
                acknowledged.is_subset(ids),
                "round {round}: its own was not heard"
            );
            assert!(
                acknowledged.is_subset(all),
                "round {round}: not heard by who stayed"
            );
        }
        assert_exits(server, Duration::from_secs(3));
    }
}

/// Says so many things and hears what comes until the Close: the ids heard, and those acknowledged.
fn talk(client: &mut Client, number: usize, messages: usize) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let (mut heard, mut acknowledged) = (BTreeSet::new(), BTreeSet::new());
    for message in 0..messages {
        let chat = json!({"type": "chat", "name": format!("n{number}"), "text": "x", "cid": message.to_string()});
        if client
            .wire()
            .try_send(&Frame::new(frame::TEXT, chat.to_string()).encode())
            .is_err()
        {
            break;
        }
    }
    loop {
        match client.message() {
            Message::Text(text) => {
                let value: Value = serde_json::from_str(&text).expect("JSON");
                match value["type"].as_str() {
                    Some("ack") => acknowledged.extend(value["id"].as_u64()),
                    Some("chat") => heard.extend(value["id"].as_u64()),
                    _ => {}
                }
            }
            Message::Close(code) => {
                assert_eq!(code, Some(1012));
                let _ = client.wire().try_send(&Frame::close(1012, "").encode());
                return (heard, acknowledged);
            }
            other => panic!("{other:?}"),
        }
    }
}

fn no_client_is_let_in_meanwhile(program: Program) {
    let (server, _stay, _told) = one_of_three_told(program, "");
    assert_eq!(server.get("/healthz").status, 503);
    for path in ["/ws/chat", "/ws/dashboard", "/ws/echo"] {
        let refusal = server
            .try_open(path, "")
            .err()
            .expect("let in while leaving");
        assert_eq!(refusal.status, 503);
        assert!(refusal.header("retry-after").is_some());
    }
    server.process.signal("TERM");
    assert_exits(server, Duration::from_secs(3));
}

fn a_second_signal_stops_at_once(program: Program) {
    let (server, mut stay, _told) = one_of_three_told(program, "--drain-timeout 1h");
    server.process.signal("INT");
    assert_exits(server, Duration::from_secs(3));
    for client in &mut stay {
        assert_ne!(client.wire().read_to_end(), Ending::TimedOut);
    }
}

fn a_server_without_clients_stops_at_once(program: Program) {
    let server = program.start("--drain-spread 1h --drain-timeout 1h");
    server.join().leave();
    server.process.signal("TERM");
    assert_exits(server, Duration::from_secs(3));
}

fn the_last_client_to_leave_ends_it(program: Program) {
    let (server, stay, mut told) = one_of_three_told(program, "");
    told.send(&Frame::close(1012, ""));
    told.expect_nothing_more();
    stay.into_iter().for_each(Client::leave);
    assert_exits(server, Duration::from_secs(3));
}

fn an_unanswered_close_is_given_up_meanwhile(program: Program) {
    let (server, [mut one, _other], mut told) = one_of_three_told(program, "--close-timeout 200ms");
    assert_ne!(told.wire().read_to_end(), Ending::TimedOut);
    one.say_with_cid("still here", "2");
    assert_eq!(one.next_of_type_among(&["ack"])["cid"], "2");
    server.process.signal("TERM");
    assert_exits(server, Duration::from_secs(3));
}
