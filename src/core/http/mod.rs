//! HTTP/1.1 on the port that it shares with WebSocket: bytes of request heads in, bytes of answers out.
//!
//! Nothing here reads a socket or a clock. A driver pushes what it read into a [`Head`] and takes steps
//! until one is [`Step::Incomplete`]; it gives each [`Request`] to [`respond`], each [`Refusal`] to
//! [`refuse`], and writes what they appended:
//!
//! ```
//! use std::time::SystemTime;
//! use ws_realtime_lab::core::http::{AccessPolicy, Head, Outcome, Site, Step, refuse, respond};
//!
//! let access = AccessPolicy { loopback_only: true, ..AccessPolicy::default() };
//! let site = Site {
//!     model: "evloop",
//!     now: SystemTime::now(),
//!     access: &access,
//!     local: std::net::Ipv4Addr::LOCALHOST.into(),
//!     draining: false,
//!     degraded: None,
//!     last: false,
//!     report: None,
//!     deflate: true,
//!     metrics: &|_format| "clients 0\n".to_owned(),
//!     trace: &|| "{}".to_owned(),
//! };
//! let (mut head, mut out) = (Head::default(), Vec::new());
//! head.push(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
//! let closes = match head.next_step() {
//!     Step::Incomplete | Step::Proxied(_) => false,
//!     Step::Reject(refusal) => {
//!         refuse(refusal, site.model, site.now, &mut out);
//!         true
//!     }
//!     Step::Request(request) => match respond(&request, &site, &mut out) {
//!         Outcome::Responded { keep_alive, .. } => !keep_alive,
//!         Outcome::Upgraded(_upgrade) => {
//!             let _frames_that_came_early = head.take_rest();
//!             false
//!         }
//!     },
//! };
//! assert!(!closes && out.starts_with(b"HTTP/1.1 200 OK\r\n") && out.ends_with(b"ok"));
//! ```

mod access;
mod answer;
mod assets;
mod authority;
mod bounds;
mod endpoint;
mod extensions;
mod fields;
mod handshake;
mod head;
mod negotiation;
mod proxied;
mod refusal;
mod request;
mod upgrade;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::SystemTime;

use ::http::{Method, StatusCode};

pub use access::{AccessPolicy, AllowedHost, AllowedOrigin};
pub use bounds::{MAX_HEAD_BYTES, MAX_HEADERS};
pub use head::{Head, Step};
pub use negotiation::MetricsFormat;
pub use proxied::Proxied;
pub use refusal::Refusal;
pub use request::Request;
pub use upgrade::Upgrade;

use crate::core::protocol::Opening;
use access::Sender;
use answer::{Answer, Envelope};
use assets::Asset;
use endpoint::Endpoint;
use extensions::Agreement;

/// What an answer depends on besides the request: the server's state at this moment.
pub struct Site<'a> {
    /// The concurrency model's name for the `Server` field: `evloop` or `threads`.
    pub model: &'a str,
    /// The wall clock, for `Date`.
    pub now: SystemTime,
    /// Which hosts are this server's, and which web pages may open a WebSocket.
    pub access: &'a AccessPolicy,
    /// The server's address on this connection.
    pub local: IpAddr,
    /// The server is shutting down: no new clients, and every answer closes its connection.
    pub draining: bool,
    /// What the server has to do without for a while; it serves all the same.
    pub degraded: Option<&'static str>,
    /// This is the last answer on its connection, and says so. A driver sets it once its unsent output passes
    /// a bound, for a peer may send requests without end and read none of the answers.
    pub last: bool,
    /// What `/report` shows: one self-contained HTML file, or nothing (404).
    pub report: Option<&'a [u8]>,
    /// Whether a client that offers compression gets it.
    pub deflate: bool,
    /// Writes the Prometheus text of `/metrics`; called only when asked for it.
    pub metrics: &'a dyn Fn(MetricsFormat) -> String,
    /// Writes what `/inside/trace.json` shows; called only when asked for it.
    pub trace: &'a dyn Fn() -> String,
}

/// What became of a request; the bytes that say so are in the output already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It got its answer.
    Responded {
        /// Another request may follow; if not, the driver closes once the answer is sent.
        keep_alive: bool,
        /// The answer was this refusal, which is to be counted.
        refused: Option<Refusal>,
    },
    /// The connection is a WebSocket from here on, opened for this.
    Upgraded(Upgrade),
}

