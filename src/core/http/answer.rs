//! One answer, from its parts to its bytes.

use std::borrow::Cow;
use std::io::Write;
use std::time::SystemTime;

use http::StatusCode;

use super::negotiation::MetricsFormat;

/// The methods that are answered everywhere.
pub(super) const METHODS: &str = "GET, HEAD, OPTIONS";

const TEXT: &str = "text/plain; charset=utf-8";

/// What every answer lets a browser do: load this server's own files and open a WebSocket, nothing else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The report is one file, so that it can be passed on: its style and script stand in it.
const REPORT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

/// The part of an answer that is the same for every client.
pub(super) struct Answer<'a> {
    status: StatusCode,
    fields: Vec<(&'static str, &'a str)>,
    /// `None` for a 204, which has none, and a 304, which describes the copy that the peer has.
    body: Option<Cow<'a, [u8]>>,
}

/// The part that depends on the request and the time.
pub(super) struct Envelope<'a> {
    pub(super) model: &'a str,
    pub(super) now: SystemTime,
    pub(super) keep_alive: bool,
    /// False when the request was a HEAD: the fields are those of a GET, the body stays here.
    pub(super) with_body: bool,
}

impl<'a> Answer<'a> {
    /// A line for people, true only now.
    pub(super) fn text(status: StatusCode, body: impl Into<Cow<'a, str>>) -> Self {
        let body = match body.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Self::new(status, TEXT, body).field("Cache-Control", "no-store")
    }

    pub(super) fn metrics(format: MetricsFormat, text: String) -> Self {
        Self::new(
            StatusCode::OK,
            format.content_type(),
            Cow::Owned(text.into_bytes()),
        )
        .field("Cache-Control", "no-store")
        .field("Vary", "Accept")
    }

    /// For a program, true only now.
    pub(super) fn trace(json: String) -> Self {
        Self::new(
            StatusCode::OK,
            "application/json",
            Cow::Owned(json.into_bytes()),
        )
        .field("Cache-Control", "no-store")
    }

    pub(super) fn report(html: &'a [u8]) -> Self {
        let mut answer = Self::new(
            StatusCode::OK,
            "text/html; charset=utf-8",
            Cow::Borrowed(html),
        );
        for (name, value) in &mut answer.fields {
            if *name == "Content-Security-Policy" {
                *value = REPORT_SECURITY_POLICY;
            }
        }
        answer.field("Cache-Control", "no-cache")
    }

    /// A file, which the peer may keep but asks about each time.
    pub(super) fn file(content_type: &'a str, etag: &'a str, body: &'a [u8]) -> Self {
        Self::new(StatusCode::OK, content_type, Cow::Borrowed(body)).validated(etag)
    }

    pub(super) fn not_modified(etag: &'a str) -> Self {
        Self {
            status: StatusCode::NOT_MODIFIED,
            fields: Vec::new(),
            body: None,
        }
        .validated(etag)
    }

    /// Word of the methods that there are (RFC 9110 §9.3.7).
    pub(super) fn options() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            fields: vec![("Allow", METHODS)],
            body: None,
        }
    }

    pub(super) fn field(mut self, name: &'static str, value: &'a str) -> Self {
        self.fields.push((name, value));
        self
    }

    /// Every 503 passes, so it says when asking again is worth it: in seconds, spread by the clients.
    pub(super) fn retry_later(self) -> Self {
        self.field("Retry-After", "5")
    }

    pub(super) fn write(&self, envelope: &Envelope, out: &mut Vec<u8>) {
        let body = self.body.as_deref().unwrap_or_default();
        out.reserve(1024 + body.len());
        // The status writes its number and its phrase.
        write!(out, "HTTP/1.1 {}\r\n", self.status).expect("writing to memory does not fail");
        // A clock before 1970 is the machine's fault; it makes a wrong date, not a panic.
        write_field(
            out,
            "Date",
            &httpdate::fmt_http_date(envelope.now.max(SystemTime::UNIX_EPOCH)),
        );
        write_field(out, "Server", &server(envelope.model));
        write_field(out, "Connection", self.connection(envelope.keep_alive));
        for (name, value) in &self.fields {
            write_field(out, name, value);
        }
        if self.body.is_some() {
            write_field(out, "Content-Length", &body.len().to_string());
        }
        out.extend_from_slice(b"\r\n");
        if envelope.with_body {
            out.extend_from_slice(body);
        }
    }

    fn new(status: StatusCode, content_type: &'a str, body: Cow<'a, [u8]>) -> Self {
        let fields = vec![
            ("Content-Type", content_type),
            ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
        ];
        Self {
            status,
            fields,
            body: Some(body),
        }
    }

    fn validated(self, etag: &'a str) -> Self {
        self.field("ETag", etag).field("Cache-Control", "no-cache")
    }

    /// RFC 9110 §7.8: who sends `Upgrade` names it in `Connection` too.
    fn connection(&self, keep_alive: bool) -> &'static str {
        let offers_upgrade = self.fields.iter().any(|(name, _)| *name == "Upgrade");
        match (offers_upgrade, keep_alive) {
            (false, true) => "keep-alive",
            (false, false) => "close",
            (true, true) => "upgrade, keep-alive",
            (true, false) => "upgrade, close",
        }
    }
}

pub(super) fn server(model: &str) -> String {
    format!("ws-realtime-lab ({model})")
}

pub(super) fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}
