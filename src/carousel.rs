//! What the room has said, and who is to hear it next.
//!
//! The members stand in a ring. A turn of the server visits some of them, in order, and each gets everything that was
//! said since its last visit, in one write. So however large the room is, a turn stays short: what is read between two
//! turns is heard by the very next member, and nobody waits for a whole round to be over before its message sets out.
//! A message then takes up to one round to reach the last member; where a turn sent a whole room its batch, it waited
//! up to one round before it set out and then up to another one.
//!
//! What is said stays in memory once, as slices that all visits share, until the last member has heard it. Members
//! hear in the order of the ring, so the one at its front has heard the least, and everyone hears one order.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use bytes::Bytes;

/// Members that are visited in a turn: few, so that a turn stays short however large the room is, and enough that what
/// a server does between two turns costs nothing.
pub const VISITS_A_TURN: usize = 256;
/// When a member has yet to hear so much, whoever speaks waits for those who listen. At `--max-unsent` it is less.
const UNHEARD_MAX: usize = 512 * 1024;
/// Departed members that may stand in the ring besides as many as are in.
const DEPARTED: usize = 64;

/// How much a member may have yet to hear before nobody is listened to: less than what may wait for it unsent, so that
/// no visit of a member who reads makes it a slow one.
pub fn unheard_max(max_unsent: usize) -> usize {
    UNHEARD_MAX.min(max_unsent / 2)
}

/// How much of what the room has said a member has heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard(NonZeroU64);

/// The room's talk, and the ring of its members, each known as an `M` to the server, which also keeps what it has
/// [`Heard`].
#[derive(Debug)]
pub struct Carousel<M> {
    /// Whole frames, not yet heard by everyone, oldest first.
    talk: VecDeque<Bytes>,
    /// Their bytes together.
    talk_bytes: usize,
    /// What everyone has heard, and `talk` begins behind.
    heard_by_all: Heard,
    /// Who is visited next stands in front.
    ring: VecDeque<M>,
}

impl<M> Default for Carousel<M> {
    /// An empty room that has said nothing.
    fn default() -> Self {
        Self {
            talk: VecDeque::new(),
            talk_bytes: 0,
            heard_by_all: Heard(NonZeroU64::MIN),
            ring: VecDeque::new(),
        }
    }
}

impl<M> Carousel<M> {
    /// The room says these frames to all who are in it now.
    pub fn say(&mut self, frames: Bytes) {
        if frames.is_empty() || self.ring.is_empty() {
            return;
        }
        self.talk_bytes += frames.len();
        self.talk.push_back(frames);
    }

    /// A newcomer, who will hear what is said from now on.
    pub fn join(&mut self, member: M) -> Heard {
        self.ring.push_back(member);
        self.all()
    }

    /// To be called now and then where members come and go: whoever has left is forgotten when its turn comes, but where
    /// nobody speaks no turn comes. There are `members` of those who are in.
    pub fn forget_departed(&mut self, members: usize, is_in: impl FnMut(&M) -> bool) {
        if self.ring.len() > 2 * members + DEPARTED {
            self.ring.retain(is_in);
        }
    }

    /// Members and those who have left but are not forgotten yet.
    pub fn places(&self) -> usize {
        self.ring.len()
    }

    /// The next visits to be made, at most `most`: to those who have waited longest, and only to members who have not
    /// heard everything. `heard` tells what a member has heard, or `None` of one that has left. The server notes of each
    /// that it has heard [`Visits::heard`] before it asks again.
    pub fn next_visits(
        &mut self,
        most: usize,
        mut heard: impl FnMut(&M) -> Option<Heard>,
    ) -> Visits<M>
    where
        M: Clone,
    {
        let all = self.all();
        let mut visits = Visits {
            members: Vec::new(),
            talk: self.talk.iter().cloned().collect(),
            heard: all,
        };
        let mut heard_by_all = all;
        for _ in 0..self.ring.len() {
            let Some(from) = self.ring.front().and_then(&mut heard) else {
                self.ring.pop_front();
                continue;
            };
            if from == all || visits.members.len() == most {
                heard_by_all = from;
                break;
            }
            visits
                .members
                .push((self.ring[0].clone(), self.heard_by_all.until(from)));
            self.ring.rotate_left(1);
        }
        self.forget(heard_by_all);
        visits
    }

    /// What a member that has heard so much is still to hear.
    pub fn since(&self, heard: Heard) -> impl Iterator<Item = &Bytes> {
        self.talk.range(self.heard_by_all.until(heard)..)
    }

    /// Whether somebody has not heard everything.
    pub fn has_visits_to_make(&self) -> bool {
        !self.talk.is_empty()
    }

    /// Bytes that somebody has yet to hear.
    pub fn unheard(&self) -> usize {
        self.talk_bytes
    }

    /// What those have heard who have heard everything.
    fn all(&self) -> Heard {
        Heard(self.heard_by_all.0.saturating_add(self.talk.len() as u64))
    }

    /// Everyone has heard so much.
    fn forget(&mut self, heard: Heard) {
        let forgotten = self.talk.drain(..self.heard_by_all.until(heard));
        self.talk_bytes -= forgotten.map(|frames| frames.len()).sum::<usize>();
        self.heard_by_all = heard;
    }
}

impl Heard {
    /// How many slices of talk lie between the two.
    fn until(self, later: Self) -> usize {
        usize::try_from(later.0.get() - self.0.get()).expect("they are in memory")
    }
}

