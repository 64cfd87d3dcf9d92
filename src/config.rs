//! Flags to [`Config`]: every limit named, with its unit, none unlimited.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};

use crate::core::by_address::TrustedProxy;
use crate::core::cluster::url::RedisUrl;
use crate::core::http::{AllowedHost, AllowedOrigin};
use crate::core::limits::{Deflate, Limits};

/// The port of the user's document.
pub const DEFAULT_PORT: u16 = 8765;
/// Sockets kept free above `--max-clients`, so that pages, `/healthz` and refusals still get through.
pub const SPARE_SOCKETS: usize = 256;
/// The longest duration a flag takes: far below where clock arithmetic could overflow.
const LONGEST: Duration = Duration::from_hours(24);

/// Everything a server can be told; both servers take the same.
#[derive(Debug, Clone, Parser)]
#[command(version, about, max_term_width = 110)]
#[allow(missing_docs, reason = "each field's text is its --help")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Config {
    /// Address to listen on; both loopback addresses at port 8765 where none is given.
    #[arg(
        long,
        help = "Address to listen on; repeatable; port 0 picks a free one [default: 127.0.0.1:8765 and [::1]:8765]",
        value_name = "ADDR:PORT",
        env = "WSLAB_BIND",
        value_delimiter = ','
    )]
    pub bind: Vec<SocketAddr>,

    /// Least time between a client's accepted chat messages; 0s: no rate limit
    #[arg(long, value_name = "DUR", env = "WSLAB_CHAT_INTERVAL", default_value = "1s", value_parser = duration)]
    pub chat_interval: Duration,

    /// Time between two Pings to a client
    #[arg(long, value_name = "DUR", env = "WSLAB_PING_INTERVAL", default_value = "20s", value_parser = positive_duration)]
    pub ping_interval: Duration,

    /// How long a client may stay silent after a Ping
    #[arg(long, value_name = "DUR", env = "WSLAB_PING_TIMEOUT", default_value = "10s", value_parser = positive_duration)]
    pub ping_timeout: Duration,

    /// Time between two ticks of the dashboard
    #[arg(long, value_name = "DUR", env = "WSLAB_METRIC_INTERVAL", default_value = "1s", value_parser = positive_duration)]
    pub metric_interval: Duration,

    /// Show a simulated CPU figure instead of the host's
    #[arg(long, env = "WSLAB_SIMULATE_CPU")]
    pub simulate_cpu: bool,

    /// Chat messages kept for newcomers and for resuming
    #[arg(long, value_name = "N", env = "WSLAB_HISTORY", default_value_t = 1000, value_parser = count(0, 100_000))]
    pub history: usize,

    /// Clients in the room above which a summary per second replaces join and leave notices; so it does in any room where they come too fast
    #[arg(long, value_name = "N", env = "WSLAB_NOTICE_LIMIT", default_value_t = 500, value_parser = count(0, 1_000_000))]
    pub notice_limit: usize,

    /// WebSocket clients in all; more get 503
    #[arg(long, value_name = "N", env = "WSLAB_MAX_CLIENTS", default_value_t = 20_000, value_parser = count(1, 1_000_000))]
    pub max_clients: usize,

    /// Whether that many were asked for; the default gives way to what the machine can bear.
    #[arg(skip)]
    pub max_clients_asked_for: bool,

    /// WebSocket clients from one address; 0: no limit
    #[arg(long, value_name = "N", env = "WSLAB_MAX_CLIENTS_PER_ADDRESS", default_value_t = 0, value_parser = count(0, 1_000_000))]
    pub max_clients_per_address: usize,

    /// Sockets open from one address, whether clients, requests or neither yet; 0: no limit
    #[arg(long, value_name = "N", env = "WSLAB_MAX_SOCKETS_PER_ADDRESS", default_value_t = 0, value_parser = count(0, 1_000_000))]
    pub max_sockets_per_address: usize,

    /// WebSocket handshakes per second from one address, and as many at once; more get 429; 0: no limit
    #[arg(long, value_name = "N", env = "WSLAB_MAX_HANDSHAKES_PER_ADDRESS", default_value_t = 0, value_parser = count(0, 1_000_000))]
    pub max_handshakes_per_address: usize,

    /// Messages per second from one address, and as many at once; more get an error; 0: no limit
    #[arg(long, value_name = "N", env = "WSLAB_MAX_MESSAGES_PER_ADDRESS", default_value_t = 0, value_parser = count(0, 1_000_000))]
    pub max_messages_per_address: usize,

    /// Proxy that is believed when it says whose address it speaks for, by X-Forwarded-For or the PROXY protocol: an
    /// address or a network, as in 10.0.0.0/8; repeatable
    #[arg(
        long,
        value_name = "CIDR",
        env = "WSLAB_TRUSTED_PROXY",
        value_delimiter = ','
    )]
    pub trusted_proxy: Vec<TrustedProxy>,

    /// Largest message and frame from a client; larger: Close 1009
    #[arg(long, value_name = "BYTES", env = "WSLAB_MAX_MESSAGE", default_value = "64KiB", value_parser = bytes(125, 16 << 20))]
    pub max_message: usize,

    /// Unsent output a client may have waiting; over it, the slow client is dropped
    #[arg(long, value_name = "BYTES", env = "WSLAB_MAX_UNSENT", default_value = "1MiB", value_parser = bytes(4 << 10, 1 << 30))]
    pub max_unsent: usize,

    /// Whether clients that offer compression (permessage-deflate) get it
    #[arg(
        long,
        value_name = "on|off",
        env = "WSLAB_DEFLATE",
        default_value = "on"
    )]
    pub deflate: Switch,

    /// How hard to compress: 1 is the fastest, 9 the smallest
    #[arg(long, value_name = "N", env = "WSLAB_DEFLATE_LEVEL", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=9))]
    pub deflate_level: u32,

    /// Messages to the room between two restarts of its compressed stream, which let newcomers in
    #[arg(long, value_name = "N", env = "WSLAB_DEFLATE_RESTART", default_value_t = 64, value_parser = count(1, 1_000_000))]
    pub deflate_restart: usize,

    /// How long a request head may take to arrive whole
    #[arg(long, value_name = "DUR", env = "WSLAB_HANDSHAKE_TIMEOUT", default_value = "5s", value_parser = positive_duration)]
    pub handshake_timeout: Duration,

    /// How long the close handshake may take
    #[arg(long, value_name = "DUR", env = "WSLAB_CLOSE_TIMEOUT", default_value = "5s", value_parser = positive_duration)]
    pub close_timeout: Duration,

    /// How long a stopping server waits for its clients to leave
    #[arg(long, value_name = "DUR", env = "WSLAB_DRAIN_TIMEOUT", default_value = "5s", value_parser = positive_duration)]
    pub drain_timeout: Duration,

    /// Time over which a stopping server closes its clients, a few at a time, with Close 1012; 0s: all at once with 1001
    #[arg(long, value_name = "DUR", env = "WSLAB_DRAIN_SPREAD", default_value = "0s", value_parser = duration)]
    pub drain_spread: Duration,

    /// Origin of pages allowed besides the server's own.
    #[arg(
        long,
        help = "Origin of pages allowed besides the server's own, as in https://lab.example; repeatable; * allows all",
        value_name = "ORIGIN",
        env = "WSLAB_ALLOW_ORIGIN",
        value_delimiter = ','
    )]
    pub allow_origin: Vec<AllowedOrigin>,

    /// Host that requests may be for, besides localhost, the server's own addresses and the hosts of allowed origins, as
    /// in lab.example; repeatable; * allows all
    #[arg(
        long,
        value_name = "HOST",
        env = "WSLAB_ALLOW_HOST",
        value_delimiter = ','
    )]
    pub allow_host: Vec<AllowedHost>,

    /// Keep out pages without an origin of their own (Origin: null) on loopback too: pages opened as files, and
    /// sandboxed frames of any site
    #[arg(long, env = "WSLAB_REFUSE_NULL_ORIGIN")]
    pub refuse_null_origin: bool,

    /// Let pages of this machine block one message's handler and step the loop (see /inside.html); loopback only
    #[arg(long, env = "WSLAB_EXPERIMENTS")]
    pub experiments: bool,

    /// A report of `compare` to serve at /report
    #[arg(long, value_name = "FILE", env = "WSLAB_REPORT")]
    pub report: Option<PathBuf>,

    /// Share the room with other servers on this Redis, as in `redis://user:password@host:6379/0?prefix=wslab`; without it
    /// the room is this process' own
    #[arg(long, value_name = "URL", env = "WSLAB_REDIS", hide_env_values = true)]
    pub redis: Option<RedisUrl>,

    /// Redis replicas that must have a message before it is acknowledged as stored by them
    #[arg(long, value_name = "N", env = "WSLAB_REDIS_REPLICAS", default_value_t = 0, requires = "redis", value_parser = clap::value_parser!(u32).range(0..=16))]
    pub redis_replicas: u32,

    /// Let several servers listen on the same port, each getting its share of the clients (Linux)
    #[arg(long, env = "WSLAB_REUSE_PORT")]
    pub reuse_port: bool,

    /// How the thread server hands a message to the others; the other ways are there to be measured
    #[arg(
        long,
        value_name = "WAY",
        env = "WSLAB_DELIVERY",
        default_value = "elected",
        hide = true
    )]
    pub delivery: Delivery,

    /// Least severe log lines shown on standard error
    #[arg(long, value_name = "LEVEL", env = "WSLAB_LOG", default_value = "info")]
    pub log: LogLevel,

    /// How log lines are written
    #[arg(
        long,
        value_name = "FORMAT",
        env = "WSLAB_LOG_FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,
}

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Switch {
    On,
    Off,
}

