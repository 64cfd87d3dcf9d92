//! The figures of one run: what is printed, saved and compared, each with its unit in its name.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::loadgen::{Outcome, Trouble};
use crate::watch::Used;

/// One run of one scenario against one server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub(crate) clients: usize,
    pub(crate) window_s: f64,
    pub(crate) joins_per_s: f64,
    pub(crate) join_ms: Percentiles,
    /// Messages due in the window, and due but never sent.
    pub(crate) due: u64,
    pub(crate) unsent: u64,
    pub(crate) deliveries_due_per_s: f64,
    pub(crate) deliveries_per_s: f64,
    pub(crate) megabytes_per_s: f64,
    /// Over the whole load, after the drain.
    pub(crate) expected: u64,
    pub(crate) received: u64,
    pub(crate) clients_short: usize,
    pub(crate) clients_over: usize,
    /// Different orders in which sampled clients heard the room.
    pub(crate) orders: usize,
    pub(crate) corrected_ms: Percentiles,
    pub(crate) uncorrected_ms: Percentiles,
    pub(crate) troubles: Vec<(Trouble, u64)>,
    /// How late the generator came to messages that were due.
    pub(crate) generator_late_ms: Percentiles,
    /// How long its turns took: an upper bound on what a latency owes to the generator.
    pub(crate) generator_turn_ms: Percentiles,
    pub(crate) generator_cpu: Option<f64>,
    pub(crate) server: Option<ServerFigures>,
}

/// A latency distribution in five numbers and their count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    pub(crate) max: f64,
}

/// The server's process over the window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ServerFigures {
    /// Share of one core.
    pub(crate) cpu: f64,
    /// Of that CPU time, the share spent outside the kernel.
    pub(crate) user_share: f64,
    pub(crate) cpu_us_per_delivery: f64,
    /// What a client's joining added to resident memory.
    pub(crate) resident_per_client_bytes: Option<f64>,
    pub(crate) used: Used,
}

impl Figures {
    pub(crate) fn new(clients: usize, outcome: &Outcome, used: Option<Used>) -> Self {
        let window_s = outcome.window.as_secs_f64();
        let tally = &outcome.tally;
        Self {
            clients,
            window_s,
            joins_per_s: ratio(clients as f64, outcome.joining.as_secs_f64()),
            join_ms: Percentiles::of(&tally.joins),
            due: outcome.due,
            unsent: outcome.unsent,
            deliveries_due_per_s: ratio(outcome.deliveries_due as f64, window_s),
            deliveries_per_s: ratio(outcome.deliveries as f64, window_s),
            megabytes_per_s: ratio(outcome.bytes as f64 / 1e6, window_s),
            expected: outcome.exactness.expected,
            received: outcome.exactness.received,
            clients_short: outcome.exactness.clients_short,
            clients_over: outcome.exactness.clients_over,
            orders: outcome.exactness.orders,
            corrected_ms: Percentiles::of(&tally.latency.corrected),
            uncorrected_ms: Percentiles::of(&tally.latency.uncorrected),
            troubles: tally.troubles.seen().collect(),
            generator_late_ms: Percentiles::of(&tally.generator_late),
            generator_turn_ms: Percentiles::of(&tally.generator_turns),
            generator_cpu: outcome.generator_cpu,
            server: used.map(|used| ServerFigures::new(used, clients, outcome)),
        }
    }

    /// Whether every client got every message exactly once, in order, and nothing else went wrong.
    pub(crate) fn is_correct(&self) -> bool {
        self.clients_short == 0 && self.clients_over == 0 && self.orders <= 1 && self.troubles.is_empty()
    }
}

impl ServerFigures {
    fn new(used: Used, clients: usize, outcome: &Outcome) -> Self {
        let cpu_s = used.user_s + used.system_s;
        let grown = used.resident_joined_bytes.zip(used.resident_before_bytes);
        Self {
            cpu: ratio(cpu_s, outcome.window.as_secs_f64()),
            user_share: ratio(used.user_s, cpu_s),
            cpu_us_per_delivery: ratio(cpu_s * 1e6, outcome.deliveries as f64),
            resident_per_client_bytes: grown.map(|(to, from)| ratio(to as f64 - from as f64, clients as f64)),
            used,
        }
    }
}

impl Percentiles {
    /// Of a histogram of nanoseconds, in milliseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        let max = histogram.max() as f64 / 1e6;
        Self { count: histogram.len(), p50: at(0.5), p90: at(0.9), p99: at(0.99), p99_9: at(0.999), max }
    }
}

/// A quotient that is 0 where there is nothing to divide by.
fn ratio(dividend: f64, divisor: f64) -> f64 {
    if divisor > 0.0 { dividend / divisor } else { 0.0 }
}
