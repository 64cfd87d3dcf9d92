//! Who belongs to something: a dense list to run over, with O(1) joining and leaving.

use super::ClientId;

/// Members in no particular order. A client may stand in it once.
#[derive(Debug, Default)]
pub struct SparseSet {
    members: Vec<ClientId>,
    /// Where each client stands in `members`, by its id; [`NOWHERE`] for those who are not in it.
    seats: Vec<u32>,
}

const NOWHERE: u32 = u32::MAX;

impl SparseSet {
    /// The members, for running over.
    pub fn members(&self) -> &[ClientId] {
        &self.members
    }

    /// Whether the client is in it.
    pub fn contains(&self, client: ClientId) -> bool {
        self.seats
            .get(client.index())
            .is_some_and(|seat| *seat != NOWHERE)
    }

    /// Adds a client that is not in it.
    pub fn add(&mut self, client: ClientId) {
        debug_assert!(!self.contains(client), "a client joins once");
        if self.seats.len() <= client.index() {
            self.seats.resize(client.index() + 1, NOWHERE);
        }
        self.seats[client.index()] =
            u32::try_from(self.members.len()).expect("fewer members than client ids");
        self.members.push(client);
    }

    /// Removes a client; tells whether it was in it. The last member takes its seat.
    pub fn remove(&mut self, client: ClientId) -> bool {
        if !self.contains(client) {
            return false;
        }
        let seat = std::mem::replace(&mut self.seats[client.index()], NOWHERE);
        self.members.swap_remove(seat as usize);
        if let Some(moved) = self.members.get(seat as usize) {
            self.seats[moved.index()] = seat;
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
            let mut roster = SparseSet::default();
            let mut model = BTreeSet::new();
            for (id, joins) in steps {
                if !joins {
                    prop_assert_eq!(roster.remove(ClientId(id)), model.remove(&id));
                } else if model.insert(id) {
                    roster.add(ClientId(id));
                }
                let members: BTreeSet<u32> = roster.members().iter().map(|member| member.0).collect();
                prop_assert_eq!(roster.members().len(), members.len());
                prop_assert_eq!(&members, &model);
            }
        }
    }
}
