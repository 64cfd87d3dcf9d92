//! What one address may take, sockets, handshakes and messages, and whose address counts behind a proxy.
//!
//! A client on IPv6 has a whole /64 to itself, and most often more, so a /64 counts as one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use parking_lot::Mutex;

use super::arrival::{Place, Places};
use super::engine::limiter::Bucket;
use super::http::Refusal;
use super::limits::Limits;

/// Addresses of which a rate remembers what they took lately; those beyond have one bucket between them.
const ADDRESSES_MAX: usize = 65_536;
/// In this time every bucket fills up, and need not be remembered any more.
const SECOND: Duration = Duration::from_secs(1);

/// A network from which proxies come that are believed: an address, or a network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedProxy(IpNet);

impl FromStr for TrustedProxy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map(|network| Self(network.trunc()))
            .map_err(|_| "an address or a network, as in 10.0.0.5, 10.0.0.0/8 or fd00::/8")
    }
}

/// The limits by address, and the proxies that say whose address it is.
#[derive(Debug)]
pub struct ByAddress {
    proxies: Vec<TrustedProxy>,
    is_limited: bool,
    sockets: Places,
    /// WebSocket handshakes.
    pub handshakes: Rate,
    /// Messages of clients.
    pub messages: Rate,
}

impl ByAddress {
    /// No address has taken anything yet.
    pub fn new(limits: &Limits, proxies: Vec<TrustedProxy>) -> Self {
        let most_of_any = limits.max_clients_per_address
            + limits.max_sockets_per_address
            + limits.max_handshakes_per_address
            + limits.max_messages_per_address;
        Self {
            proxies,
            is_limited: most_of_any > 0,
            sockets: Places::new(limits.max_sockets_per_address),
            handshakes: Rate::new(limits.max_handshakes_per_address),
            messages: Rate::new(limits.max_messages_per_address),
        }
    }

    /// Whether anything depends on whose address it is.
    pub fn is_in_use(&self) -> bool {
        self.is_limited || !self.proxies.is_empty()
    }

    /// Whether a proxy comes from there that is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.proxies.iter().any(|proxy| proxy.0.contains(&address))
    }

    /// A place for another socket that stands for this address, where places are counted. A trusted proxy's sockets stand
    /// for others.
    ///
    /// # Errors
    /// As many are open as may be.
    pub fn place(&self, address: IpAddr) -> Result<Option<Box<Place>>, Refusal> {
        if self.trusts(address) {
            return Ok(None);
        }
        self.sockets.take(counted_as(address))
    }

    /// The address that a request comes from, which came from `hop` and says it was `forwarded_for` others, and whether some
    /// of what it says is not believed. Each proxy appends the address that it was asked from, so the list is read from its
    /// end, for as long as what stands there is a proxy that is trusted.
    pub fn client(&self, hop: IpAddr, forwarded_for: &str) -> (IpAddr, bool) {
        let mut address = hop;
        let mut before = forwarded_for
            .rsplit(',')
            .map(str::trim)
            .filter(|hop| !hop.is_empty());
        while self.trusts(address) {
            match before.next().map(address_in) {
                Some(Some(named)) => address = named,
                Some(None) => return (address, true),
                None => return (address, false),
            }
        }
        (address, before.next().is_some())
    }
}

