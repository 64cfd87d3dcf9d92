//! The rules of the lab, without I/O: what a client's request means for itself and for the others.
//!
//! There is no socket, clock, file or randomness in here. Time comes in as [`Now`]; what is to be sent goes out as
//! bytes in [`Effects`], which the server that called must deliver before it calls again: `reply` to that one client,
//! `broadcast` to every [`Engine::members`], in that client's and the room's order. The engine is sequential; a
//! server with threads puts a lock around it.

mod dashboard;
pub mod history;
pub mod limiter;
mod room;
mod roster;
pub mod stats;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::config::Config;
use crate::frame;
use crate::http::OriginPolicy;
use crate::protocol::{
    Chat, ChatRequest, DashboardRequest, Fault, Metric, Opening, Outgoing, RefusedChat, Welcome,
};
use dashboard::Dashboard;
pub use dashboard::Values;
use limiter::Limiter;
use room::Room;
use stats::Stats;

/// Error answers in a row, without an accepted message between, that a client gets before it is closed.
pub const MAX_FAULTS_IN_A_ROW: u32 = 50;

/// The time of a turn, taken once for all that happens in it.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// For `ts`: milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

/// A client, by the number of its place in the server's table: small, unique among the living, used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId(pub u32);

impl ClientId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A Close to be sent: code and reason of RFC 6455 §7.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    /// The status code.
    pub code: u16,
    /// For a reader; at most 123 bytes.
    pub reason: &'static str,
}

/// What is to be sent. Frames are whole, in order, and in memory once.
#[derive(Debug)]
pub struct Effects {
    /// Frames for the client that was heard, and for it alone.
    pub reply: Vec<u8>,
    /// Frames for everyone in the room; the same bytes for all.
    pub broadcast: BytesMut,
    /// Set where the client that was heard must be closed, after `reply`.
    pub close: Option<Close>,
    /// Set where the client that was heard joined the room.
    pub joined: Option<Joined>,
    /// Set where the client that was heard left the room: the first byte in `broadcast` that is not for it.
    pub left_at: Option<usize>,
    stats: Arc<Stats>,
    json: Vec<u8>,
}

/// Where the room begins for a newcomer.
#[derive(Debug, Clone, Copy)]
pub struct Joined {
    /// Its first byte in `broadcast`.
    pub broadcast: usize,
    /// The end of its welcome in `reply`: nothing that the room says may stand before it.
    pub reply: usize,
}

impl Effects {
    /// Nothing to send yet.
    pub fn new(stats: Arc<Stats>) -> Self {
        Self {
            reply: Vec::new(),
            broadcast: BytesMut::new(),
            close: None,
            joined: None,
            left_at: None,
            stats,
            json: Vec::new(),
        }
    }

    /// The figures everything is counted in.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Adds a message for the client alone.
    pub(crate) fn tell_client(&mut self, message: &Outgoing<'_>) {
        frame::text(&mut self.reply, to_json(&mut self.json, message));
        self.stats.deliveries.inc();
    }

    /// Adds a message of the past, which the client asked for.
    fn replay(&mut self, frame: &[u8]) {
        self.reply.extend_from_slice(frame);
        self.stats.deliveries.inc();
    }

    /// Adds a message for `receivers` members of the room, and gives back the frame they will get.
    fn tell_room(&mut self, message: &Outgoing<'_>, receivers: usize) -> &[u8] {
        let start = self.broadcast.len();
        frame::text(&mut self.broadcast, to_json(&mut self.json, message));
        self.stats.deliveries.inc_by(receivers as u64);
        &self.broadcast[start..]
    }
}

fn to_json<'a>(buffer: &'a mut Vec<u8>, message: &Outgoing<'_>) -> &'a [u8] {
    buffer.clear();
    serde_json::to_writer(&mut *buffer, message).expect("plain data, written to memory");
    buffer
}

/// The text frame of one message.
fn encode(message: &Outgoing<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::text(&mut frame, to_json(&mut Vec::new(), message));
    frame
}

/// What a server is given at its start, besides its configuration.
#[derive(Debug)]
pub struct Founding {
    /// The concurrency model as clients are told it: `evloop` or `threads`.
    pub model: &'static str,
    /// Names this life of the room's history: a string that no earlier life used.
    pub epoch: String,
    /// The contents of `--report`.
    pub report: Option<Vec<u8>>,
    /// Metrics that this host has no figures for; a subscription cannot name them.
    pub missing: Vec<Metric>,
}

/// Why no other client is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// `--max-clients` are in.
    Server,
    /// `--max-clients-per-address` are in from there.
    Address,
    /// The server is stopping.
    Draining,
}

/// The one place of rules, shared by both servers.
#[derive(Debug)]
pub struct Engine {
    config: Arc<Config>,
    model: &'static str,
    report: Option<Vec<u8>>,
    missing: Vec<Metric>,
    origins: OriginPolicy,
    stats: Arc<Stats>,
    clients: Vec<Option<Client>>,
    client_count: usize,
    by_address: HashMap<IpAddr, usize>,
    opened: u64,
    room: Room,
    dashboard: Dashboard,
    echoes: usize,
    next_tick: Instant,
    draining: bool,
}

