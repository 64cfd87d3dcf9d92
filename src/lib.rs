//! The lab.
pub mod config;
pub mod engine;
pub mod frame;
pub mod protocol;
