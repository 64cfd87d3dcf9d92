//! The rules, on virtual time: no socket, no clock, no sleep.

use proptest::prelude::*;
use serde_json::Value;

use std::collections::HashMap;

use super::*;
use crate::core::limits::Limits;
use crate::core::protocol::{Metric, Payload, Replay, parse_chat, parse_dashboard};

struct Lab {
    engine: Engine,
    output: Output,
    now: Now,
    next_client: u32,
}

impl Lab {
    fn new(configure: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = crate::config::Config::defaults().limits();
        configure(&mut limits);
        let now = Now {
            instant: Instant::now(),
            unix_ms: 1_700_000_000_000,
        };
        let context = Arc::new(Context::for_tests(limits));
        Self {
            engine: Engine::new(Arc::clone(&context), now),
            output: Output::new(context),
            now,
            next_client: 0,
        }
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now.instant += Duration::from_millis(milliseconds);
        self.now.unix_ms += milliseconds;
    }

    fn open(&mut self, opening: &Opening) -> ClientId {
        let client = ClientId(self.next_client);
        self.next_client += 1;
        let address = IpAddr::from([127, 0, 0, 1]);
        self.engine.vacancy(address).expect("room for one more");
        self.engine.open(
            self.now,
            client,
            address,
            &opening.clone().into(),
            &mut self.output,
        );
        client
    }

    fn say(&mut self, client: ClientId, text: &str) {
        let request = parse_chat(Payload::Text(text));
        self.engine
            .chat(self.now, client, &request, &mut self.output);
    }

    fn replies(&mut self) -> Vec<Value> {
        messages(&self.output.reply.take_chunks().concat())
    }

    /// What the room's log has for its members, and the oldest of them gets all of.
    fn broadcasts(&mut self) -> Vec<Value> {
        let batch = self.engine.next_batch(usize::MAX);
        let first = batch.members.iter().map(|(_, lacking)| lacking.start).min();
        messages(&batch.slices[first.unwrap_or(batch.slices.len())..].concat())
    }
}

/// The JSON of each text frame.
fn messages(mut frames: &[u8]) -> Vec<Value> {
    let mut messages = Vec::new();
    while let [0x81, length, rest @ ..] = frames {
        let (length, rest) = match length {
            126 => (
                usize::from(u16::from_be_bytes([rest[0], rest[1]])),
                &rest[2..],
            ),
            length => (usize::from(*length), rest),
        };
        messages.push(serde_json::from_slice(&rest[..length]).expect("JSON"));
        frames = &rest[length..];
    }
    assert!(frames.is_empty(), "whole text frames only");
    messages
}

