//! Every way to be refused over HTTP, each with its status, its name in the metrics and its line for people.

use http::StatusCode;

use super::answer::{Answer, METHODS};
use super::bounds::{MAX_HEAD_BYTES, MAX_HEADERS};

/// Why a request, or a connection before its request, got nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The request is malformed; the sentence says what is wrong and what would be right.
    BadRequest(&'static str),
    /// The request is for a host that is not this server's, as that of a page that made its name lead here.
    Host,
    /// A web page of a foreign origin asked for a WebSocket.
    Origin,
    /// There is nothing under this path.
    NotFound,
    /// There is, but not for this method.
    Method,
    /// It is in no format that the client reads.
    NotAcceptable,
    /// The request head did not arrive whole in time.
    HeadTimeout,
    /// The path is a WebSocket's, the request is an ordinary one.
    UpgradeRequired,
    /// The client speaks a version of the WebSocket protocol other than 13.
    WebSocketVersion,
    /// The request head is longer than [`MAX_HEAD_BYTES`], or has more than [`MAX_HEADERS`] headers.
    HeadTooLarge,
    /// As many clients as the server takes are here.
    Full,
    /// As many clients as the server takes from one address are here.
    AddressFull,
    /// As many sockets as the server takes from one address are open, clients or not.
    AddressSockets,
    /// From one address come more WebSocket handshakes than the server takes in a second.
    AddressHandshakes,
    /// What came says whose connection it is, and comes from no proxy that is trusted.
    UntrustedProxy,
    /// No descriptor is left for another socket.
    NoDescriptors,
    /// No thread can be started for another client.
    NoThread,
    /// The server is shutting down.
    Draining,
}

