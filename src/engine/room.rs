//! The chat room: who is in it, its one order of messages, its notices.

use std::time::{Duration, Instant};

use super::history::{History, MessageKey};
use super::limiter::Bucket;
use super::roster::Roster;
use super::{ClientId, Effects, Joined, Now};
use crate::protocol::{Chat, HistoryMark, Outgoing, Replay, System, Welcome};

/// Where notices give way to summaries of who is online, at most one goes out in this time.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(1);
/// So many notices may go out at once, whatever the pace: a few people who come together are announced one by one.
pub(super) const NOTICE_BURST: u32 = 10;
/// The pace of notices beyond that. Else one client that keeps coming and going would be made a broadcast a time.
pub(super) const NOTICE_INTERVAL: Duration = Duration::from_millis(200);

/// The one room of the lab.
#[derive(Debug)]
pub struct Room {
    roster: Roster,
    history: History,
    /// Names this life of the history, so that ids of an earlier life are not taken for ours.
    epoch: String,
    notice_limit: usize,
    notices: Bucket,
    summary_due: Option<Instant>,
}

impl Room {
    /// An empty room.
    pub fn new(epoch: String, history: usize, notice_limit: usize) -> Self {
        Self {
            roster: Roster::default(),
            history: History::new(history),
            epoch,
            notice_limit,
            notices: Bucket::default(),
            summary_due: None,
        }
    }

    /// Everyone in the room: who gets [`Effects::broadcast`].
    pub fn members(&self) -> &[ClientId] {
        self.roster.members()
    }

    /// A newcomer is announced to those who are in, then welcomed with what it asked of the past.
    pub fn join(
        &mut self,
        now: Now,
        client: ClientId,
        replay: &Replay,
        welcome: Welcome<'_>,
        effects: &mut Effects,
    ) {
        self.announce(
            now,
            "joined",
            "Một người dùng mới đã tham gia chat",
            self.members().len() + 1,
            effects,
        );
        let broadcast = effects.broadcast.len();
        self.roster.add(client);
        let online_count = self.members().len();
        let recovery = self.history.recovery(replay, &self.epoch);
        effects.tell_client(&Outgoing::System(System {
            text: format!("Chào mừng đến chat room! Hiện có {online_count} người online.").into(),
            ts: now.unix_ms,
            code: "welcome",
            online_count: Some(online_count),
            welcome: Some(welcome),
            history: Some(HistoryMark {
                epoch: &self.epoch,
                last_id: self.history.last_id(),
                recovered: recovery.recovered,
            }),
            ..System::default()
        }));
        for frame in self.history.newest(recovery.newest) {
            effects.replay(frame);
        }
        effects.joined = Some(Joined {
            broadcast,
            reply: effects.reply.len(),
        });
    }

    /// A member leaves and everyone who stays is told.
    pub fn leave(&mut self, now: Now, client: ClientId, effects: &mut Effects) {
        if self.roster.remove(client) {
            effects.left_at = Some(effects.broadcast.len());
            self.announce(
                now,
                "left",
                "Một người dùng đã rời khỏi chat",
                self.members().len(),
                effects,
            );
        }
    }

    /// A member leaves and nobody is told: the server is stopping, everyone leaves.
    pub fn leave_silently(&mut self, client: ClientId, effects: &mut Effects) {
        if self.roster.remove(client) {
            effects.left_at = Some(effects.broadcast.len());
        }
    }

    /// Takes a message that is allowed into the room's order and sends it to everyone; tells its id.
    pub fn say(&mut self, now: Now, chat: &Chat<'_>, effects: &mut Effects) -> u64 {
        let id = self.history.next_id();
        let message = Outgoing::Chat {
            name: chat.name(),
            text: chat.text(),
            ts: now.unix_ms,
            id,
        };
        let frame = effects.tell_room(&message, self.roster.members().len());
        self.history.keep(frame, message_key(chat).as_ref());
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
    pub fn summarise(&mut self, now: Now, effects: &mut Effects) {
        if self.summary_due.is_none_or(|due| now.instant < due) {
            return;
        }
        self.summary_due = None;
        let online_count = self.members().len();
        let text = format!("Hiện có {online_count} người online.");
        self.broadcast_notice(now, "presence", text.into(), online_count, effects);
    }

    /// Tells the members of a change. In a large room, where N changes would be N² notices, and where changes come too
    /// fast, plans a summary instead.
    fn announce(
        &mut self,
        now: Now,
        code: &'static str,
        text: &'static str,
        online_count: usize,
        effects: &mut Effects,
    ) {
        let is_large = online_count > self.notice_limit;
        let has_listeners = !self.members().is_empty();
        if is_large
            || has_listeners
                && !self
                    .notices
                    .take(now.instant, NOTICE_INTERVAL, NOTICE_BURST)
        {
            self.summary_due
                .get_or_insert(now.instant + SUMMARY_INTERVAL);
        } else {
            self.broadcast_notice(now, code, text.into(), online_count, effects);
        }
    }

    fn broadcast_notice(
        &mut self,
        now: Now,
        code: &'static str,
        text: std::borrow::Cow<'static, str>,
        online_count: usize,
        effects: &mut Effects,
    ) {
        let receivers = self.members().len();
        if receivers > 0 {
            let notice = System {
                text,
                ts: now.unix_ms,
                code,
                online_count: Some(online_count),
                ..System::default()
            };
            effects.tell_room(&Outgoing::System(notice), receivers);
        }
    }
}

/// What a message sent again is known by; none without a `cid`.
fn message_key<'a>(chat: &'a Chat<'_>) -> Option<MessageKey<'a>> {
    Some(MessageKey {
        name: chat.name().into(),
        cid: chat.cid.as_deref()?.into(),
        text: chat.text().into(),
    })
}
