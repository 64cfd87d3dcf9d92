//! The figures of one run. Units are in each name.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::timeline::{self, TimelineStep};
use crate::loadgen::{Ends, ErrorKind, Outcome};
use crate::measure::monitor::{Noise, Seen, Used};

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
    /// Received: frame headers and payloads, without TCP and IP.
    pub(crate) megabytes_per_s: f64,
    /// Over the whole load, after the drain.
    pub(crate) expected: u64,
    pub(crate) received: u64,
    pub(crate) clients_short: usize,
    pub(crate) clients_over: usize,
    /// Different orders in which sampled clients heard the room.
    pub(crate) orders: usize,
    /// Messages, from when each was due; and from when it was sent.
    pub(crate) corrected_ms: Percentiles,
    pub(crate) uncorrected_ms: Percentiles,
    /// From when each was due until its bytes arrived, as the kernel tells: whatever the generator was doing then.
    pub(crate) arrival_ms: Percentiles,
    /// Ticks of the dashboard, from when each should have been; and from its own `ts`.
    pub(crate) tick_late_ms: Percentiles,
    pub(crate) tick_delivery_ms: Percentiles,
    /// Handshakes of clients that come and go in the window.
    pub(crate) visits_per_s: f64,
    pub(crate) visit_ms: Percentiles,
    /// After all connections dropped: until all clients were back, and until each was.
    pub(crate) storm_s: Option<f64>,
    pub(crate) return_ms: Percentiles,
    pub(crate) ends: Ends,
    #[serde(rename = "troubles")]
    pub(crate) errors: Vec<(ErrorKind, u64)>,
    pub(crate) generator: GeneratorFigures,
    pub(crate) server: Option<ServerFigures>,
    pub(crate) machine: Option<Noise>,
    /// The window in steps of 100 ms.
    pub(crate) timeline: Vec<TimelineStep>,
    pub(crate) histograms: Histograms,
}

/// Whether the generator itself kept up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct GeneratorFigures {
    /// How late it came to messages that were due.
    pub(crate) late_ms: Percentiles,
    /// How long its turns took: an upper bound on what a latency owes to the generator.
    pub(crate) turn_ms: Percentiles,
    /// How long bytes had been there when it read them: its own part of a latency, message by message.
    pub(crate) read_after_ms: Percentiles,
    /// What it used of one core, and how long it waited for one.
    pub(crate) cpu: Option<f64>,
    pub(crate) waited: Option<f64>,
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
    pub(crate) cpu_us_per_delivery: Option<f64>,
    /// Of a client that comes and goes: handshake, Close and the end of the connection.
    pub(crate) cpu_us_per_visit: Option<f64>,
    /// Of a client that stays: handshake, and in the chat room welcome and notices.
    pub(crate) cpu_us_per_join: Option<f64>,
    /// What a client's joining added to resident memory, and to the kernel's (both ends of the connection).
    pub(crate) resident_per_client_bytes: Option<f64>,
    pub(crate) kernel_per_client_bytes: Option<f64>,
    pub(crate) used: Used,
}

/// Raw histograms: pairs of a value in nanoseconds and how often it was seen, three significant digits.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "the unit stands in the name, here as in the results"
)]
pub(crate) struct Histograms {
    pub(crate) corrected_ns: Vec<(u64, u64)>,
    pub(crate) uncorrected_ns: Vec<(u64, u64)>,
    pub(crate) tick_late_ns: Vec<(u64, u64)>,
    pub(crate) visit_ns: Vec<(u64, u64)>,
    pub(crate) return_ns: Vec<(u64, u64)>,
}

impl Figures {
    pub(crate) fn new(clients: usize, outcome: &Outcome, seen: Seen) -> Self {
        let steps = seen.steps;
        let window_s = outcome.window.as_secs_f64();
        let tally = &outcome.tally;
        Self {
            clients,
            window_s,
            joins_per_s: ratio(tally.joins.len() as f64, outcome.joining.as_secs_f64()),
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
            arrival_ms: Percentiles::of(&tally.arrivals),
            tick_late_ms: Percentiles::of(&outcome.ticks.corrected),
            tick_delivery_ms: Percentiles::of(&outcome.ticks.uncorrected),
            visits_per_s: ratio(tally.visits.len() as f64, window_s),
            visit_ms: Percentiles::of(&tally.visits),
            storm_s: outcome.storm.map(|storm| storm.as_secs_f64()),
            return_ms: Percentiles::of(&tally.returns),
            ends: tally.ends,
            errors: tally.errors.seen().collect(),
            generator: GeneratorFigures {
                late_ms: Percentiles::of(&tally.generator_late),
                turn_ms: Percentiles::of(&tally.generator_turns),
                read_after_ms: Percentiles::of(&tally.read_after),
                cpu: outcome.generator_cpu,
                waited: outcome.generator_waited,
            },
            server: seen.server.map(|used| ServerFigures::new(used, outcome)),
            machine: seen.machine,
            timeline: timeline::of(outcome, &steps),
            histograms: Histograms {
                corrected_ns: pairs(&tally.latency.corrected),
                uncorrected_ns: pairs(&tally.latency.uncorrected),
                tick_late_ns: pairs(&outcome.ticks.corrected),
                visit_ns: pairs(&tally.visits),
                return_ns: pairs(&tally.returns),
            },
        }
    }

