//! What never changes while a server runs, and its counters: shared without a lock.

use super::counters::Counters;
use super::http::OriginPolicy;
use super::limits::Limits;

/// Shared by every part of a server.
#[derive(Debug)]
pub struct Context {
    /// The concurrency model as clients are told it: `evloop` or `threads`.
    pub model: &'static str,
    /// Names this life of the room's history: a string that no earlier life used.
    pub epoch: String,
    /// What the rules keep to.
    pub limits: Limits,
    /// Which pages may open a WebSocket.
    pub origins: OriginPolicy,
    /// The contents of `--report`.
    pub report: Option<Vec<u8>>,
    /// What is counted.
    pub counters: Counters,
}

impl Context {
    /// One for a lab without a server, with these limits.
    #[cfg(test)]
    pub(crate) fn for_tests(limits: Limits) -> Self {
        Self {
            model: "evloop",
            epoch: "epoch".to_owned(),
            limits,
            origins: OriginPolicy {
                loopback_only: true,
                allowed: Vec::new(),
            },
            report: None,
            counters: Counters::new(),
        }
    }
}
