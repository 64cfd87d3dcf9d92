//! The inside view: records of turns or of threads to those who watch, the path of one message, and experiments.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
use crate::counters::Tally;
use crate::harness::{Program, Server};

conformance! {
    the_welcome_says_what_the_client_may_ask_for,
    views_come_to_subscribers_only_and_at_most_ten_a_second,
    a_view_shows_the_room_and_what_the_server_did,
    a_view_is_small_however_much_happened,
    whoever_breaks_the_rules_is_told,
    foreign_pages_and_hosts_are_refused,
    a_followed_message_is_seen_at_every_hop,
    the_trace_is_for_perfetto_and_its_events_are_nested,
    nobody_experiments_unless_the_server_allows_it,
    experiments_are_for_loopback_only,
    a_held_handler_stops_a_loop_and_no_other_thread,
    a_stepped_loop_turns_once_for_each_step,
    a_loop_goes_on_when_its_stepper_has_gone,
    a_stepped_server_can_be_stopped,
}

const QUICK: &str = "--chat-interval 0s --metric-interval 50ms";
const EXPERIMENTS: &str = "--chat-interval 0s --experiments";

/// A client of the inside view, with the welcome that it got.
fn look(server: &Server) -> (Client, Value) {
    let mut client = server.open("/ws/inside");
    let welcome = client.next_json();
    assert_eq!(welcome["code"], "welcome", "{welcome}");
    (client, welcome)
}

/// The answer to a request; views that come before it are passed over.
fn ask(client: &mut Client, request: &Value) -> Value {
    client.json(request);
    loop {
        let value = client.next_json();
        if value["type"] != "inside" {
            return value;
        }
    }
}

fn subscribe(client: &mut Client) {
    let answer = ask(client, &json!({"type": "subscribe"}));
    assert_eq!(answer["code"], "subscribed", "{answer}");
}

fn watch(server: &Server) -> Client {
    let (mut client, _) = look(server);
    subscribe(&mut client);
    client
}

fn next_view(client: &mut Client) -> Value {
    let view = client.next_json();
    assert_eq!(view["type"], "inside", "{view}");
    view
}

/// Views until one is as it should be.
fn await_view(client: &mut Client, expected: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..200 {
        let view = next_view(client);
        if expected(&view) {
            return view;
        }
    }
    panic!("no view is as expected");
}

fn is_loop(welcome: &Value) -> bool {
    welcome["server"] == "evloop"
}

fn the_welcome_says_what_the_client_may_ask_for(program: Program) {
    let (_, welcome) = look(&program.start(""));
    assert_eq!(welcome["experiments"], json!([]));
    assert!(welcome["ping_interval_ms"].is_u64(), "{welcome}");
    let (_, welcome) = look(&program.start(EXPERIMENTS));
    let expected: &[&str] = if is_loop(&welcome) {
        &["hold", "step"]
    } else {
        &["hold"]
    };
    assert_eq!(welcome["experiments"], json!(expected));
}

fn views_come_to_subscribers_only_and_at_most_ten_a_second(program: Program) {
    let server = program.start(QUICK);
    let (mut silent, _) = look(&server);
    let mut client = watch(&server);
    let first = next_view(&mut client)["ts"].as_u64().expect("a time");
    for _ in 0..9 {
        next_view(&mut client);
    }
    let last = next_view(&mut client)["ts"].as_u64().expect("a time");
    assert!(
        last - first >= 990,
        "eleven views within {} ms",
        last - first
    );
    assert_eq!(silent.answers_so_far(), [] as [Value; 0]);

    let answer = ask(&mut client, &json!({"type": "unsubscribe"}));
    assert_eq!(answer["code"], "unsubscribed");
    subscribe(&mut silent);
    (0..3).for_each(|_| drop(next_view(&mut silent)));
    assert_eq!(client.answers_so_far(), [] as [Value; 0]);
}

