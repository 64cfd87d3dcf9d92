//! The listeners, and accepting that survives running out of descriptors.
//!
//! Edge-triggered readiness of a listener is lost if its backlog is not emptied, so readiness is remembered here. When
//! no descriptor is left, a client in the backlog can neither be served nor refused, and a loop that tries again at
//! once spins. So one descriptor is kept spare: it is given up, the client is answered, and the descriptor is taken back.
//! Where it cannot be had, accepting pauses (the trick is libev's, <http://pod.tst.eu/http://cvs.schmorp.de/libev/ev.pod>,
//! "The special problem of accept()ing when you can't").

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, SockRef, Socket, Type};
#[cfg(target_os = "linux")]
use tracing::warn;

use crate::core::arrival::Arrival;
use crate::core::context::Context;
use crate::core::http::{MAX_HEAD_BYTES, Refusal};
#[cfg(target_os = "linux")]
use crate::net::defer_accept::defer_accept;

/// What the kernel may hold for a client besides what is on its way to it: enough for some turns, and little enough that
/// a client that does not read ties up no more (tcp(7), `TCP_NOTSENT_LOWAT`; clients inherit it from the listener).
#[cfg(target_os = "linux")]
const KERNEL_UNSENT: u32 = 128 * 1024;
/// Clients accepted per turn; the rest wait for the next.
const ACCEPTS_PER_TURN: usize = 256;
/// Whether a client's socket has it from the listener, which saves a call for each. No standard promises it.
const NODELAY_IS_INHERITED: bool = cfg!(target_os = "linux");
/// How long accepting pauses when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(250);

/// The listeners.
#[derive(Debug)]
pub struct Acceptor<L: Listener = MioListener> {
    listeners: Vec<Watched<L>>,
    first_token: Token,
    spare: Option<L::Spare>,
    paused: bool,
    left_this_turn: usize,
}

/// Where clients come from, without blocking.
pub trait Listener {
    /// A client's socket.
    type Socket;
    /// A descriptor that can be given up; any will do.
    type Spare;

    /// The next client: its socket, its address, and the one that it came to.
    ///
    /// # Errors
    /// Those of accept(2); that nobody waits is one.
    fn accept(&self) -> io::Result<(Self::Socket, SocketAddr, IpAddr)>;

    /// Takes a descriptor, if there is one.
    fn spare(&self) -> Option<Self::Spare>;
}

/// A listening socket of the host.
#[derive(Debug)]
pub struct MioListener {
    socket: TcpListener,
    /// The address of all its connections, unless it listens on all addresses of the machine.
    address: Option<IpAddr>,
}

impl Listener for MioListener {
    type Socket = TcpStream;
    type Spare = Socket;

    fn accept(&self) -> io::Result<(TcpStream, SocketAddr, IpAddr)> {
        let (socket, peer) = self.socket.accept()?;
        let local = match self.address {
            Some(address) => address,
            None => socket.local_addr()?.ip(),
        };
        if !NODELAY_IS_INHERITED {
            let _ = socket.set_nodelay(true);
        }
        Ok((socket, peer, local))
    }

    fn spare(&self) -> Option<Socket> {
        Socket::new(Domain::IPV4, Type::DGRAM, None).ok()
    }
}

/// A listener in a poll.
#[derive(Debug)]
struct Watched<L> {
    listener: L,
    /// Readiness was reported, and nothing since has said that the backlog is empty.
    is_ready: bool,
}

/// What came of trying to accept.
#[derive(Debug)]
pub enum Accepted<S = TcpStream> {
    /// A client connected.
    Client(S, Arrival),
    /// A client from whose address as many sockets are open as may be.
    OneTooMany(S, Arrival, Refusal),
    /// No descriptor is left. Call [`Acceptor::resume`] at this time.
    NoDescriptors(Instant),
}

