//! The one thread besides the clients' and the accepting one: it keeps the dashboard's time, sums up large rooms, sends
//! on where a socket that took nothing is writable again, and takes over from a thread that has sent for the room long
//! enough.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token, Waker};

use super::client_writer::{ClientWriter, Delivered};
use super::shared::Shared;
use super::stalled::Stalled;
use super::state::Sending;
use super::view;
use crate::host::clock;
use crate::host::dashboard_sources::Sources;

/// Stalled sockets that are reported in one poll.
const EVENTS_PER_POLL: usize = 256;
const WAKE: Token = Token(usize::MAX);

/// Starts the ticker.
///
/// # Errors
/// There is no thread for it, or nothing to wait with.
pub(super) fn start(shared: &Arc<Shared>, simulate_cpu: bool) -> io::Result<()> {
    let poll = Poll::new()?;
    shared.set_waker(Waker::new(poll.registry(), WAKE)?);
    let shared = Arc::clone(shared);
    thread::Builder::new()
        .name("ticker".to_owned())
        .spawn(move || run(&shared, poll, simulate_cpu))
        .map(drop)
}

fn run(shared: &Shared, mut poll: Poll, simulate_cpu: bool) {
    let mut sources = Sources::new(Instant::now(), simulate_cpu, &mut rand::rng());
    let mut events = Events::with_capacity(EVENTS_PER_POLL);
    let mut stalled = Stalled::default();
    loop {
        let work = take_work(shared);
        if work.tick {
            tick(shared, &mut sources);
        }
        if work.send {
            shared.send_for_room();
        }
        for writer in work.pending {
            stalled.add(poll.registry(), writer);
        }
        let timeout = stalled.longest_wait(time_to_work(shared));
        if let Err(error) = poll.poll(&mut events, Some(timeout))
            && error.kind() != io::ErrorKind::Interrupted
        {
            // Without it nothing would be sent any more, and every client would be cut off for being slow.
            panic!("the ticker cannot wait: {error}");
        }
        let writable = events.iter().map(Event::token);
        stalled.retry(poll.registry(), writable.filter(|token| *token != WAKE));
        events.clear();
    }
}

/// What there is for the ticker to do.
struct Work {
    /// The engine's deadline has come.
    tick: bool,
    /// The room's log has something, and no other thread sends it.
    send: bool,
    /// Writers whose sockets have taken nothing.
    pending: Vec<Arc<ClientWriter>>,
}

fn take_work(shared: &Shared) -> Work {
    let mut state = shared.state();
    Work {
        tick: state.engine.deadline() <= Instant::now(),
        send: state.take_over() || state.elect(),
        pending: std::mem::take(&mut state.pending_retry),
    }
}

/// How long there is nothing to do, unless the ticker is woken.
fn time_to_work(shared: &Shared) -> Duration {
    let mut state = shared.state();
    state.ticker_wakes = state.engine.deadline();
    let handed_over = state.sending == Sending::HandedOver;
    let unsent = state.sending == Sending::Idle && state.engine.log().is_lagging();
    if handed_over || unsent || !state.pending_retry.is_empty() {
        Duration::ZERO
    } else {
        state.ticker_wakes.saturating_duration_since(Instant::now())
    }
}

fn tick(shared: &Shared, sources: &mut Sources) {
    let now = clock::now();
    let (due, clients, simulated) = {
        let mut state = shared.state();
        state.change(|engine| engine.summarise(now));
        let simulated = state.engine.simulated_elsewhere(now);
        let engine = &state.engine;
        (engine.tick_is_due(now), engine.client_count(), simulated)
    };
    view::send(shared, now);
    if due {
        if let Some(simulated) = simulated {
            sources.go_on_from(simulated);
        }
        let values = sources.sample(now.instant, clients, &shared.context.counters);
        let watchers = shared.state().tick(now, &values);
        let pending = watchers
            .into_iter()
            .filter(|watcher| watcher.send_waiting() == Delivered::Pending);
        shared.retry_later(pending.collect());
    }
}
