//! What clients ask for: requests checked in the protocol's order, or the first fault in them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Metric;

/// The longest name kept, in characters; what is longer is cut, without an error.
pub const NAME_CHARS: usize = 50;
/// The longest text accepted, in characters.
pub const TEXT_CHARS: usize = 500;
/// The longest `cid` accepted, in characters.
pub const CID_CHARS: usize = 64;

/// What a client asks for by the path and query of its upgrade request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// `/ws/chat`, with the history it asked for.
    Chat(Replay),
    /// `/ws/dashboard`.
    Dashboard,
    /// `/ws/echo`.
    Echo,
    /// `/ws/inside`; whether the sender may ask for experiments, where the server allows any.
    Inside {
        /// A page without an origin of its own may not.
        experiments: bool,
    },
}

impl Opening {
    /// The same for a client that may not have what was said before it came, nor stop the server.
    #[must_use]
    pub fn without_past(self) -> Self {
        match self {
            Self::Chat(_) => Self::Chat(Replay::Nothing),
            Self::Inside { .. } => Self::Inside { experiments: false },
            opening @ (Self::Dashboard | Self::Echo) => opening,
        }
    }
}

/// Which of the room's past messages a newcomer wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// No query: nothing of the past.
    Nothing,
    /// `?history=N`: the newest N.
    Newest(usize),
    /// `?since=EPOCH:ID`: everything after message ID of that life of the history.
    Since {
        /// The life of the history that `id` belongs to.
        epoch: String,
        /// The last message the client has.
        id: u64,
    },
}

/// A data message as it came off the wire.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    /// A text frame: UTF-8, already checked.
    Text(&'a str),
    /// A binary frame; JSON in it is taken like a text frame's.
    Binary(&'a [u8]),
}

/// Why a message was refused; each has its `code`, its text and a place in the order of checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Not JSON.
    BadJson,
    /// JSON, but not a request this endpoint knows.
    BadMessage,
    /// A chat without a name or a text.
    Empty,
    /// A chat whose text is longer than [`TEXT_CHARS`].
    TooLong,
    /// Sooner than the chat interval allows.
    RateLimited {
        /// How long until a message would be accepted, in milliseconds, rounded up.
        retry_after_ms: u64,
    },
    /// Sooner than the rate of messages from one address allows.
    AddressRate {
        /// The same.
        retry_after_ms: u64,
    },
    /// Redis is away, or did not answer in time.
    Unavailable {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// A subscription names a metric that does not exist here.
    UnknownMetric,
    /// An experiment that this server does not do, or not for this client.
    NoExperiments,
}

impl Fault {
    /// The stable `code` of the error.
    pub fn code(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::BadMessage => "bad_message",
            Self::Empty => "empty",
            Self::TooLong => "too_long",
            Self::RateLimited { .. } | Self::AddressRate { .. } => "rate_limited",
            Self::Unavailable { .. } => "unavailable",
            Self::UnknownMetric => "unknown_metric",
            Self::NoExperiments => "no_experiments",
        }
    }

    /// Its label among the refusals.
    pub fn reason(self) -> &'static str {
        match self {
            Self::AddressRate { .. } => "address_messages",
            other => other.code(),
        }
    }

    /// The text of the error, frozen by part 1 of the protocol.
    pub fn text(self) -> &'static str {
        match self {
            Self::BadJson => "Invalid JSON format",
            Self::BadMessage => "Invalid message type",
            Self::Empty => "Tên và nội dung không được để trống",
            Self::TooLong => "Tin nhắn quá dài (tối đa 500 ký tự)",
            Self::RateLimited { .. } | Self::AddressRate { .. } => {
                "Bạn đang gửi tin nhắn quá nhanh. Vui lòng đợi 1 giây."
            }
            Self::Unavailable { .. } => "Chưa lưu được tin nhắn. Vui lòng thử lại sau.",
            Self::UnknownMetric => "Không có metric này",
            Self::NoExperiments => "Server này không làm thí nghiệm đó (cần --experiments)",
        }
    }
}

/// A chat message that passed every check that needs no memory of the room.
#[derive(Debug)]
pub struct Chat<'a> {
    name: Cow<'a, str>,
    text: Cow<'a, str>,
    /// The sender's own id for it, if it wants an acknowledgement.
    pub cid: Option<Cow<'a, str>>,
}

impl Chat<'_> {
    /// The name, trimmed and cut to [`NAME_CHARS`]; never empty.
    pub fn name(&self) -> &str {
        first_chars(trim(&self.name), NAME_CHARS)
    }

    /// The text, trimmed; 1 to [`TEXT_CHARS`] characters.
    pub fn text(&self) -> &str {
        trim(&self.text)
    }
}

