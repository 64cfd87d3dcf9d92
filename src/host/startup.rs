//! From the command line to a running server: what both binaries do around `run`.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::warn;

use super::capacity::{self, Cost};
use super::dashboard_sources;
use super::log::{self, Log};
use super::redis;
use super::systemd;
use crate::config::Config;
use crate::core::by_address::ByAddress;
use crate::core::counters::Counters;
use crate::core::http::AccessPolicy;
use crate::core::inside::{Inside, Means};
use crate::core::websocket::deflate::Codecs;
use crate::net::redis::random_name;
use crate::net::shutdown::{self, Shutdown};

/// Connections that may wait to be accepted; the system may cap it (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// A server: runs until `Shutdown` is requested and every client has left, or for as long as its listeners work.
pub type Run =
    fn(Vec<TcpListener>, &Config, Arc<crate::core::context::Context>, Shutdown) -> io::Result<()>;

/// Runs the server `name`, whose concurrency model clients know as `model`, and to which each of them costs `cost`. What
/// keeps it from starting is told in one line on standard error: exit status 1, or 2 for a bad flag.
pub fn main(
    name: &'static str,
    about: &'static str,
    model: &'static str,
    cost: Cost,
    run: Run,
) -> ExitCode {
    let config = Config::from_command_line(name, about);
    match launch(config, model, cost, run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::say(io::stderr(), format!("{name}: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

/// What the inside view cannot do by itself.
const MEANS: Means = Means {
    clock: Instant::now,
    block: thread::sleep,
};

fn launch(mut config: Config, model: &'static str, cost: Cost, run: Run) -> anyhow::Result<()> {
    shutdown::survive_file_size_limit().context("cannot handle signals")?;
    // What keeps the server from starting is told after all that was logged before.
    let _log = Log::start(config.log, config.log_format)?;
    let report = match &config.report {
        Some(path) => Some(
            std::fs::read(path)
                .with_context(|| format!("cannot read --report {}", path.display()))?,
        ),
        None => None,
    };
    let redis = redis::new_node(&config);
    let epoch = match &redis {
        Some(target) => target.connect()?.greeting.epoch,
        None => random_name(),
    };
    let listeners = match systemd::listeners().context("cannot use the sockets of LISTEN_FDS")? {
        passed if passed.is_empty() => bind(&config)?,
        passed => passed,
    };
    if config.experiments && !are_loopback(&listeners) {
        bail!(
            "--experiments lets a client stop the server: listen on loopback addresses only, or leave it out"
        );
    }
    capacity::make_room(&mut config, cost)?;
    let (stopper, shutdown) = shutdown::channel()?;
    stopper.on_signals().context("cannot handle signals")?;
    announce(&listeners)?;
    systemd::tell_ready();
    let counters = match &redis {
        Some(_) => Counters::new().with_redis(),
        None => Counters::new(),
    };
    let limits = config.limits();
    let context = crate::core::context::Context {
        model,
        epoch,
        by_address: ByAddress::new(&limits, config.trusted_proxy.clone()),
        limits,
        access: AccessPolicy {
            loopback_only: are_loopback(&listeners),
            refuse_null_origin: config.refuse_null_origin,
            origins: config.allow_origin.clone(),
            hosts: config.allow_host.clone(),
        },
        cluster: redis.map(|target| target.settings),
        report,
        missing_metrics: dashboard_sources::missing(),
        counters,
        codecs: Codecs::new(config.deflate_level),
        inside: Inside::new(MEANS, config.experiments, config.max_sockets()),
    };
    run(listeners, &config, Arc::new(context), shutdown)?;
    log::say(io::stdout(), "[SERVER] Server stopped.\n".to_owned());
    Ok(())
}

/// Whether only this machine can connect, which is what makes other loopback pages trustworthy.
fn are_loopback(listeners: &[TcpListener]) -> bool {
    listeners.iter().all(|listener| {
        listener
            .local_addr()
            .is_ok_and(|address| address.ip().is_loopback())
    })
}

fn bind(config: &Config) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in config.addresses() {
        match listen(address, config.reuse_port) {
            Ok(listener) => listeners.push(listener),
            // IPv6 was not asked for; a host without it still has the other loopback address.
            Err(error) if config.bind.is_empty() && address.is_ipv6() && lacks_address(&error) => {
                warn!("[SERVER] Not listening on {address}: {error}");
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => bail!(
                "{address} is already in use: stop the program that has it, or choose another with --bind {}:PORT",
                address.ip()
            ),
            Err(error) => {
                bail!("cannot listen on {address}: {error}; choose another address with --bind")
            }
        }
    }
    Ok(listeners)
}

/// The host has no such address, or does not speak its family at all.
fn lacks_address(error: &io::Error) -> bool {
    let no_such_family = if cfg!(windows) {
        10047
    } else if cfg!(target_os = "linux") {
        97
    } else {
        47
    };
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(no_such_family)
}

fn listen(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if reuse_port && !cfg!(target_os = "linux") {
        return Err(io::Error::other("--reuse-port is for Linux only"));
    }
    // So that a restart need not wait for TIME_WAIT; on Windows the option means something else.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    // So that several servers share a port, between which the kernel chooses.
    #[cfg(target_os = "linux")]
    socket.set_reuse_port(reuse_port)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Prints the banner of the user's document, and the addresses. Connections are accepted by the kernel already.
fn announce(listeners: &[TcpListener]) -> anyhow::Result<()> {
    let addresses = listeners
        .iter()
        .map(TcpListener::local_addr)
        .collect::<io::Result<Vec<_>>>()?;
    let first = addresses[0];
    // No browser opens the address that stands for all of the machine's.
    let host = if first.ip().is_loopback() || first.ip().is_unspecified() {
        format!("localhost:{}", first.port())
    } else {
        first.to_string()
    };
    let rule = "=".repeat(60);
    let mut banner = format!(
        "{rule}\nWebSocket Server - Chat & Dashboard Realtime Demo\n{rule}\n\
         Server starting at ws://{host}\nEndpoints:\n  - ws://{host}/ws/chat\n  - ws://{host}/ws/dashboard\n  \
         - ws://{host}/ws/echo\nOpen http://{host} in a browser.\n"
    );
    for address in reachable(&addresses, &machine_addresses()) {
        let _ = writeln!(banner, "From other machines: http://{address}");
    }
    let _ = write!(
        banner,
        "{rule}\n[SERVER] Server is running. Press Ctrl+C to stop.\n"
    );
    for address in addresses {
        let _ = writeln!(banner, "listening on http://{address}");
    }
    log::say(io::stdout(), banner);
    Ok(())
}

/// Where other machines find a server that listens on these addresses.
fn reachable(listening: &[SocketAddr], machine: &[IpAddr]) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for address in listening {
        let wildcard = address.ip().is_unspecified();
        let own = machine
            .iter()
            .copied()
            .filter(|own| wildcard && own.is_ipv4() == address.is_ipv4());
        let named = (!wildcard).then_some(address.ip());
        for ip in own.chain(named).filter(|ip| !ip.is_loopback()) {
            let address = SocketAddr::new(ip, address.port());
            if !found.contains(&address) {
                found.push(address);
            }
        }
    }
    found
}

/// The machine's addresses, but for those that mean something only together with a network's name.
fn machine_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let addresses = interfaces
        .iter()
        .filter(|interface| !interface.is_link_local());
    addresses.map(if_addrs::Interface::ip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_are_told_addresses_that_they_can_open() {
        let machine = ["127.0.0.1", "192.168.1.5", "::1", "2001:db8::5"]
            .map(|address| address.parse().expect("an address"));
        for (listening, expected) in [
            (&["127.0.0.1:1", "[::1]:1"][..], &[][..]),
            (&["0.0.0.0:1"], &["192.168.1.5:1"]),
            (&["[::]:1"], &["[2001:db8::5]:1"]),
            (
                &["0.0.0.0:1", "192.168.1.5:1", "[::]:2"],
                &["192.168.1.5:1", "[2001:db8::5]:2"],
            ),
            (&["192.168.1.5:1"], &["192.168.1.5:1"]),
        ] {
            let parse = |text: &&str| text.parse::<SocketAddr>().expect("an address");
            let listening: Vec<_> = listening.iter().map(parse).collect();
            let expected: Vec<_> = expected.iter().map(parse).collect();
            assert_eq!(reachable(&listening, &machine), expected, "{listening:?}");
        }
    }
}
