//! What goes to the publisher and what comes back: messages, their answers, and what the nodes tell each other.

use std::time::Duration;

use super::resp::{self, Reply};
use crate::core::engine::ClientId;

/// What a client is told to wait before it tries again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A client and which of those that had its place it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Its place.
    pub client: ClientId,
    /// Its number over the server's life.
    pub number: u64,
}

/// What a client said.
#[derive(Debug)]
pub struct Message<'a> {
    /// Who they are.
    pub name: &'a str,
    /// What.
    pub text: &'a str,
    /// The sender's own id for it.
    pub cid: Option<&'a str>,
    /// When, in milliseconds since the Unix epoch.
    pub ts: u64,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// For whom.
    pub sender: Sender,
    /// The sender's own id for the message.
    pub cid: Option<Box<str>>,
    /// What.
    pub outcome: Outcome,
}

/// See [`Answer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// In the stream.
    Stored {
        /// Its place in the room's one order.
        id: u64,
        /// Where it stands for certain.
        stored: Stored,
    },
    /// Not in the stream.
    Refused,
    /// Sent, and Redis went silent.
    Unknown,
}

/// Where a message stands once it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// In this process' memory.
    Room,
    /// In Redis.
    Stream,
    /// In Redis and in as many replicas as were asked for.
    Replicas,
}

impl Stored {
    /// As clients are told it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Stream => "stream",
            Self::Replicas => "replicas",
        }
    }
}

/// Why a message cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable {
    /// When to try again.
    pub retry_after: Duration,
}

impl Unavailable {
    /// What a client is told that has waited already.
    pub const TRY_AGAIN: Self = Self {
        retry_after: RETRY_AFTER,
    };
}

/// What the nodes know of each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Presence {
    /// Clients of the room on all nodes.
    pub online: u64,
    /// Nodes alive.
    pub nodes: u64,
    /// Temperature and stock, as the node that holds the lease has them.
    pub simulated: Option<[f64; 2]>,
}

/// What a node tells of itself.
#[derive(Debug, Clone, Copy)]
pub struct Vitals {
    /// Its clients in the room.
    pub clients: usize,
    /// Its own temperature and stock.
    pub simulated: [f64; 2],
}

impl Presence {
    /// The answer to a heartbeat.
    pub(super) fn read(reply: &Reply) -> Option<Self> {
        let [online, nodes, simulated] = resp::array(reply)? else {
            return None;
        };
        let simulated = resp::text(simulated)?
            .split_once(' ')
            .and_then(|(temperature, stock)| {
                let values = [temperature.parse().ok()?, stock.parse().ok()?];
                values
                    .iter()
                    .all(|value: &f64| value.is_finite())
                    .then_some(values)
            });
        Some(Self {
            online: resp::number(online)?,
            nodes: resp::number(nodes)?,
            simulated,
        })
    }
}
