//! The table of connections: a slab whose keys carry a generation, so that an event for a connection that is gone
//! misses the one that took its place.

use mio::Token;
use slab::Slab;

/// Half of a token names the place, half the generation.
const PLACE_BITS: u32 = usize::BITS / 2;
const PLACE_MASK: usize = (1 << PLACE_BITS) - 1;

/// A slab of `T`, by token.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slab: Slab<(usize, T)>,
    generation: usize,
}

impl<T> Slots<T> {
    /// An empty table with room for so many. Room that is not used costs address space (on Windows, a promise of
    /// memory), while growing would copy every connection there is in the middle of a turn.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self {
            slab: Slab::with_capacity(capacity),
            generation: 0,
        }
    }

    /// Puts in what `make` gives for its place and token. The place is the lowest that is free.
    ///
    /// # Errors
    /// That of `make`; nothing was put in.
    ///
    /// # Panics
    /// Never below 2³² places, of which the limit on sockets makes sure.
    pub(crate) fn try_insert<E>(
        &mut self,
        make: impl FnOnce(u32, Token) -> Result<T, E>,
    ) -> Result<Token, E> {
        let entry = self.slab.vacant_entry();
        let place = entry.key();
        debug_assert!(
            place < PLACE_MASK,
            "the limit on sockets keeps places small"
        );
        // The generation wraps; a stale event is at most a turn old.
        self.generation = (self.generation + 1) & (PLACE_MASK >> 1);
        let token = Token(self.generation << PLACE_BITS | place);
        let place = u32::try_from(place).expect("the limit on sockets keeps places small");
        entry.insert((self.generation, make(place, token)?));
        Ok(token)
    }

    /// The one that this token was given to, if it is still there.
    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let (generation, value) = self.slab.get_mut(token.0 & PLACE_MASK)?;
        (*generation == token.0 >> PLACE_BITS).then_some(value)
    }

    /// The one in a place, whatever its generation.
    pub(crate) fn at_mut(&mut self, place: u32) -> Option<&mut T> {
        self.slab.get_mut(place as usize).map(|(_, value)| value)
    }

    /// The same, to be looked at.
    pub(crate) fn at(&self, place: u32) -> Option<&T> {
        self.slab.get(place as usize).map(|(_, value)| value)
    }

    /// Takes out the one that this token was given to.
    pub(crate) fn remove(&mut self, token: Token) -> Option<T> {
        self.get_mut(token)?;
        Some(self.slab.remove(token.0 & PLACE_MASK).1)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slab.iter().map(|(_, (_, value))| value)
    }

    /// All tokens.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = Token> {
        self.slab
            .iter()
            .map(|(place, (generation, _))| Token(generation << PLACE_BITS | place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_token_misses_its_successor() {
        let mut slots = Slots::with_capacity(1);
        let insert =
            |slots: &mut Slots<u32>| slots.try_insert::<()>(|place, _| Ok(place)).expect("made");
        let first = insert(&mut slots);
        assert_eq!(slots.remove(first), Some(0));
        let second = insert(&mut slots);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(
            (
                slots.get_mut(second).copied(),
                slots.at_mut(0).copied(),
                slots.len()
            ),
            (Some(0), Some(0), 1)
        );
    }
}
