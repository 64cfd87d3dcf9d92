//! A server that does not speak the lab's protocol: its path, its messages, its subprotocol.

use std::process::{Child, Command, Output, Stdio};

use crate::failures::listening_address;
use crate::program::{PROGRAM, Report};

/// An echo server; it ends with the test.
struct Foreign {
    child: Child,
    url: String,
}

impl Foreign {
    fn start() -> Self {
        let mut child = Command::new(PROGRAM)
            .arg("fake-server")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let url = format!("ws://{}", listening_address(&mut child));
        Self { child, url }
    }

    fn measure(&self, report: &Report, words: &[&str]) -> Output {
        let target = ["--target", &self.url];
        report
            .command(&[], &[&target[..], words].concat())
            .output()
            .unwrap()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn server_of_any_kind_is_measured_by_path_and_template() {
    let (foreign, report) = (Foreign::start(), Report::new());
    let words = [
        "--path",
        "/some/echo",
        "--message",
        r#"{"op":"say","body":"{text}"}"#,
        "--subprotocol",
        "chat.v1",
        "--clients",
        "5",
        "--window",
        "300ms",
    ];
    let output = foreign.measure(&report, &words);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let results = report.results();
    let runs = results["runs"].as_array().unwrap();
    let scenarios: Vec<&str> = runs
        .iter()
        .map(|run| run["scenario"].as_str().unwrap())
        .collect();
    assert_eq!(scenarios, ["idle", "connect", "connect", "echo"]);
    let figures = &runs[3]["result"]["measured"]["figures"];
    assert_eq!(figures["troubles"], serde_json::json!([]));
    assert!(figures["received"].as_u64().unwrap() > 50, "{figures}");
}

#[test]
fn what_cannot_be_asked_of_it_is_refused_with_a_reason() {
    let (foreign, report) = (Foreign::start(), Report::new());
    let refused = |words: &[&str], part: &str| {
        let output = foreign.measure(&report, words);
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(part), "{said}");
    };
    refused(
        &["--path", "/echo", "--scenario", "room"],
        "echo, connect and idle only",
    );
    refused(&["--path", "echo"], "begins with /");
    refused(&["--path", "/echo", "--message", "hello"], "{text}");
    refused(&["--path", "/echo", "--message", "#{text}"], "no #");
    refused(&["--message", "{text}"], "--path");
}
