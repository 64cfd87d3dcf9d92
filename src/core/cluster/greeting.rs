//! The first words on a connection to Redis: who we are, and whether it is one to rely on.

use bytes::BytesMut;

use super::resp::{self, Replies, Reply};
use super::{Settings, Trouble, script};

/// The oldest version that has what is needed: streams, and scripts that may ask for the time before they write.
const OLDEST_MAJOR_VERSION: u32 = 5;

/// How to log in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The user of an access control list (Redis 6).
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The number of the database.
    pub database: u32,
}

/// What Redis told of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// Names one life of one Redis process: another after a restart, or on another server.
    pub run_id: String,
    /// The log's epoch.
    pub epoch: String,
    /// The stream's last id; 0 where it is empty.
    pub tip: u64,
    /// The digest under which it knows [`script::PUBLISH`].
    pub publish: String,
}

/// Why this Redis cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It wants a password, or another one.
    #[error("it refuses the password: {0}")]
    Password(String),
    /// It has no streams.
    #[error("its version is {0}; {OLDEST_MAJOR_VERSION}.0 is the oldest that has streams")]
    Version(String),
    /// Its memory limit would drop the whole stream.
    #[error(
        "its maxmemory-policy is {0}, which may evict the whole room; set it to noeviction, or to one of volatile-*"
    )]
    Evicts(String),
    /// Anything else that it does not do.
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// The questions of a greeting, in the order in which they are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Login,
    Database,
    Server,
    Policy,
    Publish,
    NewEpoch,
    Epoch,
    Tip,
}

/// A greeting under way.
#[derive(Debug)]
pub(crate) struct Greeter {
    questions: Vec<Question>,
    replies: Replies,
    answers: Vec<(Question, Reply)>,
}

impl Greeter {
    /// Begins; also gives the bytes to be sent. `fresh_epoch` becomes the log's epoch where it has none.
    pub(crate) fn new(login: &Login, settings: &Settings, fresh_epoch: &str) -> (Self, BytesMut) {
        let mut output = BytesMut::new();
        let mut questions = Vec::new();
        let mut ask = |question, parts: &[&[u8]]| {
            resp::command(&mut output, parts);
            questions.push(question);
        };
        let (epoch, stream) = (settings.key("epoch"), settings.key("log"));
        match (&login.user, &login.password) {
            (Some(user), Some(password)) => ask(
                Question::Login,
                &[b"AUTH", user.as_bytes(), password.as_bytes()],
            ),
            (None, Some(password)) => ask(Question::Login, &[b"AUTH", password.as_bytes()]),
            (_, None) => {}
        }
        let database = login.database.to_string();
        ask(Question::Database, &[b"SELECT", database.as_bytes()]);
        ask(Question::Server, &[b"INFO", b"server"]);
        ask(Question::Policy, &[b"CONFIG", b"GET", b"maxmemory-policy"]);
        ask(
            Question::Publish,
            &[b"SCRIPT", b"LOAD", script::PUBLISH.as_bytes()],
        );
        ask(
            Question::NewEpoch,
            &[b"SET", epoch.as_bytes(), fresh_epoch.as_bytes(), b"NX"],
        );
        ask(Question::Epoch, &[b"GET", epoch.as_bytes()]);
        ask(
            Question::Tip,
            &[b"XREVRANGE", stream.as_bytes(), b"+", b"-", b"COUNT", b"1"],
        );
        let greeter = Self {
            questions,
            replies: Replies::default(),
            answers: Vec::new(),
        };
        (greeter, output)
    }

    /// Bytes have come; gives the greeting once it is whole.
    ///
    /// # Errors
    /// This Redis cannot be used.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<Option<Greeting>, Unfit> {
        self.replies.push(bytes);
        while let Some(reply) = self.replies.next_reply()? {
            let Some(question) = self.questions.get(self.answers.len()) else {
                return Err(Trouble::Unexpected("nothing").into());
            };
            check(*question, &reply)?;
            self.answers.push((*question, reply));
        }
        if self.answers.len() < self.questions.len() {
            return Ok(None);
        }
        let text = |question| resp::text(self.answer(question)).map(str::to_owned);
        let read = || {
            Some(Greeting {
                run_id: field(resp::text(self.answer(Question::Server))?, "run_id:")?.to_owned(),
                epoch: text(Question::Epoch)?,
                tip: tip(self.answer(Question::Tip))?,
                publish: text(Question::Publish)?,
            })
        };
        Ok(Some(read().ok_or(Trouble::Unexpected("the greeting"))?))
    }

    fn answer(&self, question: Question) -> &Reply {
        let found = self.answers.iter().find(|(asked, _)| *asked == question);
        &found.expect("each question was asked and answered").1
    }
}

/// Refuses what makes a Redis unfit.
fn check(question: Question, reply: &Reply) -> Result<(), Unfit> {
    match (question, reply) {
        // Where it may not be asked, as with managed services, its owner answers for it.
        (Question::Policy, Reply::Error(_)) => Ok(()),
        (_, Reply::Error(error))
            if question == Question::Login
                || error.starts_with("NOAUTH")
                || error.starts_with("WRONGPASS") =>
        {
            Err(Unfit::Password(error.to_string()))
        }
        (_, Reply::Error(error)) => Err(Trouble::Refused(error.to_string()).into()),
        (Question::Server, reply) => {
            let version = resp::text(reply).and_then(|info| field(info, "redis_version:"));
            let version = version.unwrap_or("unknown");
            let major = version
                .split('.')
                .next()
                .and_then(|major| major.parse().ok());
            if major.is_none_or(|major: u32| major < OLDEST_MAJOR_VERSION) {
                return Err(Unfit::Version(version.to_owned()));
            }
            Ok(())
        }
        (Question::Policy, reply) => {
            let policy = resp::array(reply).and_then(|pair| resp::text(pair.get(1)?));
            match policy {
                Some(policy) if policy.starts_with("allkeys-") => {
                    Err(Unfit::Evicts(policy.to_owned()))
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name))
}

/// The last id in the answer to `XREVRANGE … COUNT 1`; 0 where there is none.
fn tip(reply: &Reply) -> Option<u64> {
    let Some(entry) = resp::array(reply)?.first() else {
        return Some(0);
    };
    resp::entry_id(resp::array(entry)?.first()?)
}
