//! What the thread server's one lock protects: the engine, everybody's place, and the room's talk on its way.
//!
//! Nothing in here touches a socket. Visits are noted as made, and the caller makes them after letting the lock go.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use slab::Slab;

use super::client_writer::Mailbox;
use crate::carousel::{Carousel, Heard};
use crate::core::engine::{ClientId, Effects, Engine, Now, Values};

/// What the one lock protects.
#[derive(Debug)]
pub(super) struct Hall {
    pub(super) engine: Engine,
    /// What the room has said since the last turn.
    pub(super) batch: BytesMut,
    /// When the first of it was said.
    pub(super) batch_since: Instant,
    /// The room's talk on its way to the members.
    pub(super) carousel: Carousel<Member>,
    pub(super) seats: Slab<Seat>,
    /// Somebody has elected itself.
    pub(super) sending: bool,
    /// The ticker is asked to go on sending.
    pub(super) relief: bool,
    /// Who has something waiting that nobody is seeing to.
    pub(super) behind: Vec<Arc<Mailbox>>,
    /// When the ticker will look at the engine's deadline by itself.
    pub(super) ticker_wakes: Instant,
    pub(super) connections: u64,
}

/// A client's place.
#[derive(Debug)]
pub(super) struct Seat {
    /// The client's number over the server's life.
    pub(super) number: u64,
    pub(super) mailbox: Arc<Mailbox>,
    /// A member of the room, and how much of what it says has been sent or queued.
    pub(super) heard: Option<Heard>,
}

/// A client in the carousel. It does not keep the mailbox, and with it the socket, of one who has gone; its number
/// tells whether the seat is still its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    client: ClientId,
    number: u64,
}

/// Visits to be made: to whom, from which slice of the talk on.
#[derive(Debug)]
pub(super) struct Visits {
    pub(super) members: Vec<(Arc<Mailbox>, usize)>,
    pub(super) talk: Vec<Bytes>,
}

impl Hall {
    /// An empty one, around this engine.
    pub(super) fn new(engine: Engine, now: Now) -> Self {
        Self {
            engine,
            batch: BytesMut::new(),
            batch_since: now.instant,
            carousel: Carousel::default(),
            seats: Slab::new(),
            sending: false,
            relief: false,
            behind: Vec::new(),
            ticker_wakes: now.instant,
            connections: 0,
        }
    }

    pub(super) fn has_something_to_send(&self) -> bool {
        !self.batch.is_empty() || self.carousel.has_visits_to_make()
    }

    /// Takes the next visits, at most `most`, and notes them as made: the caller makes them.
    pub(super) fn next_visits(&mut self, most: usize) -> Visits {
        self.carousel.say(self.batch.split().freeze());
        let seats = &mut self.seats;
        let visits = self
            .carousel
            .next_visits(most, |member| heard(seats, *member));
        let members = visits.members.into_iter().map(|(member, first)| {
            let seat = &mut seats[member.client.index()];
            seat.heard = Some(visits.heard);
            (Arc::clone(&seat.mailbox), first)
        });
        Visits {
            members: members.collect(),
            talk: visits.talk,
        }
    }

    /// The client joined the room when `before` bytes of the batch had been said.
    pub(super) fn join(&mut self, client: ClientId, before: usize) {
        self.carousel.say(self.batch.split_to(before).freeze());
        let seat = &mut self.seats[client.index()];
        let number = seat.number;
        seat.heard = Some(self.carousel.join(Member { client, number }));
        let (seats, members) = (&self.seats, self.engine.members().len());
        self.carousel
            .forget_departed(members, |member| heard(seats, *member).is_some());
    }

    /// Bytes that somebody in the room has yet to hear.
    pub(super) fn unheard(&self) -> usize {
        self.batch.len() + self.carousel.unheard()
    }

    /// The client left the room when `before` bytes of the batch had been said; tells what it has yet to hear.
    pub(super) fn leave(&mut self, client: ClientId, before: usize) -> Vec<Bytes> {
        self.carousel.say(self.batch.split_to(before).freeze());
        let heard = self.seats[client.index()].heard.take();
        heard
            .map(|heard| self.carousel.since(heard).cloned().collect())
            .unwrap_or_default()
    }

    /// The mailboxes of all whom the engine has.
    pub(super) fn clients(&self) -> impl Iterator<Item = &Arc<Mailbox>> {
        self.seats
            .iter()
            .map(|(_, seat)| &seat.mailbox)
            .filter(|mailbox| self.engine.has(mailbox.client()))
    }

    /// Puts the dashboard's values into the watchers' mailboxes. They are sent after the lock is let go, but stand there
    /// before anybody can change what it wants, so that nothing unwanted comes after the confirmation.
    pub(super) fn tick(&mut self, now: Now, values: &Values) -> Vec<Arc<Mailbox>> {
        let mut watchers = Vec::new();
        let seats = &self.seats;
        self.engine.tick(now, values, |client, batch| {
            if let Some(Seat { mailbox, .. }) = seats.get(client.index()) {
                mailbox.put(batch);
                watchers.push(Arc::clone(mailbox));
            }
        });
        watchers
    }

    /// Whether the caller must send what the room has said: there is something, and nobody is at it.
    pub(super) fn elect(&mut self) -> bool {
        let elected = self.has_something_to_send() && !self.sending;
        self.sending |= elected;
        elected
    }

    /// Lets `change` append to the room's batch.
    pub(super) fn change<R>(
        &mut self,
        effects: &mut Effects,
        change: impl FnOnce(&mut Engine, &mut Effects) -> R,
    ) -> R {
        let before = self.batch.len();
        std::mem::swap(&mut self.batch, &mut effects.broadcast);
        let result = change(&mut self.engine, effects);
        std::mem::swap(&mut self.batch, &mut effects.broadcast);
        if before == 0 && !self.batch.is_empty() {
            self.batch_since = Instant::now();
        }
        result
    }
}

/// What a member has heard; none if it has left.
fn heard(seats: &Slab<Seat>, member: Member) -> Option<Heard> {
    let seat = seats.get(member.client.index())?;
    seat.heard.filter(|_| seat.number == member.number)
}
