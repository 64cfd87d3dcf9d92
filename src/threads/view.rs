//! The view of the threads that their readers are sent.

use super::client_writer::Delivered;
use super::shared::Shared;
use super::state::State;
use crate::core::inside::view::{OUTBOX_CLASSES, OUTBOXES_PER_VIEW, PARTS, View, outbox_class};
use crate::core::time::Now;
use crate::host::proc;

/// Sends the view that is due.
pub(super) fn send(shared: &Shared, now: Now) {
    let inside = &shared.context.inside;
    let state = shared.state();
    if !state.engine.view_is_due(now) {
        return;
    }
    let (room, outboxes) = (state.engine.log().ring(PARTS), outboxes(shared, &state));
    drop(state);
    let made_at = inside.now();
    let view = View {
        now: inside.ticks(made_at),
        sockets: shared.context.counters.sockets(),
        room,
        outboxes,
        turns: None,
        wheel: None,
        slow: Vec::new(),
        threads: Some(inside.threads.take_view()),
        switches: proc::context_switches(),
        followed: inside.follow.take(made_at),
        stepping: false,
    };
    let readers = shared.state().send_view(now, view).into_iter();
    let pending = readers.filter(|reader| reader.send_waiting() == Delivered::Pending);
    shared.retry_later(pending.collect());
}

/// Outboxes by class. Mostly all are empty, which need not be asked of each.
fn outboxes(shared: &Shared, state: &State) -> [u32; OUTBOX_CLASSES] {
    let mut classes = [0; OUTBOX_CLASSES];
    if shared.context.counters.unsent() == 0 {
        classes[0] = u32::try_from(state.writers.len()).unwrap_or(u32::MAX);
        return classes;
    }
    let step = state.writers.len().div_ceil(OUTBOXES_PER_VIEW).max(1);
    for (_, writer) in state.writers.iter().step_by(step) {
        if let Some(unsent) = writer.unsent() {
            classes[outbox_class(unsent)] += 1;
        }
    }
    classes
}
