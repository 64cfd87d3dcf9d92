//! Nodes without a network, on a Redis without one: what is under way can be lost, and the log can be rewound.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use proptest::prelude::*;

use super::greeting::Greeting;
use super::message::{Message, Sender, Unavailable, Vitals};
use super::publisher::PATIENCE;
use super::resp::{self, Replies, Reply};
use super::*;
use crate::core::engine::ClientId;

/// As much of Redis as the nodes use, with the scripts in Rust.
#[derive(Debug, Clone, Default)]
struct VirtualRedis {
    epoch: Option<String>,
    stream: BTreeMap<u64, Vec<(String, String)>>,
    known: HashMap<(String, String, String), u64>,
    has_script: bool,
    replicas: u64,
}

impl VirtualRedis {
    fn new() -> Self {
        Self {
            epoch: Some("first".to_owned()),
            has_script: true,
            ..Self::default()
        }
    }

    fn greeting(&self) -> Greeting {
        Greeting {
            run_id: "run".to_owned(),
            epoch: self.epoch.clone().unwrap_or_default(),
            tip: self.tip(),
            publish: "publish".to_owned(),
        }
    }

    fn tip(&self) -> u64 {
        self.stream.keys().next_back().copied().unwrap_or(0)
    }

    /// Forgets the newest entries, as a replica does that lacked them when it became the master.
    fn rewind(&mut self, entries: usize) {
        for _ in 0..entries {
            self.stream.pop_last();
        }
        let tip = self.tip();
        self.known.retain(|_, id| *id <= tip);
    }

    fn trim(&mut self, entries: usize) {
        for _ in 0..entries {
            self.stream.pop_first();
        }
    }

    /// Answers all commands; a read that would wait finds nothing.
    fn answer(&mut self, commands: &[u8]) -> Vec<Vec<u8>> {
        let mut received = Replies::default();
        received.push(commands);
        let mut answers = Vec::new();
        while let Some(command) = received.next_reply().expect("commands") {
            let parts = resp::array(&command).expect("an array");
            let parts: Vec<&str> = parts.iter().filter_map(resp::text).collect();
            answers.push(self.run(&parts).into_bytes());
        }
        answers
    }

    fn run(&mut self, parts: &[&str]) -> String {
        match parts {
            ["GET", _] => self.epoch.as_deref().map_or("$-1\r\n".to_owned(), bulk),
            ["XREVRANGE", ..] => {
                let entries: Vec<_> = self.stream.iter().next_back().into_iter().collect();
                page(&entries)
            }
            ["XREAD", .., id] => {
                let behind: u64 = id.trim_end_matches("-0").parse().expect("an id");
                let entries: Vec<_> = self.stream.range(behind + 1..).take(3).collect();
                if entries.is_empty() {
                    return "*-1\r\n".to_owned();
                }
                format!("*1\r\n*2\r\n{}{}", bulk("log"), page(&entries))
            }
            ["EVAL", script, "1", _, known, fresh] if *script == script::REPLACE_EPOCH => {
                if self.epoch.as_deref().is_none_or(|epoch| epoch == *known) {
                    self.epoch = Some((*fresh).to_owned());
                }
                bulk(self.epoch.as_deref().unwrap_or_default())
            }
            ["EVAL", script, ..] if *script == script::HEARTBEAT => {
                format!("*3\r\n:1\r\n:1\r\n{}", bulk("25 100"))
            }
            ["EVALSHA", "publish", ..] if !self.has_script => "-NOSCRIPT gone\r\n".to_owned(),
            [_, _, "3", _, _, _, args @ ..] => {
                self.has_script = true;
                self.publish(args)
            }
            ["WAIT", ..] => format!(":{}\r\n", self.replicas),
            other => panic!("{other:?}"),
        }
    }

