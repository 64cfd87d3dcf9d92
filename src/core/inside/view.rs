//! One frame of the inside view: what happened since the last, and how things stand.

use serde::Serialize;

use super::follow::Followed;
use super::threads::ThreadsView;
use super::turns::NewTurns;

/// Parts of the room's ring and of the wheel.
pub(crate) const PARTS: usize = 64;
/// Classes of outboxes: empty, then up to 1 KiB and four times as much with each.
pub(crate) const OUTBOX_CLASSES: usize = 8;
/// Outboxes that are looked at per view; of more, an even sample.
pub(crate) const OUTBOXES_PER_VIEW: usize = 1024;

/// A frame of the inside view. Times are in tenths of a microsecond, counted from the start of the server.
#[derive(Debug, Serialize)]
pub struct View {
    /// When it was made.
    pub now: u64,
    /// Sockets open.
    pub sockets: usize,
    /// The room.
    pub room: RoomView,
    /// Outboxes, by how much waits in them.
    pub outboxes: [u32; OUTBOX_CLASSES],
    /// Of the event loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns: Option<NewTurns>,
    /// Of the event loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wheel: Option<WheelView>,
    /// Slow turns of which there is a snapshot: number, start, and how long it was busy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slow: Vec<(u64, u64, u64)>,
    /// Of the thread server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<ThreadsView>,
    /// Context switches of the process so far, where the host tells: voluntary, and not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switches: Option<(u64, u64)>,
    /// The message that was followed, when its path has come to an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub followed: Option<Followed>,
    /// The loop turns only when it is told to.
    pub stepping: bool,
}

/// The room as a ring: the members by their places, in so many parts.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct RoomView {
    /// How many there are.
    pub members: usize,
    /// Bytes that some member lacks.
    pub lag: usize,
    /// The part that is served next.
    pub next: usize,
    /// For each part its members, and the most bytes that one of them lacks.
    pub parts: Vec<(u32, u32)>,
}

/// The timer wheel, in so many parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WheelView {
    /// How far it has turned: the part that fires next.
    pub current: usize,
    /// Timers in each part.
    pub parts: Vec<u32>,
    /// What a part spans, in milliseconds.
    pub part_ms: u64,
}

/// The class of an outbox in which so many bytes wait.
pub(crate) fn outbox_class(unsent: usize) -> usize {
    if unsent == 0 {
        return 0;
    }
    let kibibytes = (unsent - 1) >> 10;
    let doublings = (usize::BITS - kibibytes.leading_zeros()) as usize;
    (1 + doublings.div_ceil(2)).min(OUTBOX_CLASSES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outboxes_fall_into_classes_by_four() {
        let kib = 1 << 10;
        let classes = [0, 1, kib, kib + 1, 4 * kib, 4 * kib + 1, 16 * kib, 64 * kib];
        assert_eq!(classes.map(outbox_class), [0, 1, 1, 2, 2, 3, 3, 4]);
        assert_eq!(outbox_class(1 << 20), 6);
        assert_eq!(outbox_class(usize::MAX), OUTBOX_CLASSES - 1);
    }
}
