//! The reading side: the stream's entries in order, and whether they are still the log that was read before.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::greeting::Greeting;
use super::resp::{self, Replies, Reply};
use super::{Entry, LINK_TIMEOUT, Settings, Trouble, script};

/// Entries taken at once.
const PAGE: &[u8] = b"1024";
/// How long Redis keeps a read waiting for the next entry. An idle reader looks this often whether the log was rewound.
const BLOCK: Duration = Duration::from_secs(1);

/// What came of reading, in the order in which the room must learn it.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// The next entries, without a gap.
    Append(Vec<Entry>),
    /// What follows is not the continuation of all that was read before.
    Resync(Resync),
}

/// A new beginning.
#[derive(Debug, PartialEq, Eq)]
pub struct Resync {
    /// The log's epoch from now on.
    pub epoch: String,
    /// The last message of what was read before that still holds: those after it are void. Where it is later than the last
    /// one read, those between are lost to this node.
    pub last_id: u64,
    /// How many those are.
    pub lost: u64,
}

/// Reads the stream through one connection after the other.
#[derive(Debug)]
pub(crate) struct Reader {
    settings: Settings,
    epoch: String,
    last_id: u64,
    /// A hash of the name of each of the last entries, up to `last_id`.
    names: VecDeque<u64>,
    run_id: String,
    /// Redis is another process than the one that the last entry was read from.
    restarted: bool,
    /// Entries that Redis had and we had not, when it was last asked.
    lag: u64,
    phase: Phase,
    replies: Replies,
    output: BytesMut,
    /// What is being answered, in order.
    awaited: VecDeque<Awaited>,
    asked_at: Option<Instant>,
    events: Vec<StreamEvent>,
}

#[derive(Debug)]
enum Phase {
    /// Not connected.
    Away,
    /// Each entry follows the one before it.
    Following,
    /// The log is not the one that was read: it will be replaced by a new epoch, which another node may do first. The
    /// answer to a read under way is of no use any more.
    Replacing,
    /// A log with this epoch is compared with what was read.
    Comparing {
        epoch: String,
        /// The last entry of the log as it was when this began.
        tip: u64,
        found: Vec<Entry>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Epoch,
    Tip,
    Page,
    Replaced,
    /// The tip at which comparing ends.
    End,
    ComparedPage,
}

impl Reader {
    /// A reader of the log that this greeting told of, which begins with the newest entries that a node keeps.
    pub(crate) fn new(settings: Settings, greeting: &Greeting) -> Self {
        let last_id = greeting.tip.saturating_sub(settings.history as u64);
        let beginning = Resync {
            epoch: greeting.epoch.clone(),
            last_id,
            lost: 0,
        };
        Self {
            epoch: greeting.epoch.clone(),
            last_id,
            names: VecDeque::new(),
            run_id: greeting.run_id.clone(),
            restarted: false,
            lag: 0,
            phase: Phase::Away,
            replies: Replies::default(),
            output: BytesMut::new(),
            awaited: VecDeque::new(),
            asked_at: None,
            events: vec![StreamEvent::Resync(beginning)],
            settings,
        }
    }

    /// The last entry read.
    pub(crate) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Entries that Redis had and we had not, when it was last asked.
    pub(crate) fn lag(&self) -> u64 {
        self.lag
    }

    #[cfg(test)]
    pub(super) fn is_following(&self) -> bool {
        matches!(self.phase, Phase::Following)
    }

    /// There is a new connection, on which this greeting was exchanged.
    pub(crate) fn connected(&mut self, now: Instant, greeting: &Greeting) {
        self.disconnected();
        if greeting.run_id != self.run_id {
            self.restarted = true;
            self.run_id.clone_from(&greeting.run_id);
        }
        self.phase = Phase::Following;
        self.ask(now);
    }

    /// The connection is gone.
    pub(crate) fn disconnected(&mut self) {
        self.phase = Phase::Away;
        self.replies = Replies::default();
        self.output.clear();
        self.awaited.clear();
        self.asked_at = None;
    }

    /// Takes the bytes to be sent.
    pub(crate) fn take_output(&mut self) -> BytesMut {
        self.output.split()
    }

    /// Takes what came of reading.
    pub(crate) fn take_events(&mut self) -> Vec<StreamEvent> {
        std::mem::take(&mut self.events)
    }

    /// When [`Reader::check`] finds that Redis is silent.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        Some(self.asked_at? + BLOCK + LINK_TIMEOUT)
    }

    /// Whether the connection is still good.
    ///
    /// # Errors
    /// Redis has not answered in time.
    pub(crate) fn check(&self, now: Instant) -> Result<(), Trouble> {
        match self.deadline() {
            Some(deadline) if now >= deadline => Err(Trouble::Silent),
            _ => Ok(()),
        }
    }