/// What a client of the chat may ask for.
#[derive(Debug)]
pub enum ChatRequest<'a> {
    /// To say something.
    Say(Chat<'a>),
    /// To be answered, see [`Outgoing::Pong`](super::Outgoing::Pong).
    Ping,
}

/// What a watcher of the dashboard may ask for.
#[derive(Debug, PartialEq, Eq)]
pub enum DashboardRequest {
    /// Other metrics.
    Subscribe(Subscribe),
    /// To be answered, see [`Outgoing::Pong`](super::Outgoing::Pong).
    Ping,
}

/// A refused chat message: why, and its `cid` where that was valid.
#[derive(Debug)]
pub struct RefusedChat<'a> {
    /// What is wrong with it.
    pub fault: Fault,
    /// Its `cid`, so that the sender knows which message was refused.
    pub cid: Option<Cow<'a, str>>,
}

impl From<Fault> for RefusedChat<'_> {
    fn from(fault: Fault) -> Self {
        Self { fault, cid: None }
    }
}

/// Reads a request to the chat, checking in the protocol's order.
///
/// # Errors
/// The first check that failed, with the message's `cid` where it has a valid one.
pub fn parse_chat(payload: Payload<'_>) -> Result<ChatRequest<'_>, RefusedChat<'_>> {
    let fields = parse_fields(payload, Asked::Chat)?;
    if fields.is_ping() {
        return Ok(ChatRequest::Ping);
    }
    let cid_fits = fields
        .cid
        .as_deref()
        .is_none_or(|cid| (1..=CID_CHARS).contains(&char_count(cid)));
    if fields.kind.as_deref() != Some("chat") || !cid_fits {
        return Err(Fault::BadMessage.into());
    }
    let refuse = |fault, cid| Err(RefusedChat { fault, cid });
    let (name, text) = (
        fields.name.unwrap_or_default(),
        fields.text.unwrap_or_default(),
    );
    if trim(&name).is_empty() || trim(&text).is_empty() {
        return refuse(Fault::Empty, fields.cid);
    }
    if char_count(trim(&text)) > TEXT_CHARS {
        return refuse(Fault::TooLong, fields.cid);
    }
    Ok(ChatRequest::Say(Chat {
        name,
        text,
        cid: fields.cid,
    }))
}

/// Without white space at both ends, and without U+001C to U+001F, which Python's `str.strip` takes for white space too.
fn trim(text: &str) -> &str {
    text.trim_matches(|character: char| {
        character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
    })
}

/// A change of subscription: the metrics known, in the order asked for, without repeats.
#[derive(Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The metrics wanted.
    pub metrics: Vec<Metric>,
    /// Whether a name was left out because no such metric exists.
    pub unknown: bool,
}

/// Reads a request to the dashboard.
///
/// # Errors
/// [`Fault::BadJson`] or [`Fault::BadMessage`].
pub fn parse_dashboard(payload: Payload<'_>) -> Result<DashboardRequest, Fault> {
    let fields = parse_fields(payload, Asked::Dashboard)?;
    if fields.is_ping() {
        return Ok(DashboardRequest::Ping);
    }
    let (Some("subscribe"), Some(names)) = (fields.kind.as_deref(), fields.metrics) else {
        return Err(Fault::BadMessage);
    };
    let mut subscribe = Subscribe {
        metrics: Vec::new(),
        unknown: false,
    };
    for Text(name) in names {
        match Metric::from_name(&name) {
            Some(metric) if !subscribe.metrics.contains(&metric) => subscribe.metrics.push(metric),
            Some(_) => {}
            None => subscribe.unknown = true,
        }
    }
    Ok(DashboardRequest::Subscribe(subscribe))
}

/// What a reader of the inside view may ask for.
#[derive(Debug, PartialEq, Eq)]
pub enum InsideRequest<'a> {
    /// Views, from now on.
    Subscribe,
    /// No more of them.
    Unsubscribe,
    /// The path of the next chat message under this `cid`.
    Follow(Cow<'a, str>),
    /// The experiment: one blocking call in the handler of this request.
    Hold,
    /// The experiment: one turn of the loop, and none after it.
    Step,
    /// The end of that.
    Run,
    /// To be answered, see [`Outgoing::Pong`](super::Outgoing::Pong).
    Ping,
}

