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
//!
//! A member that has agreed on compression is sent the compressed twin of those frames, made once for all of them
//! ([`SharedStream`]). A newcomer cannot read the stream from its middle: it gets plain frames up to the next place where
//! the stream restarts, and the twin from there on.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::ClientId;
use super::shared_stream::{Deflated, SharedStream};
use crate::core::inside::view::RoomView;
use crate::core::limits::Deflate;
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

/// The most to read from a client at once, so that what is said in it, which is less than twice as long when it goes out,
/// does not make a slow client of a member that reads either.
pub fn read_bytes_max(max_unsent: usize) -> usize {
    max_unsent / 4
}

/// A position in the log: the number of a slice, counted over the log's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position(u64);

impl Position {
    /// How many slices lie between the two.
    fn until(self, later: Self) -> usize {
        usize::try_from(later.0 - self.0).expect("the slices between are in memory")
    }

    fn plus(self, slices: usize) -> Self {
        Self(self.0 + slices as u64)
    }
}

/// What a member reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feed {
    /// Plain frames.
    Plain,
    /// Plain frames up to the next restart of the shared stream, and that stream from there on.
    Newcomer,
    /// The shared stream.
    Deflated,
}

/// A member's position and its feed, in eight bytes: members are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor(NonZeroU64);

impl Cursor {
    /// The two bits of the feed are never both zero.
    fn new(position: Position, feed: Feed) -> Self {
        let feed = match feed {
            Feed::Plain => NonZeroU64::MIN,
            Feed::Newcomer => NonZeroU64::MIN.saturating_add(1),
            Feed::Deflated => NonZeroU64::MIN.saturating_add(2),
        };
        Self(feed | (position.0 << 2))
    }

    fn position(self) -> Position {
        Position(self.0.get() >> 2)
    }

    fn feed(self) -> Feed {
        match self.0.get() & 3 {
            1 => Feed::Plain,
            2 => Feed::Newcomer,
            _ => Feed::Deflated,
        }
    }
}

/// Frames between two cuts.
#[derive(Debug)]
struct Slice {
    plain: Bytes,
    /// The same in the shared stream, if there was one.
    deflated: Option<Deflated>,
}

/// The frames that some member lacks, and the members in the order in which they are sent to.
#[derive(Debug)]
pub struct BroadcastLog {
    /// Whole frames, oldest first, cut wherever a cursor stands.
    sealed: VecDeque<Slice>,
    /// The position of the first sealed slice.
    low_watermark: Position,
    /// Frames behind the last cut.
    tail: BytesMut,
    lag_bytes: usize,
    /// There while some member reads it, or will.
    stream: Option<SharedStream>,
    deflate: Deflate,
    members: Ring,
}

/// Members to be sent to, and what each of them lacks.
#[derive(Debug)]
pub struct Batch {
    /// The members, each with the slices that it lacks. One that turns from plain frames to the shared stream stands here
    /// twice.
    pub members: Vec<(ClientId, Range<usize>)>,
    /// The slices, the same memory for all: the plain ones, then those of the shared stream.
    pub slices: Vec<Bytes>,
    /// The number of the slice behind the last of them.
    pub end: u64,
    /// When it has been sent, every member has the slices before this number.
    pub low_watermark: u64,
}

/// A frame that was appended.
#[derive(Debug)]
pub struct Appended<'a> {
    /// The frame.
    pub frame: &'a [u8],
    /// The length of its compressed twin, if some member reads it.
    pub deflated_length: Option<usize>,
}