    /// Bytes have come. `fresh_epoch` is a new random name, in case one is needed.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        bytes: &[u8],
        fresh_epoch: &str,
    ) -> Result<(), Trouble> {
        self.replies.push(bytes);
        while let Some(reply) = self.replies.next_reply()? {
            let awaited = self.awaited.pop_front();
            let awaited = awaited.ok_or(Trouble::Unexpected("nothing"))?;
            if let Reply::Error(error) = &reply {
                return Err(Trouble::Refused(error.to_string()));
            }
            self.take(awaited, &reply)
                .ok_or(Trouble::Unexpected("a read of the stream"))?;
            if self.awaited.is_empty() {
                self.proceed(now, fresh_epoch);
            }
        }
        Ok(())
    }

    fn take(&mut self, awaited: Awaited, reply: &Reply) -> Option<()> {
        match awaited {
            Awaited::Epoch => self.take_epoch(reply),
            Awaited::Tip => {
                let (id, name) = read_tip(reply)?;
                self.lag = id.saturating_sub(self.last_id);
                let rewound = id < self.last_id
                    || (id == self.last_id && self.names.back().is_some_and(|last| *last != name));
                if rewound && matches!(self.phase, Phase::Following) {
                    self.phase = Phase::Replacing;
                }
            }
            Awaited::Page => {
                let entries = read_page(reply)?;
                if matches!(self.phase, Phase::Following) {
                    self.follow(entries);
                }
            }
            Awaited::Replaced => self.compare(resp::text(reply)?.to_owned()),
            Awaited::End => {
                let (id, _) = read_tip(reply)?;
                if let Phase::Comparing { tip, .. } = &mut self.phase {
                    *tip = id;
                }
            }
            Awaited::ComparedPage => {
                let entries = read_page(reply)?;
                if let Phase::Comparing { tip, found, .. } = &mut self.phase {
                    let ended = entries.last().is_none_or(|last| last.id >= *tip);
                    found.extend(entries);
                    if ended {
                        self.adopt();
                    }
                }
            }
        }
        Some(())
    }

    fn take_epoch(&mut self, reply: &Reply) {
        match resp::text(reply) {
            Some(epoch) if epoch == self.epoch => {}
            Some(epoch) => self.compare(epoch.to_owned()),
            // Everything was deleted.
            None => self.phase = Phase::Replacing,
        }
    }

    fn compare(&mut self, epoch: String) {
        self.phase = Phase::Comparing {
            epoch,
            tip: u64::MAX,
            found: Vec::new(),
        };
    }

    /// Takes entries that should follow the last one.
    fn follow(&mut self, entries: Vec<Entry>) {
        let mut next = Vec::with_capacity(entries.len());
        for entry in entries {
            if entry.id == self.last_id + 1 {
                let last = self.names.back();
                if last.is_some_and(|last| *last != name_hash(&entry.after)) {
                    self.phase = Phase::Replacing;
                    break;
                }
            } else if self.restarted && !self.names.is_empty() {
                // Whether this log is the one that was read cannot be told any more.
                self.phase = Phase::Replacing;
                break;
            } else {
                self.skip_to(entry.id, &mut next);
            }
            self.restarted = false;
            self.push(&entry);
            next.push(entry);
        }
        if !next.is_empty() {
            self.events.push(StreamEvent::Append(next));
        }
    }

    /// The entries before this one are no longer kept.
    fn skip_to(&mut self, id: u64, before: &mut Vec<Entry>) {
        if !before.is_empty() {
            let before = std::mem::take(before);
            self.events.push(StreamEvent::Append(before));
        }
        let lost = self.lost_before(id - 1);
        self.names.clear();
        self.last_id = id - 1;
        self.events.push(StreamEvent::Resync(Resync {
            epoch: self.epoch.clone(),
            last_id: self.last_id,
            lost,
        }));
    }

    /// How many entries this node misses where it goes on after `last_id`.
    fn lost_before(&self, last_id: u64) -> u64 {
        if self.names.is_empty() {
            return 0;
        }
        last_id.saturating_sub(self.last_id)
    }

    fn push(&mut self, entry: &Entry) {
        self.last_id = entry.id;
        self.names.push_back(name_hash(&entry.by));
        if self.names.len() > self.settings.history.max(1) {
            self.names.pop_front();
        }
    }

    /// The whole log has been read again: what it has in common with the one before stands, and the rest follows.
    fn adopt(&mut self) {
        let Phase::Comparing {
            epoch, mut found, ..
        } = std::mem::replace(&mut self.phase, Phase::Following)
        else {
            return;
        };
        let before_known = self.last_id - self.names.len() as u64;
        let is_known = |entry: &Entry| {
            let index = entry.id.checked_sub(before_known + 1)?;
            let name = self.names.get(usize::try_from(index).ok()?)?;
            (*name == name_hash(&entry.by)).then_some(())
        };
        // Nothing is ever inserted, so all before an entry in common is in common too.
        let common = found
            .iter()
            .rposition(|entry| is_known(entry).is_some())
            .map_or(0, |last| last + 1);
        let rest = found.split_off(common);
        let last_id = match (found.last(), rest.first()) {
            (Some(last), _) => last.id,
            (None, Some(first)) => first.id - 1,
            (None, None) => 0,
        };
        let lost = self.lost_before(last_id);
        self.names = found.iter().map(|entry| name_hash(&entry.by)).collect();
        self.epoch = epoch;
        self.last_id = last_id;
        self.restarted = false;
        self.events.push(StreamEvent::Resync(Resync {
            epoch: self.epoch.clone(),
            last_id,
            lost,
        }));
        self.follow(rest);
    }

    /// All that was asked is answered: the next question.
    fn proceed(&mut self, now: Instant, fresh_epoch: &str) {
        match &self.phase {
            Phase::Away => {}
            Phase::Following => self.ask(now),
            Phase::Replacing => {
                let (key, epoch) = (self.settings.key("epoch"), self.epoch.clone());
                let parts: [&[u8]; 6] = [
                    b"EVAL",
                    script::REPLACE_EPOCH.as_bytes(),
                    b"1",
                    key.as_bytes(),
                    epoch.as_bytes(),
                    fresh_epoch.as_bytes(),
                ];
                self.send(now, Awaited::Replaced, &parts);
            }
            Phase::Comparing { tip, found, .. } => {
                let stream = self.settings.key("log");
                let stream = stream.as_bytes();
                if *tip == u64::MAX {
                    let parts: [&[u8]; 6] = [b"XREVRANGE", stream, b"+", b"-", b"COUNT", b"1"];
                    self.send(now, Awaited::End, &parts);
                } else {
                    let oldest_kept = tip.saturating_sub(self.settings.history as u64);
                    let before_known = self.last_id - self.names.len() as u64;
                    let behind = found
                        .last()
                        .map_or(oldest_kept.min(before_known), |last| last.id);
                    let id = format!("{behind}-0");
                    let parts: [&[u8]; 6] =
                        [b"XREAD", b"COUNT", PAGE, b"STREAMS", stream, id.as_bytes()];
                    self.send(now, Awaited::ComparedPage, &parts);
                }
            }
        }
    }

    /// Asks for the next entries, and first whether the log is still the same. Each is an answer of its own moment; what
    /// changes between them is found with the next ones.
    fn ask(&mut self, now: Instant) {
        let (epoch, stream) = (self.settings.key("epoch"), self.settings.key("log"));
        let (epoch, stream) = (epoch.as_bytes(), stream.as_bytes());
        let block = BLOCK.as_millis().to_string();
        let id = format!("{}-0", self.last_id);
        self.send(now, Awaited::Epoch, &[b"GET", epoch]);
        let parts: [&[u8]; 6] = [b"XREVRANGE", stream, b"+", b"-", b"COUNT", b"1"];
        self.send(now, Awaited::Tip, &parts);
        let parts: [&[u8]; 8] = [
            b"XREAD",
            b"COUNT",
            PAGE,
            b"BLOCK",
            block.as_bytes(),
            b"STREAMS",
            stream,
            id.as_bytes(),
        ];
        self.send(now, Awaited::Page, &parts);
    }

    fn send(&mut self, now: Instant, awaited: Awaited, parts: &[&[u8]]) {
        resp::command(&mut self.output, parts);
        self.awaited.push_back(awaited);
        self.asked_at = Some(now);
    }
}

