//! The load generator: one mio loop, thousands of clients, lean enough not to be what is measured.
//!
//! In reading order: [`frames`] finds frames and skips payloads; [`message`] stamps what is sent; [`tally`]
//! counts; [`ticks`] is the dashboard's time; [`workload`] logs the open loop; [`client`] is one connection; [`receive`]
//! is what a read brings, [`room_record`] what spares most reads of a room to be taken apart; [`clients`] is all of them, [`send`] what they say, [`verify`] what they must have; [`alarm`]
//! wakes the loop in time, [`busy_poll`] keeps it awake; here, a plan is carried out phase by phase.

mod alarm;
mod arrival;
mod busy_poll;
mod client;
mod clients;
mod follow;
mod frames;
mod message;
mod receive;
mod room_record;
mod send;
mod tally;
mod ticks;
mod verify;
mod workload;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use mio::{Events, Poll, Token};

use crate::measure::procstat;
use crate::plan::{Ending, Moment, Plan};
use alarm::{Alarm, nanos};
use busy_poll::BusyPoll;
pub(crate) use client::{Endpoint, Foreign, TEXT_PLACE};
use clients::Clients;
pub(crate) use frames::{FrameReader, From, encode};
use tally::latency_histogram;
pub(crate) use tally::{Ends, ErrorKind, Latency, Step, Tally};
use verify::Exactness;

const EVENTS_PER_POLL: usize = 1024;
/// Clients on their way in at once: below the backlog that servers commonly give to `listen`.
const JOINING_MAX: usize = 100;
/// The room counts as settled when a spell of this length brings less than a notice for every other client.
const QUIET_SPELL: Duration = Duration::from_millis(300);
/// Time to lay out the schedule before its first message is due.
const HEAD_START: Duration = Duration::from_millis(20);
/// How often the drain looks whether everything has arrived.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// Clients that are served between two looks at the clock: some 20 µs.
const VISITS_PER_LOOK: usize = 8;
/// A step of the timeline.
const STEP: Duration = Duration::from_millis(100);
const ALARM: Token = Token(usize::MAX);

/// What came of a plan.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The window as it really was.
    pub(crate) window: Duration,
    /// Messages due in the window, and how many of them were never sent.
    pub(crate) due: u64,
    pub(crate) unsent: u64,
    /// Deliveries the window asked for, and deliveries made within it.
    pub(crate) deliveries_due: u64,
    pub(crate) deliveries: u64,
    /// Bytes received within the window, frame headers included.
    pub(crate) bytes: u64,
    /// After the drain, over the whole load: what clients must have, and what they have.
    pub(crate) exactness: Exactness,
    pub(crate) tally: Tally,
    /// As the window opened.
    pub(crate) delivered_before: u64,
    /// How late the dashboard's ticks came.
    pub(crate) ticks: Latency,
    /// From the first client's start until the last had joined.
    pub(crate) joining: Duration,
    /// From the moment when all connections dropped until all clients were back.
    pub(crate) storm: Option<Duration>,
    /// The generator's own CPU time in the window, and its wait for a core, as shares of it; none where the system
    /// does not tell.
    pub(crate) generator_cpu: Option<f64>,
    pub(crate) generator_waited: Option<f64>,
}

/// Carries out `plan` against the server at `target`, on a core that the caller may have to itself.
///
/// `on_moment` is called between turns of the loop and must be quick.
pub(crate) fn run(
    plan: &Plan,
    target: &Endpoint,
    owns_core: bool,
    stop: &Arc<AtomicBool>,
    on_moment: &mut dyn FnMut(Moment),
) -> Result<Outcome> {
    let mut generator = Generator::new(plan, target, owns_core, Arc::clone(stop))?;
    let joining = generator.join(JOINING_MAX, plan.join_max)?;
    generator.ensure_all_joined()?;
    generator.settle(plan.join_max)?;
    on_moment(Moment::Joined);

    let start_ns = generator.clients.now_ns() + nanos(HEAD_START);
    let open_ns = start_ns + nanos(plan.warm_up);
    let close_ns = open_ns + nanos(plan.window);
    generator.clients.begin(start_ns, open_ns..close_ns);
    generator.run_until(open_ns)?;
    on_moment(Moment::WindowOpens);
    let opened = generator.snapshot();
    generator.run_window(open_ns..close_ns, on_moment)?;
    let closed = generator.snapshot();
    on_moment(Moment::WindowCloses);
    generator.drain(plan.drain_max)?;

    let storm = match plan.ending {
        Ending::Leave => None,
        Ending::Storm => Some(generator.storm(plan.join_max)?),
    };

    Ok(generator.outcome(joining, storm, opened, closed))
}

