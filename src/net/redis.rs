//! A connection to Redis, made with blocking calls; what is said over it is told in [`core::cluster`](crate::core::cluster).

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::distr::Alphanumeric;
use tracing::warn;

use crate::core::cluster::greeting::{Greeter, Greeting, Unfit};
use crate::core::cluster::url::RedisUrl;
use crate::core::cluster::{Reader, Settings, StreamEvent, Trouble};

/// How long connecting to one address may take, and how long the greeting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Read at once.
const READ_BUFFER: usize = 64 * 1024;

/// Where Redis is and what it is told; enough to connect.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where.
    pub url: RedisUrl,
    /// What this node is told.
    pub settings: Settings,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing answers there.
    #[error("cannot reach Redis at {0}: {1}")]
    Unreachable(Box<RedisUrl>, io::Error),
    /// It answers, and cannot be used.
    #[error("Redis at {0} cannot be used: {1}")]
    Unfit(Box<RedisUrl>, Box<Unfit>),
}

/// A connection that has been greeted.
#[derive(Debug)]
pub struct Connected {
    /// Blocking.
    pub socket: TcpStream,
    /// What Redis told of itself.
    pub greeting: Greeting,
}

impl Target {
    /// Connects and greets, trying each address of the host.
    ///
    /// # Errors
    /// None answers, or Redis cannot be used.
    pub fn connect(&self) -> Result<Connected, ConnectError> {
        let unreachable = |error| ConnectError::Unreachable(Box::new(self.url.clone()), error);
        let addresses = (self.url.host.as_str(), self.url.port)
            .to_socket_addrs()
            .map_err(unreachable)?;
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(socket) => return self.greet(socket),
                Err(error) => failed = error,
            }
        }
        Err(unreachable(failed))
    }

    fn greet(&self, socket: TcpStream) -> Result<Connected, ConnectError> {
        match exchange_greeting(&socket, &self.url, &self.settings) {
            Ok(Ok(greeting)) => Ok(Connected { socket, greeting }),
            Ok(Err(unfit)) => Err(ConnectError::Unfit(
                Box::new(self.url.clone()),
                Box::new(unfit),
            )),
            Err(error) => Err(ConnectError::Unreachable(Box::new(self.url.clone()), error)),
        }
    }
}

/// Why an attempt failed, told once for as long as it stays the same.
#[derive(Debug, Default)]
pub(crate) struct Told(Option<String>);

impl Told {
    /// Tells it in the log, unless it was what was told last.
    pub(crate) fn tell(&mut self, error: &impl ToString) {
        let error = Some(error.to_string());
        if self.0 != error {
            warn!(
                "[REDIS] {}; trying on",
                error.as_deref().unwrap_or_default()
            );
            self.0 = error;
        }
    }
}

/// Twelve random letters and digits: a name that nothing had before.
pub(crate) fn random_name() -> String {
    let letters = rand::rng().sample_iter(Alphanumeric).take(12);
    letters.map(char::from).collect()
}

fn exchange_greeting(
    mut socket: &TcpStream,
    url: &RedisUrl,
    settings: &Settings,
) -> io::Result<Result<Greeting, Unfit>> {
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(CONNECT_TIMEOUT))?;
    let (mut greeter, output) = Greeter::new(&url.login, settings, &random_name());
    socket.write_all(&output)?;
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    loop {
        let bytes = read_until(socket, deadline)?;
        match greeter.receive(&bytes) {
            Ok(Some(greeting)) => return Ok(Ok(greeting)),
            Ok(None) => {}
            Err(unfit) => return Ok(Err(unfit)),
        }
    }
}

/// Waits for bytes, but not beyond the deadline.
fn read_until(mut socket: &TcpStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let left = deadline.saturating_duration_since(Instant::now());
    socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
    let mut buffer = vec![0; READ_BUFFER];
    match socket.read(&mut buffer) {
        Ok(0) => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            Trouble::Closed,
        )),
        Ok(length) => {
            buffer.truncate(length);
            Ok(buffer)
        }
        Err(error) if is_timeout(&error) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, Trouble::Silent))
        }
        Err(error) => Err(error),
    }
}

/// A blocking call has waited as long as it may.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Both connections of a node, and what the stream had when they were made.
#[derive(Debug)]
pub(crate) struct Start {
    /// To publish.
    pub publish: Connected,
    /// To read on; the reader's next question is on its way to be sent.
    pub read: Connected,
    /// Has read to the end of the stream.
    pub reader: Reader,
    /// What it has read.
    pub events: Vec<StreamEvent>,
}

/// Connects a node, and reads the history that it begins with.
///
/// # Errors
/// There is no Redis to be used.
pub(crate) fn start(target: &Target) -> io::Result<Start> {
    let publish = target.connect().map_err(io::Error::other)?;
    let read = target.connect().map_err(io::Error::other)?;
    let mut reader = Reader::new(target.settings.clone(), &read.greeting);
    reader.connected(Instant::now(), &read.greeting);
    let mut events = Vec::new();
    let mut socket = &read.socket;
    while reader.last_id() < read.greeting.tip {
        socket.write_all(&reader.take_output())?;
        let bytes = read_until(socket, Instant::now() + CONNECT_TIMEOUT)?;
        let received = reader.receive(Instant::now(), &bytes, &random_name());
        received.map_err(io::Error::other)?;
        events.append(&mut reader.take_events());
    }
    events.append(&mut reader.take_events());
    Ok(Start {
        publish,
        read,
        reader,
        events,
    })
}
