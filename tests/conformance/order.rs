//! The room under stress: 50 who all speak at once, and one order for all of them.

use std::collections::HashSet;
use std::sync::Barrier;
use std::thread;

use crate::client::Client;
use crate::harness::Program;

conformance! {
    fifty_concurrent_senders_see_one_order,
}

const SENDERS: usize = 50;
const MESSAGES_EACH: usize = 20;

/// What one client saw: all messages in the order they came, and the ids that its own were acknowledged under.
struct Seen {
    messages: Vec<(u64, String)>,
    acknowledged: Vec<(String, u64)>,
}

fn fifty_concurrent_senders_see_one_order(program: Program) {
    let server = program.start("--chat-interval 0s");
    let clients: Vec<_> = (0..SENDERS).map(|_| server.join()).collect();
    let start = Barrier::new(SENDERS);
    let seen: Vec<Seen> = thread::scope(|scope| {
        let speakers: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(sender, client)| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    speak_and_listen(client, sender)
                })
            })
            .collect();
        speakers.into_iter().map(|speaker| speaker.join().expect("no sender fails")).collect()
    });

    let order = &seen[0].messages;
    let ids: Vec<_> = order.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, (1..=(SENDERS * MESSAGES_EACH) as u64).collect::<Vec<_>>(), "ids without gaps");
    assert_eq!(order.iter().map(|(_, text)| text).collect::<HashSet<_>>().len(), order.len(), "each message once");
    for (sender, seen) in seen.iter().enumerate() {
        assert!(&seen.messages == order, "sender {sender} saw another order");
        let own: Vec<_> = order.iter().filter(|(_, text)| text.starts_with(&format!("{sender} "))).collect();
        let sent: Vec<_> = (0..MESSAGES_EACH).map(|number| text(sender, number)).collect();
        assert_eq!(own.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>(), sent, "each sender's order is kept");
        let acknowledged: Vec<_> = own.iter().map(|(id, text)| (text.clone(), *id)).collect();
        assert_eq!(seen.acknowledged, acknowledged, "the ids acknowledged to sender {sender}");
    }
}

fn text(sender: usize, number: usize) -> String {
    format!("{sender} says {number}")
}

fn speak_and_listen(mut client: Client, sender: usize) -> Seen {
    let mut seen = Seen { messages: Vec::new(), acknowledged: Vec::new() };
    for number in 0..MESSAGES_EACH {
        client.say_with_cid(&text(sender, number), &text(sender, number));
    }
    while seen.messages.len() < SENDERS * MESSAGES_EACH || seen.acknowledged.len() < MESSAGES_EACH {
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