/// What is remembered of a client that is in.
#[derive(Debug)]
struct Client {
    address: IpAddr,
    place: Place,
    faults_in_a_row: u32,
}

#[derive(Debug)]
enum Place {
    Room(Limiter),
    Dashboard,
    Echo,
}

impl Engine {
    /// A lab with nobody in it.
    pub fn new(config: Arc<Config>, founding: Founding, stats: Arc<Stats>, now: Now) -> Self {
        let Founding {
            model,
            epoch,
            report,
            missing,
        } = founding;
        let room = Room::new(epoch, config.history, config.notice_limit);
        let next_tick = now.instant + config.metric_interval;
        let origins = OriginPolicy {
            loopback_only: config.loopback_only(),
            allowed: config.allow_origin.clone(),
        };
        Self {
            // As with the server's table: growing would copy it under everyone's feet.
            clients: Vec::with_capacity(config.max_sockets()),
            config,
            model,
            report,
            missing,
            origins,
            stats,
            client_count: 0,
            by_address: HashMap::new(),
            opened: 0,
            room,
            dashboard: Dashboard::default(),
            echoes: 0,
            next_tick,
            draining: false,
        }
    }

    /// The server's configuration.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The figures everything is counted in.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The server's concurrency model: `evloop` or `threads`.
    pub fn model(&self) -> &'static str {
        self.model
    }

    /// The file served at `/report`, if there is one.
    pub fn report(&self) -> Option<&[u8]> {
        self.report.as_deref()
    }

    /// Which pages may connect.
    pub fn origins(&self) -> &OriginPolicy {
        &self.origins
    }

    /// Clients that are in.
    pub fn client_count(&self) -> usize {
        self.client_count
    }

    /// Whether this client is in.
    pub fn has(&self, client: ClientId) -> bool {
        self.clients
            .get(client.index())
            .is_some_and(Option::is_some)
    }

    /// Everyone in the room: who gets [`Effects::broadcast`].
    pub fn members(&self) -> &[ClientId] {
        self.room.members()
    }

    /// Whether [`Engine::open`] may let in another client from this address.
    ///
    /// # Errors
    /// Why there is no place.
    pub fn vacancy(&self, address: IpAddr) -> Result<(), Full> {
        let per_address = self.config.max_clients_per_address;
        if self.draining {
            Err(Full::Draining)
        } else if self.client_count >= self.config.max_clients {
            Err(Full::Server)
        } else if per_address > 0
            && self
                .by_address
                .get(&address)
                .is_some_and(|clients| *clients >= per_address)
        {
            Err(Full::Address)
        } else {
            Ok(())
        }
    }

    /// A client, for whom there is a place, comes in. Returns its number for the log: 1, 2, 3, … over the server's life.
    pub fn open(
        &mut self,
        now: Now,
        client: ClientId,
        address: IpAddr,
        opening: &Opening,
        effects: &mut Effects,
    ) -> u64 {
        let ping_interval_ms =
            u64::try_from(self.config.ping_interval.as_millis()).unwrap_or(u64::MAX);
        let welcome = Welcome {
            server: self.model,
            ping_interval_ms,
        };
        let place = match opening {
            Opening::Chat(replay) => {
                self.room.join(now, client, replay, welcome, effects);
                Place::Room(Limiter::default())
            }
            Opening::Dashboard => {
                self.dashboard.join(now, client, welcome, effects);
                Place::Dashboard
            }
            Opening::Echo => {
                self.echoes += 1;
                Place::Echo
            }
        };
        if self.clients.len() <= client.index() {
            self.clients.resize_with(client.index() + 1, || None);
        }
        self.client_count += 1;
        *self.by_address.entry(address).or_default() += 1;
        self.clients[client.index()] = Some(Client {
            address,
            place,
            faults_in_a_row: 0,
        });
        self.count_clients();
        self.opened += 1;
        self.opened
    }

    /// A client has left, or is about to: it gets nothing of the room or the dashboard from now on.
    pub fn leave(&mut self, now: Now, client: ClientId, effects: &mut Effects) {
        let Some(left) = self.clients.get_mut(client.index()).and_then(Option::take) else {
            return;
        };
        match left.place {
            Place::Room(_) if self.draining => self.room.leave_silently(client, effects),
            Place::Room(_) => self.room.leave(now, client, effects),
            Place::Dashboard => self.dashboard.leave(client),
            Place::Echo => self.echoes -= 1,
        }
        self.client_count -= 1;
        if let Some(clients) = self.by_address.get_mut(&left.address) {
            *clients -= 1;
            if *clients == 0 {
                self.by_address.remove(&left.address);
            }
        }
        self.count_clients();
    }

    /// Somebody in the room asks for something, or tried to. Tells whether it went out to the room.
    pub fn chat(
        &mut self,
        now: Now,
        client: ClientId,
        request: &Result<ChatRequest<'_>, RefusedChat<'_>>,
        effects: &mut Effects,
    ) -> bool {
        match request {
            Ok(ChatRequest::Say(chat)) => return self.say(now, client, chat, effects),
            Ok(ChatRequest::Ping) => effects.tell_client(&Outgoing::Pong { ts: now.unix_ms }),
            Err(refused) => self.fault(now, client, refused.fault, refused.cid.as_deref(), effects),
        }
        false
    }

    fn say(&mut self, now: Now, client: ClientId, chat: &Chat<'_>, effects: &mut Effects) -> bool {
        let interval = self.config.chat_interval;
        let Some(Client {
            place: Place::Room(limiter),
            ..
        }) = client_mut(&mut self.clients, client)
        else {
            return false;
        };
        let said_before = self.room.said_before(chat);
        if said_before.is_none()
            && let Err(wait) = limiter.accept(now.instant, interval)
        {
            let fault = Fault::RateLimited {
                retry_after_ms: whole_ms(wait),
            };
            self.fault(now, client, fault, chat.cid.as_deref(), effects);
            return false;
        }
        let id = said_before.unwrap_or_else(|| self.room.say(now, chat, effects));
        self.no_fault(client);
        if let Some(cid) = chat.cid.as_deref() {
            effects.tell_client(&Outgoing::Ack {
                cid,
                id,
                ts: now.unix_ms,
            });
        }
        said_before.is_none()
    }

    /// A watcher of the dashboard asks for something, or tried to.
    pub fn watch(
        &mut self,
        now: Now,
        client: ClientId,
        request: &Result<DashboardRequest, Fault>,
        effects: &mut Effects,
    ) {
        match request {
            Ok(DashboardRequest::Subscribe(subscribe)) => {
                self.no_fault(client);
                let (missing, known): (Vec<_>, Vec<_>) = subscribe
                    .metrics
                    .iter()
                    .partition(|metric| self.missing.contains(metric));
                self.dashboard.subscribe(now, client, &known, effects);
                if subscribe.unknown || !missing.is_empty() {
                    self.fault(now, client, Fault::UnknownMetric, None, effects);
                }
            }
            Ok(DashboardRequest::Ping) => effects.tell_client(&Outgoing::Pong { ts: now.unix_ms }),
            Err(fault) => self.fault(now, client, *fault, None, effects),
        }
    }

    /// When [`Engine::tick`] or [`Engine::summarise`] has something to do.
    pub fn deadline(&self) -> Instant {
        self.room
            .deadline()
            .map_or(self.next_tick, |summary| summary.min(self.next_tick))
    }

    /// Whether the dashboard's tick is due.
    pub fn tick_is_due(&self, now: Now) -> bool {
        now.instant >= self.next_tick
    }

    /// Sends the dashboard's values, each watcher's through `deliver`, and plans the next tick. A tick that comes
    /// late does not bring the next one closer, and one missed altogether is not made up for.
    pub fn tick(&mut self, now: Now, values: &Values, deliver: impl FnMut(ClientId, &Bytes)) {
        let interval = self.config.metric_interval;
        self.next_tick += interval;
        if self.next_tick <= now.instant {
            self.next_tick = now.instant + interval;
        }
        let sent = self.dashboard.tick(now, values, deliver);
        self.stats.deliveries.inc_by(sent);
    }

    /// Sends the summary of a large room if one is due.
    pub fn summarise(&mut self, now: Now, effects: &mut Effects) {
        self.room.summarise(now, effects);
    }

    /// The server is stopping: nobody is let in any more, and who leaves is not announced.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether the server is stopping.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    fn fault(
        &mut self,
        now: Now,
        client: ClientId,
        fault: Fault,
        cid: Option<&str>,
        effects: &mut Effects,
    ) {
        self.stats.refused(fault.code());
        let Some(client) = client_mut(&mut self.clients, client) else {
            return;
        };
        client.faults_in_a_row += 1;
        if client.faults_in_a_row > MAX_FAULTS_IN_A_ROW {
            self.stats.refused("too_many_faults");
            effects.close = Some(Close {
                code: 1008,
                reason: "too many refused messages in a row",
            });
            return;
        }
        let retry_after_ms = match fault {
            Fault::RateLimited { retry_after_ms } => Some(retry_after_ms),
            _ => None,
        };
        effects.tell_client(&Outgoing::Error {
            text: fault.text(),
            ts: now.unix_ms,
            code: fault.code(),
            retry_after_ms,
            cid,
        });
    }

    fn no_fault(&mut self, client: ClientId) {
        if let Some(client) = client_mut(&mut self.clients, client) {
            client.faults_in_a_row = 0;
        }
    }

    fn count_clients(&self) {
        self.stats.set_clients("chat", self.room.members().len());
        self.stats
            .set_clients("dashboard", self.dashboard.watchers());
        self.stats.set_clients("echo", self.echoes);
    }
}

/// Apart from the engine, so that a client can be held beside the room.
fn client_mut(clients: &mut [Option<Client>], client: ClientId) -> Option<&mut Client> {
    clients.get_mut(client.index())?.as_mut()
}

fn whole_ms(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
