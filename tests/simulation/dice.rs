//! Every choice of a world: drawn from a seed, or read from bytes that a fuzzer made up.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

#[derive(Debug)]
pub(crate) enum Dice {
    Seed(Box<StdRng>),
    Bytes(Vec<u8>),
}

impl Dice {
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self::Seed(Box::new(StdRng::seed_from_u64(seed)))
    }

    /// The bytes are read from the end; after the last one all is zero, which is the calmest choice.
    #[allow(dead_code, reason = "for the fuzz target")]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.iter().rev().copied().collect())
    }

    /// From 0 to `limit` less one.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        match self {
            Self::Seed(rng) => rng.random_range(0..limit.max(1)),
            Self::Bytes(bytes) => {
                let count = if limit <= 256 { 1 } else { 4 };
                let drawn = (0..count).fold(0, |drawn, _| {
                    drawn << 8 | u64::from(bytes.pop().unwrap_or(0))
                });
                drawn % limit.max(1)
            }
        }
    }

    pub(crate) fn size(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).expect("below a usize")
    }

    /// So many times in a thousand.
    pub(crate) fn chance(&mut self, per_thousand: u64) -> bool {
        per_thousand > 0 && self.below(1000) >= 1000 - per_thousand.min(1000)
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.size(choices.len())]
    }
}