fn a_view_shows_the_room_and_what_the_server_did(program: Program) {
    let server = program.start(QUICK);
    let (mut client, welcome) = look(&server);
    subscribe(&mut client);
    let mut members: Vec<Client> = (0..3).map(|_| server.join()).collect();
    members[0].say("An", "hello");
    let view = await_view(&mut client, |view| view["room"]["members"] == 3);
    let parts = view["room"]["parts"].as_array().expect("parts");
    let members_of_parts: u64 = parts.iter().filter_map(|part| part[0].as_u64()).sum();
    assert_eq!(members_of_parts, 3, "{view}");
    let outboxes = view["outboxes"].as_array().expect("classes");
    let sockets: u64 = outboxes.iter().filter_map(Value::as_u64).sum();
    assert!(sockets >= 3 && outboxes.len() == 8, "{view}");
    assert_eq!(view["turns"].is_object(), is_loop(&welcome), "{view}");
    assert_eq!(view["threads"].is_object(), !is_loop(&welcome), "{view}");
    if is_loop(&welcome) {
        check_turns(&mut client);
        let timers = view["wheel"]["parts"].as_array().expect("parts");
        assert!(timers.iter().filter_map(Value::as_u64).sum::<u64>() >= 4);
    } else {
        let states = view["threads"]["parts"].as_str().expect("a digit each");
        assert!(states.len() >= 4, "{view}");
        assert!(
            states.contains('1'),
            "a client that is silent sleeps: {view}"
        );
    }
}

/// Turns come in order, without a gap, and one begins where the last ended.
fn check_turns(client: &mut Client) {
    let (mut next, mut end) = (None, 0);
    for _ in 0..5 {
        let view = next_view(client);
        let turns = &view["turns"];
        let first = turns["first"].as_u64().expect("a number");
        assert_eq!(turns["skipped"], 0, "{view}");
        assert!(next.is_none_or(|next| next == first), "{view}");
        let rows = turns["rows"].as_array().expect("rows");
        for row in rows {
            let row: Vec<u64> = row
                .as_array()
                .expect("a row")
                .iter()
                .filter_map(Value::as_u64)
                .collect();
            assert_eq!(row.len(), 16, "{view}");
            assert!(row[0] >= end, "turns overlap: {view}");
            // Each stage is rounded down to a tenth of a microsecond.
            end = row[0] + row[1..8].iter().sum::<u64>();
        }
        next = Some(first + rows.len() as u64);
    }
}

fn a_view_is_small_however_much_happened(program: Program) {
    let server = program.start(QUICK);
    let mut client = watch(&server);
    let mut busy = server.open("/ws/echo");
    let deadline = Instant::now() + Duration::from_millis(500);
    while Instant::now() < deadline {
        busy.text("again");
        busy.next_text();
    }
    for _ in 0..5 {
        let length = client.next_text().len();
        assert!(length < 64 * 1024, "{length} bytes");
    }
}

fn whoever_breaks_the_rules_is_told(program: Program) {
    let server = program.start("");
    let (mut client, _) = look(&server);
    for (request, code) in [
        (json!({"type": "chat"}), "bad_message"),
        (json!({"type": "follow"}), "bad_message"),
        (json!([]), "bad_message"),
    ] {
        let answer = ask(&mut client, &request);
        assert_eq!(
            (&answer["type"], &answer["code"]),
            (&json!("error"), &json!(code))
        );
    }
    client.text("{");
    assert_eq!(client.next_json()["code"], "bad_json");
    assert_eq!(ask(&mut client, &json!({"type": "ping"}))["type"], "pong");
}

fn foreign_pages_and_hosts_are_refused(program: Program) {
    let server = program.start(EXPERIMENTS);
    let refused = |headers: &str| {
        let response = server.try_open("/ws/inside", headers);
        response.err().map(|response| response.status)
    };
    assert_eq!(refused("Origin: http://example.com\r\n"), Some(403));
    assert_eq!(refused(""), None);
    let request = "GET /inside/trace.json HTTP/1.1\r\nHost: example.com\r\n\r\n";
    assert_eq!(server.exchange("GET", request).status, 421);

    // A frame of any site may look from this machine, but stop nothing.
    let mut anonymous = server
        .try_open("/ws/inside", "Origin: null\r\n")
        .expect("let in on loopback");
    assert_eq!(anonymous.next_json()["experiments"], json!([]));
    let answer = ask(&mut anonymous, &json!({"type": "hold"}));
    assert_eq!(answer["code"], "no_experiments");
}

