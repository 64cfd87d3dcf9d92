//! Which hosts this server answers for, and which web pages may open a WebSocket here.
//!
//! The same-origin policy does not hold for a WebSocket: any page in the world may open one, with the visitor's
//! browser and from the visitor's network. Only the `Origin` that the browser adds tells it from our own pages
//! (RFC 6455 §10.2). And a page may make its own name lead to this server (DNS rebinding), so that the browser takes
//! the two for one site. Only the `Host` that the browser sends tells that: an address cannot be rebound, a name must
//! be one that the operator knows.
//!
//! Chromium 156 sends the same header fields, `Origin: null` and no `Sec-Fetch-Site`, for a page opened as a file, for
//! a sandboxed frame of any site and for a `data:` address. They cannot be told apart, so pages without an origin of
//! their own are let in on loopback only and get nothing of the past; `--refuse-null-origin` keeps them out.

use std::net::IpAddr;
use std::str::FromStr;

use super::authority::{Authority, Host};

/// The server's rule for the `Host` of every request and the `Origin` of those for a WebSocket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessPolicy {
    /// The server listens on loopback addresses only.
    pub loopback_only: bool,
    /// Pages without an origin of their own are kept out even there.
    pub refuse_null_origin: bool,
    /// Origins that are allowed besides the server's own.
    pub origins: Vec<AllowedOrigin>,
    /// Names and addresses of this server that it cannot know by itself.
    pub hosts: Vec<AllowedHost>,
}

/// What is known of the sender of a request that may become a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// A program, or a page that the server or its operator knows.
    Known,
    /// A page without an origin of its own: a file, or a sandboxed frame of any site.
    Anonymous,
}

impl AccessPolicy {
    /// Whether the server answers for this `Host` on a connection to its address `local`.
    pub fn answers_for(&self, host: Option<&str>, local: IpAddr) -> bool {
        // A browser always names the host; a program that does not, such as a health check, is no rebound page.
        let Some(host) = host.filter(|host| !host.is_empty()) else {
            return true;
        };
        // Only the name is looked at: a proxy may have the port that the browser sends.
        let Some(Authority { host, .. }) = Authority::parse(host, 0) else {
            return self.hosts.contains(&AllowedHost::Any);
        };
        host.is_loopback()
            || host == Host::Address(local.to_canonical())
            || self.hosts.iter().any(|allowed| allowed.covers(&host))
            || self.origins.iter().any(|allowed| allowed.is_of(&host))
    }

    /// The sender of a WebSocket handshake with these header fields, if that sender may have one. The `Host` is one that the
    /// server [answers for](Self::answers_for).
    pub fn sender(&self, origin: Option<&str>, host: Option<&str>) -> Option<Sender> {
        // No browser leaves it out: a program may say of itself what it likes anyway.
        let Some(origin) = origin else {
            return Some(Sender::Known);
        };
        if self.origins.iter().any(|allowed| allowed.covers(origin)) {
            return Some(Sender::Known);
        }
        let host_at = |default_port| host.and_then(|host| Authority::parse(host, default_port));
        let is_local = self.loopback_only && host_at(0).is_some_and(|at| at.host.is_loopback());
        if is_opaque(origin) {
            return (is_local && !self.refuse_null_origin).then_some(Sender::Anonymous);
        }
        let page = Page::of(origin)?;
        let is_same_host = host_at(page.default_port()).as_ref() == Some(&page.authority);
        (is_same_host || is_local && page.authority.host.is_loopback()).then_some(Sender::Known)
    }
}

/// `null` is what browsers send for a file or a sandboxed frame; Electron and the web views of Android send `file://` or
/// nothing for a file.
fn is_opaque(origin: &str) -> bool {
    matches!(origin, "null" | "file://" | "")
}

/// The origin of a page that came over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Page {
    is_https: bool,
    authority: Authority,
}

impl Page {
    fn of(origin: &str) -> Option<Self> {
        let (scheme, authority) = origin.split_once("://")?;
        let is_https = scheme.eq_ignore_ascii_case("https");
        if !is_https && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let default_port = if is_https { 443 } else { 80 };
        Some(Self {
            is_https,
            authority: Authority::parse(authority, default_port)?,
        })
    }

