//! From the command line to a running server: what both binaries do around `run`.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use rand::RngExt;
use rand::distr::Alphanumeric;
use socket2::{Domain, Protocol, Socket, Type};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber, warn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{Config, LogFormat, LogLevel};
use crate::core::counters::Counters;
use crate::core::http::AccessPolicy;
use crate::net::shutdown::{self, Shutdown};

/// Connections that may wait to be accepted; the system may cap it (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;
/// Descriptors besides the clients': standard streams, listeners, poll, the spare one, shared pages, `/proc` at each tick.
#[cfg(unix)]
const OTHER_DESCRIPTORS: u64 = 32;

/// A server: runs until `Shutdown` is requested and every client has left, or for as long as its listeners work.
pub type Run =
    fn(Vec<TcpListener>, &Config, Arc<crate::core::context::Context>, Shutdown) -> io::Result<()>;

/// Runs the server `name`, whose concurrency model clients know as `model`. What keeps it from starting is told in
/// one line on standard error: exit status 1, or 2 for a bad flag.
pub fn main(name: &'static str, about: &'static str, model: &'static str, run: Run) -> ExitCode {
    let config = Config::from_command_line(name, about);
    match launch(config, model, run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn launch(mut config: Config, model: &'static str, run: Run) -> anyhow::Result<()> {
    start_logging(config.log, config.log_format);
    let report = match &config.report {
        Some(path) => Some(
            std::fs::read(path)
                .with_context(|| format!("cannot read --report {}", path.display()))?,
        ),
        None => None,
    };
    let listeners = bind(&config)?;
    raise_descriptor_limit(&mut config)?;
    let (stopper, shutdown) = shutdown::channel()?;
    stopper.on_signals().context("cannot handle signals")?;
    announce(&listeners)?;
    let context = crate::core::context::Context {
        model,
        epoch: new_epoch(),
        limits: config.limits(),
        access: AccessPolicy {
            loopback_only: config.loopback_only(),
            refuse_null_origin: config.refuse_null_origin,
            origins: config.allow_origin.clone(),
            hosts: config.allow_host.clone(),
        },
        report,
        counters: Counters::new(),
    };
    run(listeners, &config, Arc::new(context), shutdown)?;
    // The output may be a pipe whose reader has gone; that is no reason to fail.
    let _ = writeln!(io::stdout(), "[SERVER] Server stopped.");
    Ok(())
}

/// A name for this life of the room's history that no earlier life used.
fn new_epoch() -> String {
    let letters = rand::rng().sample_iter(Alphanumeric).take(12);
    letters.map(char::from).collect()
}

fn bind(config: &Config) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in config.addresses() {
        match listen(address) {
            Ok(listener) => listeners.push(listener),
            // Nobody asked for IPv6; a host without it still has the other loopback address.
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

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // So that a restart need not wait for TIME_WAIT; on Windows the option means something else.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
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
    // Nobody can open the address that stands for all of the machine's.
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
    let mut output = io::stdout().lock();
    let _ = output
        .write_all(banner.as_bytes())
        .and_then(|()| output.flush());
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

/// Makes room for `--max-clients`. Where the system allows less, the default gives way; a number that was asked for
/// does not.
#[cfg(unix)]
fn raise_descriptor_limit(config: &mut Config) -> anyhow::Result<()> {
    let wanted = config.max_sockets() as u64 + OTHER_DESCRIPTORS;
    let granted =
        rlimit::increase_nofile_limit(wanted).context("cannot read the descriptor limit")?;
    let fitting = usize::try_from(granted.saturating_sub(OTHER_DESCRIPTORS))?
        .saturating_sub(crate::config::SPARE_SOCKETS);
    if granted >= wanted {
        Ok(())
    } else if config.max_clients_asked_for || fitting == 0 {
        let advice = match fitting {
            0 => String::new(),
            fitting => format!(", or take fewer clients: --max-clients {fitting}"),
        };
        bail!(
            "the limit of {granted} open files is too low, {wanted} are needed: \
             raise it with `ulimit -n {wanted}`{advice}"
        )
    } else {
        warn!(
            "[SERVER] The limit of {granted} open files leaves room for {fitting} clients; \
             for {} raise it with `ulimit -n {wanted}`",
            config.max_clients
        );
        config.max_clients = fitting;
        Ok(())
    }
}

/// Sockets are not counted as files here.
#[cfg(not(unix))]
fn raise_descriptor_limit(_: &mut Config) -> anyhow::Result<()> {
    Ok(())
}

fn start_logging(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Standard error may be a pipe that nobody reads any more; a line lost there is no reason to fail.
    let log = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(level)
        .log_internal_errors(false);
    match format {
        LogFormat::Text => log.event_format(PlainLines).init(),
        LogFormat::Json => log.json().with_target(false).init(),
    }
}

/// Lines as the user's document shows them, with the level in front only where it is not plain information.
struct PlainLines;

impl<S, N> FormatEvent<S, N> for PlainLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        if level != Level::INFO {
            write!(writer, "{level} ")?;
        }
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
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
