//! The room under stress: many who all speak at once, and one order for all of them.

use std::collections::HashSet;
use std::sync::Barrier;
use std::thread;

use crate::client::Client;
use crate::harness::Program;

conformance! {
    fifty_concurrent_senders_see_one_order,
    a_few_who_never_fall_silent_see_one_order,
}

fn fifty_concurrent_senders_see_one_order(program: Program) {
    all_see_one_order(program, 50, 20);
}

fn a_few_who_never_fall_silent_see_one_order(program: Program) {
    all_see_one_order(program, 4, 1000);
}

/// What one client saw: all messages in the order they came, and the ids that its own were acknowledged under.
struct Seen {
    messages: Vec<(u64, String)>,
    acknowledged: Vec<(String, u64)>,
}

fn all_see_one_order(program: Program, senders: usize, messages_each: usize) {
    let server = program.start("--chat-interval 0s");
    let clients: Vec<_> = (0..senders).map(|_| server.join()).collect();
    let texts_of = |sender: usize| {
        (0..messages_each)
            .map(|number| format!("{sender} says {number}"))
            .collect::<Vec<_>>()
    };
    let start = Barrier::new(senders);
    let seen: Vec<Seen> = thread::scope(|scope| {
        let speak_and_listen = |(sender, mut client): (usize, Client)| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                for text in texts_of(sender) {
                    client.say_with_cid(&text, &text);
                }
                listen(client, senders * messages_each, messages_each)
            })
        };
        let threads: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(speak_and_listen)
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no sender fails"))
            .collect()
    });

    let order = &seen[0].messages;
    let ids: Vec<_> = order.iter().map(|(id, _)| *id).collect();
    assert_eq!(
        ids,
        (1..=(senders * messages_each) as u64).collect::<Vec<_>>(),
        "ids without gaps"
    );
    assert_eq!(
        order
            .iter()
            .map(|(_, text)| text)
            .collect::<HashSet<_>>()
            .len(),
        order.len(),
        "each message once"
    );
    for (sender, seen) in seen.iter().enumerate() {
        assert!(&seen.messages == order, "sender {sender} saw another order");
        let own = |(_, text): &&(u64, String)| text.starts_with(&format!("{sender} "));
        let (ids, texts): (Vec<_>, Vec<_>) = order.iter().filter(own).cloned().unzip();
        assert_eq!(texts, texts_of(sender), "each sender's order is kept");
        let acknowledged: Vec<_> = texts.into_iter().zip(ids).collect();
        assert_eq!(
            seen.acknowledged, acknowledged,
            "the ids acknowledged to sender {sender}"
        );
    }
}

/// Reads until so many messages of all and acknowledgements of its own have come.
fn listen(mut client: Client, messages: usize, acknowledgements: usize) -> Seen {
    let mut seen = Seen {
        messages: Vec::new(),
        acknowledged: Vec::new(),
    };
    while seen.messages.len() < messages || seen.acknowledged.len() < acknowledgements {
        let value = client.next_json();
        let id = value["id"].as_u64();
        let field = |key: &str| value[key].as_str().expect("a string").to_owned();
        match field("type").as_str() {
            "chat" => seen.messages.push((id.expect("an id"), field("text"))),
            "ack" => seen.acknowledged.push((field("cid"), id.expect("an id"))),
            kind => assert_eq!(kind, "system", "{value}"),
        }
    }
    seen
}
