//! How many clients are in, in all and by address, and whether there is room for one more.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::core::by_address::counted_as;
use crate::core::limits::Limits;

/// Why no other client is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// `--max-clients` are in.
    Server,
    /// `--max-clients-per-address` are in from there.
    Address,
    /// The server is stopping.
    Draining,
}

/// The clients that are in, counted.
#[derive(Debug, Default)]
pub(super) struct Occupancy {
    clients: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Occupancy {
    /// Clients that are in.
    pub(super) fn clients(&self) -> usize {
        self.clients
    }

    /// Whether there is room for one more from this address.
    pub(super) fn room_for(&self, address: IpAddr, limits: &Limits) -> Result<(), Full> {
        let per_address = limits.max_clients_per_address;
        let from_there = self.by_address.get(&counted_as(address));
        let from_there = from_there.copied().unwrap_or(0);
        if self.clients >= limits.max_clients {
            Err(Full::Server)
        } else if per_address > 0 && from_there >= per_address {
            Err(Full::Address)
        } else {
            Ok(())
        }
    }

    /// One comes in.
    pub(super) fn enter(&mut self, address: IpAddr) {
        self.clients += 1;
        *self.by_address.entry(counted_as(address)).or_default() += 1;
    }

    /// One that came in goes.
    pub(super) fn leave(&mut self, address: IpAddr) {
        self.clients -= 1;
        let address = counted_as(address);
        if let Some(from_there) = self.by_address.get_mut(&address) {
            *from_there -= 1;
            if *from_there == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}
