//! The record of a turn of the event loop, and the ring of the last ones.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::ser::{Serialize, SerializeTuple, Serializer};

use super::short_ticks;

/// Turns that are kept.
pub(crate) const TURNS_KEPT: usize = 4096;
/// Turns that one view shows at most; of more, the newest.
pub(crate) const TURNS_PER_VIEW: usize = 256;
/// Slow turns of which a snapshot is kept.
pub(crate) const SLOW_TURNS_KEPT: usize = 8;
/// Turns that a snapshot holds: the slow one and those before it.
const TURNS_PER_SNAPSHOT: usize = 16;
/// Classes of lengths: each twice as long as the one before, from 1 µs.
pub(crate) const LENGTH_CLASSES: usize = 20;

/// A part of a turn, in the order of the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Asleep in the poll.
    Wait,
    /// Taking the events, and reading.
    Read,
    /// Accepting.
    Accept,
    /// What is due, and the next steps of replays.
    Timers,
    /// Sending the next members what the log has for them.
    FanOut,
    /// Sending what waits for single clients.
    Flush,
    /// Removing connections.
    Reap,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 7] = [
        Self::Wait,
        Self::Read,
        Self::Accept,
        Self::Timers,
        Self::FanOut,
        Self::Flush,
        Self::Reap,
    ];

    /// Its name in views and traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Read => "read",
            Self::Accept => "accept",
            Self::Timers => "timers",
            Self::FanOut => "fan-out",
            Self::Flush => "flush",
            Self::Reap => "reap",
        }
    }
}

/// One turn, in 64 bytes. Times are in tenths of a microsecond.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TurnRecord {
    /// When it began, counted from the start of the server.
    pub start: u64,
    /// How long each stage took, in the order of [`Stage::ALL`].
    pub stages: [u32; 7],
    /// Sockets that the poll reported.
    pub ready: u32,
    /// Sockets that were read.
    pub served: u32,
    /// Members of the room that were sent to: one batch.
    pub members: u32,
    /// Bytes read.
    pub bytes_in: u32,
    /// Bytes written.
    pub bytes_out: u32,
    /// Bytes that some member still lacks at the end.
    pub lag: u32,
    /// Timers that fired.
    pub fired: u16,
    /// Connections accepted.
    pub accepted: u16,
}

const _: () = assert!(size_of::<TurnRecord>() == 64);

impl TurnRecord {
    /// How long it took but for the wait.
    pub fn busy(&self) -> u64 {
        self.stages[1..].iter().copied().map(u64::from).sum()
    }

    /// The stage that took longest, but for the wait.
    ///
    /// # Panics
    /// Never: a turn has stages.
    pub fn longest(&self) -> (Stage, u32) {
        let stages = Stage::ALL.into_iter().zip(self.stages).skip(1);
        stages
            .max_by_key(|(_, ticks)| *ticks)
            .expect("a turn has stages")
    }
}

/// A row of plain numbers: start, the stages, and the counts in the order of the fields.
impl Serialize for TurnRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_tuple(16)?;
        row.serialize_element(&self.start)?;
        for ticks in self.stages {
            row.serialize_element(&ticks)?;
        }
        for count in [
            self.ready,
            self.served,
            self.members,
            self.bytes_in,
            self.bytes_out,
            self.lag,
            self.fired.into(),
            self.accepted.into(),
        ] {
            row.serialize_element(&count)?;
        }
        row.end()
    }
}

/// Measures the stages of the turn that is under way.
#[derive(Debug)]
pub(crate) struct TurnClock {
    /// What is known of the turn so far.
    pub record: TurnRecord,
    entered: Instant,
}

impl TurnClock {
    /// Before the first turn.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            record: TurnRecord::default(),
            entered: now,
        }
    }

    /// A turn begins.
    pub(crate) fn begin(&mut self, now: Instant, start: u64) {
        self.entered = now;
        self.record = TurnRecord {
            start,
            ..TurnRecord::default()
        };
    }

    /// A stage ends, the next begins.
    pub(crate) fn leave(&mut self, stage: Stage, now: Instant) {
        let before = std::mem::replace(&mut self.entered, now);
        self.record.stages[stage as usize] += short_ticks(now.saturating_duration_since(before));
    }
}

/// A slow turn, as it was kept.
#[derive(Debug, Clone)]
pub struct SlowTurn {
    /// Its number over the server's life.
    pub number: u64,
    /// The turns before it and, last, itself.
    pub turns: Vec<TurnRecord>,
}

impl SlowTurn {
    /// Its number, start, and how long it was busy.
    pub fn row(&self) -> (u64, u64, u64) {
        let turn = self.turns.last().copied().unwrap_or_default();
        (self.number, turn.start, turn.busy())
    }
}

/// The last turns.
#[derive(Debug, Default)]
pub struct Turns {
    ring: VecDeque<TurnRecord>,
    /// Turns over the server's life.
    total: u64,
    /// How many of them have been shown.
    shown: u64,
    slow: VecDeque<SlowTurn>,
}

/// The turns that no view has shown yet.
#[derive(Debug, serde::Serialize)]
pub struct NewTurns {
    /// The number of the first row.
    pub first: u64,
    /// Turns that were too many to be rows.
    pub skipped: u64,
    /// One row for each turn.
    pub rows: Vec<TurnRecord>,
    /// All of them, skipped ones too, counted by how long they were busy: under 1 µs, 2 µs, 4 µs, …
    pub lengths: [u32; LENGTH_CLASSES],
}

