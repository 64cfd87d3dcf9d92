//! One client's connection: connect, upgrade, then bytes in and out, whatever they mean.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
#[cfg(target_os = "linux")]
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
#[cfg(target_os = "linux")]
use socket2::{Domain, Protocol, Socket, Type};
use tungstenite::handshake::derive_accept_key;

use super::arrival::{self, Stamped};
use super::frames::FrameReader;
use super::room_record::Place;
use super::tally::{ErrorKind, OrderCheck};

/// RFC 6455's own example. The key guards against confused proxies, of which there are none on loopback.
const UPGRADE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const RESPONSE_BYTES_MAX: usize = 8 * 1024;
const RESPONSE_HEADERS_MAX: usize = 32;
/// Clients to a source address; the range of ephemeral ports has 28,000 to each.
#[cfg(target_os = "linux")]
const CLIENTS_PER_SOURCE_ADDRESS: usize = 1_000;

/// A server as the clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// What they ask for in `Host`: a name, where the server was given by one.
    pub(crate) authority: String,
    /// What a server that does not speak the lab's protocol is asked for instead.
    pub(crate) foreign: Option<Foreign>,
}

/// How a server of any kind is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) path: String,
    pub(crate) subprotocol: Option<String>,
    /// A message, with [`TEXT_PLACE`] where the generator's text goes; it must come back with that text in it.
    pub(crate) message: String,
}

/// The place of the text in a message template.
pub(crate) const TEXT_PLACE: &str = "{text}";

impl Endpoint {
    /// A server without a name.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self {
            address,
            authority: address.to_string(),
            foreign: None,
        }
    }
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) group: usize,
    pub(crate) member: usize,
    pub(crate) stage: Stage,
    pub(crate) reader: FrameReader,
    /// Of an unsampled member of the room.
    pub(crate) place: Place,
    /// The end of a frame that the kernel did not take.
    pub(crate) unsent: Vec<u8>,
    /// Slots that came due while this client could not send; they go out first, late.
    pub(crate) backlog: VecDeque<u64>,
    /// Messages received of the sort its endpoint is there for.
    pub(crate) received: u64,
    /// Of an echo client: how many echoes it is owed.
    pub(crate) echoes_sent: u64,
    /// An echo client's one message on its way.
    pub(crate) in_flight: Option<InFlight>,
    /// A sampled client's memory.
    pub(crate) order_check: Option<Box<OrderCheck>>,
}

/// The stage of a client's connection. Time only goes down this list; a client that reconnects begins anew.
#[derive(Debug)]
pub(crate) enum Stage {
    Waiting,
    Connecting {
        stream: TcpStream,
        since_ns: u64,
    },
    /// Half of its request is sent, and no more will be.
    HalfOpen {
        stream: TcpStream,
    },
    Upgrading {
        stream: TcpStream,
        since_ns: u64,
        head: Vec<u8>,
    },
    Open {
        stream: TcpStream,
    },
    /// Has said goodbye and waits for the server to close.
    Leaving {
        stream: TcpStream,
    },
    Gone,
}

/// How much of the upgrade request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Whole,
    Half,
}

/// A message sent whose answer is awaited.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InFlight {
    pub(crate) slot: u64,
    pub(crate) due_ns: u64,
    pub(crate) sent_ns: u64,
}

/// How a look at the answer to the upgrade request ended.
pub(crate) enum Upgrade {
    NotYet,
    Done {
        since_ns: u64,
        /// Frames may follow right behind the head.
        after_head: Vec<u8>,
    },
}

/// What a read found.
pub(crate) enum ReadOutcome {
    Bytes(usize),
    WouldBlock,
    Ended(ErrorKind),
}

impl Client {
    pub(crate) fn new(
        group: usize,
        member: usize,
        reader: FrameReader,
        order_check: Option<OrderCheck>,
    ) -> Self {
        Self {
            group,
            member,
            stage: Stage::Waiting,
            reader,
            place: Place::Apart,
            unsent: Vec::new(),
            backlog: VecDeque::new(),
            received: 0,
            echoes_sent: 0,
            in_flight: None,
            order_check: order_check.map(Box::new),
        }
    }

