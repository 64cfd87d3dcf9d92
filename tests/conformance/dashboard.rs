//! The dashboard: subscriptions, and one message for each subscribed metric and tick.

use serde_json::{Value, json};

use crate::client::Client;
use crate::counters::Tally;
use crate::frame::{self, Frame};
use crate::harness::Program;
use crate::texts;

conformance! {
    a_newcomer_is_greeted_and_subscribed_to_three,
    no_tick_comes_before_the_greeting,
    each_tick_brings_each_metric_once,
    a_tick_is_the_same_for_all,
    a_subscription_is_confirmed_in_the_order_asked_for,
    repeats_are_dropped,
    an_unknown_metric_is_left_out_and_named_an_error,
    an_empty_list_means_none,
    a_confirmation_comes_before_what_it_confirms,
    only_what_is_subscribed_is_sent,
    what_is_no_subscription_is_refused,
    values_are_rounded_to_two_decimals,
    simulated_values_walk_within_their_bounds,
    the_hosts_cpu_is_a_percentage,
}

const QUICK: &str = "--metric-interval 50ms";
const SLOW: &str = "--metric-interval 1h";

fn subscribe(client: &mut Client, metrics: &[&str]) {
    client.json(&json!({"type": "subscribe", "metrics": metrics}));
}

/// The next message that is no metric.
fn next_answer(client: &mut Client) -> Value {
    loop {
        let value = client.next_json();
        if value["type"] != "metric" {
            return value;
        }
    }
}

fn assert_confirms(answer: &Value, subscribed: &[&str]) {
    assert_eq!(
        (&answer["type"], &answer["code"]),
        (&json!("system"), &json!("subscribed")),
        "{answer}"
    );
    assert_eq!(answer["subscribed"], json!(subscribed));
    assert_eq!(
        answer["text"],
        format!("Đã subscribe: {}", subscribed.join(", "))
    );
    assert!(answer["ts"].is_u64(), "{answer}");
}

/// The messages of the next `ticks` whole ticks, grouped by their common time.
fn next_ticks(client: &mut Client, ticks: usize) -> Vec<Vec<Value>> {
    let mut groups: Vec<Vec<Value>> = Vec::new();
    loop {
        let value = client.next_json();
        assert_eq!(value["type"], "metric", "{value}");
        if groups
            .last()
            .is_none_or(|group| group[0]["ts"] != value["ts"])
        {
            if groups.len() == ticks {
                return groups;
            }
            groups.push(Vec::new());
        }
        groups.last_mut().expect("one was pushed").push(value);
    }
}

fn names(tick: &[Value]) -> Vec<&str> {
    tick.iter()
        .map(|message| message["metric"].as_str().expect("a name"))
        .collect()
}

/// The values of one metric over many ticks.
fn values(client: &mut Client, metric: &str, ticks: usize) -> Vec<f64> {
    subscribe(client, &[metric]);
    assert_eq!(next_answer(client)["code"], "subscribed");
    next_ticks(client, ticks)
        .iter()
        .map(|tick| tick[0]["value"].as_f64().expect("a number"))
        .collect()
}

fn a_newcomer_is_greeted_and_subscribed_to_three(program: Program) {
    let server = program.start(SLOW);
    let mut client = server.open("/ws/dashboard");
    let greeting = client.next_json();
    assert!(greeting["ts"].is_u64(), "{greeting}");
    assert_eq!(
        (&greeting["type"], &greeting["code"]),
        (&json!("system"), &json!("welcome"))
    );
    assert_eq!(greeting["text"], texts::DASHBOARD_WELCOME);
    assert_eq!(
        greeting["subscribed"],
        json!(["temperature", "stock", "cpu"])
    );
    assert_eq!(client.answers_so_far(), [] as [Value; 0]);
}

/// However often the clock ticks: the answer to the handshake comes first, then the greeting, then values.
fn no_tick_comes_before_the_greeting(program: Program) {
    let server = program.start("--metric-interval 1ms");
    for round in 0..500 {
        let mut client = server.open("/ws/dashboard");
        assert_eq!(client.next_json()["code"], "welcome", "round {round}");
        client.vanish();
    }
}

