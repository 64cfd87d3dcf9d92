//! The world outside the event loop: the poll, the sockets, the clock.
//!
//! The loop is generic over it, so that the simulation in `tests/simulation` runs the same loop with virtual time and
//! sockets. The real one is [`MioWorld`].

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use crate::core::cluster::figures::LinkKind;
use crate::core::cluster::greeting::Greeting;
use crate::core::counters::Counters;
use crate::core::engine::Values;
use crate::core::time::Now;
use crate::host::clock;
use crate::host::dashboard_sources::Sources;
use crate::net::accept::{Acceptor, Listener, MioListener};
use crate::net::redis::{Connected, Target};
use crate::net::send_flags::MoreFollows;
use crate::net::shutdown::{Shutdown as ShutdownReceiver, StopRequests};
use crate::net::write_batch::MemFile;

/// Requests to stop have this token.
pub const SHUTDOWN: Token = Token(usize::MAX);
/// Listener N has this token less N; connections never reach up here.
pub const LISTENERS: Token = Token(usize::MAX - 3);
/// The connection on which is published has this token.
pub const REDIS_PUBLISH: Token = Token(usize::MAX - 1);
/// That on which the stream is read has this one.
pub const REDIS_READ: Token = Token(usize::MAX - 2);

/// Readiness of one token, as one event reports it: once, when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// Whose.
    pub token: Token,
    /// There may be something to read.
    pub readable: bool,
    /// The socket may take more.
    pub writable: bool,
    /// The end of input, or an error, is there to be read: there will be no other event.
    pub ending: bool,
}

/// What the event loop asks of the world.
pub trait World {
    /// A client's socket.
    type Socket: Socket;
    /// Where clients come from.
    type Listener: Listener<Socket = Self::Socket>;
    /// What a poll reports.
    type Events;

    /// Both clocks, for a turn.
    fn now(&self) -> Now;

    /// The clock of deadlines, in the middle of a turn.
    fn instant(&self) -> Instant;

    /// Room for so many events.
    fn events(capacity: usize) -> Self::Events;

    /// Waits until something is ready, at most `timeout`.
    ///
    /// # Errors
    /// Those of the poll; it may have been interrupted.
    fn poll(&mut self, events: &mut Self::Events, timeout: Option<Duration>) -> io::Result<()>;

    /// What a poll reported.
    fn readiness(events: &Self::Events) -> impl Iterator<Item = Readiness>;

    /// Has readiness of this socket reported under `token` from now on, and what is ready already with the next poll.
    ///
    /// # Errors
    /// The system does not watch it.
    fn watch(&mut self, socket: &mut Self::Socket, token: Token) -> io::Result<()>;

    /// How many requests to stop have come since this was last asked.
    fn take_stop_requests(&mut self) -> usize;

    /// Memory with these slices, from which many sockets are sent; `None` where there is none to be had.
    fn pages(&mut self, slices: &[Bytes]) -> Option<<Self::Socket as Socket>::Pages>;

    /// The dashboard's values for a tick.
    fn values(&mut self, now: Instant, clients: usize, counters: &Counters) -> Values;

    /// The simulated values go on from these, which another node had.
    fn go_on_from(&mut self, _simulated: [f64; 2]) {}

    /// Begins an attempt to connect to Redis.
    fn dial(&mut self, _link: LinkKind) {}

    /// An attempt that has ended.
    fn dialled(&mut self) -> Option<Dialled<Self::Socket>> {
        None
    }

    /// A random number.
    fn random(&mut self) -> u64 {
        0
    }
}

/// How an attempt to connect to Redis has ended: with a socket that has been greeted, or with what went wrong.
pub type Dialled<S> = (LinkKind, Result<(S, Greeting), String>);

/// A client's nonblocking socket.
pub trait Socket: Read + Write {
    /// Slices in memory that many sockets share.
    type Pages;

    /// Sends these slices without a copy.
    ///
    /// # Errors
    /// Those of the socket; that it would block is one.
    fn send_pages(&mut self, pages: &Self::Pages, lacking: Range<usize>) -> io::Result<usize>;

    /// The socket for its last bytes: the end of output, which follows at once, travels with them.
    fn last_bytes(&mut self) -> impl Write;

    /// Ends the output.
    ///
    /// # Errors
    /// The connection is gone.
    fn end_output(&mut self) -> io::Result<()>;

    /// Has the connection reset when the socket is closed, and what the kernel has queued forgotten.
    fn reset_when_closed(&mut self);
}

