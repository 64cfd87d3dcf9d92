//! Counters of everything the server does and refuses, and their Prometheus text.
//!
//! Every figure is an atomic, so both servers and all threads count in the same place without a lock. Counting is
//! kept off the path of single deliveries: a broadcast adds its number of receivers once.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::cluster::figures::{Figures, LinkKind};
use super::http::MetricsFormat;
use super::refusals::{Labels, Reason, Refusals};

/// The server's figures. Cheap to share: put it behind an `Arc`.
#[derive(Debug)]
pub struct Counters {
    registry: Registry,
    connections: Gauge,
    clients: Family<Labels, Gauge>,
    /// Data messages received from clients.
    pub messages_in: Counter,
    /// Frames handed to clients' outboxes, replies and broadcasts alike; counted a receiver each.
    pub deliveries: Counter,
    /// Bytes read from sockets.
    pub bytes_in: Counter,
    /// Bytes written to sockets.
    pub bytes_out: Counter,
    /// Frames of the room that were compressed, in bytes before it; counted once, whatever the number of their receivers.
    pub deflate_input: Counter,
    /// The same after it.
    pub deflate_output: Counter,
    /// Bytes waiting in outboxes.
    unsent_bytes: Gauge,
    /// Has no sample where the host does not tell.
    resident_bytes: Told,
    /// The same.
    threads: Told,
    refusals: Refusals,
    /// Log lines that were lost; brought up to date at each tick.
    pub log_lines_lost: Counter,
    turns: Histogram,
    longest_turn_ns: AtomicU64,
    /// What is counted of Redis, where the room is on it.
    pub redis: Option<Figures>,
}

/// A gauge without a sample until it is set for the first time.
#[derive(Debug, Default, Clone)]
struct Told(Arc<OnceLock<Gauge>>);

impl Told {
    fn set(&self, figure: u64) {
        let gauge = self.0.get_or_init(Gauge::default);
        gauge.set(signed(figure));
    }
}

impl EncodeMetric for Told {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.get().map_or(Ok(()), |gauge| gauge.encode(encoder))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl Counters {
    /// All figures at zero, under the prefix `wslab`.
    pub fn new() -> Self {
        let mut stats = Self {
            registry: Registry::with_prefix("wslab"),
            connections: Gauge::default(),
            clients: Family::default(),
            messages_in: Counter::default(),
            deliveries: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            deflate_input: Counter::default(),
            deflate_output: Counter::default(),
            unsent_bytes: Gauge::default(),
            resident_bytes: Told::default(),
            threads: Told::default(),
            refusals: Refusals::default(),
            log_lines_lost: Counter::default(),
            // 16 µs to half a second: from an idle turn to one that clients feel.
            turns: Histogram::new(exponential_buckets(16e-6, 2.0, 16)),
            longest_turn_ns: AtomicU64::new(0),
            redis: None,
        };
        stats.register();
        stats
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "connections",
            "Sockets open, clients and others",
            self.connections.clone(),
        );
        registry.register(
            "clients",
            "WebSocket clients, by endpoint",
            self.clients.clone(),
        );
        registry.register(
            "messages_in",
            "Data messages received",
            self.messages_in.clone(),
        );
        registry.register(
            "deliveries",
            "Frames sent to clients",
            self.deliveries.clone(),
        );
        registry.register_with_unit("received", "Bytes read", Unit::Bytes, self.bytes_in.clone());
        registry.register_with_unit("sent", "Bytes written", Unit::Bytes, self.bytes_out.clone());
        registry.register_with_unit(
            "deflate_input",
            "Bytes of the room's frames before they were compressed, once for all receivers",
            Unit::Bytes,
            self.deflate_input.clone(),
        );
        registry.register_with_unit(
            "deflate_output",
            "The same frames, compressed",
            Unit::Bytes,
            self.deflate_output.clone(),
        );
        registry.register_with_unit(
            "unsent",
            "Bytes waiting in outboxes",
            Unit::Bytes,
            self.unsent_bytes.clone(),
        );
        registry.register_with_unit(
            "resident",
            "Resident memory",
            Unit::Bytes,
            self.resident_bytes.clone(),
        );
        registry.register("threads", "Threads of the server", self.threads.clone());
        registry.register(
            "refusals",
            "Refused or dropped, by reason",
            self.refusals.counts.clone(),
        );
        registry.register(
            "log_lines_lost",
            "Log lines that came faster than they were read",
            self.log_lines_lost.clone(),
        );
        registry.register_with_unit(
            "turn",
            "How long a ready socket may have waited: a turn of the loop, or the wait for the room's lock",
            Unit::Seconds,
            self.turns.clone(),
        );
    }

    /// The same with those of Redis.
    #[must_use]
    pub fn with_redis(mut self) -> Self {
        self.redis = Some(Figures::new(&mut self.registry));
        self
    }

    /// Notes whether a connection to Redis works, where the room is on Redis.
    pub(crate) fn set_link_up(&self, link: LinkKind, up: bool) {
        if let Some(redis) = &self.redis {
            redis.set_up(link, up);
        }
    }

