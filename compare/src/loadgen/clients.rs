//! All clients of a load: how they join, receive, answer and leave. The module above decides when.

use std::ops::Range;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mio::Registry;
use mio::event::Event;
use tungstenite::protocol::frame::coding::{CloseCode, Control, OpCode};

use super::alarm::nanos;
use super::arrival;
use super::client::{Client, Endpoint, ReadOutcome, Request, Stage, Upgrade};
use super::frames::{self, FrameReader, From};
use super::receive::{Asks, Context, Received};
use super::room_record::RoomRecord;
use super::tally::{ErrorKind, OrderCheck, Tally};
use super::ticks::Ticks;
use super::workload::{Work, Workload};
use crate::plan::{Group, Pace, Role};

/// One `read` takes at most this much; it all passes through the same memory, so it stays in the cache.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// A sampled client reads less at once, and more often: each read tells one time of arrival.
const SAMPLED_READ_BYTES: usize = 4 * 1024;
/// Any key does against a server of ours; it must not be zero, or unmasking might be skipped.
pub(super) const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Every client of a plan.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) all: Vec<Client>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) tally: Tally,
    pub(crate) ticks: Ticks,
    /// Clients that stay and have joined.
    pub(crate) joined: usize,
    /// Clients lost on the way: refused, closed, reset.
    pub(crate) lost: usize,
    connections: usize,
    pub(super) target: Endpoint,
    poll: Registry,
    pub(super) text_bytes: usize,
    /// Of the load, [open, close); empty until it begins.
    pub(super) window_ns: Range<u64>,
    pub(super) next_due_ns: u64,
    epoch: Instant,
    /// The same moment by the wall clock, which dashboards write into their ticks.
    epoch_unix_ns: u64,
    buffer: Vec<u8>,
    /// For what the kernel tells beside the bytes.
    stamp_space: Vec<u8>,
    /// What the unsampled members of the room have received, and how many of them go along with it.
    pub(super) record: RoomRecord,
    pub(super) along: usize,
    pub(super) is_following: bool,
    pub(super) outgoing: Vec<u8>,
}

impl Clients {
    pub(crate) fn new(
        groups: &[Group],
        text_bytes: usize,
        target: Endpoint,
        poll: Registry,
    ) -> Self {
        let mut clients = Self {
            all: Vec::new(),
            workloads: Vec::new(),
            tally: Tally::new(),
            ticks: Ticks::default(),
            joined: 0,
            lost: 0,
            connections: 0,
            target,
            poll,
            text_bytes,
            window_ns: 0..0,
            next_due_ns: u64::MAX,
            epoch: Instant::now(),
            epoch_unix_ns: unix_ns(),
            buffer: vec![0; READ_BUFFER_BYTES],
            stamp_space: Vec::new(),
            record: RoomRecord::default(),
            along: 0,
            is_following: false,
            outgoing: Vec::new(),
        };
        clients.gather(groups);
        clients
    }

    /// Lines the clients up in the order in which they will join, the groups mixed evenly.
    fn gather(&mut self, groups: &[Group]) {
        let sizes: Vec<usize> = groups.iter().map(|group| group.clients).collect();
        self.workloads = groups
            .iter()
            .map(|group| Workload::new(group.clone(), Vec::new()))
            .collect();
        let total: usize = sizes.iter().sum();
        let mut started = vec![0; groups.len()];
        for index in 0..total {
            let furthest_behind =
                |&group: &usize| (2 * started[group] + 1) * total / sizes[group].max(1);
            let open = (0..groups.len()).filter(|&group| started[group] < sizes[group]);
            let group = open
                .min_by_key(furthest_behind)
                .expect("total is the sum of the sizes");
            let member = started[group];
            started[group] += 1;
            self.workloads[group].members.push(index);
            let sampled = is_sampled(member, &groups[group]);
            // Few messages to a client: looking into each costs next to nothing.
            let whole =
                sampled || matches!(groups[group].role, Role::Echo { .. } | Role::Subscribe);
            let wanted = if whole {
                frames::WHOLE_BYTES_MAX
            } else {
                frames::PEEK_BYTES
            };
            let order_check = sampled.then(|| OrderCheck::new(&sizes));
            self.all.push(Client::new(
                group,
                member,
                FrameReader::new(From::Server, wanted),
                order_check,
            ));
        }
    }

