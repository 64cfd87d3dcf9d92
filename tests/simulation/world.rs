//! The network, the clock and the kernel of a virtual world.
//!
//! It keeps to what Linux promises and to nothing more: readiness is reported when it changes, several changes may come
//! as one event, an event may come for nothing or for a socket that is gone, and its flags are those of the moment at
//! which it is taken. A read that does not fill the buffer has taken all there was, though more may have come since.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::Token;
use ws_realtime_lab::core::counters::Counters;
use ws_realtime_lab::core::engine::Values;
use ws_realtime_lab::core::limits::Limits;
use ws_realtime_lab::core::time::Now;
use ws_realtime_lab::evloop::world::{LISTENERS, Readiness, SHUTDOWN, Socket, World};
use ws_realtime_lab::net::accept::Listener;

use crate::clients::Client;
use crate::dice::Dice;
use crate::model::Room;

/// Nanoseconds of virtual time.
pub(crate) type Time = u64;
pub(crate) const MS: Time = 1_000_000;
pub(crate) const SECOND: Time = 1000 * MS;
/// A deadline may be met so much later: a tick of the wheel, and a poll's timeout is rounded up to a millisecond.
const LATE_MAX: Time = 10 * MS;
/// What passes, now and then, while the server makes a call.
const RACE: Time = 5000;
/// Polls without time passing that are no longer work.
const POLLS_MAX: u32 = 20_000;
/// EMFILE and WSAEMFILE.
const TOO_MANY_DESCRIPTORS: i32 = if cfg!(windows) { 10024 } else { 24 };
const LAST_EVENTS: usize = 50;
const START_UNIX_MS: u64 = 1_700_000_000_000;

/// How often what goes wrong does so, in a thousand: drawn anew for each world, so that each is bad in its own way.
#[derive(Debug, Default)]
pub(crate) struct Odds {
    pub(crate) spurious: u64,
    pub(crate) stale: u64,
    pub(crate) withheld: u64,
    pub(crate) interrupted: u64,
    pub(crate) race: u64,
    pub(crate) stall: u64,
    pub(crate) clock_jump: u64,
    pub(crate) split: u64,
    pub(crate) no_pages: u64,
    pub(crate) short_send: u64,
    pub(crate) aborted_accept: u64,
    pub(crate) reset: u64,
    pub(crate) leave: u64,
    pub(crate) delay_max: Time,
    pub(crate) pace: Time,
}

impl Odds {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let mut odds = |most: u64| {
            if dice.chance(500) {
                0
            } else {
                dice.below(most + 1)
            }
        };
        Self {
            spurious: odds(300),
            stale: odds(300),
            withheld: odds(300),
            interrupted: odds(200),
            race: odds(300),
            stall: odds(20),
            clock_jump: odds(10),
            split: odds(600),
            no_pages: odds(1000),
            short_send: odds(500),
            aborted_accept: odds(300),
            reset: odds(30),
            leave: odds(50),
            delay_max: odds(50) * MS,
            pace: 5 * MS + odds(3000) * MS,
        }
    }
}

/// What is on its way from a client.
#[derive(Debug)]
pub(crate) enum Part {
    Bytes(Vec<u8>),
    End,
    Reset,
}

/// One connection: what the kernel knows of it.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "what has happened to it, each by itself"
)]
pub(crate) struct Link {
    pub(crate) client: usize,
    flight: VecDeque<Part>,
    last_arrival: Time,
    inbox: VecDeque<u8>,
    input_ended: bool,
    is_reset: bool,
    pub(crate) outbox: VecDeque<u8>,
    capacity: usize,
    /// A write was not taken whole, and there has been no room since.
    no_space: bool,
    pub(crate) was_blocked: bool,
    pub(crate) output_ended: Option<Time>,
    pub(crate) closed: Option<Time>,
    reset_when_closed: bool,
    /// The client gets a reset.
    pub(crate) resets_client: bool,
    pub(crate) upgraded: bool,
    pub(crate) accepted: Option<Time>,
    /// When the client's end of input, or its reset, has come to the server.
    pub(crate) client_left: Option<Time>,
    token: Option<Token>,
    is_ready: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    Deliver(usize),
    Read(usize),
    Act(usize),
    Connect(usize),
    Settle,
    Audit,
    Leave,
    CheckEmpty,
    Stop,
}

