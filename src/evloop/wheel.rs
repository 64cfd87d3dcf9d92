//! The hashed timer wheel: every deadline of the event loop is on it.
//!
//! A timer hangs in the slot of its tick modulo the number of slots (Varghese and Lauck, "Hashed and Hierarchical
//! Timing Wheels", SOSP 1987, scheme 6). Insert and cancel are O(1); to expire costs one look at each slot passed plus
//! the timers in it. Timers more than a revolution away share slots with nearer ones and are passed over until their
//! tick has come. A timer never fires early: its deadline is rounded up to the next tick, as mio rounds the timeout of
//! its poll up to the next millisecond.
//!
//! The wheel is pure: it is told the time and reads no clock.

use std::time::{Duration, Instant};

use slab::Slab;

use crate::core::inside::view::{PARTS, WheelView};
use crate::core::time::nanoseconds;

/// How finely time is divided. Coarser means that more timers share a turn of the loop.
pub const TICK: Duration = Duration::from_millis(8);
/// Slots in a revolution: with ticks of 8 ms, a bit over half a minute, longer than any default deadline.
const SLOTS: usize = 4096;
const SLOTS_PER_PART: usize = SLOTS / PARTS;
const NIL: u32 = u32::MAX;

/// Timers, each carrying what is to be done when it fires.
#[derive(Debug)]
pub struct Wheel<T> {
    origin: Instant,
    /// The last tick whose timers have fired.
    current: u64,
    timers: Slab<Timer<T>>,
    /// The first timer of each slot's doubly linked list.
    heads: Vec<u32>,
    /// Timers in each part of the slots, to be shown.
    parts: [u32; PARTS],
    /// A bit for each slot that is not empty, so that the next deadline is found without walking the slots.
    occupied: [u64; SLOTS / 64],
}

#[derive(Debug)]
struct Timer<T> {
    tick: u64,
    previous: u32,
    next: u32,
    item: T,
}

/// A timer on the wheel, until it fires or is cancelled; keys are used again after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerKey(u32);

impl<T> Wheel<T> {
    /// An empty wheel whose first tick begins at `origin`, with room for so many timers.
    pub fn new(origin: Instant, capacity: usize) -> Self {
        Self {
            origin,
            current: 0,
            timers: Slab::with_capacity(capacity),
            heads: vec![NIL; SLOTS],
            parts: [0; PARTS],
            occupied: [0; SLOTS / 64],
        }
    }

    /// Adds a timer. A deadline that has passed fires with the next tick.
    ///
    /// # Panics
    /// Never below 2³² timers; there is one per socket.
    pub fn insert(&mut self, deadline: Instant, item: T) -> TimerKey {
        let since_origin = deadline.saturating_duration_since(self.origin);
        let tick = ticks_up(since_origin).max(self.current + 1);
        let slot = slot_of(tick);
        let next = self.heads[slot];
        let key = u32::try_from(self.timers.insert(Timer {
            tick,
            previous: NIL,
            next,
            item,
        }))
        .expect("fewer timers than a u32 counts: one per socket");
        if let Some(next) = self.timers.get_mut(next as usize) {
            next.previous = key;
        }
        self.heads[slot] = key;
        self.parts[slot / SLOTS_PER_PART] += 1;
        self.occupied[slot / 64] |= 1 << (slot % 64);
        TimerKey(key)
    }

    /// Takes a timer off, if it is there.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let Timer {
            tick,
            previous,
            next,
            item,
        } = self.timers.try_remove(key.0 as usize)?;
        let slot = slot_of(tick);
        self.parts[slot / SLOTS_PER_PART] -= 1;
        match self.timers.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => self.heads[slot] = next,
        }
        if let Some(next) = self.timers.get_mut(next as usize) {
            next.previous = previous;
        }
        if self.heads[slot] == NIL {
            self.occupied[slot / 64] &= !(1 << (slot % 64));
        }
        Some(item)
    }

    /// Moves every timer whose deadline has come into `fired`, in the order of ticks.
    pub fn expire(&mut self, now: Instant, fired: &mut Vec<T>) {
        let until = ticks_down(now.saturating_duration_since(self.origin));
        if until <= self.current {
            return;
        }
        // After a long sleep one revolution visits every slot.
        let first = (self.current + 1).max((until + 1).saturating_sub(SLOTS as u64));
        self.current = until;
        for tick in first..=until {
            let mut key = self.heads[slot_of(tick)];
            while let Some(timer) = self.timers.get(key as usize) {
                let next = timer.next;
                if timer.tick <= until {
                    fired.extend(self.cancel(TimerKey(key)));
                }
                key = next;
            }
        }
    }

    /// When [`Wheel::expire`] should be called next: no later than the first deadline. It may be earlier, by whole
    /// revolutions, where the nearest occupied slot holds only far timers.
    pub fn next_deadline(&self) -> Option<Instant> {
        let start = slot_of(self.current + 1);
        let ahead = self.slots_ahead(start)?;
        let tick = self.current + 1 + ahead as u64;
        Some(self.origin + Duration::from_nanos(tick * nanoseconds(TICK)))
    }

    /// How the timers lie on the wheel.
    pub fn view(&self) -> WheelView {
        WheelView {
            current: slot_of(self.current + 1) / SLOTS_PER_PART,
            parts: self.parts.to_vec(),
            part_ms: nanoseconds(TICK) * SLOTS_PER_PART as u64 / 1_000_000,
        }
    }

    /// Timers on the wheel.
    pub fn len(&self) -> usize {
        self.timers.len()
    }

    /// Whether no timer is on the wheel.
    pub fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    /// How far behind `start` the nearest occupied slot is, going round.
    fn slots_ahead(&self, start: usize) -> Option<usize> {
        let words = self.occupied.len();
        let first = self.occupied[start / 64] & (u64::MAX << (start % 64));
        if first != 0 {
            return Some(first.trailing_zeros() as usize - start % 64);
        }
        // The last word looked at is the first one again: slots before `start`, a revolution ahead.
        (1..=words).find_map(|step| {
            let word = self.occupied[(start / 64 + step) % words];
            (word != 0).then(|| step * 64 + word.trailing_zeros() as usize - start % 64)
        })
    }
}