impl Turns {
    /// Keeps a turn, in the place of the oldest; tells its number: 1, 2, 3, …
    pub fn push(&mut self, record: TurnRecord) -> u64 {
        if self.ring.len() == TURNS_KEPT {
            self.ring.pop_front();
        } else if self.ring.is_empty() {
            self.ring.reserve_exact(TURNS_KEPT);
        }
        self.ring.push_back(record);
        self.total += 1;
        self.total
    }

    /// Keeps a snapshot of the newest turn, which was slow, in the place of the oldest snapshot.
    pub fn keep_slow(&mut self) {
        if self.slow.len() == SLOW_TURNS_KEPT {
            self.slow.pop_front();
        }
        let first = self.ring.len().saturating_sub(TURNS_PER_SNAPSHOT);
        self.slow.push_back(SlowTurn {
            number: self.total,
            turns: self.ring.range(first..).copied().collect(),
        });
    }

    /// The last turns, oldest first, with the number of the first.
    pub fn kept(&self) -> (u64, impl ExactSizeIterator<Item = &TurnRecord>) {
        (self.first(), self.ring.iter())
    }

    /// The snapshots, oldest first.
    pub fn slow(&self) -> impl ExactSizeIterator<Item = &SlowTurn> {
        self.slow.iter()
    }

    /// The newest turns are to be shown once more, to a reader who has just come.
    pub fn rewind(&mut self) {
        self.shown = self.total.saturating_sub(TURNS_PER_VIEW as u64);
    }

    /// The turns that have not been shown, which they are now.
    pub fn take_new(&mut self) -> NewTurns {
        let first = self.shown.max(self.first() - 1);
        let new = index(first + 1 - self.first());
        let skipped = (self.ring.len() - new).saturating_sub(TURNS_PER_VIEW);
        let mut lengths = [0; LENGTH_CLASSES];
        for turn in self.ring.range(new..) {
            lengths[length_class(turn.busy())] += 1;
        }
        let dropped = first - self.shown;
        self.shown = self.total;
        NewTurns {
            first: first + 1 + skipped as u64,
            skipped: dropped + skipped as u64,
            rows: self.ring.range(new + skipped..).copied().collect(),
            lengths,
        }
    }

    /// The number of the oldest turn that is kept.
    fn first(&self) -> u64 {
        self.total - self.ring.len() as u64 + 1
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("no more than the ring holds")
}

fn length_class(ticks: u64) -> usize {
    let microseconds = Duration::from_nanos(ticks.saturating_mul(100)).as_micros();
    let class = (u128::BITS - microseconds.leading_zeros()) as usize;
    class.min(LENGTH_CLASSES - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turn(start: u64) -> TurnRecord {
        TurnRecord {
            start,
            ..TurnRecord::default()
        }
    }

    proptest! {
        /// Against the numbers 1, 2, 3, …: every turn is shown once, in order, or counted as skipped.
        #[test]
        fn each_turn_is_shown_once_or_skipped(steps in prop::collection::vec(0_usize..6000, 1..12)) {
            let mut turns = Turns::default();
            let (mut pushed, mut seen) = (0, 0);
            for count in steps {
                for _ in 0..count {
                    pushed += 1;
                    prop_assert_eq!(turns.push(turn(pushed)), pushed);
                }
                let new = turns.take_new();
                prop_assert_eq!(new.first, seen + new.skipped + 1);
                let starts: Vec<u64> = new.rows.iter().map(|row| row.start).collect();
                let expected: Vec<u64> = (new.first..=pushed).collect();
                prop_assert_eq!(starts, expected);
                prop_assert!(new.rows.len() <= TURNS_PER_VIEW);
                prop_assert!(new.skipped == 0 || new.rows.len() == TURNS_PER_VIEW);
                let counted: u32 = new.lengths.iter().sum();
                prop_assert_eq!(counted as usize, count.min(TURNS_KEPT));
                seen = pushed;
            }
            prop_assert!(turns.kept().1.len() <= TURNS_KEPT);
        }
    }

    #[test]
    fn lengths_fall_into_classes_by_doubling() {
        let class = |microseconds: u64| length_class(microseconds * 10);
        assert_eq!(
            [0, 1, 2, 3, 4, 7, 8].map(class),
            [0, 1, 2, 2, 3, 3, 4],
            "by the number of binary digits"
        );
        assert_eq!(class(u64::MAX / 10), LENGTH_CLASSES - 1);
    }

    #[test]
    fn a_slow_turn_keeps_those_before_it_and_the_oldest_gives_way() {
        let mut turns = Turns::default();
        for start in 1..=100 {
            turns.push(turn(start));
            if start % 10 == 0 {
                turns.keep_slow();
            }
        }
        let numbers: Vec<u64> = turns.slow().map(|slow| slow.number).collect();
        assert_eq!(numbers, [30, 40, 50, 60, 70, 80, 90, 100]);
        let last = turns.slow().last().expect("a snapshot");
        let starts: Vec<u64> = last.turns.iter().map(|turn| turn.start).collect();
        assert_eq!(starts, (85..=100).collect::<Vec<_>>());
    }

    #[test]
    fn stages_add_up_to_the_turn() {
        let start = Instant::now();
        let mut clock = TurnClock::new(start);
        clock.begin(start, 7);
        for (nth, stage) in (1..).zip(Stage::ALL) {
            clock.leave(stage, start + Duration::from_micros(nth * nth));
        }
        assert_eq!(clock.record.start, 7);
        assert_eq!(clock.record.stages, [10, 30, 50, 70, 90, 110, 130]);
        assert_eq!(clock.record.busy(), 480);
        assert_eq!(clock.record.longest(), (Stage::Reap, 130));
    }
}
