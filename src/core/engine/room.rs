//! The chat room: its members, its one order of messages, its notices.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::broadcast_log::{Batch, BroadcastLog};
use super::history::{History, MessageKey};
use super::limiter::Bucket;
use super::output::{self, Output};
use super::{ClientId, Now};
use crate::core::context::Context;
use crate::core::protocol::{Chat, HistoryMark, Outgoing, Replay, System, Welcome};

/// Where notices give way to summaries of how many are online, at most one goes out in this time.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(1);
/// Notices that may go out at once, whatever the pace: a few people who come together are announced one by one.
pub(super) const NOTICE_BURST: u32 = 10;
/// The pace of notices beyond that. Otherwise one client that comes and goes could cause a broadcast each time.
pub(super) const NOTICE_INTERVAL: Duration = Duration::from_millis(200);
/// What a member is sent of the history at a time. The next step waits until the socket has taken this one.
const REPLAY_STEP_BYTES: usize = 16 * 1024;
/// What the history keeps in memory while replays are under way. A member whose replay falls behind that is too slow.
const REPLAY_RETAINED_BYTES: usize = 8 * 1024 * 1024;

/// The one room of the lab.
#[derive(Debug)]
pub struct Room {
    context: Arc<Context>,
    log: BroadcastLog,
    history: History,
    /// Members whose replay has not come to its end, and who are not in the log yet.
    replaying: usize,
    notices: Bucket,
    summary_due: Option<Instant>,
    json: Vec<u8>,
}

/// How far a member has come.
#[derive(Debug, Clone, Copy)]
pub enum Membership {
    /// It is sent the history.
    Replaying(Replaying),
    /// It is in the log, which sends it the rest.
    Live,
}

impl Membership {
    /// Whether a replay is under way.
    pub fn is_replaying(self) -> bool {
        matches!(self, Self::Replaying(_))
    }
}

/// A replay under way.
#[derive(Debug, Clone, Copy)]
pub struct Replaying {
    /// The message to be sent next.
    next_id: u64,
    /// How many members the welcome spoke of.
    online_told: usize,
    /// Whether the member will read the log's compressed stream.
    deflate: bool,
}

impl Room {
    /// An empty room.
    pub fn new(context: Arc<Context>) -> Self {
        Self {
            log: BroadcastLog::with_capacity(context.limits.max_sockets, context.limits.deflate),
            history: History::new(context.limits.history),
            context,
            replaying: 0,
            notices: Bucket::default(),
            summary_due: None,
            json: Vec::new(),
        }
    }

    /// How many members there are.
    pub fn online(&self) -> usize {
        self.log.members() + self.replaying
    }

    /// Moves the cursors of the next members; see [`BroadcastLog::next_batch`].
    pub fn next_batch(&mut self, members_max: usize) -> Batch {
        self.log.next_batch(members_max)
    }

    /// The log, to be asked how far it lags.
    pub fn log(&self) -> &BroadcastLog {
        &self.log
    }

    /// A newcomer is announced to the members, then welcomed with the beginning of the history it asked for.
    pub fn join(
        &mut self,
        now: Now,
        client: ClientId,
        replay: &Replay,
        deflate: bool,
        welcome: Welcome<'_>,
        output: &mut Output,
    ) -> Membership {
        let online = self.online() + 1;
        self.announce(now, "joined", "Một người dùng mới đã tham gia chat", online);
        let epoch = &self.context.epoch;
        let recovery = self.history.recovery(replay, epoch);
        output.push_reply(&Outgoing::System(System {
            text: format!("Chào mừng đến chat room! Hiện có {online} người online.").into(),
            ts: now.unix_ms,
            code: "welcome",
            online_count: Some(online),
            welcome: Some(welcome),
            history: Some(HistoryMark {
                epoch,
                last_id: self.history.last_id(),
                recovered: recovery.recovered,
            }),
            ..System::default()
        }));
        self.replaying += 1;
        let replaying = Replaying {
            next_id: recovery.first_id,
            online_told: online,
            deflate,
        };
        self.replay(now, client, replaying, output)
            .expect("what the history offers it has")
    }