    fn publish(&mut self, args: &[&str]) -> String {
        let [epoch, seen, _kept, by, ts, name, text, cid @ ..] = args else {
            panic!("{args:?}");
        };
        if self.epoch.as_deref() != Some(epoch) {
            return "-EPOCH has changed\r\n".to_owned();
        }
        let owned = |text: &str| text.to_owned();
        let same = cid
            .first()
            .map(|cid| (owned(name), owned(cid), owned(text)));
        if let Some(id) = same.as_ref().and_then(|same| self.known.get(same)) {
            return format!(":{id}\r\n");
        }
        let id = self.tip() + 1;
        if id <= seen.parse().expect("an id") {
            return "-EPOCH must change\r\n".to_owned();
        }
        let after = self
            .stream
            .values()
            .next_back()
            .map_or("", |entry| &entry[0].1);
        let fields = [
            ("by", *by),
            ("after", after),
            ("ts", ts),
            ("name", name),
            ("text", text),
            ("cid", cid.first().copied().unwrap_or_default()),
        ];
        let fields = fields.map(|(field, value)| (owned(field), owned(value)));
        self.stream.insert(id, fields.into());
        if let Some(same) = same {
            self.known.insert(same, id);
        }
        format!(":{id}\r\n")
    }

    fn texts(&self) -> Vec<&str> {
        self.stream
            .values()
            .map(|entry| entry[4].1.as_str())
            .collect()
    }
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn page(entries: &[(&u64, &Vec<(String, String)>)]) -> String {
    let mut page = format!("*{}\r\n", entries.len());
    for (id, fields) in entries {
        let _ = write!(
            page,
            "*2\r\n{}*{}\r\n",
            bulk(&format!("{id}-0")),
            2 * fields.len()
        );
        for (field, value) in *fields {
            page += &(bulk(field) + &bulk(value));
        }
    }
    page
}

/// A node: both of its sides, what it has broadcast, and what it has answered.
struct Node {
    publisher: Publisher,
    reader: Reader,
    epoch: String,
    said: BTreeMap<u64, String>,
    resyncs: usize,
    lost: u64,
    answers: HashMap<String, Vec<Outcome>>,
    now: Instant,
}

impl Node {
    fn new(name: &str, redis: &VirtualRedis, configure: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            prefix: "test".to_owned(),
            node: name.to_owned(),
            replicas: 0,
            history: 4,
        };
        configure(&mut settings);
        let now = Instant::now();
        let greeting = redis.greeting();
        let mut node = Self {
            publisher: Publisher::new(settings.clone(), now),
            reader: Reader::new(settings, &greeting),
            epoch: String::new(),
            said: BTreeMap::new(),
            resyncs: 0,
            lost: 0,
            answers: HashMap::new(),
            now,
        };
        node.publisher.connected(now, &greeting);
        node.reader.connected(now, &greeting);
        node.take_events();
        node
    }

    fn say(&mut self, text: &str, cid: bool) -> Result<(), Unavailable> {
        let sender = Sender {
            client: ClientId(0),
            number: 1,
        };
        let message = Message {
            name: "An",
            text,
            cid: cid.then_some(text),
            ts: 7,
        };
        self.publisher.publish(self.now, sender, &message)
    }

    fn commands(&mut self) -> BytesMut {
        let vitals = Vitals {
            clients: 1,
            simulated: [25.0, 100.0],
        };
        let last_id = self.reader.last_id();
        self.publisher.flush(self.now, &self.epoch, last_id, vitals)
    }

    fn publish(&mut self, redis: &mut VirtualRedis) {
        for answer in redis.answer(&self.commands()) {
            self.publisher
                .receive(self.now, &answer)
                .expect("a good link");
        }
        for answer in self.publisher.take_answers() {
            let cid = answer.cid.map_or_else(|| "none".to_owned(), Into::into);
            self.answers.entry(cid).or_default().push(answer.outcome);
        }
    }

    /// Reads until a read finds nothing new.
    fn read(&mut self, redis: &mut VirtualRedis, fresh_epoch: &str) {
        for cycle in 0..200 {
            for answer in redis.answer(&self.reader.take_output()) {
                let received = self.reader.receive(self.now, &answer, fresh_epoch);
                received.expect("a good link");
            }
            self.take_events();
            let is_settled = self.reader.is_following()
                && (self.reader.last_id(), Some(&self.epoch))
                    == (redis.tip(), redis.epoch.as_ref());
            if cycle > 1 && is_settled {
                return;
            }
        }
        panic!("reading never ends");
    }