impl Socket for TcpStream {
    type Pages = MemFile;

    fn send_pages(&mut self, pages: &MemFile, lacking: Range<usize>) -> io::Result<usize> {
        pages.send(lacking, self)
    }

    fn last_bytes(&mut self) -> impl Write {
        MoreFollows(self)
    }

    fn end_output(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn reset_when_closed(&mut self) {
        let _ = SockRef::from(&*self).set_linger(Some(Duration::ZERO));
    }
}

/// The real world: mio's poll, the host's sockets and clocks.
#[derive(Debug)]
pub struct MioWorld {
    poll: Poll,
    stop_requests: StopRequests,
    sources: Sources,
    dialler: Option<Dialler>,
}

/// Connects to Redis in a thread that lives as long as the attempt: only there may anything block, as the lookup of a name
/// does.
#[derive(Debug)]
struct Dialler {
    target: Target,
    ended: (Sender<Attempt>, Receiver<Attempt>),
}

type Attempt = (LinkKind, Result<Connected, String>);

impl MioWorld {
    /// A poll that watches these listeners, and the requests to stop.
    ///
    /// # Errors
    /// Those of setting up the poll and the listeners.
    pub fn new(
        listeners: Vec<TcpListener>,
        simulate_cpu: bool,
        shutdown: ShutdownReceiver,
    ) -> io::Result<(Self, Acceptor<MioListener>)> {
        let poll = Poll::new()?;
        let mut stop_requests = StopRequests::new(shutdown)?;
        stop_requests.register(poll.registry(), SHUTDOWN)?;
        let acceptor = Acceptor::watched(listeners, poll.registry(), LISTENERS)?;
        let world = Self {
            poll,
            stop_requests,
            sources: Sources::new(clock::now().instant, simulate_cpu, &mut rand::rng()),
            dialler: None,
        };
        Ok((world, acceptor))
    }

    /// Redis is here.
    pub fn set_target(&mut self, target: Target) {
        self.dialler = Some(Dialler {
            target,
            ended: channel(),
        });
    }
}

impl World for MioWorld {
    type Socket = TcpStream;
    type Listener = MioListener;
    type Events = Events;

    fn now(&self) -> Now {
        clock::now()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }

    fn events(capacity: usize) -> Events {
        Events::with_capacity(capacity)
    }

    fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.poll.poll(events, timeout)
    }

    fn readiness(events: &Events) -> impl Iterator<Item = Readiness> {
        events.iter().map(|event| Readiness {
            token: event.token(),
            readable: event.is_readable(),
            writable: event.is_writable(),
            ending: event.is_read_closed() || event.is_error(),
        })
    }

    fn watch(&mut self, socket: &mut TcpStream, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(socket, token, both)
    }

    fn take_stop_requests(&mut self) -> usize {
        self.stop_requests.take()
    }

    fn pages(&mut self, slices: &[Bytes]) -> Option<MemFile> {
        // Without a descriptor to spare, in a sandbox or over the limit on the size of files, the copy does.
        MemFile::new(slices).ok()
    }

    fn values(&mut self, now: Instant, clients: usize, counters: &Counters) -> Values {
        self.sources.sample(now, clients, counters)
    }

    fn go_on_from(&mut self, simulated: [f64; 2]) {
        self.sources.go_on_from(simulated);
    }

    fn dial(&mut self, link: LinkKind) {
        let Some(dialler) = &self.dialler else {
            return;
        };
        let (target, ended) = (dialler.target.clone(), dialler.ended.0.clone());
        let attempt = move |ended: &Sender<Attempt>| {
            let connected = target.connect().map_err(|error| error.to_string());
            // The loop has ended where nothing receives it.
            let _ = ended.send((link, connected));
        };
        let spawned = thread::Builder::new().name("redis-connect".to_owned());
        let reported = ended.clone();
        if let Err(error) = spawned.spawn(move || attempt(&ended)) {
            let error = format!("no thread to connect to Redis with: {error}");
            let _ = reported.send((link, Err(error)));
        }
    }

    fn dialled(&mut self) -> Option<Dialled<TcpStream>> {
        let (link, connected) = self.dialler.as_ref()?.ended.1.try_recv().ok()?;
        let connected = connected.and_then(|Connected { socket, greeting }| {
            let nonblocking = socket.set_nonblocking(true);
            nonblocking.map_err(|error| error.to_string())?;
            Ok((TcpStream::from_std(socket), greeting))
        });
        Some((link, connected))
    }

    fn random(&mut self) -> u64 {
        rand::random()
    }
}
