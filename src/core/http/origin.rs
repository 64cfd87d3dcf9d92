//! Which web pages may open a WebSocket here.
//!
//! The same-origin policy does not hold for a WebSocket: any page in the world may open one, with the visitor's
//! browser and from the visitor's network. Only the `Origin` that the browser adds tells it from our own pages
//! (RFC 6455 §10.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The server's rule for the `Origin` and `Host` of an upgrade request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OriginPolicy {
    /// The server listens on loopback addresses only.
    pub loopback_only: bool,
    /// Origins that are allowed besides: `https://example.com`, or `*` for any.
    pub allowed: Vec<String>,
}

impl OriginPolicy {
    /// Whether a request with these header fields may become a WebSocket.
    pub fn allows(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        // No browser sends this: a program may say of itself what it likes anyway.
        let Some(origin) = origin else { return true };
        if self
            .allowed
            .iter()
            .any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
        {
            return true;
        }
        let page = Page::of(origin);
        if self.loopback_only {
            // A foreign host name that leads to a loopback address is DNS rebinding: the page's own name, made to
            // point here, would pass for the same host.
            let here = host
                .and_then(|host| Authority::parse(host, 0))
                .is_some_and(|host| host.is_loopback());
            return here
                && (origin == "null" || page.is_some_and(|page| page.authority.is_loopback()));
        }
        page.is_some_and(|page| {
            host.and_then(|host| Authority::parse(host, page.default_port))
                .as_ref()
                == Some(&page.authority)
        })
    }
}

/// The origin of a page that came over HTTP.
struct Page {
    default_port: u16,
    authority: Authority,
}

impl Page {
    fn of(origin: &str) -> Option<Self> {
        let (scheme, authority) = origin.split_once("://")?;
        let default_port = match scheme.to_ascii_lowercase().as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        Some(Self {
            default_port,
            authority: Authority::parse(authority, default_port)?,
        })
    }
}

/// Host and port, in the one spelling that can be compared.
#[derive(PartialEq, Eq)]
struct Authority {
    host: Host,
    port: u16,
}

#[derive(PartialEq, Eq)]
enum Host {
    Name(String),
    Address(IpAddr),
}

impl Authority {
    fn parse(text: &str, default_port: u16) -> Option<Self> {
        let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
            let (address, port) = bracketed.split_once(']')?;
            (
                Host::Address(address.parse::<Ipv6Addr>().ok()?.into()),
                port,
            )
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

    fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            Host::Address(address) => address.to_canonical().is_loopback(),
        }
    }
}

impl Host {
    fn named(name: &str) -> Option<Self> {
        if let Ok(address) = name.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        // A name may end in the root's dot, and means the same without.
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_name = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        is_name.then(|| Self::Name(name.to_ascii_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(loopback_only: bool, allowed: &[&str]) -> OriginPolicy {
        OriginPolicy {
            loopback_only,
            allowed: allowed.iter().map(ToString::to_string).collect(),
        }
    }

    #[track_caller]
    fn check(policy: &OriginPolicy, allowed: bool, rows: &[(&str, &str)]) {
        for (origin, host) in rows {
            assert_eq!(
                policy.allows(Some(origin), Some(host)),
                allowed,
                "{origin:?} at {host:?}"
            );
        }
    }

    #[test]
    fn programs_send_no_origin_and_may_connect() {
        assert!(policy(false, &[]).allows(None, Some("example.com")));
        assert!(policy(true, &[]).allows(None, Some("evil.example")));
        assert!(policy(true, &[]).allows(None, None));
    }

    #[test]
    fn pages_of_the_same_host_may_connect() {
        let same = [
            ("http://example.com", "example.com"),
            ("http://example.com:80", "example.com"),
            ("http://example.com", "example.com:80"),
            ("https://example.com", "example.com"),
            ("https://example.com", "example.com:443"),
            ("HTTP://EXAMPLE.com:8765", "example.COM:8765"),
            ("http://192.0.2.7:8765", "192.0.2.7:8765"),
            ("http://[2001:db8::1]:8765", "[2001:DB8:0::1]:8765"),
            ("http://example.com", "example.com:"),
        ];
        check(&policy(false, &[]), true, &same);
    }

    #[test]
    fn pages_of_another_host_may_not() {
        let other = [
            ("http://evil.example", "example.com"),
            ("http://example.com:8080", "example.com"),
            ("https://example.com", "example.com:80"),
            ("http://example.com.evil.example", "example.com"),
            ("http://localhost:8765", "example.com:8765"),
            ("http://user@example.com", "example.com"),
            ("http://example.com/", "example.com"),
            ("http://[2001:db8::1", "[2001:db8::1]"),
            ("http://example.com:99999", "example.com:99999"),
            ("ftp://example.com", "example.com"),
            ("file://", "example.com"),
            ("null", "example.com"),
            ("null", "null"),
            ("", ""),
            ("http://", ""),
        ];
        check(&policy(false, &[]), false, &other);
        assert!(!policy(false, &[]).allows(Some("http://example.com"), None));
    }

    #[test]
    fn on_loopback_every_local_page_may_connect() {
        let local = [
            ("http://localhost:8765", "localhost:8765"),
            ("http://localhost:3000", "127.0.0.1:8765"),
            ("https://app.localhost", "localhost:8765"),
            ("http://127.9.9.9:1", "[::1]:8765"),
            ("http://[::1]:5500", "LOCALHOST.:8765"),
            ("null", "localhost:8765"),
        ];
        check(&policy(true, &[]), true, &local);
        let foreign = [
            ("http://evil.example", "localhost:8765"),
            ("http://notlocalhost", "localhost:8765"),
            ("http://localhost.evil.example", "localhost:8765"),
            ("http://127.0.0.1.evil.example", "localhost:8765"),
            ("http://128.0.0.1", "localhost:8765"),
            ("chrome-extension://localhost", "localhost:8765"),
        ];
        check(&policy(true, &[]), false, &foreign);
    }

    #[test]
    fn on_loopback_a_foreign_host_name_is_dns_rebinding() {
        let rebound = [
            ("http://evil.example:8765", "evil.example:8765"),
            ("http://localhost:8765", "evil.example:8765"),
            ("null", "evil.example:8765"),
            ("null", ""),
        ];
        check(&policy(true, &[]), false, &rebound);
    }

    #[test]
    fn what_the_operator_allows_is_allowed() {
        for loopback_only in [true, false] {
            let policy = policy(loopback_only, &["https://Chat.example", "app://x"]);
            // A reverse proxy on this machine passes on its public name.
            check(
                &policy,
                true,
                &[
                    ("https://chat.EXAMPLE", "chat.example"),
                    ("app://x", "localhost"),
                ],
            );
            let other = [
                ("http://chat.example", "x"),
                ("https://chat.example:444", "x"),
                ("https://a.chat.example", "x"),
            ];
            check(&policy, false, &other);
        }
        check(
            &policy(true, &["*"]),
            true,
            &[("http://anything", "x"), ("null", "localhost")],
        );
    }
}
