//! The answers to HTTP requests, made from what never changes while a server runs.
//!
//! No answer needs the engine: whether the server drains is told, and whether a client has a place is decided when it
//! takes it.

use std::net::{IpAddr, SocketAddr};

use super::arrival::Arrival;
use super::context::Context;
use super::engine::Full;
use super::http::{self, Head, Proxied, Refusal, Request, Site, Step, Upgrade};
use super::inside::trace;
use super::refusals::Quoted;
use super::time::Now;

/// Both ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) peer: SocketAddr,
    pub(crate) local: IpAddr,
}

impl Ends {
    /// A proxy that is believed has said whose connection this is.
    pub(crate) fn replace_by(&mut self, proxied: Proxied) {
        if let Some((peer, local)) = proxied.ends {
            *self = Self { peer, local };
        }
    }
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It got its answer; another request may follow if the connection is kept.
    Responded { keep_alive: bool },
    /// The connection is a WebSocket from here on, if there is a place.
    Upgraded(Upgrade),
}

/// Appends the answer to a request. A refusal is counted and told in the log.
pub(crate) fn answer(
    context: &Context,
    request: &Request,
    ends: Ends,
    now: Now,
    draining: bool,
    last: bool,
    out: &mut Vec<u8>,
) -> Outcome {
    let site = Site {
        model: context.model,
        now: now.wall_clock(),
        access: &context.access,
        local: ends.local,
        draining,
        degraded: context
            .counters
            .redis
            .as_ref()
            .filter(|redis| redis.is_degraded())
            .map(|_| "degraded: Redis is away"),
        last,
        report: context.report.as_deref(),
        deflate: context.limits.deflate.on,
        metrics: &|format| context.counters.exposition(format),
        trace: &|| trace::trace(&context.inside, context.model),
    };
    match http::respond(request, &site, out) {
        http::Outcome::Upgraded(upgrade) => Outcome::Upgraded(upgrade),
        http::Outcome::Responded {
            keep_alive,
            refused,
        } => {
            if let Some(refusal) = refused {
                note(context, refusal, Some(request), ends.peer, now);
            }
            Outcome::Responded { keep_alive }
        }
    }
}

/// Appends the answer to what is no request, or has no place.
pub(crate) fn refuse(
    context: &Context,
    refusal: Refusal,
    peer: SocketAddr,
    now: Now,
    out: &mut Vec<u8>,
) {
    note(context, refusal, None, peer, now);
    http::refuse(refusal, context.model, now.wall_clock(), out);
}

/// The answer to a connection for which there is no place. Health checks and scrapes find room all the same: they are
/// answered out of what has come with the connection, whatever else is refused.
pub(crate) fn answer_without_place(
    context: &Context,
    draining: bool,
    arrival: &Arrival,
    now: Now,
    input: &[u8],
    refusal: Refusal,
) -> Vec<u8> {
    let mut head = Head::default();
    head.push(input);
    let mut out = Vec::new();
    let mut ends = Ends {
        peer: arrival.peer,
        local: arrival.local,
    };
    let mut step = head.next_step();
    if let Step::Proxied(proxied) = step
        && context.by_address.trusts(ends.peer.ip())
    {
        ends.replace_by(proxied);
        step = head.next_step();
    }
    match step {
        Step::Request(request)
            if matches!(request.path.as_str(), "/healthz" | "/metrics")
                && !request.wants_websocket() =>
        {
            answer(context, &request, ends, now, draining, true, &mut out);
        }
        Step::Incomplete | Step::Proxied(_) | Step::Request(_) | Step::Reject(_) => {
            refuse(context, refusal, ends.peer, now, &mut out);
        }
    }
    out
}

/// What a client is told for which there is no place.
pub(crate) fn refusal_of(full: Full) -> Refusal {
    match full {
        Full::Server => Refusal::Full,
        Full::Address => Refusal::AddressFull,
        Full::Draining => Refusal::Draining,
    }
}

/// Counts a refusal, and tells the operator what could be set.
fn note(
    context: &Context,
    refusal: Refusal,
    request: Option<&Request>,
    peer: SocketAddr,
    now: Now,
) {
    let counters = &context.counters;
    if refusal == Refusal::NotFound && request.is_some_and(|request| request.path == "/report") {
        // The start page asks whether there is one.
        return counters.refused_silently(refusal);
    }
    counters.refused_because(now.instant, refusal, || {
        let quoted =
            |value: Option<&String>| Quoted(value.map_or("", String::as_str)).to_string();
        let asked = request.map_or_else(String::new, |request| {
            format!(" {}", Quoted(&request.path))
        });
        let host = quoted(request.and_then(|request| request.host.as_ref()));
        let origin = quoted(request.and_then(|request| request.origin.as_ref()));
        match refusal {
            Refusal::Host => format!(
                "{peer} asked{asked} of Host {host}, which is not known as this server's; if it is, as behind a proxy, \
                 start the server with --allow-host and that name."
            ),
            Refusal::Origin => format!(
                "a page of Origin {origin} may not open{asked}, asked for by {peer} with Host {host}; if it is yours, \
                 start the server with --allow-origin and that origin."
            ),
            _ => format!("{peer}{asked}: {} {}", refusal.status(), refusal.line()),
        }
    });
}