impl BroadcastLog {
    /// An empty log, with a table for `clients`: growing it later would copy it in the middle of a turn.
    pub fn with_capacity(clients: usize, deflate: Deflate) -> Self {
        Self {
            sealed: VecDeque::new(),
            low_watermark: Position(0),
            tail: BytesMut::new(),
            lag_bytes: 0,
            stream: None,
            deflate,
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

    /// Appends a text frame for all members.
    pub fn append(&mut self, payload: &[u8]) -> Appended<'_> {
        if self.members.len == 0 {
            // What was appended before is for nobody: all that hear it read the history.
            self.seal();
            self.trim();
        }
        if self
            .stream
            .as_ref()
            .is_some_and(SharedStream::restart_is_due)
        {
            self.seal();
        }
        let stream = self.stream.as_mut();
        let deflated_length = stream.map(|stream| stream.push(payload));
        let start = self.tail.len();
        frame::text(&mut self.tail, payload);
        self.lag_bytes += self.tail.len() - start;
        Appended {
            frame: &self.tail[start..],
            deflated_length,
        }
    }

    /// A new member, whose cursor stands at the end: it gets what is appended from now on.
    pub fn join(&mut self, client: ClientId, deflate: bool) {
        self.seal();
        self.trim();
        let feed = if deflate {
            self.stream
                .get_or_insert_with(|| SharedStream::new(&self.deflate))
                .add_reader();
            Feed::Newcomer
        } else {
            Feed::Plain
        };
        self.members
            .push_back(client, Cursor::new(self.end(), feed));
    }

    /// Removes a member. Returns the frames it is owed: those between its cursor and the end.
    pub fn leave(&mut self, client: ClientId) -> Vec<Bytes> {
        let Some(cursor) = self.members.cursor(client) else {
            return Vec::new();
        };
        self.seal();
        let (plain, deflated) = self.lacking(cursor);
        let owed = self.plain(plain).chain(self.deflated(deflated)).collect();
        self.members.remove(client);
        self.trim();
        if cursor.feed() != Feed::Plain {
            self.stream.take_if(|stream| stream.remove_reader() == 0);
        }
        owed
    }

    /// Moves the cursors of the next members, at most `members_max` and only of those that lack something, to the end.
    /// The caller sends each of them what it lacked.
    pub fn next_batch(&mut self, members_max: usize) -> Batch {
        self.seal();
        let (count, end) = (self.sealed.len(), self.end());
        let (mut first_plain, mut first_deflated) = (count, count);
        let mut lacking = Vec::new();
        while lacking.len() < members_max
            && let Some((client, cursor)) = self.members.front()
            && cursor.position() != end
        {
            let (plain, deflated) = self.lacking(cursor);
            if !plain.is_empty() {
                first_plain = first_plain.min(plain.start);
            }
            if !deflated.is_empty() {
                first_deflated = first_deflated.min(deflated.start);
            }
            let feed = match cursor.feed() {
                Feed::Newcomer if !deflated.is_empty() => Feed::Deflated,
                feed => feed,
            };
            lacking.push((client, plain, deflated));
            self.members.remove(client);
            self.members.push_back(client, Cursor::new(end, feed));
        }
        let plain_slices = count - first_plain;
        let plain_at = |index: usize| index - first_plain;
        let deflated_at = |index: usize| plain_slices + index - first_deflated;
        let mut members = Vec::with_capacity(lacking.len());
        for (client, plain, deflated) in lacking {
            if !plain.is_empty() {
                members.push((client, plain_at(plain.start)..plain_at(plain.end)));
            }
            if !deflated.is_empty() {
                members.push((
                    client,
                    deflated_at(deflated.start)..deflated_at(deflated.end),
                ));
            }
        }
        let slices = self
            .plain(first_plain..count)
            .chain(self.deflated(first_deflated..count))
            .collect();
        self.trim();
        Batch {
            members,
            slices,
            end: end.0,
            low_watermark: self.low_watermark.0,
        }
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

    /// The number of the slice that the newest frame stands in, or will.
    pub fn newest(&self) -> u64 {
        self.end().0
    }

    /// The room as a ring of so many parts, each with its members and the most bytes that one of them lacks.
    pub fn ring(&self, parts: usize) -> RoomView {
        let mut owed: Vec<usize> = self
            .sealed
            .iter()
            .rev()
            .map(|slice| slice.plain.len())
            .collect();
        let mut total = self.tail.len();
        for bytes in &mut owed {
            total += *bytes;
            *bytes = total;
        }
        owed.push(0);
        owed.rotate_right(1);
        owed[0] = self.tail.len();
        let nodes = &self.members.nodes;
        let used = nodes.iter().rposition(|node| node.cursor.is_some());
        let nodes = &nodes[..used.map_or(0, |last| last + 1)];
        let per_part = nodes.len().div_ceil(parts).max(1);
        let end = self.end();
        let part = |nodes: &[Node]| {
            let lags = nodes.iter().filter_map(|node| node.cursor);
            let lags = lags.map(|cursor| owed[cursor.position().until(end)]);
            let (members, most) =
                lags.fold((0, 0), |(members, most), lag| (members + 1, lag.max(most)));
            (members, u32::try_from(most).unwrap_or(u32::MAX))
        };
        let front = self.members.front();
        RoomView {
            members: self.members(),
            lag: self.lag_bytes(),
            next: front.map_or(0, |(client, _)| client.index() / per_part),
            parts: nodes.chunks(per_part).map(part).collect(),
        }
    }

    /// Where the next frame after the last cut stands.
    fn end(&self) -> Position {
        self.low_watermark.plus(self.sealed.len())
    }

    /// Which sealed slices a member lacks, plain and then in the shared stream.
    fn lacking(&self, cursor: Cursor) -> (Range<usize>, Range<usize>) {
        let (first, end) = (
            self.low_watermark.until(cursor.position()),
            self.sealed.len(),
        );
        let turns = match cursor.feed() {
            Feed::Plain => end,
            Feed::Newcomer => self
                .sealed
                .range(first..)
                .position(|slice| {
                    slice
                        .deflated
                        .as_ref()
                        .is_some_and(|deflated| deflated.restarts)
                })
                .map_or(end, |index| first + index),
            Feed::Deflated => first,
        };
        (first..turns, turns..end)
    }

    fn plain(&self, range: Range<usize>) -> impl Iterator<Item = Bytes> {
        self.sealed.range(range).map(|slice| slice.plain.clone())
    }

    fn deflated(&self, range: Range<usize>) -> impl Iterator<Item = Bytes> {
        self.sealed.range(range).map(|slice| {
            let deflated = slice.deflated.as_ref();
            deflated
                .expect("there is a stream while a member reads it")
                .frames
                .clone()
        })
    }

    /// Cuts the log here, so that a cursor may stand at its end.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.sealed.push_back(Slice {
                plain: self.tail.split().freeze(),
                deflated: self.stream.as_mut().map(SharedStream::seal),
            });
        }
    }

    /// Forgets what no member lacks.
    fn trim(&mut self) {
        let low_watermark = self
            .members
            .front()
            .map_or(self.end(), |(_, cursor)| cursor.position());
        let trimmed = self.sealed.drain(..self.low_watermark.until(low_watermark));
        self.lag_bytes -= trimmed.map(|slice| slice.plain.len()).sum::<usize>();
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
    use crate::core::websocket::deflate::testing::Receiver;

    #[derive(Debug, Clone)]
    enum Step {
        Append(u8),
        Join { deflate: bool },
        Leave(usize),
        Batch(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            5 => any::<u8>().prop_map(Step::Append),
            2 => any::<bool>().prop_map(|deflate| Step::Join { deflate }),
            1 => any::<usize>().prop_map(Step::Leave),
            3 => (0_usize..6).prop_map(Step::Batch),
        ];
        prop::collection::vec(step, 0..200)
    }

    const fn deflate(restart_messages: usize) -> Deflate {
        Deflate {
            on: true,
            level: 4,
            restart_messages,
        }
    }

    /// A message that is much like the others.
    fn message(byte: u8) -> String {
        format!(
            "{{\"type\":\"chat\",\"text\":\"{byte} {}\"}}",
            "la".repeat(usize::from(byte))
        )
    }

    /// A log, and beside it what each member must get.
    struct Room {
        log: BroadcastLog,
        members: BTreeMap<u32, Member>,
    }

    #[derive(Default)]
    struct Member {
        deflate: bool,
        receiver: Receiver,
        got: Vec<String>,
        expected: Vec<String>,
    }

    impl Member {
        fn lag(&self) -> usize {
            self.expected.len() - self.got.len()
        }

        /// Reads frames as a client does that has agreed on compression, or has not.
        fn receive(&mut self, slices: &[Bytes]) {
            for (deflated, message) in self.receiver.messages(&slices.concat()) {
                assert!(
                    self.deflate || !deflated,
                    "nobody is sent what it has not agreed to"
                );
                self.got.push(message);
            }
        }
    }

    impl Room {
        fn new(restart_messages: usize) -> Self {
            Self {
                log: BroadcastLog::with_capacity(0, deflate(restart_messages)),
                members: BTreeMap::new(),
            }
        }

        fn join(&mut self, deflate: bool) {
            // The lowest free number, as a server's table gives it, so that numbers are used again.
            let client = (0..=u32::MAX)
                .find(|id| !self.members.contains_key(id))
                .expect("a number");
            self.log.join(ClientId(client), deflate);
            let member = Member {
                deflate,
                ..Member::default()
            };
            self.members.insert(client, member);
        }

        fn append(&mut self, byte: u8) {
            let message = message(byte);
            let frame = self.log.append(message.as_bytes()).frame;
            assert!(frame[0] == 0x81 && frame.ends_with(message.as_bytes()));
            for member in self.members.values_mut() {
                member.expected.push(message.clone());
            }
        }

        /// Sends the next batch; tells to whom.
        fn send_batch(&mut self, members_max: usize) -> Vec<u32> {
            let batch = self.log.next_batch(members_max);
            for (client, lacking) in &batch.members {
                assert!(!lacking.is_empty());
                let member = self
                    .members
                    .get_mut(&client.0)
                    .expect("only members are sent to");
                member.receive(&batch.slices[lacking.clone()]);
            }
            let mut sent_to: Vec<u32> = batch.members.iter().map(|(client, _)| client.0).collect();
            sent_to.dedup();
            sent_to
        }
    }

    proptest! {
        /// Against a list per member: each member gets what is appended from its joining to its leaving, once and in
        /// order, compressed or not; the member that lacks most comes first; and nothing is kept that no member lacks.
        #[test]
        fn each_member_gets_everything_once(steps in steps(), restart_messages in 1_usize..12) {
            let mut room = Room::new(restart_messages);
            for step in steps {
                match step {
                    Step::Append(byte) => room.append(byte),
                    Step::Join { deflate } => room.join(deflate),
                    Step::Leave(pick) if !room.members.is_empty() => {
                        let client = *room.members.keys().nth(pick % room.members.len()).expect("a member");
                        let mut member = room.members.remove(&client).expect("a member");
                        member.receive(&room.log.leave(ClientId(client)));
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
                let readers = room.members.values().filter(|member| member.deflate).count();
                prop_assert_eq!(room.log.stream.is_some(), readers > 0, "nothing is compressed for nobody");
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
        let mut room = Room::new(1);
        (0..5).for_each(|_| room.join(false));
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

    /// How many messages a new member of this room hears plain.
    fn plain_messages(room: &mut Room) -> usize {
        let client = u32::try_from(room.members.len()).expect("few members");
        room.join(true);
        let mut plain = 0;
        loop {
            room.append(b'x');
            let batch = room.log.next_batch(usize::MAX);
            let (_, lacking) = batch
                .members
                .iter()
                .find(|(id, _)| id.0 == client)
                .expect("it lacks the message");
            if batch.slices[lacking.start][0] & 0x40 != 0 {
                return plain;
            }
            plain += 1;
        }
    }

    #[test]
    fn a_newcomer_waits_for_the_stream_no_longer_than_a_restart_is_put_off() {
        let mut room = Room::new(10);
        assert_eq!(plain_messages(&mut room), 0, "the first begins the stream");
        assert_eq!(plain_messages(&mut room), 9, "one message was in it");
        for _ in 0..9 {
            room.append(b'x');
        }
        assert_eq!(plain_messages(&mut room), 0, "long after the last restart");
    }

    #[test]
    fn a_cursor_keeps_its_position_and_its_feed() {
        for position in [0, 1, 1 << 40] {
            for feed in [Feed::Plain, Feed::Newcomer, Feed::Deflated] {
                let cursor = Cursor::new(Position(position), feed);
                assert_eq!(
                    (cursor.position(), cursor.feed()),
                    (Position(position), feed)
                );
            }
        }
        assert_eq!(size_of::<Node>(), 16, "compression costs a member nothing");
    }

    /// A room may have speakers before it has members: all of them may still be sent the history.
    #[test]
    fn what_is_said_without_members_is_not_kept() {
        let mut log = BroadcastLog::with_capacity(0, deflate(1));
        for _ in 0..1000 {
            log.append(b"to the history only");
        }
        assert!(log.tail.len() < 100, "{} bytes", log.tail.len());
        log.join(ClientId(0), false);
        log.append(b"x");
        assert_eq!(log.next_batch(1).slices.concat(), [0x81, 1, b'x']);
    }

    #[test]
    fn a_room_that_comes_and_goes_in_silence_keeps_nothing() {
        let mut log = BroadcastLog::with_capacity(0, deflate(1));
        for client in 0..1000 {
            log.join(ClientId(client), client % 2 == 0);
            log.append(b"joined");
            log.leave(ClientId(client));
        }
        assert_eq!(
            (log.members(), log.lag_bytes(), log.sealed.len()),
            (0, 0, 0)
        );
        assert!(log.stream.is_none());
    }
}