/// How one client's message reaches the others in the thread server; measured in `threads/shared.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Delivery {
    /// One thread is elected to send for the room, until no member lacks anything.
    Elected,
    /// Into an outbox for each client under the room's lock, then sent by whichever thread gets there.
    Outboxes,
    /// The sender's thread writes to each client under that client's lock.
    Direct,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for a person.
    Text,
    /// One JSON object a line, with time and level.
    Json,
}

impl Config {
    /// Reads the command line and the environment of the program called `name`; prints and exits on `--help` or a
    /// bad flag (exit status 2).
    pub fn from_command_line(name: &'static str, about: &'static str) -> Self {
        let mut command = Self::command().name(name).about(about);
        let matches = command.get_matches_mut();
        let mut config = Self::from_arg_matches(&matches)
            .unwrap_or_else(|error| error.format(&mut command).exit());
        config.max_clients_asked_for =
            matches.value_source("max_clients") != Some(ValueSource::DefaultValue);
        config
    }

    /// The defaults, as if no flag were given and the environment were empty.
    ///
    /// # Panics
    /// Never: the defaults are valid flags, which a test checks.
    pub fn defaults() -> Self {
        let command = Self::command().mut_args(|arg| arg.env(None::<&str>));
        let matches = command.get_matches_from(["defaults"]);
        Self::from_arg_matches(&matches).expect("the defaults are valid")
    }

