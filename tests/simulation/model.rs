//! What a room must be, whatever the network does: one order of messages, in which everyone hears every one once.

use std::collections::{BTreeMap, HashMap};

#[derive(Debug, Default)]
pub(crate) struct Room {
    said: BTreeMap<u64, String>,
    ids: HashMap<String, u64>,
    /// Messages that the server has refused.
    refused: std::collections::HashSet<String>,
    /// How many the server remembers.
    history: u64,
    last_id: u64,
}

/// One stay of a member: the id it must hear next, once it is known.
pub(crate) type Next = Option<u64>;

impl Room {
    pub(crate) fn new(history: usize) -> Self {
        Self {
            history: history as u64,
            ..Self::default()
        }
    }

    pub(crate) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// A newcomer is told how far the room has come; of the last messages perhaps nobody else has heard.
    pub(crate) fn reaches(&mut self, last_id: u64) {
        self.last_id = self.last_id.max(last_id);
    }

    /// No gap, no double.
    pub(crate) fn hears(&mut self, next: &mut Next, id: u64, text: &str) {
        assert!(
            next.is_none_or(|next| next == id),
            "heard {id}, next is {next:?}"
        );
        *next = Some(id + 1);
        self.stands(id, text);
    }

    /// Heard or acknowledged: the message has this place in the one order, and no other.
    pub(crate) fn stands(&mut self, id: u64, text: &str) {
        self.reaches(id);
        let said = self.said.entry(id).or_insert_with(|| text.to_owned());
        assert_eq!(said, text, "two messages are number {id}");
        assert!(
            !self.refused.contains(text),
            "{text} was refused and stands at {id}"
        );
        let before = self.ids.insert(text.to_owned(), id).unwrap_or(id);
        let forgotten = self.last_id.saturating_sub(before.min(id)) >= self.history;
        assert!(
            before == id || forgotten,
            "{text} stands at {before} and at {id}"
        );
    }

    pub(crate) fn refused(&mut self, text: &str) {
        assert!(
            !self.ids.contains_key(text),
            "{text} stands and was refused"
        );
        self.refused.insert(text.to_owned());
    }

    /// The history reaches from here to the last message.
    pub(crate) fn oldest_kept(&self, last_id: u64) -> u64 {
        (last_id + 1).saturating_sub(self.history).max(1)
    }
}
