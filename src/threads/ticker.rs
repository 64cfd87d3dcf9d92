//! The one thread besides the clients' and the accepting one: it keeps the dashboard's time, sums up large rooms, sends
//! on where a socket that took nothing is writable again, and relieves a thread that has sent for the room long enough.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token, Waker};

use super::mailbox::{Delivered, Mailbox};
use super::shared::Shared;
use super::stalled::Stalled;
use crate::engine::{Effects, Now};
use crate::metrics::Sources;

/// Stalled sockets that are told of in one poll.
const EVENTS_PER_POLL: usize = 256;
const WAKE: Token = Token(usize::MAX);

/// Starts the ticker.
///
/// # Errors
/// There is no thread for it, or nothing to wait with.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<()> {
    let poll = Poll::new()?;
    shared.set_waker(Waker::new(poll.registry(), WAKE)?);
    let shared = Arc::clone(shared);
    thread::Builder::new()
        .name("ticker".to_owned())
        .spawn(move || run(&shared, poll))
        .map(drop)
}

fn run(shared: &Shared, mut poll: Poll) {
    let mut sources = Sources::new(Instant::now(), shared.config.simulate_cpu, &mut rand::rng());
    let mut effects = Effects::new(Arc::clone(&shared.stats));
    let mut events = Events::with_capacity(EVENTS_PER_POLL);
    let mut stalled = Stalled::default();
    loop {
        let work = take_work(shared);
        if work.tick {
            tick(shared, &mut sources, &mut effects);
        }
        let elected = shared.hall().elect();
        if work.relieve || elected {
            shared.send_for_all();
        }
        for mailbox in work.behind {
            stalled.add(poll.registry(), mailbox);
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
    /// A thread has sent for the room long enough.
    relieve: bool,
    /// Whose sockets have taken nothing.
    behind: Vec<Arc<Mailbox>>,
}

fn take_work(shared: &Shared) -> Work {
    let mut hall = shared.hall();
    Work {
        tick: hall.engine.deadline() <= Instant::now(),
        relieve: std::mem::take(&mut hall.relief),
        behind: std::mem::take(&mut hall.behind),
    }
}

/// How long there is nothing to do, unless somebody wakes the ticker.
fn time_to_work(shared: &Shared) -> Duration {
    let mut hall = shared.hall();
    hall.ticker_wakes = hall.engine.deadline();
    if hall.relief || !hall.behind.is_empty() {
        Duration::ZERO
    } else {
        hall.ticker_wakes.saturating_duration_since(Instant::now())
    }
}

fn tick(shared: &Shared, sources: &mut Sources, effects: &mut Effects) {
    let now = Now::take();
    let (due, clients) = {
        let mut hall = shared.hall();
        hall.change(effects, |engine, effects| engine.summarise(now, effects));
        (hall.engine.tick_is_due(now), hall.engine.client_count())
    };
    if due {
        let values = sources.sample(now.instant, clients, &shared.stats);
        let watchers = shared.hall().tick(now, &values);
        let behind = watchers
            .into_iter()
            .filter(|watcher| watcher.send_waiting() == Delivered::Behind);
        shared.retry_later(behind.collect());
    }
}
