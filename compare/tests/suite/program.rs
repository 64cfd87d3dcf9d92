//! The program under test, run against servers with known faults.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use serde_json::Value;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_compare");

/// A load of half a second.
pub(crate) const SHORT: [&str; 8] = [
    "--scenario",
    "fanout",
    "--clients",
    "5",
    "--rate",
    "50",
    "--window",
    "300ms",
];

/// A directory of its own for each report.
pub(crate) struct Report {
    pub(crate) directory: PathBuf,
}

/// What the program said and wrote.
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) results: Value,
}

impl Report {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}", std::process::id()));
        Self { directory }
    }

    /// The program against fakes, each `NAME=FLAGS`.
    pub(crate) fn command(&self, fakes: &[&str], words: &[&str]) -> Command {
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

    pub(crate) fn results(&self) -> Value {
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
pub(crate) static MACHINE: RwLock<()> = RwLock::new(());

pub(crate) fn compare(fakes: &[&str], words: &[&str]) -> Outcome {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    run(fakes, words)
}

pub(crate) fn compare_alone(fakes: &[&str], words: &[&str]) -> Outcome {
    let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    run(fakes, words)
}

pub(crate) fn run(fakes: &[&str], words: &[&str]) -> Outcome {
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
