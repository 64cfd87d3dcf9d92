//! What every part of a server shares: what never changes while it runs, its counters, and its codecs.

use super::by_address::ByAddress;
use super::cluster::Settings;
use super::counters::Counters;
use super::http::AccessPolicy;
use super::inside::{Inside, Means};
use super::limits::Limits;
use super::protocol::Metric;
use super::websocket::deflate::Codecs;

/// Shared by every part of a server.
#[derive(Debug)]
pub struct Context {
    /// The concurrency model as clients are told it: `evloop` or `threads`.
    pub model: &'static str,
    /// Names this life of the room's history: a string that no earlier life used.
    pub epoch: String,
    /// What the rules keep to.
    pub limits: Limits,
    /// What each address has taken of what it may.
    pub by_address: ByAddress,
    /// Which hosts are this server's, and which pages may open a WebSocket.
    pub access: AccessPolicy,
    /// The room's place on Redis, where it is shared with other nodes.
    pub cluster: Option<Settings>,
    /// The contents of `--report`.
    pub report: Option<Vec<u8>>,
    /// Metrics that this host has no figures for; a subscription cannot name them.
    pub missing_metrics: Vec<Metric>,
    /// What is counted.
    pub counters: Counters,
    /// What inflates clients' messages.
    pub codecs: Codecs,
    /// What is recorded for the inside view.
    pub inside: Inside,
}

impl Context {
    /// One for a lab that no binary has set up, with these limits: for tests, the simulation and fuzzing.
    pub fn for_tests(limits: Limits) -> Self {
        let inside = Inside::new(Means::for_tests(), true, limits.max_sockets);
        Self {
            model: "evloop",
            epoch: "epoch".to_owned(),
            by_address: ByAddress::new(&limits, Vec::new()),
            access: AccessPolicy {
                loopback_only: true,
                refuse_null_origin: false,
                origins: Vec::new(),
                hosts: Vec::new(),
            },
            cluster: None,
            report: None,
            missing_metrics: vec![Metric::Memory],
            counters: Counters::new(),
            codecs: Codecs::new(limits.deflate.level),
            limits,
            inside,
        }
    }
}