    /// A connection to Redis works again.
    pub(crate) fn link_reconnected(&self, link: LinkKind) {
        if let Some(redis) = &self.redis {
            redis.set_up(link, true);
            redis.reconnects.inc();
        }
    }

    /// The text of `/metrics`.
    ///
    /// # Panics
    /// Never: writing to a string does not fail.
    pub fn exposition(&self, format: MetricsFormat) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        match format {
            MetricsFormat::OpenMetrics => text,
            MetricsFormat::Text => text_format(&text),
        }
    }

    /// Counts one refusal, and tells the log of it once per minute.
    pub fn refused(&self, now: Instant, reason: impl Into<Reason>) {
        let reason = reason.into();
        self.refused_because(now, reason, || reason.advice().into_owned());
    }

    /// The same with a line of its own, which is made only where it is written.
    pub fn refused_because(
        &self,
        now: Instant,
        reason: impl Into<Reason>,
        why: impl FnOnce() -> String,
    ) {
        let label = reason.into().label();
        self.refusals.count(label);
        self.refusals.tell(now, label, why);
    }

    /// Counts a refusal that is no fault.
    pub fn refused_silently(&self, reason: impl Into<Reason>) {
        self.refusals.count(reason.into().label());
    }

    /// A socket was accepted.
    pub fn socket_opened(&self) {
        self.connections.inc();
    }

    /// A socket was closed.
    pub fn socket_closed(&self) {
        self.connections.dec();
    }

    /// Sockets open now.
    pub fn sockets(&self) -> usize {
        usize::try_from(self.connections.get()).unwrap_or(0)
    }

    /// Sets how many clients an endpoint has.
    pub(crate) fn set_clients(&self, endpoint: &'static str, clients: usize) {
        self.clients
            .get_or_create(&[("endpoint", endpoint)])
            .set(signed(clients));
    }

    /// Sets the server's resident memory, in bytes.
    pub(crate) fn set_resident_bytes(&self, bytes: u64) {
        self.resident_bytes.set(bytes);
    }

    /// Sets how many threads the server has.
    pub(crate) fn set_threads(&self, threads: u64) {
        self.threads.set(threads);
    }

    /// So many bytes more wait to be sent.
    pub fn unsent_grew(&self, bytes: usize) {
        self.unsent_bytes.inc_by(signed(bytes));
    }

    /// So many have been sent, or are not wanted any more.
    pub fn unsent_shrank(&self, bytes: usize) {
        self.unsent_bytes.dec_by(signed(bytes));
    }

    /// Bytes waiting in outboxes.
    pub fn unsent(&self) -> usize {
        usize::try_from(self.unsent_bytes.get()).unwrap_or(0)
    }

    /// Notes how long ready sockets may have waited.
    pub fn waited(&self, duration: Duration) {
        self.turns.observe(duration.as_secs_f64());
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.longest_turn_ns
            .fetch_max(nanoseconds, Ordering::Relaxed);
    }

    /// The longest wait since this was last asked.
    pub fn take_longest_wait(&self) -> Duration {
        Duration::from_nanos(self.longest_turn_ns.swap(0, Ordering::Relaxed))
    }
}

/// The same figures in Prometheus' text format 0.0.4. There a counter's family has the name of its sample, with `_total`;
/// units and the end are not marked.
fn text_format(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len() + 256);
    // HELP comes before TYPE, which says whether the name changes.
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|described| described.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, said)) = help.take() {
                let _ = writeln!(text, "# HELP {name}{suffix} {said}");
            }
            let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            text += line;
            text += "\n";
        }
    }
    text
}

/// A figure as a gauge takes it; the largest there is for what does not fit.
pub(crate) fn signed(figure: impl TryInto<i64>) -> i64 {
    figure.try_into().unwrap_or(i64::MAX)
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exposition_names_every_figure() {
        let stats = Counters::new();
        stats.refused(Instant::now(), crate::core::protocol::Fault::BadJson);
        stats.set_clients("chat", 2);
        stats.waited(Duration::from_millis(3));
        stats.set_threads(3);
        let openmetrics = stats.exposition(MetricsFormat::OpenMetrics);
        assert!(openmetrics.ends_with("# EOF\n"), "{openmetrics}");
        assert!(openmetrics.contains("# TYPE wslab_sent_bytes counter\n"));
        let text = stats.exposition(MetricsFormat::Text);
        for line in [
            "# HELP wslab_sent_bytes_total Bytes written.",
            "# TYPE wslab_sent_bytes_total counter",
            "# TYPE wslab_clients gauge",
            "# TYPE wslab_turn_seconds histogram",
            "wslab_refusals_total{reason=\"bad_json\"} 1",
            "wslab_clients{endpoint=\"chat\"} 2",
            "wslab_sent_bytes_total 0",
            "wslab_threads 3",
            "wslab_turn_seconds_count 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(
            !text.contains("# UNIT") && !text.contains("# EOF"),
            "{text}"
        );
        let unknown = |line: &str| line.starts_with("wslab_resident");
        assert!(!text.lines().any(unknown), "unknown, and told in\n{text}");
        assert_eq!(stats.take_longest_wait(), Duration::from_millis(3));
        assert_eq!(stats.take_longest_wait(), Duration::ZERO);
    }
}