    fn default_port(&self) -> u16 {
        if self.is_https { 443 } else { 80 }
    }
}

/// A value of `--allow-origin`, in the one spelling that can be compared with what browsers send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedOrigin(Origin);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// `*`: every page.
    Any,
    /// `null`: pages without an origin of their own.
    Opaque,
    /// `https://lab.example`
    Page(Page),
    /// `app://lab`: of a program that shows pages under a scheme of its own.
    Other(String),
}

impl AllowedOrigin {
    fn covers(&self, origin: &str) -> bool {
        match &self.0 {
            Origin::Any => true,
            Origin::Opaque => is_opaque(origin),
            Origin::Page(page) => Page::of(origin).as_ref() == Some(page),
            Origin::Other(other) => other.eq_ignore_ascii_case(origin),
        }
    }

    /// Whether a page of this origin may come from this host, and so through it.
    fn is_of(&self, host: &Host) -> bool {
        match &self.0 {
            Origin::Any => true,
            Origin::Page(page) => page.authority.host == *host,
            Origin::Opaque | Origin::Other(_) => false,
        }
    }
}

impl FromStr for AllowedOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        Ok(Self(match text {
            "" => {
                return Err(
                    "an origin is not empty: name a page's, as in https://lab.example".to_owned(),
                );
            }
            "*" => Origin::Any,
            "null" | "file://" | "file:///" => Origin::Opaque,
            _ => parse_origin(text)?,
        }))
    }
}

fn parse_origin(text: &str) -> Result<Origin, String> {
    if text.contains('*') {
        return Err(
            "each host is named whole, with a flag of its own; only * by itself means all"
                .to_owned(),
        );
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("an origin begins with its scheme: https://{text}"));
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let scheme = scheme.to_ascii_lowercase();
    if matches!(scheme.as_str(), "ws" | "wss") {
        let of_page = scheme.replace("ws", "http");
        return Err(format!(
            "the origin is the page's, not the WebSocket's: {of_page}://{rest}"
        ));
    }
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !is_scheme {
        return Err("an origin begins with its scheme, as in https://lab.example".to_owned());
    }
    if let Some(end) = rest.find(['/', '?', '#']) {
        return Err(format!(
            "an origin ends with its host and port: {scheme}://{}",
            &rest[..end]
        ));
    }
    let origin = format!("{scheme}://{rest}");
    let page = Page::of(&origin);
    match page {
        Some(page) => Ok(Origin::Page(page)),
        None if !rest.is_ascii() => Err(NOT_ASCII.to_owned()),
        None if matches!(scheme.as_str(), "http" | "https") || rest.is_empty() => {
            Err("no page comes from there: name a host and, if need be, a port, as in https://lab.example:8443".to_owned())
        }
        None => Ok(Origin::Other(origin)),
    }
}

/// A value of `--allow-host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedHost {
    /// `*`: whatever the browser says.
    Any,
    /// A name or an address.
    Host(HostName),
}

/// A name or an address, in the one spelling that can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(Host);

impl AllowedHost {
    fn covers(&self, host: &Host) -> bool {
        match self {
            Self::Any => true,
            Self::Host(HostName(allowed)) => allowed == host,
        }
    }
}

impl FromStr for AllowedHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "*" {
            return Ok(Self::Any);
        }
        // An IPv6 address may go without its brackets here.
        let bracketed = format!("[{text}]");
        let authority = Authority::parse(&bracketed, 0).or_else(|| Authority::parse(text, 0));
        match authority {
            Some(Authority { host, port: 0 }) if !text.ends_with(':') => {
                Ok(Self::Host(HostName(host)))
            }
            Some(_) => Err("a host is named without its port, which is not looked at".to_owned()),
            None if text.is_empty() => {
                Err("a host is not empty: name one, as in lab.example".to_owned())
            }
            None if text.contains("://") => Err(
                "a host has no scheme and no path: lab.example, not https://lab.example/"
                    .to_owned(),
            ),
            None if text.contains('*') => Err(
                "each host is named whole, with a flag of its own; only * by itself means all"
                    .to_owned(),
            ),
            None if !text.is_ascii() => Err(NOT_ASCII.to_owned()),
            None => Err("this is no host: name one, as in lab.example or 192.0.2.7".to_owned()),
        }
    }
}

