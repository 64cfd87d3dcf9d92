//! What a WebSocket is opened for, by the path and the query of its request.

use std::num::NonZeroU8;

use http::Method;

use super::endpoint::Endpoint;
use super::extensions::{Agreement, Malformed};
use super::refusal::Refusal;
use super::request::Request;
use crate::core::protocol::{Opening, Replay};

const BAD_HISTORY: &str =
    "history is how many past messages to send: a whole number, as in ?history=50.";
const BAD_SINCE: &str = "since is the last message you have: the epoch of a welcome and a message's id, as in ?since=EPOCH:17.";

const BAD_EXTENSIONS: &str = "Sec-WebSocket-Extensions is malformed: send a list of extensions, each a name and its parameters, as in \
     permessage-deflate; client_max_window_bits.";

/// What a WebSocket is opened for, and how its messages are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// What it is for.
    pub opening: Opening,
    /// Set where compression was agreed on: the window that the client keeps, as a power of two.
    pub deflate: Option<NonZeroU8>,
}

impl From<Opening> for Upgrade {
    /// Without compression.
    fn from(opening: Opening) -> Self {
        Self {
            opening,
            deflate: None,
        }
    }
}

impl Endpoint {
    /// The handshake's key, what the client asked for, and the compression that it can have, if it asked properly.
    pub(super) fn open(
        self,
        request: &Request,
    ) -> Result<(&str, Opening, Option<Agreement>), Refusal> {
        if request.method != Method::GET {
            return Err(Refusal::UpgradeRequired);
        }
        let key = request.upgrade.as_deref().map_err(|refusal| *refusal)?;
        let opening = match self {
            Self::Chat => Opening::Chat(replay(request.query.as_deref().unwrap_or_default())?),
            Self::Dashboard => Opening::Dashboard,
            Self::Echo => Opening::Echo,
            Self::Inside => Opening::Inside { experiments: true },
        };
        let offered = request
            .extensions
            .map_err(|Malformed| Refusal::BadRequest(BAD_EXTENSIONS))?;
        Ok((key, opening, offered.at(self)))
    }
}

/// `since` says more than `history`, so it wins; of the same twice, the last.
fn replay(query: &str) -> Result<Replay, Refusal> {
    let (mut history, mut since) = (None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "history" => {
                history = Some(whole_number(&value).ok_or(Refusal::BadRequest(BAD_HISTORY))?);
            }
            "since" => since = Some(epoch_and_id(&value).ok_or(Refusal::BadRequest(BAD_SINCE))?),
            _ => {}
        }
    }
    Ok(match (since, history) {
        (Some((epoch, id)), _) => Replay::Since { epoch, id },
        (None, Some(count)) => Replay::Newest(usize::try_from(count).unwrap_or(usize::MAX)),
        (None, None) => Replay::Nothing,
    })
}

fn epoch_and_id(value: &str) -> Option<(String, u64)> {
    let (epoch, id) = value
        .rsplit_once(':')
        .filter(|(epoch, _)| !epoch.is_empty())?;
    Some((epoch.to_owned(), whole_number(id)?))
}

/// A number too large to hold is as good as the largest.
fn whole_number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since(epoch: &str, id: u64) -> Replay {
        Replay::Since {
            epoch: epoch.to_owned(),
            id,
        }
    }

    #[test]
    fn the_query_says_what_to_replay() {
        for (query, expected) in [
            ("", Replay::Nothing),
            ("name=Alice", Replay::Nothing),
            ("history=0", Replay::Newest(0)),
            ("history=50", Replay::Newest(50)),
            (
                "history=99999999999999999999999",
                Replay::Newest(usize::MAX),
            ),
            ("history=5&history=6", Replay::Newest(6)),
            ("since=abc:17", since("abc", 17)),
            ("since=abc%3A17", since("abc", 17)),
            ("since=a:b:0", since("a:b", 0)),
            ("since=abc:99999999999999999999999", since("abc", u64::MAX)),
            ("history=50&since=abc:1", since("abc", 1)),
            ("since=abc:1&history=50", since("abc", 1)),
        ] {
            assert_eq!(replay(query), Ok(expected), "{query}");
        }
    }

    #[test]
    fn a_query_that_makes_no_sense_is_refused_with_what_would() {
        for query in [
            "history",
            "history=",
            "history=-1",
            "history=+1",
            "history=1.5",
            "history=all",
            "since=a:1&history=x",
        ] {
            assert_eq!(
                replay(query),
                Err(Refusal::BadRequest(BAD_HISTORY)),
                "{query}"
            );
        }
        for query in [
            "since=",
            "since=17",
            "since=:17",
            "since=abc:",
            "since=abc:-1",
            "since=abc:x",
        ] {
            assert_eq!(
                replay(query),
                Err(Refusal::BadRequest(BAD_SINCE)),
                "{query}"
            );
        }
    }
}
