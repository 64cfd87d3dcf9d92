//! The room's broadcast log, and each member's cursor in it.
//!
//! Every frame for the room is appended once. Each member has a cursor: all before it has been sent to that member or
//! queued for it. [`BroadcastLog::next_batch`] moves the cursors of a few members, in round-robin order, to the end of
//! the log, and each of them gets all it lacked in one write. So a turn stays short however large the room is, and a
//! frame sets out with the next batch instead of waiting for a round to end.
//!
//! Frames stay in memory once, as slices that all members share, until the last member has them. The member that has
//! waited longest stands at the front of the order and has the least cursor, which is the log's low watermark.
//! (Redis keeps its replication backlog the same way, as shared blocks and an offset per replica:
//! <https://github.com/redis/redis/pull/9166>.)

use std::collections::VecDeque;
use std::num::NonZeroU64;

use bytes::{Bytes, BytesMut};

use super::ClientId;
use crate::core::websocket::frame;

/// Members per batch: few, so that a turn stays short in a room of any size, and enough that the work between two
/// batches costs nothing.
pub const MEMBERS_PER_BATCH: usize = 256;
/// Lag at which nothing more is read from clients until the log has caught up. At `--max-unsent` a member is dropped.
const LAG_BYTES_MAX: usize = 512 * 1024;

/// The lag at which clients are no longer read: less than what may wait unsent for one of them, so that no batch makes
/// a slow client of a member that reads.
pub fn lag_bytes_max(max_unsent: usize) -> usize {
    LAG_BYTES_MAX.min(max_unsent / 2)
}

/// A position in the log: the number of a slice, counted over the log's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor(NonZeroU64);

impl Cursor {
    /// How many slices lie between the two.
    fn until(self, later: Self) -> usize {
        usize::try_from(later.0.get() - self.0.get()).expect("the slices between are in memory")
    }
}

/// The frames that some member lacks, and the members in the order in which they are sent to.
#[derive(Debug)]
pub struct BroadcastLog {
    /// Whole frames, oldest first, cut wherever a cursor stands.
    sealed: VecDeque<Bytes>,
    /// The position of the first sealed slice.
    low_watermark: Cursor,
    /// Frames behind the last cut.
    tail: BytesMut,
    lag_bytes: usize,
    members: Ring,
}

/// Members to be sent to, and what each of them lacks.
#[derive(Debug)]
pub struct Batch {
    /// The members, each with the index of the first slice it lacks.
    pub members: Vec<(ClientId, usize)>,
    /// The slices, the same memory for all.
    pub slices: Vec<Bytes>,
}

impl BroadcastLog {
    /// An empty log, with a table for `clients`: growing it later would copy it in the middle of a turn.
    pub fn with_capacity(clients: usize) -> Self {
        Self {
            sealed: VecDeque::new(),
            low_watermark: Cursor(NonZeroU64::MIN),
            tail: BytesMut::new(),
            lag_bytes: 0,
            members: Ring {
                nodes: Vec::with_capacity(clients),
                ..Ring::default()
            },
        }
    }

    /// How many members there are.
    pub fn members(&self) -> usize {
        self.members.len
    }

    /// Whether this client is a member.
    #[cfg(test)]
    fn contains(&self, client: ClientId) -> bool {
        self.members.cursor(client).is_some()
    }

    /// Appends a text frame for all members, and gives it back.
    pub fn append(&mut self, payload: &[u8]) -> &[u8] {
        let start = self.tail.len();
        frame::text(&mut self.tail, payload);
        self.lag_bytes += self.tail.len() - start;
        &self.tail[start..]
    }

    /// A new member, whose cursor stands at the end: it gets what is appended from now on.
    pub fn join(&mut self, client: ClientId) {
        self.seal();
        self.trim();
        self.members.push_back(client, self.end());
    }

    /// Removes a member. Returns the frames it is owed: those between its cursor and the end.
    pub fn leave(&mut self, client: ClientId) -> Vec<Bytes> {
        let Some(cursor) = self.members.cursor(client) else {
            return Vec::new();
        };
        self.seal();
        let first = self.low_watermark.until(cursor);
        let owed = self.sealed.range(first..).cloned().collect();
        self.members.remove(client);
        self.trim();
        owed
    }

