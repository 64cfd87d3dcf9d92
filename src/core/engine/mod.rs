//! The rules of the lab, without I/O: what a client's request means for that client and for the others.
//!
//! What is for one client comes out in its [`Output`]; what is for the room goes into the [`BroadcastLog`], from which
//! the servers take batches. The engine is sequential; a server with threads puts a lock around it.

pub mod broadcast_log;
mod cluster;
mod dashboard;
pub mod history;
mod inside;
pub mod limiter;
mod occupancy;
pub mod output;
mod room;
mod shared_stream;
mod sparse_set;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tungstenite::protocol::frame::coding::CloseCode;

use super::cluster::Publisher;
use super::context::Context;
use super::http::Upgrade;
use super::inside::follow::{Hop, Place as HopPlace};
use super::protocol::{
    Chat, ChatRequest, DashboardRequest, Fault, Opening, Outgoing, RefusedChat, Welcome,
};
use super::refusals::Broken;
use super::time::Now;
use broadcast_log::{Batch, BroadcastLog};
use dashboard::Dashboard;
pub use dashboard::Values;
pub use inside::Pace;
use inside::Readers;
use limiter::Limiter;
pub use occupancy::Full;
use occupancy::Occupancy;
use output::Output;
use room::{Membership, Room};

/// Error answers in a row, without an accepted message between, that a client gets before it is closed.
pub const MAX_FAULTS_IN_A_ROW: u32 = 50;

/// Where the rules are.
const SAY: HopPlace = HopPlace {
    file: "src/core/engine/mod.rs",
    function: "Engine::say",
};

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
    pub code: CloseCode,
    /// For a reader; at most 123 bytes.
    pub reason: &'static str,
}

impl Close {
    /// What every client is told when the server stops.
    pub const GOING_AWAY: Self = Self {
        code: CloseCode::Away,
        reason: "server is shutting down",
    };

    /// What a client is told when the server stops gently, and will be back.
    pub const RESTART: Self = Self {
        code: CloseCode::Restart,
        reason: "server is restarting",
    };
}

/// The one place of rules, shared by both servers.
#[derive(Debug)]
pub struct Engine {
    context: Arc<Context>,
    phase: Phase,
    clients: Vec<Option<Client>>,
    occupancy: Occupancy,
    /// Clients opened over the server's life.
    opened: u64,
    room: Room,
    dashboard: Dashboard,
    readers: Readers,
    echoes: usize,
    next_tick: Instant,
    /// The way to Redis, where the room is shared with other nodes.
    publisher: Option<Box<Publisher>>,
    /// Temperature and stock: this node's own, and those that all nodes show until then.
    simulated: [f64; 2],
    simulated_elsewhere: Option<([f64; 2], Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Clients are told to leave a few at a time: none is let in, but the room goes on for those who are still in.
    Leaving,
    /// The server is stopping: no client is let in, no message accepted, no leaving announced.
    Draining,
}

/// What is remembered of a client that is in.
#[derive(Debug)]
struct Client {
    /// Its number over the server's life.
    number: u64,
    address: IpAddr,
    place: Place,
    faults_in_a_row: u32,
    /// It is being sent a Close, and is heard no more.
    dismissed: bool,
}

#[derive(Debug)]
enum Place {
    Room(Limiter, Membership),
    Dashboard {
        /// Whether it takes compressed ticks.
        deflate: bool,
    },
    Echo,
    Inside,
}

impl Engine {
    /// A lab without clients.
    pub fn new(context: Arc<Context>, now: Now) -> Self {
        Self {
            phase: Phase::Serving,
            clients: Vec::with_capacity(context.limits.max_sockets),
            occupancy: Occupancy::default(),
            opened: 0,
            room: Room::new(Arc::clone(&context)),
            dashboard: Dashboard::new(context.limits.deflate.level),
            readers: Readers::default(),
            echoes: 0,
            next_tick: now.instant + context.limits.metric_interval,
            publisher: context
                .cluster
                .clone()
                .map(|settings| Box::new(Publisher::new(settings, now.instant))),
            simulated: [0.0; 2],
            simulated_elsewhere: None,
            context,
        }
    }

