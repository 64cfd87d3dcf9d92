//! The counts of what is refused, and a line in the log for each reason, at most one per minute.
//!
//! An operator whose proxy names another host, or whose limit is too low, learns it from the log and not from the users.
//! A flood of refusals costs a line per minute.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::{self, Display, Write};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tracing::warn;
use tungstenite::protocol::frame::coding::CloseCode;

use super::http::Refusal;
use super::protocol::Fault;
use super::websocket::deflate::InflateError;

/// The label of a figure in `/metrics`.
pub(super) type Labels = [(&'static str, &'static str); 1];

/// The least time between two lines for one reason.
const QUIET: Duration = Duration::from_mins(1);
/// How much of a peer's own words a line shows, in characters.
const QUOTED_CHARS: usize = 100;

/// Why something was refused, or a client dropped.
#[derive(Debug, Clone, Copy)]
pub enum Reason {
    /// A request, or a connection without a place.
    Request(Refusal),
    /// A message.
    Message(Fault),
    /// A client that broke a rule or a limit.
    Client(Broken),
    /// Nothing but a claim.
    Claim(Ignored),
}

/// What is claimed and not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// For whom a request came.
    ForwardedFor,
}

/// What a client did that ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it; the advice says more")]
pub enum Broken {
    PingTimeout,
    CloseTimeout,
    SlowConsumer,
    TooBig,
    BadUtf8,
    BadDeflate,
    ProtocolError,
    TooManyFaults,
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        Self::Request(refusal)
    }
}

impl From<Fault> for Reason {
    fn from(fault: Fault) -> Self {
        Self::Message(fault)
    }
}

impl From<Broken> for Reason {
    fn from(broken: Broken) -> Self {
        Self::Client(broken)
    }
}

impl From<Ignored> for Reason {
    fn from(ignored: Ignored) -> Self {
        Self::Claim(ignored)
    }
}

impl Reason {
    /// The name under which `/metrics` counts it; dashboards rely on these, so they never change.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Request(refusal) => refusal.reason(),
            Self::Message(fault) => fault.reason(),
            Self::Client(broken) => broken.label(),
            Self::Claim(Ignored::ForwardedFor) => "forwarded_for",
        }
    }

    /// What an operator can do about it.
    pub(super) fn advice(self) -> Cow<'static, str> {
        let advice = match self {
            Self::Request(Refusal::NoDescriptors) => {
                "no descriptor is left for another client; raise the limit with `ulimit -n`, or lower --max-clients."
            }
            Self::Request(refusal) => return refusal.line().into(),
            Self::Message(Fault::RateLimited { .. }) => {
                "a client sends faster than --chat-interval allows; it was told when to try again."
            }
            Self::Message(Fault::AddressRate { .. }) => {
                "an address sends faster than --max-messages-per-address allows; it was told when to try again."
            }
            Self::Message(Fault::Unavailable { .. }) => {
                "a message could not be stored in Redis; its sender was told to try again."
            }
            Self::Message(_) => "a client's message was refused; it was told why.",
            Self::Client(broken) => broken.advice(),
            Self::Claim(Ignored::ForwardedFor) => {
                "an X-Forwarded-For names addresses that no trusted proxy vouches for, and they are ignored; name \
                 the proxies in front of this server with --trusted-proxy."
            }
        };
        advice.into()
    }
}

impl From<InflateError> for Broken {
    fn from(error: InflateError) -> Self {
        match error {
            InflateError::TooLong => Self::TooBig,
            InflateError::NotDeflate => Self::BadDeflate,
            InflateError::NotUtf8(_) => Self::BadUtf8,
        }
    }
}

