//! The ring of the room's last messages: for newcomers, for resuming, and to know a message sent twice.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::core::protocol::Replay;

/// The last messages of the room, as the frames everyone got. Ids run 1, 2, 3, … without gaps.
#[derive(Debug)]
pub struct History {
    ring: VecDeque<Entry>,
    capacity: usize,
    last_id: u64,
    by_key: HashMap<Arc<MessageKey<'static>>, u64>,
}

/// What makes two messages the same. The `cid` alone does not: two clients that number their messages from 1 must not
/// swallow each other's, whatever they call themselves.
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

#[derive(Debug)]
struct Entry {
    /// A copy of its own: a slice of the room's batch would keep the whole batch in memory.
    frame: Bytes,
    key: Option<Arc<MessageKey<'static>>>,
}

/// What is sent to a newcomer of the past.
#[derive(Debug, PartialEq, Eq)]
pub struct Recovery {
    /// How many of the newest kept messages follow.
    pub newest: usize,
    /// Whether they reach back as far as asked; `None` where it asked for no particular message.
    pub recovered: Option<bool>,
}

impl History {
    /// An empty ring that will keep `capacity` messages.
    pub fn new(capacity: usize) -> Self {
        Self {
            ring: VecDeque::new(),
            capacity,
            last_id: 0,
            by_key: HashMap::new(),
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

    /// Keeps the message that took the last id, forgetting the oldest where the ring is full.
    pub fn keep(&mut self, frame: &[u8], key: Option<&MessageKey<'_>>) {
        if self.capacity == 0 {
            return;
        }
        if self.ring.len() == self.capacity
            && let Some(Entry {
                key: Some(forgotten),
                ..
            }) = self.ring.pop_front()
        {
            self.by_key.remove(&forgotten);
        }
        let key = key.map(MessageKey::to_kept);
        if let Some(key) = &key {
            self.by_key.insert(Arc::clone(key), self.last_id);
        }
        self.ring.push_back(Entry {
            frame: Bytes::copy_from_slice(frame),
            key,
        });
    }

    /// The id of the message kept under this key, if it is still kept.
    pub fn find(&self, key: &MessageKey<'_>) -> Option<u64> {
        self.by_key.get(key).copied()
    }

    /// How much of the past answers a newcomer's wish, `epoch` being the life of this history.
    pub fn recovery(&self, replay: &Replay, epoch: &str) -> Recovery {
        let kept = self.ring.len();
        match replay {
            Replay::Nothing => Recovery {
                newest: 0,
                recovered: None,
            },
            Replay::Newest(wanted) => Recovery {
                newest: kept.min(*wanted),
                recovered: None,
            },
            Replay::Since { epoch: theirs, id } => {
                let missed = self.last_id.checked_sub(*id).filter(|_| theirs == epoch);
                match missed.and_then(|missed| usize::try_from(missed).ok()) {
                    Some(missed) if missed <= kept => Recovery {
                        newest: missed,
                        recovered: Some(true),
                    },
                    _ => Recovery {
                        newest: kept,
                        recovered: Some(false),
                    },
                }
            }
        }
    }

    /// The frames of the newest `count` messages, oldest first.
    pub fn newest(&self, count: usize) -> impl Iterator<Item = &Bytes> {
        self.ring
            .range(self.ring.len() - count..)
            .map(|entry| &entry.frame)
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
        assert_eq!(
            history.recovery(&other, "e"),
            Recovery {
                newest: 3,
                recovered: Some(false)
            }
        );
        assert_eq!(
            history.recovery(&since(6), "e"),
            Recovery {
                newest: 3,
                recovered: Some(false)
            }
        );
        assert_eq!(
            history.recovery(&since(1), "e"),
            Recovery {
                newest: 3,
                recovered: Some(false)
            }
        );
        assert_eq!(
            history.recovery(&since(2), "e"),
            Recovery {
                newest: 3,
                recovered: Some(true)
            }
        );
        assert_eq!(
            history.recovery(&since(5), "e"),
            Recovery {
                newest: 0,
                recovered: Some(true)
            }
        );
    }

    proptest! {
        /// Against a model that forgets nothing: the newest come back in order, and a key is known exactly as long as
        /// its message is kept.
        #[test]
        fn keeps_the_newest_and_their_keys(capacity in 0_usize..20, keyed in prop::collection::vec(any::<bool>(), 0..60)) {
            let mut history = History::new(capacity);
            for (index, has_key) in keyed.iter().enumerate() {
                let id = history.next_id();
                prop_assert_eq!(id, index as u64 + 1);
                history.keep(&id.to_be_bytes(), has_key.then(|| key(id)).as_ref());
            }
            let kept = keyed.len().min(capacity);
            let oldest = keyed.len() - kept;
            for (index, has_key) in keyed.iter().enumerate() {
                let id = index as u64 + 1;
                let expected = (*has_key && index >= oldest).then_some(id);
                prop_assert_eq!(history.find(&key(id)), expected);
                let Recovery { newest, recovered } = history.recovery(&since(id), "e");
                prop_assert_eq!(recovered, Some(id >= oldest as u64));
                let ids: Vec<u64> = history.newest(newest).map(|frame| u64::from_be_bytes(frame[..].try_into().unwrap())).collect();
                let first = if recovered == Some(true) { id + 1 } else { oldest as u64 + 1 };
                prop_assert_eq!(ids, (first..=keyed.len() as u64).collect::<Vec<_>>());
            }
        }
    }
}
