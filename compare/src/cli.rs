//! The command line.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};

use crate::fake::Faults;
use crate::plan::{TEXT_BYTES_MAX, TEXT_BYTES_MIN};
use crate::scenario::{Scenario, Size};

/// Puts the same load on WebSocket servers and compares them.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Measure a server that is already running
    #[arg(long, env = "WSLAB_TARGET", value_name = "ws://HOST:PORT", value_parser = parse_target)]
    pub(crate) target: Option<SocketAddr>,

    /// Process of that server, for its CPU and memory
    #[arg(long, requires = "target")]
    pub(crate) pid: Option<u32>,

    /// Allow a target that is not on loopback; only measure servers that are yours
    #[arg(long)]
    pub(crate) allow_remote: bool,

    #[arg(long, value_enum, default_value = "room")]
    pub(crate) scenario: Scenario,

    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) clients: u32,

    /// Messages a second from all clients together [default: the scenario's own]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) rate: Option<u64>,

    /// In `slow`: percent of the clients that never read
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=99))]
    pub(crate) deaf: u8,

    /// Length of a message's text in bytes
    #[arg(long, default_value_t = TEXT_BYTES_MIN, value_parser = parse_text_bytes)]
    pub(crate) text_bytes: usize,

    /// Clients whose messages are looked into and timed; the others only count
    #[arg(long, default_value_t = 32)]
    pub(crate) sampled: usize,

    /// Load before anything is measured
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub(crate) warm_up: Duration,

    /// Time that is measured
    #[arg(long, default_value = "8s", value_parser = humantime::parse_duration)]
    pub(crate) window: Duration,

    /// Longest wait for what is still on its way when the load has ended
    #[arg(long, default_value = "15s", value_parser = humantime::parse_duration)]
    pub(crate) drain: Duration,

    /// Leave it to the system on which cores server and generator run
    #[arg(long)]
    pub(crate) no_pin: bool,

    /// Print the figures as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What else the program can be.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A server with known faults, to test this program against
    #[command(hide = true)]
    FakeServer(Faults),
}

impl Args {
    pub(crate) fn size(&self) -> Size {
        Size {
            clients: self.clients as usize,
            rate_per_s: self.rate,
            deaf_percent: usize::from(self.deaf),
            sampled: self.sampled,
            text_bytes: self.text_bytes,
            warm_up: self.warm_up,
            window: self.window,
            drain_max: self.drain,
        }
    }

    /// The target, if it may be measured.
    pub(crate) fn checked_target(&self) -> Result<SocketAddr> {
        let target = self.target.context("--target ws://HOST:PORT is needed")?;
        ensure!(
            self.allow_remote || target.ip().is_loopback(),
            "{target} is not on loopback: a stress test of somebody else's server is an attack; \
             if it is yours, say --allow-remote"
        );
        Ok(target)
    }
}

fn parse_target(text: &str) -> Result<SocketAddr, String> {
    use std::net::ToSocketAddrs as _;

    let address = text.strip_prefix("ws://").ok_or("it begins with ws://")?.trim_end_matches('/');
    let mut found = address.to_socket_addrs().map_err(|error| error.to_string())?;
    found.next().ok_or_else(|| "nothing has this address".to_owned())
}

fn parse_text_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| "it is a whole number")?;
    let allowed = TEXT_BYTES_MIN..=TEXT_BYTES_MAX;
    if allowed.contains(&bytes) { Ok(bytes) } else { Err(format!("it is within {allowed:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn only_loopback_unless_told_so() {
        let target = |more: &[&str]| {
            let words = ["compare", "--target", "ws://192.0.2.1:80"].iter().chain(more);
            Args::parse_from(words).checked_target()
        };
        assert!(target(&[]).is_err());
        assert!(target(&["--allow-remote"]).is_ok());
        assert!(Args::parse_from(["compare", "--target", "ws://127.0.0.1:80/"]).checked_target().is_ok());
    }
}