    /// Where to listen: what `--bind` named, or both loopback addresses.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        if self.bind.is_empty() {
            let loopback = [
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(Ipv6Addr::LOCALHOST),
            ];
            loopback
                .map(|ip| SocketAddr::new(ip, DEFAULT_PORT))
                .to_vec()
        } else {
            self.bind.clone()
        }
    }

    /// Sockets open at most, clients and others together.
    pub fn max_sockets(&self) -> usize {
        self.max_clients + SPARE_SOCKETS
    }

    /// What the rules keep to.
    pub fn limits(&self) -> Limits {
        Limits {
            chat_interval: self.chat_interval,
            ping_interval: self.ping_interval,
            ping_timeout: self.ping_timeout,
            metric_interval: self.metric_interval,
            handshake_timeout: self.handshake_timeout,
            close_timeout: self.close_timeout,
            history: self.history,
            notice_limit: self.notice_limit,
            max_clients: self.max_clients,
            max_clients_per_address: self.max_clients_per_address,
            max_sockets_per_address: self.max_sockets_per_address,
            max_handshakes_per_address: self.max_handshakes_per_address,
            max_messages_per_address: self.max_messages_per_address,
            max_sockets: self.max_sockets(),
            max_message: self.max_message,
            max_unsent: self.max_unsent,
            deflate: Deflate {
                on: self.deflate == Switch::On,
                level: self.deflate_level,
                restart_messages: self.deflate_restart,
            },
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error} (for example 500ms, 20s, 2m)"))?;
    if duration > LONGEST {
        Err("at most 24h".to_owned())
    } else {
        Ok(duration)
    }
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration < Duration::from_millis(1) {
        Err("at least 1ms".to_owned())
    } else {
        Ok(duration)
    }
}

fn count(least: usize, most: usize) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("a whole number from {least} to {most}")),
    }
}

fn bytes(least: u64, most: u64) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| match text.parse::<ByteSize>() {
        Ok(ByteSize(number)) if (least..=most).contains(&number) => {
            usize::try_from(number).map_err(|_| "too large for this machine".to_owned())
        }
        Ok(_) => Err(format!("from {least} bytes to {}", ByteSize(most))),
        Err(error) => Err(format!("{error} (for example 4096, 64KiB, 1MiB)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Config::command().debug_assert();
    }

    #[test]
    fn defaults_are_the_protocols() {
        let config = Config::defaults();
        assert_eq!(config.addresses().len(), 2);
        assert_eq!(
            (config.max_message, config.max_unsent),
            (64 * 1024, 1024 * 1024)
        );
        assert_eq!(
            (config.ping_interval, config.ping_timeout),
            (Duration::from_secs(20), Duration::from_secs(10))
        );
    }

    #[test]
    fn limits_are_finite_both_ways() {
        for flags in [
            ["--max-clients", "0"],
            ["--max-unsent", "1"],
            ["--ping-interval", "0s"],
            ["--drain-timeout", "9999h"],
            ["--max-message", "1TiB"],
            ["--bind", "nowhere"],
            ["--allow-origin", "lab.example"],
            ["--allow-origin", ""],
            ["--allow-host", "https://lab.example"],
            ["--deflate", "maybe"],
            ["--deflate-level", "0"],
            ["--deflate-level", "10"],
            ["--deflate-restart", "0"],
            ["--trusted-proxy", "proxy.example"],
            ["--trusted-proxy", "10.0.0.0/33"],
            ["--max-messages-per-address", "-1"],
        ] {
            let parsed = Config::try_parse_from(["server"].iter().chain(&flags));
            assert!(parsed.is_err(), "{flags:?}");
        }
    }
}