const NOT_ASCII: &str =
    "a host is written as browsers send it, in ASCII: xn--bcher-kva.example, not bücher.example";

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 5));

    fn policy(loopback_only: bool, origins: &[&str], hosts: &[&str]) -> AccessPolicy {
        AccessPolicy {
            loopback_only,
            refuse_null_origin: false,
            origins: origins
                .iter()
                .map(|origin| origin.parse().unwrap())
                .collect(),
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        }
    }

    #[track_caller]
    fn check(policy: &AccessPolicy, expected: Option<Sender>, rows: &[(&str, &str)]) {
        for (origin, host) in rows {
            assert_eq!(
                policy.sender(Some(origin), Some(host)),
                expected,
                "{origin:?} at {host:?}"
            );
        }
    }

    #[test]
    fn programs_send_no_origin_and_may_connect() {
        for loopback_only in [true, false] {
            let policy = policy(loopback_only, &[], &[]);
            assert_eq!(
                policy.sender(None, Some("example.com")),
                Some(Sender::Known)
            );
            assert_eq!(policy.sender(None, None), Some(Sender::Known));
        }
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
        for loopback_only in [true, false] {
            check(&policy(loopback_only, &[], &[]), Some(Sender::Known), &same);
        }
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
        check(&policy(false, &[], &[]), None, &other);
        assert_eq!(
            policy(false, &[], &[]).sender(Some("http://example.com"), None),
            None
        );
    }

    #[test]
    fn on_loopback_every_local_page_may_connect() {
        let local = [
            ("http://localhost:8765", "localhost:8765"),
            ("http://localhost:3000", "127.0.0.1:8765"),
            ("https://app.localhost", "localhost:8765"),
            ("http://127.9.9.9:1", "[::1]:8765"),
            ("http://[::1]:5500", "LOCALHOST.:8765"),
        ];
        check(&policy(true, &[], &[]), Some(Sender::Known), &local);
        let foreign = [
            ("http://evil.example", "localhost:8765"),
            ("http://notlocalhost", "localhost:8765"),
            ("http://localhost.evil.example", "localhost:8765"),
            ("http://127.0.0.1.evil.example", "localhost:8765"),
            ("http://128.0.0.1", "localhost:8765"),
            ("chrome-extension://localhost", "localhost:8765"),
            ("http://localhost:8765", "evil.example:8765"),
            ("null", "evil.example:8765"),
            ("null", ""),
            ("null, null", "localhost:8765"),
        ];
        check(&policy(true, &[], &[]), None, &foreign);
    }

    #[test]
    fn pages_without_an_origin_are_anonymous_on_loopback_and_kept_out_elsewhere() {
        let opaque = [
            ("null", "localhost:8765"),
            ("file://", "127.0.0.1"),
            ("", "[::1]:8765"),
        ];
        check(&policy(true, &[], &[]), Some(Sender::Anonymous), &opaque);
        check(&policy(false, &[], &[]), None, &opaque);
        let closed = AccessPolicy {
            refuse_null_origin: true,
            ..policy(true, &[], &[])
        };
        check(&closed, None, &opaque);
        for spelling in ["null", "file://"] {
            check(
                &policy(false, &[spelling], &[]),
                Some(Sender::Known),
                &opaque,
            );
        }
    }

    #[test]
    fn what_the_operator_allows_is_allowed() {
        for loopback_only in [true, false] {
            let policy = policy(loopback_only, &["https://Chat.example", "app://x"], &[]);
            // A reverse proxy on this machine passes on its public name.
            check(
                &policy,
                Some(Sender::Known),
                &[
                    ("https://chat.EXAMPLE", "chat.example"),
                    ("https://chat.example:443", "localhost"),
                    ("app://x", "localhost"),
                ],
            );
            let other = [
                ("http://chat.example", "x"),
                ("https://chat.example:444", "x"),
                ("https://a.chat.example", "x"),
            ];
            check(&policy, None, &other);
        }
        check(
            &policy(true, &["*"], &[]),
            Some(Sender::Known),
            &[("http://anything", "x"), ("null", "localhost")],
        );
    }

    #[test]
    fn an_origin_is_understood_or_refused_and_never_accepted_in_vain() {
        for spelling in [
            "https://lab.example/",
            "https://lab.example:443",
            "https://lab.example:",
            "HTTPS://LAB.example.",
            " https://lab.example",
        ] {
            check(
                &policy(false, &[spelling], &[]),
                Some(Sender::Known),
                &[("https://lab.example", "localhost")],
            );
        }
        for (spelling, said) in [
            ("", "not empty"),
            (" ", "not empty"),
            ("lab.example", "https://lab.example"),
            ("lab.example:443", "https://lab.example:443"),
            ("https://*.lab.example", "named whole"),
            ("*.lab.example", "named whole"),
            ("https://lab.example/chat", "https://lab.example"),
            ("https://lab.example?x", "https://lab.example"),
            ("https://user@lab.example", "no page"),
            ("https://lab.example:99999", "no page"),
            ("https://", "no page"),
            ("https:///", "no page"),
            ("app://", "no page"),
            ("https://127.1", "no page"),
            ("wss://lab.example", "https://lab.example"),
            ("ws://lab.example:8765", "http://lab.example:8765"),
            ("https://b\u{fc}cher.example", "ASCII"),
            ("://lab.example", "scheme"),
            ("1a://lab.example", "scheme"),
        ] {
            let told = spelling.parse::<AllowedOrigin>().expect_err(spelling);
            assert!(
                told.contains(said) && told.lines().count() == 1,
                "{spelling}: {told}"
            );
        }
    }

    #[test]
    fn the_server_answers_for_its_own_hosts() {
        let by_default = policy(false, &[], &[]);
        for own in [
            None,
            Some(""),
            Some("localhost"),
            Some("LOCALHOST.:8765"),
            Some("app.localhost"),
            Some("127.0.0.1:8765"),
            Some("[::1]:8765"),
            Some("192.168.1.5"),
            Some("192.168.1.5:8765"),
            Some("[::ffff:192.168.1.5]"),
        ] {
            assert!(by_default.answers_for(own, LOCAL), "{own:?}");
        }
        for foreign in [
            "evil.example",
            "evil.example:8765",
            "192.168.1.6",
            "localhost.evil.example",
            "192.168.1.5.evil.example",
            "null",
            "*",
            "::1",
        ] {
            assert!(!by_default.answers_for(Some(foreign), LOCAL), "{foreign}");
        }
    }

    #[test]
    fn the_operator_names_hosts_with_origins_and_by_themselves() {
        let named = policy(
            true,
            &["https://lab.example", "app://x"],
            &["Inner.", "2001:db8::1", "[2001:db8::2]"],
        );
        for own in [
            "lab.example",
            "LAB.example:8443",
            "inner:8765",
            "[2001:db8::1]:1",
            "[2001:db8:0::2]",
        ] {
            assert!(named.answers_for(Some(own), LOCAL), "{own}");
        }
        for foreign in ["a.lab.example", "x", "[2001:db8::3]"] {
            assert!(!named.answers_for(Some(foreign), LOCAL), "{foreign}");
        }
        for any in [policy(true, &["*"], &[]), policy(true, &[], &["*"])] {
            assert!(any.answers_for(Some("evil.example"), LOCAL));
        }
    }

    #[test]
    fn a_host_is_understood_or_refused() {
        for (spelling, said) in [
            ("", "not empty"),
            ("https://lab.example", "no scheme"),
            ("lab.example:8765", "without its port"),
            ("lab.example:", "without its port"),
            ("[::1]:8765", "without its port"),
            ("*.lab.example", "named whole"),
            ("b\u{fc}cher.example", "ASCII"),
            ("a b", "no host"),
            ("127.1", "no host"),
        ] {
            let told = spelling.parse::<AllowedHost>().expect_err(spelling);
            assert!(
                told.contains(said) && told.lines().count() == 1,
                "{spelling}: {told}"
            );
        }
    }
}
