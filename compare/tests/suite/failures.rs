//! Everything around a measurement that can fail: servers, names, arguments, outputs, and the program's own end.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
#[cfg(target_os = "linux")]
use std::time::{Duration, Instant};

use crate::program::{Outcome, PROGRAM, Report, SHORT, compare};

#[cfg(target_os = "linux")]
const PATIENCE: Duration = Duration::from_secs(20);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn assert_no_condition_holds(outcome: &Outcome) {
    assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stdout);
    let verdicts = outcome.results["assertions"].as_array().unwrap();
    assert!(
        !verdicts.is_empty() && verdicts.iter().all(|verdict| verdict["holds"] == false),
        "{verdicts:?}"
    );
    assert!(!outcome.stdout.contains("holds:"), "{}", outcome.stdout);
}

/// Measures `scenario` on a server with `faults`; the window opens about 0.8 s after the server's start.
fn assert_fails(faults: &str, scenario: &str) {
    // Of a dashboard whole ticks must be missing.
    let window = if scenario == "dashboard" {
        "3s"
    } else {
        "1500ms"
    };
    let condition = format!("fake.{scenario}.p99_ms<=1000000");
    let outcome = compare(
        &[&format!("fake={faults}")],
        &[
            "--scenario",
            scenario,
            "--clients",
            "8",
            "--window",
            window,
            "--drain",
            "500ms",
            "--assert",
            &condition,
        ],
    );
    assert_no_condition_holds(&outcome);
}

#[test]
fn no_condition_holds_on_an_echo_server_that_dies() {
    assert_fails("--die-after 1500ms", "echo");
}

#[test]
fn no_condition_holds_on_a_room_that_dies() {
    assert_fails("--die-after 1500ms", "room");
}

#[test]
fn no_condition_holds_on_a_dashboard_that_dies() {
    assert_fails("--die-after 1500ms", "dashboard");
}

#[test]
fn no_condition_holds_on_an_echo_server_that_hangs() {
    assert_fails("--stall 1h --stall-every 1500ms", "echo");
}

#[test]
fn no_condition_holds_on_a_dashboard_that_hangs() {
    assert_fails("--stall 1h --stall-every 1500ms", "dashboard");
}

#[test]
fn no_condition_holds_on_a_server_that_hangs_while_it_is_visited() {
    assert_fails("--stall 1h --stall-every 1500ms", "stall");
}

