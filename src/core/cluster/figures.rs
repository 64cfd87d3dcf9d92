//! What is counted of Redis.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A connection to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// On which this node publishes.
    Publish,
    /// On which it reads the stream.
    Read,
}

impl LinkKind {
    fn labels(self) -> [(&'static str, &'static str); 1] {
        let name = match self {
            Self::Publish => "publish",
            Self::Read => "read",
        };
        [("link", name)]
    }
}

/// The figures.
#[derive(Debug)]
pub struct Figures {
    up: Family<[(&'static str, &'static str); 1], Gauge>,
    /// Connections made after the first ones.
    pub reconnects: Counter,
    /// Entries that Redis had and this node had not, when it last asked.
    lag: Gauge,
    /// Messages that this node missed, since the stream no longer had them.
    pub gaps: Counter,
    /// Times that clients were told of a new beginning.
    pub resyncs: Counter,
    /// Messages without an answer.
    pub pending: Gauge,
    /// Nodes that share the room.
    pub nodes: Gauge,
    /// How long publishing took.
    pub round_trips: Histogram,
}

impl Figures {
    /// All at zero, to be told by this registry.
    pub fn new(registry: &mut Registry) -> Self {
        let figures = Self {
            up: Family::default(),
            reconnects: Counter::default(),
            lag: Gauge::default(),
            gaps: Counter::default(),
            resyncs: Counter::default(),
            pending: Gauge::default(),
            nodes: Gauge::default(),
            // 64 µs to two seconds.
            round_trips: Histogram::new(exponential_buckets(64e-6, 2.0, 16)),
        };
        let registry = registry.sub_registry_with_prefix("redis");
        registry.register(
            "up",
            "Whether a connection to Redis works",
            figures.up.clone(),
        );
        registry.register(
            "reconnects",
            "Connections to Redis after the first ones",
            figures.reconnects.clone(),
        );
        registry.register(
            "lag",
            "Stream entries not read yet when last asked",
            figures.lag.clone(),
        );
        registry.register(
            "gaps",
            "Messages missed because the stream no longer had them",
            figures.gaps.clone(),
        );
        registry.register(
            "resyncs",
            "Times that clients were told of a new beginning of the history",
            figures.resyncs.clone(),
        );
        registry.register(
            "pending",
            "Messages that Redis has not answered yet",
            figures.pending.clone(),
        );
        registry.register("nodes", "Nodes that share the room", figures.nodes.clone());
        registry.register_with_unit(
            "round_trip",
            "How long publishing what was said in a turn took",
            Unit::Seconds,
            figures.round_trips.clone(),
        );
        figures.set_up(LinkKind::Publish, false);
        figures.set_up(LinkKind::Read, false);
        figures
    }

    /// Whether a connection works.
    pub fn set_up(&self, link: LinkKind, up: bool) {
        self.up.get_or_create(&link.labels()).set(i64::from(up));
    }

    /// How many entries were not read yet.
    pub fn note_lag(&self, entries: u64) {
        self.lag.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// Whether the room is cut off from Redis.
    pub fn is_degraded(&self) -> bool {
        [LinkKind::Publish, LinkKind::Read]
            .into_iter()
            .any(|link| self.up.get_or_create(&link.labels()).get() == 0)
    }
}