    /// Starts to connect, as the `source`-th connection of all; the poll tells under `index` when that is done.
    pub(crate) fn connect(
        &mut self,
        now_ns: u64,
        index: usize,
        source: usize,
        target: SocketAddr,
        poll: &Registry,
    ) -> io::Result<()> {
        let mut stream = connecting_stream(source, target)?;
        // Both at once and never again: the poll is edge-triggered, so WRITABLE costs nothing while it holds.
        poll.register(
            &mut stream,
            Token(index),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        self.stage = Stage::Connecting {
            stream,
            since_ns: now_ns,
        };
        Ok(())
    }

    /// Sends the upgrade request if the connection stands; writing it is also what tells.
    pub(crate) fn request_upgrade(
        &mut self,
        path: &str,
        target: &Endpoint,
        part: Request,
    ) -> Result<(), ErrorKind> {
        let Stage::Connecting { stream, since_ns } = &mut self.stage else {
            return Ok(());
        };
        let host = &target.authority;
        let foreign = target.foreign.as_ref();
        let path = foreign.map_or(path, |foreign| &foreign.path);
        let subprotocol = foreign
            .and_then(|foreign| foreign.subprotocol.as_ref())
            .map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"))
            .unwrap_or_default();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\n{subprotocol}Upgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {UPGRADE_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        let request = match part {
            Request::Whole => request.as_bytes(),
            Request::Half => &request.as_bytes()[..request.len() / 2],
        };
        match stream.write(request) {
            // A new connection's send buffer has room for one small request; if not, something is badly wrong.
            Ok(written) if written == request.len() => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
                ) =>
            {
                return Ok(());
            }
            Ok(_) | Err(_) => return Err(ErrorKind::ConnectFailed),
        }
        let since_ns = *since_ns;
        let Stage::Connecting { stream, .. } = std::mem::replace(&mut self.stage, Stage::Gone)
        else {
            unreachable!("matched above")
        };
        self.stage = match part {
            Request::Whole => Stage::Upgrading {
                stream,
                since_ns,
                head: Vec::new(),
            },
            Request::Half => Stage::HalfOpen { stream },
        };
        Ok(())
    }

    /// Looks at what has come of the answer; the stage is `Open` when it is a good one.
    pub(crate) fn read_upgrade(&mut self, buffer: &mut [u8]) -> Result<Upgrade, ErrorKind> {
        loop {
            let count = match self.read(buffer) {
                ReadOutcome::Bytes(count) => count,
                ReadOutcome::WouldBlock => return Ok(Upgrade::NotYet),
                ReadOutcome::Ended(_) => return Err(ErrorKind::UpgradeRefused),
            };
            let Stage::Upgrading { head, .. } = &mut self.stage else {
                return Ok(Upgrade::NotYet);
            };
            head.extend_from_slice(&buffer[..count]);
            let Some(head_len) = check_response(head)? else {
                continue;
            };
            let Stage::Upgrading {
                stream,
                since_ns,
                mut head,
            } = std::mem::replace(&mut self.stage, Stage::Gone)
            else {
                unreachable!("matched above")
            };
            self.stage = Stage::Open { stream };
            return Ok(Upgrade::Done {
                since_ns,
                after_head: head.split_off(head_len),
            });
        }
    }

    /// One `read`.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> ReadOutcome {
        let (Stage::Upgrading { stream, .. }
        | Stage::HalfOpen { stream }
        | Stage::Open { stream }
        | Stage::Leaving { stream }) = &mut self.stage
        else {
            return ReadOutcome::WouldBlock;
        };
        loop {
            return match stream.read(buffer) {
                Ok(0) => ReadOutcome::Ended(ErrorKind::ClosedByServer),
                Ok(count) => ReadOutcome::Bytes(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ReadOutcome::WouldBlock,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => ReadOutcome::Ended(ErrorKind::ConnectionReset),
            };
        }
    }

    /// One read that also tells how long ago the bytes arrived.
    pub(crate) fn read_stamped(
        &mut self,
        buffer: &mut [u8],
        space: &mut Vec<u8>,
    ) -> (ReadOutcome, Option<Duration>) {
        let Stage::Open { stream } = &self.stage else {
            return (self.read(buffer), None);
        };
        loop {
            return match arrival::read(stream, buffer, space) {
                Ok(Stamped { count: 0, .. }) => {
                    (ReadOutcome::Ended(ErrorKind::ClosedByServer), None)
                }
                Ok(Stamped { count, ago }) => (ReadOutcome::Bytes(count), ago),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    (ReadOutcome::WouldBlock, None)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => (ReadOutcome::Ended(ErrorKind::ConnectionReset), None),
            };
        }
    }

    /// Sends whole frames, after what is unsent. What the kernel does not take now goes when it can.
    pub(crate) fn write(&mut self, frames: &[u8]) -> Result<(), ErrorKind> {
        let Stage::Open { stream } = &mut self.stage else {
            return Ok(());
        };
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(frames);
            return Ok(());
        }
        let written = write_some(stream, frames)?;
        self.unsent.extend_from_slice(&frames[written..]);
        Ok(())
    }

