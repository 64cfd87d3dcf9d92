//! Readings of the machine and of the server's process on it.

pub(crate) mod environment;
pub(crate) mod monitor;
pub(crate) mod pin;
pub(crate) mod procstat;
