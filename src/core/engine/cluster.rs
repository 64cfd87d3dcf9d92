//! The engine as one node of several: what is said goes to Redis, and what comes back from there goes to the room.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::limiter::Limiter;
use super::output::Output;
use super::room::Room;
use super::{Client, ClientId, Engine, Now, Place, Values, client_mut, output, whole_ms};
use crate::core::cluster::message::{Message, Sender, Unavailable, Vitals};
use crate::core::cluster::{Answer, Outcome, Publisher, Stored, StreamEvent};
use crate::core::counters::signed;
use crate::core::protocol::{Chat, Fault, Outgoing};
use crate::core::websocket::frame;

/// How old another node's simulated metrics may be; after that this node shows its own.
const SIMULATED_VALID: Duration = Duration::from_secs(3);

impl Engine {
    /// The way to Redis, where there is one.
    pub fn publisher(&mut self) -> Option<&mut Publisher> {
        self.publisher.as_deref_mut()
    }

    /// Takes the bytes for Redis: all that was said since the last call.
    pub fn flush_publisher(&mut self, now: Now) -> BytesMut {
        let Some(publisher) = &mut self.publisher else {
            return BytesMut::new();
        };
        let vitals = Vitals {
            clients: self.room.online_here(),
            simulated: self.simulated,
        };
        publisher.flush(now.instant, self.room.epoch(), self.room.last_id(), vitals)
    }

    /// Temperature and stock as all nodes show them, where another wrote them lately; this node's walk goes on from there.
    pub fn simulated_elsewhere(&self, now: Now) -> Option<[f64; 2]> {
        let (simulated, until) = self.simulated_elsewhere?;
        (now.instant < until).then_some(simulated)
    }

    /// The values of a tick as all nodes show them; this node's own steps are what it writes if it holds the lease.
    pub(super) fn shared_values(&mut self, now: Now, values: &Values) -> Values {
        let mut shared = *values;
        if self.publisher.is_some() {
            let [temperature, stock, ..] = values.map(Option::unwrap_or_default);
            self.simulated = [temperature, stock];
            if let Some([temperature, stock]) = self.simulated_elsewhere(now) {
                shared[0] = Some(temperature);
                shared[1] = Some(stock);
            }
        }
        shared
    }

    /// The room, where it is this process' alone.
    pub(super) fn room_in_memory(&mut self) -> Option<&mut Room> {
        self.publisher.is_none().then_some(&mut self.room)
    }

    /// Where a message stands that is in the history of this process.
    pub(super) fn stored_here(&self) -> Stored {
        if self.publisher.is_some() {
            Stored::Stream
        } else {
            Stored::Room
        }
    }

    /// A message that is allowed goes out to Redis, which answers for it later; tells whether it was taken.
    pub(super) fn hand_to_redis(
        &mut self,
        now: Now,
        client: ClientId,
        chat: &Chat<'_>,
        output: &mut Output,
    ) -> bool {
        let Err(unavailable) = self.publish(now, client, chat) else {
            return true;
        };
        if let Some(Client {
            place: Place::Room(limiter, _),
            ..
        }) = client_mut(&mut self.clients, client)
        {
            // A refused message does not count.
            *limiter = Limiter::default();
        }
        let cid = chat.cid.as_deref();
        let frame = self.unavailable(now, cid, unavailable.retry_after, false);
        output.reply.own().extend_from_slice(&frame);
        false
    }

    /// Hands a message to Redis.
    fn publish(&mut self, now: Now, client: ClientId, chat: &Chat<'_>) -> Result<(), Unavailable> {
        let number = client_mut(&mut self.clients, client).map_or(0, |client| client.number);
        let message = Message {
            name: chat.name(),
            text: chat.text(),
            cid: chat.cid.as_deref(),
            ts: now.unix_ms,
        };
        let publisher = self.publisher.as_mut().expect("the room is on Redis");
        publisher.publish(now.instant, Sender { client, number }, &message)
    }