/// Answers `request`, appending the bytes to `out`.
pub fn respond(request: &Request, site: &Site, out: &mut Vec<u8>) -> Outcome {
    let mut envelope = Envelope {
        model: site.model,
        now: site.now,
        keep_alive: request.keep_alive && !site.last && !site.draining,
        with_body: request.method != Method::HEAD,
    };
    let (answer, refused) = match reply(request, site) {
        Ok(Reply::Switch {
            key,
            opening,
            agreement,
        }) => {
            handshake::switch_protocols(key, agreement, site.model, out);
            return Outcome::Upgraded(Upgrade {
                opening,
                deflate: agreement.map(|agreed| agreed.window_bits),
            });
        }
        Ok(Reply::Answer(answer)) => (answer, None),
        Err(refusal) => {
            // Behind a refused upgrade there may stand frames, which must not be read as requests.
            envelope.keep_alive &= !refusal.closes() && !request.wants_websocket();
            (refusal.answer(), Some(refusal))
        }
    };
    answer.write(&envelope, out);
    Outcome::Responded {
        keep_alive: envelope.keep_alive,
        refused,
    }
}

/// Refuses a connection without a request to answer: no whole or no well-formed head, or no room for one.
/// The driver closes it after sending this.
pub fn refuse(refusal: Refusal, model: &str, now: SystemTime, out: &mut Vec<u8>) {
    let envelope = Envelope {
        model,
        now,
        keep_alive: false,
        with_body: true,
    };
    refusal.answer().write(&envelope, out);
}

enum Reply<'a> {
    Answer(Answer<'a>),
    Switch {
        key: &'a str,
        opening: Opening,
        agreement: Option<Agreement>,
    },
}

/// The order of these checks is part of the contract: host, path, method, upgrade, origin, draining, room.
fn reply<'a>(request: &'a Request, site: &'a Site) -> Result<Reply<'a>, Refusal> {
    if !site.access.answers_for(request.host.as_deref(), site.local) {
        return Err(Refusal::Host);
    }
    if request.method == Method::OPTIONS && request.path == "*" {
        return Ok(Reply::Answer(Answer::options()));
    }
    let route = Route::to(&request.path, site).ok_or(Refusal::NotFound)?;
    match request.method {
        Method::GET | Method::HEAD => {}
        Method::OPTIONS => return Ok(Reply::Answer(Answer::options())),
        _ => return Err(Refusal::Method),
    }
    Ok(Reply::Answer(match route {
        Route::Socket(endpoint) => return admit(endpoint, request, site),
        _ if request.wants_websocket() => return Err(Refusal::NotFound),
        Route::Health if site.draining => {
            Answer::text(StatusCode::SERVICE_UNAVAILABLE, "draining").retry_later()
        }
        Route::Health => Answer::text(StatusCode::OK, site.degraded.unwrap_or("ok")),
        Route::Metrics => {
            let format = MetricsFormat::preferred(request.accept.as_deref());
            let format = format.ok_or(Refusal::NotAcceptable)?;
            Answer::metrics(format, (site.metrics)(format))
        }
        Route::Trace => Answer::trace((site.trace)()),
        Route::Report(html) => Answer::report(html),
        Route::File(asset) => asset.answer(request.if_none_match.as_deref()),
    }))
}

fn admit<'a>(endpoint: Endpoint, request: &'a Request, site: &Site) -> Result<Reply<'a>, Refusal> {
    let (key, opening, agreement) = endpoint.open(request)?;
    let sender = site
        .access
        .sender(request.origin.as_deref(), request.host.as_deref())
        .ok_or(Refusal::Origin)?;
    if site.draining {
        return Err(Refusal::Draining);
    }
    let opening = match sender {
        Sender::Known => opening,
        Sender::Anonymous => opening.without_past(),
    };
    Ok(Reply::Switch {
        key,
        opening,
        agreement: agreement.filter(|_| site.deflate),
    })
}

#[derive(Clone, Copy)]
enum Route<'a> {
    Socket(Endpoint),
    Health,
    Metrics,
    Trace,
    Report(&'a [u8]),
    File(&'static Asset),
}

impl<'a> Route<'a> {
    fn to(path: &str, site: &Site<'a>) -> Option<Self> {
        match path {
            "/ws/chat" => Some(Route::Socket(Endpoint::Chat)),
            "/ws/dashboard" => Some(Route::Socket(Endpoint::Dashboard)),
            "/ws/echo" => Some(Route::Socket(Endpoint::Echo)),
            "/ws/inside" => Some(Route::Socket(Endpoint::Inside)),
            "/healthz" => Some(Route::Health),
            "/metrics" => Some(Route::Metrics),
            "/inside/trace.json" => Some(Route::Trace),
            "/report" => site.report.map(Route::Report),
            path => assets::at(path).map(Route::File),
        }
    }
}
