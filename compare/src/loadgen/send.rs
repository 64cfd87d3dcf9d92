//! The sending of what is due: by the schedule in the open loop, by the last answer in the closed one.

use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::client::{InFlight, Stage, TEXT_PLACE};
use super::clients::{Clients, MASK};
use super::frames;
use super::message::Stamp;
use super::tally::ErrorKind;
use super::workload::{Log, Work, Workload};
use crate::plan::Role;

/// Messages a client may owe before it owes them for good.
const BACKLOG_MAX: usize = 10_000;
const TEXT: OpCode = OpCode::Data(Data::Text);

impl Clients {
    /// When something is due next; never, if nothing is left.
    pub(crate) fn next_due_ns(&self) -> u64 {
        self.next_due_ns
    }

    /// Sends every message that has come due; tells whether there was one.
    #[inline]
    pub(crate) fn send_due(&mut self) -> bool {
        if self.next_due_ns == u64::MAX {
            return false;
        }
        let now_ns = self.now_ns();
        let is_due = now_ns >= self.next_due_ns;
        if is_due {
            self.send_due_by(now_ns);
        }
        is_due
    }

    fn send_due_by(&mut self, now_ns: u64) {
        for group in 0..self.workloads.len() {
            while let Some((index, slot)) = self.take_due(group, now_ns) {
                let client = &mut self.all[index];
                if matches!(self.workloads[group].group.role, Role::Visit { .. }) {
                    self.visit(group, index, slot, now_ns);
                } else if client.can_send() && client.backlog.is_empty() {
                    if let Err(kind) = self.send_slot(index, slot) {
                        self.lose(index, kind);
                    }
                } else if client.is_open() && client.backlog.len() < BACKLOG_MAX {
                    client.backlog.push_back(slot);
                }
            }
        }
        let logs = self.workloads.iter().filter_map(Workload::log);
        self.next_due_ns = logs.filter_map(Log::next_due_ns).min().unwrap_or(u64::MAX);
    }

    /// A visit is due: it is made, unless the visitor has not come back from the last one.
    fn visit(&mut self, group: usize, index: usize, slot: u64, now_ns: u64) {
        if matches!(self.all[index].stage, Stage::Waiting) {
            if let Some(log) = self.workloads[group].work.log_mut() {
                log.sent(slot, now_ns);
            }
            self.start_joining(index);
        }
    }

    /// The next slot of a group that is due, and the client whose turn it is.
    fn take_due(&mut self, group: usize, now_ns: u64) -> Option<(usize, u64)> {
        let workload = &mut self.workloads[group];
        let log = workload.work.log_mut()?;
        let slot = log.take_due(now_ns)?;
        if log.window.contains(&slot) {
            self.tally
                .generator_late
                .saturating_record(now_ns - log.schedule.due_at_ns(slot));
        }
        Some((workload.members[log.schedule.member_of(slot)], slot))
    }

    /// Sends what came due while this client could not send.
    pub(super) fn send_owed(&mut self, index: usize) -> Result<(), ErrorKind> {
        while self.all[index].can_send() {
            let Some(slot) = self.all[index].backlog.pop_front() else {
                break;
            };
            self.send_slot(index, slot)?;
        }
        Ok(())
    }

    /// The closed loop: the next message as soon as the last is back, while the load goes on.
    pub(super) fn send_closed(&mut self, index: usize) -> Result<(), ErrorKind> {
        let group = self.all[index].group;
        let over = self.now_ns() >= self.window_ns.end;
        let Work::Closed { next_slot } = &mut self.workloads[group].work else {
            return Ok(());
        };
        if over || !self.all[index].can_send() {
            return Ok(());
        }
        let slot = *next_slot;
        *next_slot += 1;
        self.send_slot(index, slot)
    }

    fn send_slot(&mut self, index: usize, slot: u64) -> Result<(), ErrorKind> {
        let client = &mut self.all[index];
        let stamp = Stamp {
            group: client.group,
            slot,
        };
        let role = self.workloads[client.group].group.role;
        let text = match role {
            Role::Echo { .. } => {
                let text = stamp.text(self.text_bytes);
                match &self.target.foreign {
                    Some(foreign) => foreign.message.replace(TEXT_PLACE, &text),
                    None => text,
                }
            }
            _ => stamp.chat(client.member, self.text_bytes),
        };
        self.outgoing.clear();
        frames::encode(TEXT, Some(MASK), text.as_bytes(), &mut self.outgoing);
        let sent_ns = self.now_ns();
        let due_ns = match &mut self.workloads[stamp.group].work {
            Work::Scheduled(log) => {
                log.sent(slot, sent_ns);
                log.schedule.due_at_ns(slot)
            }
            Work::Closed { .. } | Work::Nothing => sent_ns,
        };
        let client = &mut self.all[index];
        if matches!(role, Role::Echo { .. }) {
            client.echoes_sent += 1;
            client.in_flight = Some(InFlight {
                slot,
                due_ns,
                sent_ns,
            });
        }
        client.write(&self.outgoing)
    }
}