/// Reads a request to the inside view.
///
/// # Errors
/// [`Fault::BadJson`] or [`Fault::BadMessage`].
pub fn parse_inside(payload: Payload<'_>) -> Result<InsideRequest<'_>, Fault> {
    let fields = parse_fields(payload, Asked::Chat)?;
    let cid = fields.cid;
    match (fields.kind.as_deref(), cid) {
        (Some("subscribe"), _) => Ok(InsideRequest::Subscribe),
        (Some("unsubscribe"), _) => Ok(InsideRequest::Unsubscribe),
        (Some("follow"), Some(cid)) if (1..=CID_CHARS).contains(&char_count(&cid)) => {
            Ok(InsideRequest::Follow(cid))
        }
        (Some("hold"), _) => Ok(InsideRequest::Hold),
        (Some("step"), _) => Ok(InsideRequest::Step),
        (Some("run"), _) => Ok(InsideRequest::Run),
        (Some("ping"), _) => Ok(InsideRequest::Ping),
        _ => Err(Fault::BadMessage),
    }
}

fn char_count(text: &str) -> usize {
    text.chars().count()
}

/// The first `limit` characters of `text`.
pub(crate) fn first_chars(text: &str, limit: usize) -> &str {
    text.char_indices()
        .nth(limit)
        .map_or(text, |(end, _)| &text[..end])
}

/// Which endpoint's fields count; the other's are unknown fields here, whatever their type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Chat,
    Dashboard,
}

/// The fields of any request; a key given twice counts as its last value, as in the Python original.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<Cow<'a, str>>,
    name: Option<Cow<'a, str>>,
    text: Option<Cow<'a, str>>,
    cid: Option<Cow<'a, str>>,
    metrics: Option<Vec<Text<'a>>>,
}

impl Fields<'_> {
    fn is_ping(&self) -> bool {
        self.kind.as_deref() == Some("ping")
    }
}

/// A string borrowed from the frame where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn parse_fields(payload: Payload<'_>, asked: Asked) -> Result<Fields<'_>, Fault> {
    let text = match payload {
        Payload::Text(text) => text,
        Payload::Binary(bytes) => std::str::from_utf8(bytes).map_err(|_| Fault::BadJson)?,
    };
    let mut json = serde_json::Deserializer::from_str(text);
    let fields = json
        .deserialize_map(FieldsVisitor(asked))
        .and_then(|fields| json.end().map(|()| fields));
    fields.map_err(|_| {
        // Whether it is JSON at all is asked first, and a wrong type may stand before a syntax error.
        // Skipping a value does not recurse, so nesting of any depth is safe here.
        match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => Fault::BadMessage,
            Err(_) => Fault::BadJson,
        }
    })
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Key {
    Type,
    Name,
    Text,
    Cid,
    Metrics,
    #[serde(other)]
    Other,
}