    /// Nanoseconds since the clients were made: the clock of everything here.
    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).expect("a run lasts less than 584 years")
    }

    /// Starts the next client on its way.
    pub(crate) fn start_joining(&mut self, index: usize) {
        let now_ns = self.now_ns();
        self.connections += 1;
        let address = self.target.address;
        if let Err(error) =
            self.all[index].connect(now_ns, index, self.connections, address, &self.poll)
        {
            self.lose(index, ErrorKind::of_connect(&error));
        }
    }

    /// Acts on what the poll says of one client.
    pub(crate) fn ready(&mut self, index: usize, event: &Event) {
        let done = match self.all[index].stage {
            Stage::Connecting { .. } => self.connected(index),
            Stage::HalfOpen { .. } | Stage::Leaving { .. } => {
                self.await_end(index);
                Ok(())
            }
            Stage::Upgrading { .. } => self.upgrade(index),
            Stage::Open { .. } => self.open_ready(index, event),
            Stage::Waiting | Stage::Gone => Ok(()),
        };
        if let Err(kind) = done {
            self.lose(index, kind);
        }
    }

    fn connected(&mut self, index: usize) -> Result<(), ErrorKind> {
        let client = &mut self.all[index];
        let role = self.workloads[client.group].group.role;
        let part = if role == Role::HalfOpen {
            Request::Half
        } else {
            Request::Whole
        };
        client.request_upgrade(role.path(), &self.target, part)
    }

    fn upgrade(&mut self, index: usize) -> Result<(), ErrorKind> {
        let Upgrade::Done {
            since_ns,
            after_head,
        } = self.all[index].read_upgrade(&mut self.buffer)?
        else {
            return Ok(());
        };
        let now_ns = self.now_ns();
        let role = self.role(&self.all[index]);
        if matches!(role, Role::Visit { .. }) {
            if self.window_ns.contains(&now_ns) {
                self.tally.visits.saturating_record(now_ns - since_ns);
            }
            self.all[index].leave(&goodbye())?;
            self.await_end(index);
            return Ok(());
        }
        let comes_again = role == Role::NonReading && !self.window_ns.is_empty();
        if !comes_again {
            self.joined += 1;
            self.tally.joins.saturating_record(now_ns - since_ns);
        }
        if role == Role::NonReading {
            return self.all[index]
                .stop_reading(index, &self.poll)
                .map_err(|_| ErrorKind::ConnectionReset);
        }
        if self.all[index].order_check.is_some()
            && let Stage::Open { stream } = &self.all[index].stage
        {
            arrival::ask(stream);
        }
        self.receive(index, &after_head)?;
        // Bytes behind the head have had their event already: under edge triggering there is no other.
        self.read(index, ReadUntil::WouldBlock)
    }

    /// Reads until the server closes, which is all that this client waits for; then it reconnects.
    fn await_end(&mut self, index: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let outcome = loop {
            match self.all[index].read(&mut buffer) {
                ReadOutcome::Bytes(_) => {}
                outcome => break outcome,
            }
        };
        self.buffer = buffer;
        if matches!(outcome, ReadOutcome::WouldBlock) {
            return;
        }
        if matches!(self.all[index].stage, Stage::HalfOpen { .. }) {
            self.tally.ends.half_open_closed += 1;
        }
        self.come_again(index);
    }

    /// Begins a new connection after one has ended: at once, or when the next visit is due.
    fn come_again(&mut self, index: usize) {
        self.all[index].drop_connection();
        let paced = matches!(
            self.role(&self.all[index]),
            Role::Visit {
                pace: Pace::Rate { .. }
            }
        );
        if !paced && self.now_ns() < self.window_ns.end {
            self.start_joining(index);
        }
    }

    fn open_ready(&mut self, index: usize, event: &Event) -> Result<(), ErrorKind> {
        if event.is_writable() && !self.all[index].unsent.is_empty() {
            self.all[index].flush()?;
            self.send_owed(index)?;
        }
        let ending = event.is_read_closed() || event.is_error();
        if event.is_readable() || ending {
            let until = if ending {
                ReadUntil::WouldBlock
            } else {
                ReadUntil::ShortRead
            };
            self.read(index, until)?;
        }
        Ok(())
    }

    fn read(&mut self, index: usize, until: ReadUntil) -> Result<(), ErrorKind> {
        if self.all[index].order_check.is_some() {
            return self.read_stamped(index, until);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let outcome = loop {
            match self.all[index].read(&mut buffer) {
                ReadOutcome::WouldBlock => break Ok(()),
                ReadOutcome::Ended(kind) => break Err(kind),
                ReadOutcome::Bytes(count) => {
                    let received = self.receive(index, &buffer[..count]);
                    if received.is_err() || (count < buffer.len() && until == ReadUntil::ShortRead)
                    {
                        break received;
                    }
                }
            }
        };
        self.buffer = buffer;
        outcome
    }

    /// The same for a sampled client, which also learns when its bytes arrived.
    fn read_stamped(&mut self, index: usize, until: ReadUntil) -> Result<(), ErrorKind> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut space = std::mem::take(&mut self.stamp_space);
        let piece = &mut buffer[..SAMPLED_READ_BYTES];
        let outcome = loop {
            match self.all[index].read_stamped(piece, &mut space) {
                (ReadOutcome::WouldBlock, _) => break Ok(()),
                (ReadOutcome::Ended(kind), _) => break Err(kind),
                (ReadOutcome::Bytes(count), ago) => {
                    let received = self.receive(index, &piece[..count]);
                    // A segment that is not used up yet tells with a later piece of itself.
                    if let Some(ago) = ago {
                        let arrived_ns = self.now_ns().saturating_sub(nanos(ago));
                        self.tally.arrived(arrived_ns);
                    }
                    if received.is_err() || (count < piece.len() && until == ReadUntil::ShortRead) {
                        break received;
                    }
                }
            }
        };
        self.tally.forget_unstamped();
        self.stamp_space = space;
        self.buffer = buffer;
        outcome
    }

    /// Takes in the bytes one client received, and answers what needs an answer.
    #[inline]
    fn receive(&mut self, index: usize, bytes: &[u8]) -> Result<(), ErrorKind> {
        self.tally.bytes += bytes.len() as u64;
        let client = &self.all[index];
        if client.order_check.is_none() && self.role(client).receives_the_room() {
            self.follow_room(index, bytes)
        } else {
            self.parse(index, bytes)
        }
    }

    /// Takes the frames apart in what one client received.
    pub(super) fn parse(&mut self, index: usize, bytes: &[u8]) -> Result<(), ErrorKind> {
        if bytes.is_empty() {
            return Ok(());
        }
        let now_ns = self.now_ns();
        let Self {
            all,
            workloads,
            tally,
            ticks,
            text_bytes,
            epoch_unix_ns,
            target,
            ..
        } = self;
        let client = &mut all[index];
        let reader = &mut client.reader;
        let role = workloads[client.group].group.role;
        let received = match (role, &mut client.order_check) {
            (Role::Echo { .. }, _) => {
                let asks = Asks {
                    group: client.group,
                    text_bytes: *text_bytes,
                    in_flight: client.in_flight,
                    foreign: target.foreign.is_some(),
                };
                Received::echo(reader, bytes, &asks)
            }
            (Role::Subscribe, _) => Received::dashboard(reader, bytes),
            (_, None) => Received::count_room(reader, bytes),
            (_, Some(order_check)) => {
                let context = Context {
                    workloads,
                    text_bytes: *text_bytes,
                    now_ns,
                };
                Received::sampled_room(reader, bytes, &context, order_check, tally)
            }
        };
        let received = received.map_err(|_| ErrorKind::BadFrame)?;
        client.received += match role {
            Role::Subscribe => received
                .ticks
                .iter()
                .filter(|&&ts| ticks.arrived(ts, *epoch_unix_ns + now_ns))
                .count() as u64,
            _ => received.messages,
        };
        tally.delivered += received.messages;
        tally.notices += received.notices;
        match role {
            Role::Spam { .. } => tally.ends.spam_refused += received.errors,
            _ => tally.errors.add(ErrorKind::ErrorAnswer, received.errors),
        }
        let errors = &mut tally.errors;
        errors.add(ErrorKind::WrongContent, received.wrong_content);
        errors.add(ErrorKind::WrongOrder, received.wrong_order);
        self.answer(index, &received, now_ns)
    }

    fn answer(&mut self, index: usize, received: &Received, now_ns: u64) -> Result<(), ErrorKind> {
        if received.closed {
            return Err(ErrorKind::ClosedByServer);
        }
        for ping in &received.pings {
            self.outgoing.clear();
            frames::encode(
                OpCode::Control(Control::Pong),
                Some(MASK),
                ping,
                &mut self.outgoing,
            );
            self.all[index].write(&self.outgoing)?;
        }
        if received.messages > 0
            && let Some(message) = self.all[index].in_flight.take()
        {
            if self.window_ns.contains(&message.due_ns) {
                let (due_ns, sent_ns) = (message.due_ns, message.sent_ns);
                if self.all[index].order_check.is_some() {
                    self.tally.received(due_ns, sent_ns, now_ns);
                } else {
                    self.tally.received_unstamped(due_ns, sent_ns, now_ns);
                }
            }
            self.send_owed(index)?;
            self.send_closed(index)?;
        }
        Ok(())
    }

    /// Begins the load at `start_ns`; what is due within `window_ns` counts, and with it the load ends.
    pub(crate) fn begin(&mut self, start_ns: u64, window_ns: Range<u64>) {
        let unix_ms = |ns: u64| (self.epoch_unix_ns + ns) / 1_000_000;
        self.ticks
            .count(unix_ms(window_ns.start)..unix_ms(window_ns.end));
        for workload in &mut self.workloads {
            workload.begin(start_ns, &window_ns);
        }
        self.window_ns = window_ns;
        self.next_due_ns = start_ns;
        self.begin_following();
        for index in 0..self.all.len() {
            if !self.role(&self.all[index]).stays() {
                self.come_again(index);
            } else if let Err(kind) = self.send_closed(index) {
                self.lose(index, kind);
            }
        }
    }

    /// The clients that are there before the load begins.
    pub(crate) fn staying(&self) -> Vec<usize> {
        (0..self.all.len())
            .filter(|&index| self.role(&self.all[index]).stays())
            .collect()
    }

    /// Drops every connection at once; the clients have yet to come back.
    pub(crate) fn drop_connections(&mut self) {
        self.joined = 0;
        for index in 0..self.all.len() {
            self.end_following(index);
        }
        self.all.iter_mut().for_each(Client::drop_connection);
    }

    /// Whether answers set the pace of the messages.
    pub(crate) fn is_closed_loop(&self) -> bool {
        self.workloads
            .iter()
            .any(|workload| matches!(workload.work, Work::Closed { .. }))
    }

    /// Says goodbye, so that the server has no errors to report; what it answers is not waited for.
    pub(crate) fn leave(&mut self) {
        for client in &mut self.all {
            let _ = client.write(&goodbye());
        }
    }

    /// Notes the length of a turn that began in the window.
    pub(crate) fn note_turn(&mut self, begin_ns: u64) {
        if self.window_ns.contains(&begin_ns) {
            self.tally
                .generator_turns
                .saturating_record(self.now_ns() - begin_ns);
        }
    }

    pub(crate) fn role(&self, client: &Client) -> Role {
        self.workloads[client.group].group.role
    }

    /// Counts a client out; the others go on.
    pub(crate) fn lose(&mut self, index: usize, kind: ErrorKind) {
        let client = &self.all[index];
        if self.role(client) == Role::NonReading && client.is_open() {
            self.tally.ends.non_reading_dropped += 1;
            return self.come_again(index);
        }
        self.tally.errors.add(kind, 1);
        self.lost += 1;
        self.end_following(index);
        // Dropping the stream closes it, which takes it out of the poll.
        self.all[index].stage = Stage::Gone;
    }

    /// Gives up on visitors that are still on their way in.
    pub(crate) fn lose_stuck_visitors(&mut self) {
        for index in 0..self.all.len() {
            let client = &self.all[index];
            let on_its_way = matches!(
                client.stage,
                Stage::Connecting { .. } | Stage::Upgrading { .. }
            );
            if on_its_way && matches!(self.role(client), Role::Visit { .. }) {
                self.lose(index, ErrorKind::JoinTimedOut);
            }
        }
    }

    /// Gives up on all clients that have not joined.
    pub(crate) fn lose_the_late(&mut self) {
        for index in self.staying() {
            if !matches!(self.all[index].stage, Stage::Open { .. } | Stage::Gone) {
                self.lose(index, ErrorKind::JoinTimedOut);
            }
        }
    }
}

