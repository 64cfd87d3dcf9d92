//! The one thread besides the clients' and the accepting one: it keeps the dashboard's time, sums up large rooms, tries
//! again where a socket took nothing, and relieves a thread that has sent for the room long enough.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::client_writer::{Delivered, Mailbox};
use super::shared::Shared;
use crate::core::engine::Effects;
use crate::host::clock;
use crate::host::dashboard_sources::Sources;

/// How soon a socket that took nothing is tried again.
const RETRY: Duration = Duration::from_millis(5);

/// Starts the ticker.
///
/// # Errors
/// There is no thread for it.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<()> {
    let shared = Arc::clone(shared);
    thread::Builder::new()
        .name("ticker".to_owned())
        .spawn(move || run(&shared))
        .map(drop)
}

fn run(shared: &Shared) {
    let mut sources = Sources::new(Instant::now(), shared.config.simulate_cpu, &mut rand::rng());
    let mut effects = Effects::new(Arc::clone(&shared.stats));
    let mut retry_at = Instant::now();
    loop {
        let work = wait_for_work(shared, retry_at);
        if work.tick {
            tick(shared, &mut sources, &mut effects);
        }
        let elected = shared.hall().elect();
        if work.relieve || elected {
            shared.send_for_all();
        }
        if !work.behind.is_empty() {
            let behind = work
                .behind
                .into_iter()
                .filter(|mailbox| mailbox.retry() == Delivered::Behind);
            shared.retry_later(behind.collect());
            retry_at = Instant::now() + RETRY;
        }
    }
}

/// What the ticker woke up for.
struct Work {
    /// The engine's deadline has come.
    tick: bool,
    /// A thread has sent for the room long enough.
    relieve: bool,
    /// Whose sockets are to be tried again.
    behind: Vec<Arc<Mailbox>>,
}

fn wait_for_work(shared: &Shared, retry_at: Instant) -> Work {
    let mut hall = shared.hall();
    loop {
        let deadline = hall.engine.deadline();
        let wake = if hall.behind.is_empty() {
            deadline
        } else {
            deadline.min(retry_at)
        };
        let now = Instant::now();
        if wake <= now || hall.relief {
            let behind = if retry_at <= now {
                std::mem::take(&mut hall.behind)
            } else {
                Vec::new()
            };
            return Work {
                tick: deadline <= now,
                relieve: std::mem::take(&mut hall.relief),
                behind,
            };
        }
        hall.ticker_wakes = deadline;
        shared.ticker.wait_until(&mut hall, wake);
    }
}

fn tick(shared: &Shared, sources: &mut Sources, effects: &mut Effects) {
    let now = clock::now();
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
