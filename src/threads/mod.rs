//! The thread server: one OS thread per client, which reads with blocking calls and sleeps in the kernel between them.
//!
//! Besides those there are two threads: this one accepts, and the [`ticker`] keeps the dashboard's time. The engine
//! stands behind one lock, which fixes the one order of the room; nothing is written to a socket while it is held.
//! How one client's message reaches the others is the subject of [`shared`].
//!
//! # Locks, in the order in which they are taken
//!
//! | lock | what it protects | held while |
//! |---|---|---|
//! | `Shared::round` | that one batch at a time is sent | a batch of [`MEMBERS_PER_BATCH`](crate::core::engine::broadcast_log::MEMBERS_PER_BATCH) members is sent |
//! | `Shared::state` | the engine, the table of writers, who sends for the room | the engine changes, or a batch is taken |
//! | `ClientWriter::state` | one client's outbox | frames are queued, or sent as far as the kernel takes them |

mod client;
mod client_handler;
mod client_writer;
mod inside;
mod redis;
mod shared;
mod stalled;
mod state;
mod state_guard;
#[cfg(test)]
mod tests;
mod ticker;
mod view;

use std::collections::VecDeque;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use tracing::{debug, info, warn};

use crate::config::Config;
use crate::core::arrival::Arrival;
use crate::core::context::Context;
use crate::core::http::Refusal;
use crate::core::spread::{self, Spread};
use crate::host::{self, systemd};
use crate::net::accept::{Accepted, Acceptor};
use crate::net::shutdown::{Shutdown, StopRequests};
use client_handler::ClientHandler;
use client_writer::ClientWriter;
use shared::Shared;

/// Stack of a client's thread. Untouched pages cost nothing, but the address space of 20,000 default stacks is 40 GiB.
pub const CLIENT_STACK: usize = 128 * 1024;
/// How often a stopping server looks whether every client has left.
const DRAIN_POLL: Duration = Duration::from_millis(10);

const SHUTDOWN: Token = Token(usize::MAX);
/// Listener N has this token less N.
const LISTENERS: Token = Token(usize::MAX - 1);

/// Runs the server until it has been told to stop and every client has left.
///
/// # Errors
/// Those of setting up, and of waiting for clients; nothing a client does is one.
pub fn run(
    listeners: Vec<TcpListener>,
    config: &Config,
    context: Arc<Context>,
    shutdown: Shutdown,
) -> io::Result<()> {
    let target = host::redis::target(config, &context);
    let shared = Arc::new(Shared::new(context, config.delivery));
    if let Some(target) = target {
        redis::start(&shared, target)?;
    }
    ticker::start(&shared, config.simulate_cpu)?;
    AcceptLoop::new(listeners, config, shutdown, shared)?.run()
}

/// The thread that accepts.
struct AcceptLoop {
    poll: Poll,
    acceptor: Acceptor,
    stop_requests: StopRequests,
    shared: Arc<Shared>,
    resume_at: Option<Instant>,
    phase: Phase,
    drain_spread: Duration,
    drain_timeout: Duration,
}

/// How far the server's life has come.
enum Phase {
    Serving,
    /// Clients are sent a Close, a few at a time.
    Leaving {
        spread: Spread<Arc<ClientWriter>>,
        /// Those who have been, with the time until which they may answer it.
        closed: VecDeque<(Instant, Arc<ClientWriter>)>,
    },
    /// Clients have been sent a Close.
    Draining {
        /// How long they may take to answer it.
        closes_until: Instant,
        /// How long the server waits at all.
        until: Instant,
    },
    Stopping,
}