    /// Moves the cursors of the next members, at most `members_max` and only of those that lack something, to the end.
    /// The caller sends each of them what it lacked.
    pub fn next_batch(&mut self, members_max: usize) -> Batch {
        self.seal();
        let end = self.end();
        let mut members = Vec::new();
        while members.len() < members_max
            && let Some((client, cursor)) = self.members.front()
            && cursor != end
        {
            members.push((client, self.low_watermark.until(cursor)));
            self.members.remove(client);
            self.members.push_back(client, end);
        }
        let slices = self.sealed.iter().cloned().collect();
        self.trim();
        Batch { members, slices }
    }

    /// Whether some member lacks something.
    pub fn is_lagging(&self) -> bool {
        self.lag_bytes() > 0
    }

    /// Bytes that some member lacks.
    pub fn lag_bytes(&self) -> usize {
        if self.members.len > 0 {
            self.lag_bytes
        } else {
            0
        }
    }

    /// Where the next frame after the last cut stands.
    fn end(&self) -> Cursor {
        let end = self
            .low_watermark
            .0
            .saturating_add(self.sealed.len() as u64);
        Cursor(end)
    }

    /// Cuts the log here, so that a cursor may stand at its end.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.sealed.push_back(self.tail.split().freeze());
        }
    }

    /// Forgets what no member lacks.
    fn trim(&mut self) {
        let end = self.end();
        let low_watermark = self.members.front().map_or(end, |(_, cursor)| cursor);
        let trimmed = self.sealed.drain(..self.low_watermark.until(low_watermark));
        self.lag_bytes -= trimmed.map(|slice| slice.len()).sum::<usize>();
        self.low_watermark = low_watermark;
    }
}

/// The members in round-robin order: a doubly linked list in a table by client, so that a member leaves in O(1).
#[derive(Debug, Default)]
struct Ring {
    nodes: Vec<Node>,
    ends: Option<Ends>,
    len: usize,
}

#[derive(Debug, Clone, Copy)]
struct Ends {
    front: u32,
    back: u32,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// `None` where the client is no member.
    cursor: Option<Cursor>,
    previous: u32,
    next: u32,
}

const NIL: u32 = u32::MAX;
const ABSENT: Node = Node {
    cursor: None,
    previous: NIL,
    next: NIL,
};

impl Ring {
    fn cursor(&self, client: ClientId) -> Option<Cursor> {
        self.nodes.get(client.index())?.cursor
    }

    fn front(&self) -> Option<(ClientId, Cursor)> {
        let client = ClientId(self.ends?.front);
        Some((client, self.cursor(client).expect("the front is a member")))
    }

    fn push_back(&mut self, client: ClientId, cursor: Cursor) {
        if self.nodes.len() <= client.index() {
            self.nodes.resize(client.index() + 1, ABSENT);
        }
        let previous = self.ends.map_or(NIL, |ends| ends.back);
        let front = self.ends.map_or(client.0, |ends| ends.front);
        if let Some(back) = self.nodes.get_mut(previous as usize) {
            back.next = client.0;
        }
        self.nodes[client.index()] = Node {
            cursor: Some(cursor),
            previous,
            next: NIL,
        };
        self.ends = Some(Ends {
            front,
            back: client.0,
        });
        self.len += 1;
    }

    fn remove(&mut self, client: ClientId) {
        let Node { previous, next, .. } =
            std::mem::replace(&mut self.nodes[client.index()], ABSENT);
        let ends = self.ends.expect("a member is in the list");
        if let Some(node) = self.nodes.get_mut(previous as usize) {
            node.next = next;
        }
        if let Some(node) = self.nodes.get_mut(next as usize) {
            node.previous = previous;
        }
        let front = if previous == NIL { next } else { ends.front };
        let back = if next == NIL { previous } else { ends.back };
        self.ends = (front != NIL).then_some(Ends { front, back });
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Append(u8),
        Join,
        Leave(usize),
        Batch(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => any::<u8>().prop_map(Step::Append),
            2 => Just(Step::Join),
            1 => any::<usize>().prop_map(Step::Leave),
            3 => (0_usize..6).prop_map(Step::Batch),
        ];
        prop::collection::vec(step, 0..200)
    }

    fn framed(byte: u8) -> [u8; 3] {
        [0x81, 1, byte]
    }

    /// A log, and beside it what each member must get.
    struct Room {
        log: BroadcastLog,
        members: BTreeMap<u32, Member>,
    }