    /// Whether every client got every message exactly once, in order, and nothing else went wrong.
    pub(crate) fn is_correct(&self) -> bool {
        self.clients_short == 0
            && self.clients_over == 0
            && self.orders <= 1
            && self.errors.is_empty()
    }

    /// What the run was about: messages where there were any, else ticks, else handshakes.
    fn latency_kind(&self) -> LatencyKind {
        let kinds = [
            (LatencyKind::Messages, &self.corrected_ms),
            (LatencyKind::Ticks, &self.tick_late_ms),
            (LatencyKind::Visits, &self.visit_ms),
            (LatencyKind::Returns, &self.return_ms),
        ];
        kinds
            .into_iter()
            .find(|(_, percentiles)| percentiles.count > 0)
            .map_or(LatencyKind::Messages, |(kind, _)| kind)
    }

    /// The latency that the run was about.
    pub(crate) fn latency(&self) -> &Percentiles {
        match self.latency_kind() {
            LatencyKind::Messages => &self.corrected_ms,
            LatencyKind::Ticks => &self.tick_late_ms,
            LatencyKind::Visits => &self.visit_ms,
            LatencyKind::Returns => &self.return_ms,
        }
    }

    /// The same without correction for coordinated omission.
    pub(crate) fn uncorrected(&self) -> &Percentiles {
        match self.latency_kind() {
            LatencyKind::Messages => &self.uncorrected_ms,
            LatencyKind::Ticks => &self.tick_delivery_ms,
            LatencyKind::Visits | LatencyKind::Returns => self.latency(),
        }
    }

    /// The raw histogram behind [`Self::latency`].
    pub(crate) fn latency_pairs(&self) -> &[(u64, u64)] {
        match self.latency_kind() {
            LatencyKind::Messages => &self.histograms.corrected_ns,
            LatencyKind::Ticks => &self.histograms.tick_late_ns,
            LatencyKind::Visits => &self.histograms.visit_ns,
            LatencyKind::Returns => &self.histograms.return_ns,
        }
    }
}

/// What a latency is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LatencyKind {
    Messages,
    Ticks,
    Visits,
    Returns,
}

impl ServerFigures {
    fn new(used: Used, outcome: &Outcome) -> Self {
        let cpu_s = used.user_s + used.system_s;
        let joined = outcome.tally.joins.len() as f64;
        let grown = used.resident_joined_bytes.zip(used.resident_before_bytes);
        let each = |count: u64| (count > 0).then(|| cpu_s * 1e6 / count as f64);
        let per_client = |bytes: f64| (joined > 0.0).then(|| bytes / joined);
        Self {
            cpu: ratio(cpu_s, outcome.window.as_secs_f64()),
            user_share: ratio(used.user_s, cpu_s),
            cpu_us_per_delivery: each(outcome.deliveries),
            cpu_us_per_visit: each(outcome.tally.visits.len()),
            cpu_us_per_join: used
                .joining_s
                .and_then(|cpu_s| (joined > 0.0).then(|| cpu_s * 1e6 / joined)),
            resident_per_client_bytes: grown
                .and_then(|(to, from)| per_client(to as f64 - from as f64)),
            kernel_per_client_bytes: used
                .kernel_joined_bytes
                .and_then(|bytes| per_client(bytes as f64)),
            used,
        }
    }

    /// Voluntary and involuntary switches in a thousand deliveries.
    pub(crate) fn switches_per_thousand(&self, deliveries: f64) -> Option<f64> {
        let switches = self.used.switches?;
        (deliveries > 0.0)
            .then(|| (switches.voluntary + switches.involuntary) as f64 * 1e3 / deliveries)
    }
}

impl Percentiles {
    /// Of a histogram of nanoseconds, in milliseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        let max = histogram.max() as f64 / 1e6;
        Self {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max,
        }
    }
}

fn pairs(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram
        .iter_recorded()
        .map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value()))
        .collect()
}

/// A quotient that is 0 where there is nothing to divide by.
fn ratio(dividend: f64, divisor: f64) -> f64 {
    if divisor > 0.0 {
        dividend / divisor
    } else {
        0.0
    }
}
