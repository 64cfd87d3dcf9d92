//! The chat room: its members, its one order of messages, its notices.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::broadcast_log::{Batch, BroadcastLog};
use super::history::{History, MessageKey};
use super::limiter::Bucket;
use super::output::{self, Output};
use super::{ClientId, Now};
use crate::core::cluster::Entry;
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
pub(super) struct Room {
    context: Arc<Context>,
    log: BroadcastLog,
    history: History,
    /// Names this life of the history.
    epoch: String,
    /// How often the history was not the continuation of what was said before.
    resyncs: u32,
    /// Members on other nodes.
    online_elsewhere: usize,
    /// Members whose replay has not come to its end, and who are not in the log yet.
    replaying: usize,
    notices: Bucket,
    summary_due: Option<Instant>,
    json: Vec<u8>,
}

/// How far a member has come.
#[derive(Debug, Clone, Copy)]
pub(super) enum Membership {
    /// It is sent the history.
    Replaying(Replaying),
    /// It is in the log, which sends it the rest.
    Live,
}

impl Membership {
    /// Whether a replay is under way.
    pub(super) fn is_replaying(self) -> bool {
        matches!(self, Self::Replaying(_))
    }
}

/// A replay under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replaying {
    /// The message to be sent next.
    next_id: u64,
    /// How many members the welcome spoke of.
    online_told: usize,
    /// Whether the member will read the log's compressed stream.
    deflate: bool,
    /// In which life of the history: see [`Room::resync`].
    resyncs: u32,
}

impl Room {
    /// An empty room.
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self {
            log: BroadcastLog::with_capacity(context.limits.max_sockets, context.limits.deflate),
            history: History::new(context.limits.history),
            epoch: context.epoch.clone(),
            resyncs: 0,
            online_elsewhere: 0,
            context,
            replaying: 0,
            notices: Bucket::default(),
            summary_due: None,
            json: Vec::new(),
        }
    }

    /// How many members there are, on all nodes.
    pub(super) fn online(&self) -> usize {
        self.online_here() + self.online_elsewhere
    }

    /// How many members this node has.
    pub(super) fn online_here(&self) -> usize {
        self.log.members() + self.replaying
    }

    /// Names this life of the history.
    pub(super) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The newest message's id.
    pub(super) fn last_id(&self) -> u64 {
        self.history.last_id()
    }

    /// Moves the cursors of the next members; see [`BroadcastLog::next_batch`].
    pub(super) fn next_batch(&mut self, members_max: usize) -> Batch {
        self.log.next_batch(members_max)
    }

    /// The log, to be asked how far it lags.
    pub(super) fn log(&self) -> &BroadcastLog {
        &self.log
    }

    /// A newcomer is announced to the members, then welcomed with the beginning of the history it asked for.
    pub(super) fn join(
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
        let epoch = &self.epoch;
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
            resyncs: self.resyncs,
        };
        self.replay(now, client, replaying, output)
            .expect("what the history offers it has")
    }

    /// The next step of a member's replay. `None` where the history has forgotten what comes next: the member reads
    /// slower than the room speaks.
    pub(super) fn replay(
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
            resyncs,
        } = replaying;
        if resyncs != self.resyncs {
            return None;
        }
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

    /// Ends a replay: what is left of it, as shared slices, which cost the references alone. The member is in the log no
    /// more than before.
    pub(super) fn end_replay(&mut self, replaying: Replaying) -> Vec<Bytes> {
        self.replaying -= 1;
        if replaying.resyncs != self.resyncs {
            return Vec::new();
        }
        let rest = self.history.read(replaying.next_id, usize::MAX);
        rest.map(|step| step.slices).unwrap_or_default()
    }

    /// A member leaves: what the log still owes it comes next in its output. The members that stay are told, unless
    /// the whole room is leaving.
    pub(super) fn leave(
        &mut self,
        now: Now,
        client: ClientId,
        membership: Membership,
        announced: bool,
        output: &mut Output,
    ) {
        match membership {
            Membership::Replaying(replaying) => {
                let rest = self.end_replay(replaying).into_iter();
                // One that leaves by itself has not waited for it; one that a stopping server closes has.
                rest.filter(|_| !announced)
                    .for_each(|slice| output.reply.push_shared(slice));
            }
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
    pub(super) fn say(&mut self, now: Now, chat: &Chat<'_>) -> u64 {
        let key = message_key(chat);
        self.store(chat.name(), chat.text(), now.unix_ms, key.as_ref())
    }

    /// The next message of the stream, for all members.
    pub(super) fn append(&mut self, entry: &Entry) {
        let key = entry.cid.as_deref().map(|cid| MessageKey {
            name: entry.name.as_str().into(),
            cid: cid.into(),
            text: entry.text.as_str().into(),
        });
        let id = self.store(&entry.name, &entry.text, entry.ts, key.as_ref());
        debug_assert_eq!(id, entry.id, "the reader tells of every gap");
    }

    /// The history goes on after `last_id` in this epoch: what was said after it is void, or what was said up to it is lost
    /// to this node. The members are told so; a replay under way cannot go on.
    pub(super) fn resync(&mut self, now: Now, epoch: String, last_id: u64) {
        self.history.resync(last_id);
        self.epoch = epoch;
        self.resyncs = self.resyncs.wrapping_add(1);
        let message = Outgoing::System(System {
            text: "Lịch sử phòng chat bắt đầu lại từ một điểm trước đó; có thể thiếu vài tin nhắn."
                .into(),
            ts: now.unix_ms,
            code: "resync",
            history: Some(HistoryMark {
                epoch: &self.epoch,
                last_id,
                recovered: Some(false),
            }),
            ..System::default()
        });
        append(&mut self.log, &mut self.json, &self.context, &message);
    }

    /// How many members there are on all nodes, as they have told each other.
    pub(super) fn set_online(&mut self, now: Now, online: u64) {
        let online = usize::try_from(online).unwrap_or(usize::MAX);
        let elsewhere = online.saturating_sub(self.online_here());
        if elsewhere != self.online_elsewhere {
            self.online_elsewhere = elsewhere;
            self.summary_due
                .get_or_insert(now.instant + SUMMARY_INTERVAL);
        }
    }

    fn store(&mut self, name: &str, text: &str, ts: u64, key: Option<&MessageKey<'_>>) -> u64 {
        let id = self.history.next_id();
        let message = Outgoing::Chat { name, text, ts, id };
        let frame = append(&mut self.log, &mut self.json, &self.context, &message);
        self.history.keep(frame, key);
        self.history.trim(match self.replaying {
            0 => 0,
            _ => REPLAY_RETAINED_BYTES,
        });
        id
    }

    /// The id of the same message, if it was said before and is still kept.
    pub(super) fn said_before(&self, chat: &Chat<'_>) -> Option<u64> {
        self.history.find(&message_key(chat)?)
    }

    /// When [`Room::summarise`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.summary_due
    }

    /// Sends the summary of a large room if one is due.
    pub(super) fn summarise(&mut self, now: Now) {
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
    let counters = &context.counters;
    counters.deliveries.inc_by(log.members() as u64);
    let appended = log.append(output::to_json(json, message));
    if let Some(length) = appended.deflated_length {
        counters.deflate_input.inc_by(appended.frame.len() as u64);
        counters.deflate_output.inc_by(length as u64);
    }
    appended.frame
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
