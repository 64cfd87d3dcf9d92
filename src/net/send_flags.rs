//! Sockets written to with flags: more follows, and do not wait.

use std::io::{self, IoSlice, Write};
use std::net::TcpStream;

use socket2::SockRef;

/// A nonblocking socket for the last bytes that are sent on it: on Linux the end of output, which follows at once,
/// travels in the same segment.
#[derive(Debug)]
pub(crate) struct MoreFollows<'a>(pub &'a mio::net::TcpStream);

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
pub(crate) struct DontWait<'a>(pub &'a TcpStream);

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

/// Windows has no such flag.
#[cfg(not(unix))]
impl Write for DontWait<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        without_waiting(self.0, |mut socket| socket.write(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        without_waiting(self.0, |mut socket| socket.write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A call on a socket that does not block for as long as the call takes. Its own thread, if it begins to read meanwhile,
/// is told to try again, and does; it does not write meanwhile, for lack of the writer's lock.
#[cfg(any(not(unix), test))]
fn without_waiting<R>(
    socket: &TcpStream,
    call: impl FnOnce(&TcpStream) -> io::Result<R>,
) -> io::Result<R> {
    socket.set_nonblocking(true)?;
    let result = call(socket);
    socket.set_nonblocking(false)?;
    result
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_call_on_a_full_socket_does_not_wait_and_leaves_it_blocking() {
        const WAIT: Duration = Duration::from_millis(50);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let _deaf = TcpStream::connect(listener.local_addr().expect("bound")).expect("a listener");
        let (ours, _) = listener.accept().expect("a client");
        ours.set_read_timeout(Some(WAIT)).expect("a deadline");
        ours.set_write_timeout(Some(Duration::from_mins(1)))
            .expect("a deadline");
        let start = Instant::now();
        let blocked = std::iter::repeat_with(|| {
            without_waiting(&ours, |mut socket| socket.write(&[0; 8 * 1024]))
        })
        .find_map(Result::err);
        assert_eq!(
            blocked.map(|error| error.kind()),
            Some(io::ErrorKind::WouldBlock)
        );
        assert!(start.elapsed() < Duration::from_secs(30));
        let start = Instant::now();
        assert!((&ours).read(&mut [0]).is_err(), "nothing was sent");
        assert!(start.elapsed() >= WAIT, "it does not block");
    }
}
