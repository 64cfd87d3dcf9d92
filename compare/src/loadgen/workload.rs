//! A group at work: its members, its schedule, and the log of what was sent when.

use std::ops::Range;

use crate::plan::schedule::Schedule;
use crate::plan::{Group, Pace, Role};

/// In the log: due, and not sent.
const UNSENT: u32 = u32::MAX;

/// A group of the plan while it is carried out.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) group: Group,
    /// Each member's index among all clients.
    pub(crate) members: Vec<usize>,
    pub(crate) work: Work,
}

/// What a workload sends.
#[derive(Debug)]
pub(crate) enum Work {
    Nothing,
    /// Open loop.
    Scheduled(Log),
    /// Closed loop: the next slot number.
    Closed {
        next_slot: u64,
    },
}

/// The open loop's messages: which are due when, and how late each was sent.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) schedule: Schedule,
    /// Slots whose latency counts: due while the window is open.
    pub(crate) window: Range<u64>,
    /// The next slot to come due.
    next_slot: u64,
    /// Microseconds from when each slot was due until it was sent, or [`UNSENT`].
    late_us: Vec<u32>,
    /// No slot from here on is sent.
    end_slot: u64,
}

impl Workload {
    pub(crate) fn new(group: Group, members: Vec<usize>) -> Self {
        Self {
            group,
            members,
            work: Work::Nothing,
        }
    }

    /// Lays out the work: from `start_ns`, counted in `window_ns`, ending with it.
    pub(crate) fn begin(&mut self, start_ns: u64, window_ns: &Range<u64>) {
        self.work = match (self.group.role.rate_per_s(), self.group.role) {
            (Some(rate), _) => Work::Scheduled(Log::new(
                Schedule::new(start_ns, rate, self.members.len() as u64),
                window_ns,
            )),
            (None, Role::Echo { pace: Pace::Closed }) => Work::Closed { next_slot: 0 },
            (None, _) => Work::Nothing,
        };
    }

    /// How many messages of the open loop went out.
    pub(crate) fn sent(&self) -> u64 {
        self.log().map_or(0, |log| log.sent_count(0..log.end_slot))
    }

    pub(crate) fn log(&self) -> Option<&Log> {
        match &self.work {
            Work::Scheduled(log) => Some(log),
            Work::Nothing | Work::Closed { .. } => None,
        }
    }
}

impl Work {
    pub(crate) fn log_mut(&mut self) -> Option<&mut Log> {
        match self {
            Self::Scheduled(log) => Some(log),
            Self::Nothing | Self::Closed { .. } => None,
        }
    }
}

impl Log {
    fn new(schedule: Schedule, window_ns: &Range<u64>) -> Self {
        let end_slot = schedule.due_before(window_ns.end);
        let slots = usize::try_from(end_slot).expect("a run's messages fit into memory");
        Self {
            schedule,
            window: schedule.due_before(window_ns.start)..end_slot,
            next_slot: 0,
            late_us: vec![UNSENT; slots],
            end_slot,
        }
    }

    /// When the next slot comes due, if any is left.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        (self.next_slot < self.end_slot).then(|| self.schedule.due_at_ns(self.next_slot))
    }

    /// Takes the next slot if it is due.
    pub(crate) fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        if self.next_due_ns()? > now_ns {
            return None;
        }
        self.next_slot += 1;
        Some(self.next_slot - 1)
    }

    /// Notes that `slot` was sent now.
    pub(crate) fn sent(&mut self, slot: u64, now_ns: u64) {
        let late_us = now_ns.saturating_sub(self.schedule.due_at_ns(slot)) / 1_000;
        let entry = &mut self.late_us[index(slot)];
        *entry = u32::try_from(late_us).map_or(UNSENT - 1, |late| late.min(UNSENT - 1));
    }

    /// When `slot` was sent, if it was.
    pub(crate) fn sent_at_ns(&self, slot: u64) -> Option<u64> {
        match self.late_us.get(index(slot)) {
            None | Some(&UNSENT) => None,
            Some(&late_us) => Some(self.schedule.due_at_ns(slot) + u64::from(late_us) * 1_000),
        }
    }

    pub(crate) fn sent_count(&self, slots: Range<u64>) -> u64 {
        let log = &self.late_us[index(slots.start)..index(slots.end)];
        log.iter().filter(|&&late| late != UNSENT).count() as u64
    }
}

fn index(slot: u64) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ten_a_second() -> Log {
        Log::new(Schedule::new(0, 10, 2), &(1_000_000_000..2_000_000_000))
    }

    #[test]
    fn window_holds_the_slots_due_while_it_is_open() {
        let log = ten_a_second();
        // Slot 10 is due at 1.0 s, as the window opens; slot 20 at 2.0 s, as it closes.
        assert_eq!(log.window, 10..20);
        assert_eq!(log.end_slot, 20);
    }

    #[test]
    fn slots_come_due_one_by_one_and_end_with_the_window() {
        let mut log = ten_a_second();
        assert_eq!(log.take_due(0), Some(0));
        assert_eq!(log.take_due(99_999_999), None);
        assert_eq!(log.take_due(100_000_000), Some(1));
        let rest = std::iter::from_fn(|| log.take_due(u64::MAX)).count();
        assert_eq!(rest, 18);
        assert_eq!(log.next_due_ns(), None);
    }

    #[test]
    fn log_tells_sent_from_unsent() {
        let mut log = ten_a_second();
        log.sent(3, 300_250_000);
        assert_eq!(log.sent_at_ns(3), Some(300_250_000));
        assert_eq!(log.sent_at_ns(4), None);
        assert_eq!(log.sent_at_ns(4_000), None);
        assert_eq!(log.sent_count(0..20), 1);
    }
}