    fn take_events(&mut self) {
        for event in self.reader.take_events() {
            match event {
                StreamEvent::Append(entries) => {
                    for entry in entries {
                        self.said.insert(entry.id, entry.text);
                    }
                }
                StreamEvent::Resync(resync) => {
                    self.said.split_off(&(resync.last_id + 1));
                    self.epoch = resync.epoch;
                    self.resyncs += 1;
                    self.lost += resync.lost;
                    self.publisher.unfence();
                }
            }
        }
    }

    /// Both connections are lost, and made again.
    fn reconnect(&mut self, redis: &VirtualRedis) {
        let greeting = redis.greeting();
        self.publisher.connected(self.now, &greeting);
        self.reader.connected(self.now, &greeting);
    }

    fn texts(&self) -> Vec<&str> {
        self.said.values().map(String::as_str).collect()
    }
}

fn stored(id: u64) -> Vec<Outcome> {
    let stored = Stored::Stream;
    vec![Outcome::Stored { id, stored }]
}

#[test]
fn what_is_said_is_stored_once_and_read_back() {
    let mut redis = VirtualRedis::new();
    let mut node = Node::new("a", &redis, |_| ());
    for text in ["one", "two", "two"] {
        node.say(text, true).expect("Redis is there");
    }
    node.publish(&mut redis);
    node.read(&mut redis, "fresh");
    assert_eq!(node.texts(), ["one", "two"]);
    assert_eq!(node.answers["one"], stored(1));
    assert_eq!(node.answers["two"], [stored(2), stored(2)].concat());
    assert_eq!(node.publisher.pending(), 0);
    assert_eq!(
        node.publisher.take_round_trips().len(),
        1,
        "one round trip for all"
    );
    let presence = node.publisher.take_presence().expect("a heartbeat");
    assert_eq!(presence.simulated, Some([25.0, 100.0]));
}

#[test]
fn a_forgotten_script_is_sent_again_and_the_order_stays() {
    let mut redis = VirtualRedis::new();
    let mut node = Node::new("a", &redis, |_| ());
    redis.has_script = false;
    let texts = ["1", "2", "3", "4"];
    for pair in texts.chunks(2) {
        for text in pair {
            node.say(text, true).expect("Redis is there");
        }
        // The second pair is sent before the first is answered.
    }
    node.publish(&mut redis);
    node.publish(&mut redis);
    assert_eq!(redis.texts(), texts);
    assert_eq!(node.answers["4"], stored(4));
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again() {
    let mut redis = VirtualRedis::new();
    let mut node = Node::new("a", &redis, |_| ());
    for (text, cid) in [("one", true), ("two", false), ("three", true)] {
        node.say(text, cid).expect("Redis is there");
    }
    let answers = redis.answer(&node.commands());
    let half = &answers[1][..answers[1].len() / 2];
    node.publisher.receive(node.now, half).expect("a good link");
    node.reconnect(&redis);
    node.publish(&mut redis);
    assert_eq!(redis.texts(), ["one", "two", "three"]);
    assert_eq!(node.answers["one"], stored(1));
    assert_eq!(node.answers["three"], stored(3));
    assert_eq!(
        node.answers["none"],
        [Outcome::Unknown],
        "sent at most once"
    );
}

#[test]
fn nobody_waits_for_ever() {
    let redis = VirtualRedis::new();
    let mut node = Node::new("a", &redis, |_| ());
    node.say("sent", true).expect("Redis is there");
    let _lost = node.commands();
    node.now += LINK_TIMEOUT;
    assert_eq!(node.publisher.time_out(node.now), Err(Trouble::Silent));
    node.publisher.disconnected();
    assert!(node.say("refused", true).is_err());
    node.now += PATIENCE;
    node.publisher.time_out(node.now).expect("there is no link");
    let answers = node.publisher.take_answers();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].outcome, Outcome::Unknown);
    assert_eq!(node.publisher.pending(), 0);
}

#[test]
fn what_waits_has_a_limit() {
    let redis = VirtualRedis::new();
    let mut node = Node::new("a", &redis, |_| ());
    let text = "x".repeat(500);
    let taken = (0..100_000)
        .take_while(|_| node.say(&text, false).is_ok())
        .count();
    assert!((5_000..20_000).contains(&taken), "{taken}");
}

