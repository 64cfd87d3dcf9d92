//! The compression that a client offers and the server agrees to: `Sec-WebSocket-Extensions` (RFC 6455 §9.1) with
//! permessage-deflate (RFC 7692 §5 and §7.1).

use std::fmt::{self, Display};
use std::num::NonZeroU8;

use super::endpoint::Endpoint;
use super::fields::Fields;
use crate::core::websocket::deflate::{SHARED_WINDOW_BITS, WINDOW_BITS_MAX, WINDOW_BITS_MIN};

const PERMESSAGE_DEFLATE: &[u8] = b"permessage-deflate";

/// The smallest window that a client may name; the compressor does not keep to one that small.
const NAMED_WINDOW_BITS_MIN: u8 = 8;

/// What of a client's offers can be agreed to. It is found without an allocation, since a thread keeps what it frees.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Offered {
    /// Where many clients share a stream.
    shared: Option<Agreement>,
    /// Where each message is compressed by itself.
    alone: Option<Agreement>,
}

/// The header does not follow its grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl Offered {
    pub(super) fn read(fields: &Fields) -> Result<Self, Malformed> {
        let mut offered = Self::default();
        for header in fields.values("Sec-WebSocket-Extensions") {
            offered.read_header(header)?;
        }
        Ok(offered)
    }

    /// A list in which elements may be empty (RFC 9110 §5.6.1.2). Of the offers that can be kept the first counts.
    fn read_header(&mut self, header: &[u8]) -> Result<(), Malformed> {
        let mut parser = Parser(header);
        loop {
            while parser.eat(b',') {}
            if parser.0.is_empty() {
                return Ok(());
            }
            if let Some(offer) = parser.extension()? {
                self.shared = self.shared.or(offer.accept(true));
                self.alone = self.alone.or(offer.accept(false));
            }
            if !parser.0.is_empty() && !parser.0.starts_with(b",") {
                return Err(Malformed);
            }
        }
    }

    /// What is agreed on at this endpoint; the client is served in any case.
    pub(super) fn at(self, endpoint: Endpoint) -> Option<Agreement> {
        match endpoint {
            Endpoint::Chat | Endpoint::Dashboard => self.shared,
            Endpoint::Echo => self.alone,
            // The server is not to be kept busy by its observers.
            Endpoint::Inside => None,
        }
    }
}

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Agreement {
    /// The window that the client keeps, as a power of two.
    pub(super) window_bits: NonZeroU8,
    /// Whether the answer says so, which it does where the client has asked.
    names_window: bool,
    no_context_takeover: bool,
}

impl Display for Agreement {
    /// What a client sends never refers to what it sent before: no window is kept for it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("permessage-deflate; client_no_context_takeover")?;
        if self.no_context_takeover {
            out.write_str("; server_no_context_takeover")?;
        }
        if self.names_window {
            write!(out, "; server_max_window_bits={}", self.window_bits)?;
        }
        Ok(())
    }
}

/// One offer of permessage-deflate.
#[derive(Debug, Default, Clone, Copy)]
struct Offer {
    no_context_takeover: bool,
    max_window_bits: Option<u8>,
}

impl Offer {
    /// A stream that many clients share has one window, and refers to what was said before. Where each message is
    /// compressed by itself, it can be done as asked.
    fn accept(self, shared: bool) -> Option<Agreement> {
        let asked = self.max_window_bits.unwrap_or(WINDOW_BITS_MAX);
        let (least, kept) = if shared {
            (SHARED_WINDOW_BITS, SHARED_WINDOW_BITS)
        } else {
            (WINDOW_BITS_MIN, asked)
        };
        let can_be_kept = asked >= least && !(shared && self.no_context_takeover);
        let agreement = Agreement {
            window_bits: NonZeroU8::new(kept)?,
            names_window: self.max_window_bits.is_some(),
            no_context_takeover: self.no_context_takeover,
        };
        can_be_kept.then_some(agreement)
    }
}

/// What stands behind a parameter's name.
#[derive(Debug, Clone, Copy)]
enum Value {
    Missing,
    /// §7.1.2: a decimal number from 8 to 15 without leading zeros.
    WindowBits(u8),
    Other,
}

impl Value {
    /// The value of these characters.
    fn of(characters: impl Iterator<Item = u8>) -> Self {
        let mut number = 0_u8;
        for byte in characters {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 || digit == 0 && number == 0 {
                return Self::Other;
            }
            number = number.saturating_mul(10).saturating_add(digit);
        }
        match number {
            NAMED_WINDOW_BITS_MIN..=WINDOW_BITS_MAX => Self::WindowBits(number),
            _ => Self::Other,
        }
    }
}

/// What is left of a header to be read.
struct Parser<'a>(&'a [u8]);

impl<'a> Parser<'a> {
    /// The next extension, if it is an offer that says nothing else than it can: a parameter that is not known, stands
    /// there twice, or has a value that it cannot have makes it one to be declined (§7.1).
    fn extension(&mut self) -> Result<Option<Offer>, Malformed> {
        let mut is_proper = self.token()? == PERMESSAGE_DEFLATE;
        let mut offer = Offer::default();
        let mut seen = [false; 4];
        while self.eat(b';') {
            let name = self.token()?;
            let value = if self.eat(b'=') {
                self.value()?
            } else {
                Value::Missing
            };
            let place = match (name, value) {
                (b"server_no_context_takeover", Value::Missing) => {
                    offer.no_context_takeover = true;
                    0
                }
                (b"server_max_window_bits", Value::WindowBits(bits)) => {
                    offer.max_window_bits = Some(bits);
                    1
                }
                (b"client_no_context_takeover", Value::Missing) => 2,
                (b"client_max_window_bits", Value::Missing | Value::WindowBits(_)) => 3,
                _ => {
                    is_proper = false;
                    continue;
                }
            };
            is_proper &= !std::mem::replace(&mut seen[place], true);
        }
        Ok(is_proper.then_some(offer))
    }

