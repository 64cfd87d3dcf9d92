//! From the bytes of a connection to the heads of its requests, whole ones only and none too large.

use std::ops::Range;

use super::bounds::{MAX_HEAD_BYTES, MAX_HEADERS};
use super::proxied::{self, Proxied, Start};
use super::refusal::Refusal;
use super::request::{BAD_REQUEST_LINE, Request};

const BAD_HEADER: &str = "A header is malformed: send each on a line of its own, a name, a colon right behind it, and a value.";
const BAD_VERSION: &str = "This version of HTTP is not spoken here: send HTTP/1.1.";
const NOT_HTTP: &str =
    "These are not the bytes of an HTTP request: speak http:// and ws://, without TLS.";

/// The request heads of one connection, as they come in.
///
/// It holds no memory while it holds no bytes, so an idle connection costs nothing; after a step that is
/// [`Step::Incomplete`] it holds less than [`MAX_HEAD_BYTES`].
#[derive(Debug, Default)]
pub struct Head {
    buffer: Vec<u8>,
    /// Where in `buffer` the head under way begins; before it are the requests already taken.
    start: usize,
    /// Up to where that head was looked through: a head can only end, or go wrong, at the end of a line.
    searched: usize,
    /// What came first was looked at: a PROXY header, or none.
    begun: bool,
}

/// What the bytes so far amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// No whole head: read more.
    Incomplete,
    /// A PROXY header, before all requests. Whether its sender is believed is the caller's to know.
    Proxied(Proxied),
    /// A request; there may be another right behind it.
    Request(Request),
    /// No proper request, and none will follow: refuse, then close.
    Reject(Refusal),
}

impl Head {
    /// Takes in what was read from the peer. Take steps afterwards until one is [`Step::Incomplete`].
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next request out of the bytes so far. After [`Step::Reject`] all bytes are gone.
    pub fn next_step(&mut self) -> Step {
        if !self.begun {
            match proxied::read(&self.buffer) {
                Ok(Start::Incomplete) => return Step::Incomplete,
                Ok(Start::Http) => self.begun = true,
                Ok(Start::Proxied(proxied, length)) => {
                    self.begun = true;
                    self.start = length;
                    return Step::Proxied(proxied);
                }
                Err(refusal) => return self.reject(refusal),
            }
        }
        self.skip_empty_lines();
        let step = match self.complete_lines() {
            Ok(Some(lines)) => self.parse(lines),
            Ok(None) => Ok(None),
            Err(refusal) => Err(refusal),
        };
        match step {
            Ok(Some(request)) => Step::Request(request),
            Ok(None) if self.unparsed() >= MAX_HEAD_BYTES => self.reject(Refusal::HeadTooLarge),
            Ok(None) => {
                self.compact();
                Step::Incomplete
            }
            Err(refusal) => self.reject(refusal),
        }
    }

    /// The bytes behind the requests taken so far: after an upgrade, the first frames. Releases the memory.
    pub fn take_rest(&mut self) -> Vec<u8> {
        let mut taken = std::mem::take(self);
        taken.buffer.drain(..taken.start);
        taken.buffer
    }

    /// Whether nothing of a next request is here. A connection that waits for its deadline like this is an idle one
    /// to be closed in silence; if not, its head never came whole ([`Refusal::HeadTimeout`]).
    pub fn is_empty(&self) -> bool {
        self.unparsed() == 0
    }

    fn unparsed(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// RFC 9112 §2.2: empty lines before a request line are passed over.
    fn skip_empty_lines(&mut self) {
        loop {
            match &self.buffer[self.start..] {
                [b'\n', ..] => self.start += 1,
                [b'\r', b'\n', ..] => self.start += 2,
                _ => break,
            }
        }
        self.searched = self.searched.max(self.start);
    }

    /// The lines of the head under way, if there are new ones since the last look. Only whole lines are parsed, so
    /// that neither is a head in one-byte pieces parsed once a byte, nor do the pieces change what comes of it.
    fn complete_lines(&mut self) -> Result<Option<Range<usize>>, Refusal> {
        // A TLS client would wait for an answer to its first bytes, which need not hold a newline, until the timeout.
        if self
            .buffer
            .get(self.start)
            .is_some_and(|byte| !byte.is_ascii_graphic() && *byte != b'\r')
        {
            return Err(Refusal::BadRequest(NOT_HTTP));
        }
        let end = self.buffer.len().min(self.start + MAX_HEAD_BYTES);
        let newline = self.buffer[self.searched..end]
            .iter()
            .rposition(|byte| *byte == b'\n');
        let lines = newline.map(|at| self.start..self.searched + at + 1);
        self.searched = end;
        Ok(lines)
    }

    fn parse(&mut self, lines: Range<usize>) -> Result<Option<Request>, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(&self.buffer[lines]).map_err(refusal)? {
            httparse::Status::Partial => Ok(None),
            httparse::Status::Complete(length) => {
                let request = Request::from_parsed(&parsed)?;
                self.start += length;
                self.searched = self.start;
                Ok(Some(request))
            }
        }
    }

