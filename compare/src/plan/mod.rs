//! A load as data: groups of clients, what each does, and for how long. [`loadgen`](crate::loadgen) carries it out.
//!
//! In reading order: a [`scenario`] is a question to a server, its [`case`]s are the loads that answer it; [`search`] finds
//! the largest of them; [`schedule`] says when each message is due.

pub(crate) mod case;
pub(crate) mod scenario;
pub(crate) mod schedule;
pub(crate) mod search;

use std::time::Duration;

/// One run against one server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) groups: Vec<Group>,
    /// Load before the window opens; nothing of it is in any figure.
    pub(crate) warm_up: Duration,
    /// The steady time that is measured.
    pub(crate) window: Duration,
    /// Length of a message's `text`; see [`TEXT_BYTES_MIN`].
    pub(crate) text_bytes: usize,
    /// How long all clients together may take to join.
    pub(crate) join_max: Duration,
    /// How long what was sent may take to arrive after the last send.
    pub(crate) drain_max: Duration,
    pub(crate) ending: Ending,
}

/// What happens when the window has closed and everything has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Leave,
    /// All connections drop at once, and all clients come back at once.
    Storm,
}

/// The moments of a run at which something outside may want to look, at the server's process for example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    Joined,
    WindowOpens,
    /// A step of the window's timeline is over.
    StepEnds,
    WindowCloses,
}

/// Clients that do the same thing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    pub(crate) clients: usize,
    /// How many of them look into what they receive; the others only count it.
    pub(crate) sampled: usize,
    pub(crate) role: Role,
}

/// What a client does once it has joined.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Role {
    /// Is in the chat room and only listens.
    Listen,
    /// Is in the chat room; the whole group says `rate_per_s` messages a second, its members in turn, open loop.
    Speak { rate_per_s: u64 },
    /// As `Speak`, but faster than the rate limit allows: refusals are what it is there for.
    Spam { rate_per_s: u64 },
    /// Is in the chat room and never reads again; comes again when it is dropped for it.
    NonReading,
    /// Talks to `/ws/echo`, one message in flight.
    Echo { pace: Pace },
    /// Is connected to `/ws/echo` and silent.
    Sit,
    /// Gets every metric of the dashboard.
    Subscribe,
    /// Comes to `/ws/echo` during the load, leaves as soon as it is in, and comes again.
    Visit { pace: Pace },
    /// Connects during the load and never ends its request; comes again when it is thrown out.
    HalfOpen,
}

/// When an echo client sends its next message, or a visitor comes next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// As soon as the last one is back, or has left: a closed loop, which asks how fast it can go.
    Closed,
    /// At its time, or as soon after it as the last one is back.
    Rate { group_per_s: u64 },
}

/// The shortest text that has room for a stamp: `#255.4294967295#`.
pub(crate) const TEXT_BYTES_MIN: usize = 16;
/// The protocol's own limit on `text`.
pub(crate) const TEXT_BYTES_MAX: usize = 500;

impl Role {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Listen
            | Self::Speak { .. }
            | Self::Spam { .. }
            | Self::NonReading
            | Self::HalfOpen => "/ws/chat",
            Self::Subscribe => "/ws/dashboard",
            Self::Echo { .. } | Self::Sit | Self::Visit { .. } => "/ws/echo",
        }
    }

    /// The rate of the group's open-loop schedule, if it has one.
    pub(crate) fn rate_per_s(self) -> Option<u64> {
        match self {
            Self::Speak { rate_per_s } | Self::Spam { rate_per_s } => Some(rate_per_s),
            Self::Echo {
                pace: Pace::Rate { group_per_s },
            }
            | Self::Visit {
                pace: Pace::Rate { group_per_s },
            } => Some(group_per_s),
            _ => None,
        }
    }

    pub(crate) fn speaks_in_the_room(self) -> bool {
        matches!(self, Self::Speak { .. } | Self::Spam { .. })
    }

    /// Whether it is there before the load begins, and stays.
    pub(crate) fn stays(self) -> bool {
        !matches!(self, Self::Visit { .. } | Self::HalfOpen)
    }

    /// Whether every message said in the room must reach this client.
    pub(crate) fn receives_the_room(self) -> bool {
        matches!(self, Self::Listen | Self::Speak { .. } | Self::Spam { .. })
    }
}
