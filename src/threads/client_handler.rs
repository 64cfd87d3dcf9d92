//! One client's thread at work: its access to the engine, and what it then has to deliver.

use std::io;
use std::sync::Arc;

use super::client_writer::ClientWriter;
use super::shared::Shared;
use super::state::{Batch, State};
use crate::config::Delivery;
use crate::core::context::Context;
use crate::core::engine::output::Output;
use crate::core::engine::{ClientId, Engine};
use crate::core::inside::Inside;
use crate::core::inside::follow::Place;
use crate::core::websocket::engine_access::EngineAccess;

/// Room for replies that each client's thread keeps; what a long answer took beyond it is given back.
pub(super) const KEPT_REPLY: usize = 512;

/// A client's thread's access to the engine.
#[derive(Debug)]
pub(super) struct ClientHandler {
    shared: Arc<Shared>,
    pub(super) writer: Arc<ClientWriter>,
    pub(super) output: Output,
    /// This thread must send what the room's log has.
    elected: bool,
    /// The log lags so far that this client must wait before it says more.
    over_limit: bool,
    /// The client has left the engine: what stands in the output is the last that is for it.
    left: bool,
}

impl EngineAccess for ClientHandler {
    const READS_IN: Place = Place {
        file: "src/threads/client.rs",
        function: "converse",
    };

    fn with<R>(&mut self, change: impl FnOnce(&mut Engine, &mut Output) -> R) -> R {
        match self.shared.delivery {
            Delivery::Elected => self.change(change, |_| ()).0,
            simpler => self.change_and_deliver(change, simpler),
        }
    }

    fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    fn context(&self) -> &Context {
        &self.shared.context
    }
}

impl ClientHandler {
    pub(super) fn new(shared: Arc<Shared>, writer: Arc<ClientWriter>) -> Self {
        Self {
            output: Output::new(Arc::clone(&shared.context)),
            shared,
            writer,
            elected: false,
            over_limit: false,
            left: false,
        }
    }

    /// The client's id.
    pub(super) fn client(&self) -> ClientId {
        self.writer.client()
    }

    /// Sends what the conversation has come up with, first to the others, then to its own client.
    ///
    /// # Errors
    /// The client is gone, or did not read in time.
    pub(super) fn deliver(&mut self) -> io::Result<()> {
        self.send_for_room();
        if std::mem::take(&mut self.left) {
            // A batch that was taken before the client left may still have frames for it, and a Close must be the last.
            drop(self.shared.round.read());
            self.writer.finish(self.output.reply.take_chunks());
        } else {
            self.writer.enqueue(self.output.reply.take_chunks());
        }
        self.output.clear(KEPT_REPLY);
        self.writer.send_all()?;
        if std::mem::take(&mut self.over_limit) {
            self.shared.wait_until_caught_up();
        }
        Ok(())
    }

    /// Sends what the room's log has, if this thread was elected to.
    pub(super) fn send_for_room(&mut self) {
        if std::mem::take(&mut self.elected) {
            self.shared.send_for_room();
        }
    }

    /// Forgets what the conversation has come up with for its own client: it is gone, or was told already.
    pub(super) fn discard_replies(&mut self) {
        self.output.clear(KEPT_REPLY);
        self.left = false;
    }

    /// Changes the engine under its lock, and does `more` before letting it go.
    fn change<R, M>(
        &mut self,
        change: impl FnOnce(&mut Engine, &mut Output) -> R,
        more: impl FnOnce(&mut State) -> M,
    ) -> (R, M) {
        let mut state = self.shared.state();
        let client = self.writer.client();
        let was_in = state.engine.has(client);
        let output = &mut self.output;
        let result = state.change(|engine| change(engine, output));
        let is_in = state.engine.has(client);
        if is_in && !self.output.reply.is_empty() {
            // A welcome must stand in the outbox before another thread can put a batch, a tick or a Close there, and the
            // confirmation of a subscription before the first tick that follows it.
            self.writer.enqueue(self.output.reply.take_chunks());
        }
        if was_in && !is_in {
            self.left = true;
            self.writer.leave();
        }
        let more = more(&mut state);
        self.elected |= state.elect();
        self.over_limit = self.shared.is_over_limit(&state);
        if state.engine.deadline() < state.ticker_wakes {
            self.shared.wake_ticker();
        }
        if state
            .engine
            .publisher()
            .is_some_and(|publisher| publisher.has_work())
        {
            self.shared.said.notify_one();
        }
        (result, more)
    }

    /// The simpler ways of delivery: each thread sends what it says itself.
    fn change_and_deliver<R>(
        &mut self,
        change: impl FnOnce(&mut Engine, &mut Output) -> R,
        way: Delivery,
    ) -> R {
        let shared = Arc::clone(&self.shared);
        let round = shared.round.read();
        let (result, batch) = self.change(change, |state| {
            let batch = state.next_batch(usize::MAX);
            if way == Delivery::Outboxes {
                for (writer, lacking) in &batch.members {
                    for slice in &batch.slices[lacking.clone()] {
                        writer.enqueue_from_other(slice);
                    }
                }
            }
            batch
        });
        let pending = deliver_plainly(&batch, way, &shared.context.inside);
        drop(round);
        shared.retry_later(pending);
        result
    }
}

/// Sends a batch in one of the simpler ways; tells which writers could not send everything.
fn deliver_plainly(batch: &Batch, way: Delivery, inside: &Inside) -> Vec<Arc<ClientWriter>> {
    batch.deliver(inside, |writer, lacking| {
        if way == Delivery::Direct {
            writer.write_through(&batch.slices[lacking]);
        }
        writer.send_waiting()
    })
}
