//! The publishing side: what this node's clients say, on its way into the stream, and each one's answer.
//!
//! All that was said in a turn goes out together and costs one round trip. A message that was sent and not answered is sent
//! again over the next connection where it has a `cid`, which the script knows it by; one without is sent at most once.
//! Every message gets an answer within [`PATIENCE`]. Where it was sent and Redis went silent nobody can know whether it is
//! in the stream, and the answer says so.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tracing::{debug, warn};

use super::greeting::Greeting;
use super::message::{Answer, Message, Outcome, Presence, Sender, Stored, Unavailable, Vitals};
use super::resp::{self, Replies, Reply};
use super::{LINK_TIMEOUT, Settings, Trouble, script};

/// How long a message may wait for its answer. Longer than [`LINK_TIMEOUT`], so that a lost link is replaced meanwhile.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);
/// What may wait for Redis in this node; what comes on top is answered `unavailable`.
pub(crate) const PENDING_BYTES_MAX: usize = 8 << 20;
/// How often a node gives a sign of life.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
/// How long a sign of life counts, and a lease holds.
const HEARTBEAT_VALID: Duration = Duration::from_secs(2);
/// How long a publish waits for replicas.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(1);
#[derive(Debug)]
struct Pending {
    sender: Sender,
    /// Its place in the order of what this node has said.
    number: u64,
    name: Box<str>,
    text: Box<str>,
    cid: Option<Box<str>>,
    ts: String,
    since: Instant,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Never sent, or refused for sure.
    Unsent,
    /// It may be in the stream.
    Sent,
    /// Its sender was told that nobody knows.
    GivenUp,
}

impl Pending {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.name.len() + self.text.len()
    }
}

/// What Redis will answer next.
#[derive(Debug)]
enum Awaited {
    Message(Pending),
    /// How many replicas have all that was sent before it.
    Replicas,
    Heartbeat,
}