#[test]
fn an_acknowledgement_says_where_a_message_stands() {
    let mut redis = VirtualRedis::new();
    let mut node = Node::new("a", &redis, |settings| settings.replicas = 1);
    for (replicas, expected) in [(1, Stored::Replicas), (0, Stored::Stream)] {
        redis.replicas = replicas;
        node.say("text", true).expect("Redis is there");
        node.publish(&mut redis);
        let stored = Outcome::Stored {
            id: 1,
            stored: expected,
        };
        assert_eq!(node.answers.remove("text"), Some(vec![stored]));
    }
}

#[test]
fn a_rewound_log_is_recognised_even_where_it_has_grown_since() {
    for said_since in 0..6 {
        let mut redis = VirtualRedis::new();
        let mut seer = Node::new("a", &redis, |_| ());
        let mut other = Node::new("b", &redis, |_| ());
        for text in ["1", "2", "3", "4", "5"] {
            seer.say(text, true).expect("Redis is there");
        }
        seer.publish(&mut redis);
        seer.read(&mut redis, "fresh");
        // The other has not read the last two, which are lost.
        redis.rewind(2);
        other.read(&mut redis, "unused");
        for number in 0..said_since {
            other
                .say(&format!("new {number}"), true)
                .expect("Redis is there");
        }
        other.publish(&mut redis);
        other.read(&mut redis, "unused");
        seer.reconnect(&redis);
        seer.read(&mut redis, "second");
        other.read(&mut redis, "unused");
        assert_eq!(redis.epoch.as_deref(), Some("second"));
        for node in [&seer, &other] {
            assert_eq!(
                (node.epoch.as_str(), node.resyncs),
                ("second", 2),
                "{said_since}"
            );
            assert_eq!(node.texts(), redis.texts(), "{said_since}");
        }
        // With the old epoch nobody publishes; with the new one all do.
        seer.say("again", true).expect("Redis is there");
        seer.publish(&mut redis);
        assert!(matches!(
            seer.answers["again"][..],
            [Outcome::Stored { .. }]
        ));
    }
}

#[test]
fn a_node_that_does_not_know_of_the_new_epoch_waits_for_it() {
    let mut redis = VirtualRedis::new();
    let mut node = Node::new("a", &redis, |_| ());
    redis.epoch = Some("second".to_owned());
    node.say("text", true).expect("Redis is there");
    node.publish(&mut redis);
    assert!(node.answers.is_empty() && !node.publisher.has_work());
    node.read(&mut redis, "unused");
    assert!(node.publisher.has_work());
    node.publish(&mut redis);
    assert_eq!(node.answers["text"], stored(1));
}

#[test]
fn a_deleted_log_begins_again() {
    let mut redis = VirtualRedis::new();
    let mut node = Node::new("a", &redis, |_| ());
    node.say("lost", true).expect("Redis is there");
    node.publish(&mut redis);
    node.read(&mut redis, "unused");
    redis = VirtualRedis {
        has_script: true,
        ..VirtualRedis::default()
    };
    node.say("first", true).expect("Redis is there");
    node.publish(&mut redis);
    node.read(&mut redis, "second");
    node.publish(&mut redis);
    node.read(&mut redis, "unused");
    assert_eq!(
        (node.texts(), node.epoch.as_str()),
        (vec!["first"], "second")
    );
    assert_eq!(node.answers["first"], stored(1));
}

#[test]
fn a_trimmed_gap_is_counted_and_told() {
    let mut redis = VirtualRedis::new();
    let mut node = Node::new("a", &redis, |_| ());
    let mut other = Node::new("b", &redis, |_| ());
    for number in 1..=9 {
        other
            .say(&number.to_string(), true)
            .expect("Redis is there");
        other.publish(&mut redis);
        if number == 2 {
            node.read(&mut redis, "unused");
        }
    }
    redis.trim(5);
    node.read(&mut redis, "unused");
    assert_eq!(
        (node.resyncs, node.lost, node.epoch.as_str()),
        (2, 3, "first")
    );
    assert_eq!(node.texts(), ["1", "2", "6", "7", "8", "9"]);
}

