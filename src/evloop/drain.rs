//! The end of the event loop's life: clients are told to leave, a few at a time or all at once, and have a while to do so.

use mio::Token;
use tracing::info;

use super::connection::Connection;
use super::world::World;
use super::{DirectAccess, EventLoop, Phase, TimerKind};
use crate::core::engine::Close;
use crate::core::spread::{self, Spread};
use crate::core::time::Now;
use crate::host::systemd;

impl<W: World> EventLoop<W> {
    /// The first request to stop drains, a second one stops at once.
    pub(super) fn take_stop_requests(&mut self, now: Now) {
        // Nobody steps a loop that is told to stop.
        self.engine.stop_stepping();
        for _ in 0..self.world.take_stop_requests() {
            match self.phase {
                Phase::Serving if self.drain_spread.is_zero() => self.drain(now),
                Phase::Serving => self.leave(now),
                Phase::Leaving | Phase::Draining | Phase::Stopping => {
                    self.phase = Phase::Stopping;
                }
            }
        }
    }

    /// No client is let in any more, and those who are in are told to leave, a few at a time.
    fn leave(&mut self, now: Now) {
        info!(
            "[SERVER] Restarting: {} clients are told to leave over {:?}",
            self.engine.client_count(),
            self.drain_spread
        );
        self.phase = Phase::Leaving;
        systemd::tell_stopping();
        self.engine.close_the_door();
        let clients = self.connections.iter();
        let clients = clients.filter(|connection| connection.is_websocket());
        let clients = clients.map(Connection::token).collect();
        self.spread = Some(Spread::new(now.instant, self.drain_spread, clients));
        self.tell_to_leave(now);
    }

    /// Tells the next clients to leave; after the last of them comes the end.
    pub(super) fn tell_to_leave(&mut self, now: Now) {
        let Some(spread) = &mut self.spread else {
            return;
        };
        let retry_after = spread.retry_after(now.instant);
        let (due, is_over) = (spread.take_due(now.instant), spread.is_over());
        for token in due {
            if let Some(connection) = self.connections.get_mut(token) {
                let mut access = DirectAccess {
                    engine: &mut self.engine,
                    output: &mut self.output,
                    context: &self.context,
                };
                connection.restart(now, retry_after, &mut access);
                self.after_io(now, token);
            }
        }
        if self.phase == Phase::Leaving && (is_over || self.engine.client_count() == 0) {
            self.drain(now);
        } else if self.phase == Phase::Leaving {
            self.wheel
                .insert(now.instant + spread::STEP, TimerKind::Leave);
        }
    }

    /// Every client gets a Close, and a while to leave. Who connects now is told that the server is stopping.
    fn drain(&mut self, now: Now) {
        info!(
            "[SERVER] Shutting down: {} clients are told to leave",
            self.engine.client_count()
        );
        self.phase = Phase::Draining;
        systemd::tell_stopping();
        self.engine.drain();
        self.wheel
            .insert(now.instant + self.drain_timeout, TimerKind::Drain);
        let tokens: Vec<Token> = self.connections.tokens().collect();
        for token in tokens {
            if let Some(connection) = self.connections.get_mut(token) {
                let mut access = DirectAccess {
                    engine: &mut self.engine,
                    output: &mut self.output,
                    context: &self.context,
                };
                connection.close(now, Close::GOING_AWAY, &mut access);
                self.after_io(now, token);
            }
        }
    }

    pub(super) fn next_phase(&self) -> Phase {
        let awaited = || self.connections.iter().any(Connection::holds_up_drain);
        if self.phase == Phase::Draining && !awaited() {
            Phase::Stopping
        } else {
            self.phase
        }
    }
}
