//! One client's thread at work: its way to the engine, and what it then has to deliver.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::hall::{Hall, Visits};
use super::mailbox::{Delivered, Mailbox};
use super::shared::Shared;
use crate::config::Delivery;
use crate::conversation::Lab;
use crate::engine::stats::Stats;
use crate::engine::{ClientId, Effects, Engine};

/// Room for replies that each client's thread keeps; what a long answer took beyond it is given back.
pub(super) const KEPT_REPLY: usize = 512;

/// A client's thread's way to the engine.
#[derive(Debug)]
pub(super) struct Visitor {
    shared: Arc<Shared>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) effects: Effects,
    /// This thread must send what the room has said.
    elected: bool,
    /// The room has yet to hear so much that this client must wait before it says more.
    ahead: bool,
    /// The client has left, and is still owed this share of the room's batch.
    parting: Option<Vec<Bytes>>,
    /// In the simpler ways of delivery: what this thread must send itself.
    errands: Vec<Errand>,
}

/// A message and those it is for, in the simpler ways of delivery.
#[derive(Debug)]
struct Errand {
    visits: Visits,
    way: Delivery,
}

impl Lab for Visitor {
    fn with<R>(&mut self, change: impl FnOnce(&mut Engine, &mut Effects) -> R) -> R {
        let mut hall = self.shared.hall();
        let was_in = hall.engine.has(self.client());
        let result = hall.change(&mut self.effects, change);
        if let Some(joined) = self.effects.joined.take() {
            hall.join(self.client(), joined.broadcast);
        }
        let is_in = hall.engine.has(self.client());
        if is_in && !self.effects.reply.is_empty() {
            // A welcome must stand in the mailbox before anybody can put a batch, a tick or a Close there, and the
            // confirmation of a subscription before the first tick that follows it.
            self.mailbox.push(take_replies(&mut self.effects));
        }
        if was_in && !is_in {
            // Whoever was not in the room has no share in what it said.
            let before = self.effects.left_at.take().unwrap_or(0);
            self.parting = Some(hall.leave(self.client(), before));
            self.mailbox.leave();
        }
        match self.shared.config.delivery {
            Delivery::Elected => self.elected |= hall.elect(),
            simpler => self.errands.extend(Errand::take(&mut hall, simpler)),
        }
        self.ahead = hall.unheard() > self.shared.unheard_max();
        if hall.engine.deadline() < hall.ticker_wakes {
            self.shared.wake_ticker();
        }
        result
    }

    fn effects(&mut self) -> &mut Effects {
        &mut self.effects
    }
}

impl Visitor {
    pub(super) fn new(shared: Arc<Shared>, mailbox: Arc<Mailbox>) -> Self {
        Self {
            effects: Effects::new(Arc::clone(&shared.stats)),
            shared,
            mailbox,
            elected: false,
            ahead: false,
            parting: None,
            errands: Vec::new(),
        }
    }

    /// Sends what the conversation has come up with, first to the others, then to its own client.
    ///
    /// # Errors
    /// The client is gone, or did not read in time.
    pub(super) fn deliver(&mut self) -> io::Result<()> {
        self.send_for_all();
        if let Some(share) = self.parting.take() {
            // A round that began before the client left may still have frames for it, and a Close must be the last.
            drop(self.shared.round.lock());
            self.mailbox.part(share, take_replies(&mut self.effects));
        }
        self.mailbox.push(take_replies(&mut self.effects));
        self.mailbox.send_all()?;
        if std::mem::take(&mut self.ahead) {
            self.shared.wait_for_listeners();
        }
        Ok(())
    }

    /// Sends what the room has said, if this thread was elected to.
    pub(super) fn send_for_all(&mut self) {
        for errand in self.errands.drain(..) {
            errand.run(&self.shared);
        }
        if std::mem::take(&mut self.elected) {
            self.shared.send_for_all();
        }
    }

    /// The figures everything is counted in.
    pub(super) fn stats(&self) -> &Stats {
        self.effects.stats()
    }

    /// Forgets what the conversation has come up with for its own client: it is gone, or was told already.
    pub(super) fn discard_replies(&mut self) {
        self.effects.reply.clear();
        self.parting = None;
    }

    /// The client's place.
    pub(super) fn client(&self) -> ClientId {
        self.mailbox.client()
    }
}

impl Errand {
    /// In the simpler ways: takes what was said just now, for the thread of the one who said it.
    fn take(hall: &mut Hall, way: Delivery) -> Option<Self> {
        if !hall.has_something_to_send() {
            return None;
        }
        let visits = hall.next_visits(usize::MAX);
        if way == Delivery::Outboxes {
            for (member, first) in &visits.members {
                visits.talk[*first..]
                    .iter()
                    .for_each(|frames| member.put(frames));
            }
        }
        Some(Self { visits, way })
    }

    fn run(&self, shared: &Shared) {
        match self.way {
            Delivery::Direct => {
                for (member, first) in &self.visits.members {
                    member.write_through(&self.visits.talk[*first..]);
                }
            }
            Delivery::Outboxes | Delivery::Elected => {
                let members = self.visits.members.iter().map(|(member, _)| member);
                let behind = members.filter(|member| member.send_waiting() == Delivered::Behind);
                shared.retry_later(behind.cloned().collect());
            }
        }
    }
}

fn take_replies(effects: &mut Effects) -> Bytes {
    let replies = Bytes::copy_from_slice(&effects.reply);
    effects.reply.clear();
    effects.give_back_room(KEPT_REPLY);
    replies
}
