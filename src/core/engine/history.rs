//! The room's history: its last messages, for newcomers, for resuming, and to know a message sent twice.
//!
//! Frames stand behind one another in segments, which a replay shares instead of copying. A replay is read in steps,
//! so that a client that asks for everything and reads nothing holds a few references and no memory of its own.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::core::protocol::Replay;

/// A segment is closed when it has this many bytes.
const SEGMENT_BYTES: usize = 16 * 1024;

/// The last messages of the room, as the frames its members got. Ids run 1, 2, 3, … without gaps.
#[derive(Debug)]
pub struct History {
    /// Closed segments, oldest first. Those in front may hold messages that are no longer kept, for replays under way.
    segments: VecDeque<Segment<Bytes>>,
    /// Bytes in them.
    segment_bytes: usize,
    open: Segment<BytesMut>,
    /// The key of each kept message, oldest first.
    keys: VecDeque<Option<Arc<MessageKey<'static>>>>,
    by_key: HashMap<Arc<MessageKey<'static>>, u64>,
    capacity: usize,
    last_id: u64,
}

/// Frames of consecutive messages.
#[derive(Debug, Default)]
struct Segment<B> {
    first_id: u64,
    frames: B,
    /// Where each frame ends.
    ends: Vec<usize>,
}

/// What makes two messages the same. The `cid` alone does not: two clients that number their messages from 1 must not
/// lose messages to each other, whatever they call themselves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageKey<'a> {
    /// The sender's name.
    pub name: Cow<'a, str>,
    /// The sender's own id for the message.
    pub cid: Cow<'a, str>,
    /// What it says.
    pub text: Cow<'a, str>,
}

impl MessageKey<'_> {
    fn to_kept(&self) -> Arc<MessageKey<'static>> {
        let own = |part: &str| Cow::Owned(part.to_owned());
        Arc::new(MessageKey {
            name: own(&self.name),
            cid: own(&self.cid),
            text: own(&self.text),
        })
    }
}

/// Where a replay begins.
#[derive(Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The first message to send; one more than the last id where there is none.
    pub first_id: u64,
    /// Whether nothing is missed between the last message the client has and this one; `None` where it named none.
    pub recovered: Option<bool>,
}

/// A part of a replay.
#[derive(Debug)]
pub struct ReplayStep {
    /// The frames, shared.
    pub slices: Vec<Bytes>,
    /// The message behind them.
    pub next_id: u64,
}

impl History {
    /// An empty history that will keep `capacity` messages.
    pub fn new(capacity: usize) -> Self {
        Self {
            segments: VecDeque::new(),
            segment_bytes: 0,
            open: Segment::default(),
            keys: VecDeque::new(),
            by_key: HashMap::new(),
            capacity,
            last_id: 0,
        }
    }

    /// The newest message's id; 0 before the first.
    pub fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Takes the next id.
    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Keeps the message that took the last id, forgetting the oldest where there are too many. [`History::trim`] then
    /// gives back their memory.
    pub fn keep(&mut self, frame: &[u8], key: Option<&MessageKey<'_>>) {
        if self.capacity == 0 {
            return;
        }
        if self.open.ends.is_empty() {
            self.open.first_id = self.last_id;
        }
        self.open.frames.extend_from_slice(frame);
        self.open.ends.push(self.open.frames.len());
        if self.open.frames.len() >= SEGMENT_BYTES {
            self.close_segment();
        }
        let key = key.map(MessageKey::to_kept);
        if let Some(key) = &key {
            self.by_key.insert(Arc::clone(key), self.last_id);
        }
        self.keys.push_back(key);
        if self.keys.len() > self.capacity
            && let Some(Some(key)) = self.keys.pop_front()
        {
            self.by_key.remove(&key);
        }
    }

    /// The next message is the one after `last_id`: later ones are forgotten. Where those up to it are not all kept, nothing
    /// stays.
    pub fn resync(&mut self, last_id: u64) {
        self.close_segment();
        if last_id > self.last_id || last_id < self.oldest_id() {
            *self = Self {
                last_id,
                ..Self::new(self.capacity)
            };
            return;
        }
        for _ in last_id..self.last_id {
            if let Some(Some(key)) = self.keys.pop_back() {
                self.by_key.remove(&key);
            }
        }
        while let Some(segment) = self.segments.back_mut()
            && segment.next_id() > last_id + 1
        {
            self.segment_bytes -= segment.frames.len();
            if segment.first_id > last_id {
                self.segments.pop_back();
            } else {
                segment.cut_behind(last_id);
                self.segment_bytes += segment.frames.len();
            }
        }
        self.last_id = last_id;
    }

