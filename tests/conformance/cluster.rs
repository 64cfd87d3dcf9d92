//! Nodes of both kinds that share one room over Redis, and what may happen to them and to Redis.
//!
//! What must hold is told by [`History::check`]: every member ends with the same messages in the same order, every
//! acknowledged one is in it once, and none that was refused.

use std::collections::{HashMap, HashSet};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, Message};
use crate::frame::{self, Frame};
use crate::harness::{Program, Server};
use crate::process::Process;
use crate::redis_server::{Redis, Way};
use crate::wire::{PATIENCE, Wire};

conformance! {
    what_is_said_comes_back_from_redis,
    a_message_sent_again_is_known_on_every_node,
    without_redis_nothing_is_stored,
    a_redis_that_cannot_be_used_is_refused_at_start,
}

const KINDS: [Program; 3] = [
    Program::new(env!("CARGO_BIN_EXE_evloop-server")),
    Program::new(env!("CARGO_BIN_EXE_thread-server")),
    Program::new(env!("CARGO_BIN_EXE_evloop-server")),
];

fn start(program: Program, url: &str, flags: &str) -> Server {
    program.start(&format!("--chat-interval 0s --redis {url} {flags}"))
}

fn three_nodes(url: &str) -> Vec<Server> {
    KINDS.map(|program| start(program, url, "")).into()
}

/// A member of the room, and all that it was told.
struct Member {
    node: usize,
    client: Client,
    epoch: String,
    last_id: u64,
    said: Vec<(u64, String)>,
    resyncs: usize,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Acknowledged(u64),
    Refused,
    Unknown,
}

/// What a member was told.
enum Taken {
    /// Of a message of its own.
    Fate(String, Fate),
    Other,
    /// Nothing more; the connection has ended, or the deadline has passed.
    Ended,
}

impl Member {
    /// Joins with the whole history.
    fn join(servers: &[Server], node: usize) -> Self {
        let client = servers[node].open("/ws/chat?history=100000");
        let mut member = Self {
            node,
            client,
            epoch: String::new(),
            last_id: 0,
            said: Vec::new(),
            resyncs: 0,
        };
        member.welcome();
        member
    }

    fn welcome(&mut self) -> Value {
        let welcome = self.client.next_json();
        assert_eq!(welcome["code"], "welcome", "{welcome}");
        welcome["epoch"]
            .as_str()
            .expect("an epoch")
            .clone_into(&mut self.epoch);
        welcome
    }

    /// Goes on at another node.
    fn resume(&mut self, servers: &[Server], node: usize) {
        let since = format!("/ws/chat?since={}:{}", self.epoch, self.last_id);
        self.client = servers[node].open(&since);
        self.node = node;
        let welcome = self.welcome();
        if welcome["recovered"] == false {
            // All that the node has comes next.
            self.resyncs += 1;
            self.said.clear();
            self.last_id = 0;
        }
    }

    /// Takes the next message.
    fn take(&mut self, deadline: Instant) -> Taken {
        let text = match self.client.try_message(deadline) {
            Ok(Message::Text(text)) => text,
            Ok(other) => panic!("{other:?}"),
            Err(_) => return Taken::Ended,
        };
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let cid = || value["cid"].as_str().expect("a cid").to_owned();
        match (value["type"].as_str(), value["code"].as_str()) {
            (Some("chat"), _) => {
                let id = value["id"].as_u64().expect("an id");
                if self.last_id > 0 {
                    assert_eq!(id, self.last_id + 1, "no gap, no repeat: {value}");
                }
                self.last_id = id;
                let text = value["text"].as_str().expect("a text").to_owned();
                self.said.push((id, text));
                Taken::Other
            }
            (Some("ack"), _) => {
                let id = value["id"].as_u64().expect("an id");
                Taken::Fate(cid(), Fate::Acknowledged(id))
            }
            (Some("error"), Some("unavailable")) => {
                assert!(value["retry_after_ms"].is_u64(), "{value}");
                let unknown = value["stored"] == "unknown";
                let fate = if unknown {
                    Fate::Unknown
                } else {
                    Fate::Refused
                };
                Taken::Fate(cid(), fate)
            }
            (Some("system"), Some("resync")) => {
                assert_eq!(value["recovered"], false, "{value}");
                value["epoch"]
                    .as_str()
                    .expect("an epoch")
                    .clone_into(&mut self.epoch);
                self.last_id = value["last_id"].as_u64().expect("an id");
                self.said.retain(|(id, _)| *id <= self.last_id);
                self.resyncs += 1;
                Taken::Other
            }
            (Some("system"), _) => Taken::Other,
            _ => panic!("{value}"),
        }
    }

