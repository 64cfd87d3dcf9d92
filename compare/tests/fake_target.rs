//! The whole program against servers with known faults: the figures must say what is wrong, and how much.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_compare");
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of its own for each report.
struct Report {
    directory: PathBuf,
}

/// What the program said and wrote.
struct Outcome {
    status: ExitStatus,
    stdout: String,
    results: Value,
}

impl Report {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}", std::process::id()));
        Self { directory }
    }

    /// The program against fakes, each `NAME=FLAGS`.
    fn command(&self, fakes: &[&str], words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        for fake in fakes {
            command.args(["--fake", fake]);
        }
        if !words.contains(&"--repeats") {
            command.args(["--repeats", "1"]);
        }
        command.args(["--no-pin", "--warm-up", "400ms", "--lang", "en", "--out"]);
        command
            .arg(&self.directory)
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn results(&self) -> Value {
        let text = std::fs::read_to_string(self.directory.join("results.json"))
            .expect("results are always saved");
        serde_json::from_str(&text).expect("results are JSON")
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A test that needs the machine to itself, or wants all of it, holds this for writing; the others share it.
static MACHINE: RwLock<()> = RwLock::new(());

fn compare(fakes: &[&str], words: &[&str]) -> Outcome {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    run(fakes, words)
}

fn compare_alone(fakes: &[&str], words: &[&str]) -> Outcome {
    let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    run(fakes, words)
}

fn run(fakes: &[&str], words: &[&str]) -> Outcome {
    let report = Report::new();
    let output = report.command(fakes, words).output().unwrap();
    assert!(
        report.directory.join("results.json").exists(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let stdout = String::from_utf8(output.stdout).unwrap();
    Outcome {
        status: output.status,
        stdout,
        results: report.results(),
    }
}

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
    assert!(number(p50, "/error") > 0.0);
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
    let words = [
        "--scenario",
        "fanout",
        "--clients",
        "5",
        "--rate",
        "50",
        "--window",
        "300ms",
    ];
    let outcome = compare(
        &["one=", "two="],
        &[&words[..], &["--assert", "one.fanout.p50_ms>=5000"]].concat(),
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
    // More than anybody can even come to, whatever the server takes: two million messages a second.
    let words = [
        "--scenario",
        "fanout",
        "--clients",
        "100",
        "--rate",
        "2000000",
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

/// Ctrl+C leaves a report of what was measured, and no server.
#[cfg(unix)]
#[test]
fn interrupted_comparison_leaves_a_report_and_no_server() {
    let report = Report::new();
    let words = [
        "--scenario",
        "fanout",
        "--clients",
        "5",
        "--rate",
        "50",
        "--window",
        "30s",
    ];
    let mut program = report.command(&["only="], &words).spawn().unwrap();
    let begin = Instant::now();
    let servers = loop {
        let servers = children_of(program.id());
        if !servers.is_empty() {
            break servers;
        }
        assert!(begin.elapsed() < PATIENCE, "no server was started");
        std::thread::sleep(Duration::from_millis(10));
    };
    signal(program.id());
    let status = loop {
        if let Some(status) = program.try_wait().unwrap() {
            break status;
        }
        assert!(begin.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(130));
    assert_eq!(report.results()["complete"], false);
    assert!(report.directory.join("report.html").exists());
    for server in servers {
        assert!(
            !Path::new(&format!("/proc/{server}")).exists(),
            "server {server} was left behind"
        );
    }
}

/// Processes that `parent` started; Linux tells.
#[cfg(unix)]
fn children_of(parent: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))
        .unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

#[cfg(unix)]
fn signal(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}
