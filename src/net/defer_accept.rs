//! `TCP_DEFER_ACCEPT` (tcp(7)): clients that connect and say nothing wait in the kernel, on Linux.
//!
//! A listener without it wakes the server twice for each client: when the connection stands, and when the request comes,
//! which is at once. With it there is one awakening, and a socket that is accepted can be read. A client that stays silent is
//! handed over after a second, when the kernel has asked again, and times out like any other.
//!
//! It is the one place with `unsafe`, because no safe wrapper is stable yet: the standard library's is
//! `std::os::linux::net::TcpStreamExt::set_deferaccept` (<https://github.com/rust-lang/rust/issues/119639>). It is worth
//! it: on two shared cores a tenth more handshakes per second.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// How long the kernel keeps a silent client, in seconds. It rounds up to a number of its own retransmissions.
static SECONDS: libc::c_int = 1;

/// Has the kernel wait for a client's first bytes before it hands the client over.
///
/// # Errors
/// Those of setsockopt(2).
///
/// # Panics
/// Never: the size of an int fits a `socklen_t`.
#[allow(unsafe_code)]
pub(crate) fn defer_accept(listener: &impl AsFd) -> io::Result<()> {
    let listener = listener.as_fd();
    let length = libc::socklen_t::try_from(size_of_val(&SECONDS)).expect("an int is a few bytes");
    // SAFETY: the borrowed descriptor is open for as long as the call takes; the kernel reads `length` bytes from the
    // pointer, which are those of a static, and keeps neither.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const SECONDS).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