/// Repeats that went well do not make up for one that failed.
#[test]
fn no_condition_holds_when_a_later_repeat_fails() {
    let mut server = Command::new(PROGRAM)
        .args(["fake-server", "--die-after", "2500ms"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let address = listening_address(&mut server);
    let report = Report::new();
    let words = [
        "--target",
        &format!("ws://{address}"),
        "--repeats",
        "6",
        "--assert",
        "target.fanout.p99_ms<=1000000",
    ];
    let output = report
        .command(&[], &[&SHORT[..], &words].concat())
        .output()
        .unwrap();
    server.wait().unwrap();
    let outcome = Outcome {
        status: output.status,
        stdout: text(&output.stdout),
        results: report.results(),
    };
    let runs = outcome.results["runs"].as_array().unwrap();
    assert!(runs[0]["result"].get("measured").is_some(), "{}", runs[0]);
    assert_no_condition_holds(&outcome);
}

pub(crate) fn listening_address(server: &mut std::process::Child) -> String {
    use std::io::{BufRead as _, BufReader};

    let mut line = String::new();
    let stdout = server.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    line.trim().rsplit('/').next().unwrap().to_owned()
}

#[test]
fn target_that_is_not_there_is_named_with_every_address_that_was_tried() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let output = Report::new()
        .command(&[], &["--target", &format!("ws://localhost:{port}")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains(&format!("ws://localhost:{port}"))
            && said.contains(&format!("127.0.0.1:{port}")),
        "{said}"
    );
}

#[test]
fn name_that_nothing_has_is_named() {
    let output = Report::new()
        .command(&[], &["--target", "ws://no-such-host.invalid:80"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("no-such-host.invalid"),
        "{}",
        text(&output.stderr)
    );
}

/// The table's reader has seen enough; the measurement is still what it was.
#[cfg(unix)]
#[test]
fn closed_pipe_ends_it_quietly() {
    let report = Report::new();
    let mut program = report.command(&["fake="], &SHORT).spawn().unwrap();
    drop(program.stdout.take());
    let output = program.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        !text(&output.stderr).contains("panicked"),
        "{}",
        text(&output.stderr)
    );
    assert!(report.directory.join("report.html").exists());
}

/// Nobody hears the progress, but the table and the report are there.
#[cfg(unix)]
#[test]
fn closed_standard_error_changes_nothing() {
    let report = Report::new();
    let mut program = report.command(&["fake="], &SHORT).spawn().unwrap();
    drop(program.stderr.take());
    let output = program.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text(&output.stdout).contains("fanout"),
        "{}",
        text(&output.stdout)
    );
}

#[cfg(target_os = "linux")]
#[test]
fn table_that_finds_no_room_is_a_failure_with_a_reason() {
    let report = Report::new();
    let full = || {
        fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    let output = report
        .command(&["fake="], &SHORT)
        .stdout(full())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("standard output"),
        "{}",
        text(&output.stderr)
    );
    assert!(report.directory.join("report.html").exists());
    // Both full: there is nobody to tell, and still no panic.
    let status = report
        .command(&["fake="], &SHORT)
        .stdout(full())
        .stderr(full())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn folder_that_cannot_be_made_is_named_before_anything_is_measured() {
    let report = Report::new();
    fs::create_dir_all(report.directory.parent().unwrap()).unwrap();
    fs::write(&report.directory, "a file").unwrap();
    let output = report.command(&["fake="], &SHORT).output().unwrap();
    fs::remove_file(&report.directory).unwrap();
    assert_fails_naming(&output, &report.directory.display().to_string());
    assert!(
        !text(&output.stderr).contains("p99"),
        "nothing was measured"
    );
}

#[test]
fn folder_that_takes_no_log_is_named_before_anything_is_measured() {
    let report = Report::new();
    fs::create_dir_all(report.directory.join("servers.log")).unwrap();
    let output = report.command(&["fake="], &SHORT).output().unwrap();
    assert_fails_naming(&output, "servers.log");
    assert!(
        !text(&output.stderr).contains("p99"),
        "nothing was measured"
    );
}

/// What was measured is shown, though it could not be written down.
#[test]
fn report_that_cannot_be_written_is_named_and_the_table_is_shown() {
    for name in ["results.json", "report.html"] {
        let report = Report::new();
        fs::create_dir_all(report.directory.join(name)).unwrap();
        let output = report.command(&["fake="], &SHORT).output().unwrap();
        assert_fails_naming(&output, name);
        let shown = text(&output.stdout);
        assert!(shown.contains("rate-50"), "{shown}");
    }
}

/// A name may be written from right to left; what stands around it must stay where it is.
#[test]
fn names_are_isolated_in_the_report() {
    const NAME: &str = "שרת (2)";
    let report = Report::new();
    let fakes = [&format!("{NAME}="), "other="];
    let output = report.command(&fakes, &SHORT).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = fs::read_to_string(report.directory.join("report.html")).unwrap();
    let isolated = page.matches(&format!("<bdi>{NAME}</bdi>")).count();
    // The legends, the card, the rows of figures and ratios, the commands.
    assert!(isolated >= 5, "{isolated}");
    // Elements of their own, which the style isolates.
    let drawn = page.matches(&format!(">{NAME}</text>")).count();
    let quoted = page.matches(&format!("'{NAME}='")).count();
    // The rest stands in sentences, between the marks that Unicode has for it.
    let marked = page.matches(&format!("\u{2068}{NAME}\u{2069}")).count();
    assert!(marked > 0);
    assert_eq!(
        page.matches(NAME).count(),
        isolated + drawn + quoted + marked,
        "{page}"
    );
}

/// A limit on the length of files is a disk that is full early; the kernel sends a signal along.
#[cfg(target_os = "linux")]
#[test]
fn file_that_may_not_grow_is_named_and_the_table_is_shown() {
    let report = Report::new();
    let compare = report.command(&["fake="], &SHORT);
    let output = Command::new("sh")
        .args(["-c", "ulimit -f 1; exec \"$0\" \"$@\""])
        .arg(compare.get_program())
        .args(compare.get_args())
        .output()
        .unwrap();
    assert_fails_naming(&output, "results.json");
    assert!(
        text(&output.stdout).contains("rate-50"),
        "{}",
        text(&output.stdout)
    );
    assert!(!report.directory.join("results.json.part").exists());
}

fn assert_fails_naming(output: &Output, name: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(name) && !said.contains("panicked"), "{said}");
}

/// Folders have names that are not UTF-8; nothing else may.
#[cfg(target_os = "linux")]
#[test]
fn arguments_that_are_not_utf_8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let odd = OsStr::from_bytes(b"caf\xe9");
    let report = Report::new();
    let directory = report.directory.join(odd);
    let output = Command::new(PROGRAM)
        .args([
            "--fake",
            "fake=",
            "--repeats",
            "1",
            "--no-pin",
            "--warm-up",
            "100ms",
        ])
        .args(SHORT)
        .arg("--out")
        .arg(&directory)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let results: serde_json::Value =
        serde_json::from_slice(&fs::read(directory.join("results.json")).unwrap()).unwrap();
    let command = results["environment"]["command"].as_str().unwrap();
    assert!(command.contains(r"caf\xe9'"), "{command}");

    let output = Command::new(PROGRAM)
        .arg("--target")
        .arg(odd)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("UTF-8"),
        "{}",
        text(&output.stderr)
    );
}

