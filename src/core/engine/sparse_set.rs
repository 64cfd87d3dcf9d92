//! A set of clients: a dense list to iterate over, with O(1) insertion and removal.

use super::ClientId;

/// Clients in no particular order, each at most once (Briggs and Torczon, "An Efficient Representation for Sparse
/// Sets", 1993).
#[derive(Debug, Default)]
pub(super) struct SparseSet {
    dense: Vec<ClientId>,
    /// The position of each client in `dense`, by its id; [`ABSENT`] where it is not in the set.
    positions: Vec<u32>,
}

const ABSENT: u32 = u32::MAX;

impl SparseSet {
    /// The clients, to iterate over.
    pub(super) fn as_slice(&self) -> &[ClientId] {
        &self.dense
    }

    /// Whether the client is in it.
    pub(super) fn contains(&self, client: ClientId) -> bool {
        self.positions
            .get(client.index())
            .is_some_and(|position| *position != ABSENT)
    }

    /// Adds a client that is not in it.
    pub(super) fn insert(&mut self, client: ClientId) {
        debug_assert!(!self.contains(client), "a client joins once");
        if self.positions.len() <= client.index() {
            self.positions.resize(client.index() + 1, ABSENT);
        }
        self.positions[client.index()] =
            u32::try_from(self.dense.len()).expect("fewer clients than client ids");
        self.dense.push(client);
    }

    /// Removes a client; tells whether it was in it. The last client takes its position.
    pub(super) fn remove(&mut self, client: ClientId) -> bool {
        if !self.contains(client) {
            return false;
        }
        let position = std::mem::replace(&mut self.positions[client.index()], ABSENT);
        self.dense.swap_remove(position as usize);
        if let Some(moved) = self.dense.get(position as usize) {
            self.positions[moved.index()] = position;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_set(steps in prop::collection::vec((0_u32..12, any::<bool>()), 0..200)) {
            let mut set = SparseSet::default();
            let mut model = BTreeSet::new();
            for (id, joins) in steps {
                if !joins {
                    prop_assert_eq!(set.remove(ClientId(id)), model.remove(&id));
                } else if model.insert(id) {
                    set.insert(ClientId(id));
                }
                let clients: BTreeSet<u32> = set.as_slice().iter().map(|client| client.0).collect();
                prop_assert_eq!(set.as_slice().len(), clients.len());
                prop_assert_eq!(&clients, &model);
            }
        }
    }
}