fn a_followed_message_is_seen_at_every_hop(program: Program) {
    let server = program.start(QUICK);
    let mut client = watch(&server);
    let mut members: Vec<Client> = (0..3).map(|_| server.join()).collect();
    let answer = ask(&mut client, &json!({"type": "follow", "cid": "the one"}));
    assert_eq!(answer["code"], "following");
    members[0].say_with_cid("not this", "another");
    members[1].say_with_cid("this", "the one");
    let view = await_view(&mut client, |view| view["followed"].is_object());
    let followed = &view["followed"];
    assert_eq!(
        (&followed["cid"], &followed["complete"]),
        (&json!("the one"), &json!(true))
    );
    let steps = followed["steps"].as_array().expect("steps");
    let hops: Vec<&str> = steps
        .iter()
        .filter_map(|step| step["hop"].as_str())
        .collect();
    assert_eq!(
        hops,
        [
            "readable",
            "parsed",
            "engine",
            "rules",
            "appended",
            "first_member",
            "last_member"
        ]
    );
    let times: Vec<u64> = steps
        .iter()
        .filter_map(|step| step["at"].as_u64())
        .collect();
    assert!(times.is_sorted() && times[0] == 0, "{times:?}");
    for step in steps {
        let file = step["file"].as_str().expect("a file");
        let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
        let function = step["function"].as_str().expect("a function");
        let name = function.rsplit("::").next().expect("a name");
        let source = source.unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(
            source.contains(&format!("fn {name}")),
            "no {name} in {file}"
        );
    }
    next_view(&mut client);
}

fn the_trace_is_for_perfetto_and_its_events_are_nested(program: Program) {
    let server = program.start(QUICK);
    let _watched = watch(&server);
    let mut members: Vec<Client> = (0..8).map(|_| server.join()).collect();
    for round in 0..5 {
        for member in &mut members {
            member.say("An", &format!("round {round}"));
        }
    }
    for member in &mut members {
        member.heard_so_far();
    }
    let response = server.get("/inside/trace.json");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let trace: Value = serde_json::from_str(response.text()).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("events");
    assert!(events.len() > 5, "{trace}");
    let mut rows: HashMap<u64, Vec<(u64, u64)>> = HashMap::new();
    for event in events {
        assert_eq!((&event["ph"], &event["pid"]), (&json!("X"), &json!(1)));
        assert!(event["name"].is_string());
        let ticks = |name: &str| {
            let microseconds = event[name].as_f64().expect("microseconds");
            format!("{:.0}", microseconds * 10.0)
                .parse::<u64>()
                .expect("ticks")
        };
        let row = event["tid"].as_u64().expect("a row");
        let start = ticks("ts");
        rows.entry(row)
            .or_default()
            .push((start, start + ticks("dur")));
    }
    for (row, mut spans) in rows {
        spans.sort_by_key(|(start, end)| (*start, u64::MAX - end));
        let mut open: Vec<u64> = Vec::new();
        for (start, end) in spans {
            open.retain(|outer| *outer > start);
            let within = open.last().is_none_or(|outer| end <= *outer);
            assert!(
                within,
                "row {row}: an event from {start} to {end} crosses another"
            );
            open.push(end);
        }
    }
}

fn nobody_experiments_unless_the_server_allows_it(program: Program) {
    let server = program.start("");
    let tally = Tally::new(&server, "no_experiments");
    let (mut client, _) = look(&server);
    for experiment in ["hold", "step", "run"] {
        let answer = ask(&mut client, &json!({"type": experiment}));
        assert_eq!(answer["code"], "no_experiments", "{experiment}");
    }
    tally.rises_by(3);
}

