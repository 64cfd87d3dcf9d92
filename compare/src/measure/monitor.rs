//! A monitor of the server's process and of the machine around it: looks before, during and after a load.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::procstat::{self, Machine, Switches, Usage};
use crate::plan::Moment;

/// Looks at one process, and at the machine, at the moments of a run.
#[derive(Debug)]
pub(crate) struct Monitor {
    pid: Option<u32>,
    before: Idle,
    joined: Idle,
    window: Option<Reading>,
    /// As the present step began.
    step: Option<(Instant, Usage)>,
    seen: Seen,
}

/// What a run has used.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Seen {
    /// The server's process; none where it is not known or cannot be looked at.
    pub(crate) server: Option<Used>,
    pub(crate) machine: Option<Noise>,
    /// The server at the end of each step of the window.
    pub(crate) steps: Vec<Option<StepUse>>,
}

/// What the server's process had used, and held, at the end of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct StepUse {
    /// Of a core, since the step before; the kernel counts in hundredths of a second.
    pub(crate) cpu: f64,
    pub(crate) resident_bytes: u64,
}

/// What the server's process used.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Used {
    /// CPU seconds in the window.
    pub(crate) user_s: f64,
    pub(crate) system_s: f64,
    /// In the window, over all threads.
    pub(crate) switches: Option<Switches>,
    /// Resident memory before the first client, with all of them idle, and as the window closed.
    pub(crate) resident_before_bytes: Option<u64>,
    pub(crate) resident_joined_bytes: Option<u64>,
    pub(crate) resident_loaded_bytes: u64,
    /// What all clients' joining added to the kernel's own memory: both ends of each connection, and the stacks of
    /// the server's threads.
    pub(crate) kernel_joined_bytes: Option<i64>,
    /// CPU seconds until all clients had joined.
    pub(crate) joining_s: Option<f64>,
    pub(crate) threads: u64,
}

/// What others did to the machine in the window, as shares of one core.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Noise {
    /// CPU time of processes that are neither server nor generator.
    pub(crate) others: f64,
    /// CPU time that the host gave to other virtual machines.
    pub(crate) steal: f64,
}

/// Before the load, when there is time for a look that takes long.
#[derive(Debug, Clone, Copy, Default)]
struct Idle {
    resident: Option<u64>,
    kernel: Option<u64>,
    cpu: Option<Duration>,
}

#[derive(Debug)]
struct Reading {
    server: Option<Usage>,
    own: Option<Usage>,
    machine: Option<Machine>,
    /// Counted on a thread of its own: with thousands of threads it takes too long for the load to wait.
    switches: Option<JoinHandle<Option<Switches>>>,
}

impl Monitor {
    /// Begins before the first client comes.
    pub(crate) fn new(pid: Option<u32>) -> Self {
        let before = Idle::now(pid);
        Self {
            pid,
            before,
            joined: Idle::default(),
            window: None,
            step: None,
            seen: Seen::default(),
        }
    }

    pub(crate) fn look(&mut self, moment: Moment, window: Duration) {
        match moment {
            Moment::Joined => self.joined = Idle::now(self.pid),
            Moment::WindowOpens => {
                let opened = self.read();
                self.step = opened.server.map(|usage| (Instant::now(), usage));
                self.window = Some(opened);
            }
            Moment::StepEnds => self.end_step(),
            Moment::WindowCloses => {
                if let Some(opened) = self.window.take() {
                    let closed = self.read();
                    self.seen.machine = Noise::between(&opened, &closed, window);
                    self.seen.server = self.used_between(opened, closed);
                }
            }
        }
    }

    pub(crate) fn into_seen(self) -> Seen {
        self.seen
    }

    fn end_step(&mut self) {
        let now = self
            .pid
            .and_then(procstat::usage)
            .map(|usage| (Instant::now(), usage));
        let used = self.step.zip(now).map(|((since, from), (at, to))| StepUse {
            cpu: (seconds(from.user, to.user) + seconds(from.system, to.system))
                / (at - since).as_secs_f64(),
            resident_bytes: to.resident_bytes,
        });
        self.seen.steps.push(used);
        self.step = now;
    }

    fn read(&self) -> Reading {
        Reading {
            server: self.pid.and_then(procstat::usage),
            own: procstat::usage(std::process::id()),
            machine: procstat::machine(),
            switches: self
                .pid
                .map(|pid| thread::spawn(move || procstat::switches(pid))),
        }
    }

    fn used_between(&self, opened: Reading, closed: Reading) -> Option<Used> {
        let (from, to) = opened.server.zip(closed.server)?;
        let counted = |handle: Option<JoinHandle<Option<Switches>>>| {
            handle?.join().expect("reading /proc does not panic")
        };
        let grown = self.joined.kernel.zip(self.before.kernel);
        Some(Used {
            user_s: seconds(from.user, to.user),
            system_s: seconds(from.system, to.system),
            switches: counted(closed.switches)
                .zip(counted(opened.switches))
                .map(|(to, from)| to.since(from)),
            resident_before_bytes: self.before.resident,
            resident_joined_bytes: self.joined.resident,
            resident_loaded_bytes: to.resident_bytes,
            kernel_joined_bytes: grown.map(|(to, from)| to.cast_signed() - from.cast_signed()),
            joining_s: self
                .joined
                .cpu
                .zip(self.before.cpu)
                .map(|(to, from)| seconds(from, to)),
            threads: to.threads,
        })
    }
}

impl Idle {
    fn now(pid: Option<u32>) -> Self {
        Self {
            resident: pid.and_then(procstat::resident_exactly),
            kernel: procstat::machine().map(|machine| machine.kernel_bytes),
            cpu: pid.and_then(procstat::cpu_exactly),
        }
    }
}

impl Noise {
    fn between(opened: &Reading, closed: &Reading, window: Duration) -> Option<Self> {
        let (from, to) = opened.machine.zip(closed.machine)?;
        let used = |from: Option<Usage>, to: Option<Usage>| {
            from.zip(to).map_or(0.0, |(from, to)| {
                seconds(from.user, to.user) + seconds(from.system, to.system)
            })
        };
        let ours = used(opened.server, closed.server) + used(opened.own, closed.own);
        let window_s = window.as_secs_f64();
        Some(Self {
            others: ((seconds(from.busy, to.busy) - ours) / window_s).max(0.0),
            steal: seconds(from.steal, to.steal) / window_s,
        })
    }
}

fn seconds(from: Duration, to: Duration) -> f64 {
    to.saturating_sub(from).as_secs_f64()
}
