//! The scenarios: each a plan made from a few sizes, none with code of its own.

use std::time::Duration;

use clap::ValueEnum;

use crate::plan::{Group, Pace, Plan, Role};

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// All clients in the chat room, nobody speaks: memory and threads a client.
    Idle,
    /// One room, everyone in it speaks once a second.
    Room,
    /// One room, a given number of messages a second: `--rate`.
    Fanout,
    /// Round trips to `/ws/echo`, one message in flight a client: closed loop, or paced with `--rate`.
    Echo,
    /// As `room`, but some never read: `--deaf` percent of the clients.
    Slow,
}

/// The sizes a scenario is made with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Size {
    pub(crate) clients: usize,
    /// Messages a second from all clients together; none for the scenario's own.
    pub(crate) rate_per_s: Option<u64>,
    /// Percent of the clients of `slow` that never read.
    pub(crate) deaf_percent: usize,
    pub(crate) sampled: usize,
    pub(crate) text_bytes: usize,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    pub(crate) drain_max: Duration,
}

/// Fan-out without a rate of its own: enough for percentiles, far from what any server can do.
const FANOUT_RATE_PER_S: u64 = 100;
const JOIN_MAX: Duration = Duration::from_mins(2);

impl Scenario {
    pub(crate) fn plan(self, size: &Size) -> Plan {
        let all = |role| vec![Group { clients: size.clients, sampled: size.sampled, role }];
        let groups = match self {
            Self::Idle => all(Role::Listen),
            Self::Room => all(Role::Speak { rate_per_s: size.rate_per_s.unwrap_or(size.clients as u64) }),
            Self::Fanout => all(Role::Speak { rate_per_s: size.rate_per_s.unwrap_or(FANOUT_RATE_PER_S) }),
            Self::Echo => {
                let pace = size.rate_per_s.map_or(Pace::Closed, |group_per_s| Pace::Rate { group_per_s });
                all(Role::Echo { pace })
            }
            Self::Slow => with_deaf(size),
        };
        Plan {
            groups,
            warm_up: size.warm_up,
            window: size.window,
            text_bytes: size.text_bytes,
            join_max: JOIN_MAX,
            drain_max: size.drain_max,
        }
    }
}

fn with_deaf(size: &Size) -> Vec<Group> {
    let deaf = size.clients * size.deaf_percent / 100;
    let speaking = size.clients - deaf;
    let rate_per_s = size.rate_per_s.unwrap_or(speaking as u64);
    vec![
        Group { clients: speaking, sampled: size.sampled, role: Role::Speak { rate_per_s } },
        Group { clients: deaf, sampled: 0, role: Role::Deaf },
    ]
}
