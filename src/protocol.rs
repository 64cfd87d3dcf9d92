//! The wire messages, in and out: the only place that knows JSON.
//!
//! Everything here is pure: text in, a request or the fault found in it out; a message in, JSON out.
//! Lengths are counted in Unicode scalar values after trimming, as the protocol counts them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

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
    /// A metric nobody measures was named in a subscription.
    UnknownMetric,
}

impl Fault {
    /// The stable `code` of the error, which is also its label among the refusals.
    pub fn code(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::BadMessage => "bad_message",
            Self::Empty => "empty",
            Self::TooLong => "too_long",
            Self::RateLimited { .. } => "rate_limited",
            Self::UnknownMetric => "unknown_metric",
        }
    }

    /// The text of the error, frozen by part 1 of the protocol.
    pub fn text(self) -> &'static str {
        match self {
            Self::BadJson => "Invalid JSON format",
            Self::BadMessage => "Invalid message type",
            Self::Empty => "Tên và nội dung không được để trống",
            Self::TooLong => "Tin nhắn quá dài (tối đa 500 ký tự)",
            Self::RateLimited { .. } => "Bạn đang gửi tin nhắn quá nhanh. Vui lòng đợi 1 giây.",
            Self::UnknownMetric => "Không có metric này",
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
        first_chars(self.name.trim(), NAME_CHARS)
    }

    /// The text, trimmed; 1 to [`TEXT_CHARS`] characters.
    pub fn text(&self) -> &str {
        self.text.trim()
    }
}

/// What a client of the chat may ask for.
#[derive(Debug)]
pub enum ChatRequest<'a> {
    /// To say something.
    Say(Chat<'a>),
    /// To be answered, see [`Outgoing::Pong`].
    Ping,
}

/// What a watcher of the dashboard may ask for.
#[derive(Debug, PartialEq, Eq)]
pub enum DashboardRequest {
    /// Other metrics.
    Subscribe(Subscribe),
    /// To be answered, see [`Outgoing::Pong`].
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
    if name.trim().is_empty() || text.trim().is_empty() {
        return refuse(Fault::Empty, fields.cid);
    }
    if char_count(text.trim()) > TEXT_CHARS {
        return refuse(Fault::TooLong, fields.cid);
    }
    Ok(ChatRequest::Say(Chat {
        name,
        text,
        cid: fields.cid,
    }))
}

/// A change of subscription: the metrics known, in the order asked for, without repeats.
#[derive(Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The metrics wanted.
    pub metrics: Vec<Metric>,
    /// Whether a name was left out because nobody measures it.
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

/// What the dashboard can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Simulated, °C.
    Temperature,
    /// Simulated, USD.
    Stock,
    /// The host's CPU use, percent.
    Cpu,
    /// WebSocket clients connected.
    Clients,
    /// Frames sent to clients a second.
    Deliveries,
    /// How long a ready socket may have waited for the server in the last second, ms.
    Lag,
    /// Resident memory of the server, MiB.
    Memory,
    /// Threads of the server.
    Threads,
}

impl Metric {
    /// Every metric, in the order one tick sends them.
    pub const ALL: [Self; 8] = [
        Self::Temperature,
        Self::Stock,
        Self::Cpu,
        Self::Clients,
        Self::Deliveries,
        Self::Lag,
        Self::Memory,
        Self::Threads,
    ];
    /// What every client of the dashboard is subscribed to when it connects.
    pub const DEFAULT: [Self; 3] = [Self::Temperature, Self::Stock, Self::Cpu];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Stock => "stock",
            Self::Cpu => "cpu",
            Self::Clients => "clients",
            Self::Deliveries => "deliveries",
            Self::Lag => "lag",
            Self::Memory => "memory",
            Self::Threads => "threads",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }
}

/// A message to clients. `ts` is in milliseconds since the Unix epoch.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Outgoing<'a> {
    /// Somebody said something: the same bytes for everyone in the room.
    Chat {
        /// Who, as they call themselves.
        name: &'a str,
        /// What.
        text: &'a str,
        /// When the server accepted it.
        ts: u64,
        /// Its place in the room's one order: 1, 2, 3, …
        id: u64,
    },
    /// To the sender alone: the message is in the room's order under `id`.
    Ack {
        /// The sender's id for it.
        cid: &'a str,
        /// The room's id for it.
        id: u64,
        /// When this was answered.
        ts: u64,
    },
    /// To the sender alone: its link works. A page cannot see the Pings and Pongs of WebSocket itself, so this is how it
    /// finds out that a silent link is dead.
    Pong {
        /// When.
        ts: u64,
    },
    /// To the sender alone: the message was refused.
    Error {
        /// For a reader.
        text: &'static str,
        /// When.
        ts: u64,
        /// For a program.
        code: &'static str,
        /// For `rate_limited`: when to try again.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        /// The refused message's own id.
        #[serde(skip_serializing_if = "Option::is_none")]
        cid: Option<&'a str>,
    },
    /// From the server itself.
    System(System<'a>),
    /// One value of one metric.
    Metric {
        /// Which.
        metric: Metric,
        /// Its value, rounded to 2 decimals.
        value: f64,
        /// The tick it belongs to; the same for all metrics of a tick.
        ts: u64,
    },
}

/// A system message; which fields it has depends on its `code`.
#[derive(Debug, Default, Serialize)]
pub struct System<'a> {
    /// For a reader.
    pub text: Cow<'a, str>,
    /// When.
    pub ts: u64,
    /// For a program: `welcome`, `joined`, `left`, `presence` or `subscribed`.
    pub code: &'static str,
    /// How many are in the chat room now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online_count: Option<usize>,
    /// The metrics subscribed to, in the order asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribed: Option<&'a [Metric]>,
    /// What only a welcome says.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub welcome: Option<Welcome<'a>>,
    /// Where the room's history stands, for a newcomer to the chat.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryMark<'a>>,
}

/// What a newcomer learns of the server it reached.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Welcome<'a> {
    /// The concurrency model: `evloop` or `threads`.
    pub server: &'a str,
    /// How often the server pings; a link silent for much longer is dead.
    pub ping_interval_ms: u64,
}

/// Where the room's history stands.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct HistoryMark<'a> {
    /// Names one life of the history.
    pub epoch: &'a str,
    /// The newest message's id; 0 before the first.
    pub last_id: u64,
    /// Whether all since the asked-for message follows; absent where nothing was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<bool>,
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

    #[test]
    fn part_one_fields_come_as_frozen() {
        let chat = Outgoing::Chat {
            name: "Alice",
            text: "Hello",
            ts: 1,
            id: 2,
        };
        assert_eq!(
            serde_json::to_string(&chat).expect("plain data"),
            r#"{"type":"chat","name":"Alice","text":"Hello","ts":1,"id":2}"#
        );
        let system = Outgoing::System(System {
            text: "x".into(),
            ts: 1,
            code: "welcome",
            online_count: Some(3),
            history: Some(HistoryMark {
                epoch: "e",
                last_id: 0,
                recovered: None,
            }),
            ..System::default()
        });
        assert_eq!(
            serde_json::to_string(&system).expect("plain data"),
            r#"{"type":"system","text":"x","ts":1,"code":"welcome","online_count":3,"epoch":"e","last_id":0}"#
        );
    }
}
