//! What this server looks at in a request, and what makes a head malformed although it parses.

use http::Method;

use super::extensions::{Malformed, Offered};
use super::fields::Fields;
use super::handshake;
use super::refusal::Refusal;

pub(super) const BAD_REQUEST_LINE: &str =
    "The request line is malformed: send a method, a path and HTTP/1.1, as in GET / HTTP/1.1.";
const BAD_HOST: &str =
    "The Host header is missing, repeated or malformed: send one, as in Host: localhost:8765.";
const BAD_LENGTH: &str = "The Content-Length is malformed: send one whole number, or none.";
const UNWANTED_BODY: &str =
    "A GET or HEAD has no body here: send no Content-Length and no Transfer-Encoding.";

/// What this server looks at in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// The target without its query, as it was sent: nothing is decoded.
    pub path: String,
    /// What stands behind the target's question mark.
    pub query: Option<String>,
    /// The peer lets the connection be used again, and where this request ends is certain.
    pub keep_alive: bool,
    /// The host it was sent to.
    pub host: Option<String>,
    /// The origin of the page that sent it.
    pub origin: Option<String>,
    /// For whom it came, as proxies say, or others.
    pub forwarded_for: Option<String>,
    /// Which copies the peer has.
    pub if_none_match: Option<String>,
    /// Which formats the peer reads.
    pub accept: Option<String>,
    /// Which WebSocket extensions the peer offers.
    pub extensions: Result<Offered, Malformed>,
    /// The `Sec-WebSocket-Key` of a proper handshake, or what the request lacks to be one.
    pub upgrade: Result<String, Refusal>,
}

impl Request {
    /// Whether a WebSocket was asked for, properly or not.
    pub fn wants_websocket(&self) -> bool {
        self.upgrade != Err(Refusal::UpgradeRequired)
    }

    pub(super) fn from_parsed(parsed: &httparse::Request) -> Result<Self, Refusal> {
        let (Some(method), Some(target), Some(http_minor_version)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(Refusal::BadRequest(BAD_REQUEST_LINE));
        };
        let fields = Fields(parsed.headers);
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| Refusal::BadRequest(BAD_REQUEST_LINE))?;
        let has_body = has_body(&fields)?;
        if has_body && matches!(method, Method::GET | Method::HEAD) {
            return Err(Refusal::BadRequest(UNWANTED_BODY));
        }
        let host = host(&fields, http_minor_version)?;
        let (authority, path_and_query) = split_target(target)?;
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path_and_query, None),
        };
        Ok(Self {
            method,
            // RFC 9110 §4.2.3: an address without a path means the root's.
            path: if path.is_empty() { "/" } else { path }.to_owned(),
            query,
            // A body is not read, so what stands behind it cannot be told from a request.
            keep_alive: !has_body && keeps_alive(&fields, http_minor_version),
            host: authority.map(ToOwned::to_owned).or(host),
            origin: fields.joined("Origin"),
            forwarded_for: fields.joined("X-Forwarded-For"),
            if_none_match: fields.joined("If-None-Match"),
            accept: fields.joined("Accept"),
            extensions: Offered::read(&fields),
            upgrade: handshake::key(&fields, http_minor_version),
        })
    }
}

/// RFC 9112 §3.2: an HTTP/1.1 request has one Host, which may be empty; an older one may go without.
fn host(fields: &Fields, http_minor_version: u8) -> Result<Option<String>, Refusal> {
    let mut hosts = fields.values("Host");
    let host = match (hosts.next(), hosts.next()) {
        (None, None) if http_minor_version == 0 => return Ok(None),
        (Some(host), None) => host,
        _ => return Err(Refusal::BadRequest(BAD_HOST)),
    };
    std::str::from_utf8(host)
        .ok()
        .filter(|host| is_authority(host))
        .map(|host| Some(host.to_owned()))
        .ok_or(Refusal::BadRequest(BAD_HOST))
}

/// No character that cannot stand in a host and port (RFC 3986 §3.2), nor credentials.
fn is_authority(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte))
}

/// RFC 9112 §3.2.2: a target may be a whole address, whose host then counts instead of the Host header.
fn split_target(target: &str) -> Result<(Option<&str>, &str), Refusal> {
    if target.starts_with('/') || target == "*" {
        return Ok((None, target));
    }
    let address = target.split_once("://").filter(|(scheme, _)| {
        scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
    });
    let (_, address) = address.ok_or(Refusal::BadRequest(BAD_REQUEST_LINE))?;
    let (authority, path_and_query) =
        address.split_at(address.find(['/', '?']).unwrap_or(address.len()));
    if authority.is_empty() || !is_authority(authority) {
        return Err(Refusal::BadRequest(BAD_HOST));
    }
    Ok((Some(authority), path_and_query))
}