    /// Clients that are in.
    pub fn client_count(&self) -> usize {
        self.occupancy.clients()
    }

    /// Whether this client is in.
    pub fn has(&self, client: ClientId) -> bool {
        matches!(self.clients.get(client.index()), Some(Some(_)))
    }

    /// Whether [`Engine::open`] may let in another client from this address.
    ///
    /// # Errors
    /// Why there is no place.
    pub fn vacancy(&self, address: IpAddr) -> Result<(), Full> {
        match self.phase {
            Phase::Serving => self.occupancy.room_for(address, &self.context.limits),
            Phase::Leaving | Phase::Draining => Err(Full::Draining),
        }
    }

    /// A client, for which there is a place, comes in. Returns its number for the log: 1, 2, 3, … over the server's life.
    pub fn open(
        &mut self,
        now: Now,
        client: ClientId,
        address: IpAddr,
        upgrade: &Upgrade,
        output: &mut Output,
    ) -> u64 {
        let deflate = upgrade.deflate.is_some();
        let ping_interval = self.context.limits.ping_interval;
        let welcome = Welcome {
            server: self.context.model,
            ping_interval_ms: u64::try_from(ping_interval.as_millis()).unwrap_or(u64::MAX),
        };
        let place = match &upgrade.opening {
            Opening::Chat(replay) => {
                let membership = self
                    .room
                    .join(now, client, replay, deflate, welcome, output);
                output.replaying = membership.is_replaying();
                Place::Room(Limiter::default(), membership)
            }
            Opening::Dashboard => {
                self.dashboard.join(now, client, welcome, output);
                Place::Dashboard { deflate }
            }
            Opening::Echo => {
                self.echoes += 1;
                Place::Echo
            }
            Opening::Inside { experiments } => {
                self.welcome_reader(now, *experiments, welcome, output);
                Place::Inside
            }
        };
        if self.clients.len() <= client.index() {
            self.clients.resize_with(client.index() + 1, || None);
        }
        self.opened += 1;
        self.clients[client.index()] = Some(Client {
            number: self.opened,
            address,
            place,
            faults_in_a_row: 0,
            dismissed: false,
        });
        self.occupancy.enter(address);
        self.count_clients();
        self.opened
    }

    /// A client has left, or is about to. What it is still owed of the room comes next in its output; it gets nothing
    /// of the room or the dashboard from now on.
    pub fn leave(&mut self, now: Now, client: ClientId, output: &mut Output) {
        let Some(left) = self.clients.get_mut(client.index()).and_then(Option::take) else {
            return;
        };
        match left.place {
            Place::Room(_, membership) => {
                let announced = self.phase != Phase::Draining;
                self.room.leave(now, client, membership, announced, output);
            }
            Place::Dashboard { .. } => self.dashboard.leave(client),
            Place::Echo => self.echoes -= 1,
            Place::Inside => self.forget_reader(client),
        }
        self.occupancy.leave(left.address);
        self.count_clients();
    }

    /// A member's socket has taken all it was sent: the next step of its replay, if it has one under way.
    pub fn continue_replay(&mut self, now: Now, client: ClientId, output: &mut Output) {
        let Some(Client {
            place: Place::Room(_, membership),
            ..
        }) = client_mut(&mut self.clients, client)
        else {
            return;
        };
        let Membership::Replaying(replaying) = *membership else {
            return;
        };
        if let Some(moved_on) = self.room.replay(now, client, replaying, output) {
            *membership = moved_on;
            output.replaying = moved_on.is_replaying();
        } else {
            self.context
                .counters
                .refused(now.instant, Broken::SlowConsumer);
            output.close = Some(Close {
                code: CloseCode::Policy,
                reason: "too slow: the history it reads has moved on",
            });
        }
    }

