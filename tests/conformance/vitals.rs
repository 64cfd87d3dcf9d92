//! The server's own figures: metrics that are subscribed to by name only.

use serde_json::json;

use crate::client::Client;
use crate::harness::{Program, Server};

conformance! {
    vitals_are_confirmed_and_sent_by_name,
    clients_are_counted_on_all_endpoints,
    deliveries_follow_the_traffic,
    lag_is_a_short_time,
    memory_is_the_process_own,
    #[cfg(target_os = "linux")]
    threads_are_the_process_own,
    #[cfg(target_os = "linux")]
    what_a_client_took_is_given_back,
}

/// Threads are counted on Linux only.
#[cfg(target_os = "linux")]
const OFFERED: [&str; 5] = ["clients", "deliveries", "lag", "memory", "threads"];
#[cfg(not(target_os = "linux"))]
const OFFERED: [&str; 4] = ["clients", "deliveries", "lag", "memory"];
const QUICK: &str = "--metric-interval 50ms --chat-interval 0s";

/// A dashboard client that is sent nothing but this metric.
fn watch(server: &Server, metrics: &[&str]) -> Client {
    let mut client = server.watch();
    client.json(&json!({"type": "subscribe", "metrics": metrics}));
    loop {
        let value = client.next_json();
        if value["code"] == "subscribed" {
            assert_eq!(value["subscribed"], json!(metrics));
            return client;
        }
        assert_eq!(value["type"], "metric", "{value}");
    }
}

fn next_value(client: &mut Client) -> f64 {
    let value = client.next_json();
    value["value"]
        .as_f64()
        .unwrap_or_else(|| panic!("no value in {value}"))
}

/// Reads values until one is as it should be; the tests below say what must come to pass.
fn await_value(client: &mut Client, expected: impl Fn(f64) -> bool) {
    let values: Vec<_> = (0..100)
        .map(|_| next_value(client))
        .take_while(|value| !expected(*value))
        .collect();
    assert!(values.len() < 100, "{values:?}");
}

fn vitals_are_confirmed_and_sent_by_name(program: Program) {
    let server = program.start(QUICK);
    let vitals = OFFERED;
    let mut client = watch(&server, &vitals);
    let mut names: Vec<_> = (0..vitals.len())
        .map(|_| {
            client.next_json()["metric"]
                .as_str()
                .expect("a name")
                .to_owned()
        })
        .collect();
    names.sort_unstable();
    assert_eq!(names, vitals);
}

fn clients_are_counted_on_all_endpoints(program: Program) {
    let server = program.start(QUICK);
    let mut client = watch(&server, &["clients"]);
    await_value(&mut client, |clients| (clients - 1.0).abs() < 0.01);
    let others = [server.join(), server.watch(), server.open("/ws/echo")];
    await_value(&mut client, |clients| (clients - 4.0).abs() < 0.01);
    drop(others);
    await_value(&mut client, |clients| (clients - 1.0).abs() < 0.01);
}

fn deliveries_follow_the_traffic(program: Program) {
    let server = program.start(QUICK);
    let mut client = watch(&server, &["deliveries"]);
    // This client alone is sent one frame in each 50 ms, which is 20 a second.
    await_value(&mut client, |deliveries| {
        deliveries > 1.0 && deliveries < 100.0
    });
    let mut speaker = server.join();
    for _ in 0..500 {
        speaker.say("Alice", "Hello");
    }
    // 500 within a tick or a few; how it is averaged over the last second is left open.
    await_value(&mut client, |deliveries| deliveries > 400.0);
    await_value(&mut client, |deliveries| deliveries < 100.0);
}

fn lag_is_a_short_time(program: Program) {
    let server = program.start(QUICK);
    let mut client = watch(&server, &["lag"]);
    let lags: Vec<_> = (0..5).map(|_| next_value(&mut client)).collect();
    assert!(
        lags.iter().all(|lag| (0.0..5_000.0).contains(lag)),
        "{lags:?}"
    );
}

fn memory_is_the_process_own(program: Program) {
    let server = program.start(QUICK);
    let mut client = watch(&server, &["memory"]);
    let memory = next_value(&mut client);
    assert!((0.5..500.0).contains(&memory), "{memory} MiB");
    #[cfg(target_os = "linux")]
    {
        let resident = server.process.memory_kib("VmRSS") as f64 / 1024.0;
        assert!(
            (memory - resident).abs() < 0.2 * resident,
            "{memory} MiB is not {resident} MiB"
        );
    }
}

#[cfg(target_os = "linux")]
fn threads_are_the_process_own(program: Program) {
    let server = program.start(QUICK);
    let mut client = watch(&server, &["threads"]);
    let threads = next_value(&mut client);
    let own = server.process.threads() as f64;
    assert!((threads - own).abs() < 0.01, "{threads} is not {own}");
}

/// A thread a client, where there is one, ends with the client.
#[cfg(target_os = "linux")]
fn what_a_client_took_is_given_back(program: Program) {
    let server = program.start(QUICK);
    let mut client = watch(&server, &["threads"]);
    let before = next_value(&mut client);
    for _ in 0..5 {
        let clients: Vec<_> = (0..40).map(|_| server.open("/ws/echo")).collect();
        drop(clients);
    }
    await_value(&mut client, |threads| (threads - before).abs() < 0.01);
}
