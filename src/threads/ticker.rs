//! The one thread besides the clients' and the accepting one: it keeps the dashboard's time, sums up large rooms, tries
//! again where a socket took nothing, and takes over from a thread that has sent for the room long enough.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::client_writer::{ClientWriter, Delivered};
use super::shared::Shared;
use super::state::Sending;
use crate::host::clock;
use crate::host::dashboard_sources::Sources;

/// How soon a socket that took nothing is tried again.
const RETRY: Duration = Duration::from_millis(5);

/// Starts the ticker.
///
/// # Errors
/// There is no thread for it.
pub(super) fn start(shared: &Arc<Shared>, simulate_cpu: bool) -> io::Result<()> {
    let shared = Arc::clone(shared);
    thread::Builder::new()
        .name("ticker".to_owned())
        .spawn(move || run(&shared, simulate_cpu))
        .map(drop)
}

fn run(shared: &Shared, simulate_cpu: bool) {
    let mut sources = Sources::new(Instant::now(), simulate_cpu, &mut rand::rng());
    let mut retry_at = Instant::now();
    loop {
        let work = wait_for_work(shared, retry_at);
        if work.tick {
            tick(shared, &mut sources);
        }
        let elected = shared.state().elect();
        if work.take_over || elected {
            shared.send_for_room();
        }
        if !work.pending.is_empty() {
            let pending = work
                .pending
                .into_iter()
                .filter(|writer| writer.retry() == Delivered::Pending);
            shared.retry_later(pending.collect());
            retry_at = Instant::now() + RETRY;
        }
    }
}

/// What the ticker woke up for.
struct Work {
    /// The engine's deadline has come.
    tick: bool,
    /// A thread has sent for the room long enough.
    take_over: bool,
    /// Writers whose sockets are to be tried again.
    pending: Vec<Arc<ClientWriter>>,
}

fn wait_for_work(shared: &Shared, retry_at: Instant) -> Work {
    let mut state = shared.state();
    loop {
        let deadline = state.engine.deadline();
        let wake = if state.pending_retry.is_empty() {
            deadline
        } else {
            deadline.min(retry_at)
        };
        let now = Instant::now();
        if wake <= now || state.sending == Sending::HandedOver {
            let pending = if retry_at <= now {
                std::mem::take(&mut state.pending_retry)
            } else {
                Vec::new()
            };
            return Work {
                tick: deadline <= now,
                take_over: state.take_over(),
                pending,
            };
        }
        state.ticker_wakes = deadline;
        shared.ticker.wait_until(&mut state, wake);
    }
}

fn tick(shared: &Shared, sources: &mut Sources) {
    let now = clock::now();
    let (due, clients) = {
        let mut state = shared.state();
        state.change(|engine| engine.summarise(now));
        (state.engine.tick_is_due(now), state.engine.client_count())
    };
    if due {
        let values = sources.sample(now.instant, clients, &shared.context.counters);
        let watchers = shared.state().tick(now, &values);
        let pending = watchers
            .into_iter()
            .filter(|watcher| watcher.send_waiting() == Delivered::Pending);
        shared.retry_later(pending.collect());
    }
}