    /// What is left of a member's replay, which a stopping server sends at once, before its Close.
    pub fn end_replay(&mut self, client: ClientId) -> Vec<Bytes> {
        let Some(Client {
            place: Place::Room(_, membership),
            ..
        }) = client_mut(&mut self.clients, client)
        else {
            return Vec::new();
        };
        match std::mem::replace(membership, Membership::Live) {
            Membership::Replaying(replaying) => self.room.end_replay(replaying),
            Membership::Live => Vec::new(),
        }
    }

    /// A member of the room asks for something, or tried to. Tells whether it went out to the room.
    pub fn chat(
        &mut self,
        now: Now,
        client: ClientId,
        request: &Result<ChatRequest<'_>, RefusedChat<'_>>,
        output: &mut Output,
    ) -> bool {
        match request {
            Ok(ChatRequest::Say(chat)) => return self.say(now, client, chat, output),
            Ok(ChatRequest::Ping) => output.push_reply(&Outgoing::Pong { ts: now.unix_ms }),
            Err(refused) => self.fault(now, client, refused.fault, refused.cid.as_deref(), output),
        }
        false
    }

    /// A message is acknowledged in the same step in which it is appended to the log. While the server drains neither
    /// happens: the Close that is on its way tells the client that its message was not taken.
    fn say(&mut self, now: Now, client: ClientId, chat: &Chat<'_>, output: &mut Output) -> bool {
        let Some(Client {
            place: Place::Room(limiter, _),
            faults_in_a_row,
            dismissed,
            ..
        }) = client_mut(&mut self.clients, client)
        else {
            return false;
        };
        if self.phase == Phase::Draining || *dismissed {
            return false;
        }
        let inside = &self.context.inside;
        let followed = inside.follow.is(chat.cid.as_deref());
        if followed {
            inside.follow.mark(Hop::Engine, inside.now(), SAY);
        }
        let said_before = self.room.said_before(chat);
        if said_before.is_none()
            && let Err(wait) = limiter.accept(now.instant, self.context.limits.chat_interval)
        {
            let fault = Fault::RateLimited {
                retry_after_ms: whole_ms(wait),
            };
            self.fault(now, client, fault, chat.cid.as_deref(), output);
            return false;
        }
        *faults_in_a_row = 0;
        if followed {
            inside.follow.mark(Hop::Rules, inside.now(), SAY);
        }
        let Some(id) = said_before.or_else(|| self.room_in_memory()?.say(now, chat).into()) else {
            return self.hand_to_redis(now, client, chat, output);
        };
        if followed {
            let (inside, position) = (&self.context.inside, self.room.log().newest());
            inside.follow.appended(position, inside.now(), SAY);
        }
        if let Some(cid) = chat.cid.as_deref() {
            output.push_reply(&Outgoing::Ack {
                cid,
                id,
                ts: now.unix_ms,
                stored: self.stored_here().name(),
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
        output: &mut Output,
    ) {
        match request {
            Ok(DashboardRequest::Subscribe(subscribe)) => {
                if let Some(client) = client_mut(&mut self.clients, client) {
                    client.faults_in_a_row = 0;
                }
                let missing = &self.context.missing_metrics;
                let (missing, known): (Vec<_>, Vec<_>) = subscribe
                    .metrics
                    .iter()
                    .partition(|metric| missing.contains(metric));
                self.dashboard.subscribe(now, client, &known, output);
                if subscribe.unknown || !missing.is_empty() {
                    self.fault(now, client, Fault::UnknownMetric, None, output);
                }
            }
            Ok(DashboardRequest::Ping) => output.push_reply(&Outgoing::Pong { ts: now.unix_ms }),
            Err(fault) => self.fault(now, client, *fault, None, output),
        }
    }

    /// A client's message is refused before it is looked into.
    pub fn refuse(
        &mut self,
        now: Now,
        client: ClientId,
        refused: &RefusedChat<'_>,
        output: &mut Output,
    ) {
        self.fault(now, client, refused.fault, refused.cid.as_deref(), output);
    }

    /// The next members to be sent to; see [`BroadcastLog::next_batch`].
    pub fn next_batch(&mut self, members_max: usize) -> Batch {
        self.room.next_batch(members_max)
    }

    /// The room's log, to be asked how far it lags.
    pub fn log(&self) -> &BroadcastLog {
        self.room.log()
    }

    /// When [`Engine::tick`] or [`Engine::summarise`] has something to do.
    pub fn deadline(&self) -> Instant {
        let others = [self.room.deadline(), self.readers.deadline()];
        let others = others.into_iter().flatten();
        others.fold(self.next_tick, Instant::min)
    }

    /// Whether the dashboard's tick is due.
    pub fn tick_is_due(&self, now: Now) -> bool {
        now.instant >= self.next_tick
    }

    /// Sends the dashboard's values, each watcher's through `deliver`, and plans the next tick. A tick that comes
    /// late does not bring the next one closer, and one missed altogether is not made up for.
    pub fn tick(&mut self, now: Now, values: &Values, deliver: impl FnMut(ClientId, &Bytes)) {
        let interval = self.context.limits.metric_interval;
        self.next_tick += interval;
        if self.next_tick <= now.instant {
            self.next_tick = now.instant + interval;
        }
        let values = self.shared_values(now, values);
        let clients = &self.clients;
        let is_deflate = |client: ClientId| {
            let place = clients[client.index()].as_ref().map(|client| &client.place);
            matches!(place, Some(Place::Dashboard { deflate: true }))
        };
        let sent = self.dashboard.tick(now, &values, is_deflate, deliver);
        self.context.counters.deliveries.inc_by(sent);
    }

    /// Sends the summary of a large room if one is due.
    pub fn summarise(&mut self, now: Now) {
        self.room.summarise(now);
    }

    /// The server is about to stop, and closes its clients a few at a time.
    pub fn close_the_door(&mut self) {
        self.phase = Phase::Leaving;
    }

    /// This client is about to be sent a Close by another thread than its own. It is heard no more, so that no message is
    /// acknowledged that would stand behind it.
    pub fn dismiss(&mut self, client: ClientId) {
        if let Some(client) = client_mut(&mut self.clients, client) {
            client.dismissed = true;
        }
    }

    /// The server is stopping.
    pub fn drain(&mut self) {
        self.phase = Phase::Draining;
        self.stop_stepping();
    }

    /// Whether the server is stopping, or about to.
    pub fn is_draining(&self) -> bool {
        self.phase != Phase::Serving
    }

    fn fault(
        &mut self,
        now: Now,
        client: ClientId,
        fault: Fault,
        cid: Option<&str>,
        output: &mut Output,
    ) {
        let counters = &self.context.counters;
        counters.refused(now.instant, fault);
        let Some(client) = client_mut(&mut self.clients, client) else {
            return;
        };
        client.faults_in_a_row += 1;
        if client.faults_in_a_row > MAX_FAULTS_IN_A_ROW {
            counters.refused(now.instant, Broken::TooManyFaults);
            output.close = Some(Close {
                code: CloseCode::Policy,
                reason: "too many refused messages in a row",
            });
            return;
        }
        let retry_after_ms = match fault {
            Fault::RateLimited { retry_after_ms } | Fault::AddressRate { retry_after_ms } => {
                Some(retry_after_ms)
            }
            _ => None,
        };
        output.push_reply(&Outgoing::Error {
            text: fault.text(),
            ts: now.unix_ms,
            code: fault.code(),
            retry_after_ms,
            stored: None,
            cid,
        });
    }

    fn count_clients(&self) {
        let counters = &self.context.counters;
        counters.set_clients("chat", self.room.online());
        counters.set_clients("dashboard", self.dashboard.watchers());
        counters.set_clients("echo", self.echoes);
        counters.set_clients("inside", self.readers.count());
    }
}

/// Apart from the engine, so that a client can be held beside the room.
fn client_mut(clients: &mut [Option<Client>], client: ClientId) -> Option<&mut Client> {
    clients.get_mut(client.index())?.as_mut()
}

/// How long to wait, in milliseconds, rounded up.
pub(crate) fn whole_ms(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