    fn reject(&mut self, refusal: Refusal) -> Step {
        *self = Self::default();
        Step::Reject(refusal)
    }

    fn compact(&mut self) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.shrink_to(if self.buffer.is_empty() {
            0
        } else {
            MAX_HEAD_BYTES
        });
    }
}

fn refusal(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadTooLarge,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => {
            Refusal::BadRequest(BAD_HEADER)
        }
        httparse::Error::Version => Refusal::BadRequest(BAD_VERSION),
        httparse::Error::NewLine | httparse::Error::Token | httparse::Error::Status => {
            Refusal::BadRequest(BAD_REQUEST_LINE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::http::Method;
    use proptest::prelude::*;

    fn steps(pieces: &[&[u8]]) -> (Vec<Step>, Head) {
        let (mut head, mut steps) = (Head::default(), Vec::new());
        for piece in pieces {
            head.push(piece);
            loop {
                match head.next_step() {
                    Step::Incomplete => break,
                    Step::Reject(refusal) => {
                        assert!(head.is_empty() && head.buffer.capacity() == 0);
                        steps.push(Step::Reject(refusal));
                        return (steps, head);
                    }
                    step @ (Step::Proxied(_) | Step::Request(_)) => steps.push(step),
                }
            }
            assert!(head.buffer.len() < MAX_HEAD_BYTES && head.buffer.capacity() <= MAX_HEAD_BYTES);
            assert_eq!(head.is_empty(), head.buffer.capacity() == 0);
            assert!(
                head.searched == head.buffer.len() || !head.begun,
                "no byte is looked through twice"
            );
        }
        (steps, head)
    }

    #[track_caller]
    fn request(bytes: &str) -> Request {
        match steps(&[bytes.as_bytes()]).0.as_slice() {
            [Step::Request(request)] => request.clone(),
            other => panic!("not one request: {other:?}"),
        }
    }

    #[track_caller]
    fn rejected(bytes: &[u8], with: Refusal) {
        let one_byte_pieces: Vec<&[u8]> = bytes.chunks(1).collect();
        for pieces in [&[bytes][..], &one_byte_pieces] {
            assert_eq!(
                steps(pieces).0,
                [Step::Reject(with)],
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    fn head_of(length: usize) -> Vec<u8> {
        let mut head = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
        head.resize(length - 4, b'x');
        head.extend_from_slice(b"\r\n\r\n");
        head
    }

    fn head_with_headers(count: usize) -> String {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(count - 1)
        )
    }

    #[test]
    fn one_byte_pieces_make_the_same_request() {
        let bytes = b"GET /chat?history=5 HTTP/1.1\r\nHost: a\r\n\r\n";
        let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(steps(&pieces).0, steps(&[bytes]).0);
        assert_eq!(steps(&pieces).0.len(), 1);
    }

    #[test]
    fn a_line_is_judged_when_it_is_whole() {
        let (steps, head) = steps(&[b"GET / HTTP/1.1\r\nHost: a\r\nX: \0"]);
        assert!(steps.is_empty() && !head.is_empty());
        rejected(
            b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\n",
            Refusal::BadRequest(BAD_HEADER),
        );
    }

    #[test]
    fn two_requests_may_come_at_once_and_a_third_in_part() {
        let (steps, head) = steps(&[
            b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nHEAD /b HTTP/1.1\r\nHost: a\r\n\r\nGET /c",
        ]);
        let paths: Vec<_> = steps
            .iter()
            .map(|step| match step {
                Step::Request(request) => (request.method.clone(), request.path.as_str()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(paths, [(Method::GET, "/a"), (Method::HEAD, "/b")]);
        assert!(!head.is_empty());
    }

    #[test]
    fn bytes_behind_an_upgrade_are_handed_out_and_the_memory_with_them() {
        let mut head = Head::default();
        head.push(b"\r\nGET /ws/echo HTTP/1.1\r\nHost: a\r\n\r\n\x81\x80\r\n\r\n");
        assert!(matches!(head.next_step(), Step::Request(_)));
        assert_eq!(head.take_rest(), b"\x81\x80\r\n\r\n");
        assert!(head.is_empty() && head.buffer.capacity() == 0);
    }

    #[test]
    fn bare_newlines_and_leading_empty_lines_are_accepted() {
        let plain = request("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        for bytes in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "\r\n\n\r\nGET / HTTP/1.1\r\nHost:a \r\n\n",
        ] {
            assert_eq!(request(bytes), plain);
        }
        let (steps, head) = steps(&[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n"]);
        assert_eq!(steps.len(), 1);
        assert!(
            head.is_empty(),
            "an empty line is no part of a request that never came whole"
        );
    }

    #[test]
    fn malformed_heads_are_refused_by_what_is_wrong() {
        for line in [
            "GET\r\n",
            "GET /\r\n",
            "GET  / HTTP/1.1\r\n",
            "G\0T / HTTP/1.1\r\n",
            "\rGET / HTTP/1.1\r\n",
        ] {
            assert!(
                matches!(
                    steps(&[line.as_bytes()]).0[..],
                    [Step::Reject(Refusal::BadRequest(_))]
                ),
                "{line:?}"
            );
        }
        for target in ["chat", "ftp://a/", "ws://a/", "a:443"] {
            let bytes = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            rejected(bytes.as_bytes(), Refusal::BadRequest(BAD_REQUEST_LINE));
        }
        for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "http/1.1", "FTP/1.1"] {
            rejected(
                format!("GET / {version}\r\n").as_bytes(),
                Refusal::BadRequest(BAD_VERSION),
            );
        }
        for header in [
            "Host : a\r\n",
            "Host: a\r\n folded\r\n",
            " Host: a\r\n",
            ": a\r\n",
            "Host\r\n",
            "X: \0\r\n",
            "X: a\rb\r\n",
        ] {
            let bytes = format!("GET / HTTP/1.1\r\n{header}");
            rejected(bytes.as_bytes(), Refusal::BadRequest(BAD_HEADER));
        }
    }

    #[test]
    fn tls_is_told_at_its_first_byte() {
        rejected(b"\x16\x03\x01\x02", Refusal::BadRequest(NOT_HTTP));
    }

    #[test]
    fn a_head_may_fill_its_limits_but_not_pass_them() {
        assert!(matches!(
            steps(&[&head_of(MAX_HEAD_BYTES)]).0[..],
            [Step::Request(_)]
        ));
        rejected(&head_of(MAX_HEAD_BYTES + 1), Refusal::HeadTooLarge);
        rejected(&[b'A'; MAX_HEAD_BYTES], Refusal::HeadTooLarge);
        assert!(matches!(
            steps(&[head_with_headers(MAX_HEADERS).as_bytes()]).0[..],
            [Step::Request(_)]
        ));
        rejected(
            head_with_headers(MAX_HEADERS + 1).as_bytes(),
            Refusal::HeadTooLarge,
        );
    }

    #[test]
    fn a_head_that_never_ends_is_kept_until_its_deadline() {
        let (steps, head) = steps(&[b"GET / HTTP/1.1\r\n", b"Host: a\r\n"]);
        assert!(steps.is_empty() && !head.is_empty());
    }

    /// What peers send, right and wrong, in fragments that may be joined to more of both.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let fragment = prop_oneof![
            10 => Just(b"GET /ws/chat?history=5 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
            10 => Just(b"HEAD / HTTP/1.0\nConnection: keep-alive\n\n".to_vec()),
            5 => Just(b"\r\n".to_vec()),
            2 => Just(b"POST / HTTP/1.1\r\n".to_vec()),
            2 => Just(b"Host: a\r\n".to_vec()),
            2 => Just(b"X: y\n".repeat(70)),
            2 => (MAX_HEAD_BYTES - 3..MAX_HEAD_BYTES + 3).prop_map(head_of),
            1 => Just(b"X: \0".to_vec()),
            1 => Just(b" folded\r\n".to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..50),
        ];
        proptest::collection::vec(fragment, 0..12).prop_map(|fragments| fragments.concat())
    }

    proptest! {
        #[test]
        fn how_a_stream_is_cut_does_not_change_its_steps(
            bytes in stream(),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..40),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let (whole, mut whole_head) = steps(&[&bytes]);
            let (cut, mut cut_head) = steps(&pieces);
            prop_assert_eq!(whole, cut);
            prop_assert_eq!(whole_head.take_rest(), cut_head.take_rest());
        }

        #[test]
        fn random_bytes_never_panic_nor_pile_up(pieces in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..3000), 0..10,
        )) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            steps(&pieces);
        }

        #[test]
        fn printable_bytes_never_panic_nor_pile_up(text in "[ -~\r\n]{0,10000}", piece in 1_usize..5000) {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(piece).collect();
            steps(&pieces);
        }
    }
}
