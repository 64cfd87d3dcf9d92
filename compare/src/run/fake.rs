//! A server with known faults: it delays, stalls, drops, doubles and dies as told, so that the tests can tell whether
//! the figures say so. It speaks as much of the protocol as the generator needs, and fans out in batches, so that it
//! can also drive the generator to its limit.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::loadgen::{FrameReader, From, encode};

const LISTENER: Token = Token(usize::MAX);
const EVENTS_PER_POLL: usize = 1024;
const READ_BUFFER_BYTES: usize = 64 * 1024;
const REQUEST_HEADERS_MAX: usize = 32;
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// The poll's own grain; what is due within it is waited for by polling again.
const POLL_GRAIN: Duration = Duration::from_millis(1);
const TICK: Duration = Duration::from_secs(1);
const TEXT: OpCode = OpCode::Data(Data::Text);

/// What is wrong with this server.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Faults {
    #[arg(long, default_value = "127.0.0.1:0")]
    bind: SocketAddr,
    /// Every message is held this long
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    delay: Duration,
    /// Once a `--stall-every`, the server does nothing for this long
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    stall: Duration,
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    stall_every: Duration,
    /// The server ends, as by a bug, this long after its start
    #[arg(long, value_parser = humantime::parse_duration)]
    die_after: Option<Duration>,
    /// Every n-th message is not sent on
    #[arg(long, value_name = "N")]
    drop_every: Option<u64>,
    /// Every n-th message is sent twice
    #[arg(long, value_name = "N")]
    double_every: Option<u64>,
    /// Every n-th batch to the room is kept from one member, the second to join
    #[arg(long, value_name = "N")]
    starve_every: Option<u64>,
    /// Before every n-th batch to the room every second member gets a Ping
    #[arg(long, value_name = "N")]
    ping_every: Option<u64>,
}

/// The member that `--starve-every` is about.
const STARVED: usize = 1;

/// Serves until it is killed.
pub(crate) fn run(faults: Faults) -> Result<()> {
    let mut fake = Fake::new(faults)?;
    let mut events = Events::with_capacity(EVENTS_PER_POLL);
    loop {
        let timeout = fake.timeout();
        match fake.poll.poll(&mut events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            polled => polled.context("cannot poll")?,
        }
        if fake.end.is_some_and(|end| end <= Instant::now()) {
            return Ok(());
        }
        fake.stall_if_due();
        for event in &events {
            match event.token() {
                LISTENER => fake.accept()?,
                Token(index) => fake.ready(index),
            }
        }
        fake.release();
        fake.tick_if_due();
    }
}

struct Fake {
    faults: Faults,
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    /// Messages held back, in the order in which they are due.
    held: VecDeque<Held>,
    next_stall: Instant,
    next_tick: Instant,
    end: Option<Instant>,
    messages: u64,
    batches: u64,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    stage: Stage,
    reader: FrameReader,
    unsent: Vec<u8>,
}

#[derive(PartialEq)]
enum Stage {
    Request(Vec<u8>),
    Room,
    Echo,
    Dashboard,
}

struct Held {
    due: Instant,
    to: To,
    frame: Vec<u8>,
}

#[derive(Clone, Copy)]
enum To {
    Room,
    One(usize),
}