    /// The next step of a member's replay. `None` where the history has forgotten what comes next: the member reads
    /// slower than the room speaks.
    pub fn replay(
        &mut self,
        now: Now,
        client: ClientId,
        replaying: Replaying,
        output: &mut Output,
    ) -> Option<Membership> {
        let Replaying {
            next_id,
            online_told,
            deflate,
        } = replaying;
        let step = self.history.read(next_id, REPLAY_STEP_BYTES)?;
        let frames = step.next_id - next_id;
        self.context.counters.deliveries.inc_by(frames);
        step.slices
            .into_iter()
            .for_each(|slice| output.reply.push_shared(slice));
        if step.next_id <= self.history.last_id() {
            return Some(Membership::Replaying(Replaying {
                next_id: step.next_id,
                ..replaying
            }));
        }
        self.replaying -= 1;
        self.log.join(client, deflate);
        // Notices of clients that came and went during the replay were not for it.
        let online = self.online();
        if online != online_told {
            output.push_reply(&presence(now, online));
        }
        Some(Membership::Live)
    }

    /// A member leaves: what the log still owes it comes next in its output. The members that stay are told, unless
    /// the whole room is leaving.
    pub fn leave(
        &mut self,
        now: Now,
        client: ClientId,
        membership: Membership,
        announced: bool,
        output: &mut Output,
    ) {
        match membership {
            Membership::Replaying(_) => self.replaying -= 1,
            Membership::Live => {
                let owed = self.log.leave(client).into_iter();
                owed.for_each(|slice| output.reply.push_shared(slice));
            }
        }
        if announced {
            let online = self.online();
            self.announce(now, "left", "Một người dùng đã rời khỏi chat", online);
        }
    }

    /// Takes a message that is allowed into the room's order and sends it to all members; tells its id.
    pub fn say(&mut self, now: Now, chat: &Chat<'_>) -> u64 {
        let id = self.history.next_id();
        let message = Outgoing::Chat {
            name: chat.name(),
            text: chat.text(),
            ts: now.unix_ms,
            id,
        };
        let frame = append(&mut self.log, &mut self.json, &self.context, &message);
        self.history.keep(frame, message_key(chat).as_ref());
        self.history.trim(match self.replaying {
            0 => 0,
            _ => REPLAY_RETAINED_BYTES,
        });
        id
    }

    /// The id of the same message, if it was said before and is still kept.
    pub fn said_before(&self, chat: &Chat<'_>) -> Option<u64> {
        self.history.find(&message_key(chat)?)
    }

    /// When [`Room::summarise`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.summary_due
    }

    /// Sends the summary of a large room if one is due.
    pub fn summarise(&mut self, now: Now) {
        if self.summary_due.is_some_and(|due| now.instant >= due) {
            self.summary_due = None;
            let message = presence(now, self.online());
            append(&mut self.log, &mut self.json, &self.context, &message);
        }
    }

    /// Tells the members of a change. In a large room, where N changes would be N² notices, and where changes come too
    /// fast, plans a summary instead.
    fn announce(&mut self, now: Now, code: &'static str, text: &'static str, online: usize) {
        if self.log.members() == 0 {
            return;
        }
        let is_large = online > self.context.limits.notice_limit;
        if is_large
            || self
                .notices
                .take(now.instant, NOTICE_INTERVAL, NOTICE_BURST)
                .is_err()
        {
            self.summary_due
                .get_or_insert(now.instant + SUMMARY_INTERVAL);
        } else {
            let message = notice(now, code, text.into(), online);
            append(&mut self.log, &mut self.json, &self.context, &message);
        }
    }
}

fn append<'a>(
    log: &'a mut BroadcastLog,
    json: &mut Vec<u8>,
    context: &Context,
    message: &Outgoing<'_>,
) -> &'a [u8] {
    context.counters.deliveries.inc_by(log.members() as u64);
    log.append(output::to_json(json, message))
}

fn presence(now: Now, online: usize) -> Outgoing<'static> {
    let text = format!("Hiện có {online} người online.");
    notice(now, "presence", text.into(), online)
}

fn notice(
    now: Now,
    code: &'static str,
    text: std::borrow::Cow<'static, str>,
    online: usize,
) -> Outgoing<'static> {
    Outgoing::System(System {
        text,
        ts: now.unix_ms,
        code,
        online_count: Some(online),
        ..System::default()
    })
}

/// What a message sent again is known by; none without a `cid`.
fn message_key<'a>(chat: &'a Chat<'_>) -> Option<MessageKey<'a>> {
    Some(MessageKey {
        name: chat.name().into(),
        cid: chat.cid.as_deref()?.into(),
        text: chat.text().into(),
    })
}
