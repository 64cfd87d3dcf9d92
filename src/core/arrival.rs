//! A socket that has just come in: its two addresses, and its share of what the client's address may take.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;

use super::http::Refusal;

/// A connection's two ends.
#[derive(Debug)]
pub struct Arrival {
    /// The client's address.
    pub peer: SocketAddr,
    /// The server's address on this connection.
    pub local: IpAddr,
    /// Its share of what its address may take, where that is limited. Boxed, since it mostly is not.
    pub place: Option<Box<Place>>,
}

/// Sockets open by address, where `--max-sockets-per-address` limits them.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Places {
    /// At most so many for each; 0: any number, and none is counted.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            taken: Arc::default(),
        }
    }

    /// A place for another socket of this address, where places are counted.
    ///
    /// # Errors
    /// As many are open as may be.
    pub(super) fn take(&self, address: IpAddr) -> Result<Option<Box<Place>>, Refusal> {
        if self.most == 0 {
            return Ok(None);
        }
        let mut taken = self.taken.lock();
        let count = taken.entry(address).or_default();
        if *count >= self.most {
            return Err(Refusal::AddressSockets);
        }
        *count += 1;
        let taken = Arc::clone(&self.taken);
        Ok(Some(Box::new(Place { taken, address })))
    }
}

/// A socket's share of what its address may take; given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.taken.lock().entry(self.address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_as_many_places_as_it_may_take() {
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let places = Places::new(2);
        let first = places.take(one).expect("a place");
        let second = places.take(one).expect("a place");
        assert!(places.take(one).is_err());
        assert!(places.take(other).is_ok_and(|place| place.is_some()));
        drop(first);
        let third = places.take(one).expect("the place that was given back");
        assert!(places.take(one).is_err());
        drop((second, third));
        assert!(
            places.taken.lock().is_empty(),
            "nothing is kept of who has gone"
        );
        let unlimited = Places::new(0);
        assert!((0..1000).all(|_| unlimited.take(one).is_ok_and(|place| place.is_none())));
    }
}
