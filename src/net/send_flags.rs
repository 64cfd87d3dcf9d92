//! Sockets written to with flags: more follows, and do not wait.

use std::io::{self, IoSlice, Write};
use std::net::TcpStream;

use socket2::SockRef;

/// A nonblocking socket for the last bytes that are sent on it: on Linux the end of output, which follows at once,
/// travels in the same segment.
#[derive(Debug)]
pub struct MoreFollows<'a>(pub &'a mio::net::TcpStream);

#[cfg(target_os = "linux")]
const MORE_FOLLOWS: i32 = libc::MSG_MORE;
#[cfg(not(target_os = "linux"))]
const MORE_FOLLOWS: i32 = 0;

impl Write for MoreFollows<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        SockRef::from(self.0).send_with_flags(bytes, MORE_FOLLOWS)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        SockRef::from(self.0).send_vectored_with_flags(slices, MORE_FOLLOWS)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A blocking socket that is sent what the kernel takes at once.
#[derive(Debug)]
pub struct DontWait<'a>(pub &'a TcpStream);

#[cfg(unix)]
impl Write for DontWait<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        SockRef::from(self.0).send_with_flags(bytes, libc::MSG_DONTWAIT)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        SockRef::from(self.0).send_vectored_with_flags(slices, libc::MSG_DONTWAIT)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Windows has no such flag; there the send timeout bounds the wait.
#[cfg(not(unix))]
impl Write for DontWait<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(timeout_means_blocked)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(slices).map_err(timeout_means_blocked)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(not(unix))]
fn timeout_means_blocked(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::TimedOut {
        io::ErrorKind::WouldBlock.into()
    } else {
        error
    }
}
