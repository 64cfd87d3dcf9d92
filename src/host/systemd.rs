//! What a service manager gives and is told: listening sockets (socket activation), and that the server is ready or stops.
//!
//! A socket that the manager holds outlives the server, so clients that connect during a restart wait in its backlog
//! instead of being refused (`sd_listen_fds(3)`, `sd_notify(3)`). Without a manager nothing happens.

use std::io;
use std::net::TcpListener;

/// The listening sockets that were passed on by `LISTEN_FDS`; none without a manager.
///
/// # Errors
/// Something was passed on that is no TCP listener.
#[cfg(unix)]
pub(crate) fn listeners() -> io::Result<Vec<TcpListener>> {
    let mut passed = listenfd::ListenFd::from_env();
    (0..passed.len())
        .filter_map(|index| passed.take_tcp_listener(index).transpose())
        .collect()
}

/// No such thing here.
#[cfg(not(unix))]
pub fn listeners() -> io::Result<Vec<TcpListener>> {
    Ok(Vec::new())
}

/// The server accepts connections.
pub(crate) fn tell_ready() {
    #[cfg(target_os = "linux")]
    tell(sd_notify::NotifyState::Ready);
}

/// The server drains.
pub(crate) fn tell_stopping() {
    #[cfg(target_os = "linux")]
    tell(sd_notify::NotifyState::Stopping);
}

#[cfg(target_os = "linux")]
fn tell(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("[SERVER] The service manager cannot be told: {error}");
    }
}