impl Fake {
    fn new(faults: Faults) -> Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(faults.bind)
            .with_context(|| format!("cannot bind {}", faults.bind))?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        writeln!(
            io::stdout(),
            "listening on http://{}",
            listener.local_addr()?
        )?;
        let now = Instant::now();
        Ok(Self {
            next_stall: now + faults.stall_every,
            next_tick: now + TICK,
            end: faults.die_after.map(|after| now + after),
            faults,
            poll,
            listener,
            connections: Vec::new(),
            held: VecDeque::new(),
            messages: 0,
            batches: 0,
            buffer: vec![0; READ_BUFFER_BYTES],
        })
    }

    fn timeout(&self) -> Option<Duration> {
        let held = self.held.front().map(|held| held.due);
        let next = [held, self.end, Some(self.next_tick)];
        let wait = next
            .into_iter()
            .flatten()
            .min()?
            .saturating_duration_since(Instant::now());
        Some(wait.saturating_sub(POLL_GRAIN))
    }

    fn stall_if_due(&mut self) {
        if !self.faults.stall.is_zero() && Instant::now() >= self.next_stall {
            std::thread::sleep(self.faults.stall);
            self.next_stall += self.faults.stall_every;
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let (mut stream, _) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("cannot accept"),
            };
            stream.set_nodelay(true)?;
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(&mut stream, Token(self.connections.len()), both)?;
            self.connections.push(Some(Connection {
                stream,
                stage: Stage::Request(Vec::new()),
                reader: FrameReader::new(From::Client, PAYLOAD_BYTES_MAX),
                unsent: Vec::new(),
            }));
        }
    }

    fn ready(&mut self, index: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(connection) = &mut self.connections[index] {
            connection.send(&[]);
            match connection.stream.read(&mut buffer) {
                Ok(count) if count > 0 => self.take_in(index, &buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => self.connections[index] = None,
            }
        }
        self.buffer = buffer;
    }

    fn take_in(&mut self, index: usize, bytes: &[u8]) {
        let Some(connection) = &mut self.connections[index] else {
            return;
        };
        if let Stage::Request(head) = &mut connection.stage {
            head.extend_from_slice(bytes);
            if let Some((stage, response)) = answer_upgrade(head) {
                connection.stage = stage;
                connection.send(&response);
            }
            return;
        }
        let to = if connection.stage == Stage::Room {
            To::Room
        } else {
            To::One(index)
        };
        let mut said = Vec::new();
        // A client that breaks the protocol is not what this server is for.
        let _ = connection.reader.feed(bytes, |frame| {
            if let OpCode::Data(_) = frame.opcode {
                said.push(frame.payload.to_vec());
            }
        });
        for payload in said {
            self.hold(to, &payload);
        }
    }

    /// Holds a message for as long as every message is held, as often as it is to be sent.
    fn hold(&mut self, to: To, payload: &[u8]) {
        self.messages += 1;
        let every = |n: Option<u64>| n.is_some_and(|n| self.messages.is_multiple_of(n));
        let times = if every(self.faults.drop_every) {
            0
        } else {
            1 + usize::from(every(self.faults.double_every))
        };
        for _ in 0..times {
            let mut frame = Vec::with_capacity(payload.len() + 4);
            encode(TEXT, None, payload, &mut frame);
            self.held.push_back(Held {
                due: Instant::now() + self.faults.delay,
                to,
                frame,
            });
        }
    }

    /// Sends what has been held long enough; the room's messages as one batch.
    fn release(&mut self) {
        let now = Instant::now();
        let mut batch = Vec::new();
        while self.held.front().is_some_and(|held| held.due <= now) {
            let held = self.held.pop_front().expect("looked at above");
            match held.to {
                To::Room => batch.extend_from_slice(&held.frame),
                To::One(index) => {
                    if let Some(connection) = &mut self.connections[index] {
                        connection.send(&held.frame);
                    }
                }
            }
        }
        if !batch.is_empty() {
            self.send_to_room(&batch);
        }
    }

    fn send_to_room(&mut self, batch: &[u8]) {
        self.batches += 1;
        let every = |n: Option<u64>| n.is_some_and(|n| self.batches.is_multiple_of(n));
        let starve = every(self.faults.starve_every);
        if every(self.faults.ping_every) {
            let mut ping = Vec::new();
            encode(OpCode::Control(Control::Ping), None, b"?", &mut ping);
            for connection in self.connections.iter_mut().step_by(2).flatten() {
                connection.send(&ping);
            }
        }
        let kept = starve.then(|| self.connections[STARVED].take()).flatten();
        self.send_to_all(&Stage::Room, batch);
        if let Some(kept) = kept {
            self.connections[STARVED] = Some(kept);
        }
    }

    /// A tick of the dashboard: three metrics to each subscriber.
    fn tick_if_due(&mut self) {
        if Instant::now() < self.next_tick {
            return;
        }
        self.next_tick += TICK;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        let ts = unix.unwrap_or_default().as_millis();
        let mut batch = Vec::new();
        for metric in ["cpu", "memory", "clients"] {
            let message = format!(r#"{{"type":"metric","metric":"{metric}","value":1,"ts":{ts}}}"#);
            encode(TEXT, None, message.as_bytes(), &mut batch);
        }
        self.send_to_all(&Stage::Dashboard, &batch);
    }

    fn send_to_all(&mut self, stage: &Stage, batch: &[u8]) {
        for connection in self.connections.iter_mut().flatten() {
            if connection.stage == *stage {
                connection.send(batch);
            }
        }
    }
}

impl Connection {
    /// Sends what is unsent and then `bytes`; what the kernel does not take is kept.
    fn send(&mut self, bytes: &[u8]) {
        if !self.unsent.is_empty() {
            let taken = self.stream.write(&self.unsent).unwrap_or(0);
            self.unsent.drain(..taken);
        }
        let taken = if self.unsent.is_empty() {
            self.stream.write(bytes).unwrap_or(0)
        } else {
            0
        };
        self.unsent.extend_from_slice(&bytes[taken..]);
    }
}

/// The stage a whole upgrade request leads to, and the answer to it.
fn answer_upgrade(head: &[u8]) -> Option<(Stage, Vec<u8>)> {
    let mut headers = [httparse::EMPTY_HEADER; REQUEST_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    request
        .parse(head)
        .ok()
        .filter(httparse::Status::is_complete)?;
    let stage = match request.path {
        Some(path) if path.ends_with("/echo") => Stage::Echo,
        Some("/ws/dashboard") => Stage::Dashboard,
        _ => Stage::Room,
    };
    let key = request
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("Sec-WebSocket-Key"))?;
    let accept = derive_accept_key(key.value);
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Some((stage, response.into_bytes()))
}