/// Visits to be made.
#[derive(Debug)]
pub struct Visits<M> {
    /// Whom to visit, and how many slices of `talk` that member has heard already.
    pub members: Vec<(M, usize)>,
    /// What was said: the same memory for all.
    pub talk: Vec<Bytes>,
    /// What they have heard afterwards.
    pub heard: Heard,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Say(u8),
        Join,
        Leave(usize),
        Turn(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => any::<u8>().prop_map(Step::Say),
            2 => Just(Step::Join),
            1 => any::<usize>().prop_map(Step::Leave),
            3 => (0_usize..6).prop_map(Step::Turn),
        ];
        prop::collection::vec(step, 0..200)
    }

    /// A server of the carousel, and beside it what each member must hear.
    #[derive(Default)]
    struct Room {
        carousel: Carousel<u32>,
        next: u32,
        members: BTreeMap<u32, Member>,
    }

    struct Member {
        heard: Heard,
        got: Vec<u8>,
        expected: Vec<u8>,
    }

    impl Room {
        /// Makes the next visits; tells whom they went to.
        fn turn(&mut self, most: usize) -> Vec<u32> {
            let members = &self.members;
            let visits = self
                .carousel
                .next_visits(most, |id| Some(members.get(id)?.heard));
            for (id, first) in &visits.members {
                let member = self.members.get_mut(id).expect("only members are visited");
                member.heard = visits.heard;
                member.got.extend(visits.talk[*first..].concat());
            }
            visits.members.iter().map(|(id, _)| *id).collect()
        }
    }

    proptest! {
        /// Against a list for each member: everybody hears what is said from its joining to its leaving, once and in
        /// order; nobody is visited again before the others; and nothing is kept that everybody has heard.
        #[test]
        fn everyone_hears_everything_once(steps in steps()) {
            let mut room = Room::default();
            for step in steps {
                match step {
                    Step::Say(byte) => {
                        room.carousel.say(Bytes::copy_from_slice(&[byte]));
                        for member in room.members.values_mut() {
                            member.expected.push(byte);
                        }
                    }
                    Step::Join => {
                        let heard = room.carousel.join(room.next);
                        room.members.insert(room.next, Member { heard, got: Vec::new(), expected: Vec::new() });
                        room.next += 1;
                    }
                    Step::Leave(pick) if !room.members.is_empty() => {
                        let id = *room.members.keys().nth(pick % room.members.len()).expect("a member");
                        let mut member = room.members.remove(&id).expect("a member");
                        for owed in room.carousel.since(member.heard) {
                            member.got.extend_from_slice(owed);
                        }
                        prop_assert_eq!(member.got, member.expected);
                    }
                    Step::Leave(_) => {}
                    Step::Turn(most) => {
                        let lacks = |member: &Member| member.expected.len() - member.got.len();
                        let before: BTreeMap<u32, usize> = room.members.iter().map(|(id, member)| (*id, lacks(member))).collect();
                        let visited = room.turn(most);
                        prop_assert!(visited.len() <= most);
                        if let Some(first) = visited.first() {
                            prop_assert_eq!(Some(&before[first]), before.values().max(), "who lacks most comes first");
                        }
                        for id in &visited {
                            prop_assert!(before[id] > 0 && lacks(&room.members[id]) == 0);
                        }
                    }
                }
                let behind = room.members.values().map(|member| member.expected.len() - member.got.len()).max().unwrap_or(0);
                prop_assert!(room.carousel.unheard() >= behind, "what somebody has yet to hear is kept");
            }
            room.turn(usize::MAX);
            for member in room.members.values() {
                prop_assert_eq!(&member.got, &member.expected);
            }
            prop_assert!(!room.carousel.has_visits_to_make() && room.carousel.unheard() == 0);
        }
    }

    #[test]
    fn whoever_waits_longest_is_visited_first() {
        let mut room = Room::default();
        for id in 0..5 {
            let heard = room.carousel.join(id);
            room.members.insert(
                id,
                Member {
                    heard,
                    got: Vec::new(),
                    expected: Vec::new(),
                },
            );
        }
        room.carousel.say(Bytes::from_static(b"a"));
        assert_eq!(room.turn(3), [0, 1, 2]);
        room.carousel.say(Bytes::from_static(b"b"));
        assert_eq!(
            room.turn(3),
            [3, 4, 0],
            "those who have heard nothing come before those who lack the last"
        );
        assert_eq!(
            (room.turn(3), room.turn(3)),
            (vec![1, 2], vec![]),
            "nobody is visited for nothing"
        );
    }

    #[test]
    fn those_who_left_a_silent_room_do_not_pile_up() {
        let mut carousel = Carousel::default();
        for id in 0..10 * DEPARTED {
            carousel.join(id);
            carousel.forget_departed(1, |member| *member == id);
        }
        assert!(carousel.places() <= DEPARTED + 2);
        carousel.say(Bytes::from_static(b"the last one is still in"));
        let heard = carousel.join(usize::MAX);
        let visits = carousel.next_visits(usize::MAX, |member| {
            (*member == 10 * DEPARTED - 1 || *member == usize::MAX).then_some(heard)
        });
        assert!(visits.members.is_empty(), "it was said to have heard it");
        assert_eq!(carousel.places(), 2);
    }
}
