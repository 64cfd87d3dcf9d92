//! Hosts and ports, each in the one spelling that can be compared.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host and port, as they stand in a `Host` header and in a page's origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) host: Host,
    pub(super) port: u16,
}

/// A host, by name or address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

impl Authority {
    pub(super) fn parse(text: &str, default_port: u16) -> Option<Self> {
        let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
            let (address, port) = bracketed.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            (Host::Address(address.to_canonical()), port)
        } else {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (Host::named(name)?, port)
        };
        let port = match port {
            "" | ":" => default_port,
            port => port.strip_prefix(':')?.parse().ok()?,
        };
        Some(Self { host, port })
    }
}

impl Host {
    /// A name or an IPv4 address.
    pub(super) fn named(name: &str) -> Option<Self> {
        if let Ok(address) = name.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        // A name may end in the root's dot, and means the same without.
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_name = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        (is_name && !ends_in_a_number(name)).then(|| Self::Name(name.to_ascii_lowercase()))
    }

    pub(super) fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            Self::Address(address) => address.is_loopback(),
        }
    }
}

/// Browsers take such a host for an IPv4 address and send it in four decimal parts, or not at all (URL Standard §3.5,
/// "ends in a number").
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_hexadecimal = last
        .strip_prefix("0x")
        .or_else(|| last.strip_prefix("0X"))
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    is_hexadecimal || (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_host_are_equal() {
        for (one, other) in [
            ("Lab.Example", "lab.example."),
            ("lab.example:80", "lab.example"),
            ("lab.example:", "lab.example"),
            ("[2001:DB8:0::1]:80", "[2001:db8::1]"),
            ("[::ffff:192.0.2.7]", "192.0.2.7"),
        ] {
            let authority = Authority::parse(one, 80);
            assert!(authority.is_some(), "{one}");
            assert_eq!(authority, Authority::parse(other, 80), "{one} {other}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_no_host() {
        for text in [
            "",
            ".",
            "[::1",
            "::1",
            "[fe80::1%eth0]",
            "a b",
            "user@a",
            "a/b",
            "b\u{fc}cher.example",
            "a:99999",
            "a:x",
            "127.1",
            "1.2.3.4.5",
            "0x7f.1",
            "a.0x7f",
            "2130706433",
        ] {
            assert_eq!(Authority::parse(text, 80), None, "{text}");
        }
    }
}
