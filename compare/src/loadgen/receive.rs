//! The yield of one read: frames told apart, counted, and on sampled clients held against what was sent.

use tungstenite::protocol::frame::coding::{Control, OpCode};

use super::client::InFlight;
use super::frames::{Frame, FrameError, FrameReader, Kind};
use super::message::Stamp;
use super::tally::{OrderCheck, Tally};
use super::ticks::find_ts;
use super::workload::Workload;

/// Counted in here during a read and added up after it: the hot loop then touches nothing but registers.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// What the endpoint is there for: chats in the room, echoes, metrics.
    pub(crate) messages: u64,
    pub(crate) notices: u64,
    pub(crate) errors: u64,
    pub(crate) wrong_content: u64,
    pub(crate) wrong_order: u64,
    /// The `ts` of each metric.
    pub(crate) ticks: Vec<u64>,
    /// Payloads to send back as pongs.
    pub(crate) pings: Vec<Vec<u8>>,
    pub(crate) closed: bool,
}

/// What a sampled client knows of the load.
pub(crate) struct Context<'a> {
    pub(crate) workloads: &'a [Workload],
    pub(crate) text_bytes: usize,
    pub(crate) now_ns: u64,
}

/// What an echo client waits for.
pub(crate) struct Asks {
    pub(crate) group: usize,
    pub(crate) text_bytes: usize,
    pub(crate) in_flight: Option<InFlight>,
    /// The server is of any kind, and may say things of its own.
    pub(crate) foreign: bool,
}

impl Received {
    /// A client of the room that only counts.
    pub(crate) fn count_room(reader: &mut FrameReader, bytes: &[u8]) -> Result<Self, FrameError> {
        let mut received = Self::default();
        reader.feed(bytes, |frame| {
            received.room_frame(frame);
        })?;
        Ok(received)
    }

    /// A sampled client of the room: each chat must be one that was sent, and in order; its latency counts.
    pub(crate) fn sampled_room(
        reader: &mut FrameReader,
        bytes: &[u8],
        context: &Context<'_>,
        order_check: &mut OrderCheck,
        tally: &mut Tally,
    ) -> Result<Self, FrameError> {
        let mut received = Self::default();
        reader.feed(bytes, |frame| {
            if received.room_frame(frame) == Some(Kind::Chat) {
                received.check_chat(frame.payload, context, order_check, tally);
            }
        })?;
        Ok(received)
    }

    /// An echo client: what comes back must be the one message that is on its way.
    pub(crate) fn echo(
        reader: &mut FrameReader,
        bytes: &[u8],
        asks: &Asks,
    ) -> Result<Self, FrameError> {
        let mut received = Self::default();
        let expected = asks.in_flight.map(|message| Stamp {
            group: asks.group,
            slot: message.slot,
        });
        reader.feed(bytes, |frame| match frame.opcode {
            OpCode::Control(control) => received.control(control, frame.payload),
            // A welcome, a presence notice: not what was asked for, and nothing of ours.
            OpCode::Data(_)
                if asks.foreign && Stamp::find(frame.payload, asks.text_bytes).is_none() =>
            {
                received.notices += 1;
            }
            OpCode::Data(_) if received.messages == 1 => received.wrong_order += 1,
            OpCode::Data(_) => {
                received.messages += 1;
                if Stamp::find(frame.payload, asks.text_bytes) != expected {
                    received.wrong_content += 1;
                }
            }
        })?;
        Ok(received)
    }

    /// A subscriber of the dashboard.
    pub(crate) fn dashboard(reader: &mut FrameReader, bytes: &[u8]) -> Result<Self, FrameError> {
        let mut received = Self::default();
        reader.feed(bytes, |frame| {
            if received.room_frame(frame) == Some(Kind::Metric) {
                match find_ts(frame.payload) {
                    Some(ts) => received.ticks.push(ts),
                    None => received.wrong_content += 1,
                }
            }
        })?;
        Ok(received)
    }

    #[inline]
    fn room_frame(&mut self, frame: Frame<'_>) -> Option<Kind> {
        if let OpCode::Control(control) = frame.opcode {
            self.control(control, frame.payload);
            return None;
        }
        let kind = Kind::of(frame.payload);
        match kind {
            Kind::Chat | Kind::Metric => self.messages += 1,
            Kind::System | Kind::Other => self.notices += 1,
            Kind::Error => self.errors += 1,
        }
        Some(kind)
    }

    fn check_chat(
        &mut self,
        payload: &[u8],
        context: &Context<'_>,
        order_check: &mut OrderCheck,
        tally: &mut Tally,
    ) {
        let stamp = Stamp::find(payload, context.text_bytes);
        let sent = stamp.and_then(|stamp| {
            let log = context.workloads.get(stamp.group)?.log()?;
            Some((stamp, log, log.sent_at_ns(stamp.slot)?))
        });
        let Some((stamp, log, sent_ns)) = sent else {
            self.wrong_content += 1;
            return;
        };
        if !order_check.accepts(stamp.group, log.schedule.member_of(stamp.slot), stamp.slot) {
            self.wrong_order += 1;
        }
        if log.window.contains(&stamp.slot) {
            tally.received(log.schedule.due_at_ns(stamp.slot), sent_ns, context.now_ns);
        }
    }

    #[cold]
    fn control(&mut self, control: Control, payload: &[u8]) {
        match control {
            Control::Ping => self.pings.push(payload.to_vec()),
            Control::Close => self.closed = true,
            Control::Pong | Control::Reserved(_) => {}
        }
    }
}
