//! The time at which bytes arrived, told by the kernel, whatever this program was doing then.
//!
//! On Linux a socket can be asked to tell with each read when the last segment that it has used up came in
//! (`SO_TIMESTAMPNS`). Sampled clients read in small pieces, so that a piece spans few segments. Elsewhere nothing is told.

use std::io;
use std::time::Duration;

use mio::net::TcpStream;

/// A read, and how long ago its last whole segment had arrived.
pub(crate) struct Stamped {
    pub(crate) count: usize,
    pub(crate) ago: Option<Duration>,
}

#[cfg(target_os = "linux")]
pub(crate) use linux::{ask, read};
#[cfg(not(target_os = "linux"))]
pub(crate) use other::{ask, read};

#[cfg(target_os = "linux")]
mod linux {
    use std::io::IoSliceMut;
    use std::os::fd::AsRawFd as _;
    use std::time::SystemTime;

    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
    use nix::sys::time::TimeSpec;

    use super::{Duration, Stamped, TcpStream, io};

    /// Asks for the times of arrival at this socket; none come where the system has no answer.
    pub(crate) fn ask(stream: &TcpStream) {
        let _ = setsockopt(stream, sockopt::ReceiveTimestampns, &true);
    }

    /// One read; `space` is for what comes beside the bytes and is used again and again.
    pub(crate) fn read(
        stream: &TcpStream,
        buffer: &mut [u8],
        space: &mut Vec<u8>,
    ) -> io::Result<Stamped> {
        if space.capacity() == 0 {
            *space = nix::cmsg_space!(TimeSpec);
        }
        let mut into = [IoSliceMut::new(buffer)];
        let message = recvmsg::<()>(
            stream.as_raw_fd(),
            &mut into,
            Some(space),
            MsgFlags::empty(),
        )?;
        let arrived = message.cmsgs()?.find_map(|told| match told {
            ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
            _ => None,
        });
        // The kernel's stamp is of the wall clock; a difference of two readings so near each other is of any clock.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let ago = arrived
            .zip(now.ok())
            .map(|(arrived, now)| now.saturating_sub(arrived));
        Ok(Stamped {
            count: message.bytes,
            ago,
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use std::io::Read as _;

    use super::{Stamped, TcpStream, io};

    pub(crate) fn ask(_: &TcpStream) {}

    pub(crate) fn read(
        mut stream: &TcpStream,
        buffer: &mut [u8],
        _: &mut Vec<u8>,
    ) -> io::Result<Stamped> {
        Ok(Stamped {
            count: stream.read(buffer)?,
            ago: None,
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn bytes_that_lie_for_a_while_are_as_old_as_they_are() {
        const LIE: Duration = Duration::from_millis(60);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (receiver, _) = listener.accept().unwrap();
        let receiver = TcpStream::from_std(receiver);
        ask(&receiver);
        let (mut buffer, mut space) = ([0; 64], Vec::new());
        // The kernel begins to stamp a moment after the first socket has asked.
        for _ in 0..100 {
            sender.write_all(b"early").unwrap();
            std::thread::sleep(LIE);
            let stamped = read(&receiver, &mut buffer, &mut space).unwrap();
            assert_eq!(&buffer[..stamped.count], b"early");
            if let Some(ago) = stamped.ago {
                assert!(ago >= LIE && ago < 50 * LIE, "{ago:?}");
                return;
            }
        }
        panic!("Linux tells");
    }
}
