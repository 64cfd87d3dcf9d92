//! A server of one's own for each test, and the promise that it outlives whatever the test did to it.

use std::env;
#[cfg(target_os = "linux")]
use std::fs;
use std::io::PipeReader;
use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::http_client::{Response, read_response, request};
use crate::process::Process;
use crate::wire::{PATIENCE, Wire};

/// A server program under test.
#[derive(Clone, Copy)]
pub(crate) struct Program {
    path: &'static str,
}

impl Program {
    pub(crate) const fn new(path: &'static str) -> Self {
        Self { path }
    }

    /// The command with these flags, free of settings from the environment.
    pub(crate) fn command(self, flags: &str) -> Command {
        Self::command_of(Path::new(self.path), flags)
    }

    fn command_of(path: &Path, flags: &str) -> Command {
        let mut command = Command::new(path);
        command.args(flags.split_whitespace());
        for (variable, _) in
            env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WSLAB_"))
        {
            command.env_remove(variable);
        }
        command
    }

    /// The same after a line of shell, such as `ulimit -n 64`.
    #[cfg(unix)]
    pub(crate) fn command_after(self, line: &str, flags: &str) -> Command {
        Self::command_of_after(Path::new(self.path), line, flags)
    }

    #[cfg(unix)]
    fn command_of_after(path: &Path, line: &str, flags: &str) -> Command {
        let mut command = Self::command_of(Path::new("sh"), "");
        command
            .args(["-c", &format!("{line}; exec \"$0\" \"$@\"")])
            .arg(path)
            .args(flags.split_whitespace());
        command
    }

    /// Starts the server on a free port and waits until it accepts. Where no flag says otherwise it pings so seldom that
    /// no client must answer while a slow machine is busy with others.
    pub(crate) fn start(self, flags: &str) -> Server {
        let mut command = self.command(&format!("--bind 127.0.0.1:0 {flags}"));
        Server::start(command.env("WSLAB_PING_INTERVAL", "1h"))
    }

    /// The same as a user without privileges: for root there is no limit on threads.
    #[cfg(target_os = "linux")]
    pub(crate) fn start_unprivileged(self, flags: &str) -> Server {
        self.unprivileged("true", flags, Server::start)
    }

    /// Runs a command line after a line of shell, both as a user without privileges.
    #[cfg(target_os = "linux")]
    pub(crate) fn unprivileged<R>(
        self,
        line: &str,
        flags: &str,
        run: impl FnOnce(&mut Command) -> R,
    ) -> R {
        use std::os::unix::fs::MetadataExt;
        use std::os::unix::process::CommandExt;
        use std::sync::atomic::{AtomicU32, Ordering};
        const NOBODY: u32 = 65_534;
        static COPIES: AtomicU32 = AtomicU32::new(0);
        if fs::metadata("/proc/self").expect("this process").uid() != 0 {
            return run(&mut self.command_after(line, &format!("--bind 127.0.0.1:0 {flags}")));
        }
        // Where it was built, nobody else may be able to reach it. Another process copies it, since a file that this
        // one still has open for writing, or a child that it forks meanwhile, cannot be run.
        let path = Path::new(self.path);
        let name = path
            .file_name()
            .expect("a program's name")
            .to_string_lossy();
        let number = COPIES.fetch_add(1, Ordering::Relaxed);
        let copy = env::temp_dir().join(format!("{name}-{}-{number}", std::process::id()));
        assert!(
            Command::new("cp")
                .arg(path)
                .arg(&copy)
                .status()
                .expect("cp")
                .success()
        );
        let mut command =
            Self::command_of_after(&copy, line, &format!("--bind 127.0.0.1:0 {flags}"));
        let result = run(command.uid(NOBODY).gid(NOBODY));
        fs::remove_file(copy).expect("a running program's file may be removed");
        result
    }

