//! The client's end of a conversation: its address, which a trusted proxy may name, and its place among the sockets.

use std::fmt::{self, Display};
use std::net::IpAddr;

use crate::core::answers::Ends;
use crate::core::arrival::{Arrival, Place};
use crate::core::context::Context;
use crate::core::http::{Proxied, Refusal, Request};
use crate::core::refusals::Ignored;
use crate::core::time::Now;

/// The client, as far as it is known from where it calls.
#[derive(Debug)]
pub(super) struct Caller {
    /// Those of the connection that the nearest proxy took, if it tells.
    pub(super) ends: Ends,
    /// Under which the client is counted.
    pub(super) address: IpAddr,
    /// Given back when the socket is closed.
    place: Option<Box<Place>>,
}

impl Caller {
    pub(super) fn new(arrival: Arrival) -> Self {
        Self {
            ends: Ends {
                peer: arrival.peer,
                local: arrival.local,
            },
            address: arrival.peer.ip(),
            place: arrival.place,
        }
    }

    /// A PROXY header came first.
    pub(super) fn take_proxied(
        &mut self,
        proxied: Proxied,
        context: &Context,
    ) -> Result<(), Refusal> {
        if !context.by_address.trusts(self.ends.peer.ip()) {
            return Err(Refusal::UntrustedProxy);
        }
        self.ends.replace_by(proxied);
        self.move_to(self.ends.peer.ip(), context)
    }

    /// A request says for whom it came.
    pub(super) fn take_request(
        &mut self,
        now: Now,
        request: &Request,
        context: &Context,
    ) -> Result<(), Refusal> {
        let hop = self.ends.peer.ip();
        let forwarded_for = request.forwarded_for.as_deref().unwrap_or_default();
        let (address, ignored) = context.by_address.client(hop, forwarded_for);
        if ignored && context.by_address.is_in_use() {
            context.counters.refused(now.instant, Ignored::ForwardedFor);
        } else if ignored {
            context.counters.refused_silently(Ignored::ForwardedFor);
        }
        self.move_to(address, context)
    }

    /// The socket stands for another client from now on, and takes a place among that one's.
    fn move_to(&mut self, address: IpAddr, context: &Context) -> Result<(), Refusal> {
        if address != self.address {
            self.place = None;
            self.place = context.by_address.place(address)?;
            self.address = address;
        }
        Ok(())
    }
}

impl Display for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.address == self.ends.peer.ip() {
            write!(formatter, "{}", self.ends.peer)
        } else {
            write!(formatter, "{} by way of {}", self.address, self.ends.peer)
        }
    }
}