/// A step of what may happen.
#[derive(Debug, Clone, Copy)]
enum Step {
    Say {
        node: usize,
        cid: bool,
    },
    /// Publishes, and hears so many of the answers before the link is cut; all of them where there are fewer.
    Publish {
        node: usize,
        heard: usize,
    },
    Read {
        node: usize,
    },
    Reconnect {
        node: usize,
    },
    Rewind {
        entries: usize,
    },
    FlushScripts,
    FlushAll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_usize, any::<bool>()).prop_map(|(node, cid)| Step::Say { node, cid }),
        6 => (0..3_usize, 0..6_usize).prop_map(|(node, heard)| Step::Publish { node, heard }),
        6 => (0..3_usize).prop_map(|node| Step::Read { node }),
        2 => (0..3_usize).prop_map(|node| Step::Reconnect { node }),
        1 => (1..4_usize).prop_map(|entries| Step::Rewind { entries }),
        1 => Just(Step::FlushScripts),
        1 => Just(Step::FlushAll),
    ]
}

proptest! {
    /// Whatever happens, all nodes end with the log as it is. Nothing is in it twice; what was acknowledged is in it unless
    /// a new epoch was announced, and what was refused is not.
    #[test]
    fn all_nodes_end_with_the_same_log(steps in prop::collection::vec(step(), 0..80)) {
        let mut redis = VirtualRedis::new();
        let mut nodes = ["a", "b", "c"].map(|name| {
            Node::new(name, &redis, |settings| settings.history = 100)
        });
        let mut rewound = false;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Say { node, cid } => {
                    let _ = nodes[node].say(&format!("{number}"), cid);
                }
                Step::Publish { node, heard } => {
                    let answers = redis.answer(&nodes[node].commands());
                    let cut = heard < answers.len();
                    for answer in answers.iter().take(heard) {
                        let now = nodes[node].now;
                        nodes[node].publisher.receive(now, answer).expect("a good link");
                    }
                    if cut {
                        nodes[node].reconnect(&redis);
                    }
                }
                Step::Read { node } => nodes[node].read(&mut redis, &format!("epoch {number}")),
                Step::Reconnect { node } => nodes[node].reconnect(&redis),
                Step::Rewind { entries } => {
                    redis.rewind(entries);
                    rewound = true;
                }
                Step::FlushScripts => redis.has_script = false,
                Step::FlushAll => {
                    redis = VirtualRedis::default();
                    rewound = true;
                }
            }
        }
        for round in 0..4 {
            for node in &mut nodes {
                node.now += Duration::from_millis(300);
                let _ = node.publisher.time_out(node.now);
                node.read(&mut redis, &format!("last epoch {round}"));
                node.publish(&mut redis);
                node.publish(&mut redis);
            }
        }
        for node in &mut nodes {
            node.read(&mut redis, "the last epoch");
            prop_assert_eq!(node.texts(), redis.texts());
            prop_assert_eq!(node.publisher.pending(), 0);
        }
        let texts = redis.texts();
        let unique: HashSet<_> = texts.iter().collect();
        prop_assert_eq!(unique.len(), texts.len(), "{:?}", texts);
        for node in &nodes {
            for (text, outcomes) in node.answers.iter().filter(|(text, _)| *text != "none") {
                prop_assert_eq!(outcomes.len(), 1);
                let there = texts.contains(&text.as_str());
                match outcomes[0] {
                    Outcome::Stored { .. } => prop_assert!(there || rewound, "{} is lost", text),
                    Outcome::Refused => prop_assert!(!there, "{} was refused", text),
                    Outcome::Unknown => {}
                }
            }
        }
    }
}

#[test]
fn replies_come_whole_whatever_the_pieces() {
    let bytes = b"*2\r\n$3\r\nabc\r\n:5\r\n-ERR no\r\n$-1\r\n+OK\r\n";
    for size in 1..bytes.len() {
        let mut replies = Replies::default();
        let mut found = Vec::new();
        for piece in bytes.chunks(size) {
            replies.push(piece);
            while let Some(reply) = replies.next_reply().expect("replies") {
                found.push(reply);
            }
        }
        assert_eq!(found.len(), 4, "{size}");
        assert_eq!(resp::array(&found[0]).map(<[Reply]>::len), Some(2));
        assert_eq!(found[2], Reply::Null);
    }
    let mut replies = Replies::default();
    replies.push(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert!(matches!(replies.next_reply(), Err(Trouble::NotResp(_))));
}