    /// Runs a command line that is expected to end by itself.
    pub(crate) fn run(self, flags: &str) -> Finished {
        Finished::run(&mut self.command(flags))
    }
}

pub(crate) struct Finished {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

impl Finished {
    pub(crate) fn run(command: &mut Command) -> Self {
        let mut process = Process::spawn(command);
        let status = process.wait().code();
        Self {
            status,
            stdout: process.stdout.all(),
            stderr: process.stderr.all(),
        }
    }
}

/// A running server. When it goes out of scope it must still welcome a fresh client, unless it has exited.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::listening(Process::spawn(command))
    }

    /// The same with a standard error that is read by the caller, or by nobody.
    pub(crate) fn start_with_log(command: &mut Command) -> (Self, PipeReader) {
        let (process, log) = Process::spawn_with_log(command);
        (Self::listening(process), log)
    }

    /// The same with a standard output that takes nothing.
    #[cfg(target_os = "linux")]
    pub(crate) fn start_with_full_output(program: Program, flags: &str) -> (Self, PipeReader) {
        // The banner cannot tell which port is free.
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let mut command = program.command(&format!("--bind {address} {flags}"));
        let (process, output) = Process::spawn_with_full_output(&mut command);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "the server does not listen");
            thread::sleep(Duration::from_millis(5));
        }
        (Self { process, address }, output)
    }

    fn listening(process: Process) -> Self {
        let line = process
            .stdout
            .wait_for("an address", |line| line.starts_with("listening on "));
        let address = line.trim_start_matches("listening on http://").parse();
        let address = address.unwrap_or_else(|error| panic!("{error} in {line}"));
        Self { process, address }
    }

    pub(crate) fn wire(&self) -> Wire {
        Wire::connect(self.address)
    }

    /// A client that has been let in.
    pub(crate) fn open(&self, path: &str) -> Client {
        self.try_open(path, "")
            .unwrap_or_else(|response| panic!("{path} is refused: {response:?}"))
    }

    pub(crate) fn try_open(&self, path: &str, headers: &str) -> Result<Client, Response> {
        Client::upgrade(self.wire(), self.address, path, headers)
    }

    /// Tries until a client is let in: a place that another has left is free a moment later.
    pub(crate) fn open_when_free(&self, path: &str) -> Client {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_open(path, "") {
                Ok(client) => return client,
                Err(response) => {
                    assert!(matches!(response.status, 429 | 503), "{response:?}");
                    assert!(Instant::now() < deadline, "no place for a fresh client");
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }

    /// A client in the chat room that has been welcomed.
    pub(crate) fn join(&self) -> Client {
        let mut client = self.open("/ws/chat");
        assert_eq!(client.next_json()["code"], "welcome");
        client
    }

    /// A client of the dashboard that has been greeted.
    pub(crate) fn watch(&self) -> Client {
        let mut client = self.open("/ws/dashboard");
        assert_eq!(client.next_json()["type"], "system");
        client
    }

    /// A response to a whole request on a connection of its own.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &str) -> Response {
        self.exchange(method, request(method, self.address, path, headers))
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.request("GET", path, "")
    }

    /// A response to any bytes on a connection of their own.
    pub(crate) fn exchange(&self, method: &str, bytes: impl AsRef<[u8]>) -> Response {
        let mut wire = self.wire();
        wire.send(bytes.as_ref());
        read_response(&mut wire, method)
    }

    fn assert_unharmed(&self) {
        let mut client = self.open_when_free("/ws/chat");
        assert_eq!(client.next_json()["code"], "welcome");
        let panics: Vec<_> = self
            .process
            .stderr
            .all()
            .into_iter()
            .filter(|line| line.contains("panicked"))
            .collect();
        assert!(panics.is_empty(), "{panics:#?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            println!(
                "the server's standard error: {:#?}",
                self.process.stderr.all()
            );
        } else if !self.process.has_exited() {
            self.assert_unharmed();
        }
    }
}