fn slot_of(tick: u64) -> usize {
    usize::try_from(tick % SLOTS as u64).expect("a remainder of SLOTS")
}

fn ticks_up(since_origin: Duration) -> u64 {
    nanoseconds(since_origin).div_ceil(nanoseconds(TICK))
}

fn ticks_down(since_origin: Duration) -> u64 {
    nanoseconds(since_origin) / nanoseconds(TICK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cmp::Reverse;
    use std::collections::{BTreeSet, BinaryHeap};

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64),
        Cancel(usize),
        Pass(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let far = 40_000_000_u64; // µs: more than a revolution
        let step = prop_oneof![
            (0..far).prop_map(Step::Insert),
            (0..20_000_u64).prop_map(Step::Insert),
            any::<usize>().prop_map(Step::Cancel),
            (0..30_000_u64).prop_map(Step::Pass),
            (0..far).prop_map(Step::Pass),
        ];
        prop::collection::vec(step, 1..120)
    }

    proptest! {
        /// Against a binary heap: nothing early, nothing lost, nothing later than a tick, what is cancelled stays
        /// silent, and the loop is told to wake in time.
        #[test]
        fn agrees_with_a_heap(steps in steps()) {
            let origin = Instant::now();
            let mut now = origin;
            let mut wheel = Wheel::new(origin, 0);
            let mut heap = BinaryHeap::new();
            let mut live: Vec<(usize, TimerKey)> = Vec::new();
            let mut cancelled = BTreeSet::new();
            for (id, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(us) => {
                        let deadline = now + Duration::from_micros(us);
                        live.push((id, wheel.insert(deadline, (id, deadline))));
                        heap.push(Reverse((deadline, id)));
                    }
                    Step::Cancel(pick) if !live.is_empty() => {
                        let (id, key) = live.swap_remove(pick % live.len());
                        prop_assert_eq!(wheel.cancel(key).map(|(id, _)| id), Some(id));
                        cancelled.insert(id);
                    }
                    Step::Cancel(_) => {}
                    Step::Pass(us) => {
                        now += Duration::from_micros(us);
                        let mut fired = Vec::new();
                        wheel.expire(now, &mut fired);
                        for (id, deadline) in &fired {
                            prop_assert!(*deadline <= now, "early");
                            live.retain(|(other, _)| other != id);
                        }
                        let mut fired: BTreeSet<usize> = fired.into_iter().map(|(id, _)| id).collect();
                        while let Some(Reverse((deadline, id))) = heap.peek().copied() {
                            if deadline + TICK > now && !fired.contains(&id) {
                                break;
                            }
                            heap.pop();
                            prop_assert!(fired.remove(&id) || cancelled.contains(&id), "lost, or more than a tick late");
                        }
                        for id in &fired {
                            let listed = heap.iter().any(|Reverse((_, other))| other == id);
                            prop_assert!(listed, "fired twice or after it was cancelled");
                        }
                        heap.retain(|Reverse((_, id))| !fired.contains(id));
                    }
                }
                prop_assert_eq!(wheel.len(), live.len());
                let first = heap.iter().filter(|Reverse((_, id))| !cancelled.contains(id)).map(|Reverse((deadline, _))| *deadline).min();
                match (wheel.next_deadline(), first) {
                    (Some(wake), Some(first)) => prop_assert!(wake <= first.max(now) + TICK && wake + TICK > now),
                    (wake, first) => prop_assert_eq!(wake.is_none(), first.is_none()),
                }
            }
        }
    }
}
