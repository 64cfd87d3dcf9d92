//! The machine a server runs on: its clock, its figures, and what happens around `run`.

pub mod capacity;
pub mod clock;
pub mod dashboard_sources;
pub mod log;
pub mod proc;
pub mod redis;
pub mod startup;
pub mod systemd;
