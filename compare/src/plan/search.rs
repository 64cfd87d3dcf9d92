//! The search for the largest room that keeps its promise: the size to try next, given what was seen.
//!
//! Sizes lie on a geometric grid, so that a step means the same share everywhere. From the first guess the search
//! goes up or down in strides until one size passes and a larger one fails, then halves the gap.

/// A search under way; sizes are told by their place on the grid.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    grid: Grid,
    next: i32,
    stride: i32,
    passed: Option<i32>,
    failed: Option<i32>,
}

/// The sizes that are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) steps_per_doubling: u16,
    pub(crate) least: usize,
    pub(crate) most: usize,
}

impl Search {
    /// Begins at `guess`; `stride` steps at a time until the answer is bracketed.
    pub(crate) fn new(grid: Grid, guess: usize, stride: u16) -> Self {
        Self {
            grid,
            next: grid.place_of(guess),
            stride: i32::from(stride.max(1)),
            passed: None,
            failed: None,
        }
    }

    /// The size to try; none when the answer is known.
    pub(crate) fn next(&self) -> Option<usize> {
        let known = match (self.passed, self.failed) {
            (Some(passed), Some(failed)) => failed - passed <= 1,
            (Some(passed), None) => self.grid.size(passed) >= self.grid.most,
            (None, Some(failed)) => self.grid.size(failed) <= self.grid.least,
            (None, None) => false,
        };
        (!known).then(|| self.grid.size(self.next))
    }

    /// Takes in how the size of [`Self::next`] did.
    pub(crate) fn learn(&mut self, passed: bool) {
        if passed {
            self.passed = Some(self.next);
        } else {
            self.failed = Some(self.next);
        }
        self.next = match (self.passed, self.failed) {
            (Some(passed), Some(failed)) => i32::midpoint(passed, failed),
            (Some(passed), None) => (passed + self.stride).min(self.grid.last_place()),
            (None, Some(failed)) => (failed - self.stride).max(0),
            (None, None) => self.next,
        };
    }

    /// Whether no size has failed: the answer is only as large as the grid.
    pub(crate) fn is_open_ended(&self) -> bool {
        self.failed.is_none()
    }

    /// The largest size that passed.
    pub(crate) fn answer(&self) -> Option<usize> {
        self.passed.map(|place| self.grid.size(place))
    }
}

impl Grid {
    fn size(self, place: i32) -> usize {
        let exact =
            self.least as f64 * (f64::from(place) / f64::from(self.steps_per_doubling)).exp2();
        // Two digits are all the grid means.
        let unit = 10_f64.powf((exact.log10() - 1.0).floor());
        let rounded = ((exact / unit).round() * unit).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to sizes just below"
        )]
        let size = rounded as usize;
        size.clamp(self.least, self.most)
    }

    /// The place nearest to `size`.
    fn place_of(self, size: usize) -> i32 {
        let size = size.clamp(self.least, self.most);
        let doublings = (size as f64 / self.least as f64).log2();
        whole((doublings * f64::from(self.steps_per_doubling)).round())
    }

    /// The place at which the largest size is reached.
    fn last_place(self) -> i32 {
        let doublings = (self.most as f64 / self.least as f64).log2();
        whole((doublings * f64::from(self.steps_per_doubling)).ceil())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "memory holds far fewer than 2^31 doublings of anything"
)]
fn whole(place: f64) -> i32 {
    place as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid {
        steps_per_doubling: 4,
        least: 50,
        most: 16_000,
    };

    /// Searches for a limit that is known; the answer, and what was tried.
    fn find(limit: usize, guess: usize, stride: u16) -> (Option<usize>, Vec<usize>) {
        let mut search = Search::new(GRID, guess, stride);
        let mut tried = Vec::new();
        while let Some(size) = search.next() {
            assert!(tried.len() < 30, "no end: {tried:?}");
            tried.push(size);
            search.learn(size <= limit);
        }
        (search.answer(), tried)
    }

    #[test]
    fn answer_is_within_a_step_of_the_limit() {
        for limit in [50, 51, 99, 640, 3_000, 5_000, 15_999] {
            let (answer, _) = find(limit, 1_000, 4);
            let answer = answer.unwrap();
            assert!(
                answer <= limit && answer as f64 > limit as f64 / 1.26,
                "limit {limit}, answer {answer}"
            );
        }
    }

    #[test]
    fn nothing_passes_or_everything_does() {
        assert_eq!(find(10, 1_000, 4).0, None);
        assert_eq!(find(1_000_000, 1_000, 4).0, Some(16_000));
    }

    #[test]
    fn only_a_failure_makes_an_answer_final() {
        let mut search = Search::new(GRID, 1_000, 4);
        while search.next().is_some() {
            search.learn(true);
        }
        assert!(search.is_open_ended());
        let mut search = Search::new(GRID, 1_000, 4);
        search.learn(false);
        assert!(!search.is_open_ended());
    }

    #[test]
    fn good_guess_costs_two_or_three_tries() {
        let (answer, tried) = find(5_000, 4_800, 1);
        assert!(tried.len() <= 3, "{tried:?}");
        assert_eq!(
            answer,
            Some(
                tried
                    .iter()
                    .copied()
                    .filter(|&size| size <= 5_000)
                    .max()
                    .unwrap()
            )
        );
    }

    #[test]
    fn no_size_is_tried_twice() {
        let (_, mut tried) = find(700, 1_000, 4);
        let count = tried.len();
        tried.sort_unstable();
        tried.dedup();
        assert_eq!(tried.len(), count);
    }
}