/// How far to read. Under edge triggering a short read has emptied the socket, and the next bytes make a new
/// event; only the end of the stream may already have had its one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadUntil {
    ShortRead,
    WouldBlock,
}

/// A close frame with code 1000.
fn goodbye() -> Vec<u8> {
    let mut frame = Vec::new();
    let normal = u16::from(CloseCode::Normal).to_be_bytes();
    frames::encode(
        OpCode::Control(Control::Close),
        Some(MASK),
        &normal,
        &mut frame,
    );
    frame
}

fn unix_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).expect("the year is below 2554")
}

/// Spreads a group's samples evenly over its members: a client that joined late may be served last.
fn is_sampled(member: usize, group: &Group) -> bool {
    let quota = |members: usize| members * group.sampled.min(group.clients) / group.clients;
    quota(member) < quota(member + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(clients: usize, sampled: usize, role: Role) -> Group {
        Group {
            clients,
            sampled,
            role,
        }
    }

    fn clients(groups: &[Group]) -> Clients {
        let poll = mio::Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let nowhere = Endpoint::at(([127, 0, 0, 1], 1).into());
        Clients::new(groups, 16, nowhere, registry)
    }

    #[test]
    fn samples_are_as_many_as_asked_for_and_spread_out() {
        for (clients, sampled) in [(1, 1), (10, 3), (1_000, 32), (7, 100), (5, 0)] {
            let group = group(clients, sampled, Role::Listen);
            let chosen: Vec<usize> = (0..clients)
                .filter(|&member| is_sampled(member, &group))
                .collect();
            assert_eq!(chosen.len(), sampled.min(clients));
            let widest = chosen
                .windows(2)
                .map(|pair| pair[1] - pair[0])
                .max()
                .unwrap_or(0);
            assert!(widest <= clients / sampled.max(1) + 1, "{chosen:?}");
        }
    }

    #[test]
    fn groups_join_mixed_and_every_member_is_found_again() {
        let clients = clients(&[group(8, 0, Role::Listen), group(2, 0, Role::NonReading)]);
        let non_reading: Vec<usize> = clients.workloads[1].members.clone();
        assert_eq!(non_reading.len(), 2);
        assert!(
            non_reading[0] < 5 && non_reading[1] >= 5,
            "one in each half: {non_reading:?}"
        );
        for (number, workload) in clients.workloads.iter().enumerate() {
            for (member, &index) in workload.members.iter().enumerate() {
                assert_eq!(
                    (clients.all[index].group, clients.all[index].member),
                    (number, member)
                );
            }
        }
    }
}