struct Generator {
    poll: Poll,
    events: Events,
    alarm: Alarm,
    busy_poll: BusyPoll,
    clients: Clients,
    stop: Arc<AtomicBool>,
}

/// Readings of which only differences matter.
#[derive(Debug, Clone, Copy)]
struct Snapshot {
    at_ns: u64,
    delivered: u64,
    bytes: u64,
    /// Without what was spent staying awake.
    own_cpu: Option<Duration>,
    own_wait: Option<Duration>,
}

impl Generator {
    fn new(plan: &Plan, target: &Endpoint, owns_core: bool, stop: Arc<AtomicBool>) -> Result<Self> {
        let poll = Poll::new().context("cannot make a poll")?;
        let alarm = Alarm::new(&poll, ALARM).context("cannot make a timer")?;
        let registry = poll
            .registry()
            .try_clone()
            .context("cannot share the poll")?;
        let clients = Clients::new(&plan.groups, plan.text_bytes, target.clone(), registry);
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_POLL),
            alarm,
            busy_poll: BusyPoll::new(owns_core),
            clients,
            stop,
        })
    }

    /// One turn of the loop: wait, no longer than until `until_ns`; then each client that is ready. What comes
    /// due meanwhile is sent between a few clients and the next, so that a long turn does not make messages late.
    fn turn(&mut self, until_ns: u64) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        let begin_ns = self.clients.now_ns();
        let timeout = if self.busy_poll.is_on(begin_ns) {
            Duration::ZERO
        } else {
            let wake_ns = until_ns.min(self.clients.next_due_ns());
            self.alarm
                .set(begin_ns, wake_ns)
                .context("cannot set the timer")?
        };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled.context("cannot poll")?,
        }
        let woke_ns = self.clients.now_ns();
        let sent = self.clients.send_due();
        for (place, event) in self.events.iter().enumerate() {
            if event.token() != ALARM {
                self.clients.ready(event.token().0, event);
            }
            if place % VISITS_PER_LOOK == VISITS_PER_LOOK - 1 {
                self.clients.send_due();
            }
        }
        let worked = sent || !self.events.is_empty();
        if worked {
            self.clients.note_turn(woke_ns);
        }
        self.busy_poll
            .end_turn(begin_ns, self.clients.now_ns(), worked);
        Ok(())
    }

    /// The window, in steps of the timeline.
    fn run_window(
        &mut self,
        window_ns: Range<u64>,
        on_moment: &mut dyn FnMut(Moment),
    ) -> Result<()> {
        let mut step_ns = window_ns.start;
        while step_ns < window_ns.end {
            step_ns = (step_ns + nanos(STEP)).min(window_ns.end);
            self.run_until(step_ns)?;
            self.clients.count_all_followed();
            let since_open_ns = self.clients.now_ns() - window_ns.start;
            self.clients.tally.end_step(since_open_ns);
            on_moment(Moment::StepEnds);
        }
        Ok(())
    }

    fn run_until(&mut self, end_ns: u64) -> Result<()> {
        while self.clients.now_ns() < end_ns {
            self.turn(end_ns)?;
        }
        Ok(())
    }

    /// Brings in every client that stays, a limited number at a time.
    fn join(&mut self, at_once_max: usize, join_max: Duration) -> Result<Duration> {
        let begin_ns = self.clients.now_ns();
        let deadline_ns = begin_ns + nanos(join_max);
        let all = self.clients.staying();
        let lost_before = self.clients.lost;
        let mut started = 0;
        loop {
            let settled = self.clients.joined + self.clients.lost - lost_before;
            if settled >= all.len() {
                break;
            }
            while started < all.len() && started < settled.saturating_add(at_once_max) {
                self.clients.start_joining(all[started]);
                started += 1;
            }
            self.turn(deadline_ns)?;
            if self.clients.now_ns() >= deadline_ns {
                self.clients.lose_the_late();
            }
        }
        Ok(Duration::from_nanos(self.clients.now_ns() - begin_ns))
    }

    /// A load without some of its clients is another load than was asked for.
    fn ensure_all_joined(&self) -> Result<()> {
        let Clients {
            tally, lost, all, ..
        } = &self.clients;
        let reasons: Vec<String> = tally
            .errors
            .seen()
            .map(|(kind, count)| format!("{}: {count}", kind.label()))
            .collect();
        ensure!(
            *lost == 0,
            "{lost} of {} clients could not join ({})",
            all.len(),
            reasons.join(", ")
        );
        Ok(())
    }

    /// Drops every connection and brings everyone back at once.
    fn storm(&mut self, join_max: Duration) -> Result<Duration> {
        let before = std::mem::replace(&mut self.clients.tally.joins, latency_histogram());
        self.clients.drop_connections();
        let took = self.join(usize::MAX, join_max)?;
        self.clients.tally.returns = std::mem::replace(&mut self.clients.tally.joins, before);
        Ok(took)
    }

    /// Waits until the notices of all arrivals are through.
    fn settle(&mut self, settle_max: Duration) -> Result<()> {
        let deadline_ns = self.clients.now_ns() + nanos(settle_max);
        loop {
            let before = self.clients.tally.notices;
            let spell_end_ns = self.clients.now_ns() + nanos(QUIET_SPELL);
            self.run_until(spell_end_ns)?;
            let quiet = self.clients.tally.notices - before <= self.clients.all.len() as u64 / 2;
            if quiet || spell_end_ns > deadline_ns {
                return Ok(());
            }
        }
    }

    /// Waits for what is still on its way.
    fn drain(&mut self, drain_max: Duration) -> Result<()> {
        let deadline_ns = self.clients.now_ns() + nanos(drain_max);
        while self.clients.now_ns() < deadline_ns && !self.clients.has_everything() {
            let look_ns = self.clients.now_ns() + nanos(DRAIN_LOOK);
            self.run_until(look_ns)?;
        }
        self.clients.lose_stuck_visitors();
        Ok(())
    }

    fn snapshot(&mut self) -> Snapshot {
        self.clients.count_all_followed();
        Snapshot {
            at_ns: self.clients.now_ns(),
            delivered: self.clients.tally.delivered,
            bytes: self.clients.tally.bytes,
            own_cpu: procstat::own_thread_cpu()
                .map(|used| used.saturating_sub(self.busy_poll.wasted())),
            own_wait: procstat::own_thread_wait(),
        }
    }

    fn outcome(
        mut self,
        joining: Duration,
        storm: Option<Duration>,
        opened: Snapshot,
        closed: Snapshot,
    ) -> Outcome {
        let window = Duration::from_nanos(closed.at_ns - opened.at_ns);
        let share = |from: Option<Duration>, to: Option<Duration>| {
            from.zip(to)
                .map(|(from, to)| to.saturating_sub(from).as_secs_f64() / window.as_secs_f64())
        };
        let demand = self.clients.demand();
        if self.clients.is_closed_loop() {
            self.clients.tally.latency.correct_closed_loop();
        }
        self.clients.leave();
        Outcome {
            window,
            due: demand.due,
            unsent: demand.unsent,
            deliveries_due: demand.deliveries,
            deliveries: closed.delivered - opened.delivered,
            delivered_before: opened.delivered,
            bytes: closed.bytes - opened.bytes,
            exactness: self.clients.exactness(),
            joining,
            storm,
            ticks: self.clients.ticks.latency(),
            generator_cpu: share(opened.own_cpu, closed.own_cpu),
            generator_waited: share(opened.own_wait, closed.own_wait),
            tally: self.clients.tally,
        }
    }
}
