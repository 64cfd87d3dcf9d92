//! Figures against servers with known faults: they must say what is wrong, and how much.

use serde_json::Value;

use crate::program::{Outcome, SHORT, compare, compare_alone};

/// The figures of the one run that was made.
fn measure(faults: &str, words: &[&str]) -> Value {
    let mut all = words.to_vec();
    // One at a time has the repeats' place.
    all.extend(["--drain", "1s"]);
    only_figures(&compare(&[&format!("fake={faults}")], &all))
}

fn only_figures(outcome: &Outcome) -> Value {
    outcome.results["runs"][0]["result"]["measured"]["figures"].clone()
}

fn number(figures: &Value, path: &str) -> f64 {
    figures
        .pointer(path)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("no {path} in {figures}"))
}

fn count(figures: &Value, path: &str) -> u64 {
    figures
        .pointer(path)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("no {path} in {figures}"))
}

fn kinds(results: &Value) -> Vec<&str> {
    results["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|warning| warning["kind"].as_str().unwrap())
        .collect()
}

/// A shared machine makes latencies longer, never shorter: the upper bounds here are generous on purpose.
fn assert_between(figures: &Value, path: &str, low: f64, high: f64) {
    let value = number(figures, path);
    assert!(
        (low..=high).contains(&value),
        "{path} is {value}, not within {low}..{high}"
    );
}

#[test]
fn room_without_faults_is_exact() {
    let figures = measure(
        "",
        &[
            "--scenario",
            "room",
            "--clients",
            "100",
            "--window",
            "1600ms",
        ],
    );
    assert_eq!(count(&figures, "/due"), 160);
    assert_eq!(count(&figures, "/unsent"), 0);
    assert_eq!(
        count(&figures, "/expected"),
        20_000,
        "2 s of 100 messages a second to 100 clients"
    );
    assert_eq!(count(&figures, "/received"), 20_000);
    assert_eq!(count(&figures, "/orders"), 1);
    assert_eq!(figures["troubles"], Value::Array(vec![]));
}

#[test]
fn every_echo_client_is_looked_into() {
    let figures = measure(
        "",
        &[
            "--scenario",
            "echo",
            "--clients",
            "50",
            "--sampled",
            "5",
            "--window",
            "1s",
        ],
    );
    assert_eq!(figures["troubles"], Value::Array(vec![]));
    assert!(count(&figures, "/uncorrected_ms/count") > 1_000);
    assert_eq!(count(&figures, "/received"), count(&figures, "/expected"));
}

#[test]
fn delay_shows_in_every_percentile() {
    let figures = measure(
        "--delay 50ms",
        &[
            "--scenario",
            "fanout",
            "--clients",
            "20",
            "--rate",
            "100",
            "--window",
            "1s",
        ],
    );
    assert!(number(&figures, "/corrected_ms/p50") >= 50.0, "{figures}");
    assert!(number(&figures, "/uncorrected_ms/p50") >= 50.0, "{figures}");
    assert_eq!(
        count(&figures, "/corrected_ms/count"),
        2_000,
        "100 messages to 20 sampled clients"
    );
}

#[test]
fn stall_shows_in_the_corrected_percentiles_only() {
    let words = [
        "--scenario",
        "echo",
        "--clients",
        "5",
        "--rate",
        "5000",
        "--window",
        "3s",
    ];
    let figures = only_figures(&compare_alone(
        &["fake=--stall 200ms --stall-every 1s"],
        &words,
    ));
    // One in five messages comes due during a stall; only the few that were on their way are sent before it.
    assert!(number(&figures, "/corrected_ms/p90") > 50.0, "{figures}");
    assert!(number(&figures, "/corrected_ms/p99") > 150.0, "{figures}");
    assert!(
        number(&figures, "/uncorrected_ms/p99") < number(&figures, "/corrected_ms/p99") / 3.0,
        "{figures}"
    );
    assert!(number(&figures, "/uncorrected_ms/max") > 190.0, "{figures}");
}

#[test]
fn dropped_messages_leave_every_client_short_and_nothing_is_compared() {
    let words = [
        "--scenario",
        "room",
        "--clients",
        "40",
        "--window",
        "1100ms",
        "--drain",
        "400ms",
    ];
    let outcome = compare(&["whole=", "holed=--drop-every 50"], &words);
    let figures = &outcome.results["runs"][1]["result"]["measured"]["figures"];
    assert_eq!(count(figures, "/clients_short"), 40);
    assert_eq!(count(figures, "/expected"), 2_400);
    assert_eq!(count(figures, "/received"), 2_360, "one of 60 messages");
    assert!(kinds(&outcome.results).contains(&"not_correct"));
    let comparisons = outcome.results["comparisons"].as_array().unwrap();
    assert!(
        !comparisons.is_empty() && comparisons.iter().all(|line| line["lead"] == "not_correct")
    );
}

/// No member is sampled but the last: what the others received is proven all the same.
#[test]
fn message_that_one_unsampled_client_lacks_is_missed() {
    let words = [
        "--scenario",
        "room",
        "--clients",
        "40",
        "--sampled",
        "1",
        "--window",
        "1100ms",
    ];
    let figures = measure("--starve-every 50", &words);
    assert_eq!(count(&figures, "/clients_short"), 1);
    let (expected, received) = (count(&figures, "/expected"), count(&figures, "/received"));
    assert_eq!(expected, 2_400);
    assert!((2_395..2_400).contains(&received), "{received}");
}

/// A frame of a client's own takes it out of the common stream, and it finds back.
#[test]
fn pings_within_the_stream_lose_nothing() {
    let words = [
        "--scenario",
        "fanout",
        "--clients",
        "40",
        "--rate",
        "500",
        "--sampled",
        "1",
        "--window",
        "1100ms",
    ];
    let figures = measure("--ping-every 3", &words);
    assert_eq!(count(&figures, "/received"), count(&figures, "/expected"));
    assert_eq!(count(&figures, "/clients_over"), 0);
    assert_eq!(figures["troubles"], Value::Array(vec![]));
    // Where the kernel tells when bytes arrived, it does so of every message that is looked into.
    if cfg!(target_os = "linux") {
        let arrived = count(&figures, "/arrival_ms/count");
        assert_eq!(arrived, count(&figures, "/corrected_ms/count"));
    }
}

#[test]
fn doubled_messages_are_noticed_even_when_the_count_is_right() {
    let words = [
        "--scenario",
        "room",
        "--clients",
        "40",
        "--window",
        "1100ms",
    ];
    let figures = measure("--drop-every 20 --double-every 30", &words);
    // 60 messages: 20, 40 and 60 dropped, 30 doubled (60 was dropped already).
    assert_eq!(count(&figures, "/received"), 2_320);
    let troubles = figures["troubles"].as_array().unwrap();
    assert_eq!(
        troubles,
        &[serde_json::json!(["wrong_order", 32])],
        "each of 32 sampled clients, once"
    );
}

#[test]
fn ratio_of_known_latencies_is_named_with_its_winner() {
    let outcome = compare(
        &["swift=--delay 100ms", "tardy=--delay 300ms"],
        &[
            "--scenario",
            "fanout",
            "--clients",
            "10",
            "--rate",
            "100",
            "--window",
            "500ms",
            "--repeats",
            "2",
            "--assert",
            "swift.fanout.p50_ms>=100",
            "--assert",
            "tardy/swift.fanout.p50_ms>1.5",
        ],
    );
    assert!(outcome.status.success(), "{}", outcome.stdout);
    let p50 = outcome.results["comparisons"]
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["metric"] == "p50_ms")
        .unwrap();
    assert_between(p50, "/quotient", 0.1, 0.6);
    assert_eq!(p50["lead"], "first");
    // Two repeats may have the same median, to the three digits of a histogram; the error is known all the same.
    assert_between(p50, "/error", 0.0, 0.5);
    let order: Vec<&str> = outcome.results["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["server"].as_str().unwrap())
        .collect();
    assert_eq!(order, ["swift", "tardy", "tardy", "swift"]);
    assert!(
        outcome.stdout.contains("swift is ahead"),
        "{}",
        outcome.stdout
    );
}

#[test]
fn failing_assertion_sets_the_exit_status_and_one_run_names_no_winner() {
    let outcome = compare(
        &["one=", "two="],
        &[&SHORT[..], &["--assert", "one.fanout.p50_ms>=5000"]].concat(),
    );
    assert_eq!(outcome.status.code(), Some(1));
    assert_eq!(outcome.results["assertions"][0]["holds"], false);
    let warnings = kinds(&outcome.results);
    for expected in ["one_run_only", "too_few_samples", "not_pinned"] {
        assert!(warnings.contains(&expected), "{warnings:?}");
    }
    assert!(
        outcome.results["comparisons"]
            .as_array()
            .unwrap()
            .iter()
            .all(|line| line["lead"] == "one_run")
    );
}

#[test]
fn saturated_generator_is_flagged() {
    // More than anybody can even come to, whatever the server takes; few receivers, or memory is what runs out.
    let words = [
        "--scenario",
        "fanout",
        "--clients",
        "2",
        "--rate",
        "1000000",
        "--window",
        "500ms",
        "--drain",
        "100ms",
    ];
    let outcome = compare_alone(&["fake="], &words);
    assert!(
        kinds(&outcome.results).contains(&"generator_saturated"),
        "{}",
        outcome.results["warnings"]
    );
}

/// The answer comes first, in five lines, and nothing is wider than a terminal.
#[test]
fn table_is_narrow_and_begins_with_the_answer() {
    let words = [
        "--scenario",
        "fanout",
        "--clients",
        "10",
        "--rate",
        "100",
        "--window",
        "300ms",
        "--repeats",
        "2",
    ];
    let outcome = compare(&["one=", "two=--delay 30ms"], &words);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let answer = lines.iter().position(|line| line.is_empty()).unwrap();
    assert!((4..=5).contains(&answer), "{}", outcome.stdout);
    assert!(
        lines[1].starts_with("✓ everything arrived"),
        "{}",
        outcome.stdout
    );
    // The last line is the report's path, which is as long as it is.
    for line in &lines[..lines.len() - 1] {
        assert!(line.chars().count() <= 80, "{line}");
        assert!(!line.contains(['─', '═', '\u{1b}']), "{line}");
    }
}

/// The average hides what a stall does; the timeline marks it.
#[test]
fn stall_is_marked_in_the_timeline() {
    let words = [
        "--scenario",
        "fanout",
        "--clients",
        "10",
        "--rate",
        "1000",
        "--window",
        "3s",
    ];
    let figures = only_figures(&compare_alone(
        &["fake=--stall 400ms --stall-every 2s"],
        &words,
    ));
    let steps = figures["timeline"].as_array().unwrap();
    assert!((28..=31).contains(&steps.len()), "{}", steps.len());
    let stalled = steps.iter().filter(|step| step["stalled"] == true).count();
    assert!((2..=16).contains(&stalled), "{steps:?}");
    let sum: f64 = steps
        .iter()
        .map(|step| step["deliveries_per_s"].as_f64().unwrap() / 10.0)
        .sum();
    assert!((25_000.0..35_000.0).contains(&sum), "{sum}");
}
