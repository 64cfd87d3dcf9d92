//! What the threads of the thread server are doing, and what they waited for.
//!
//! A thread's state is one byte in a table, which the thread itself sets, and only while somebody watches. Waits for the
//! room's lock are timed on the contended path only, which reads the clock in any case.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

/// Spans that are kept.
pub(crate) const SPANS_KEPT: usize = 4096;
/// Spans that one view shows at most; of more, the newest.
pub(crate) const SPANS_PER_VIEW: usize = 256;

/// What a client's thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ThreadState {
    /// There is none.
    Absent,
    /// In the kernel, until its client speaks.
    Asleep,
    /// At work on what its client said.
    Reading,
    /// For the room's lock.
    WaitingForLock,
    /// It has the room's lock.
    HoldingLock,
    /// To its own client, or for the room.
    Sending,
    /// For its own client, which reads slowly, or for a room that lags.
    WaitingForClient,
}

impl ThreadState {
    /// Every state, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Absent,
        Self::Asleep,
        Self::Reading,
        Self::WaitingForLock,
        Self::HoldingLock,
        Self::Sending,
        Self::WaitingForClient,
    ];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    fn of(byte: u8) -> Self {
        Self::ALL[usize::from(byte).min(Self::COUNT - 1)]
    }

    /// Its name in traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Asleep => "asleep",
            Self::Reading => "read",
            Self::WaitingForLock => "wait for the lock",
            Self::HoldingLock => "hold the lock",
            Self::Sending => "send",
            Self::WaitingForClient => "wait for a slow client",
        }
    }
}

/// The thread that is not a client's: it ticks, and takes over from a thread that has sent long enough.
pub(crate) const TICKER: u32 = u32::MAX - 1;
const NOBODY: u32 = u32::MAX;

/// How long a thread was in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// When it began, in tenths of a microsecond since the start of the server.
    pub start: u64,
    /// How long it took, in the same unit.
    pub length: u32,
    /// The place of the thread's client, or [`TICKER`].
    pub thread: u32,
    /// What it did.
    pub state: ThreadState,
}

/// A row of plain numbers.
impl serde::Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The ticker is -1: no client has that place.
        let thread = if self.thread == TICKER {
            -1
        } else {
            i64::from(self.thread)
        };
        (self.start, self.length, thread, self.state as u8).serialize(serializer)
    }
}

/// Waits for the lock, or holds of it.
#[derive(Debug, Default)]
struct Sum {
    count: AtomicU64,
    ticks: AtomicU64,
    longest: AtomicU32,
}

/// A sum as it was since it was last asked for: how many, how long together, and the longest.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Sums {
    /// How many.
    pub count: u64,
    /// How long together, in tenths of a microsecond.
    pub ticks: u64,
    /// The longest.
    pub longest: u32,
}

impl Sum {
    fn add(&self, ticks: u32) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ticks.fetch_add(u64::from(ticks), Ordering::Relaxed);
        self.longest.fetch_max(ticks, Ordering::Relaxed);
    }

    fn take(&self) -> Sums {
        Sums {
            count: self.count.swap(0, Ordering::Relaxed),
            ticks: self.ticks.swap(0, Ordering::Relaxed),
            longest: self.longest.swap(0, Ordering::Relaxed),
        }
    }
}

/// The threads' states, and the last spans.
#[derive(Debug)]
pub struct Threads {
    states: Box<[AtomicU8]>,
    lock_waits: Sum,
    lock_holds: Sum,
    batches: AtomicU64,
    sender: AtomicU32,
    spans: Mutex<Spans>,
}

#[derive(Debug, Default)]
struct Spans {
    ring: VecDeque<Span>,
    /// How many of the newest have not been shown.
    new: usize,
}

impl Threads {
    /// No thread yet, in any of so many places.
    pub fn new(places: usize) -> Self {
        Self {
            states: (0..places).map(|_| AtomicU8::new(0)).collect(),
            lock_waits: Sum::default(),
            lock_holds: Sum::default(),
            batches: AtomicU64::new(0),
            sender: AtomicU32::new(NOBODY),
            spans: Mutex::new(Spans::default()),
        }
    }

    /// What the thread of the client in this place does from now on.
    pub fn set(&self, place: u32, state: ThreadState) {
        if let Some(byte) = self.states.get(place as usize) {
            byte.store(state as u8, Ordering::Relaxed);
        }
    }

    /// What is left of a time when somebody watched.
    pub(super) fn forget(&self) {
        let asleep = ThreadState::Asleep as u8;
        for byte in &self.states {
            // A thread that comes or goes meanwhile keeps its own word.
            let _ = byte.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
                (state != ThreadState::Absent as u8).then_some(asleep)
            });
        }
        self.lock_waits.take();
        self.lock_holds.take();
        self.batches.store(0, Ordering::Relaxed);
        self.sender.store(NOBODY, Ordering::Relaxed);
    }

    /// A thread waited for the lock.
    pub fn lock_waited(&self, span: Span) {
        self.lock_waits.add(span.length);
        self.push(span);
    }

    /// A thread held the lock for so long, in tenths of a microsecond.
    pub fn lock_held(&self, ticks: u32) {
        self.lock_holds.add(ticks);
    }

    /// A thread sent a batch for the room.
    pub fn batch_sent(&self, span: Span) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.sender.store(span.thread, Ordering::Relaxed);
        self.push(span);
    }

    /// Keeps a span, in the place of the oldest. It is not worth waiting for: one that meets another is lost.
    pub fn push(&self, span: Span) {
        let Some(mut spans) = self.spans.try_lock() else {
            return;
        };
        if spans.ring.len() == SPANS_KEPT {
            spans.ring.pop_front();
        }
        spans.ring.push_back(span);
        spans.new = (spans.new + 1).min(SPANS_PER_VIEW);
    }

    /// The last spans, oldest first.
    pub fn kept(&self) -> Vec<Span> {
        self.spans.lock().ring.iter().copied().collect()
    }

    /// What a view shows of the threads.
    pub fn take_view(&self) -> ThreadsView {
        let used = self
            .states
            .iter()
            .rposition(|byte| byte.load(Ordering::Relaxed) != ThreadState::Absent as u8);
        let places = &self.states[..used.map_or(0, |last| last + 1)];
        let per_part = places.len().div_ceil(PARTS_MAX).max(1);
        let parts: Vec<[u16; ThreadState::COUNT]> = places.chunks(per_part).map(count).collect();
        let sender = self.sender.swap(NOBODY, Ordering::Relaxed);
        let mut spans = self.spans.lock();
        let first = spans.ring.len() - std::mem::take(&mut spans.new);
        ThreadsView {
            per_part,
            parts,
            lock_waits: self.lock_waits.take(),
            lock_holds: self.lock_holds.take(),
            batches: self.batches.swap(0, Ordering::Relaxed),
            sender: (sender != NOBODY).then_some(if sender == TICKER {
                -1
            } else {
                i64::from(sender)
            }),
            spans: spans.ring.range(first..).copied().collect(),
        }
    }
}