impl Acceptor {
    /// Registers the listeners under `first_token` and the tokens below it.
    ///
    /// # Errors
    /// Those of registering.
    pub fn watched(
        listeners: Vec<std::net::TcpListener>,
        registry: &Registry,
        first_token: Token,
    ) -> io::Result<Self> {
        let mut watched = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            listener.set_nonblocking(true)?;
            // Small frames are sent when they are due, not when the last one is acknowledged.
            if NODELAY_IS_INHERITED {
                SockRef::from(&listener).set_tcp_nodelay(true)?;
            }
            #[cfg(target_os = "linux")]
            {
                SockRef::from(&listener).set_tcp_notsent_lowat(KERNEL_UNSENT)?;
                // It saves work; a sandbox that does not know it is no reason not to serve.
                if let Err(error) = defer_accept(&listener) {
                    warn!("[SERVER] Clients are accepted before they have spoken: {error}");
                }
            }
            let ip = listener.local_addr()?.ip();
            let mut socket = TcpListener::from_std(listener);
            registry.register(
                &mut socket,
                Token(first_token.0 - index),
                Interest::READABLE,
            )?;
            watched.push(MioListener {
                socket,
                address: (!ip.is_unspecified()).then_some(ip),
            });
        }
        Ok(Self::new(watched, first_token))
    }
}

impl<L: Listener> Acceptor<L> {
    /// The listeners, whose readiness is reported under `first_token` and the tokens below it.
    pub fn new(listeners: Vec<L>, first_token: Token) -> Self {
        let listeners: Vec<_> = listeners
            .into_iter()
            .map(|listener| Watched {
                listener,
                is_ready: false,
            })
            .collect();
        Self {
            spare: spare_descriptor(&listeners),
            listeners,
            first_token,
            paused: false,
            left_this_turn: ACCEPTS_PER_TURN,
        }
    }

    /// How many listeners there are.
    pub fn len(&self) -> usize {
        self.listeners.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// Readiness of a listener was reported.
    pub fn set_ready(&mut self, token: Token) {
        if let Some(watched) = self.listeners.get_mut(self.first_token.0 - token.0) {
            watched.is_ready = true;
        }
    }

    /// Whether a client may be waiting that can be accepted now.
    pub fn is_ready(&self) -> bool {
        !self.paused && self.listeners.iter().any(|watched| watched.is_ready)
    }

    /// The pause is over.
    pub fn resume(&mut self) {
        self.paused = false;
    }

    /// The next client, until none is waiting or this turn's share is used up; then `None` once. `turn_away` answers a
    /// client for which there is no descriptor.
    pub fn next(
        &mut self,
        now: Instant,
        context: &Context,
        turn_away: impl Fn(&mut L::Socket, &Arrival),
    ) -> Option<Accepted<L::Socket>> {
        while self.is_ready() && self.left_this_turn > 0 {
            self.left_this_turn -= 1;
            let mut listeners = self.listeners.iter_mut();
            let watched = listeners.find(|watched| watched.is_ready)?;
            match watched.listener.accept() {
                Ok((socket, peer, local)) => {
                    let arrival = |place| Arrival { peer, local, place };
                    return Some(match context.by_address.place(peer.ip()) {
                        Ok(place) => Accepted::Client(socket, arrival(place)),
                        Err(refusal) => Accepted::OneTooMany(socket, arrival(None), refusal),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    watched.is_ready = false;
                }
                Err(error) if lacks_descriptors(&error) => {
                    if let Some(resume_at) = self.turn_one_away(now, context, &turn_away) {
                        return Some(Accepted::NoDescriptors(resume_at));
                    }
                }
                // That client is gone already (accept(2): "treat them like EAGAIN by retrying").
                Err(_) => {}
            }
        }
        self.left_this_turn = ACCEPTS_PER_TURN;
        None
    }

    /// Gives up the spare descriptor for as long as one client is answered. Where there is none, accepting pauses until the
    /// time that is returned.
    fn turn_one_away(
        &mut self,
        now: Instant,
        context: &Context,
        turn_away: &impl Fn(&mut L::Socket, &Arrival),
    ) -> Option<Instant> {
        let had_spare = self.spare.take().is_some();
        let mut listeners = self.listeners.iter_mut();
        let ready = listeners.find(|watched| watched.is_ready && had_spare);
        let pauses = match ready.map(|watched| (watched.listener.accept(), watched)) {
            Some((Ok((mut socket, peer, local)), _)) => {
                let place = None;
                turn_away(&mut socket, &Arrival { peer, local, place });
                false
            }
            // The kernel does not say whether a client waits before there is a descriptor for it.
            Some((Err(error), watched)) if error.kind() == io::ErrorKind::WouldBlock => {
                watched.is_ready = false;
                false
            }
            Some((Err(_), _)) | None => {
                context.counters.refused(now, Refusal::NoDescriptors);
                true
            }
        };
        self.spare = spare_descriptor(&self.listeners);
        self.paused = pauses;
        pauses.then(|| now + PAUSE)
    }
}

/// Answers on a nonblocking socket that is closed next, without waiting for it: it may be one of many. What it has sent by
/// now is read first: it may be all that is asked, and to close with unread input is to send a reset, which may overtake
/// the answer (RFC 9112 §9.6).
pub fn turn_away(socket: &mut (impl Read + Write), answer: impl FnOnce(&[u8]) -> Vec<u8>) {
    let mut input = [0; MAX_HEAD_BYTES];
    let length = socket.read(&mut input).unwrap_or(0);
    let _ = socket.write(&answer(&input[..length]));
}

fn spare_descriptor<L: Listener>(listeners: &[Watched<L>]) -> Option<L::Spare> {
    listeners
        .first()
        .and_then(|watched| watched.listener.spare())
}

/// Neither this process nor the system has a descriptor left, or memory for a socket: trying again at once fails again.
#[cfg(unix)]
fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

/// WSAEMFILE and WSAENOBUFS.
#[cfg(not(unix))]
fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(10024 | 10055))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::config::Config;

    /// Waits until a client can be accepted.
    fn accept(acceptor: &mut Acceptor, poll: &mut mio::Poll) -> (TcpStream, Arrival) {
        let context = Context::for_tests(Config::defaults().limits());
        let mut events = mio::Events::with_capacity(1);
        loop {
            if let Some(Accepted::Client(socket, arrival)) =
                acceptor.next(Instant::now(), &context, |_, _| ())
            {
                return (socket, arrival);
            }
            poll.poll(&mut events, Some(Duration::from_secs(10)))
                .expect("readiness");
            assert!(!events.is_empty(), "nobody is waiting");
            acceptor.set_ready(Token(7));
        }
    }

    fn acceptor() -> (Acceptor, mio::Poll, SocketAddr) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let poll = mio::Poll::new().expect("a poll");
        let acceptor =
            Acceptor::watched(vec![listener], poll.registry(), Token(7)).expect("registered");
        (acceptor, poll, address)
    }