/// What the driver is to look at after the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Nothing,
    Empty,
}

#[derive(Debug)]
pub(crate) struct Sim {
    pub(crate) dice: Dice,
    pub(crate) odds: Odds,
    pub(crate) limits: Limits,
    pub(crate) room: Room,
    pub(crate) clients: Vec<Client>,
    pub(crate) links: Vec<Link>,
    pub(crate) look: Look,
    /// The world is kind from now on: what is on its way arrives, and nobody does anything new.
    pub(crate) settled: bool,
    pub(crate) calm_at: Time,
    pub(crate) stop_at: Option<Time>,
    /// When the server learned of it.
    pub(crate) drained_at: Option<Time>,
    pub(crate) drain_timeout: Time,
    base: Instant,
    pub(crate) now: Time,
    unix_ms: u64,
    agenda: BinaryHeap<Reverse<(Time, u64, Action)>>,
    sequence: u64,
    ready: VecDeque<usize>,
    listener_is_ready: bool,
    shutdown_is_ready: bool,
    stop_requests: usize,
    backlog: VecDeque<usize>,
    pub(crate) descriptors: usize,
    pub(crate) descriptors_max: usize,
    events_max: usize,
    stale: Vec<Token>,
    stalls: Vec<(Time, Time)>,
    polls: u32,
    trace: Option<VecDeque<String>>,
}

/// Adds a line to the last events, which is only made where they are kept.
macro_rules! note {
    ($sim:expr, $($line:tt)*) => {
        if $sim.is_traced() {
            let line = format!($($line)*);
            $sim.push_note(&line);
        }
    };
}
pub(crate) use note;

impl Sim {
    pub(crate) fn new(mut dice: Dice, limits: Limits, traced: bool) -> Self {
        let odds = Odds::draw(&mut dice);
        let unlimited = dice.chance(600);
        let descriptors_max = if unlimited {
            usize::MAX
        } else {
            2 + dice.size(20)
        };
        let events_max = dice.pick(&[1, 3, 1024]);
        Self {
            odds,
            room: Room::new(limits.history),
            limits,
            clients: Vec::new(),
            links: Vec::new(),
            look: Look::Nothing,
            settled: false,
            calm_at: Time::MAX,
            stop_at: None,
            drained_at: None,
            drain_timeout: 0,
            base: Instant::now(),
            now: 0,
            unix_ms: START_UNIX_MS,
            agenda: BinaryHeap::new(),
            sequence: 0,
            ready: VecDeque::new(),
            listener_is_ready: false,
            shutdown_is_ready: false,
            stop_requests: 0,
            backlog: VecDeque::new(),
            descriptors: 0,
            descriptors_max,
            events_max,
            stale: Vec::new(),
            stalls: Vec::new(),
            polls: 0,
            trace: traced.then(VecDeque::new),
            dice,
        }
    }

    pub(crate) fn is_traced(&self) -> bool {
        self.trace.is_some()
    }