#[derive(Debug)]
enum Link {
    /// Not connected.
    Away,
    Up {
        /// The digest of the script.
        publish: String,
        /// Whether messages go out. After one has to be sent again none does until all are answered, so that they stay in
        /// their order.
        flow: Flow,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    /// When all are answered, the next ones go out with the whole script.
    Unscripted,
    /// The log has another epoch, of which the reader will tell.
    Fenced {
        /// Try again then, whatever has become known.
        until: Instant,
    },
}

/// How long a node that was told of another epoch waits for its reader before it tries again.
const FENCED: Duration = Duration::from_millis(250);

/// Publishes through one connection after the other.
#[derive(Debug)]
pub struct Publisher {
    settings: Settings,
    link: Link,
    /// To be sent, in order.
    queue: VecDeque<Pending>,
    pending_bytes: usize,
    awaited: VecDeque<Awaited>,
    /// Stored, and waiting for replicas.
    stored: Vec<(Pending, u64)>,
    /// Messages among `awaited`.
    in_flight: usize,
    output: BytesMut,
    replies: Replies,
    /// When Redis last answered, or was first asked something.
    heard_at: Instant,
    next_heartbeat: Instant,
    heartbeat_due: bool,
    presence: Option<Presence>,
    last_refusal: String,
    answers: Vec<Answer>,
    /// Messages taken, and times that one was sent.
    messages: u64,
    sends: u64,
    /// When the messages were sent that are now being answered.
    sent_at: VecDeque<(usize, Instant)>,
    round_trips: Vec<Duration>,
}

impl Publisher {
    /// Nothing said, nothing connected.
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            link: Link::Away,
            queue: VecDeque::new(),
            pending_bytes: 0,
            awaited: VecDeque::new(),
            stored: Vec::new(),
            in_flight: 0,
            output: BytesMut::new(),
            replies: Replies::default(),
            heard_at: now,
            next_heartbeat: now,
            heartbeat_due: false,
            presence: None,
            last_refusal: String::new(),
            answers: Vec::new(),
            messages: 0,
            sends: 0,
            sent_at: VecDeque::new(),
            round_trips: Vec::new(),
        }
    }

    /// Takes a message, to be sent with the next [`Publisher::flush`].
    ///
    /// # Errors
    /// Redis is away, or too much is waiting for it; the message is in no stream.
    pub fn publish(
        &mut self,
        now: Instant,
        sender: Sender,
        message: &Message<'_>,
    ) -> Result<(), Unavailable> {
        if matches!(self.link, Link::Away) || self.pending_bytes > PENDING_BYTES_MAX {
            return Err(Unavailable::TRY_AGAIN);
        }
        self.messages += 1;
        let pending = Pending {
            sender,
            number: self.messages,
            name: message.name.into(),
            text: message.text.into(),
            cid: message.cid.map(Into::into),
            ts: message.ts.to_string(),
            since: now,
            fate: Fate::Unsent,
        };
        self.pending_bytes += pending.bytes();
        self.queue.push_back(pending);
        Ok(())
    }

    /// Whether [`Publisher::flush`] has something to send.
    pub fn has_work(&self) -> bool {
        self.heartbeat_due || !self.output.is_empty() || (self.may_send() && !self.queue.is_empty())
    }

    fn may_send(&self) -> bool {
        match self.link {
            Link::Away => false,
            Link::Up { flow, .. } => match flow {
                Flow::Open => true,
                Flow::Unscripted => self.in_flight == 0,
                Flow::Fenced { .. } => false,
            },
        }
    }

    /// Encodes all that is to be sent now and takes it. `epoch` and `last_id` are what this node has read.
    pub fn flush(&mut self, now: Instant, epoch: &str, last_id: u64, vitals: Vitals) -> BytesMut {
        if self.awaited.is_empty() {
            self.heard_at = now;
        }
        if std::mem::take(&mut self.heartbeat_due) {
            self.send_heartbeat(vitals);
        }
        if self.may_send() && !self.queue.is_empty() {
            self.send_messages(now, epoch, last_id);
        }
        self.output.split()
    }

    fn send_messages(&mut self, now: Instant, epoch: &str, last_id: u64) {
        let Link::Up { publish, flow, .. } = &mut self.link else {
            return;
        };
        let (call, script): (&[u8], &[u8]) = match flow {
            Flow::Unscripted => (b"EVAL", script::PUBLISH.as_bytes()),
            Flow::Open | Flow::Fenced { .. } => (b"EVALSHA", publish.as_bytes()),
        };
        *flow = Flow::Open;
        let keys = ["log", "known", "epoch"].map(|name| self.settings.key(name));
        let kept = self.settings.stream_entries().to_string();
        let last_id = last_id.to_string();
        let count = self.queue.len();
        for mut message in self.queue.drain(..) {
            // Another each time, so that an entry in a rewound log is never taken for the one that was lost.
            self.sends += 1;
            let by = format!("{}-{:x}", self.settings.node, self.sends);
            let parts: [&[u8]; 14] = [
                call,
                script,
                b"3",
                keys[0].as_bytes(),
                keys[1].as_bytes(),
                keys[2].as_bytes(),
                epoch.as_bytes(),
                last_id.as_bytes(),
                kept.as_bytes(),
                by.as_bytes(),
                message.ts.as_bytes(),
                message.name.as_bytes(),
                message.text.as_bytes(),
                message.cid.as_deref().unwrap_or_default().as_bytes(),
            ];
            let parts = &parts[..13 + usize::from(message.cid.is_some())];
            resp::command(&mut self.output, parts);
            message.fate = Fate::Sent;
            self.awaited.push_back(Awaited::Message(message));
        }
        self.in_flight += count;
        self.sent_at.push_back((count, now));
        if self.settings.replicas > 0 {
            let replicas = self.settings.replicas.to_string();
            let timeout = REPLICA_TIMEOUT.as_millis().to_string();
            let parts: [&[u8]; 3] = [b"WAIT", replicas.as_bytes(), timeout.as_bytes()];
            resp::command(&mut self.output, &parts);
            self.awaited.push_back(Awaited::Replicas);
        }
    }

    fn send_heartbeat(&mut self, vitals: Vitals) {
        let keys = ["nodes", "lease", "metrics"].map(|name| self.settings.key(name));
        let clients = vitals.clients.to_string();
        let valid = HEARTBEAT_VALID.as_millis().to_string();
        let [temperature, stock] = vitals.simulated.map(|value| value.to_string());
        let parts: [&[u8]; 11] = [
            b"EVAL",
            script::HEARTBEAT.as_bytes(),
            b"3",
            keys[0].as_bytes(),
            keys[1].as_bytes(),
            keys[2].as_bytes(),
            self.settings.node.as_bytes(),
            clients.as_bytes(),
            valid.as_bytes(),
            temperature.as_bytes(),
            stock.as_bytes(),
        ];
        resp::command(&mut self.output, &parts);
        self.awaited.push_back(Awaited::Heartbeat);
    }

    /// There is a new connection, on which this greeting was exchanged.
    pub fn connected(&mut self, now: Instant, greeting: &Greeting) {
        self.disconnected();
        self.link = Link::Up {
            publish: greeting.publish.clone(),
            flow: Flow::Open,
        };
        self.heard_at = now;
        self.next_heartbeat = now + HEARTBEAT_INTERVAL;
        self.heartbeat_due = true;
    }

    /// The connection is gone. What was not answered is sent again over the next one, if that cannot double it.
    pub fn disconnected(&mut self) {
        self.link = Link::Away;
        self.replies = Replies::default();
        self.output.clear();
        self.heartbeat_due = false;
        self.in_flight = 0;
        self.sent_at.clear();
        self.presence = None;
        for (message, id) in std::mem::take(&mut self.stored) {
            let stored = Stored::Stream;
            self.answer(message, Outcome::Stored { id, stored });
        }
        let mut again = Vec::new();
        for awaited in std::mem::take(&mut self.awaited) {
            if let Awaited::Message(message) = awaited {
                again.push(message);
            }
        }
        for message in again.into_iter().rev() {
            if message.fate == Fate::GivenUp {
                self.forget(&message);
            } else if message.cid.is_none() {
                self.answer(message, Outcome::Unknown);
            } else {
                self.queue.push_front(message);
            }
        }
    }

    /// The reader has found out which epoch the log has.
    pub fn unfence(&mut self) {
        if let Link::Up { flow, .. } = &mut self.link
            && let Flow::Fenced { .. } = flow
        {
            *flow = Flow::Unscripted;
        }
    }

    /// When [`Publisher::time_out`] has something to do.
    pub fn deadline(&self) -> Instant {
        let mut deadline = self.next_heartbeat;
        if !self.awaited.is_empty() {
            deadline = deadline.min(self.heard_at + LINK_TIMEOUT);
        }
        if let Link::Up {
            flow: Flow::Fenced { until },
            ..
        } = self.link
        {
            deadline = deadline.min(until);
        }
        deadline
    }

    /// A deadline has come: a sign of life is due, or a client has waited long enough.
    ///
    /// # Errors
    /// Redis has not answered in time: the connection is to be given up.
    pub fn time_out(&mut self, now: Instant) -> Result<(), Trouble> {
        self.give_up_late(now);
        if now >= self.next_heartbeat {
            self.next_heartbeat = now + HEARTBEAT_INTERVAL;
            let asked = |awaited: &Awaited| matches!(awaited, Awaited::Heartbeat);
            self.heartbeat_due =
                matches!(self.link, Link::Up { .. }) && !self.awaited.iter().any(asked);
        }
        if let Link::Up { flow, .. } = &mut self.link
            && let Flow::Fenced { until } = flow
            && now >= *until
        {
            *flow = Flow::Unscripted;
        }
        if !self.awaited.is_empty() && now >= self.heard_at + LINK_TIMEOUT {
            return Err(Trouble::Silent);
        }
        Ok(())
    }

    /// Answers what has waited too long.
    fn give_up_late(&mut self, now: Instant) {
        let is_late = |message: &Pending| now >= message.since + PATIENCE;
        while self.queue.front().is_some_and(is_late) {
            let message = self.queue.pop_front().expect("there is a front");
            let outcome = match message.fate {
                Fate::Unsent => Outcome::Refused,
                Fate::Sent | Fate::GivenUp => Outcome::Unknown,
            };
            self.answer(message, outcome);
        }
        for awaited in &mut self.awaited {
            if let Awaited::Message(message) = awaited
                && is_late(message)
                && message.fate != Fate::GivenUp
            {
                message.fate = Fate::GivenUp;
                self.answers.push(Answer {
                    sender: message.sender,
                    cid: message.cid.clone(),
                    outcome: Outcome::Unknown,
                });
            }
        }
    }

    /// Bytes have come.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) -> Result<(), Trouble> {
        self.heard_at = now;
        self.replies.push(bytes);
        while let Some(reply) = self.replies.next_reply()? {
            let awaited = self.awaited.pop_front();
            match awaited.ok_or(Trouble::Unexpected("nothing"))? {
                Awaited::Message(message) => self.take_publish(now, message, &reply)?,
                Awaited::Replicas => self.take_replicas(&reply)?,
                Awaited::Heartbeat => self.take_heartbeat(&reply)?,
            }
        }
        Ok(())
    }

    fn take_publish(
        &mut self,
        now: Instant,
        mut message: Pending,
        reply: &Reply,
    ) -> Result<(), Trouble> {
        self.in_flight -= 1;
        self.note_round_trip(now);
        match reply {
            Reply::Error(error) if message.fate != Fate::GivenUp => {
                message.fate = Fate::Unsent;
                let code = error.split(' ').next().unwrap_or_default();
                match code {
                    "NOSCRIPT" => self.send_again(message, Flow::Unscripted),
                    "EPOCH" => {
                        let until = now + FENCED;
                        self.send_again(message, Flow::Fenced { until });
                    }
                    // Not its master any more: another connection may lead to the one that is.
                    "READONLY" | "MASTERDOWN" | "LOADING" => {
                        self.queue_again(message);
                        return Err(Trouble::Refused(error.to_string()));
                    }
                    _ => {
                        self.tell_refusal(error);
                        self.answer(message, Outcome::Refused);
                    }
                }
            }
            Reply::Error(_) => self.forget(&message),
            reply => {
                let id = resp::number(reply).ok_or(Trouble::Unexpected("a publish"))?;
                if self.settings.replicas > 0 {
                    self.stored.push((message, id));
                } else {
                    let stored = Stored::Stream;
                    self.answer(message, Outcome::Stored { id, stored });
                }
            }
        }
        Ok(())
    }

    /// Tells why Redis stores nothing, once for each reason.
    fn tell_refusal(&mut self, error: &str) {
        if self.last_refusal != error {
            warn!("[REDIS] A message is refused: {error}");
            error.clone_into(&mut self.last_refusal);
        }
    }

    fn note_round_trip(&mut self, now: Instant) {
        if let Some((left, sent_at)) = self.sent_at.front_mut() {
            *left -= 1;
            if *left == 0 {
                self.round_trips.push(now - *sent_at);
                self.sent_at.pop_front();
            }
        }
    }

    fn send_again(&mut self, message: Pending, then: Flow) {
        if let Link::Up { flow, .. } = &mut self.link {
            *flow = then;
        }
        self.queue_again(message);
    }

    /// Puts a message back where it stood among the others.
    fn queue_again(&mut self, message: Pending) {
        let place = self
            .queue
            .partition_point(|other| other.number < message.number);
        self.queue.insert(place, message);
    }

    fn take_replicas(&mut self, reply: &Reply) -> Result<(), Trouble> {
        // Where WAIT itself is refused, the messages are in the stream all the same.
        let replicas = match reply {
            Reply::Error(_) => 0,
            reply => resp::number(reply).ok_or(Trouble::Unexpected("WAIT"))?,
        };
        let stored = if replicas >= u64::from(self.settings.replicas) {
            Stored::Replicas
        } else {
            Stored::Stream
        };
        for (message, id) in std::mem::take(&mut self.stored) {
            self.answer(message, Outcome::Stored { id, stored });
        }
        Ok(())
    }

    fn take_heartbeat(&mut self, reply: &Reply) -> Result<(), Trouble> {
        if let Reply::Error(error) = reply {
            debug!("[REDIS] A heartbeat is refused: {error}");
            return Ok(());
        }
        self.presence = Some(Presence::read(reply).ok_or(Trouble::Unexpected("a heartbeat"))?);
        Ok(())
    }

    fn answer(&mut self, message: Pending, outcome: Outcome) {
        self.forget(&message);
        if message.fate != Fate::GivenUp {
            self.answers.push(Answer {
                sender: message.sender,
                cid: message.cid,
                outcome,
            });
        }
    }

    fn forget(&mut self, message: &Pending) {
        self.pending_bytes -= message.bytes();
    }

    /// Takes the answers that there are.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }

    /// Takes what the nodes know of each other, if there is news.
    pub fn take_presence(&mut self) -> Option<Presence> {
        self.presence.take()
    }

    /// Takes how long publishing took, for each round trip.
    pub fn take_round_trips(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.round_trips)
    }

    /// Whether some answer is awaited.
    pub fn is_awaiting(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Messages that have no answer yet.
    pub fn pending(&self) -> usize {
        self.queue.len() + self.in_flight + self.stored.len()
    }
}
