//! How a server is told to stop: a byte in a stream for each request. The first one drains, the second stops at once.
//!
//! A stream, because both servers poll it beside their listeners. A signal handler may write to it (signal-safety(7)),
//! so no thread is needed for signals on Unix.

use std::io::{self, Read};

#[cfg(not(unix))]
use std::net::TcpStream as Stream;
#[cfg(unix)]
use std::os::unix::net::UnixStream as Stream;
#[cfg(unix)]
use std::sync::Arc;

#[cfg(not(unix))]
use mio::net::TcpStream as PolledStream;
#[cfg(unix)]
use mio::net::UnixStream as PolledStream;
use mio::{Interest, Registry, Token};

/// The server's end: a byte can be read for each request to stop.
#[derive(Debug)]
pub struct Shutdown(Stream);

/// The other end, which requests.
#[derive(Debug)]
pub(crate) struct Stopper(Stream);

/// Both ends.
///
/// # Errors
/// Those of making a connected pair of streams.
pub(crate) fn channel() -> io::Result<(Stopper, Shutdown)> {
    let (request, receive) = pair()?;
    Ok((Stopper(request), Shutdown(receive)))
}

impl Stopper {
    /// Requests to stop, once more.
    ///
    /// # Errors
    /// The server is gone.
    #[cfg(not(unix))]
    pub fn stop(&self) -> io::Result<()> {
        (&self.0).write_all(b"x")
    }

    /// Requests to stop at each SIGINT, SIGTERM or Ctrl+C from now on; also when the terminal goes away (SIGHUP), unless
    /// the server was started to outlive it (`nohup`).
    ///
    /// # Errors
    /// The system does not take the handler.
    #[cfg(unix)]
    pub(crate) fn on_signals(self) -> io::Result<()> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        if !is_ignored(SIGHUP) {
            signal_hook::low_level::pipe::register(SIGHUP, self.0.try_clone()?)?;
        }
        signal_hook::low_level::pipe::register(SIGINT, self.0.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGTERM, self.0)?;
        Ok(())
    }

    /// Requests to stop at each Ctrl+C from now on.
    ///
    /// # Errors
    /// The system does not take the handler.
    #[cfg(not(unix))]
    pub fn on_signals(self) -> io::Result<()> {
        ctrlc::set_handler(move || drop(self.stop())).map_err(io::Error::other)
    }
}

/// The server's end, in a poll.
#[derive(Debug)]
pub(crate) struct StopRequests(PolledStream);

impl StopRequests {
    /// Makes it ready to be polled.
    ///
    /// # Errors
    /// The stream cannot be made nonblocking.
    pub(crate) fn new(shutdown: Shutdown) -> io::Result<Self> {
        shutdown.0.set_nonblocking(true)?;
        Ok(Self(PolledStream::from_std(shutdown.0)))
    }

    /// Watches for requests under this token.
    ///
    /// # Errors
    /// Those of registering.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.0, token, Interest::READABLE)
    }

    /// How many requests to stop have come since this was last asked.
    pub(crate) fn take(&mut self) -> usize {
        let mut requests = [0; 16];
        std::iter::from_fn(|| self.0.read(&mut requests).ok().filter(|length| *length > 0)).sum()
    }
}

/// A write beyond the limit on the size of files (`ulimit -f`) fails from now on. By default its signal ends the process.
///
/// # Errors
/// The system does not take the handler.
#[cfg(unix)]
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    signal_hook::flag::register(libc::SIGXFSZ, Arc::default()).map(drop)
}

/// There is no such limit here.
///
/// # Errors
/// Never.
#[cfg(not(unix))]
pub fn survive_file_size_limit() -> io::Result<()> {
    Ok(())
}

/// Whether this process was started with the signal ignored, where the system tells.
#[cfg(target_os = "linux")]
fn is_ignored(signal: i32) -> bool {
    let status = procfs::process::Process::myself().and_then(|myself| myself.status());
    status.is_ok_and(|status| status.sigign & (1 << (signal - 1)) != 0)
}

/// Elsewhere only unsafe code could ask.
#[cfg(all(unix, not(target_os = "linux")))]
fn is_ignored(_: i32) -> bool {
    false
}

#[cfg(unix)]
fn pair() -> io::Result<(Stream, Stream)> {
    Stream::pair()
}

#[cfg(not(unix))]
fn pair() -> io::Result<(Stream, Stream)> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let request = Stream::connect(listener.local_addr()?)?;
    Ok((request, listener.accept()?.0))
}