    /// Says something once, and waits for its fate. `None` where the connection has ended before.
    fn say(&mut self, text: &str) -> Option<Fate> {
        let message = json!({"type": "chat", "name": "Alice", "text": text, "cid": text});
        let frame = Frame::new(frame::TEXT, message.to_string());
        // Its node may be gone, which the next read tells.
        let _ = self.client.wire().try_send(&frame.encode());
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "{text} is never answered");
            match self.take(deadline) {
                Taken::Fate(cid, fate) if cid == text => return Some(fate),
                Taken::Fate(..) | Taken::Other => {}
                Taken::Ended => return None,
            }
        }
    }

    /// Says something until it is acknowledged.
    fn say_for_sure(&mut self, text: &str) -> u64 {
        let deadline = Instant::now() + 3 * PATIENCE;
        loop {
            match self.say(text) {
                Some(Fate::Acknowledged(id)) => return id,
                other => assert!(Instant::now() < deadline, "{text}: {other:?}"),
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn read_until(&mut self, text: &str) {
        let deadline = Instant::now() + 2 * PATIENCE;
        while self.said.last().is_none_or(|(_, last)| last != text) {
            let taken = self.take(deadline);
            let ended = matches!(taken, Taken::Ended);
            assert!(!ended, "{text} never came to node {}", self.node);
        }
    }
}

/// What was promised to those who spoke.
#[derive(Default)]
struct History {
    fates: HashMap<String, Fate>,
}

impl History {
    /// Every member ends with the same messages; what was acknowledged is there once, what was refused is not.
    fn check(&self, members: &mut [Member], nodes_alive: &[usize]) -> Vec<String> {
        let last = members
            .iter_mut()
            .find(|member| nodes_alive.contains(&member.node))
            .expect("a member");
        last.say_for_sure("the end");
        for member in members.iter_mut() {
            member.read_until("the end");
        }
        let longest = members
            .iter()
            .max_by_key(|member| member.said.len())
            .expect("a member");
        let (all, resynced) = (longest.said.clone(), members.iter().any(|m| m.resyncs > 0));
        for member in members.iter() {
            let same = all.ends_with(&member.said) && (resynced || member.said.len() == all.len());
            assert!(
                same,
                "node {} heard {:?} of {all:?}",
                member.node, member.said
            );
        }
        let texts: Vec<String> = all.into_iter().map(|(_, text)| text).collect();
        let unique: HashSet<_> = texts.iter().collect();
        assert_eq!(unique.len(), texts.len(), "something is there twice");
        for (text, fate) in &self.fates {
            let there = texts.contains(text);
            match fate {
                Fate::Acknowledged(_) => assert!(there || resynced, "{text} is lost"),
                Fate::Refused => assert!(!there, "{text} was refused, and is there"),
                Fate::Unknown => {}
            }
        }
        texts
    }
}

/// Members of all nodes that speak while `disturb` happens to them, each until it is over and a few times more. Those whose
/// node dies go on at another.
fn speak_through(servers: &[Server], members: &mut [Member], disturb: impl FnOnce()) -> History {
    let over = AtomicBool::new(false);
    let acknowledged = AtomicUsize::new(0);
    let fates = thread::scope(|scope| {
        let speakers: Vec<_> = members
            .iter_mut()
            .enumerate()
            .map(|(number, member)| {
                let (over, acknowledged) = (&over, &acknowledged);
                scope.spawn(move || speak(servers, member, number, over, acknowledged))
            })
            .collect();
        wait_for(acknowledged.load(Ordering::Relaxed) + 100, &acknowledged);
        disturb();
        wait_for(acknowledged.load(Ordering::Relaxed) + 100, &acknowledged);
        over.store(true, Ordering::Relaxed);
        let fates = speakers
            .into_iter()
            .flat_map(|speaker| speaker.join().expect("a speaker"));
        fates.collect()
    });
    History { fates }
}

fn wait_for(count: usize, acknowledged: &AtomicUsize) {
    let deadline = Instant::now() + 3 * PATIENCE;
    while acknowledged.load(Ordering::Relaxed) < count {
        assert!(
            Instant::now() < deadline,
            "nothing is acknowledged any more"
        );
        thread::sleep(Duration::from_millis(2));
    }
}

fn speak(
    servers: &[Server],
    member: &mut Member,
    number: usize,
    over: &AtomicBool,
    acknowledged: &AtomicUsize,
) -> HashMap<String, Fate> {
    let mut fates = HashMap::new();
    for turn in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let text = format!("{number}-{turn}");
        // Now and then one does not insist: what was refused must stay out.
        let insists = turn % 4 != 0;
        let fate = loop {
            match member.say(&text) {
                None => {
                    let node = (member.node + 1) % servers.len();
                    member.resume(servers, node);
                }
                Some(fate @ Fate::Acknowledged(_)) => break fate,
                Some(fate) if !insists => break fate,
                Some(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        if let Fate::Acknowledged(_) = fate {
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        fates.insert(text, fate);
        // A node that stands still for a while must not come back to more than its members can read.
        thread::sleep(Duration::from_millis(10));
    }
    fates
}

fn members(servers: &[Server], count: usize) -> Vec<Member> {
    (0..count)
        .map(|number| Member::join(servers, number % servers.len()))
        .collect()
}

fn what_is_said_comes_back_from_redis(program: Program) {
    let redis = Redis::start("");
    let server = start(program, &redis.url(), "");
    let mut client = server.join();
    client.say_with_cid("Hello", "mine");
    let mut received = [client.next_json(), client.next_json()];
    received.sort_by_key(|value| value["type"].to_string());
    let [ack, chat] = received;
    assert_eq!((&chat["id"], &chat["text"]), (&json!(1), &json!("Hello")));
    assert_eq!(
        (&ack["id"], &ack["cid"], &ack["stored"]),
        (&json!(1), &json!("mine"), &json!("stream"))
    );
    assert_eq!(redis.command("XLEN wslab:log"), "1");
    let health = server.get("/healthz");
    assert_eq!((health.status, health.body.as_slice()), (200, &b"ok"[..]));
}

fn a_message_sent_again_is_known_on_every_node(program: Program) {
    let redis = Redis::start("");
    let servers = [
        start(program, &redis.url(), ""),
        start(KINDS[1], &redis.url(), ""),
    ];
    let mut first = Member::join(&servers, 0);
    let mut second = Member::join(&servers, 1);
    assert_eq!(first.say("once"), Some(Fate::Acknowledged(1)));
    assert_eq!(second.say("once"), Some(Fate::Acknowledged(1)));
    assert_eq!(second.say("twice"), Some(Fate::Acknowledged(2)));
    assert_eq!(redis.command("XLEN wslab:log"), "2");
    first.resume(&servers, 1);
    first.read_until("twice");
    assert_eq!(
        first.resyncs, 0,
        "a client leaves one node and resumes on another"
    );
}

fn without_redis_nothing_is_stored(program: Program) {
    let mut redis = Redis::start("");
    let servers = [start(program, &redis.url(), "")];
    let mut member = Member::join(&servers, 0);
    assert_eq!(member.say("before"), Some(Fate::Acknowledged(1)));
    redis.kill();
    let deadline = Instant::now() + PATIENCE;
    while servers[0].get("/healthz").body == b"ok" {
        assert!(
            Instant::now() < deadline,
            "Redis is away and nobody is told"
        );
    }
    let health = servers[0].get("/healthz");
    assert_eq!(health.status, 200);
    assert!(health.body.starts_with(b"degraded"), "{health:?}");
    assert_eq!(member.say("during"), Some(Fate::Refused));
    // Reading goes on from what is in memory.
    let mut newcomer = Member::join(&servers, 0);
    newcomer.read_until("before");
    redis.restart();
    // It had nothing on disk, so the log begins again.
    let id = member.say_for_sure("after");
    assert_eq!(id, 1);
    member.read_until("after");
    newcomer.read_until("after");
    assert_eq!((member.resyncs, newcomer.resyncs), (1, 1));
    assert_eq!(newcomer.said, [(1, "after".to_owned())]);
}

fn a_redis_that_cannot_be_used_is_refused_at_start(program: Program) {
    let redis = Redis::start("--requirepass secret");
    let evicting = Redis::start("--maxmemory-policy allkeys-lru");
    let address = redis.address;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let free = nobody.local_addr().expect("an address");
    drop(nobody);
    for (url, reason) in [
        (redis.url(), "password"),
        (format!("redis://:wrong@{address}"), "password"),
        (evicting.url(), "allkeys-lru"),
        (format!("redis://{free}"), "cannot reach Redis"),
    ] {
        let finished = program.run(&format!("--bind 127.0.0.1:0 --redis {url}"));
        assert_eq!(finished.status, Some(1), "{url}");
        assert_eq!(finished.stderr.len(), 1, "{:?}", finished.stderr);
        assert!(finished.stderr[0].contains(reason), "{:?}", finished.stderr);
        assert!(
            !finished.stderr[0].contains("wrong"),
            "the password is told"
        );
    }
    let server = start(
        program,
        &format!("redis://:secret@{address}/3?prefix=room"),
        "",
    );
    server.join();
    assert_eq!(redis.command("PING"), "NOAUTH Authentication required.");
}

#[test]
fn many_clients_of_three_nodes_hear_one_order() {
    let redis = Redis::start("");
    let servers = three_nodes(&redis.url());
    let mut members = members(&servers, 200);
    let history = speak_through(&servers, &mut members, || ());
    let texts = history.check(&mut members, &[0, 1, 2]);
    assert!(texts.len() > 200);
}

#[test]
fn a_node_that_is_killed_loses_nothing() {
    let redis = Redis::start("");
    let mut servers = three_nodes(&redis.url());
    let mut members = members(&servers, 12);
    let history = speak_through(&servers, &mut members, || {
        servers[0].process.signal("KILL");
    });
    servers[0].process.wait();
    history.check(&mut members, &[1, 2]);
}

#[test]
fn an_event_loop_that_stands_still_catches_up() {
    stand_still(0);
}

#[test]
fn a_thread_server_that_stands_still_catches_up() {
    stand_still(1);
}

fn stand_still(node: usize) {
    let redis = Redis::start("");
    let servers = three_nodes(&redis.url());
    let mut members = members(&servers, 12);
    let history = speak_through(&servers, &mut members, || {
        servers[node].process.signal("STOP");
        thread::sleep(Duration::from_secs(10));
        servers[node].process.signal("CONT");
    });
    history.check(&mut members, &[0, 1, 2]);
    assert!(members.iter().all(|member| member.resyncs == 0));
}

#[test]
fn redis_killed_and_restarted_keeps_what_was_acknowledged() {
    let mut redis = Redis::start("--appendonly yes --appendfsync always");
    let servers = three_nodes(&redis.url());
    let mut members = members(&servers, 12);
    let history = speak_through(&servers, &mut members, || {
        redis.kill();
        redis.restart();
    });
    history.check(&mut members, &[0, 1, 2]);
    assert!(members.iter().all(|member| member.resyncs == 0));
}

#[test]
fn a_redis_that_pauses_delays_and_loses_nothing() {
    let redis = Redis::start("");
    let servers = three_nodes(&redis.url());
    let mut members = members(&servers, 12);
    // Longer than a link may be silent.
    let history = speak_through(&servers, &mut members, || {
        redis.command("CLIENT PAUSE 4000");
    });
    history.check(&mut members, &[0, 1, 2]);
    assert!(members.iter().all(|member| member.resyncs == 0));
}

#[test]
fn a_redis_that_forgets_the_script_is_told_it_again() {
    let redis = Redis::start("");
    let servers = three_nodes(&redis.url());
    let mut members = members(&servers, 12);
    let history = speak_through(&servers, &mut members, || {
        redis.command("SCRIPT FLUSH");
    });
    history.check(&mut members, &[0, 1, 2]);
    let refused = |fate: &Fate| !matches!(fate, Fate::Acknowledged(_));
    assert!(!history.fates.values().any(refused), "nobody noticed");
}

#[test]
fn links_cut_in_the_middle_of_an_answer_lose_nothing() {
    let redis = Redis::start("");
    let way = Way::to(redis.address);
    let servers = three_nodes(&way.url());
    let mut members = members(&servers, 12);
    let history = speak_through(&servers, &mut members, || {
        for bytes in [0, 1, 5, 100, 333, 1_000, 5_003] {
            way.cut_after(bytes);
            way.wait_until_cut();
        }
    });
    history.check(&mut members, &[0, 1, 2]);
    assert!(members.iter().all(|member| member.resyncs == 0));
}

/// The replica lacks what was said last. All members learn that there is a new beginning, and all end with the same
/// messages, whatever each of them had heard.
#[test]
fn a_failover_to_a_replica_without_the_tail_begins_a_new_epoch() {
    let mut master = Redis::start("");
    let replica = Redis::replica_of(&master);
    let way = Way::to(master.address);
    let servers = three_nodes(&way.url());
    let mut members = members(&servers, 12);
    let epoch = members[0].epoch.clone();
    let behind = AtomicUsize::new(0);
    let history = speak_through(&servers, &mut members, || {
        replica.command("REPLICAOF NO ONE");
        let tip = || {
            master
                .command("XLEN wslab:log")
                .parse::<usize>()
                .expect("a number")
        };
        let before = tip();
        let deadline = Instant::now() + PATIENCE;
        while tip() < before + 50 {
            assert!(Instant::now() < deadline, "nobody says anything");
        }
        behind.store(50, Ordering::Relaxed);
        master.kill();
        way.lead_to(replica.address);
    });
    assert_eq!(behind.load(Ordering::Relaxed), 50);
    history.check(&mut members, &[0, 1, 2]);
    for member in &members {
        assert!(member.resyncs > 0, "node {} was told nothing", member.node);
        assert_eq!(member.epoch, members[0].epoch);
        assert_ne!(member.epoch, epoch);
    }
    // Who comes back with the old epoch is not told that nothing was missed.
    let since = format!("/ws/chat?since={epoch}:1");
    assert_eq!(servers[0].open(&since).next_json()["recovered"], false);
}

#[test]
fn everyone_is_counted_wherever_they_are() {
    let redis = Redis::start("");
    let mut servers = three_nodes(&redis.url());
    let mut members = members(&servers, 6);
    for server in &servers {
        wait_for_online(server, 7);
    }
    servers[0].process.signal("KILL");
    servers[0].process.wait();
    let killed = Instant::now();
    for server in &servers[1..] {
        wait_for_online(server, 5);
    }
    assert!(
        killed.elapsed() < Duration::from_secs(5),
        "{:?}",
        killed.elapsed()
    );
    // Those who stayed were told as well.
    let deadline = Instant::now() + PATIENCE;
    loop {
        match members[1].client.try_message(deadline) {
            Ok(Message::Text(text)) if text.contains("\"online_count\":4") => break,
            Ok(_) => {}
            Err(ending) => panic!("{ending:?}"),
        }
    }
}

/// Until a newcomer is told of so many, itself among them.
fn wait_for_online(server: &Server, count: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut newcomer = server.open("/ws/chat");
        let welcome = newcomer.next_json();
        newcomer.leave();
        if welcome["online_count"] == count {
            return;
        }
        assert!(Instant::now() < deadline, "{welcome} instead of {count}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// One node holds the lease on the simulated metrics; when it dies another goes on from there.
#[test]
fn the_simulated_metrics_are_the_same_everywhere() {
    let redis = Redis::start("");
    let start = |program| start(program, &redis.url(), "--metric-interval 200ms");
    let mut holder = start(KINDS[0]);
    let lease = wait_for_lease(&redis, "");
    let others = [start(KINDS[1]), start(KINDS[2])];
    let mut dashboards = vec![holder.watch(), others[0].watch(), others[1].watch()];
    wait_until_same(&mut dashboards);
    holder.process.signal("KILL");
    holder.process.wait();
    let killed = Instant::now();
    wait_for_lease(&redis, &lease);
    // Three seconds, and what a busy machine adds.
    assert!(
        killed.elapsed() < Duration::from_secs(5),
        "{:?}",
        killed.elapsed()
    );
    dashboards.remove(0);
    wait_until_same(&mut dashboards);
}

/// Until another node than this one holds the lease.
fn wait_for_lease(redis: &Redis, before: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let holder = redis.command("GET wslab:lease");
        if holder != "-1" && holder != before {
            return holder;
        }
        assert!(Instant::now() < deadline, "no node takes the lease");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Until all have shown a few values that all others have shown too, which walks of their own never would.
fn wait_until_same(dashboards: &mut [Client]) {
    let mut shown = vec![HashSet::new(); dashboards.len()];
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        for (dashboard, shown) in dashboards.iter_mut().zip(&mut shown) {
            let value = dashboard.next_json();
            if value["metric"] == "temperature" {
                shown.insert(value["value"].to_string());
            }
        }
        let by_all = |value: &&String| shown.iter().all(|shown| shown.contains(*value));
        if shown[0].iter().filter(by_all).count() >= 5 {
            return;
        }
        assert!(Instant::now() < deadline, "{shown:?}");
    }
}

#[test]
fn nodes_behind_haproxy() {
    behind_a_proxy(|ports, folder| {
        let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recipes/haproxy.cfg");
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f", recipe]).current_dir(folder);
        for (name, port) in ["PORT", "NODE1", "NODE2", "NODE3"].iter().zip(ports) {
            command.env(name, port.to_string());
        }
        command
    });
}

#[test]
fn nodes_behind_nginx() {
    behind_a_proxy(|ports, folder| {
        let recipe = include_str!("../recipes/nginx.conf").replace("FOLDER", folder);
        let names = [":PORT", ":NODE1", ":NODE2", ":NODE3"];
        let filled = names
            .iter()
            .zip(ports)
            .fold(recipe, |recipe, (name, port)| {
                recipe.replace(name, &format!(":{port}"))
            });
        let file = format!("{folder}/nginx.conf");
        std::fs::write(&file, filled).expect("a folder");
        let mut command = Command::new("nginx");
        command.args(["-c", &file, "-p", folder, "-e", "stderr"]);
        command
    });
}

/// Clients come through the proxy to all nodes; when a node dies, those that were on it come back through the proxy and
/// miss nothing.
fn behind_a_proxy(command: impl FnOnce([u16; 4], &str) -> Command) {
    let redis = Redis::start("");
    let mut servers = three_nodes(&redis.url());
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let folder = std::env::temp_dir().join(format!("wslab-proxy-{}", address.port()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let port = |node: usize| servers[node].address.port();
    let ports = [address.port(), port(0), port(1), port(2)];
    let mut command = command(ports, folder.to_str().expect("a path in UTF-8"));
    let mut proxy = Process::spawn(&mut command);
    let open = |path: &str| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(stream) = std::net::TcpStream::connect(address) {
                drop(stream);
                if let Ok(client) = Client::upgrade(Wire::connect(address), address, path, "") {
                    return client;
                }
            }
            assert!(Instant::now() < deadline, "nobody comes through the proxy");
            thread::sleep(Duration::from_millis(20));
        }
    };
    let mut clients: Vec<_> = (0..6).map(|_| open("/ws/chat")).collect();
    let mut epoch = String::new();
    for client in &mut clients {
        let welcome = client.next_json();
        let named = welcome["epoch"].as_str().expect("an epoch");
        named.clone_into(&mut epoch);
    }
    clients[0].say_with_cid("before", "1");
    for client in &mut clients {
        while client.next_json()["text"] != "before" {}
    }
    servers[0].process.signal("KILL");
    servers[0].process.wait();
    let mut writer = open("/ws/chat");
    writer.say_with_cid("after", "2");
    let mut ended = 0;
    for client in &mut clients {
        loop {
            match client.try_message(Instant::now() + PATIENCE) {
                Ok(Message::Text(text)) if text.contains("\"after\"") => break,
                Ok(_) => {}
                Err(_) => {
                    ended += 1;
                    let mut back = open(&format!("/ws/chat?since={epoch}:1"));
                    assert_eq!(back.next_json()["recovered"], true);
                    while back.next_json()["text"] != "after" {}
                    break;
                }
            }
        }
    }
    assert!(
        (1..6).contains(&ended),
        "{ended} of 6 were on the node that died"
    );
    proxy.signal("TERM");
    proxy.wait();
    std::fs::remove_dir_all(&folder).expect("the folder is there");
}

/// The kernel chooses between servers that listen on one port.
#[cfg(target_os = "linux")]
#[test]
fn several_servers_share_a_port() {
    let redis = Redis::start("");
    let flags = format!("--redis {} --reuse-port", redis.url());
    let first = KINDS[0].start(&flags);
    let mut command = KINDS[1].command(&format!("--bind {} {flags}", first.address));
    let second = Server::start(&mut command);
    assert_eq!(first.address, second.address);
    let deadline = Instant::now() + PATIENCE;
    let mut kinds = HashSet::new();
    while kinds.len() < 2 {
        assert!(Instant::now() < deadline, "always {kinds:?}");
        let mut client = first.open("/ws/chat");
        kinds.insert(client.next_json()["server"].to_string());
        client.leave();
    }
    let without = KINDS[0].run(&format!("--bind {}", first.address));
    assert_eq!(without.status, Some(1), "a port is shared by consent only");
}

/// Each figure is there, and those that this test causes have moved.
#[test]
fn redis_is_measured() {
    let redis = Redis::start("");
    let way = Way::to(redis.address);
    for program in [KINDS[0], KINDS[1]] {
        let servers = [start(program, &way.url(), "")];
        let mut member = Member::join(&servers, 0);
        let address = servers[0].address;
        member.say_for_sure(&format!("one {address}"));
        way.cut();
        member.say_for_sure(&format!("two {address}"));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metrics = servers[0].get("/metrics");
            let text = metrics.text();
            let wanted = [
                "wslab_redis_up{link=\"publish\"} 1",
                "wslab_redis_up{link=\"read\"} 1",
                "wslab_redis_reconnects_total 2",
                "wslab_redis_gaps_total 0",
                "wslab_redis_resyncs_total 0",
                "wslab_redis_lag 0",
                "wslab_redis_pending 0",
            ];
            let has = |line: &str| text.lines().any(|found| found == line);
            if wanted.iter().all(|line| has(line)) && !has("wslab_redis_round_trip_seconds_count 0")
            {
                break;
            }
            assert!(Instant::now() < deadline, "{text}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Where replicas are asked for, the acknowledgement says whether they have the message.
#[test]
fn replicas_are_waited_for() {
    let master = Redis::start("");
    let replica = Redis::replica_of(&master);
    for program in [KINDS[0], KINDS[1]] {
        let server = start(program, &master.url(), "--redis-replicas 1");
        let mut client = server.join();
        client.say_with_cid("Hello", &format!("{}", server.address));
        assert_eq!(ack(&mut client)["stored"], "replicas");
    }
    drop(replica);
    let server = start(KINDS[0], &master.url(), "--redis-replicas 1");
    let mut client = server.join();
    client.say_with_cid("Hello", "alone");
    assert_eq!(ack(&mut client)["stored"], "stream");
}

/// The next acknowledgement, which may come before its message or behind it.
fn ack(client: &mut Client) -> Value {
    loop {
        let value = client.next_json();
        if value["type"] == "ack" {
            return value;
        }
    }
}