/// Entries are compared by a hash of their names, which takes less room than the names.
fn name_hash(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// The id and the hashed name of the only entry in a reply to `XREVRANGE`; the id is 0 where there is none.
fn read_tip(reply: &Reply) -> Option<(u64, u64)> {
    let Some(entry) = resp::array(reply)?.first() else {
        return Some((0, 0));
    };
    let entry = read_entry(entry)?;
    Some((entry.id, name_hash(&entry.by)))
}

/// The entries in a reply to `XREAD` of one stream.
fn read_page(reply: &Reply) -> Option<Vec<Entry>> {
    if *reply == Reply::Null {
        return Some(Vec::new());
    }
    let stream = resp::array(resp::array(reply)?.first()?)?;
    resp::array(stream.get(1)?)?
        .iter()
        .map(read_entry)
        .collect()
}

fn read_entry(reply: &Reply) -> Option<Entry> {
    let parts = resp::array(reply)?;
    let fields = resp::array(parts.get(1)?)?;
    let field = |name: &str| {
        let mut pairs = fields.chunks_exact(2);
        pairs.find_map(|pair| (resp::bytes(&pair[0])? == name.as_bytes()).then_some(&pair[1]))
    };
    let text = |name| Some(resp::text(field(name)?)?.to_owned());
    Some(Entry {
        id: resp::entry_id(parts.first()?)?,
        by: resp::bytes(field("by")?)?.clone(),
        after: resp::bytes(field("after")?)?.clone(),
        ts: resp::number(field("ts")?)?,
        name: text("name")?,
        text: text("text")?,
        cid: text("cid").filter(|cid| !cid.is_empty()),
    })
}
