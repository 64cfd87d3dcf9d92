//! The wire messages, in and out: the only place that knows JSON.
//!
//! Everything here is pure: text in, a request or the fault found in it out; a message in, JSON out.
//! Lengths are counted in Unicode scalar values after trimming, as the protocol counts them.

mod incoming;
mod metric;
mod outgoing;

pub(crate) use incoming::first_chars;
pub use incoming::{
    CID_CHARS, Chat, ChatRequest, DashboardRequest, Fault, InsideRequest, NAME_CHARS, Opening,
    Payload, RefusedChat, Replay, Subscribe, TEXT_CHARS, parse_chat, parse_dashboard, parse_inside,
};
pub use metric::Metric;
pub use outgoing::{HistoryMark, Outgoing, System, Welcome};
