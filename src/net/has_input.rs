//! A look at a blocking socket's input that does not wait and takes nothing.

#[cfg(unix)]
use std::io;
#[cfg(unix)]
use std::mem::MaybeUninit;
use std::net::TcpStream;

#[cfg(unix)]
use socket2::SockRef;

/// Whether a read would not wait.
#[cfg(unix)]
pub(crate) fn has_input(socket: &TcpStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    loop {
        match SockRef::from(socket).recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT)
        {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            Ok(_) => return true,
        }
    }
}

/// Only a read tells here, and the one that timed out just now found nothing.
#[cfg(not(unix))]
pub fn has_input(_: &TcpStream) -> bool {
    false
}