    fn value(&mut self) -> Result<Value, Malformed> {
        self.skip_space();
        let Some(quoted) = self.0.strip_prefix(b"\"") else {
            return self.token().map(|token| Value::of(token.iter().copied()));
        };
        let mut end = 0;
        while *quoted.get(end).ok_or(Malformed)? != b'"' {
            end += if quoted[end] == b'\\' { 2 } else { 1 };
        }
        let (quoted, rest) = (&quoted[..end], &quoted[end + 1..]);
        self.0 = rest;
        self.skip_space();
        // RFC 6455 §9.1: without its quotes and escapes it must be a token.
        if end > 0 && unescaped(quoted).all(is_token_byte) {
            Ok(Value::of(unescaped(quoted)))
        } else {
            Err(Malformed)
        }
    }

    fn token(&mut self) -> Result<&'a [u8], Malformed> {
        self.skip_space();
        let is_end = |byte: &u8| !is_token_byte(*byte);
        let end = self.0.iter().position(is_end).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        self.skip_space();
        if token.is_empty() {
            Err(Malformed)
        } else {
            Ok(token)
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.skip_space();
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn skip_space(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }
}

/// What stands between quotes, each backslash taken off what it escapes.
fn unescaped(quoted: &[u8]) -> impl Iterator<Item = u8> {
    let mut escaped = false;
    quoted.iter().copied().filter(move |byte| {
        escaped = *byte == b'\\' && !escaped;
        !escaped
    })
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the answer says behind the parameter that it always has; `None` where the client goes on plain.
    #[track_caller]
    fn agreed(header: &str, endpoint: Endpoint) -> Option<String> {
        let mut offered = Offered::default();
        let read = offered.read_header(header.as_bytes());
        assert_eq!(read, Ok(()), "the header follows its grammar");
        let answer = offered.at(endpoint)?.to_string();
        let rest = answer
            .strip_prefix("permessage-deflate; client_no_context_takeover")
            .expect("what the answer always says");
        Some(rest.to_owned())
    }

    #[test]
    fn an_offer_is_agreed_to_where_it_can_be_kept() {
        let plain = Some("");
        for (header, shared, echo) in [
            ("permessage-deflate", plain, plain),
            (" permessage-deflate ", plain, plain),
            ("permessage-deflate; client_max_window_bits", plain, plain),
            ("permessage-deflate;client_max_window_bits=8", plain, plain),
            (
                "permessage-deflate; client_no_context_takeover",
                plain,
                plain,
            ),
            (
                "permessage-deflate; server_max_window_bits=15",
                Some("; server_max_window_bits=12"),
                Some("; server_max_window_bits=15"),
            ),
            (
                "permessage-deflate; server_max_window_bits = \"1\\2\" ; client_max_window_bits=12",
                Some("; server_max_window_bits=12"),
                Some("; server_max_window_bits=12"),
            ),
            (
                "permessage-deflate; server_max_window_bits=11",
                None,
                Some("; server_max_window_bits=11"),
            ),
            ("permessage-deflate; server_max_window_bits=8", None, None),
            (
                "permessage-deflate; server_no_context_takeover",
                None,
                Some("; server_no_context_takeover"),
            ),
            (
                "permessage-deflate; server_no_context_takeover; server_max_window_bits=9, permessage-deflate",
                plain,
                Some("; server_no_context_takeover; server_max_window_bits=9"),
            ),
            (
                "x-unknown; a=b, permessage-deflate; nonsense, ,permessage-deflate",
                plain,
                plain,
            ),
        ] {
            for (endpoint, expected) in [
                (Endpoint::Chat, shared),
                (Endpoint::Dashboard, shared),
                (Endpoint::Echo, echo),
            ] {
                assert_eq!(agreed(header, endpoint).as_deref(), expected, "{header}");
            }
        }
    }

    #[test]
    fn an_offer_that_says_what_none_can_is_declined() {
        for header in [
            "",
            ",",
            "x-webkit-deflate-frame",
            "Permessage-Deflate",
            "permessage-deflate; unknown",
            "permessage-deflate; unknown=1",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=10",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=010",
            "permessage-deflate; server_max_window_bits=+10",
            "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
            "permessage-deflate; client_max_window_bits=x",
            "permessage-deflate; client_max_window_bits=256",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        ] {
            assert_eq!(agreed(header, Endpoint::Echo), None, "{header}");
        }
    }

    #[test]
    fn a_header_against_the_grammar_is_told_apart() {
        for header in [
            ";",
            "=",
            "a b",
            "a;",
            "a; =b",
            "a; b=",
            "a; b=\"c",
            "a; b=\"\\",
            "a; b=\"\"",
            "a; b=\"c d\"",
            "a; b=c d",
            "a; b=\"c\"d",
            "permessage-deflate; \u{e9}",
        ] {
            let read = Offered::default().read_header(header.as_bytes());
            assert_eq!(read, Err(Malformed), "{header}");
        }
    }
}
