//! Accepting, which survives running out of descriptors.
//!
//! Edge-triggered readiness of a listener is lost if its backlog is not emptied, so readiness is remembered here. When
//! no descriptor is left, a client in the backlog can neither be served nor refused, and a loop that tries again at
//! once spins. So one descriptor is kept spare: it is given up, the client is told 503, the descriptor is taken back,
//! and accepting pauses (the trick is libev's, <http://pod.tst.eu/http://cvs.schmorp.de/libev/ev.pod>,
//! "The special problem of accept()ing when you can't").

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, SockRef, Socket, Type};
use tracing::warn;

use crate::core::context::Context;
use crate::core::counters::Counters;
use crate::core::http::{self, MAX_HEAD_BYTES, Refusal};
use crate::core::time::Now;
use crate::net::defer_accept::defer_accept;

/// What the kernel may hold for a client besides what is on its way to it: enough for some turns, and little enough that
/// one who does not read ties up no more (tcp(7), `TCP_NOTSENT_LOWAT`; clients inherit it from the listener).
#[cfg(target_os = "linux")]
const KERNEL_UNSENT: u32 = 128 * 1024;
/// Clients accepted in one turn; the rest wait for the next.
const ACCEPTS_PER_TURN: usize = 256;
/// Whether a client's socket has it from the listener, which saves a call for each. No standard promises it.
const NODELAY_IS_INHERITED: bool = cfg!(target_os = "linux");
/// How long accepting pauses when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(250);

/// The listeners.
#[derive(Debug)]
pub struct Acceptor {
    listeners: Vec<(TcpListener, bool)>,
    first_token: Token,
    spare: Option<Socket>,
    paused: bool,
    left_this_turn: usize,
}

/// What came of trying to accept.
#[derive(Debug)]
pub enum Accepted {
    /// Somebody connected.
    Client(TcpStream, SocketAddr),
    /// No descriptor is left. Call [`Acceptor::resume`] at this time.
    NoDescriptors(Instant),
}

impl Acceptor {
    /// Registers the listeners under `first_token` and the tokens below it.
    ///
    /// # Errors
    /// Those of registering.
    pub fn new(
        listeners: Vec<std::net::TcpListener>,
        registry: &Registry,
        first_token: Token,
    ) -> io::Result<Self> {
        let mut registered = Vec::new();
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
            let mut listener = TcpListener::from_std(listener);
            registry.register(
                &mut listener,
                Token(first_token.0 - index),
                Interest::READABLE,
            )?;
            registered.push((listener, false));
        }
        let spare = spare_descriptor();
        Ok(Self {
            listeners: registered,
            first_token,
            spare,
            paused: false,
            left_this_turn: ACCEPTS_PER_TURN,
        })
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
        if let Some((_, ready)) = self.listeners.get_mut(self.first_token.0 - token.0) {
            *ready = true;
        }
    }

    /// Whether somebody may be waiting who can be accepted now.
    pub fn is_ready(&self) -> bool {
        !self.paused && self.listeners.iter().any(|(_, ready)| *ready)
    }

    /// The pause is over.
    pub fn resume(&mut self) {
        self.paused = false;
    }

    /// The next client, until none is waiting or this turn's share is used up; then `None` once.
    pub fn next(&mut self, stats: &Counters) -> Option<Accepted> {
        while self.is_ready() && self.left_this_turn > 0 {
            self.left_this_turn -= 1;
            let (listener, ready) = self.listeners.iter_mut().find(|(_, ready)| *ready)?;
            match listener.accept() {
                Ok((socket, peer)) => {
                    if !NODELAY_IS_INHERITED {
                        let _ = socket.set_nodelay(true);
                    }
                    return Some(Accepted::Client(socket, peer));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => *ready = false,
                Err(error) if lacks_descriptors(&error) => {
                    stats.refused("no_descriptors");
                    return Some(self.turn_one_away(&error));
                }
                // That client is gone already (accept(2): "treat them like EAGAIN by retrying").
                Err(_) => {}
            }
        }
        self.left_this_turn = ACCEPTS_PER_TURN;
        None
    }

    fn turn_one_away(&mut self, error: &io::Error) -> Accepted {
        if !self.paused {
            warn!("[SERVER] No descriptor left for another client: {error}");
        }
        if self.spare.take().is_some()
            && let Some((listener, _)) = self.listeners.iter().find(|(_, ready)| *ready)
            && let Ok((mut socket, _)) = listener.accept()
        {
            turn_away(
                &mut socket,
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            );
        }
        self.spare = spare_descriptor();
        self.paused = true;
        Accepted::NoDescriptors(Instant::now() + PAUSE)
    }
}

/// Tells a client that all sockets are in use. It is not waited for: it may be one of many.
pub fn refuse(mut socket: TcpStream, now: Now, context: &Context) {
    context.counters.refused(Refusal::Full.reason());
    let mut answer = Vec::new();
    http::refuse(Refusal::Full, context.model, now.wall_clock(), &mut answer);
    turn_away(&mut socket, &answer);
}

/// Answers on a nonblocking socket that is closed next, without waiting for it. What it has sent by now is read first: to
/// close with unread input is to send a reset, which may overtake the answer (RFC 9112 §9.6).
pub fn turn_away(socket: &mut (impl Read + Write), answer: &[u8]) {
    let _ = socket.read(&mut [0; MAX_HEAD_BYTES]);
    let _ = socket.write(answer);
}

/// A descriptor that can be given up; any will do.
fn spare_descriptor() -> Option<Socket> {
    Socket::new(Domain::IPV4, Type::DGRAM, None).ok()
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

    /// Waits until somebody can be accepted.
    fn accept(acceptor: &mut Acceptor, poll: &mut mio::Poll) -> (TcpStream, SocketAddr) {
        let mut events = mio::Events::with_capacity(1);
        loop {
            if let Some(Accepted::Client(socket, peer)) = acceptor.next(&Counters::new()) {
                return (socket, peer);
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
            Acceptor::new(vec![listener], poll.registry(), Token(7)).expect("registered");
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
            let (_, peer) = accept(&mut acceptor, &mut poll);
            assert_eq!(peer, client.local_addr().expect("connected"));
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
        let (socket, _) = accept(&mut acceptor, &mut poll);
        let limits = crate::config::Config::defaults().limits();
        refuse(
            socket,
            crate::host::clock::now(),
            &Context::for_tests(limits),
        );
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an orderly end");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
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