    /// Drops the segments of forgotten messages, but for so many bytes, which replays under way may still read.
    pub fn trim(&mut self, retained_bytes_max: usize) {
        let oldest = self.oldest_id();
        while let Some(segment) = self.segments.front()
            && segment.next_id() <= oldest
            && self.segment_bytes > retained_bytes_max
        {
            self.segment_bytes -= segment.frames.len();
            self.segments.pop_front();
        }
    }

    /// The id of the message kept under this key, if it is still kept.
    pub fn find(&self, key: &MessageKey<'_>) -> Option<u64> {
        self.by_key.get(key).copied()
    }

    /// Where the replay that a newcomer asked for begins, `epoch` being the life of this history.
    pub fn recovery(&self, replay: &Replay, epoch: &str) -> Recovery {
        let (oldest, next) = (self.oldest_id(), self.last_id + 1);
        match replay {
            Replay::Nothing => Recovery {
                first_id: next,
                recovered: None,
            },
            Replay::Newest(wanted) => Recovery {
                first_id: oldest.max(next.saturating_sub(*wanted as u64)),
                recovered: None,
            },
            Replay::Since { epoch: theirs, id } => {
                let recovered = theirs == epoch && (oldest - 1..next).contains(id);
                Recovery {
                    first_id: if recovered { *id + 1 } else { oldest },
                    recovered: Some(recovered),
                }
            }
        }
    }

    /// Frames from message `first_id` on: at most `bytes_max`, but at least one frame where there is one. `None` where
    /// that message is no longer in memory.
    pub fn read(&mut self, first_id: u64, bytes_max: usize) -> Option<ReplayStep> {
        self.close_segment();
        let oldest = self.segments.front().map(|segment| segment.first_id);
        if first_id < oldest.unwrap_or(self.last_id + 1) {
            return None;
        }
        let mut step = ReplayStep {
            slices: Vec::new(),
            next_id: first_id,
        };
        let mut left = bytes_max;
        let start = self
            .segments
            .partition_point(|segment| segment.next_id() <= first_id);
        for segment in self.segments.range(start..) {
            let slice = segment.read(&mut step.next_id, left, step.slices.is_empty());
            left -= left.min(slice.len());
            step.slices.extend((!slice.is_empty()).then_some(slice));
            if step.next_id < segment.next_id() {
                break;
            }
        }
        Some(step)
    }

    /// The oldest message that is kept; one more than the last id where none is.
    fn oldest_id(&self) -> u64 {
        self.last_id + 1 - self.keys.len() as u64
    }

    fn close_segment(&mut self) {
        if !self.open.ends.is_empty() {
            self.segment_bytes += self.open.frames.len();
            self.segments.push_back(Segment {
                first_id: self.open.first_id,
                frames: self.open.frames.split().freeze(),
                ends: std::mem::take(&mut self.open.ends),
            });
        }
    }
}

impl Segment<Bytes> {
    fn next_id(&self) -> u64 {
        self.first_id + self.ends.len() as u64
    }

    /// Forgets the frames behind this one, which stays.
    fn cut_behind(&mut self, last_id: u64) {
        let frames =
            usize::try_from(last_id + 1 - self.first_id).expect("the segment is in memory");
        self.ends.truncate(frames);
        self.frames.truncate(self.ends[frames - 1]);
    }