    /// Answers a client whose message is not, or may not be, in the stream.
    fn unavailable(
        &self,
        now: Now,
        cid: Option<&str>,
        retry_after: Duration,
        unknown: bool,
    ) -> Vec<u8> {
        let counters = &self.context.counters;
        let retry_after_ms = whole_ms(retry_after);
        let fault = Fault::Unavailable { retry_after_ms };
        counters.refused(now.instant, fault);
        counters.deliveries.inc();
        encode(&Outgoing::Error {
            text: fault.text(),
            ts: now.unix_ms,
            code: fault.code(),
            retry_after_ms: Some(retry_after_ms),
            stored: unknown.then_some("unknown"),
            cid,
        })
    }

    /// The room learns what was read back from the stream.
    pub fn take_stream(&mut self, now: Now, events: Vec<StreamEvent>) {
        for event in events {
            match event {
                StreamEvent::Append(entries) => {
                    for entry in &entries {
                        self.room.append(entry);
                    }
                }
                StreamEvent::Resync(resync) => {
                    if let Some(redis) = &self.context.counters.redis {
                        redis.gaps.inc_by(resync.lost);
                        // Where it begins is no new beginning.
                        redis.resyncs.inc_by(u64::from(self.room.last_id() > 0));
                    }
                    self.room.resync(now, resync.epoch, resync.last_id);
                    if let Some(publisher) = &mut self.publisher {
                        publisher.unfence();
                    }
                }
            }
        }
    }

    /// Takes note of what Redis has answered, and hands each client its frames through `deliver`.
    pub fn take_answers(&mut self, now: Now, mut deliver: impl FnMut(ClientId, &Bytes)) {
        let Some(publisher) = &mut self.publisher else {
            return;
        };
        let answers = publisher.take_answers();
        let presence = publisher.take_presence();
        if let Some(redis) = &self.context.counters.redis {
            redis.pending.set(signed(publisher.pending()));
            for round_trip in publisher.take_round_trips() {
                redis.round_trips.observe(round_trip.as_secs_f64());
            }
            if let Some(presence) = presence {
                redis.nodes.set(signed(presence.nodes));
            }
        }
        if let Some(presence) = presence {
            self.room.set_online(now, presence.online);
            if let Some(simulated) = presence.simulated {
                self.simulated_elsewhere = Some((simulated, now.instant + SIMULATED_VALID));
            }
        }
        let mut frames: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        for answer in &answers {
            if let Some(frame) = self.answer(now, answer) {
                let client = answer.sender.client.0;
                frames.entry(client).or_default().extend(frame);
            }
        }
        for (client, frames) in frames {
            deliver(ClientId(client), &frames.into());
        }
    }

    /// The frame of an answer, for a client that is still there and waits for one.
    fn answer(&mut self, now: Now, answer: &Answer) -> Option<Vec<u8>> {
        let Client { number, place, .. } = client_mut(&mut self.clients, answer.sender.client)?;
        let Place::Room(limiter, _) = place else {
            return None;
        };
        if *number != answer.sender.number {
            return None;
        }
        let cid = answer.cid.as_deref();
        match answer.outcome {
            Outcome::Stored { id, stored } => {
                let cid = cid?;
                self.context.counters.deliveries.inc();
                Some(encode(&Outgoing::Ack {
                    cid,
                    id,
                    ts: now.unix_ms,
                    stored: stored.name(),
                }))
            }
            Outcome::Refused | Outcome::Unknown => {
                // A refused message does not count.
                *limiter = Limiter::default();
                let unknown = answer.outcome == Outcome::Unknown;
                let retry_after = Unavailable::TRY_AGAIN.retry_after;
                Some(self.unavailable(now, cid, retry_after, unknown))
            }
        }
    }
}

/// The text frame of one message.
fn encode(message: &Outgoing<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::text(&mut frame, output::to_json(&mut Vec::new(), message));
    frame
}
