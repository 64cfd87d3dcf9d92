//! The scenarios: the questions that are asked of a server. The loads that answer them are in [`case`](crate::plan::case).

use clap::ValueEnum;
use serde::{Serialize, Serializer};

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Scenario {
    /// All clients in the chat room, nobody speaks: memory and threads per client
    Idle,
    /// Handshakes a second; and a storm: all connections drop, all clients come back at once
    Connect,
    /// Round trips to /ws/echo, one message in flight per client: closed loop, or paced with --rate
    Echo,
    /// One room, everyone in it speaks once a second: the largest with p99 at most 100 ms
    Room,
    /// One room of a fixed size, more and more messages a second
    Fanout,
    /// Subscribers of the dashboard: how late its ticks come
    Dashboard,
    /// Some clients never read: what the others feel
    Slow,
    /// A flood of messages over the rate limit: what the others feel
    Spam,
    /// Half-open handshakes: what clients feel that come meanwhile
    Stall,
    /// A day in the life: talkers, listeners, dashboards, passers-by and a few that never read
    Mixed,
    /// Many clients that send a message a minute each: how many a core could serve (only when named)
    Sparse,
    /// As many idle clients as the machine allows, and what a million would take (only when named)
    C1m,
}

impl Scenario {
    /// In the order in which they run: what depends on a quiet machine first.
    pub(crate) const ALL: [Self; 12] = [
        Self::Idle,
        Self::Connect,
        Self::Echo,
        Self::Room,
        Self::Fanout,
        Self::Dashboard,
        Self::Slow,
        Self::Spam,
        Self::Stall,
        Self::Mixed,
        Self::Sparse,
        Self::C1m,
    ];

    /// Whether it runs where none is named.
    pub(crate) fn is_asked_by_default(self) -> bool {
        !matches!(self, Self::Sparse | Self::C1m)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connect => "connect",
            Self::Echo => "echo",
            Self::Room => "room",
            Self::Fanout => "fanout",
            Self::Dashboard => "dashboard",
            Self::Slow => "slow",
            Self::Spam => "spam",
            Self::Stall => "stall",
            Self::Mixed => "mixed",
            Self::Sparse => "sparse",
            Self::C1m => "c1m",
        }
    }
}

impl Serialize for Scenario {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