    /// Sends more of what is unsent.
    pub(crate) fn flush(&mut self) -> Result<(), ErrorKind> {
        let Stage::Open { stream } = &mut self.stage else {
            return Ok(());
        };
        let written = write_some(stream, &self.unsent)?;
        self.unsent.drain(..written);
        Ok(())
    }

    /// Says goodbye with `close`; the server is to end the connection.
    pub(crate) fn leave(&mut self, close: &[u8]) -> Result<(), ErrorKind> {
        self.write(close)?;
        if let Stage::Open { stream } = std::mem::replace(&mut self.stage, Stage::Gone) {
            self.stage = Stage::Leaving { stream };
        }
        Ok(())
    }

    /// Drops the connection, as if the network had gone; what it was owed and what it owed is forgotten.
    pub(crate) fn drop_connection(&mut self) {
        self.stage = Stage::Waiting;
        self.reader.restart();
        self.place = Place::Apart;
        self.unsent.clear();
        self.backlog.clear();
        self.in_flight = None;
    }

    /// Asks for no more events of anything to read: a client that does not read.
    pub(crate) fn stop_reading(&mut self, index: usize, poll: &Registry) -> io::Result<()> {
        let Stage::Open { stream } = &mut self.stage else {
            return Ok(());
        };
        poll.reregister(stream, Token(index), Interest::WRITABLE)
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open { .. })
    }

    /// Whether a message that is due can be sent now.
    pub(crate) fn can_send(&self) -> bool {
        self.is_open() && self.unsent.is_empty() && self.in_flight.is_none()
    }
}

/// Writes until all is taken or the kernel has no room.
fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize, ErrorKind> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(ErrorKind::ConnectionReset),
        }
    }
    Ok(written)
}

/// The length of the head, once it is whole and says yes.
fn check_response(head: &[u8]) -> Result<Option<usize>, ErrorKind> {
    let mut headers = [httparse::EMPTY_HEADER; RESPONSE_HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head_len = match response.parse(head) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if head.len() < RESPONSE_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(_) => return Err(ErrorKind::UpgradeRefused),
    };
    let accept = derive_accept_key(UPGRADE_KEY.as_bytes());
    let accepted = response.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("Sec-WebSocket-Accept")
            && header.value == accept.as_bytes()
    });
    if response.code == Some(101) && accepted {
        Ok(Some(head_len))
    } else {
        Err(ErrorKind::UpgradeRefused)
    }
}

/// A stream that is on its way to `target`.
fn connecting_stream(source: usize, target: SocketAddr) -> io::Result<TcpStream> {
    #[cfg(target_os = "linux")]
    if let SocketAddr::V4(target) = target
        && target.ip().is_loopback()
    {
        return connecting_from(source_address(source), target.into());
    }
    // Only Linux answers to all of 127.0.0.0/8 without being told to; elsewhere the system picks the source.
    let _ = source;
    let stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(target_os = "linux")]
fn connecting_from(source: Ipv4Addr, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::IPV4,
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    match socket.connect(&target.into()) {
        Err(error)
            if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
        {
            Err(error)
        }
        Ok(()) | Err(_) => Ok(TcpStream::from_std(socket.into())),
    }
}

/// One port range is not enough for tens of thousands of clients, so they come from several addresses.
#[cfg(target_os = "linux")]
fn source_address(source: usize) -> Ipv4Addr {
    let last = u8::try_from(source / CLIENTS_PER_SOURCE_ADDRESS % 250).expect("under 250") + 1;
    Ipv4Addr::new(127, 0, 0, last)
}
