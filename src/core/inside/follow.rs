//! The path of one chat message through the server, hop by hop, with the place in the source of each.
//!
//! A reader of the inside view names a `cid` and then says something under it. Until such a message comes, and when none
//! is expected, a message costs one look at a flag.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use super::ticks;

/// How long a message is waited for, and followed.
pub(crate) const FOLLOW_LIMIT: Duration = Duration::from_secs(5);

/// A place on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hop {
    /// The socket was readable, and was read.
    Readable,
    /// The frame was JSON, and a chat message.
    Parsed,
    /// The engine could be had: on threads, the wait for its lock is over.
    Engine,
    /// The rules let it pass.
    Rules,
    /// It stands in the room's log, and has its place in the order.
    Appended,
    /// The first member's socket has taken it, or its outbox.
    FirstMember,
    /// And the last member's.
    LastMember,
}

const OFF: u8 = 0;
const EXPECTED: u8 = 1;
const APPENDED: u8 = 2;
const FINISHED: u8 = 3;

/// The one message that is followed.
#[derive(Debug, Default)]
pub struct Follow {
    phase: AtomicU8,
    path: Mutex<Path>,
}

#[derive(Debug, Default)]
struct Path {
    cid: String,
    asked_at: Option<Instant>,
    /// Where it stands in the log.
    position: u64,
    marks: Vec<(Hop, Instant, Place)>,
}

/// A function, and the file it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Under the root of the repository.
    pub file: &'static str,
    /// With the type that it belongs to.
    pub function: &'static str,
}

/// A step of the path, as it is shown.
#[derive(Debug, Serialize)]
pub struct Step {
    hop: Hop,
    /// Tenths of a microsecond since the first.
    at: u64,
    #[serde(flatten)]
    place: Place,
}

/// What became of the message.
#[derive(Debug, Serialize)]
pub struct Followed {
    /// Under which it was said.
    pub cid: String,
    /// Whether every member has it; else the path as far as it came.
    pub complete: bool,
    /// In the order in which they happened.
    pub steps: Vec<Step>,
}

impl Follow {
    /// A message under this `cid` is expected, and no other any more.
    pub fn expect(&self, cid: &str, now: Instant) {
        *self.path.lock() = Path {
            cid: cid.to_owned(),
            asked_at: Some(now),
            ..Path::default()
        };
        self.phase.store(EXPECTED, Ordering::Release);
    }

    /// Whether this is the message.
    pub fn is(&self, cid: Option<&str>) -> bool {
        self.phase.load(Ordering::Relaxed) == EXPECTED
            && cid.is_some_and(|cid| self.path.lock().cid == cid)
    }

    /// Whether a batch up to slice `end` carries it to members that lack it.
    pub fn is_carried_by(&self, end: u64) -> bool {
        self.phase.load(Ordering::Acquire) == APPENDED && self.path.lock().position < end
    }

    /// The message has come to a hop. Of two first members the first counts.
    pub fn mark(&self, hop: Hop, now: Instant, place: Place) {
        let mut path = self.path.lock();
        if path.marks.iter().all(|(passed, ..)| *passed != hop) {
            path.marks.push((hop, now, place));
        }
    }

    /// It stands in the log, in the slice of this number.
    pub fn appended(&self, position: u64, now: Instant, place: Place) {
        self.mark(Hop::Appended, now, place);
        self.path.lock().position = position;
        self.phase.store(APPENDED, Ordering::Release);
    }

    /// A batch was sent; every member now has what stands before `low_watermark`.
    pub fn batch_sent(&self, low_watermark: u64, now: Instant, place: Place) {
        if self.path.lock().position < low_watermark {
            self.mark(Hop::LastMember, now, place);
            self.phase.store(FINISHED, Ordering::Release);
        }
    }

    /// The path, once it has come to its end or to that of the patience with it.
    pub fn take(&self, now: Instant) -> Option<Followed> {
        let phase = self.phase.load(Ordering::Acquire);
        if phase == OFF {
            return None;
        }
        let mut path = self.path.lock();
        let over = path.asked_at.is_none_or(|at| now >= at + FOLLOW_LIMIT);
        if phase != FINISHED && !over {
            return None;
        }
        self.phase.store(OFF, Ordering::Release);
        let path = std::mem::take(&mut *path);
        let start = path.marks.first().map_or(now, |(_, at, ..)| *at);
        let steps = path.marks.into_iter();
        Some(Followed {
            cid: path.cid,
            complete: phase == FINISHED,
            steps: steps
                .map(|(hop, at, place)| Step {
                    hop,
                    at: ticks(at.saturating_duration_since(start)),
                    place,
                })
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place = Place {
        file: file!(),
        function: "tests",
    };

    #[test]
    fn a_path_is_given_once_when_the_last_member_has_the_message() {
        let (follow, start) = (Follow::default(), Instant::now());
        let after = |microseconds| start + Duration::from_micros(microseconds);
        assert!(!follow.is(Some("a")) && follow.take(start).is_none());
        follow.expect("a", start);
        assert!(follow.is(Some("a")) && !follow.is(Some("b")) && !follow.is(None));
        follow.mark(Hop::Readable, after(5), HERE);
        follow.appended(7, after(8), HERE);
        assert!(!follow.is_carried_by(7) && follow.is_carried_by(8));
        follow.mark(Hop::FirstMember, after(9), HERE);
        follow.batch_sent(7, after(10), HERE);
        assert!(follow.take(after(11)).is_none(), "some member lacks it");
        follow.mark(Hop::FirstMember, after(11), HERE);
        follow.batch_sent(8, after(12), HERE);
        let followed = follow.take(after(13)).expect("a path");
        assert!(followed.complete);
        let steps: Vec<_> = followed
            .steps
            .iter()
            .map(|step| (step.hop, step.at))
            .collect();
        assert_eq!(
            steps,
            [
                (Hop::Readable, 0),
                (Hop::Appended, 30),
                (Hop::FirstMember, 40),
                (Hop::LastMember, 70)
            ]
        );
        assert!(followed.steps.iter().all(|step| step.place == HERE));
        assert!(follow.take(after(14)).is_none());
    }

    #[test]
    fn a_message_that_never_comes_is_given_up() {
        let (follow, start) = (Follow::default(), Instant::now());
        follow.expect("a", start);
        assert!(follow.take(start + FOLLOW_LIMIT / 2).is_none());
        let followed = follow.take(start + FOLLOW_LIMIT).expect("a path");
        assert!(!followed.complete && followed.steps.is_empty());
        assert!(!follow.is(Some("a")));
    }
}
