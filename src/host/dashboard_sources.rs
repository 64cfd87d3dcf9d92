//! Where the dashboard's values come from: two simulated walks, the host's CPU, the server's own vitals.

use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::core::counters::Counters;
use crate::core::engine::Values;
use crate::core::protocol::Metric;
use crate::host::log;
use crate::host::proc::{self, CpuTime};

const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// Measures or simulates one set of values a tick.
#[derive(Debug)]
pub(crate) struct Sources {
    rng: StdRng,
    temperature: f64,
    stock: f64,
    cpu: Cpu,
    since: Instant,
    deliveries_before: u64,
}

#[derive(Debug)]
enum Cpu {
    /// The share of busy time since the last tick, and that tick's figure for when no time has passed.
    Host {
        before: CpuTime,
        percent: f64,
    },
    Simulated {
        percent: f64,
    },
}

/// Metrics that this host has no figures for.
pub(crate) fn missing() -> Vec<Metric> {
    let vitals = proc::vitals();
    let has_figure = [
        (Metric::Memory, vitals.resident_bytes.is_some()),
        (Metric::Threads, vitals.threads.is_some()),
    ];
    has_figure
        .into_iter()
        .filter(|(_, has_figure)| !has_figure)
        .map(|(metric, _)| metric)
        .collect()
}

impl Sources {
    /// Starts the walks; `rng` drives them, so a seeded one repeats them.
    pub(crate) fn new(now: Instant, simulate_cpu: bool, rng: &mut impl rand::Rng) -> Self {
        let cpu = match proc::cpu_time() {
            Some(before) if !simulate_cpu => Cpu::Host {
                before,
                percent: 0.0,
            },
            _ => Cpu::Simulated { percent: 30.0 },
        };
        Self {
            rng: StdRng::from_rng(rng),
            temperature: 25.0,
            stock: 100.0,
            cpu,
            since: now,
            deliveries_before: 0,
        }
    }

    /// The simulated walks go on from where another node's are.
    pub(crate) fn go_on_from(&mut self, simulated: [f64; 2]) {
        [self.temperature, self.stock] = simulated;
    }

    /// The values of a tick, in the order of [`Metric::ALL`](crate::core::protocol::Metric::ALL). Also brings the
    /// memory, the threads and the lost log lines in `counters` up to date.
    pub(crate) fn sample(&mut self, now: Instant, clients: usize, counters: &Counters) -> Values {
        self.temperature = (self.temperature + self.rng.random_range(-1.5..=1.5)).clamp(20.0, 35.0);
        self.stock = (self.stock * self.rng.random_range(0.98..=1.02)).clamp(50.0, 200.0);
        let lost = log::lines_lost();
        counters
            .log_lines_lost
            .inc_by(lost.saturating_sub(counters.log_lines_lost.get()));
        let vitals = proc::vitals();
        if let Some(bytes) = vitals.resident_bytes {
            counters.set_resident_bytes(bytes);
        }
        if let Some(threads) = vitals.threads {
            counters.set_threads(threads);
        }
        [
            Some(self.temperature),
            Some(self.stock),
            Some(self.cpu()),
            Some(clients as f64),
            Some(self.deliveries_per_second(now, counters)),
            Some(counters.take_longest_wait().as_secs_f64() * 1e3),
            vitals.resident_bytes.map(|bytes| bytes as f64 / MEBIBYTE),
            vitals.threads.map(|threads| threads as f64),
        ]
    }

    fn cpu(&mut self) -> f64 {
        match &mut self.cpu {
            Cpu::Host { before, percent } => {
                if let Some(after) = proc::cpu_time()
                    && after.total > before.total
                {
                    let busy = after.busy.saturating_sub(before.busy) as f64;
                    *percent = (100.0 * busy / (after.total - before.total) as f64).min(100.0);
                    *before = after;
                }
                *percent
            }
            Cpu::Simulated { percent } => {
                *percent = (*percent + self.rng.random_range(-10.0..=10.0)).clamp(10.0, 90.0);
                *percent
            }
        }
    }

    fn deliveries_per_second(&mut self, now: Instant, counters: &Counters) -> f64 {
        let deliveries = counters.deliveries.get();
        let new = deliveries - std::mem::replace(&mut self.deliveries_before, deliveries);
        let elapsed = (now - std::mem::replace(&mut self.since, now)).as_secs_f64();
        if elapsed > 0.0 {
            new as f64 / elapsed
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn walks_stay_within_their_bounds_and_repeat_by_seed() {
        let start = Instant::now();
        let stats = Counters::new();
        let walk = || {
            let mut sources = Sources::new(start, true, &mut StdRng::seed_from_u64(7));
            (1..=5000)
                .map(|tick| sources.sample(start + Duration::from_secs(tick), 3, &stats))
                .collect::<Vec<_>>()
        };
        let first = walk();
        for values in &first {
            let [temperature, stock, cpu, clients, ..] =
                values.map(|value| value.unwrap_or(f64::NAN));
            assert!((20.0..=35.0).contains(&temperature) && (50.0..=200.0).contains(&stock));
            assert!((10.0..=90.0).contains(&cpu) && (clients - 3.0).abs() < f64::EPSILON);
        }
        let simulated = |run: &[Values]| {
            run.iter()
                .map(|values| [values[0], values[1], values[2]])
                .collect::<Vec<_>>()
        };
        assert_eq!(simulated(&first), simulated(&walk()));
    }
}
