//! The readers of the inside view: who is sent views, who steps the loop, and when the next view is due.

use std::time::Instant;

use bytes::Bytes;

use super::output::{self, Output};
use super::sparse_set::SparseSet;
use super::{ClientId, Engine, Now};
use crate::core::inside::view::View;
use crate::core::inside::{STEP_PATIENCE, VIEW_INTERVAL};
use crate::core::protocol::{Fault, InsideRequest, Outgoing, System, Welcome};
use crate::core::websocket::frame;

/// The experiments of each model; only a loop can be stepped.
const OF_LOOP: &[&str] = &["hold", "step"];
const OF_THREADS: &[&str] = &["hold"];

/// The clients of the inside view.
#[derive(Debug, Default)]
pub(super) struct Readers {
    connected: usize,
    subscribed: SparseSet,
    next_view: Option<Instant>,
    stepping: Option<Stepping>,
}

/// A loop that turns only when it is told to.
#[derive(Debug)]
struct Stepping {
    by: ClientId,
    /// Whether it has been told, and has not turned yet.
    due: bool,
    last: Instant,
}

impl Readers {
    pub(super) fn count(&self) -> usize {
        self.connected
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next_view
    }
}

/// What a loop that may be stepped does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Turn after turn.
    Free,
    /// One turn, of which the readers are to be told at once.
    Step,
    /// None, until this client says so, or this time has come.
    Paused(ClientId, Instant),
}

impl Engine {
    pub(super) fn welcome_reader(
        &mut self,
        now: Now,
        experiments: bool,
        welcome: Welcome<'_>,
        output: &mut Output,
    ) {
        self.readers.connected += 1;
        output.push_reply(&Outgoing::System(System {
            text: "Đang xem bên trong server.".into(),
            ts: now.unix_ms,
            code: "welcome",
            experiments: Some(self.experiments(experiments)),
            welcome: Some(welcome),
            ..System::default()
        }));
    }

    pub(super) fn forget_reader(&mut self, client: ClientId) {
        self.readers.connected -= 1;
        self.readers.subscribed.remove(client);
        if self.stepper() == Some(client) {
            self.readers.stepping = None;
        }
        self.plan_views(None);
    }

    fn experiments(&self, allowed: bool) -> &'static [&'static str] {
        match (
            allowed && self.context.inside.experiments,
            self.context.model,
        ) {
            (false, _) => &[],
            (true, "evloop") => OF_LOOP,
            (true, _) => OF_THREADS,
        }
    }

    /// A reader of the inside view asks for something, or tried to. Tells whether its handler is to block.
    pub fn look_inside(
        &mut self,
        now: Now,
        client: ClientId,
        request: &Result<InsideRequest<'_>, Fault>,
        experiments: bool,
        output: &mut Output,
    ) -> bool {
        let experiments = self.experiments(experiments);
        let may = |experiment| experiments.contains(&experiment);
        match request {
            Ok(InsideRequest::Subscribe) => {
                self.subscribe_reader(now, client);
                self.confirm(now, client, "subscribed", output);
            }
            Ok(InsideRequest::Unsubscribe) => {
                self.readers.subscribed.remove(client);
                self.plan_views(None);
                self.confirm(now, client, "unsubscribed", output);
            }
            Ok(InsideRequest::Follow(cid)) => {
                let inside = &self.context.inside;
                inside.follow.expect(cid, inside.now());
                self.confirm(now, client, "following", output);
            }
            Ok(InsideRequest::Hold) if may("hold") => return true,
            Ok(InsideRequest::Step) if may("step") => {
                self.readers.stepping = Some(Stepping {
                    by: client,
                    due: self.readers.stepping.is_some(),
                    last: now.instant,
                });
                self.confirm(now, client, "stepping", output);
            }
            Ok(InsideRequest::Run) if may("step") => {
                self.readers.stepping = None;
                self.confirm(now, client, "running", output);
            }
            Ok(InsideRequest::Ping) => output.push_reply(&Outgoing::Pong { ts: now.unix_ms }),
            Ok(InsideRequest::Hold | InsideRequest::Step | InsideRequest::Run) => {
                self.fault(now, client, Fault::NoExperiments, None, output);
            }
            Err(fault) => self.fault(now, client, *fault, None, output),
        }
        false
    }

    /// The handler has blocked.
    pub fn confirm_hold(&mut self, now: Now, client: ClientId, output: &mut Output) {
        self.confirm(now, client, "held", output);
    }

    fn confirm(&mut self, now: Now, client: ClientId, code: &'static str, output: &mut Output) {
        if let Some(client) = super::client_mut(&mut self.clients, client) {
            client.faults_in_a_row = 0;
        }
        output.push_reply(&Outgoing::System(System {
            text: code.into(),
            ts: now.unix_ms,
            code,
            ..System::default()
        }));
    }

    fn subscribe_reader(&mut self, now: Now, client: ClientId) {
        if !self.readers.subscribed.contains(client) {
            self.readers.subscribed.insert(client);
        }
        self.plan_views(Some(now.instant));
    }

    /// Views are due while somebody is subscribed, and nothing is collected while nobody is.
    fn plan_views(&mut self, first: Option<Instant>) {
        let watched = !self.readers.subscribed.as_slice().is_empty();
        self.context.inside.set_watched(watched);
        self.readers.next_view = match self.readers.next_view {
            _ if !watched => None,
            None => first,
            planned => planned,
        };
    }

    /// Whether a view is due.
    pub fn view_is_due(&self, now: Now) -> bool {
        self.readers.next_view.is_some_and(|due| now.instant >= due)
    }

    /// Sends a view to each reader through `deliver`, and plans the next one, at most so many per second.
    pub fn send_view(&mut self, now: Now, view: View, mut deliver: impl FnMut(ClientId, &Bytes)) {
        self.readers.next_view = Some(now.instant + VIEW_INTERVAL);
        let readers = self.readers.subscribed.as_slice();
        let (mut frame, mut json) = (Vec::new(), Vec::new());
        let message = Outgoing::Inside {
            ts: now.unix_ms,
            view: Box::new(view),
        };
        frame::text(&mut frame, output::to_json(&mut json, &message));
        let frame = Bytes::from(frame);
        for reader in readers {
            deliver(*reader, &frame);
        }
        self.context
            .counters
            .deliveries
            .inc_by(readers.len() as u64);
    }

    /// What the loop does next.
    pub fn pace(&mut self, now: Instant) -> Pace {
        let Some(stepping) = &mut self.readers.stepping else {
            return Pace::Free;
        };
        let until = stepping.last + STEP_PATIENCE;
        if std::mem::take(&mut stepping.due) {
            Pace::Step
        } else if now < until {
            Pace::Paused(stepping.by, until)
        } else {
            self.readers.stepping = None;
            Pace::Free
        }
    }

    /// The client that stepped the loop is gone, or the server is stopping.
    pub fn stop_stepping(&mut self) {
        self.readers.stepping = None;
    }

    /// The client that steps the loop.
    pub fn stepper(&self) -> Option<ClientId> {
        self.readers.stepping.as_ref().map(|stepping| stepping.by)
    }
}