/// Parts of the grid at most: beyond it, several threads share one.
pub(crate) const PARTS_MAX: usize = 1024;

fn count(places: &[AtomicU8]) -> [u16; ThreadState::COUNT] {
    let mut counts = [0_u16; ThreadState::COUNT];
    for byte in places {
        let state = ThreadState::of(byte.load(Ordering::Relaxed));
        counts[state as usize] = counts[state as usize].saturating_add(1);
    }
    counts
}

/// What a view shows of the threads.
#[derive(Debug, serde::Serialize)]
pub struct ThreadsView {
    /// Places of clients per part.
    pub per_part: usize,
    /// In each part of the table, how many threads are in each state.
    #[serde(serialize_with = "compact")]
    pub parts: Vec<[u16; ThreadState::COUNT]>,
    /// Waits for the room's lock: contended ones only.
    pub lock_waits: Sums,
    /// How long it was held.
    pub lock_holds: Sums,
    /// Batches sent for the room.
    pub batches: u64,
    /// The place of the last client whose thread sent for the room; -1: the ticker did.
    pub sender: Option<i64>,
    /// What was waited for, and sent.
    pub spans: Vec<Span>,
}

/// Where each part is one thread, a digit each; else a list of counts each.
fn compact<S: serde::Serializer>(
    parts: &[[u16; ThreadState::COUNT]],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if parts.iter().all(|counts| counts.iter().sum::<u16>() == 1) {
        let digit = |counts: &[u16; ThreadState::COUNT]| {
            let state = counts.iter().position(|count| *count == 1).unwrap_or(0);
            char::from(b'0' + u8::try_from(state).expect("fewer states than digits"))
        };
        serializer.collect_str(&parts.iter().map(digit).collect::<String>())
    } else {
        serializer.collect_seq(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64) -> Span {
        Span {
            start,
            length: 5,
            thread: 1,
            state: ThreadState::Sending,
        }
    }

    #[test]
    fn a_few_threads_are_a_digit_each() {
        let threads = Threads::new(8);
        threads.set(1, ThreadState::Asleep);
        threads.set(3, ThreadState::Sending);
        threads.set(99, ThreadState::Sending);
        let view = serde_json::to_value(threads.take_view()).expect("plain data");
        assert_eq!(view["parts"], "0105");
        assert_eq!(view["per_part"], 1);
    }

    #[test]
    fn thousands_of_threads_are_counted_by_parts() {
        let threads = Threads::new(8000);
        (0..7000).for_each(|place| threads.set(place, ThreadState::Asleep));
        let view = threads.take_view();
        assert_eq!((view.per_part, view.parts.len()), (7, 1000));
        assert_eq!(view.parts[0], [0, 7, 0, 0, 0, 0, 0]);
        let json = serde_json::to_string(&view).expect("plain data");
        assert!(json.len() < 20_000, "{} bytes", json.len());
    }

    #[test]
    fn rings_and_views_are_bounded_and_a_span_is_shown_once() {
        let threads = Threads::new(1);
        (0..10_000).for_each(|start| threads.push(span(start)));
        assert_eq!(threads.kept().len(), SPANS_KEPT);
        let view = threads.take_view();
        assert_eq!(view.spans.len(), SPANS_PER_VIEW);
        assert_eq!(view.spans.last(), Some(&span(9_999)));
        assert_eq!(threads.take_view().spans, []);
    }

    #[test]
    fn sums_start_anew_with_each_view() {
        let threads = Threads::new(1);
        threads.lock_waited(span(1));
        threads.lock_waited(Span {
            length: 9,
            ..span(2)
        });
        threads.lock_held(3);
        threads.batch_sent(Span {
            thread: TICKER,
            ..span(3)
        });
        let view = threads.take_view();
        let waits = Sums {
            count: 2,
            ticks: 14,
            longest: 9,
        };
        assert_eq!((view.lock_waits, view.lock_holds.count), (waits, 1));
        assert_eq!((view.batches, view.sender), (1, Some(-1)));
        let next = threads.take_view();
        assert_eq!((next.lock_waits, next.sender), (Sums::default(), None));
    }

    #[test]
    fn states_from_an_earlier_time_are_forgotten() {
        let threads = Threads::new(2);
        threads.set(1, ThreadState::HoldingLock);
        threads.forget();
        assert_eq!(threads.take_view().parts[1], [0, 1, 0, 0, 0, 0, 0]);
    }
}
