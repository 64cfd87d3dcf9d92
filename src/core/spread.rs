//! The clients of a stopping server, who are told to leave a few at a time, so that they do not return as one.

use std::time::{Duration, Instant};

/// The time between two steps; each tells those whose time has come.
pub(crate) const STEP: Duration = Duration::from_millis(50);
/// What a restart takes at least: no client need return sooner.
const RESTART_MIN: Duration = Duration::from_secs(1);

/// The clients that have not been told yet, by whatever a server knows them.
#[derive(Debug)]
pub(crate) struct Spread<C> {
    began: Instant,
    over: Duration,
    all: usize,
    clients: Vec<C>,
}

impl<C> Spread<C> {
    /// Spreads these clients over this time.
    pub(crate) fn new(now: Instant, over: Duration, clients: Vec<C>) -> Self {
        Self {
            began: now,
            over,
            all: clients.len(),
            clients,
        }
    }

    /// Those whose time has come: they are spread evenly, the first leave at once.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<C> {
        let left = self
            .over
            .saturating_sub(now.saturating_duration_since(self.began));
        let kept = if self.over.is_zero() {
            0
        } else {
            // Rounded down; a machine has fewer clients than there are nanoseconds in a second.
            let kept = self.all as u128 * left.as_nanos() / self.over.as_nanos();
            let one_at_once = self.all.saturating_sub(1);
            usize::try_from(kept)
                .unwrap_or(one_at_once)
                .min(one_at_once)
        };
        self.clients.split_off(kept.min(self.clients.len()))
    }

    /// Whether all have been told.
    pub(crate) fn is_over(&self) -> bool {
        self.clients.is_empty()
    }

    /// How long a client that leaves now may take to return: until the last one has left and the server is back, and as
    /// long again as they all took to leave.
    pub(crate) fn retry_after(&self, now: Instant) -> Duration {
        let all = u32::try_from(self.all.max(1)).unwrap_or(u32::MAX);
        let last = self.over / all * (all - 1);
        let gone = now.saturating_duration_since(self.began);
        last.saturating_sub(gone) + last + RESTART_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn clients_leave_evenly_and_the_first_at_once() {
        let start = Instant::now();
        let mut spread = Spread::new(start, ms(300), vec!["first", "second", "third"]);
        let mut told = Vec::new();
        for step in 0..=6 {
            for client in spread.take_due(start + ms(50 * step)) {
                told.push((50 * step, client));
            }
        }
        assert_eq!(
            told.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
            [0, 150, 250]
        );
        assert!(spread.is_over());
        let one = Spread::new(start, ms(60_000), vec![()]);
        assert_eq!(one.retry_after(start), RESTART_MIN, "nobody to wait for");
    }

    #[test]
    fn a_client_is_told_to_wait_until_the_others_have_left() {
        let start = Instant::now();
        let spread = Spread::new(start, ms(1000), vec![(); 10]);
        assert_eq!(spread.retry_after(start), ms(900 + 900) + RESTART_MIN);
        assert_eq!(
            spread.retry_after(start + ms(500)),
            ms(400 + 900) + RESTART_MIN
        );
        assert_eq!(spread.retry_after(start + ms(2000)), ms(900) + RESTART_MIN);
    }

    proptest! {
        /// Whenever it is asked, as many are left as of the time.
        #[test]
        fn all_leave_and_no_step_takes_more_than_its_share(clients in 0_usize..500, over in 0_u64..5000, steps in prop::collection::vec(0_u64..700, 1..60)) {
            let start = Instant::now();
            let mut spread = Spread::new(start, ms(over), (0..clients).collect());
            let (mut at, mut left) = (0, clients);
            for step in steps {
                at += step;
                left -= spread.take_due(start + ms(at)).len();
                let share = (clients as u64 * over.saturating_sub(at)).checked_div(over).unwrap_or(0);
                prop_assert_eq!(left as u64, share.min(clients.saturating_sub(1) as u64));
            }
            left -= spread.take_due(start + ms(over)).len();
            prop_assert_eq!(left, 0);
            prop_assert!(spread.is_over());
        }
    }
}