fn chat(text: &str) -> String {
    format!(r#"{{"type":"chat","name":"Alice","text":"{text}"}}"#)
}

fn chat_with_cid(text: &str, cid: &str) -> String {
    format!(r#"{{"type":"chat","name":"Alice","text":"{text}","cid":"{cid}"}}"#)
}

const CHAT: Opening = Opening::Chat(Replay::Nothing);

#[test]
fn a_newcomer_is_announced_to_the_others_and_welcomed_alone() {
    let mut lab = Lab::new(|_| {});
    lab.open(&CHAT);
    assert!(lab.broadcasts().is_empty(), "nobody was there to hear it");
    lab.replies();
    lab.open(&CHAT);
    let welcome = &lab.replies()[0];
    assert_eq!(
        welcome["text"],
        "Chào mừng đến chat room! Hiện có 2 người online."
    );
    assert_eq!(
        (
            &welcome["online_count"],
            &welcome["epoch"],
            &welcome["last_id"]
        ),
        (&2.into(), &"epoch".into(), &0.into())
    );
    let notice = &lab.broadcasts()[0];
    assert_eq!(
        (&notice["text"], &notice["online_count"]),
        (&"Một người dùng mới đã tham gia chat".into(), &2.into())
    );
}

#[test]
fn a_refused_message_neither_counts_nor_pushes_the_next_one_back() {
    let mut lab = Lab::new(|_| {});
    let client = lab.open(&CHAT);
    lab.replies();
    lab.say(client, &chat("one"));
    lab.pass(600);
    lab.say(client, &chat_with_cid("two", "c2"));
    let error = &lab.replies()[0];
    assert_eq!(
        (&error["code"], &error["retry_after_ms"], &error["cid"]),
        (&"rate_limited".into(), &400.into(), &"c2".into())
    );
    lab.pass(400);
    lab.say(client, &chat("three"));
    let ids: Vec<Value> = lab
        .broadcasts()
        .iter()
        .map(|message| message["id"].clone())
        .collect();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn the_same_cid_again_is_acknowledged_and_not_broadcast() {
    let mut lab = Lab::new(|_| {});
    let client = lab.open(&CHAT);
    lab.replies();
    lab.say(client, &chat_with_cid("one", "c"));
    lab.broadcasts();
    lab.engine.leave(lab.now, client, &mut lab.output);
    let again = lab.open(&CHAT);
    lab.replies();
    lab.say(again, &chat_with_cid("one", "c"));
    lab.say(again, &chat_with_cid("two", "d"));
    let acks: Vec<(Value, Value)> = lab
        .replies()
        .into_iter()
        .map(|ack| (ack["cid"].clone(), ack["id"].clone()))
        .collect();
    assert_eq!(
        acks,
        [("c".into(), 1.into()), ("d".into(), 2.into())],
        "and the rate limit is not used up"
    );
    assert_eq!(lab.broadcasts().len(), 1);
}

#[test]
fn fifty_faults_are_answered_and_one_more_closes() {
    let mut lab = Lab::new(|_| {});
    let client = lab.open(&CHAT);
    lab.replies();
    for _ in 0..MAX_FAULTS_IN_A_ROW {
        lab.say(client, "{");
    }
    assert_eq!((lab.replies().len(), lab.output.close), (50, None));
    lab.say(client, "{");
    assert_eq!(
        (
            lab.replies().len(),
            lab.output.close.map(|close| u16::from(close.code))
        ),
        (0, Some(1008))
    );
}

#[test]
fn a_large_room_gets_one_summary_a_second() {
    let mut lab = Lab::new(|config| config.notice_limit = 2);
    for _ in 0..10 {
        lab.open(&CHAT);
    }
    assert_eq!(
        lab.broadcasts().len(),
        1,
        "the notice of the second; from the third on the room is large"
    );
    lab.pass(999);
    lab.engine.summarise(lab.now);
    assert!(lab.broadcasts().is_empty());
    lab.pass(1);
    assert!(lab.engine.deadline() <= lab.now.instant);
    lab.engine.summarise(lab.now);
    let summary = &lab.broadcasts()[0];
    assert_eq!(
        (&summary["code"], &summary["online_count"]),
        (&"presence".into(), &10.into())
    );
    assert_eq!(summary["text"], "Hiện có 10 người online.");
}

proptest! {
    /// However people come and go: there are never more notices than the burst and the pace allow, at most one summary
    /// a second, and who stays knows in the end how many are there.
    #[test]
    fn coming_and_going_is_told_within_bounds(steps in prop::collection::vec((any::<bool>(), 0_u64..120), 1..200)) {
        let mut lab = Lab::new(|_| {});
        let witness = lab.open(&CHAT);
        let mut others = Vec::new();
        let (mut notices, mut summaries, mut passed, mut told) = (0, 0, 0, 1);
        for (comes, wait) in steps.into_iter().chain([(true, 1000), (true, 1000)]) {
            lab.pass(wait);
            passed += wait;
            lab.engine.summarise(lab.now);
            match others.pop() {
                Some(other) if !comes => lab.engine.leave(lab.now, other, &mut lab.output),
                other => {
                    others.extend(other);
                    others.push(lab.open(&CHAT));
                }
            }
            for message in lab.broadcasts() {
                if message["code"] == "presence" {
                    summaries += 1;
                } else {
                    notices += 1;
                }
                told = message["online_count"].as_u64().expect("a number");
            }
            let pace = u64::try_from(room::NOTICE_INTERVAL.as_millis()).expect("short");
            prop_assert!(notices <= u64::from(room::NOTICE_BURST) + passed / pace);
            prop_assert!(summaries <= passed / 1000);
        }
        prop_assert_eq!(told, others.len() as u64 + 1);
        prop_assert!(lab.engine.has(witness));
    }
}

#[test]
fn what_is_missed_and_what_is_live_meet_without_gap_or_double() {
    let mut lab = Lab::new(|config| config.chat_interval = Duration::ZERO);
    let speaker = lab.open(&CHAT);
    for text in ["a", "b", "c"] {
        lab.say(speaker, &chat(text));
    }
    lab.broadcasts();
    lab.replies();
    lab.open(&Opening::Chat(Replay::Since {
        epoch: "epoch".to_owned(),
        id: 1,
    }));
    lab.say(speaker, &chat("d"));
    let replies = lab.replies();
    assert_eq!(
        (&replies[0]["recovered"], &replies[0]["last_id"]),
        (&true.into(), &3.into())
    );
    let replayed: Vec<&Value> = replies[1..].iter().map(|message| &message["id"]).collect();
    let live: Vec<Value> = lab
        .broadcasts()
        .iter()
        .filter_map(|message| message.get("id").cloned())
        .collect();
    assert_eq!(
        (replayed, live),
        (vec![&2.into(), &3.into()], vec![4.into()])
    );
}

#[test]
fn a_metric_that_the_host_has_no_figures_for_is_not_offered() {
    let mut lab = Lab::new(|_| {});
    let watcher = lab.open(&Opening::Dashboard);
    let choice = parse_dashboard(Payload::Text(
        r#"{"type":"subscribe","metrics":["memory","threads"]}"#,
    ));
    lab.engine.watch(lab.now, watcher, &choice, &mut lab.output);
    let replies = lab.replies();
    assert_eq!(replies[1]["text"], "Đã subscribe: threads");
    assert_eq!(replies[2]["code"], "unknown_metric");
}

#[test]
fn a_tick_sends_each_watcher_what_it_wants() {
    let mut lab = Lab::new(|_| {});
    let defaults = lab.open(&Opening::Dashboard);
    let choosy = lab.open(&Opening::Dashboard);
    let silent = lab.open(&Opening::Dashboard);
    let choice = parse_dashboard(Payload::Text(
        r#"{"type":"subscribe","metrics":["threads","stock"]}"#,
    ));
    lab.engine.watch(lab.now, choosy, &choice, &mut lab.output);
    let nothing = parse_dashboard(Payload::Text(r#"{"type":"subscribe","metrics":[]}"#));
    lab.engine.watch(lab.now, silent, &nothing, &mut lab.output);
    assert_eq!(lab.replies()[3]["text"], "Đã subscribe: threads, stock");

    assert!(!lab.engine.tick_is_due(lab.now));
    lab.pass(1000);
    assert!(lab.engine.tick_is_due(lab.now));
    let mut got: HashMap<ClientId, Vec<String>> = HashMap::new();
    let values = [
        Some(1.005),
        Some(2.0),
        None,
        Some(3.0),
        Some(4.0),
        Some(5.0),
        Some(6.0),
        Some(7.0),
    ];
    lab.engine.tick(lab.now, &values, |client, batch| {
        let names = messages(batch)
            .iter()
            .map(|message| message["metric"].as_str().unwrap().to_owned())
            .collect();
        got.insert(client, names);
    });
    assert_eq!(
        got[&defaults],
        ["temperature", "stock"],
        "the host gave no cpu"
    );
    assert_eq!(got[&choosy], [Metric::Stock.name(), Metric::Threads.name()]);
    assert_eq!(got.len(), 2);
    assert!(!lab.engine.tick_is_due(lab.now));
}

#[test]
fn places_are_limited_in_all_and_by_address_and_given_back() {
    let mut lab = Lab::new(|config| {
        config.max_clients = 2;
        config.max_clients_per_address = 1;
    });
    let [here, there, elsewhere] = [1, 2, 3].map(|last| IpAddr::from([127, 0, 0, last]));
    let first = lab.open(&CHAT);
    assert_eq!(lab.engine.vacancy(here), Err(Full::Address));
    assert_eq!(lab.engine.vacancy(there), Ok(()));
    lab.engine.open(
        lab.now,
        ClientId(9),
        there,
        &Opening::Echo.into(),
        &mut lab.output,
    );
    assert_eq!(lab.engine.vacancy(elsewhere), Err(Full::Server));
    lab.engine.leave(lab.now, first, &mut lab.output);
    assert_eq!(lab.engine.vacancy(here), Ok(()));
    lab.engine.drain();
    assert_eq!(lab.engine.vacancy(elsewhere), Err(Full::Draining));
}

#[test]
fn a_draining_engine_acknowledges_nothing_and_says_nothing() {
    let mut lab = Lab::new(|_| {});
    let speaker = lab.open(&CHAT);
    let leaver = lab.open(&CHAT);
    lab.replies();
    lab.broadcasts();
    lab.engine.drain();
    lab.say(speaker, &chat_with_cid("too late", "c"));
    lab.engine.leave(lab.now, leaver, &mut lab.output);
    assert!(lab.replies().is_empty() && lab.broadcasts().is_empty());
}