impl Refusal {
    /// Its status.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::UntrustedProxy => StatusCode::BAD_REQUEST,
            Self::AddressHandshakes => StatusCode::TOO_MANY_REQUESTS,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::UpgradeRequired | Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Full
            | Self::AddressFull
            | Self::AddressSockets
            | Self::NoDescriptors
            | Self::NoThread
            | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The name under which `/metrics` counts it; dashboards rely on these, so they never change.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::Host => "host",
            Self::Origin => "origin",
            Self::NotFound => "not_found",
            Self::Method => "method",
            Self::NotAcceptable => "not_acceptable",
            Self::HeadTimeout => "head_timeout",
            Self::UpgradeRequired => "upgrade_required",
            Self::WebSocketVersion => "websocket_version",
            Self::HeadTooLarge => "head_too_large",
            Self::Full => "full",
            Self::AddressFull => "address_full",
            Self::AddressSockets => "address_sockets",
            Self::AddressHandshakes => "address_handshakes",
            Self::UntrustedProxy => "untrusted_proxy",
            Self::NoDescriptors => "no_descriptors",
            Self::NoThread => "no_thread",
            Self::Draining => "draining",
        }
    }

    /// Whether the connection ends with it, whatever the request wished: after a malformed or missing head
    /// it is unknown where the next request starts, and a server without room keeps no idle connections.
    pub(super) const fn closes(self) -> bool {
        match self {
            Self::BadRequest(_)
            | Self::HeadTimeout
            | Self::HeadTooLarge
            | Self::Full
            | Self::AddressFull
            | Self::AddressSockets
            | Self::AddressHandshakes
            | Self::UntrustedProxy
            | Self::NoDescriptors
            | Self::NoThread
            | Self::Draining => true,
            Self::Host
            | Self::Origin
            | Self::NotFound
            | Self::Method
            | Self::NotAcceptable
            | Self::UpgradeRequired
            | Self::WebSocketVersion => false,
        }
    }

    pub(super) fn answer(self) -> Answer<'static> {
        let answer = Answer::text(self.status(), self.line() + "\n");
        match self {
            Self::Method => answer.field("Allow", METHODS),
            Self::UpgradeRequired => answer.field("Upgrade", "websocket"),
            Self::WebSocketVersion => answer
                .field("Upgrade", "websocket")
                .field("Sec-WebSocket-Version", "13"),
            Self::Full
            | Self::AddressFull
            | Self::AddressSockets
            | Self::AddressHandshakes
            | Self::NoDescriptors
            | Self::NoThread
            | Self::Draining => answer.retry_later(),
            Self::BadRequest(_)
            | Self::UntrustedProxy
            | Self::Host
            | Self::Origin
            | Self::NotFound
            | Self::NotAcceptable
            | Self::HeadTimeout
            | Self::HeadTooLarge => answer,
        }
    }

    /// One line that says what is wrong and what would be right.
    pub fn line(self) -> String {
        match self {
            Self::BadRequest(line) => line,
            Self::Host => {
                "This server does not answer for that Host: open it by its address or as localhost, \
                 or start it with --allow-host and the name."
            }
            Self::Origin => {
                "Pages of this origin may not connect: open the page from this server, \
                 or start the server with --allow-origin and the page's origin."
            }
            Self::NotFound => {
                "There is nothing here: the pages start at /, the WebSockets are /ws/chat, /ws/dashboard and /ws/echo."
            }
            Self::Method => "Only GET, HEAD and OPTIONS are answered here.",
            Self::NotAcceptable => "The figures are text/plain or application/openmetrics-text: accept one of the two.",
            Self::HeadTimeout => {
                "The request did not arrive in time: send its head whole, and the empty line that ends it."
            }
            Self::UpgradeRequired => {
                "This is a WebSocket: ask by GET over HTTP/1.1 with Connection: Upgrade and Upgrade: websocket."
            }
            Self::WebSocketVersion => "Only version 13 of WebSocket is spoken here: send Sec-WebSocket-Version: 13.",
            Self::HeadTooLarge => {
                return format!(
                    "The request head is too large: at most {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} headers are read."
                );
            }
            Self::Full => "The server has as many clients as it takes (--max-clients): try again in a few seconds.",
            Self::AddressFull => {
                "The server has as many clients from your address as it takes (--max-clients-per-address): \
                 close one, or try again in a few seconds."
            }
            Self::AddressSockets => {
                "As many connections from your address are open as the server takes (--max-sockets-per-address): \
                 close one, or try again in a few seconds."
            }
            Self::AddressHandshakes => {
                "From your address come more WebSockets per second than the server takes \
                 (--max-handshakes-per-address): try again in a few seconds."
            }
            Self::UntrustedProxy => {
                "The PROXY protocol is spoken here with trusted proxies only: start the server with --trusted-proxy \
                 and the proxy's address, or send HTTP alone."
            }
            Self::NoDescriptors => {
                "The server has no descriptor left for another client (`ulimit -n`, --max-clients): \
                 try again in a few seconds."
            }
            Self::NoThread => {
                "The server can start no thread for another client (`ulimit -u`, --max-clients): \
                 try again in a few seconds."
            }
            Self::Draining => "The server is shutting down: try again in a few seconds.",
        }
        .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::http::refuse;
    use std::time::SystemTime;

    #[test]
    fn what_a_proxy_or_an_address_does_too_much_is_told_too() {
        for (refusal, status, reason) in [
            (Refusal::AddressHandshakes, 429, "address_handshakes"),
            (Refusal::UntrustedProxy, 400, "untrusted_proxy"),
        ] {
            let mut out = Vec::new();
            refuse(refusal, "threads", SystemTime::UNIX_EPOCH, &mut out);
            let text = String::from_utf8(out).unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
            assert_eq!(text.contains("\r\nRetry-After: 5\r\n"), status == 429);
            assert!(refusal.closes() && text.ends_with(".\n"), "{text}");
            assert_eq!(refusal.reason(), reason);
        }
    }

    #[test]
    fn every_refusal_without_a_request_is_a_whole_answer_that_closes() {
        for (refusal, status, reason, field) in [
            (
                Refusal::BadRequest("Wrong: do right."),
                "400 ",
                "bad_request",
                "",
            ),
            (Refusal::Host, "421 ", "host", ""),
            (Refusal::Origin, "403 ", "origin", ""),
            (Refusal::NotAcceptable, "406 ", "not_acceptable", ""),
            (
                Refusal::AddressSockets,
                "503 ",
                "address_sockets",
                "\r\nRetry-After: 5\r\n",
            ),
            (Refusal::NotFound, "404 ", "not_found", ""),
            (
                Refusal::Method,
                "405 ",
                "method",
                "\r\nAllow: GET, HEAD, OPTIONS\r\n",
            ),
            (Refusal::HeadTimeout, "408 ", "head_timeout", ""),
            (
                Refusal::UpgradeRequired,
                "426 ",
                "upgrade_required",
                "\r\nUpgrade: websocket\r\n",
            ),
            (
                Refusal::WebSocketVersion,
                "426 ",
                "websocket_version",
                "\r\nSec-WebSocket-Version: 13\r\n",
            ),
            (Refusal::HeadTooLarge, "431 ", "head_too_large", ""),
            (Refusal::Full, "503 ", "full", "\r\nRetry-After: 5\r\n"),
            (
                Refusal::AddressFull,
                "503 ",
                "address_full",
                "\r\nRetry-After: 5\r\n",
            ),
            (
                Refusal::Draining,
                "503 ",
                "draining",
                "\r\nRetry-After: 5\r\n",
            ),
        ] {
            let mut out = Vec::new();
            refuse(refusal, "threads", SystemTime::UNIX_EPOCH, &mut out);
            let text = String::from_utf8(out).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
            assert!(head.contains(field), "{head}");
            assert!(
                head.contains("\r\nServer: ws-realtime-lab (threads)\r\n"),
                "{head}"
            );
            assert!(head.contains("close\r\n"), "{head}");
            assert!(
                head.contains(&format!("\r\nContent-Length: {}", body.len())),
                "{head}"
            );
            assert!(body.ends_with(".\n") && body.lines().count() == 1, "{body}");
            assert_eq!(refusal.reason(), reason);
        }
    }
}