/// RFC 9112 §6.3: a request has a body if and only if one of these two says so.
fn has_body(fields: &Fields) -> Result<bool, Refusal> {
    let mut length = 0;
    for value in fields.values("Content-Length") {
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let Some(digits) = std::str::from_utf8(value).ok().filter(|_| is_number) else {
            return Err(Refusal::BadRequest(BAD_LENGTH));
        };
        length = length.max(digits.parse().unwrap_or(u64::MAX));
    }
    Ok(length > 0 || fields.values("Transfer-Encoding").next().is_some())
}

/// RFC 9112 §9.3.
fn keeps_alive(fields: &Fields, http_minor_version: u8) -> bool {
    let by_default = http_minor_version >= 1;
    !fields.list_contains("Connection", "close")
        && (by_default || fields.list_contains("Connection", "keep-alive"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::http::{Head, Step};

    fn step(bytes: &str) -> Step {
        let mut head = Head::default();
        head.push(bytes.as_bytes());
        head.next_step()
    }

    #[track_caller]
    fn request(bytes: &str) -> Request {
        match step(bytes) {
            Step::Request(request) => request,
            other => panic!("{other:?}: {bytes}"),
        }
    }

    #[track_caller]
    fn rejected(bytes: &str, with: &'static str) {
        assert_eq!(
            step(bytes),
            Step::Reject(Refusal::BadRequest(with)),
            "{bytes}"
        );
    }

    #[test]
    fn a_request_says_what_this_server_looks_at() {
        let request = request(
            "GET /chat?a=1?2 HTTP/1.1\r\nhost: example.com:8765\r\nORIGIN: http://example.com\r\n\
             X-Forwarded-For: 192.0.2.1\r\nx-forwarded-for: 192.0.2.2\r\n\
             If-None-Match: \"a\"\r\nif-none-match: \"b\"\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n",
        );
        let expected = Request {
            method: Method::GET,
            path: "/chat".to_owned(),
            query: Some("a=1?2".to_owned()),
            keep_alive: true,
            host: Some("example.com:8765".to_owned()),
            origin: Some("http://example.com".to_owned()),
            forwarded_for: Some("192.0.2.1, 192.0.2.2".to_owned()),
            if_none_match: Some("\"a\", \"b\"".to_owned()),
            accept: Some("application/openmetrics-text; version=1.0.0".to_owned()),
            extensions: Ok(Offered::default()),
            upgrade: Err(Refusal::UpgradeRequired),
        };
        assert_eq!(request, expected);
    }

    #[test]
    fn a_whole_address_is_a_target_and_names_the_host() {
        for (target, path, query) in [
            ("http://b:1/chat?x", "/chat", Some("x")),
            ("HTTP://b:1", "/", None),
            ("http://b:1?x", "/", Some("x")),
            ("https://b:1/chat", "/chat", None),
        ] {
            let request = request(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(
                (request.path.as_str(), request.query.as_deref()),
                (path, query),
                "{target}"
            );
            assert_eq!(request.host.as_deref(), Some("b:1"));
        }
    }

    #[test]
    fn whether_the_connection_stays_follows_version_and_header() {
        for (version, connection, keep_alive) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: x, CLOSE\r\n", false),
            (
                "1.1",
                "Connection: keep-alive\r\nConnection: close\r\n",
                false,
            ),
            ("1.1", "Connection: closer\r\n", true),
            ("1.1", "Content-Length: 0\r\n", true),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            let request = request(&format!(
                "GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n"
            ));
            assert_eq!(request.keep_alive, keep_alive, "{version} {connection}");
        }
    }

    #[test]
    fn a_body_is_refused_or_ends_the_connection() {
        for field in [
            "Content-Length: 5",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: identity",
        ] {
            for method in ["GET", "HEAD"] {
                let bytes = format!("{method} / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
                rejected(&bytes, UNWANTED_BODY);
            }
            let post = request(&format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"));
            assert!(!post.keep_alive);
        }
        let endless = "99999999999999999999999999";
        assert!(
            !request(&format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {endless}\r\n\r\n"
            ))
            .keep_alive
        );
        for length in ["", "-1", "+0", "1, 1", "0x0", "five"] {
            let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
            rejected(&bytes, BAD_LENGTH);
        }
    }

    #[test]
    fn one_host_is_required() {
        for hosts in [
            "",
            "Host: a\r\nHost: a\r\n",
            "Host: a b\r\n",
            "Host: a/b\r\n",
            "Host: u@a\r\n",
            "Host: \u{e9}\r\n",
        ] {
            let bytes = format!("GET / HTTP/1.1\r\n{hosts}\r\n");
            rejected(&bytes, BAD_HOST);
        }
        rejected("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", BAD_HOST);
        rejected("GET http://u@b/ HTTP/1.1\r\nHost: a\r\n\r\n", BAD_HOST);
        assert_eq!(request("GET / HTTP/1.0\r\n\r\n").host, None);
        assert_eq!(
            request("GET / HTTP/1.1\r\nHost:\r\n\r\n").host.as_deref(),
            Some("")
        );
    }
}
