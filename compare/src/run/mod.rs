//! The runs: the servers that take part, each started, loaded and stopped again, in an order that is fair to all.

mod build;
pub(crate) mod fake;
pub(crate) mod progress;
pub(crate) mod runner;
pub(crate) mod server;
pub(crate) mod signals;
pub(crate) mod target;
pub(crate) mod tied;
