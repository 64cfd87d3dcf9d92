//! The compression that a client offers and the server agrees to: `Sec-WebSocket-Extensions` (RFC 6455 §9.1) with
//! permessage-deflate (RFC 7692 §5 and §7.1).

use std::borrow::Cow;
use std::fmt::Write;
use std::num::NonZeroU8;

use super::upgrade::Endpoint;
use crate::core::websocket::deflate::{SHARED_WINDOW_BITS, WINDOW_BITS_MAX, WINDOW_BITS_MIN};

const PERMESSAGE_DEFLATE: &str = "permessage-deflate";

/// The smallest window that a client may name; the compressor does not keep to one that small.
const NAMED_WINDOW_BITS_MIN: u8 = 8;

/// What was agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Agreement {
    /// What the answer says.
    pub(super) answer: String,
    /// The window that the client keeps, as a power of two.
    pub(super) window_bits: NonZeroU8,
}

/// The header does not follow its grammar.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Agrees to the first offer that can be kept at this endpoint, if there is one; the client is served in any case.
pub(super) fn agree(header: &str, endpoint: Endpoint) -> Result<Option<Agreement>, Malformed> {
    let extensions = Parser(header).extensions()?;
    let mut offers = extensions
        .iter()
        .filter(|extension| extension.name == PERMESSAGE_DEFLATE)
        .filter_map(|extension| Offer::read(&extension.parameters));
    Ok(offers.find_map(|offer| offer.accept(endpoint)))
}

/// What a client offers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Offer {
    server_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
}

impl Offer {
    /// `None` where the offer must be declined: a parameter that is not known, stands there twice, or has a value that it
    /// cannot have (§7.1).
    fn read(parameters: &[Parameter<'_>]) -> Option<Self> {
        let mut offer = Self::default();
        for (index, Parameter { name, value }) in parameters.iter().enumerate() {
            if parameters[..index]
                .iter()
                .any(|before| before.name == *name)
            {
                return None;
            }
            let bits = match value {
                Some(value) => Some(window_bits(value)?),
                None => None,
            };
            match (*name, bits) {
                ("server_no_context_takeover", None) => offer.server_no_context_takeover = true,
                ("server_max_window_bits", Some(bits)) => offer.server_max_window_bits = Some(bits),
                ("client_no_context_takeover", None) | ("client_max_window_bits", _) => {}
                _ => return None,
            }
        }
        Some(offer)
    }

    /// A stream that many clients share has one window, and refers to what was said before. `/ws/echo` compresses each
    /// message by itself, and so can do what is asked. What a client sends never refers to what it sent before: no
    /// window is kept for it.
    fn accept(self, endpoint: Endpoint) -> Option<Agreement> {
        let asked = self.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX);
        let (least, kept) = match endpoint {
            Endpoint::Chat | Endpoint::Dashboard => (SHARED_WINDOW_BITS, SHARED_WINDOW_BITS),
            Endpoint::Echo => (WINDOW_BITS_MIN, asked),
            // The server is not to be kept busy by those who watch it.
            Endpoint::Inside => return None,
        };
        let shared = !matches!(endpoint, Endpoint::Echo);
        if asked < least || shared && self.server_no_context_takeover {
            return None;
        }
        let mut answer = format!("{PERMESSAGE_DEFLATE}; client_no_context_takeover");
        if self.server_no_context_takeover {
            answer += "; server_no_context_takeover";
        }
        if self.server_max_window_bits.is_some() {
            let _ = write!(answer, "; server_max_window_bits={kept}");
        }
        Some(Agreement {
            answer,
            window_bits: NonZeroU8::new(kept)?,
        })
    }
}

/// §7.1.2: a decimal number from 8 to 15 without leading zeros.
fn window_bits(value: &str) -> Option<u8> {
    let bits = value.parse().ok()?;
    let is_canonical = value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0');
    (is_canonical && (NAMED_WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(&bits)).then_some(bits)
}

struct Extension<'a> {
    name: &'a str,
    parameters: Vec<Parameter<'a>>,
}

struct Parameter<'a> {
    name: &'a str,
    value: Option<Cow<'a, str>>,
}

/// What is left of a header to be read.
struct Parser<'a>(&'a str);

impl<'a> Parser<'a> {
    /// A list in which elements may be empty (RFC 9110 §5.6.1.2).
    fn extensions(mut self) -> Result<Vec<Extension<'a>>, Malformed> {
        let mut extensions = Vec::new();
        loop {
            while self.eat(',') {}
            if self.0.is_empty() {
                return Ok(extensions);
            }
            let name = self.token()?;
            let mut parameters = Vec::new();
            while self.eat(';') {
                parameters.push(self.parameter()?);
            }
            extensions.push(Extension { name, parameters });
            if !self.0.is_empty() && !self.0.starts_with(',') {
                return Err(Malformed);
            }
        }
    }

    fn parameter(&mut self) -> Result<Parameter<'a>, Malformed> {
        let name = self.token()?;
        let value = if self.eat('=') {
            Some(self.value()?)
        } else {
            None
        };
        Ok(Parameter { name, value })
    }

    fn value(&mut self) -> Result<Cow<'a, str>, Malformed> {
        self.skip_space();
        let Some(mut quoted) = self.0.strip_prefix('"') else {
            return self.token().map(Cow::Borrowed);
        };
        let mut value = String::new();
        loop {
            let mut characters = quoted.chars();
            match characters.next().ok_or(Malformed)? {
                '"' => break,
                '\\' => value.push(characters.next().ok_or(Malformed)?),
                character => value.push(character),
            }
            quoted = characters.as_str();
        }
        self.0 = &quoted[1..];
        self.skip_space();
        // RFC 6455 §9.1: unquoted it must be a token.
        let is_token = !value.is_empty() && value.bytes().all(is_token_byte);
        if is_token {
            Ok(Cow::Owned(value))
        } else {
            Err(Malformed)
        }
    }

    fn token(&mut self) -> Result<&'a str, Malformed> {
        self.skip_space();
        let end = self
            .0
            .bytes()
            .take_while(|byte| is_token_byte(*byte))
            .count();
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        self.skip_space();
        if token.is_empty() {
            Err(Malformed)
        } else {
            Ok(token)
        }
    }

    fn eat(&mut self, character: char) -> bool {
        self.skip_space();
        match self.0.strip_prefix(character) {
            Some(rest) => {
                self.0 = rest;
                self.skip_space();
                true
            }
            None => false,
        }
    }

    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }
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
        let agreement = agree(header, endpoint).expect("the header follows its grammar")?;
        let rest = agreement
            .answer
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
            assert_eq!(agree(header, Endpoint::Echo), Err(Malformed), "{header}");
        }
    }
}