fn each_tick_brings_each_metric_once(program: Program) {
    let server = program.start(QUICK);
    let mut client = server.watch();
    let ticks = next_ticks(&mut client, 5);
    for tick in &ticks {
        assert_eq!(names(tick), ["temperature", "stock", "cpu"]);
        for message in tick {
            assert_eq!(
                message.as_object().expect("an object").len(),
                4,
                "{message}"
            );
            assert!(
                message["value"].is_number() && message["ts"].is_u64(),
                "{message}"
            );
        }
    }
    let times: Vec<_> = ticks.iter().map(|tick| tick[0]["ts"].as_u64()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

fn a_tick_is_the_same_for_all(program: Program) {
    let server = program.start(QUICK);
    let mut clients = [server.watch(), server.watch()];
    let [first, second] = clients.each_mut().map(|client| next_ticks(client, 10));
    let common: Vec<_> = first
        .iter()
        .filter(|tick| second.iter().any(|other| other[0]["ts"] == tick[0]["ts"]))
        .collect();
    assert!(common.len() >= 3, "{first:?} {second:?}");
    assert!(
        common.iter().all(|tick| second.contains(tick)),
        "{first:?} {second:?}"
    );
}

fn a_subscription_is_confirmed_in_the_order_asked_for(program: Program) {
    let server = program.start(QUICK);
    let mut client = server.watch();
    for metrics in [
        &["cpu", "stock"][..],
        &["stock", "cpu"],
        &["stock", "temperature", "cpu"],
        &["cpu"],
    ] {
        subscribe(&mut client, metrics);
        assert_confirms(&next_answer(&mut client), metrics);
    }
}

fn repeats_are_dropped(program: Program) {
    let server = program.start(QUICK);
    let mut client = server.watch();
    subscribe(&mut client, &["cpu", "stock", "cpu", "cpu", "stock"]);
    assert_confirms(&next_answer(&mut client), &["cpu", "stock"]);
    for mut tick in next_ticks(&mut client, 3) {
        tick.sort_by_key(|message| message["metric"].to_string());
        assert_eq!(names(&tick), ["cpu", "stock"]);
    }
}

fn an_unknown_metric_is_left_out_and_named_an_error(program: Program) {
    let server = program.start(SLOW);
    let tally = Tally::new(&server, "unknown_metric");
    let mut client = server.watch();
    for (asked, known) in [
        (&["cpu", "humidity", "stock"][..], &["cpu", "stock"][..]),
        (&["humidity"], &[]),
        (&["", "CPU", "cpu ", "temperature"], &["temperature"]),
    ] {
        subscribe(&mut client, asked);
        assert_confirms(&client.next_json(), known);
        let error = client.next_json();
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("error"), &json!("unknown_metric"))
        );
        assert!(
            error["text"].as_str().is_some_and(|text| !text.is_empty()) && error["ts"].is_u64(),
            "{error}"
        );
        assert_eq!(client.answers_so_far(), [] as [Value; 0]);
    }
    tally.rises_by(3);
}

fn an_empty_list_means_none(program: Program) {
    let server = program.start(QUICK);
    let mut client = server.watch();
    let mut clock = server.watch();
    subscribe(&mut client, &[]);
    assert_confirms(&next_answer(&mut client), &[]);
    // The other client's ticks tell that there was time for a few.
    clock.answers_so_far();
    next_ticks(&mut clock, 4);
    assert_eq!(client.answers_so_far(), [] as [Value; 0]);
    subscribe(&mut client, &["cpu"]);
    assert_confirms(&client.next_json(), &["cpu"]);
    assert_eq!(client.next_json()["metric"], "cpu");
}

fn a_confirmation_comes_before_what_it_confirms(program: Program) {
    let server = program.start("--metric-interval 1ms");
    let mut client = server.watch();
    for _ in 0..2000 {
        subscribe(&mut client, &[]);
        assert_confirms(&next_answer(&mut client), &[]);
        subscribe(&mut client, &["cpu"]);
        assert_confirms(&client.next_json(), &["cpu"]);
    }
}

