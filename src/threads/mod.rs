//! The thread server: one OS thread per client, which reads with blocking calls and sleeps in the kernel between them.
//!
//! Besides those there are two threads: this one accepts, and the [`ticker`] keeps the dashboard's time. The engine
//! stands behind one lock, which fixes the one order of the room; nothing is written to a socket while it is held.
//! How one client's message reaches the others is the subject of [`shared`].

mod client;
mod hall;
mod mailbox;
mod shared;
#[cfg(test)]
mod tests;
mod ticker;
mod visitor;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use tracing::{info, warn};

use crate::accept::{self, Accepted, Acceptor};
use crate::config::Config;
use crate::engine::{Founding, Now};
use crate::shutdown::{Shutdown, StopRequests};
use shared::Shared;

/// Stack of a client's thread. Untouched pages cost nothing, but the address space of 20,000 default stacks is 40 GiB.
pub const CLIENT_STACK: usize = 128 * 1024;
/// How often a stopping server looks whether everyone has left.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

const SHUTDOWN: Token = Token(usize::MAX);
/// Listener N has this token less N.
const LISTENERS: Token = Token(usize::MAX - 1);

/// Runs the server until it has been told to stop and everyone has left.
///
/// # Errors
/// Those of setting up, and of waiting for clients; nothing a client does is one.
pub fn run(
    listeners: Vec<TcpListener>,
    config: Arc<Config>,
    founding: Founding,
    shutdown: Shutdown,
) -> io::Result<()> {
    let shared = Arc::new(Shared::new(config, founding));
    ticker::start(&shared)?;
    Reception::new(listeners, shutdown, shared)?.run()
}

/// The thread that accepts.
struct Reception {
    poll: Poll,
    acceptor: Acceptor,
    stop: StopRequests,
    shared: Arc<Shared>,
    resume_at: Option<Instant>,
    stop_requests: usize,
    drain: Option<Drain>,
}

/// How long a stopping server waits.
#[derive(Clone, Copy)]
struct Drain {
    /// For its clients to answer the Close.
    closes_until: Instant,
    /// For everything.
    until: Instant,
}

impl Reception {
    fn new(
        listeners: Vec<TcpListener>,
        shutdown: Shutdown,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut stop = StopRequests::new(shutdown)?;
        stop.register(poll.registry(), SHUTDOWN)?;
        let acceptor = Acceptor::new(listeners, poll.registry(), LISTENERS)?;
        Ok(Self {
            poll,
            acceptor,
            stop,
            shared,
            resume_at: None,
            stop_requests: 0,
            drain: None,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(16);
        loop {
            self.wait(&mut events)?;
            for event in &events {
                match event.token() {
                    SHUTDOWN => self.take_stop_requests(),
                    listener => self.acceptor.set_ready(listener),
                }
            }
            self.accept();
            if let Some(drain) = self.drain
                && self.is_over(drain)
            {
                return Ok(());
            }
        }
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let now = Instant::now();
        if self.resume_at.is_some_and(|resume_at| resume_at <= now) {
            self.resume_at = None;
            self.acceptor.resume();
        }
        let resume = self.resume_at.map(|resume_at| resume_at - now);
        let timeout = if self.acceptor.is_ready() {
            Some(Duration::ZERO)
        } else if self.drain.is_some() {
            Some(DRAIN_LOOK)
        } else {
            resume
        };
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            result => result,
        }
    }

    fn accept(&mut self) {
        while let Some(accepted) = self.acceptor.next(&self.shared.stats) {
            match accepted {
                Accepted::Client(socket, peer) => self.admit(socket, peer),
                Accepted::NoDescriptors(until) => self.resume_at = Some(until),
            }
        }
    }

    /// Gives the client a thread of its own, or a 503 where there is none to give.
    fn admit(&self, socket: mio::net::TcpStream, peer: SocketAddr) {
        let (shared, config) = (&self.shared, &self.shared.config);
        let model = shared.model;
        if shared.stats.sockets() >= config.max_sockets() {
            return accept::refuse(socket, Now::take(), model, &shared.stats);
        }
        let socket = TcpStream::from(socket);
        if let Err(error) = socket.set_nonblocking(false) {
            return warn!("[SERVER] Cannot use the socket of {peer}: {error}");
        }
        let (number, client) = shared.enter(socket);
        let thread = thread::Builder::new()
            .name(format!("client-{number}"))
            .stack_size(CLIENT_STACK);
        let mailbox = Arc::clone(&client.mailbox);
        let spawned = thread.spawn({
            let shared = Arc::clone(shared);
            move || client::serve(&shared, client, peer)
        });
        if let Err(error) = spawned {
            warn!("[SERVER] No thread for {peer}: {error}");
            mailbox.refuse(model, &shared.stats);
            shared.exit(mailbox.client());
        }
    }

    fn take_stop_requests(&mut self) {
        let before = self.stop_requests;
        self.stop_requests += self.stop.take();
        if before == 0 && self.stop_requests > 0 {
            let (now, config) = (Instant::now(), &self.shared.config);
            self.drain = Some(Drain {
                closes_until: now + config.close_timeout,
                until: now + config.drain_timeout,
            });
            info!(
                "[SERVER] Shutting down: {} clients are told to leave",
                self.shared.client_count()
            );
            self.shared.drain();
        }
    }

    fn is_over(&self, drain: Drain) -> bool {
        let now = Instant::now();
        if now >= drain.closes_until {
            self.shared.hang_up_on_the_silent();
        }
        self.stop_requests > 1 || now >= drain.until || self.shared.is_quiet()
    }
}