    /// Whole frames from `next_id` on, which moves behind them: as many as `bytes_max` has room for, and one
    /// `at_least`.
    fn read(&self, next_id: &mut u64, bytes_max: usize, at_least_one: bool) -> Bytes {
        let first = usize::try_from(*next_id - self.first_id).expect("the segment is in memory");
        let start = first.checked_sub(1).map_or(0, |before| self.ends[before]);
        let fitting = self.ends[first..].partition_point(|end| end - start <= bytes_max);
        let frames = fitting.max(usize::from(at_least_one));
        if frames == 0 {
            return Bytes::new();
        }
        *next_id += frames as u64;
        self.frames.slice(start..self.ends[first + frames - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn since(id: u64) -> Replay {
        Replay::Since {
            epoch: "e".to_owned(),
            id,
        }
    }

    fn key(id: u64) -> MessageKey<'static> {
        MessageKey {
            name: "n".into(),
            cid: format!("k{id}").into(),
            text: "t".into(),
        }
    }

    #[test]
    fn a_message_is_the_same_in_all_three_parts_or_another() {
        let mut history = History::new(3);
        let parts = |name: &'static str, cid: &'static str, text: &'static str| MessageKey {
            name: name.into(),
            cid: cid.into(),
            text: text.into(),
        };
        history.next_id();
        history.keep(b"x", Some(&parts("b\0c", "a", "t")));
        assert_eq!(history.find(&parts("b\0c", "a", "t")), Some(1));
        for other in [
            parts("c", "a\0b", "t"),
            parts("b\0c", "a", "u"),
            parts("b", "a", "t"),
        ] {
            assert_eq!(history.find(&other), None, "{other:?}");
        }
    }

    #[test]
    fn a_stranger_to_this_life_gets_all_that_is_kept() {
        let mut history = History::new(3);
        for _ in 0..5 {
            history.next_id();
            history.keep(b"x", None);
        }
        let other = Replay::Since {
            epoch: "other".to_owned(),
            id: 5,
        };
        for (replay, first_id, recovered) in [
            (other, 3, false),
            (since(6), 3, false),
            (since(1), 3, false),
            (since(2), 3, true),
            (since(5), 6, true),
        ] {
            assert_eq!(
                history.recovery(&replay, "e"),
                Recovery {
                    first_id,
                    recovered: Some(recovered)
                },
                "{replay:?}"
            );
        }
    }

    #[test]
    fn segments_are_closed_when_full_and_dropped_when_forgotten() {
        let mut history = History::new(100);
        for _ in 0..10_000 {
            history.next_id();
            history.keep(&[b'x'; 100], None);
            history.trim(0);
        }
        assert!(history.segments.len() <= 2, "{}", history.segments.len());
        assert!(history.open.frames.len() < SEGMENT_BYTES);
    }

    /// All messages from `id` on, in steps of at most so many bytes.
    fn replayed(history: &mut History, mut id: u64, bytes_max: usize) -> Vec<u64> {
        let mut frames = Vec::new();
        while id <= history.last_id() {
            let step = history.read(id, bytes_max).expect("it is kept");
            let bytes = step.slices.concat();
            assert_eq!(bytes.len() as u64, 8 * (step.next_id - id));
            assert!(bytes.len() <= bytes_max.max(8) && step.next_id > id);
            frames.extend(bytes);
            id = step.next_id;
        }
        frames
            .chunks(8)
            .map(|frame| u64::from_be_bytes(frame.try_into().expect("8 bytes each")))
            .collect()
    }

    proptest! {
        /// Against a model that forgets nothing: the newest come back in order, however small the steps, and a key is
        /// known exactly as long as its message is kept.
        #[test]
        fn keeps_the_newest_and_their_keys(
            capacity in 0_usize..20,
            keyed in prop::collection::vec((any::<bool>(), any::<bool>()), 0..60),
            bytes_max in 0_usize..100,
        ) {
            let mut history = History::new(capacity);
            for (index, (has_key, read)) in keyed.iter().enumerate() {
                let id = history.next_id();
                prop_assert_eq!(id, index as u64 + 1);
                history.keep(&id.to_be_bytes(), has_key.then(|| key(id)).as_ref());
                if *read {
                    history.read(id, bytes_max);
                }
            }
            let kept = keyed.len().min(capacity);
            let oldest = keyed.len() - kept;
            if capacity > 0 && !keyed.is_empty() {
                prop_assert!(history.read(1, bytes_max).is_some(), "a replay under way goes on");
            }
            history.trim(0);
            prop_assert!(history.segments.front().is_none_or(|segment| segment.next_id() > oldest as u64 + 1));
            for (index, (has_key, _)) in keyed.iter().enumerate() {
                let id = index as u64 + 1;
                let expected = (*has_key && index >= oldest).then_some(id);
                prop_assert_eq!(history.find(&key(id)), expected);
                let Recovery { first_id, recovered } = history.recovery(&since(id), "e");
                prop_assert_eq!(recovered, Some(id >= oldest as u64));
                let first = if recovered == Some(true) { id + 1 } else { oldest as u64 + 1 };
                prop_assert_eq!(first_id, first);
                prop_assert_eq!(replayed(&mut history, first_id, bytes_max), (first..=keyed.len() as u64).collect::<Vec<_>>());
                let newest = history.recovery(&Replay::Newest(index), "e").first_id;
                prop_assert_eq!(newest, (keyed.len() - index.min(kept)) as u64 + 1);
            }
        }
    }
}
