//! The loop seen from inside: the record of each turn, the views of its readers, and the loop that is stepped.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::Token;

use super::connection::Connection;
use super::slots::Slots;
use super::world::{Socket, World};
use super::{EventLoop, Phase};
use crate::core::context::Context;
use crate::core::engine::{ClientId, Pace};
use crate::core::inside::turns::{SlowTurn, Stage};
use crate::core::inside::view::{OUTBOX_CLASSES, OUTBOXES_PER_VIEW, PARTS, View, outbox_class};
use crate::core::time::Now;
use crate::host::proc;

/// Sends the same slices to several clients, and remembers which of them are dead now.
pub(super) struct Slices<'a, S> {
    connections: &'a mut Slots<Connection<S>>,
    context: &'a Context,
    now: Now,
    dead: Vec<Token>,
}

impl<'a, S: Socket> Slices<'a, S> {
    pub(super) fn new(
        connections: &'a mut Slots<Connection<S>>,
        context: &'a Context,
        now: Now,
    ) -> Self {
        Self {
            connections,
            context,
            now,
            dead: Vec::new(),
        }
    }

    pub(super) fn send(&mut self, client: ClientId, slice: &Bytes) {
        let (max_unsent, counters) = (self.context.limits.max_unsent, &self.context.counters);
        let connection = self.connections.at_mut(client.0);
        let connection = connection.expect("a watcher is connected");
        let sent = connection.send_slice(self.now, slice, max_unsent, counters);
        counters.bytes_out.inc_by(sent as u64);
        if connection.is_dead() {
            self.dead.push(connection.token());
        }
    }

    pub(super) fn finish(self) -> Vec<Token> {
        self.dead
    }
}

impl<W: World> EventLoop<W> {
    /// The next turn; where a reader of the inside view steps the loop, that reader's next wish.
    pub(super) fn advance(&mut self) -> io::Result<Phase> {
        if self.engine.stepper().is_none() {
            return self.turn();
        }
        match self.engine.pace(self.world.instant()) {
            Pace::Free => self.turn(),
            Pace::Step => {
                let phase = self.turn()?;
                let now = self.world.now();
                self.send_view(now);
                Ok(phase)
            }
            Pace::Paused(stepper, until) => self.pause(stepper, until),
        }
    }

    /// Between two steps: takes note of what becomes ready, and serves nobody but the reader who steps and whoever stops
    /// the server.
    fn pause(&mut self, stepper: ClientId, until: Instant) -> io::Result<Phase> {
        let connection = self.connections.at(stepper.0);
        let timeout = if connection.is_some_and(Connection::is_ready) {
            Duration::ZERO
        } else {
            until.saturating_duration_since(self.world.instant())
        };
        self.poll(Some(timeout))?;
        let now = self.world.now();
        self.take_events(now);
        let connection = self.connections.at(stepper.0);
        if let Some(token) = connection
            .filter(|connection| connection.is_ready())
            .map(Connection::token)
        {
            self.ready_again.retain(|ready| *ready != token);
            self.read_connection(now, token);
        }
        let connection = self.connections.at_mut(stepper.0);
        if connection.is_none_or(|connection| {
            let sent = connection.flush(&self.context.counters);
            self.context.counters.bytes_out.inc_by(sent as u64);
            connection.is_dead()
        }) {
            self.engine.stop_stepping();
        }
        Ok(self.next_phase())
    }

    pub(super) fn begin_turn(&mut self) {
        let (inside, counters) = (&self.context.inside, &self.context.counters);
        let now = self.world.instant();
        self.turn_clock.begin(now, inside.ticks(now));
        self.bytes_before = (counters.bytes_in.get(), counters.bytes_out.get());
    }

    pub(super) fn end_of(&mut self, stage: Stage) {
        self.turn_clock.leave(stage, self.world.instant());
    }

    /// Keeps the record of the turn that has ended; tells its number.
    pub(super) fn keep_record(&mut self) -> u64 {
        let (context, record) = (&self.context, &mut self.turn_clock.record);
        let since = |now: u64, before: u64| u32::try_from(now - before).unwrap_or(u32::MAX);
        let (bytes_in, bytes_out) = self.bytes_before;
        record.bytes_in = since(context.counters.bytes_in.get(), bytes_in);
        record.bytes_out = since(context.counters.bytes_out.get(), bytes_out);
        record.lag = u32::try_from(self.engine.log().lag_bytes()).unwrap_or(u32::MAX);
        context.inside.turns.lock().push(*record)
    }

    /// Sends the view that is due.
    pub(super) fn show_inside(&mut self, now: Now) {
        // Of a stepped loop, the view comes when the step is done.
        if self.engine.view_is_due(now) && self.engine.stepper().is_none() {
            self.send_view(now);
        }
    }

    fn send_view(&mut self, now: Now) {
        let view = self.view();
        let mut slices = Slices::new(&mut self.connections, &self.context, now);
        self.engine
            .send_view(now, view, |client, slice| slices.send(client, slice));
        for token in slices.finish() {
            self.mark_dirty(token);
        }
    }

    fn view(&self) -> View {
        let inside = &self.context.inside;
        let now = self.world.instant();
        let mut turns = inside.turns.lock();
        View {
            now: inside.ticks(now),
            sockets: self.connections.len(),
            room: self.engine.log().ring(PARTS),
            outboxes: self.outboxes(),
            turns: Some(turns.take_new()),
            wheel: Some(self.wheel.view()),
            slow: turns.slow().map(SlowTurn::row).collect(),
            threads: None,
            switches: proc::context_switches(),
            followed: inside.follow.take(now),
            stepping: self.engine.stepper().is_some(),
        }
    }

    /// Outboxes by class. Mostly all are empty, which need not be asked of each.
    fn outboxes(&self) -> [u32; OUTBOX_CLASSES] {
        let mut classes = [0; OUTBOX_CLASSES];
        let sockets = self.connections.len();
        if self.context.counters.unsent() == 0 {
            classes[0] = u32::try_from(sockets).unwrap_or(u32::MAX);
            return classes;
        }
        let step = sockets.div_ceil(OUTBOXES_PER_VIEW).max(1);
        for connection in self.connections.iter().step_by(step) {
            classes[outbox_class(connection.unsent())] += 1;
        }
        classes
    }
}