struct FieldsVisitor(Asked);

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<Key>()? {
            match (key, self.0) {
                (Key::Type, _) => fields.kind = Some(map.next_value::<Text<'de>>()?.0),
                (Key::Name, Asked::Chat) => fields.name = Some(map.next_value::<Text<'de>>()?.0),
                (Key::Text, Asked::Chat) => fields.text = Some(map.next_value::<Text<'de>>()?.0),
                (Key::Cid, Asked::Chat) => fields.cid = Some(map.next_value::<Text<'de>>()?.0),
                (Key::Metrics, Asked::Dashboard) => fields.metrics = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault_of(text: &str) -> Fault {
        parse_chat(Payload::Text(text)).expect_err("refused").fault
    }

    fn chat_in(payload: Payload<'_>) -> Chat<'_> {
        match parse_chat(payload) {
            Ok(ChatRequest::Say(chat)) => chat,
            other => panic!("no chat: {other:?}"),
        }
    }

    #[test]
    fn checks_in_the_protocols_order() {
        let long = "a".repeat(501);
        for (text, fault) in [
            ("{".to_owned(), Fault::BadJson),
            (r#"{"type":5,]"#.to_owned(), Fault::BadJson),
            (r#"{"type":"chat"} x"#.to_owned(), Fault::BadJson),
            ("[1]".to_owned(), Fault::BadMessage),
            ("null".to_owned(), Fault::BadMessage),
            (
                r#"{"type":"talk","name":"","text":""}"#.to_owned(),
                Fault::BadMessage,
            ),
            (
                r#"{"type":"chat","name":null,"text":"a"}"#.to_owned(),
                Fault::BadMessage,
            ),
            (
                r#"{"type":"chat","name":"A","text":"a","cid":7}"#.to_owned(),
                Fault::BadMessage,
            ),
            (
                r#"{"type":"chat","name":"A","text":"a","cid":""}"#.to_owned(),
                Fault::BadMessage,
            ),
            (
                r#"{"type":"chat","name":"  ","text":"a"}"#.to_owned(),
                Fault::Empty,
            ),
            (r#"{"type":"chat","name":"A"}"#.to_owned(), Fault::Empty),
            (
                format!(r#"{{"type":"chat","name":" ","text":"{long}"}}"#),
                Fault::Empty,
            ),
            (
                format!(r#"{{"type":"chat","name":"A","text":"{long}"}}"#),
                Fault::TooLong,
            ),
        ] {
            assert_eq!(fault_of(&text), fault, "{text}");
        }
    }

    /// Every character that `chr(c).strip()` leaves nothing of, for `c` from 0 to 0x10FFFF in Python 3.
    #[test]
    fn trims_what_python_strips() {
        let stripped = "\t\n\u{b}\u{c}\r\u{1c}\u{1d}\u{1e}\u{1f} \u{85}\u{a0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\
            \u{2004}\u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}";
        for character in '\0'..=char::MAX {
            let is_stripped = trim(character.encode_utf8(&mut [0; 4])).is_empty();
            assert_eq!(is_stripped, stripped.contains(character), "{character:?}");
        }
        assert_eq!(trim("\u{1c} a\u{1d}b \u{1f}"), "a\u{1d}b");
    }

    #[test]
    fn counts_characters_and_cuts_names() {
        let text = format!(
            r#"{{"type":"chat","name":" {} ","text":" {} "}}"#,
            "ế".repeat(51),
            "ế".repeat(500)
        );
        let chat = chat_in(Payload::Text(&text));
        assert_eq!(
            (chat.name().chars().count(), chat.text().chars().count()),
            (50, 500)
        );
    }

    #[test]
    fn binary_and_repeated_keys_are_taken_as_the_original_takes_them() {
        let text = r#"{"type":"talk","type":"chat","name":"A","text":"x","text":"y","extra":[{}]}"#;
        let chat = chat_in(Payload::Binary(text.as_bytes()));
        assert_eq!(chat.text(), "y");
        assert_eq!(
            parse_chat(Payload::Binary(b"\xff"))
                .expect_err("not UTF-8")
                .fault,
            Fault::BadJson
        );
    }

    #[test]
    fn deep_nesting_neither_overflows_nor_passes() {
        let deep = "[".repeat(20_000);
        assert_eq!(fault_of(&deep), Fault::BadJson);
        assert_eq!(
            fault_of(&format!("{deep}{}", "]".repeat(20_000))),
            Fault::BadMessage
        );
        assert_eq!(
            fault_of(&format!(
                r#"{{"type":"chat","name":{deep}{}}}"#,
                "]".repeat(20_000)
            )),
            Fault::BadMessage
        );
    }

    #[test]
    fn requests_to_the_inside_view_are_told_apart() {
        let parse = |text: &'static str| parse_inside(Payload::Text(text));
        assert_eq!(
            parse(r#"{"type":"follow","cid":"a"}"#),
            Ok(InsideRequest::Follow("a".into()))
        );
        assert_eq!(parse(r#"{"type":"step"}"#), Ok(InsideRequest::Step));
        for text in [
            r#"{"type":"follow"}"#,
            r#"{"type":"follow","cid":""}"#,
            r#"{"type":"chat"}"#,
            "{}",
        ] {
            assert_eq!(parse(text), Err(Fault::BadMessage), "{text}");
        }
        assert_eq!(parse("{"), Err(Fault::BadJson));
    }

    #[test]
    fn subscriptions_keep_order_and_drop_repeats_and_strangers() {
        let text = r#"{"type":"subscribe","metrics":["stock","moon","cpu","stock"]}"#;
        let subscribe = Subscribe {
            metrics: vec![Metric::Stock, Metric::Cpu],
            unknown: true,
        };
        assert_eq!(
            parse_dashboard(Payload::Text(text)),
            Ok(DashboardRequest::Subscribe(subscribe))
        );
        assert_eq!(
            parse_dashboard(Payload::Text(r#"{"type":"ping"}"#)),
            Ok(DashboardRequest::Ping)
        );
        for text in [
            r#"{"type":"subscribe"}"#,
            r#"{"type":"subscribe","metrics":[1]}"#,
            r#"{"type":"chat"}"#,
        ] {
            assert_eq!(
                parse_dashboard(Payload::Text(text)),
                Err(Fault::BadMessage),
                "{text}"
            );
        }
    }
}
