//! Who takes part: the lab's two servers, the peers, a server that is already running; and how each is started.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use serde::Serialize;

/// A server that can be named on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Known {
    /// The lab's event loop
    Evloop,
    /// The lab's thread per client
    Thread,
    /// Python websockets on asyncio, as in the user's guide
    Python,
    /// Node.js with ws
    Node,
    /// Bun's own WebSocket server, which is uWebSockets inside
    Bun,
    /// tokio-tungstenite on a single-threaded tokio
    Tokio,
    /// A loop of plain sends that checks nothing, to hold small rooms and echoes against: knows room, fanout, echo only
    Bare,
}

/// A server that takes part.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) start: Start,
}

/// How it comes to run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Start {
    /// One of the lab's servers.
    Binary(PathBuf),
    /// A script in `peers/` that becomes the server.
    Peer(PathBuf),
    /// This program as a server with known faults.
    Fake(Vec<String>),
    /// It runs already.
    Running {
        address: SocketAddr,
        pid: Option<u32>,
    },
}

/// A server that does not take part, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Skipped {
    pub(crate) server: String,
    pub(crate) reason: String,
}

/// What the servers are told besides their address; all else is at its default.
const LOG_LEVEL: &str = "warn";
/// Above this the lab's servers are told to take more clients than they do by default.
const DEFAULT_CLIENTS_MAX: usize = 19_000;
/// What a peer's script says by its exit status when something is not installed.
const NOT_INSTALLED: i32 = 69;

impl Known {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Evloop => "evloop",
            Self::Thread => "thread",
            Self::Python => "python",
            Self::Node => "node",
            Self::Bun => "bun",
            Self::Tokio => "tokio",
            Self::Bare => "bare",
        }
    }

    /// Makes it ready to start, or says what is missing.
    pub(crate) fn prepare(self) -> Result<Contender> {
        let start = match self {
            Self::Evloop | Self::Thread => {
                Start::Binary(built(&format!("{}-server", self.name()))?)
            }
            Self::Bare => Start::Fake(Vec::new()),
            Self::Python | Self::Node | Self::Bun | Self::Tokio => Start::Peer(peer(self.name())?),
        };
        Ok(Contender {
            name: self.name().to_owned(),
            start,
        })
    }
}

impl Contender {
    /// What starts it on a free port; none if it runs already.
    pub(crate) fn command(&self, chat_interval: Duration, clients: usize) -> Option<Command> {
        let interval = humantime::format_duration(chat_interval).to_string();
        let mut command = match &self.start {
            Start::Binary(path) => {
                let mut command = Command::new(path);
                command.args([
                    "--bind",
                    "127.0.0.1:0",
                    "--log",
                    LOG_LEVEL,
                    "--chat-interval",
                    &interval,
                ]);
                if clients > DEFAULT_CLIENTS_MAX {
                    command.args(["--max-clients", &clients.to_string()]);
                }
                command
            }
            Start::Peer(script) => {
                let mut command = Command::new(script);
                command.args(["start", &chat_interval.as_millis().to_string()]);
                command
            }
            Start::Fake(faults) => {
                let mut command = Command::new(env::current_exe().ok()?);
                command.arg("fake-server").args(faults);
                command
            }
            Start::Running { .. } => return None,
        };
        // What happens to be set for servers run by hand is not part of the comparison.
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("WSLAB_") {
                command.env_remove(name);
            }
        }
        Some(command)
    }

    /// The same as a line for a shell, for the report.
    pub(crate) fn command_line(&self) -> String {
        match (&self.start, self.command(Duration::ZERO, 0)) {
            (Start::Running { address, .. }, _) => format!("ws://{address}"),
            (_, None) => String::new(),
            (_, Some(command)) => {
                let program = Path::new(command.get_program());
                let shown = match &self.start {
                    Start::Peer(_) => format!("compare/peers/{}/run.sh", self.name),
                    _ => program
                        .file_name()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned(),
                };
                let words = command
                    .get_args()
                    .map(|word| word.to_string_lossy().into_owned());
                std::iter::once(shown)
                    .chain(words)
                    .collect::<Vec<_>>()
                    .join(" ")
            }
        }
    }
}

/// The workspace this program was built from.
fn workspace() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    root.join("Cargo.toml").is_file().then(|| root.to_owned())
}

/// The release build of one of the lab's servers, up to date where its sources are at hand.
fn built(binary: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("cannot tell where this program is")?;
    let profile = own.parent().context("a program is in a directory")?;
    let target = profile
        .parent()
        .context("a build is in a target directory")?;
    let path = target
        .join("release")
        .join(format!("{binary}{}", env::consts::EXE_SUFFIX));
    let beside = profile.join(format!("{binary}{}", env::consts::EXE_SUFFIX));
    if let Some(root) = workspace() {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let build = Command::new(cargo)
            .args([
                "build",
                "--release",
                "--quiet",
                "--package",
                "ws-realtime-lab",
                "--bin",
                binary,
                "--target-dir",
            ])
            .arg(target)
            .current_dir(root)
            .stdin(Stdio::null())
            .status();
        match build {
            Ok(status) if status.success() => return Ok(path),
            Ok(_) => bail!("not built: `cargo build --release --bin {binary}` says why"),
            // No cargo on this machine; a build from elsewhere will do.
            Err(_) => {}
        }
    }
    [path, beside]
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("not built: cargo build --release --bin {binary}"))
}

/// The script of a peer, once it says that all it needs is there.
fn peer(name: &str) -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("peers")
        .join(name)
        .join("run.sh");
    let checked = Command::new(&script)
        .arg("check")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", script.display()))?;
    let said = String::from_utf8_lossy(&checked.stderr).trim().to_owned();
    match checked.status.code() {
        Some(0) => Ok(script),
        Some(NOT_INSTALLED) => bail!("{said}"),
        _ => bail!("its check failed: {said}"),
    }
}
