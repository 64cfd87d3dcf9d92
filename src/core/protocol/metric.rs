//! The metrics of the dashboard, by name.

use serde::Serialize;

/// What the dashboard can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Simulated, °C.
    Temperature,
    /// Simulated, USD.
    Stock,
    /// The host's CPU use, percent.
    Cpu,
    /// WebSocket clients connected.
    Clients,
    /// Frames sent to clients per second.
    Deliveries,
    /// How long a ready socket may have waited for the server in the last second, ms.
    Lag,
    /// Resident memory of the server, MiB.
    Memory,
    /// Threads of the server.
    Threads,
}

impl Metric {
    /// Every metric, in the order one tick sends them.
    pub const ALL: [Self; 8] = [
        Self::Temperature,
        Self::Stock,
        Self::Cpu,
        Self::Clients,
        Self::Deliveries,
        Self::Lag,
        Self::Memory,
        Self::Threads,
    ];
    /// What every client of the dashboard is subscribed to when it connects.
    pub const DEFAULT: [Self; 3] = [Self::Temperature, Self::Stock, Self::Cpu];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Stock => "stock",
            Self::Cpu => "cpu",
            Self::Clients => "clients",
            Self::Deliveries => "deliveries",
            Self::Lag => "lag",
            Self::Memory => "memory",
            Self::Threads => "threads",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }
}
