//! The server's process, looked at before, during and after a load.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;

use crate::loadgen::Moment;
use crate::procstat::{self, Switches, Usage};

/// Looks at one process at the moments of a run.
#[derive(Debug)]
pub(crate) struct Watch {
    pid: u32,
    resident_before: Option<u64>,
    joined: Option<Joined>,
    window: Option<Reading>,
    used: Option<Used>,
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
    pub(crate) threads: u64,
}

#[derive(Debug, Clone, Copy)]
struct Joined {
    resident: Option<u64>,
}

#[derive(Debug)]
struct Reading {
    usage: Usage,
    /// Counted on a thread of its own: with thousands of threads it takes too long for the load to wait.
    switches: JoinHandle<Option<Switches>>,
}

impl Watch {
    /// Begins before the first client comes.
    pub(crate) fn new(pid: u32) -> Self {
        let resident_before = procstat::resident_exactly(pid);
        Self { pid, resident_before, joined: None, window: None, used: None }
    }

    pub(crate) fn look(&mut self, moment: Moment) {
        match moment {
            Moment::Joined => self.joined = Some(Joined { resident: procstat::resident_exactly(self.pid) }),
            Moment::WindowOpens => self.window = self.read(),
            Moment::WindowCloses => {
                if let (Some(opened), Some(closed)) = (self.window.take(), self.read()) {
                    self.used = Some(self.used_between(opened, closed));
                }
            }
        }
    }

    /// What was seen; nothing if the process could not be looked at.
    pub(crate) fn into_used(self) -> Option<Used> {
        self.used
    }

    fn read(&self) -> Option<Reading> {
        let pid = self.pid;
        let usage = procstat::usage(pid)?;
        Some(Reading { usage, switches: thread::spawn(move || procstat::switches(pid)) })
    }

    fn used_between(&self, opened: Reading, closed: Reading) -> Used {
        let seconds = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64();
        let joined = |handle: JoinHandle<Option<Switches>>| handle.join().expect("reading /proc does not panic");
        Used {
            user_s: seconds(opened.usage.user, closed.usage.user),
            system_s: seconds(opened.usage.system, closed.usage.system),
            switches: joined(closed.switches).zip(joined(opened.switches)).map(|(to, from)| to.since(from)),
            resident_before_bytes: self.resident_before,
            resident_joined_bytes: self.joined.and_then(|joined| joined.resident),
            resident_loaded_bytes: closed.usage.resident_bytes,
            threads: closed.usage.threads,
        }
    }
}
