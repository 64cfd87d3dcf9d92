//! The servers that can take part: the lab's two, the peers, one that is already running; and how each is started.

use std::env;
use std::fmt;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::loadgen::{Endpoint, Foreign};
use crate::results::text::Lang;
use crate::run::build;

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

/// A server named on the command line, and the flags that make it a variant: `thread:direct`, `evloop:--history 0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) name: String,
    known: Known,
    flags: Vec<String>,
}

/// A server that takes part.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) start: Start,
}

/// How it comes to run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Start {
    /// One of the lab's servers, with flags besides the usual ones.
    Binary(PathBuf, Vec<String>),
    /// A script in `peers/` that becomes the server.
    Peer(PathBuf),
    /// This program as a server with known faults.
    Fake(Vec<String>),
    /// It runs already.
    Running { url: ServerUrl, pid: Option<u32> },
}

/// A running server by its name, and all addresses that the name has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    authority: String,
    addresses: Vec<SocketAddr>,
    /// Set for a server that does not speak the lab's protocol.
    pub(crate) foreign: Option<Foreign>,
}

/// How long an address may take to answer before the next one is tried.
const ANSWER_MAX: Duration = Duration::from_secs(3);
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

    /// Whether it takes the lab's flags.
    fn is_of_the_lab(self) -> bool {
        matches!(self, Self::Evloop | Self::Thread)
    }
}

/// The ways in which the thread server delivers; each is a variant by its own name.
const DELIVERIES: [&str; 3] = ["elected", "outboxes", "direct"];

impl Choice {
    /// A server, and the name of a variant of it.
    pub(crate) fn new(known: Known, variant: Option<&str>) -> Self {
        let name = variant.map_or_else(
            || known.name().to_owned(),
            |variant| format!("{}:{variant}", known.name()),
        );
        let flags = match variant {
            None => Vec::new(),
            Some(delivery) if DELIVERIES.contains(&delivery) => {
                vec!["--delivery".to_owned(), delivery.to_owned()]
            }
            Some(flags) => flags.split_whitespace().map(str::to_owned).collect(),
        };
        Self { name, known, flags }
    }

    /// Makes it ready to start, or says what is missing.
    pub(crate) fn prepare(&self, lang: Lang) -> Result<Target> {
        let name = self.known.name();
        let start = match self.known {
            Known::Evloop | Known::Thread => {
                let path = built(&format!("{name}-server"), lang)?;
                Start::Binary(path, self.flags.clone())
            }
            Known::Bare => Start::Fake(Vec::new()),
            Known::Python | Known::Node | Known::Bun | Known::Tokio => Start::Peer(peer(name)?),
        };
        Ok(Target {
            name: self.name.clone(),
            start,
        })
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, variant) = match text.split_once(':') {
            Some((name, variant)) => (name, Some(variant)),
            None => (text, None),
        };
        let known = Known::from_str(name, true).map_err(|_| {
            let names: Vec<&str> = Known::value_variants().iter().map(|it| it.name()).collect();
            format!("there is no server {name}; there are {}", names.join(", "))
        })?;
        match variant {
            None => {}
            Some(_) if !known.is_of_the_lab() => {
                return Err(format!("{name} has no variants; evloop and thread have"));
            }
            Some(variant) if variant.starts_with("--") => {}
            Some(variant) if known == Known::Thread && DELIVERIES.contains(&variant) => {}
            Some(_) => {
                return Err(format!(
                    "a variant is flags, as in {name}:--history 0; of thread also {}",
                    DELIVERIES.join(", ")
                ));
            }
        }
        Ok(Self::new(known, variant))
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("wss://") {
            return Err("wss:// is not spoken here: put what ends TLS in front of the generator, and measure ws://".to_owned());
        }
        let authority = text
            .strip_prefix("ws://")
            .ok_or("it has the form ws://HOST:PORT")?
            .trim_end_matches('/');
        if authority.contains('/') {
            return Err(
                "it has the form ws://HOST:PORT; --path says which path to ask for".to_owned(),
            );
        }
        let addresses: Vec<SocketAddr> = authority
            .to_socket_addrs()
            .map_err(|error| format!("{error}; it has the form ws://HOST:PORT"))?
            .collect();
        Ok(Self {
            authority: authority.to_owned(),
            addresses,
            foreign: None,
        })
    }
}

impl ServerUrl {
    /// Whether a load on it stays on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.addresses
            .iter()
            .all(|address| address.ip().is_loopback())
    }

    /// The first address at which something answers: a name may have addresses at which the server does not listen.
    pub(crate) fn find(&self) -> Result<Endpoint> {
        let mut tried = Vec::new();
        for &address in &self.addresses {
            match TcpStream::connect_timeout(&address, ANSWER_MAX) {
                Ok(_) => {
                    return Ok(Endpoint {
                        address,
                        authority: self.authority.clone(),
                        foreign: self.foreign.clone(),
                    });
                }
                Err(error) => tried.push(format!("{address}: {error}")),
            }
        }
        bail!("nothing answers at {self} ({})", tried.join("; "))
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ws://{}", self.authority)
    }
}

impl Target {
    /// Finds a server that runs already; nothing to find of one that is started for each run.
    pub(crate) fn find(&self) -> Result<()> {
        match &self.start {
            Start::Running { url, .. } => url.find().map(drop),
            Start::Binary(..) | Start::Peer(_) | Start::Fake(_) => Ok(()),
        }
    }

    /// What starts it on a free port; none if it runs already.
    pub(crate) fn command(&self, chat_interval: Duration, clients: usize) -> Option<Command> {
        let interval = humantime::format_duration(chat_interval).to_string();
        let command = match &self.start {
            Start::Binary(path, flags) => {
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
                command.args(flags);
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
        Some(command)
    }

    /// The same as a line for a shell, for the report.
    pub(crate) fn command_line(&self) -> String {
        match (&self.start, self.command(Duration::ZERO, 0)) {
            (Start::Running { url, .. }, _) => url.to_string(),
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
fn built(binary: &str, lang: Lang) -> Result<PathBuf> {
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
        match build::release(Path::new(&cargo), &root, target, binary, lang) {
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn variants_are_of_the_lab_and_become_flags() {
        let direct: Choice = "thread:direct".parse().unwrap();
        assert_eq!(
            (direct.name.as_str(), direct.flags.join(" ")),
            ("thread:direct", "--delivery direct".to_owned())
        );
        let flags = |text: &str| text.parse::<Choice>().map(|choice| choice.flags.join(" "));
        assert_eq!(flags("evloop:--history 0"), Ok("--history 0".to_owned()));
        assert_eq!(flags("evloop"), Ok(String::new()));
        for wrong in [
            "evloop:direct",
            "bun:direct",
            "thread:fast",
            "moon",
            "thread:",
        ] {
            assert!(flags(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_address_of_a_name_is_tried_in_turn() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listening = listener.local_addr().unwrap();
        let silent = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut url = ServerUrl {
            authority: "name:80".to_owned(),
            addresses: vec![silent, listening],
            foreign: None,
        };
        let found = url.find().unwrap();
        assert_eq!(
            (found.address, found.authority.as_str()),
            (listening, "name:80")
        );
        url.addresses = vec![silent, SocketAddr::from(([127, 0, 0, 1], 2))];
        let said = url.find().unwrap_err().to_string();
        for part in ["ws://name:80", "127.0.0.1:1", "127.0.0.1:2"] {
            assert!(said.contains(part), "{said}");
        }
    }
}
