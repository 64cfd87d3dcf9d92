//! A server under test: started on a free port of its own core, and always stopped again.

use std::env;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::loadgen::Endpoint;
use crate::measure::pin::{self, Cores, PinnedProcess};
use crate::run::target::{Start, Target};
use crate::run::tied;

/// How long a server may take until it listens.
const START_MAX: Duration = Duration::from_secs(15);
/// How long a server may take to end when asked to, before it is made to.
const STOP_MAX: Duration = Duration::from_secs(8);
const STOP_LOOK: Duration = Duration::from_millis(5);
const LISTENING: &str = "listening on http://";

/// Servers that run now, for the ways out of this program on which nothing is dropped.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) endpoint: Endpoint,
    pub(crate) pid: Option<u32>,
    /// Held on a core that the generator does not use.
    pub(crate) pinned: bool,
    child: Option<Child>,
    held: Held,
}

/// What only has to be kept as long as the server runs.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "dropping it is what it does")]
struct Held {
    /// Open, so that the server can still say things.
    output: Option<BufReader<ChildStdout>>,
    pinned: Option<PinnedProcess>,
}

impl Server {
    /// Starts `target`; its standard error goes to `log`.
    pub(crate) fn start(
        target: &Target,
        chat_interval: Duration,
        clients: usize,
        cores: Option<Cores>,
        log: &File,
    ) -> Result<Self> {
        if let Start::Running { url, pid } = &target.start {
            let pid = *pid;
            let pinned = pid
                .zip(cores)
                .and_then(|(pid, cores)| PinnedProcess::pin(pid, cores.server).ok());
            return Ok(Self {
                endpoint: url.find()?,
                pid,
                pinned: pinned.is_some(),
                child: None,
                held: Held {
                    output: None,
                    pinned,
                },
            });
        }
        let command = target
            .command(chat_interval, clients)
            .context("it cannot be started")?;
        let mut command = tied::tie(&command);
        // What happens to be set for servers run by hand is not part of the comparison.
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("WSLAB_") {
                command.env_remove(name);
            }
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.try_clone().context("cannot share the log")?);
        in_a_group_of_its_own(&mut command);
        let child = on_core(cores.map(|cores| cores.server), || command.spawn())
            .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        let pid = child.id();
        running().push(pid);
        // From here on the child is stopped whichever way this ends.
        let mut server = Self {
            endpoint: Endpoint::at(([127, 0, 0, 1], 0).into()),
            pid: Some(pid),
            pinned: cores.is_some(),
            child: Some(child),
            held: Held::default(),
        };
        server.await_listening()?;
        Ok(server)
    }

    fn await_listening(&mut self) -> Result<()> {
        let stdout = self
            .child
            .as_mut()
            .and_then(|child| child.stdout.take())
            .context("its output is a pipe")?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut output = BufReader::new(stdout);
            let address = find_address(&mut output);
            let _ = sender.send((address, output));
        });
        let Ok((address, output)) = receiver.recv_timeout(START_MAX) else {
            bail!("it does not listen after {START_MAX:?}")
        };
        let address =
            address.ok_or_else(|| anyhow!("it ended before it listened; servers.log says why"))?;
        self.endpoint = Endpoint::at(address);
        self.held.output = Some(output);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            stop(&mut child);
            running().retain(|&pid| pid != child.id());
        }
    }
}

/// Ends all servers at once, for a panic or a second Ctrl+C.
pub(crate) fn kill_all() {
    for pid in running().drain(..) {
        signal(pid, End::Now);
    }
}

fn running() -> MutexGuard<'static, Vec<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The address in the first line that has one.
fn find_address(output: &mut BufReader<ChildStdout>) -> Option<SocketAddr> {
    let mut line = String::new();
    loop {
        line.clear();
        if output.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(address) = line.trim().strip_prefix(LISTENING) {
            return address.parse().ok();
        }
    }
}

fn stop(child: &mut Child) {
    if cfg!(unix) {
        signal(child.id(), End::InOrder);
    } else {
        let _ = child.kill();
    }
    let deadline = Instant::now() + STOP_MAX;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(None) => thread::sleep(STOP_LOOK),
            Ok(Some(_)) | Err(_) => return,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    InOrder,
    Now,
}

#[cfg(unix)]
fn signal(pid: u32, end: End) {
    use rustix::process::{Pid, Signal, kill_process};

    let signal = if end == End::InOrder {
        Signal::TERM
    } else {
        Signal::KILL
    };
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}

/// Elsewhere only the process that started it can end it: see [`stop`].
#[cfg(not(unix))]
fn signal(_: u32, _: End) {}

/// Ctrl+C in a terminal goes to the whole group; the server is to be stopped by this program alone.
#[cfg(unix)]
fn in_a_group_of_its_own(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;

    command.process_group(0);
}

#[cfg(not(unix))]
fn in_a_group_of_its_own(_: &mut Command) {}

/// Does `spawn` from `core`, which the new process and all its threads inherit.
fn on_core<T>(core: Option<usize>, spawn: impl FnOnce() -> T) -> T {
    let Some(core) = core else { return spawn() };
    let before = pin::this_threads_cores();
    let _ = pin::pin_this_thread(core);
    let spawned = spawn();
    if let Some(before) = before {
        pin::restore_this_thread(&before);
    }
    spawned
}