/// Ctrl+C leaves a report of what was measured, and no server.
#[cfg(target_os = "linux")]
#[test]
fn interrupted_comparison_leaves_a_report_and_no_server() {
    let report = Report::new();
    let (status, servers) = end_with(&report, rustix::process::Signal::INT);
    assert_eq!(status.code(), Some(130));
    assert_eq!(report.results()["complete"], false);
    assert!(report.directory.join("report.html").exists());
    assert_gone(&servers);
}

/// No signal that ends the program leaves a server behind, whether it can be caught or not.
#[cfg(target_os = "linux")]
#[test]
fn killed_comparison_leaves_no_server() {
    use rustix::process::Signal;

    for signal in [Signal::KILL, Signal::QUIT, Signal::ABORT] {
        let (status, servers) = end_with(&Report::new(), signal);
        assert_eq!(status.code(), None, "{signal:?}");
        assert_gone(&servers);
    }
}

/// Sends a comparison `signal` while its server runs; how it ended, and the servers it had.
#[cfg(target_os = "linux")]
fn end_with(
    report: &Report,
    signal: rustix::process::Signal,
) -> (std::process::ExitStatus, Vec<u32>) {
    let words = [&SHORT[..6], &["--window", "30s"]].concat();
    let mut program = report.command(&["only="], &words).spawn().unwrap();
    let begin = Instant::now();
    let servers = wait_for(begin, || {
        let servers = children_of(program.id());
        (!servers.is_empty()).then_some(servers)
    });
    let pid = rustix::process::Pid::from_child(&program);
    rustix::process::kill_process(pid, signal).unwrap();
    let status = wait_for(begin, || program.try_wait().unwrap());
    (status, servers)
}

#[cfg(target_os = "linux")]
fn assert_gone(servers: &[u32]) {
    for server in servers {
        let status = format!("/proc/{server}/stat");
        // What has ended and waits for its new parent to notice is gone too.
        wait_for(Instant::now(), || match fs::read_to_string(&status) {
            Ok(stat) if !stat.contains(") Z ") => None,
            Ok(_) | Err(_) => Some(()),
        });
    }
}

#[cfg(target_os = "linux")]
fn wait_for<T>(begin: Instant, mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begin.elapsed() < PATIENCE, "it does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Processes that `parent` started.
#[cfg(target_os = "linux")]
fn children_of(parent: u32) -> Vec<u32> {
    let children =
        fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}
