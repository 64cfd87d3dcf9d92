//! The server's process, seen from outside: its output line by line, its signals, its memory.

#[cfg(target_os = "linux")]
use std::io::Write;
use std::io::{self, BufRead, BufReader, PipeReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use crate::wire::PATIENCE;

pub(crate) struct Process {
    child: Child,
    exit: Option<ExitStatus>,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = start(command.stderr(Stdio::piped()));
        let stdout = Lines::collect(child.stdout.take().expect("piped"));
        let stderr = Lines::collect(child.stderr.take().expect("piped"));
        Self {
            child,
            exit: None,
            stdout,
            stderr,
        }
    }

    /// The same with a standard error whose reader is the caller's to read, or to drop.
    pub(crate) fn spawn_with_log(command: &mut Command) -> (Self, PipeReader) {
        let (reader, writer) = io::pipe().expect("a pipe");
        let mut child = start(command.stderr(writer));
        // The command keeps its end of the pipe open for as long as it lives.
        command.stderr(Stdio::null());
        let stdout = Lines::collect(child.stdout.take().expect("piped"));
        let process = Self {
            child,
            exit: None,
            stdout,
            stderr: Lines::collect(io::empty()),
        };
        (process, reader)
    }

    /// The same with a standard output that is full and stays so for as long as the reader is kept.
    #[cfg(target_os = "linux")]
    pub(crate) fn spawn_with_full_output(command: &mut Command) -> (Self, PipeReader) {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        writer
            .write_all(&vec![b'\n'; 65_536])
            .expect("what a pipe holds (pipe(7))");
        command
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the server's program");
        command.stdout(Stdio::null());
        let stderr = Lines::collect(child.stderr.take().expect("piped"));
        let process = Self {
            child,
            exit: None,
            stdout: Lines::collect(io::empty()),
            stderr,
        };
        (process, reader)
    }

    /// Waits until the process is over: its outputs end when it does.
    pub(crate) fn wait_until(&mut self, deadline: Instant) -> ExitStatus {
        self.stdout.wait_for_end(deadline);
        self.stderr.wait_for_end(deadline);
        let status = self.child.wait().expect("a child that was not waited for");
        *self.exit.insert(status)
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.wait_until(Instant::now() + PATIENCE)
    }

    pub(crate) fn has_exited(&self) -> bool {
        self.exit.is_some()
    }

    /// Sends the signal of that name: `TERM`, `INT`.
    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.child.id())])
            .status();
        assert!(sent.expect("sh").success());
    }

    /// A figure in KiB from `/proc/PID/status`, such as `VmRSS`.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("a live process");
        let line = status
            .lines()
            .find(|line| line.starts_with(field))
            .expect("a field of the kernel's");
        line.split_whitespace()
            .nth(1)
            .expect("a figure")
            .parse()
            .expect("a number")
    }

    /// Changes a soft limit of the running process (`nofile`, `nproc`), and returns what it was.
    #[cfg(target_os = "linux")]
    pub(crate) fn limit(&self, resource: &str, most: &str) -> String {
        use std::os::unix::{fs::MetadataExt, process::CommandExt};
        let id = self.child.id().to_string();
        // Its owner may do so; root may not where a container has taken that from it.
        let owner = std::fs::metadata(format!("/proc/{id}")).expect("a live process");
        let prlimit = |option: &str| {
            let options = [
                "--pid",
                &id,
                "--output=SOFT",
                "--noheadings",
                "--raw",
                option,
            ];
            let output = Command::new("prlimit")
                .args(options)
                .uid(owner.uid())
                .gid(owner.gid())
                .output();
            let output = output.expect("prlimit of util-linux");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };
        let before = prlimit(&format!("--{resource}"));
        prlimit(&format!("--{resource}={most}:"));
        before
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id()))
            .expect("a live process")
            .count()
    }

    /// The processor time that the process has used, in hundredths of a second.
    #[cfg(target_os = "linux")]
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))
            .expect("a live process");
        let after_name = stat
            .rsplit_once(')')
            .expect("the name stands in brackets")
            .1;
        // Fields 14 and 15 of proc(5), the user's and the system's time; field 3 is the first after the name.
        after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().expect("a number"))
            .sum()
    }
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.has_exited() {
            // It may be over already; then there is nothing to kill.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The lines that a process has written so far, collected as they come.
#[derive(Clone)]
pub(crate) struct Lines {
    output: Arc<(Mutex<Output>, Condvar)>,
}

#[derive(Default)]
struct Output {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    pub(crate) fn collect(source: impl Read + Send + 'static) -> Self {
        let lines = Self {
            output: Arc::default(),
        };
        let collector = lines.clone();
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source
                .read_until(b'\n', &mut line)
                .is_ok_and(|length| length > 0)
            {
                let text =
                    String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned();
                collector.update(|output| output.lines.push(text));
                line.clear();
            }
            collector.update(|output| output.ended = true);
        });
        lines
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.output
            .0
            .lock()
            .expect("no panic under the lock")
            .lines
            .clone()
    }

    /// Waits for the first line that `matches`.
    pub(crate) fn wait_for(&self, what: &str, matches: impl Fn(&str) -> bool) -> String {
        self.wait_for_many(1, what, matches).remove(0)
    }

    /// Waits for as many lines that match.
    pub(crate) fn wait_for_many(
        &self,
        count: usize,
        what: &str,
        matches: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let found = self.wait(Instant::now() + PATIENCE, |output| {
            let lines: Vec<_> = output
                .lines
                .iter()
                .filter(|line| matches(line))
                .take(count)
                .cloned()
                .collect();
            if lines.len() == count {
                Some(Ok(lines))
            } else {
                output.ended.then_some(Err(()))
            }
        });
        found
            .and_then(Result::ok)
            .unwrap_or_else(|| panic!("not {count} lines with {what} in {:#?}", self.all()))
    }

    fn wait_for_end(&self, deadline: Instant) {
        let ended = self.wait(deadline, |output| output.ended.then_some(()));
        ended.unwrap_or_else(|| panic!("the process goes on after {:#?}", self.all()));
    }

    fn update(&self, change: impl FnOnce(&mut Output)) {
        change(&mut self.output.0.lock().expect("no panic under the lock"));
        self.output.1.notify_all();
    }

    fn wait<T>(&self, deadline: Instant, look: impl Fn(&Output) -> Option<T>) -> Option<T> {
        let mut output = self.output.0.lock().expect("no panic under the lock");
        loop {
            if let Some(found) = look(&output) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            output = self
                .output
                .1
                .wait_timeout(output, left)
                .expect("no panic under the lock")
                .0;
        }
    }
}