fn only_what_is_subscribed_is_sent(program: Program) {
    let server = program.start(QUICK);
    let mut client = server.watch();
    subscribe(&mut client, &["stock"]);
    assert_confirms(&next_answer(&mut client), &["stock"]);
    for tick in next_ticks(&mut client, 4) {
        assert_eq!(names(&tick), ["stock"]);
    }
}

fn what_is_no_subscription_is_refused(program: Program) {
    let server = program.start(SLOW);
    let mut client = server.watch();
    for message in [
        "",
        "no JSON",
        "{\"type\":\"subscribe\",\"metrics\":[\"cpu\"",
        "{\"type\":\"subscribe\",}",
    ] {
        client.text(message);
        let error = client.next_json();
        assert_eq!(
            (&error["code"], &error["text"]),
            (&json!("bad_json"), &json!(texts::BAD_JSON)),
            "{message}"
        );
    }
    for message in [
        json!([]),
        json!({}),
        json!({"type": "chat", "name": "Alice", "text": "Hello"}),
        json!({"type": "subscribe", "metrics": "cpu"}),
        json!({"type": "subscribe", "metrics": {"cpu": true}}),
        json!({"type": "subscribe", "metrics": ["cpu", 1]}),
        json!({"type": "subscribe", "metrics": [["cpu"]]}),
    ] {
        client.json(&message);
        let error = client.next_json();
        assert_eq!(
            (&error["code"], &error["text"]),
            (&json!("bad_message"), &json!(texts::BAD_MESSAGE)),
            "{message}"
        );
    }
    client.send(&Frame::new(
        frame::BINARY,
        "{\"type\":\"subscribe\",\"metrics\":[\"cpu\"]}",
    ));
    assert_confirms(&client.next_json(), &["cpu"]);
}

fn values_are_rounded_to_two_decimals(program: Program) {
    let server = program.start("--metric-interval 20ms --simulate-cpu");
    let mut client = server.watch();
    for message in next_ticks(&mut client, 20).concat() {
        let value = message["value"].to_string();
        let decimals = value
            .split_once('.')
            .map_or(0, |(_, decimals)| decimals.len());
        assert!(decimals <= 2 && !value.contains('e'), "{message}");
    }
}

fn simulated_values_walk_within_their_bounds(program: Program) {
    let server = program.start("--metric-interval 20ms --simulate-cpu");
    let mut client = server.watch();
    // Rounding moves each of two neighbours by at most half a cent.
    let rounding = 0.011;
    let temperatures = values(&mut client, "temperature", 20);
    assert!(
        temperatures
            .iter()
            .all(|value| (20.0..=35.0).contains(value)),
        "{temperatures:?}"
    );
    assert!(
        temperatures
            .windows(2)
            .all(|pair| (pair[0] - pair[1]).abs() <= 1.5 + rounding),
        "{temperatures:?}"
    );
    let stocks = values(&mut client, "stock", 20);
    assert!(
        stocks.iter().all(|value| (50.0..=200.0).contains(value)),
        "{stocks:?}"
    );
    assert!(
        stocks
            .windows(2)
            .all(|pair| (pair[0] - pair[1]).abs() <= pair[0] * 0.02 + rounding),
        "{stocks:?}"
    );
    let loads = values(&mut client, "cpu", 20);
    assert!(
        loads.iter().all(|value| (10.0..=90.0).contains(value)),
        "{loads:?}"
    );
    assert!(
        loads
            .windows(2)
            .all(|pair| (pair[0] - pair[1]).abs() <= 10.0 + rounding),
        "{loads:?}"
    );
    for walk in [temperatures, stocks, loads] {
        assert!(
            walk.windows(2).any(|pair| pair[0] < pair[1])
                && walk.windows(2).any(|pair| pair[0] > pair[1]),
            "{walk:?}"
        );
    }
}

fn the_hosts_cpu_is_a_percentage(program: Program) {
    let server = program.start(QUICK);
    let loads = values(&mut server.watch(), "cpu", 5);
    assert!(
        loads.iter().all(|value| (0.0..=100.0).contains(value)),
        "{loads:?}"
    );
}