impl AcceptLoop {
    fn new(
        listeners: Vec<TcpListener>,
        config: &Config,
        shutdown: Shutdown,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut stop_requests = StopRequests::new(shutdown)?;
        stop_requests.register(poll.registry(), SHUTDOWN)?;
        let acceptor = Acceptor::watched(listeners, poll.registry(), LISTENERS)?;
        Ok(Self {
            poll,
            acceptor,
            stop_requests,
            shared,
            resume_at: None,
            phase: Phase::Serving,
            drain_spread: config.drain_spread,
            drain_timeout: config.drain_timeout,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(16);
        while !self.is_over() {
            self.wait(&mut events)?;
            for event in &events {
                match event.token() {
                    SHUTDOWN => self.take_stop_requests(),
                    listener => self.acceptor.set_ready(listener),
                }
            }
            self.accept();
            self.tell_to_leave();
        }
        Ok(())
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
        } else if let Phase::Leaving { .. } = self.phase {
            Some(spread::STEP)
        } else if let Phase::Draining { .. } = self.phase {
            Some(DRAIN_POLL)
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
        let shared = Arc::clone(&self.shared);
        let context = &shared.context;
        let turn_away = |socket: &mut _, arrival: &_| {
            shared.answer_without_place(socket, arrival, Refusal::NoDescriptors);
        };
        while let Some(accepted) = self.acceptor.next(Instant::now(), context, turn_away) {
            match accepted {
                Accepted::Client(socket, arrival)
                    if context.counters.sockets() < context.limits.max_sockets =>
                {
                    self.admit(socket, arrival);
                }
                Accepted::Client(mut socket, arrival) => {
                    shared.answer_without_place(&mut socket, &arrival, Refusal::Full);
                }
                Accepted::OneTooMany(mut socket, arrival, refusal) => {
                    shared.answer_without_place(&mut socket, &arrival, refusal);
                }
                Accepted::NoDescriptors(until) => self.resume_at = Some(until),
            }
        }
    }

    /// Gives the client a thread of its own, or a 503 where there is none to give.
    fn admit(&self, socket: mio::net::TcpStream, arrival: Arrival) {
        let shared = &self.shared;
        let (peer, local) = (arrival.peer, arrival.local);
        let socket = TcpStream::from(socket);
        if let Err(error) = socket.set_nonblocking(false) {
            return warn!("[SERVER] Cannot use the socket of {peer}: {error}");
        }
        let (number, writer) = shared.enter(socket);
        let handler = ClientHandler::new(Arc::clone(shared), Arc::clone(&writer));
        let thread = thread::Builder::new()
            .name(format!("client-{number}"))
            .stack_size(CLIENT_STACK);
        let spawned = thread.spawn({
            let shared = Arc::clone(shared);
            move || client::serve(&shared, handler, arrival)
        });
        if let Err(error) = spawned {
            debug!("[SERVER] No thread for {peer}: {error}");
            let place = None;
            let arrival = Arrival { peer, local, place };
            writer.turn_away(|mut socket| {
                shared.answer_without_place(&mut socket, &arrival, Refusal::NoThread);
            });
            shared.exit(writer.client());
        }
    }

    /// The first request to stop drains, a second one stops at once.
    fn take_stop_requests(&mut self) {
        for _ in 0..self.stop_requests.take() {
            match self.phase {
                Phase::Serving if self.drain_spread.is_zero() => self.drain(),
                Phase::Serving => self.leave(),
                Phase::Leaving { .. } | Phase::Draining { .. } | Phase::Stopping => {
                    self.phase = Phase::Stopping;
                }
            }
        }
    }

    /// No client is let in any more, and those who are in are told to leave, a few at a time.
    fn leave(&mut self) {
        info!(
            "[SERVER] Restarting: {} clients are told to leave over {:?}",
            self.shared.client_count(),
            self.drain_spread
        );
        systemd::tell_stopping();
        let clients = self.shared.close_the_door();
        self.phase = Phase::Leaving {
            spread: Spread::new(Instant::now(), self.drain_spread, clients),
            closed: VecDeque::new(),
        };
    }

    /// Tells the next clients to leave; after the last of them comes the end.
    fn tell_to_leave(&mut self) {
        let Phase::Leaving { spread, closed } = &mut self.phase else {
            return;
        };
        let now = Instant::now();
        let retry_after = spread.retry_after(now);
        let due = spread.take_due(now);
        if !due.is_empty() {
            self.shared.restart(&due, retry_after);
        }
        let until = now + self.shared.context.limits.close_timeout;
        closed.extend(due.into_iter().map(|writer| (until, writer)));
        while let Some((_, silent)) = closed.pop_front_if(|(until, _)| *until <= now) {
            silent.force_close();
        }
        if spread.is_over() || self.shared.client_count() == 0 {
            self.drain();
        }
    }

    fn drain(&mut self) {
        let now = Instant::now();
        self.phase = Phase::Draining {
            closes_until: now + self.shared.context.limits.close_timeout,
            until: now + self.drain_timeout,
        };
        info!(
            "[SERVER] Shutting down: {} clients are told to leave",
            self.shared.client_count()
        );
        systemd::tell_stopping();
        self.shared.drain();
    }

    fn is_over(&self) -> bool {
        match self.phase {
            Phase::Serving | Phase::Leaving { .. } => false,
            Phase::Stopping => true,
            Phase::Draining {
                closes_until,
                until,
            } => {
                let now = Instant::now();
                if now >= closes_until {
                    self.shared.force_close_the_silent();
                }
                now >= until || self.shared.is_quiet()
            }
        }
    }
}
