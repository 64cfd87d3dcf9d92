//! The messages to clients.

use std::borrow::Cow;

use serde::Serialize;

use super::Metric;
use crate::core::inside::view::View;

/// A message to clients. `ts` is in milliseconds since the Unix epoch.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Outgoing<'a> {
    /// A chat message: the same bytes for every member.
    Chat {
        /// The sender, as it calls itself.
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
        /// Where it stands: `room` (memory), `stream` (Redis) or `replicas`.
        stored: &'static str,
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
        /// For `rate_limited` and `unavailable`: when to try again.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        /// For `unavailable`: `unknown` where the message may have been stored. Sent again with its `cid` it is not doubled.
        #[serde(skip_serializing_if = "Option::is_none")]
        stored: Option<&'static str>,
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
    /// What the server did since the last one, to those who watch it.
    Inside {
        /// When it was made.
        ts: u64,
        /// What was seen.
        #[serde(flatten)]
        view: Box<View>,
    },
}

/// A system message; which fields it has depends on its `code`.
#[derive(Debug, Default, Serialize)]
pub struct System<'a> {
    /// For a reader.
    pub text: Cow<'a, str>,
    /// When.
    pub ts: u64,
    /// For a program: `welcome`, `joined`, `left`, `presence`, `subscribed`, `resync` or `restart`.
    pub code: &'static str,
    /// How many are in the chat room now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online_count: Option<usize>,
    /// The metrics subscribed to, in the order asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribed: Option<&'a [Metric]>,
    /// For `restart`: within which time to come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The experiments that the client may ask for, in the welcome of the inside view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experiments: Option<&'a [&'a str]>,
    /// What only a welcome says.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub welcome: Option<Welcome<'a>>,
    /// Where the room's history stands, for a newcomer to the chat.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryMark<'a>>,
}

impl Outgoing<'_> {
    /// The last message to a client of a server that will be back.
    pub fn restart(ts: u64, retry_after_ms: u64) -> Self {
        Self::System(System {
            text: "Server sắp khởi động lại. Kết nối sẽ tự trở lại.".into(),
            ts,
            code: "restart",
            retry_after_ms: Some(retry_after_ms),
            ..System::default()
        })
    }
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
