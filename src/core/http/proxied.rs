//! The PROXY protocol, versions 1 and 2: what a proxy says before the first request of whose connection this is
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).

use std::net::{IpAddr, SocketAddr};

use ppp::{v1, v2};

use super::bounds::MAX_HEAD_BYTES;
use super::refusal::Refusal;

const BAD_PROXY_HEADER: &str =
    "The PROXY header is malformed: send version 1 or 2 of it, whole, before the request.";

const VERSION_1: &[u8] = b"PROXY ";
const VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header of version 1, its end of line included.
const VERSION_1_BYTES_MAX: usize = 107;
/// What comes before the addresses in version 2, with their length in its last two bytes.
const VERSION_2_BYTES_MIN: usize = 16;

/// The two ends of the connection that a proxy took, or of its own where it speaks for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proxied {
    /// The client, and the address that it came to.
    pub ends: Option<(SocketAddr, IpAddr)>,
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// They may become a PROXY header.
    Incomplete,
    /// They are none.
    Http,
    /// They are one of so many bytes.
    Proxied(Proxied, usize),
}

/// Looks for a PROXY header in the first bytes of a connection.
pub(super) fn read(bytes: &[u8]) -> Result<Start, Refusal> {
    let may_become = |signature: &[u8]| signature.starts_with(bytes);
    let length = if bytes.starts_with(VERSION_1) {
        let line = &bytes[..bytes.len().min(VERSION_1_BYTES_MAX)];
        let end = line.iter().position(|byte| *byte == b'\n');
        end.map(|end| end + 1).or_else(|| {
            // Without an end it cannot parse.
            (line.len() == VERSION_1_BYTES_MAX).then_some(line.len())
        })
    } else if let Some(rest) = bytes.strip_prefix(VERSION_2) {
        rest.get(2..4).map(|length| {
            VERSION_2_BYTES_MIN + usize::from(length[0]) * 256 + usize::from(length[1])
        })
    } else {
        let undecided = may_become(VERSION_1) || may_become(VERSION_2);
        return Ok(if undecided {
            Start::Incomplete
        } else {
            Start::Http
        });
    };
    match length {
        Some(length) if length > MAX_HEAD_BYTES => Err(Refusal::BadRequest(BAD_PROXY_HEADER)),
        Some(length) if length <= bytes.len() => {
            let proxied = parse(&bytes[..length]).ok_or(Refusal::BadRequest(BAD_PROXY_HEADER))?;
            Ok(Start::Proxied(proxied, length))
        }
        _ => Ok(Start::Incomplete),
    }
}

/// What a whole header says, if it is well formed.
fn parse(header: &[u8]) -> Option<Proxied> {
    let v4 = |ip: v1::IPv4| {
        let source = SocketAddr::new(ip.source_address.into(), ip.source_port);
        Some((source, ip.destination_address.into()))
    };
    let v6 = |ip: v1::IPv6| {
        let source = SocketAddr::new(ip.source_address.into(), ip.source_port);
        Some((source, ip.destination_address.into()))
    };
    let ends = if header.starts_with(VERSION_1) {
        match v1::Header::try_from(header).ok()?.addresses {
            v1::Addresses::Unknown => None,
            v1::Addresses::Tcp4(ip) => v4(ip),
            v1::Addresses::Tcp6(ip) => v6(ip),
        }
    } else {
        let header = v2::Header::try_from(header).ok()?;
        match (header.command, header.addresses) {
            (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => v4(ip),
            (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => v6(ip),
            // Its own health check, or a client that has no address.
            _ => None,
        }
    };
    Some(Proxied { ends })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLIENT: &str = "203.0.113.9:4711";

    fn version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u8::try_from(addresses.len()).expect("short");
        [VERSION_2, &[0x20 | command, family, 0, length], addresses].concat()
    }

    fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let v4 = [203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x67, 0, 80];
        let mut v6 = [0; 36];
        v6[..2].copy_from_slice(&[0x20, 0x01]);
        v6[15] = 9;
        v6[32..34].copy_from_slice(&[0x12, 0x67]);
        let with_more = [&v4[..], &[0x04, 0, 1, 0]].concat();
        let line = |line: &str| format!("{line}\r\n").into_bytes();
        vec![
            (
                line("PROXY TCP4 203.0.113.9 192.0.2.1 4711 80"),
                Some(CLIENT),
            ),
            (
                line("PROXY TCP6 2001::9 ::1 4711 80"),
                Some("[2001::9]:4711"),
            ),
            (line("PROXY UNKNOWN"), None),
            (version_2(1, 0x11, &v4), Some(CLIENT)),
            (version_2(1, 0x11, &with_more), Some(CLIENT)),
            (version_2(1, 0x21, &v6), Some("[2001::9]:4711")),
            (version_2(0, 0x00, &[]), None),
            (version_2(0, 0x11, &v4), None),
            (version_2(1, 0x31, &[0; 216]), None),
        ]
    }

    #[test]
    fn a_header_names_the_client_however_it_comes() {
        for (header, client) in headers() {
            let bytes = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            let shown = bytes.escape_ascii().to_string();
            for length in 0..header.len() {
                assert_eq!(read(&bytes[..length]), Ok(Start::Incomplete), "{shown}");
            }
            let Ok(Start::Proxied(proxied, length)) = read(&bytes) else {
                panic!("no header: {shown}")
            };
            assert_eq!(length, header.len(), "{shown}");
            let source = proxied.ends.map(|(source, _)| source.to_string());
            assert_eq!(source.as_deref(), client, "{shown}");
        }
    }

    #[test]
    fn what_only_begins_like_one_is_a_request_or_an_error() {
        for http in ["GET / HTTP/1.1", "PUT ", "PROXYX", "\r\n\r\nGET", "\r\nG"] {
            assert_eq!(read(http.as_bytes()), Ok(Start::Http), "{http}");
        }
        let long = format!("PROXY TCP4 {}", "1".repeat(200));
        let huge = [VERSION_2, &[0x21, 0x11, 0xff, 0xff]].concat();
        for bad in [
            &b"PROXY TCP4 203.0.113.9\r\n"[..],
            b"PROXY TCP4 x y 1 2\r\n",
            b"PROXY TCP5 203.0.113.9 192.0.2.1 4711 80\r\n",
            b"PROXY UNKNOWN\n",
            long.as_bytes(),
            &huge,
            &version_2(1, 0x11, &[1, 2, 3]),
            &version_2(7, 0x11, &[0; 12]),
        ] {
            let refused = Err(Refusal::BadRequest(BAD_PROXY_HEADER));
            assert_eq!(read(bad), refused, "{}", bad.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(head in prop::sample::select(vec![&b""[..], VERSION_1, VERSION_2]), rest in prop::collection::vec(any::<u8>(), 0..300)) {
            let bytes = [head, &rest[..]].concat();
            if let Ok(Start::Proxied(_, length)) = read(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