fn experiments_are_for_loopback_only(program: Program) {
    let finished = program.run("--bind 0.0.0.0:0 --experiments");
    assert_eq!(finished.status, Some(1));
    assert!(
        finished.stderr[0].contains("--experiments"),
        "{:?}",
        finished.stderr
    );
}

fn a_held_handler_stops_a_loop_and_no_other_thread(program: Program) {
    let server = program.start(EXPERIMENTS);
    let (mut client, welcome) = look(&server);
    let mut bystander = server.open("/ws/echo");
    let started = Instant::now();
    client.json(&json!({"type": "hold"}));
    // On the loop the answer is held up too: what is read is answered when its handler has returned.
    let mut longest = Duration::ZERO;
    while started.elapsed() < Duration::from_millis(400) {
        let asked = Instant::now();
        bystander.text("still there?");
        bystander.next_text();
        longest = longest.max(asked.elapsed());
    }
    assert_eq!(client.next_json()["code"], "held");
    if is_loop(&welcome) {
        assert!(longest > Duration::from_millis(150), "{longest:?}");
        let line = server
            .process
            .stderr
            .wait_for("a slow turn", |line| line.contains("Turn "));
        let number: u64 = line
            .split_once("Turn ")
            .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no number in {line}"));
        assert!(line.contains("of which read 2"), "{line}");
        subscribe(&mut client);
        let view = await_view(&mut client, |view| view["slow"].is_array());
        assert_eq!(view["slow"][0][0], number, "{view}");
        let busy = view["slow"][0][2].as_u64().expect("a length");
        assert!(busy >= 2_000_000, "{view}");
    } else {
        assert!(longest < Duration::from_millis(150), "{longest:?}");
    }
}

fn a_stepped_loop_turns_once_for_each_step(program: Program) {
    let server = program.start(EXPERIMENTS);
    let (mut client, welcome) = look(&server);
    let step = json!({"type": "step"});
    if !is_loop(&welcome) {
        assert_eq!(ask(&mut client, &step)["code"], "no_experiments");
        return;
    }
    let mut echo = server.open("/ws/echo");
    subscribe(&mut client);
    assert_eq!(ask(&mut client, &step)["code"], "stepping");
    echo.text("in step");
    assert_eq!(ask(&mut client, &json!({"type": "ping"}))["type"], "pong");
    let before = Instant::now() + Duration::from_millis(200);
    assert!(echo.try_message(before).is_err(), "nobody else is served");

    assert_eq!(ask(&mut client, &step)["code"], "stepping");
    let view = await_view(&mut client, |view| view["stepping"] == true);
    let turns = view["turns"]["rows"].as_array().expect("rows").len();
    assert!(turns >= 1, "{view}");
    assert_eq!(echo.next_text(), "in step");
    assert_eq!(ask(&mut client, &step)["code"], "stepping");
    let view = await_view(&mut client, |view| view["stepping"] == true);
    assert_eq!(
        view["turns"]["rows"].as_array().map(Vec::len),
        Some(1),
        "{view}"
    );

    assert_eq!(ask(&mut client, &json!({"type": "run"}))["code"], "running");
    echo.text("free again");
    assert_eq!(echo.next_text(), "free again");
}

fn a_loop_goes_on_when_its_stepper_has_gone(program: Program) {
    let server = program.start(EXPERIMENTS);
    let (mut client, welcome) = look(&server);
    if is_loop(&welcome) {
        assert_eq!(
            ask(&mut client, &json!({"type": "step"}))["code"],
            "stepping"
        );
    }
    drop(client);
    let mut echo = server.open("/ws/echo");
    echo.text("free again");
    assert_eq!(echo.next_text(), "free again");
}

fn a_stepped_server_can_be_stopped(program: Program) {
    let mut server = program.start(EXPERIMENTS);
    let (mut client, welcome) = look(&server);
    if is_loop(&welcome) {
        assert_eq!(
            ask(&mut client, &json!({"type": "step"}))["code"],
            "stepping"
        );
    }
    server.process.signal("INT");
    assert_eq!(client.await_close(), Some(1001));
    drop(client);
    assert_eq!(server.process.wait().code(), Some(0));
}