    fn speaker(address: SocketAddr) -> std::net::TcpStream {
        let mut client = std::net::TcpStream::connect(address).expect("a listener");
        client.write_all(b"GET").expect("a connection");
        client
    }

    #[test]
    fn clients_do_not_wait_for_acknowledgements() {
        let (mut acceptor, mut poll, address) = acceptor();
        let _client = speaker(address);
        let (socket, _) = accept(&mut acceptor, &mut poll);
        assert!(socket.nodelay().expect("a socket"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_speaks_is_accepted_before_who_was_silent_first() {
        let (mut acceptor, mut poll, address) = acceptor();
        let silent = std::net::TcpStream::connect(address).expect("a listener");
        let speaks = speaker(address);
        for client in [speaks, silent] {
            let (_, arrival) = accept(&mut acceptor, &mut poll);
            assert_eq!(arrival.peer, client.local_addr().expect("connected"));
        }
    }

    #[test]
    fn who_is_turned_away_gets_the_answer_and_no_reset() {
        let (mut acceptor, mut poll, address) = acceptor();
        let mut client = std::net::TcpStream::connect(address).expect("a listener");
        client
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a deadline");
        let request = format!("GET / HTTP/1.1\r\nCookie: {}\r\n\r\n", "x".repeat(6000));
        client.write_all(request.as_bytes()).expect("a connection");
        let (mut socket, _) = accept(&mut acceptor, &mut poll);
        turn_away(&mut socket, |input| {
            assert_eq!(input, request.as_bytes());
            b"no place".to_vec()
        });
        drop(socket);
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an orderly end");
        assert_eq!(answer, "no place");
    }

    #[test]
    fn what_lasts_pauses_and_what_was_one_clients_fault_does_not() {
        for lasting in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert!(
                lacks_descriptors(&io::Error::from_raw_os_error(lasting)),
                "{lasting}"
            );
        }
        for passing in [libc::ECONNABORTED, libc::EPROTO, libc::EPERM] {
            assert!(
                !lacks_descriptors(&io::Error::from_raw_os_error(passing)),
                "{passing}"
            );
        }
    }
}