    #[derive(Default)]
    struct Member {
        got: Vec<u8>,
        expected: Vec<u8>,
    }

    impl Member {
        fn lag(&self) -> usize {
            self.expected.len() - self.got.len()
        }
    }

    impl Room {
        fn new() -> Self {
            Self {
                log: BroadcastLog::with_capacity(0),
                members: BTreeMap::new(),
            }
        }

        fn join(&mut self) {
            // The lowest free number, as a server's table gives it, so that numbers are used again.
            let client = (0..=u32::MAX)
                .find(|id| !self.members.contains_key(id))
                .expect("a number");
            self.log.join(ClientId(client));
            self.members.insert(client, Member::default());
        }

        fn append(&mut self, byte: u8) {
            assert_eq!(self.log.append(&[byte]), framed(byte));
            for member in self.members.values_mut() {
                member.expected.extend(framed(byte));
            }
        }

        /// Sends the next batch; tells to whom.
        fn send_batch(&mut self, members_max: usize) -> Vec<u32> {
            let batch = self.log.next_batch(members_max);
            for (client, first) in &batch.members {
                let member = self
                    .members
                    .get_mut(&client.0)
                    .expect("only members are sent to");
                member.got.extend(batch.slices[*first..].concat());
            }
            batch.members.iter().map(|(client, _)| client.0).collect()
        }
    }

    proptest! {
        /// Against a list per member: each member gets what is appended from its joining to its leaving, once and in
        /// order; the member that lacks most comes first; and nothing is kept that no member lacks.
        #[test]
        fn each_member_gets_everything_once(steps in steps()) {
            let mut room = Room::new();
            for step in steps {
                match step {
                    Step::Append(byte) => room.append(byte),
                    Step::Join => room.join(),
                    Step::Leave(pick) if !room.members.is_empty() => {
                        let client = *room.members.keys().nth(pick % room.members.len()).expect("a member");
                        let mut member = room.members.remove(&client).expect("a member");
                        member.got.extend(room.log.leave(ClientId(client)).concat());
                        prop_assert_eq!(member.got, member.expected);
                        prop_assert!(!room.log.contains(ClientId(client)));
                    }
                    Step::Leave(_) => prop_assert!(room.log.leave(ClientId(7)).is_empty()),
                    Step::Batch(members_max) => {
                        let before: BTreeMap<u32, usize> = room.members.iter().map(|(id, member)| (*id, member.lag())).collect();
                        let sent_to = room.send_batch(members_max);
                        prop_assert!(sent_to.len() <= members_max);
                        if let Some(first) = sent_to.first() {
                            prop_assert_eq!(Some(&before[first]), before.values().max());
                        }
                        for id in &sent_to {
                            prop_assert!(before[id] > 0 && room.members[id].lag() == 0);
                        }
                    }
                }
                let lag = room.members.values().map(Member::lag).max().unwrap_or(0);
                prop_assert_eq!(room.log.members(), room.members.len());
                prop_assert!(room.log.lag_bytes() >= lag && room.log.is_lagging() == (lag > 0));
            }
            room.send_batch(usize::MAX);
            for member in room.members.values() {
                prop_assert_eq!(&member.got, &member.expected);
            }
            prop_assert!(!room.log.is_lagging() && room.log.lag_bytes() == 0);
        }
    }

    #[test]
    fn the_member_that_waits_longest_comes_first() {
        let mut room = Room::new();
        (0..5).for_each(|_| room.join());
        room.append(b'a');
        assert_eq!(room.send_batch(3), [0, 1, 2]);
        room.append(b'b');
        assert_eq!(
            room.send_batch(3),
            [3, 4, 0],
            "those that lack both come before those that lack one"
        );
        assert_eq!(
            (room.send_batch(3), room.send_batch(3)),
            (vec![1, 2], vec![])
        );
    }

    #[test]
    fn a_room_that_comes_and_goes_in_silence_keeps_nothing() {
        let mut log = BroadcastLog::with_capacity(0);
        for client in 0..1000 {
            log.join(ClientId(client));
            log.append(b"joined");
            log.leave(ClientId(client));
        }
        assert_eq!(
            (log.members(), log.lag_bytes(), log.sealed.len()),
            (0, 0, 0)
        );
    }
}
