//! The machine a server runs on: its clock, its figures, and what happens around `run`.

pub mod capacity;
pub(crate) mod clock;
pub(crate) mod dashboard_sources;
pub(crate) mod log;
pub(crate) mod proc;
pub(crate) mod redis;
pub mod startup;
pub(crate) mod systemd;
