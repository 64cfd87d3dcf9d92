//! The whole program against a target with known faults: the figures must say what is wrong, and how much.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_compare");

/// A fake target, ended with the test.
struct Target {
    process: Child,
    address: String,
}

impl Target {
    fn start(faults: &[&str]) -> Self {
        let mut process = Command::new(PROGRAM)
            .arg("fake-server")
            .args(faults)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program was built with this test");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect("it says where it listens").to_owned();
        Self { process, address }
    }

    fn measure(&self, words: &[&str]) -> Value {
        let output = Command::new(PROGRAM)
            .args(["--target", &format!("ws://{}", self.address), "--pid", &self.process.id().to_string(), "--json"])
            .args(["--no-pin", "--warm-up", "500ms"])
            .args(words)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("one line of JSON")
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn number(figures: &Value, path: &str) -> f64 {
    figures.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {figures}"))
}

fn count(figures: &Value, path: &str) -> u64 {
    figures.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {figures}"))
}

/// A shared machine makes latencies longer, never shorter: the upper bounds here are generous on purpose.
fn assert_between(figures: &Value, path: &str, low: f64, high: f64) {
    let value = number(figures, path);
    assert!((low..=high).contains(&value), "{path} is {value}, not within {low}..{high}");
}

#[test]
fn room_without_faults_is_exact() {
    let figures = Target::start(&[]).measure(&["--scenario", "room", "--clients", "100", "--window", "2s"]);
    assert_eq!(count(&figures, "/due"), 200);
    assert_eq!(count(&figures, "/unsent"), 0);
    assert_eq!(count(&figures, "/expected"), 25_000, "2.5 s of 100 messages a second to 100 clients");
    assert_eq!(count(&figures, "/received"), 25_000);
    assert_eq!(count(&figures, "/orders"), 1);
    assert_eq!(figures["troubles"], Value::Array(vec![]));
}

#[test]
fn every_echo_client_is_looked_into() {
    let figures =
        Target::start(&[]).measure(&["--scenario", "echo", "--clients", "50", "--sampled", "5", "--window", "1s"]);
    assert_eq!(figures["troubles"], Value::Array(vec![]));
    assert!(count(&figures, "/uncorrected_ms/count") > 1_000);
    assert_eq!(count(&figures, "/received"), count(&figures, "/expected"));
}

#[test]
fn delay_shows_in_every_percentile() {
    let figures =
        Target::start(&["--delay", "50ms"]).measure(&["--scenario", "fanout", "--clients", "20", "--window", "2s"]);
    assert_between(&figures, "/corrected_ms/p50", 50.0, 70.0);
    assert_between(&figures, "/uncorrected_ms/p50", 50.0, 70.0);
    assert_eq!(count(&figures, "/corrected_ms/count"), 4_000, "200 messages to 20 sampled clients");
}

#[test]
fn stall_shows_in_the_corrected_percentiles_only() {
    let target = Target::start(&["--stall", "200ms", "--stall-every", "1s"]);
    let figures = target.measure(&["--scenario", "echo", "--clients", "5", "--rate", "5000", "--window", "4s"]);
    assert_between(&figures, "/corrected_ms/p99", 150.0, 400.0);
    assert_between(&figures, "/uncorrected_ms/p99", 0.0, 50.0);
    assert_between(&figures, "/uncorrected_ms/max", 190.0, 400.0);
}

#[test]
fn dropped_messages_leave_every_client_short() {
    let target = Target::start(&["--drop-every", "50"]);
    let figures = target.measure(&["--scenario", "room", "--clients", "40", "--window", "1s", "--drain", "500ms"]);
    assert_eq!(count(&figures, "/clients_short"), 40);
    assert_eq!(count(&figures, "/expected"), 2_400);
    assert_eq!(count(&figures, "/received"), 2_360, "one of 60 messages");
}

#[test]
fn doubled_messages_are_noticed_even_when_the_count_is_right() {
    let target = Target::start(&["--drop-every", "20", "--double-every", "30"]);
    let figures = target.measure(&["--scenario", "room", "--clients", "40", "--window", "1s", "--drain", "500ms"]);
    // 60 messages: 20, 40 and 60 dropped, 30 doubled (60 was dropped already).
    assert_eq!(count(&figures, "/received"), 2_320);
    let troubles = figures["troubles"].as_array().unwrap();
    assert_eq!(troubles, &[serde_json::json!(["wrong_order", 32])], "each of 32 sampled clients, once");
}