/// An address of the list, which some proxies give with the port.
fn address_in(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').trim_end_matches(']');
    let address = bare
        .parse()
        .or_else(|_| hop.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// The address under which this one is counted.
pub(crate) fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// A rate that each address has: so many per second, and as many at once.
#[derive(Debug)]
pub struct Rate {
    /// 0: no limit, and nothing is counted.
    per_second: u32,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    by_address: HashMap<IpAddr, Bucket>,
    others: Bucket,
    /// When those were last forgotten that have a full bucket again.
    swept_at: Option<Instant>,
}

impl Rate {
    fn new(per_second: usize) -> Self {
        Self {
            per_second: u32::try_from(per_second).unwrap_or(u32::MAX),
            taken: Mutex::default(),
        }
    }

    /// Takes one for this address.
    ///
    /// # Errors
    /// How long to wait for the next, where it has taken all it may.
    pub fn take(&self, now: Instant, address: IpAddr) -> Result<(), Duration> {
        if self.per_second == 0 {
            return Ok(());
        }
        let mut taken = self.taken.lock();
        let bucket = taken.bucket(now, counted_as(address));
        bucket.take(now, SECOND / self.per_second, self.per_second)
    }
}

impl Taken {
    /// The bucket of an address. What is remembered has a limit, and to forget costs little however often it is reached.
    fn bucket(&mut self, now: Instant, address: IpAddr) -> &mut Bucket {
        let is_due = self
            .swept_at
            .is_none_or(|swept_at| now.saturating_duration_since(swept_at) >= SECOND);
        if self.by_address.len() >= ADDRESSES_MAX && is_due {
            self.by_address.retain(|_, bucket| !bucket.is_full(now));
            self.swept_at = Some(now);
        }
        if self.by_address.len() >= ADDRESSES_MAX && !self.by_address.contains_key(&address) {
            return &mut self.others;
        }
        self.by_address.entry(address).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn by_address(proxies: &[&str]) -> ByAddress {
        let proxies = proxies
            .iter()
            .map(|proxy| proxy.parse().expect("a network"));
        let mut limits = Config::defaults().limits();
        limits.max_sockets_per_address = 1;
        limits.max_handshakes_per_address = 4;
        ByAddress::new(&limits, proxies.collect())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_list_of_addresses_is_read_from_its_end() {
        let by_address = by_address(&["10.0.0.0/8", "192.0.2.7", "fd00::/8"]);
        for (hop, forwarded_for, client, ignored) in [
            ("10.0.0.1", "203.0.113.9", "203.0.113.9", false),
            ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9", false),
            (
                "10.0.0.1",
                "203.0.113.9, 192.0.2.7 ,fd00::2",
                "203.0.113.9",
                false,
            ),
            ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9", false),
            ("10.0.0.1", "[2001:db8::9]:4711", "2001:db8::9", false),
            ("10.0.0.1", "[2001:db8::9]", "2001:db8::9", false),
            ("10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.2", false),
            ("10.0.0.1", "", "10.0.0.1", false),
            // What a client says of itself.
            ("10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9", true),
            ("10.0.0.1", "10.0.0.5, 203.0.113.9", "203.0.113.9", true),
            ("203.0.113.9", "198.51.100.1", "203.0.113.9", true),
            ("192.0.2.8", "10.0.0.1", "192.0.2.8", true),
            ("10.0.0.1", "203.0.113.9, unknown", "10.0.0.1", true),
            ("10.0.0.1", "203.0.113.9, 10.0.0", "10.0.0.1", true),
        ] {
            assert_eq!(
                by_address.client(ip(hop), forwarded_for),
                (ip(client), ignored),
                "{hop} for {forwarded_for}"
            );
        }
    }

    #[test]
    fn an_ipv6_client_is_its_64_bits() {
        let by_address = by_address(&["fd00::/8"]);
        let first = by_address.place(ip("2001:db8:0:1::1"));
        assert!(first.as_ref().is_ok_and(Option::is_some));
        assert!(by_address.place(ip("2001:db8:0:1:ffff::2")).is_err());
        assert!(by_address.place(ip("2001:db8:0:2::1")).is_ok());
        assert!(by_address.place(ip("::ffff:192.0.2.1")).is_ok());
        assert_eq!(counted_as(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        for _ in 0..3 {
            assert!(
                by_address
                    .place(ip("fd00::1"))
                    .is_ok_and(|place| place.is_none())
            );
        }
    }

    #[test]
    fn what_is_no_network_is_told() {
        for text in ["", "10.0.0.0/33", "10.0.0", "example.com", "10.0.0.0/"] {
            assert!(text.parse::<TrustedProxy>().is_err(), "{text}");
        }
        assert!(by_address(&["10.1.2.3/8"]).trusts(ip("10.9.9.9")));
    }

    #[test]
    fn a_rate_is_a_second_of_it_at_once_and_then_its_pace() {
        let by_address = by_address(&[]);
        let (rate, start) = (&by_address.handshakes, Instant::now());
        let (one, same, other) = (ip("2001:db8::1"), ip("2001:db8::2"), ip("192.0.2.1"));
        assert_eq!([(); 2].map(|()| rate.take(start, one)), [Ok(()); 2]);
        assert_eq!([(); 2].map(|()| rate.take(start, same)), [Ok(()); 2]);
        let wait = Duration::from_millis(250);
        assert_eq!(rate.take(start, one), Err(wait));
        assert_eq!(rate.take(start, other), Ok(()));
        assert_eq!(rate.take(start + wait, one), Ok(()));
        assert_eq!(rate.take(start + wait, one), Err(wait));
    }

    #[test]
    fn what_a_rate_remembers_is_bounded() {
        let by_address = by_address(&[]);
        let (rate, start) = (&by_address.handshakes, Instant::now());
        let number = |n: usize| IpAddr::from(u32::try_from(n).expect("small").to_be_bytes());
        for n in 0..ADDRESSES_MAX {
            assert_eq!(rate.take(start, number(n)), Ok(()));
        }
        let strangers = (0..100).filter(|n| rate.take(start, number(ADDRESSES_MAX + n)).is_ok());
        assert_eq!(strangers.count(), 4, "one bucket between them");
        assert_eq!(rate.take(start, number(0)), Ok(()), "the known are served");
        assert_eq!(rate.taken.lock().by_address.len(), ADDRESSES_MAX);
        assert_eq!(rate.take(start + SECOND, number(ADDRESSES_MAX)), Ok(()));
        assert_eq!(rate.taken.lock().by_address.len(), 1);
    }
}
