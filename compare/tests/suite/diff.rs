//! The difference of two saved comparisons: what it says, and with which exit status.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::program::{PROGRAM, Report, SHORT};

/// A `results.json` as far as a difference reads it: the p99 of one case, and whether all messages came.
fn saved(cpu: &str, p99: [f64; 3], clients_short: u64) -> Value {
    let figures =
        json!({"clients_short": clients_short, "clients_over": 0, "orders": 1, "troubles": []});
    json!({
        "schema": "ws-realtime-lab/compare/1",
        "environment": {
            "date": "2026-11-25T00:00:00Z", "commit": "abc", "system": "linux x86_64", "kernel": "6.18",
            "cpu": cpu, "cores": 2, "memory_mib": 7_900, "pinned": {"server": 0, "generator": 1},
        },
        "runs": [{"scenario": "room", "case": "clients-10", "server": "evloop",
            "result": {"measured": {"figures": figures}}}],
        "summaries": [{"scenario": "room", "case": "clients-10", "server": "evloop", "metric": "p99_ms", "unit": "ms",
            "low": p99[0], "median": p99[1], "high": p99[2], "deviation": 1.0, "repeats": 3}],
    })
}

fn diff(old: &Value, new: &Value, words: &[&str]) -> Output {
    let report = Report::new();
    std::fs::create_dir_all(&report.directory).unwrap();
    let paths = [("old.json", old), ("new.json", new)].map(|(name, value)| {
        let path = report.directory.join(name);
        std::fs::write(&path, value.to_string()).unwrap();
        path
    });
    Command::new(PROGRAM)
        .args(["diff", "--lang", "en"])
        .args(&paths)
        .args(words)
        .output()
        .unwrap()
}

fn assert_says(output: &Output, status: i32, part: &str) {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(said.contains(part), "{said}");
}

#[test]
fn worse_better_and_overlap_have_their_exit_status() {
    let old = saved("one", [49.0, 50.0, 51.0], 0);
    let slower = saved("one", [79.0, 80.0, 81.0], 0);
    let near = saved("one", [50.0, 52.0, 60.0], 0);
    assert_says(&diff(&old, &slower, &[]), 1, "**worse**");
    assert_says(
        &diff(&old, &slower, &["--threshold", "70"]),
        0,
        "below the threshold",
    );
    assert_says(&diff(&slower, &old, &[]), 0, "better");
    assert_says(&diff(&old, &near, &[]), 0, "intervals overlap");
}

#[test]
fn faster_server_that_loses_messages_is_worse() {
    let old = saved("one", [49.0, 50.0, 51.0], 0);
    let lossy = saved("one", [1.0, 2.0, 3.0], 4);
    assert_says(&diff(&old, &lossy, &[]), 1, "now loses messages");
    assert_says(&diff(&lossy, &old, &[]), 0, "the old one lost messages");
}

#[test]
fn unlike_machines_are_refused_unless_told() {
    let (one, other) = (
        saved("one", [1.0, 2.0, 3.0], 0),
        saved("other", [1.0, 2.0, 3.0], 0),
    );
    assert_says(&diff(&one, &other, &[]), 2, "CPU: one / other");
    assert_says(
        &diff(&one, &other, &["--unlike-machines"]),
        0,
        "intervals overlap",
    );
}

#[test]
fn file_that_is_no_result_is_named() {
    let one = saved("one", [1.0, 2.0, 3.0], 0);
    assert_says(
        &diff(&one, &json!({"a": 1}), &[]),
        2,
        "new.json is not a results.json",
    );
    let mut other = one.clone();
    other["schema"] = json!("ws-realtime-lab/compare/9");
    assert_says(&diff(&one, &other, &[]), 2, "compare/9");
    let mut other = one.clone();
    other["summaries"] = json!([]);
    assert_says(&diff(&one, &other, &[]), 2, "in common");
}

/// A run against itself of a moment ago: the file that one run writes, the next one reads.
#[test]
fn baseline_is_what_another_run_wrote() {
    let first = Report::new();
    assert!(
        first
            .command(&["fake="], &SHORT)
            .output()
            .unwrap()
            .status
            .success()
    );
    let path = first.directory.join("results.json");
    let second = Report::new();
    let baseline = ["--baseline", path.to_str().unwrap()];
    let output = second
        .command(&["fake="], &[&SHORT[..], &baseline].concat())
        .output()
        .unwrap();
    assert_says(&output, 0, "### compare:");
    let baseline = ["--baseline", "/nowhere.json"];
    let output = second
        .command(&["fake="], &[&SHORT[..], &baseline].concat())
        .output()
        .unwrap();
    assert_says(&output, 1, "/nowhere.json");
}
