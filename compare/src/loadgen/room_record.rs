//! The room's stream as bytes: parsed once, by the client that is ahead; each other client's bytes are held against it.
//!
//! All members of a room receive the same frames, so what one client has received need not be taken apart again for the
//! next five thousand: that its bytes are equal proves more than counting its frames would, and costs one comparison a
//! read. A client whose bytes differ (a Ping of its own, an error answer, a notice that others had earlier) goes apart:
//! its frames are parsed like anybody's until one of them is found in the record again.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use tungstenite::protocol::frame::coding::OpCode;

use super::frames::{FrameReader, Kind};

/// What is kept at most; who comes further goes apart. Five minutes of a room of 5,000.
const RECORD_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Where an unsampled client stands in the room's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// All it received since it came along is in the record, which it has followed up to here; up to the end of frame
    /// `counted` its messages are counted.
    Along { at: usize, counted: usize },
    /// Its frames are parsed one by one.
    Apart,
}

/// Frames by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) messages: u64,
    pub(crate) notices: u64,
    pub(crate) errors: u64,
}

/// Bytes that every member of the room receives, and the frames in them.
#[derive(Debug, Default)]
pub(crate) struct RoomRecord {
    bytes: Vec<u8>,
    /// The end of each whole frame, and what has come up to there.
    frames: Vec<(usize, Counts)>,
    /// The number of each frame by the hash of its bytes.
    by_hash: HashMap<u64, usize>,
    hasher: RandomState,
}

impl RoomRecord {
    /// How many of `bytes`, received by a client that stands `at`, go along with the record; at its end they make it longer.
    pub(crate) fn follow(&mut self, at: usize, bytes: &[u8]) -> usize {
        let known = &self.bytes[at..];
        let common = known.len().min(bytes.len());
        if known[..common] != bytes[..common] {
            let differs = known.iter().zip(bytes).position(|(a, b)| a != b);
            return differs.unwrap_or(common);
        }
        common + self.extend(&bytes[common..])
    }

    /// Takes in bytes at the end, up to the first frame that is not for everyone; tells how many.
    fn extend(&mut self, bytes: &[u8]) -> usize {
        if bytes.is_empty() || self.bytes.len() + bytes.len() > RECORD_BYTES_MAX {
            return 0;
        }
        let before = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        loop {
            let start = self.end_of(self.frames.len());
            let rest = &self.bytes[start..];
            match FrameReader::server_frame(rest) {
                Some(Ok((OpCode::Data(_), payload, len))) => {
                    let Some(frame) = rest.get(..len) else { break };
                    let kind = Kind::of(&frame[payload..]);
                    self.push(start, len, kind);
                }
                None => break,
                // A control frame, or one that no correct server sends: the client's own affair.
                Some(_) => {
                    self.bytes.truncate(start.max(before));
                    break;
                }
            }
        }
        self.bytes.len() - before
    }

    fn push(&mut self, start: usize, len: usize, kind: Kind) {
        let mut counts = self.counts(self.frames.len());
        match kind {
            Kind::Chat | Kind::Metric => counts.messages += 1,
            Kind::System | Kind::Other => counts.notices += 1,
            Kind::Error => counts.errors += 1,
        }
        let hash = self.hasher.hash_one(&self.bytes[start..start + len]);
        self.by_hash.insert(hash, self.frames.len());
        self.frames.push((start + len, counts));
    }

    /// Where the first frame of `bytes` begins in the record, and its number; none where it is not there.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        let Some(Ok((OpCode::Data(_), _, len))) = FrameReader::server_frame(bytes) else {
            return None;
        };
        let frame = bytes.get(..len)?;
        let number = *self.by_hash.get(&self.hasher.hash_one(frame))?;
        let start = self.end_of(number);
        (self.bytes[start..].starts_with(frame)).then_some((start, number))
    }

    /// The end of the last whole frame, and the number of frames, to go on from; a part of a frame behind it is forgotten.
    pub(crate) fn resume(&mut self) -> (usize, usize) {
        let end = self.end_of(self.frames.len());
        self.bytes.truncate(end);
        (end, self.frames.len())
    }

    /// How many frames are whole at `at`.
    pub(crate) fn frames_at(&self, at: usize) -> usize {
        self.frames.partition_point(|&(end, _)| end <= at)
    }

    /// What has come with the first `frames` frames.
    pub(crate) fn counts(&self, frames: usize) -> Counts {
        frames
            .checked_sub(1)
            .map_or_else(Counts::default, |last| self.frames[last].1)
    }

    /// Where the first `frames` frames end.
    pub(crate) fn end_of(&self, frames: usize) -> usize {
        frames.checked_sub(1).map_or(0, |last| self.frames[last].0)
    }

    /// The part of a frame that a client who stands `at` has received.
    pub(crate) fn part(&self, start: usize, at: usize) -> &[u8] {
        &self.bytes[start.min(at)..at]
    }
}

impl Counts {
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            messages: self.messages - earlier.messages,
            notices: self.notices - earlier.notices,
            errors: self.errors - earlier.errors,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frames::encode;
    use super::*;
    use tungstenite::protocol::frame::coding::{Control, Data};

    fn chat(number: usize) -> Vec<u8> {
        let mut frame = Vec::new();
        let text = format!(r#"{{"type":"chat","name":"u","text":"{number}"}}"#);
        encode(OpCode::Data(Data::Text), None, text.as_bytes(), &mut frame);
        frame
    }

    fn ping() -> Vec<u8> {
        let mut frame = Vec::new();
        encode(OpCode::Control(Control::Ping), None, b"x", &mut frame);
        frame
    }

    #[test]
    fn one_client_leads_and_others_follow_however_the_bytes_are_cut() {
        let stream: Vec<u8> = (0..5).flat_map(chat).collect();
        for cut in 0..stream.len() {
            let mut record = RoomRecord::default();
            assert_eq!(record.follow(0, &stream[..cut]), cut);
            assert_eq!(record.follow(0, &stream), stream.len());
            assert_eq!(record.follow(cut, &stream[cut..]), stream.len() - cut);
            assert_eq!(record.counts(record.frames_at(stream.len())).messages, 5);
            assert_eq!(record.frames_at(stream.len() - 1), 4);
        }
    }

    #[test]
    fn difference_is_found_at_its_byte() {
        let mut record = RoomRecord::default();
        let stream = [chat(1), chat(2)].concat();
        record.follow(0, &stream);
        let mut other = stream.clone();
        *other.last_mut().unwrap() ^= 1;
        assert_eq!(record.follow(0, &other), stream.len() - 1);
        assert_eq!(record.frames_at(stream.len() - 1), 1);
    }

    #[test]
    fn control_frames_stay_out_and_later_frames_are_found_again() {
        let mut record = RoomRecord::default();
        let stream = [chat(1), ping(), chat(2)].concat();
        assert_eq!(record.follow(0, &stream), chat(1).len());
        assert_eq!(record.follow(chat(1).len(), &chat(2)), chat(2).len());
        assert_eq!(record.find(&chat(2)), Some((chat(1).len(), 1)));
        assert_eq!(record.find(&chat(3)), None);
        assert_eq!(record.find(&chat(2)[..5]), None, "not whole");
    }

    #[test]
    fn control_frame_whose_start_came_alone_stays_out_too() {
        let mut record = RoomRecord::default();
        assert_eq!(record.follow(0, &chat(1)), chat(1).len());
        // One byte of a frame tells nothing yet but its opcode, which is enough.
        assert_eq!(record.follow(chat(1).len(), &ping()[..1]), 0);
    }
}