    pub(crate) fn push_note(&mut self, line: &str) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            if trace.len() == LAST_EVENTS {
                trace.pop_front();
            }
            trace.push_back(format!("{:>12.6} s  {line}", now as f64 / 1e9));
        }
    }

    pub(crate) fn last_events(&self) -> impl Iterator<Item = &String> {
        self.trace.iter().flatten()
    }

    pub(crate) fn at(&mut self, time: Time, action: Action) {
        self.sequence += 1;
        self.agenda.push(Reverse((time, self.sequence, action)));
    }

    /// A deadline is not met early, and not late but for a stall of the whole machine, or where what is to be heard of it
    /// stands behind other output. That is a sign of life too, when it is taken.
    pub(crate) fn is_due(&self, what: &str, due: Time, link: usize) {
        let now = self.now;
        assert!(now >= due, "{what}: {} ms early", (due - now) / MS);
        let is_late = self.is_overdue(due) && !self.links[link].was_blocked;
        assert!(!is_late, "{what}: {} ms late", (now - due) / MS);
    }

    pub(crate) fn is_overdue(&self, due: Time) -> bool {
        let excused =
            |(from, to): &(Time, Time)| due + LATE_MAX >= *from && self.now <= to + LATE_MAX;
        self.now > due + LATE_MAX && !self.stalls.iter().any(excused)
    }

    // What clients do with their sockets.

    pub(crate) fn connect(&mut self, client: usize) -> usize {
        let capacity = self.dice.pick(&[1 << 10, 16 << 10, 128 << 10]);
        self.links.push(Link {
            client,
            flight: VecDeque::new(),
            last_arrival: self.now,
            inbox: VecDeque::new(),
            input_ended: false,
            is_reset: false,
            outbox: VecDeque::new(),
            capacity,
            no_space: false,
            was_blocked: false,
            output_ended: None,
            closed: None,
            reset_when_closed: false,
            resets_client: false,
            upgraded: false,
            accepted: None,
            client_left: None,
            token: None,
            is_ready: false,
        });
        let link = self.links.len() - 1;
        self.backlog.push_back(link);
        self.listener_is_ready = true;
        link
    }

    fn delay(&mut self) -> Time {
        if self.settled {
            0
        } else {
            self.dice.below(self.odds.delay_max + 1)
        }
    }

    pub(crate) fn send(&mut self, link: usize, part: Part) {
        let parts = match part {
            Part::Bytes(bytes)
                if bytes.len() > 1 && !self.settled && self.dice.chance(self.odds.split) =>
            {
                let (head, tail) = bytes.split_at(1 + self.dice.size(bytes.len() - 1));
                vec![Part::Bytes(head.to_vec()), Part::Bytes(tail.to_vec())]
            }
            part => vec![part],
        };
        for part in parts {
            let arrival = self.links[link].last_arrival.max(self.now + self.delay());
            self.links[link].last_arrival = arrival;
            self.links[link].flight.push_back(part);
            self.at(arrival, Action::Deliver(link));
        }
    }

    /// What the client has got, at most so much.
    pub(crate) fn receive(&mut self, link: usize, most: usize) -> Vec<u8> {
        let link_state = &mut self.links[link];
        let length = most.min(link_state.outbox.len());
        let bytes = link_state.outbox.drain(..length).collect();
        let free = link_state.capacity - link_state.outbox.len();
        if link_state.no_space && free >= link_state.capacity / 3 {
            link_state.no_space = false;
            self.mark_ready(link);
        }
        bytes
    }

    fn deliver(&mut self, link: usize) {
        let now = self.now;
        let Some(part) = self.links[link].flight.pop_front() else {
            return;
        };
        note!(
            self,
            "link {link}: {} arrives",
            match &part {
                Part::Bytes(bytes) => format!("{} bytes", bytes.len()),
                part => format!("{part:?}"),
            }
        );
        let state = &mut self.links[link];
        if state.closed.is_some() {
            if matches!(part, Part::Bytes(_)) {
                self.reset_client(link);
            }
            return;
        }
        match part {
            Part::Bytes(bytes) => state.inbox.extend(bytes),
            Part::End => {
                state.input_ended = true;
                state.client_left = Some(now);
            }
            Part::Reset => {
                state.is_reset = true;
                state.client_left = Some(now);
                state.outbox.clear();
            }
        }
        self.mark_ready(link);
    }

    fn reset_client(&mut self, link: usize) {
        self.links[link].resets_client = true;
        self.links[link].outbox.clear();
        let client = self.links[link].client;
        self.wake_reader(client);
    }

    fn mark_ready(&mut self, link: usize) {
        let state = &mut self.links[link];
        if state.token.is_some() && !state.is_ready {
            state.is_ready = true;
            self.ready.push_back(link);
        }
    }

    fn writable(state: &Link) -> bool {
        state.is_reset || state.capacity - state.outbox.len() >= state.capacity / 3
    }

    // What the kernel does for the server.

    fn poll(&mut self, events: &mut VirtualEvents, timeout: Option<Duration>) -> io::Result<()> {
        events.list.clear();
        let start = self.now;
        if self.dice.chance(self.odds.interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let deadline = timeout.map(|timeout| {
            start
                + u64::try_from(timeout.as_nanos())
                    .expect("short")
                    .div_ceil(MS)
                    * MS
        });
        loop {
            self.pass(self.now);
            if self.collect(events) || self.look != Look::Nothing {
                break;
            }
            let next = self.agenda.peek().map(|Reverse((time, ..))| *time);
            match (next, deadline) {
                (Some(next), deadline) if deadline.is_none_or(|deadline| next <= deadline) => {
                    self.now = self.now.max(next);
                }
                (_, Some(deadline)) => {
                    self.now = self.now.max(deadline);
                    break;
                }
                (_, None) => panic!("the loop sleeps for ever"),
            }
        }
        self.stall();
        self.polls = if self.now > start { 0 } else { self.polls + 1 };
        assert!(self.polls < POLLS_MAX, "the loop spins");
        Ok(())
    }

    /// The machine stands still, or somebody sets its clock.
    fn stall(&mut self) {
        if self.dice.chance(self.odds.stall) && !self.settled {
            let from = self.now;
            let length = self.dice.below(3 * SECOND).min(self.calm_at - from);
            self.stalls.push((from, from + length));
            self.pass(from + length);
            note!(self, "stood still for {} ms", length / MS);
        }
        if self.dice.chance(self.odds.clock_jump) && !self.settled {
            let jump = self.dice.below(200_000_000);
            self.unix_ms = match self.dice.below(3) {
                0 => self.unix_ms.saturating_sub(jump),
                1 => self.unix_ms + jump,
                _ => 0,
            };
            note!(self, "the clock is set to {}", self.unix_ms);
        }
    }

    /// Does what is due by then.
    fn pass(&mut self, until: Time) {
        while let Some(Reverse((time, _, action))) = self.agenda.peek().copied()
            && time <= until
        {
            self.agenda.pop();
            self.now = self.now.max(time);
            match action {
                Action::Deliver(link) => self.deliver(link),
                Action::Stop => {
                    note!(self, "told to stop");
                    self.stop_at.get_or_insert(self.now);
                    self.stop_requests += 1;
                    self.shutdown_is_ready = true;
                }
                other => self.client_action(other),
            }
        }
        self.now = self.now.max(until);
    }

    /// Takes what is ready, as it is now; tells whether anything is.
    fn collect(&mut self, events: &mut VirtualEvents) -> bool {
        let most = self.events_max.min(events.capacity);
        let whole = |token| Readiness {
            token,
            readable: true,
            writable: false,
            ending: false,
        };
        if std::mem::take(&mut self.listener_is_ready) {
            events.list.push(whole(LISTENERS));
        }
        if std::mem::take(&mut self.shutdown_is_ready) {
            events.list.push(whole(SHUTDOWN));
        }
        for _ in 0..self.ready.len() {
            let Some(link) = self.ready.pop_front() else {
                break;
            };
            let withheld = !events.list.is_empty() && self.dice.chance(self.odds.withheld);
            if withheld || events.list.len() >= most {
                self.ready.push_back(link);
                continue;
            }
            self.links[link].is_ready = false;
            events.list.extend(self.readiness(link));
        }
        let something = !events.list.is_empty();
        if something {
            self.add_noise(events);
        }
        something
    }

    fn readiness(&self, link: usize) -> Option<Readiness> {
        let state = &self.links[link];
        let ending = state.input_ended || state.is_reset;
        let readiness = Readiness {
            token: state.token?,
            readable: ending || !state.inbox.is_empty(),
            writable: Self::writable(state),
            ending,
        };
        let is_live = state.closed.is_none() && (readiness.readable || readiness.writable);
        is_live.then_some(readiness)
    }

    /// Events for nothing, and for sockets that are gone.
    fn add_noise(&mut self, events: &mut VirtualEvents) {
        if !self.links.is_empty() && self.dice.chance(self.odds.spurious) {
            let link = self.dice.size(self.links.len());
            events
                .list
                .extend(self.readiness(link).map(|readiness| Readiness {
                    readable: true,
                    ..readiness
                }));
        }
        if !self.stale.is_empty() && self.dice.chance(self.odds.stale) {
            let token = self.stale[self.dice.size(self.stale.len())];
            events.list.push(Readiness {
                token,
                readable: true,
                writable: true,
                ending: true,
            });
        }
    }

    fn accept(&mut self) -> io::Result<usize> {
        if self.descriptors >= self.descriptors_max && !self.settled {
            return Err(io::Error::from_raw_os_error(TOO_MANY_DESCRIPTORS));
        }
        let link = self.backlog.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        if self.dice.chance(self.odds.aborted_accept) && self.links[link].is_reset {
            self.links[link].closed = Some(self.now);
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        note!(self, "link {link}: accepted");
        self.links[link].accepted = Some(self.now);
        self.descriptors += 1;
        Ok(link)
    }

    fn read(&mut self, link: usize, buffer: &mut [u8]) -> io::Result<usize> {
        if self.dice.chance(self.odds.interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let state = &mut self.links[link];
        let length = buffer.len().min(state.inbox.len());
        for (place, byte) in buffer.iter_mut().zip(state.inbox.drain(..length)) {
            *place = byte;
        }
        let result = match (length, state.is_reset, state.input_ended) {
            (1.., _, _) => Ok(length),
            (_, true, _) => Err(io::ErrorKind::ConnectionReset.into()),
            (_, _, true) => Ok(0),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        };
        note!(self, "link {link}: read {result:?}");
        self.race();
        result
    }

    fn write(&mut self, link: usize, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.dice.chance(self.odds.interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let state = &mut self.links[link];
        assert!(
            state.output_ended.is_none(),
            "a write after the end of output"
        );
        if state.is_reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let before = state.outbox.len();
        for slice in slices {
            let free = state.capacity - state.outbox.len();
            state.outbox.extend(&slice[..slice.len().min(free)]);
        }
        let written = state.outbox.len() - before;
        if before == 0 && state.outbox.make_contiguous().starts_with(b"HTTP/1.1 101") {
            state.upgraded = true;
        }
        if written < offered {
            state.no_space = true;
            state.was_blocked = true;
        }
        let client = state.client;
        note!(self, "link {link}: wrote {written} of {offered}");
        if written == 0 && offered > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.wake_reader(client);
        self.race();
        Ok(written)
    }

    /// The rest of the world does not wait for the server's turn to end.
    fn race(&mut self) {
        if self.dice.chance(self.odds.race) {
            self.pass(self.now + RACE);
        }
    }

    fn end_output(&mut self, link: usize) -> io::Result<()> {
        let now = self.now;
        let state = &mut self.links[link];
        if state.is_reset {
            return Err(io::ErrorKind::NotConnected.into());
        }
        state.output_ended.get_or_insert(now);
        let client = state.client;
        note!(self, "link {link}: end of output");
        self.wake_reader(client);
        Ok(())
    }

    fn close(&mut self, link: usize) {
        note!(self, "link {link}: closed");
        self.descriptors -= 1;
        self.check_close(link);
        let now = self.now;
        let state = &mut self.links[link];
        state.closed = Some(now);
        self.stale.extend(state.token);
        if state.reset_when_closed || !state.inbox.is_empty() {
            self.reset_client(link);
        } else {
            state.output_ended.get_or_insert(now);
            let client = state.client;
            self.wake_reader(client);
        }
    }
}

#[derive(Debug)]
pub(crate) struct VirtualEvents {
    list: Vec<Readiness>,
    capacity: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct VirtualWorld(pub(crate) Rc<RefCell<Sim>>);

#[derive(Debug)]
pub(crate) struct VirtualSocket {
    sim: Rc<RefCell<Sim>>,
    link: usize,
}

#[derive(Debug)]
pub(crate) struct VirtualListener(pub(crate) Rc<RefCell<Sim>>);

/// A descriptor that is not a connection's.
#[derive(Debug)]
pub(crate) struct Descriptor(Rc<RefCell<Sim>>);

impl Descriptor {
    fn take(sim: &Rc<RefCell<Sim>>) -> Option<Self> {
        let mut state = sim.borrow_mut();
        if state.descriptors >= state.descriptors_max {
            return None;
        }
        state.descriptors += 1;
        Some(Self(Rc::clone(sim)))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.borrow_mut().descriptors -= 1;
        }
    }
}

/// A file in memory with the bytes of some slices.
#[derive(Debug)]
pub(crate) struct VirtualPages {
    _descriptor: Descriptor,
    slices: Vec<Bytes>,
}

impl World for VirtualWorld {
    type Socket = VirtualSocket;
    type Listener = VirtualListener;
    type Events = VirtualEvents;

    fn now(&self) -> Now {
        let sim = self.0.borrow();
        Now {
            instant: sim.base + Duration::from_nanos(sim.now),
            unix_ms: sim.unix_ms + sim.now / MS,
        }
    }

    fn instant(&self) -> Instant {
        self.now().instant
    }

    fn events(capacity: usize) -> VirtualEvents {
        VirtualEvents {
            list: Vec::new(),
            capacity,
        }
    }

    fn poll(&mut self, events: &mut VirtualEvents, timeout: Option<Duration>) -> io::Result<()> {
        self.0.borrow_mut().poll(events, timeout)
    }

    fn readiness(events: &VirtualEvents) -> impl Iterator<Item = Readiness> {
        events.list.iter().copied()
    }

    fn watch(&mut self, socket: &mut VirtualSocket, token: Token) -> io::Result<()> {
        let mut sim = self.0.borrow_mut();
        sim.links[socket.link].token = Some(token);
        sim.mark_ready(socket.link);
        Ok(())
    }

    fn take_stop_requests(&mut self) -> usize {
        let mut sim = self.0.borrow_mut();
        let now = sim.now;
        sim.drained_at.get_or_insert(now);
        std::mem::take(&mut sim.stop_requests)
    }

    fn pages(&mut self, slices: &[Bytes]) -> Option<VirtualPages> {
        let refused = {
            let mut sim = self.0.borrow_mut();
            let odds = sim.odds.no_pages;
            sim.dice.chance(odds)
        };
        (!refused).then_some(())?;
        Some(VirtualPages {
            _descriptor: Descriptor::take(&self.0)?,
            slices: slices.to_vec(),
        })
    }

    fn values(&mut self, _: Instant, clients: usize, _: &Counters) -> Values {
        [
            Some(25.0),
            Some(100.0),
            Some(30.0),
            Some(clients as f64),
            Some(0.0),
            Some(0.0),
            None,
            None,
        ]
    }
}

impl Read for VirtualSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.sim.borrow_mut().read(self.link, buffer)
    }
}

impl Write for VirtualSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.sim.borrow_mut().write(self.link, slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for VirtualSocket {
    type Pages = VirtualPages;

    /// Where `sendfile(2)` takes less than all, there may be room all the same: it moves 16 pages at a time.
    fn send_pages(&mut self, pages: &VirtualPages, lacking: Range<usize>) -> io::Result<usize> {
        let mut bytes = pages.slices[lacking].concat();
        let mut sim = self.sim.borrow_mut();
        let odds = sim.odds.short_send;
        if sim.dice.chance(odds) {
            let length = sim.dice.size(bytes.len());
            bytes.truncate(length.max(1));
        }
        sim.write(self.link, &[IoSlice::new(&bytes)])
    }

    fn last_bytes(&mut self) -> impl Write {
        self
    }

    fn end_output(&mut self) -> io::Result<()> {
        self.sim.borrow_mut().end_output(self.link)
    }

    fn reset_when_closed(&mut self) {
        self.sim.borrow_mut().links[self.link].reset_when_closed = true;
    }
}

impl Drop for VirtualSocket {
    fn drop(&mut self) {
        // What has been found wrong already is told first.
        if !std::thread::panicking() {
            self.sim.borrow_mut().close(self.link);
        }
    }
}

impl Listener for VirtualListener {
    type Socket = VirtualSocket;
    type Spare = Descriptor;

    fn accept(&self) -> io::Result<(VirtualSocket, SocketAddr, IpAddr)> {
        let link = self.0.borrow_mut().accept()?;
        let socket = VirtualSocket {
            sim: Rc::clone(&self.0),
            link,
        };
        let port = 1024 + u16::try_from(link).unwrap_or(u16::MAX - 1024);
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok((socket, peer, Ipv4Addr::LOCALHOST.into()))
    }

    fn spare(&self) -> Option<Descriptor> {
        Descriptor::take(&self.0)
    }
}