impl Broken {
    /// The name under which `/metrics` counts it, and the reason in the Close.
    pub fn label(self) -> &'static str {
        match self {
            Self::PingTimeout => "ping_timeout",
            Self::CloseTimeout => "close_timeout",
            Self::SlowConsumer => "slow_consumer",
            Self::TooBig => "too_big",
            Self::BadUtf8 => "bad_utf8",
            Self::BadDeflate => "bad_deflate",
            Self::ProtocolError => "protocol_error",
            Self::TooManyFaults => "too_many_faults",
        }
    }

    /// The code of the Close, where one can be sent (RFC 6455 §7.4.1).
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::PingTimeout | Self::CloseTimeout => CloseCode::Error,
            Self::SlowConsumer | Self::TooManyFaults => CloseCode::Policy,
            Self::TooBig => CloseCode::Size,
            Self::BadUtf8 | Self::BadDeflate => CloseCode::Invalid,
            Self::ProtocolError => CloseCode::Protocol,
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::PingTimeout => {
                "a client did not answer a Ping in time; --ping-timeout says how long one may take."
            }
            Self::CloseTimeout => {
                "a client did not answer a Close in time; --close-timeout says how long one may take."
            }
            Self::SlowConsumer => {
                "a client did not read what it was sent; --max-unsent says how much may wait for one."
            }
            Self::TooBig => "a client sent too large a message; --max-message is the limit.",
            Self::BadUtf8 => "a client sent text that is not UTF-8.",
            Self::BadDeflate => "a client sent a compressed message that does not inflate.",
            Self::ProtocolError => "a client broke the WebSocket protocol (RFC 6455).",
            Self::TooManyFaults => {
                "a client got too many error answers in a row, and was closed with 1008."
            }
        }
    }
}

/// Everything that is refused, by reason.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    pub(super) counts: Family<Labels, Counter>,
    told: Mutex<BTreeMap<&'static str, Told>>,
}

/// The last line for one reason.
#[derive(Debug)]
struct Told {
    at: Instant,
    /// Refusals since then.
    untold: u64,
}

impl Refusals {
    pub(super) fn count(&self, reason: &'static str) {
        self.counts.get_or_create(&[("reason", reason)]).inc();
    }

    /// Writes the line, unless there was one for this reason less than a minute ago. `why` is called only then.
    pub(super) fn tell(&self, now: Instant, reason: &'static str, why: impl FnOnce() -> String) {
        if let Some(untold) = self.is_due(now, reason) {
            let why = why();
            let before = if untold == 0 {
                String::new()
            } else {
                format!(" And {untold} more before.")
            };
            warn!("[SERVER] Refused ({reason}): {why}{before}");
        }
    }

    /// How many went untold, if a line is due.
    fn is_due(&self, now: Instant, reason: &'static str) -> Option<u64> {
        let mut told = self.told.lock();
        match told.entry(reason) {
            Entry::Vacant(entry) => {
                entry.insert(Told { at: now, untold: 0 });
                Some(0)
            }
            Entry::Occupied(mut entry) => {
                let told = entry.get_mut();
                if now.saturating_duration_since(told.at) < QUIET {
                    told.untold += 1;
                    return None;
                }
                told.at = now;
                Some(std::mem::take(&mut told.untold))
            }
        }
    }
}

/// Text of a peer's for the log: control characters are escaped, so that no peer can forge a line, and it is cut.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.chars();
        write!(
            formatter,
            "\"{}",
            Printable(
                characters
                    .by_ref()
                    .take(QUOTED_CHARS)
                    .collect::<String>()
                    .as_str()
            )
        )?;
        formatter.write_str(if characters.next().is_some() {
            "…\""
        } else {
            "\""
        })
    }
}

/// Text of a peer's with its control characters escaped.
pub(crate) struct Printable<'a>(pub(crate) &'a str);

impl Display for Printable<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| {
            if character.is_control() || is_bidi_or_line_control(character) {
                write!(formatter, "{}", character.escape_unicode())
            } else {
                formatter.write_char(character)
            }
        })
    }
}

fn is_bidi_or_line_control(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_once_a_minute_for_each_reason() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let at = |seconds, reason| refusals.is_due(start + Duration::from_secs(seconds), reason);
        assert_eq!(at(0, "origin"), Some(0));
        assert_eq!(at(0, "host"), Some(0));
        assert_eq!(at(1, "origin"), None);
        assert_eq!(at(59, "origin"), None);
        assert_eq!(at(60, "origin"), Some(2));
        assert_eq!(at(119, "origin"), None);
        assert_eq!(at(60, "host"), Some(0));
    }

    #[test]
    fn what_a_peer_says_cannot_forge_a_line() {
        assert_eq!(
            Quoted("a\r\nWARN b\u{202e}").to_string(),
            r#""a\u{d}\u{a}WARN b\u{202e}""#
        );
        let long = Quoted(&"\u{1f980}".repeat(101)).to_string();
        assert_eq!(long.chars().count(), 103);
    }
}
