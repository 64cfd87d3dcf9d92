//! The room beyond one process, on a Redis stream, without I/O: bytes and time in, bytes and deadlines out.
//!
//! Every message of the room is an entry of one stream, whose ids run 1-0, 2-0, 3-0, … without gaps. A node, which is one
//! process of either server, publishes what its clients say through the [`Publisher`], and broadcasts only what its
//! [`Reader`] read back from the stream: so all clients of all nodes hear one order.
//!
//! # What keeps it true
//!
//! - A [script](script::PUBLISH) takes the next id, knows a message sent twice, and appends, all in one step.
//! - Each entry names itself (`by`: the node and a number of its own) and the one before it (`after`). A reader that finds
//!   another predecessor than the one it has read knows that the log was rewound, even where it has grown past the lost
//!   part since. That closes the hole which comparing ids alone leaves open.
//! - A rewound log gets a new epoch, by compare-and-set; a node with an old epoch cannot publish. Each node goes back to the
//!   last message that its history and the log have in common, tells its clients so, and goes on from there.

pub(crate) mod backoff;
pub(crate) mod figures;
pub(crate) mod greeting;
pub(crate) mod message;
pub(crate) mod publisher;
pub(crate) mod reader;
pub(crate) mod resp;
pub(crate) mod script;
#[cfg(test)]
mod tests;
pub(crate) mod url;

pub(crate) use message::{Answer, Outcome, Stored};
pub(crate) use publisher::Publisher;
pub(crate) use reader::{Reader, StreamEvent};

use bytes::Bytes;

/// Messages that the stream keeps at least: the lead that a node may lose, while it is paused or cut off, without missing
/// any. It keeps more where `--history` asks for more.
pub(crate) const STREAM_ENTRIES_MIN: usize = 65_536;
/// Silence after which a link is given up for lost.
pub(crate) const LINK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(3);

/// What a node of the cluster is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What all keys begin with.
    pub prefix: String,
    /// This node's name; no other node, and no earlier life of this one, has it.
    pub node: String,
    /// Replicas that must have a message before it is acknowledged as `replicas`; 0 asks for none.
    pub replicas: u32,
    /// Messages that a node keeps in memory.
    pub history: usize,
}

impl Settings {
    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }

    fn stream_entries(&self) -> usize {
        self.history.max(STREAM_ENTRIES_MIN)
    }
}

/// A message as the stream has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the room's one order.
    pub id: u64,
    /// Names this entry and no other.
    pub by: Bytes,
    /// Names the entry before it; empty where there was none.
    pub after: Bytes,
    /// When its node accepted it, in milliseconds since the Unix epoch.
    pub ts: u64,
    /// Who said it.
    pub name: String,
    /// What was said.
    pub text: String,
    /// The sender's own id for it.
    pub cid: Option<String>,
}

/// What goes wrong with a link to Redis, or with what it answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Bytes that are no RESP.
    #[error("it does not speak Redis' protocol: {0}")]
    NotResp(String),
    /// An answer longer than any that was asked for.
    #[error("an answer of more than {} MiB", resp::REPLY_BYTES_MAX >> 20)]
    TooLong,
    /// An error that is no one message's.
    #[error("it answers: {0}")]
    Refused(String),
    /// An answer of another form than asked for.
    #[error("an unexpected answer to {0}")]
    Unexpected(&'static str),
    /// No answer in time.
    #[error("no answer for {} s", LINK_TIMEOUT.as_secs())]
    Silent,
    /// The connection is broken.
    #[error("{0}")]
    Io(String),
    /// The other side has closed.
    #[error("it closed the connection")]
    Closed,
}
