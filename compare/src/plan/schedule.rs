//! The time at which each message is due: a pure function of its number.
//!
//! The load is an open loop. Message `slot` of a group is due at a time that depends on nothing but `slot`, so
//! a slow server cannot slow the schedule down and hide its own delay (coordinated omission). Nothing here
//! reads a clock or a socket.

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Messages at an even rate, the members of the group speaking in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    start_ns: u64,
    rate_per_s: u64,
    members: u64,
    /// Distance between members that speak one after the other. Speaking in the order of joining would be in
    /// step with the order in which servers walk their members.
    stride: u64,
}

impl Schedule {
    /// `rate_per_s` messages a second from all `members` together, the first one at `start_ns`.
    pub(crate) fn new(start_ns: u64, rate_per_s: u64, members: u64) -> Self {
        assert!(rate_per_s > 0, "a schedule without messages is no schedule");
        assert!(members > 0, "somebody has to speak");
        Self {
            start_ns,
            rate_per_s,
            members,
            stride: stride_through(members),
        }
    }

    /// The time at which message `slot` is due.
    pub(crate) fn due_at_ns(&self, slot: u64) -> u64 {
        let after_start = u128::from(slot) * NANOS_PER_SECOND / u128::from(self.rate_per_s);
        self.start_ns + u64::try_from(after_start).expect("a run lasts less than 584 years")
    }

    /// How many messages are due at or before `now_ns`: the slots `0..count`.
    pub(crate) fn due_by(&self, now_ns: u64) -> u64 {
        let Some(elapsed) = now_ns.checked_sub(self.start_ns) else {
            return 0;
        };
        let count =
            ((u128::from(elapsed) + 1) * u128::from(self.rate_per_s)).div_ceil(NANOS_PER_SECOND);
        u64::try_from(count).expect("a run lasts less than 584 years")
    }

    /// How many messages are due before `end_ns`, so that windows side by side share no slot.
    pub(crate) fn due_before(&self, end_ns: u64) -> u64 {
        end_ns
            .checked_sub(1)
            .map_or(0, |last_ns| self.due_by(last_ns))
    }

    /// The member, `0..members`, whose turn `slot` is. Everyone speaks once in `members` slots.
    pub(crate) fn member_of(&self, slot: u64) -> usize {
        let turn = slot % self.members;
        usize::try_from(turn * self.stride % self.members).expect("members are counted in memory")
    }
}

/// A step near the golden section of `members` that visits all of them: successive speakers lie far apart.
fn stride_through(members: u64) -> u64 {
    let golden = members.saturating_mul(618) / 1000;
    let coprime = |step: &u64| greatest_common_divisor(*step, members) == 1;
    (golden.max(1)..=members + 1)
        .find(coprime)
        .expect("members + 1 would do")
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_is_counted_as_due_exactly_from_its_time_on() {
        for rate in [1, 3, 7, 999, 1_000, 5_000, 333_333, 2_000_000] {
            let schedule = Schedule::new(5_000, rate, 10);
            for slot in (0..2_000).chain([1_000_000, 987_654_321]) {
                let due = schedule.due_at_ns(slot);
                assert!(
                    schedule.due_by(due) > slot,
                    "rate {rate}, slot {slot}: due at its own time"
                );
                assert!(
                    schedule.due_by(due - 1) <= slot,
                    "rate {rate}, slot {slot}: not due before"
                );
            }
        }
    }

    #[test]
    fn nothing_is_due_before_the_start() {
        let schedule = Schedule::new(1_000, 10, 1);
        assert_eq!(schedule.due_by(999), 0);
        assert_eq!(schedule.due_by(1_000), 1);
    }

    #[test]
    fn rate_is_kept_over_a_day() {
        let schedule = Schedule::new(0, 3, 1);
        assert_eq!(schedule.due_at_ns(3 * 86_400), 86_400 * 1_000_000_000);
    }

    #[test]
    fn everyone_speaks_once_a_round_whatever_the_size_of_the_room() {
        for members in 1..=300 {
            let schedule = Schedule::new(0, 1, members);
            let mut spoke = vec![0; usize::try_from(members).unwrap()];
            for slot in members..2 * members {
                spoke[schedule.member_of(slot)] += 1;
            }
            assert!(
                spoke.iter().all(|&times| times == 1),
                "room of {members}: {spoke:?}"
            );
        }
    }

    #[test]
    fn neighbours_in_time_are_not_neighbours_in_the_room() {
        let schedule = Schedule::new(0, 1, 1_000);
        let apart = |slot| {
            schedule
                .member_of(slot)
                .abs_diff(schedule.member_of(slot + 1))
        };
        assert!((0..1_000).all(|slot| apart(slot) > 300));
    }
}
