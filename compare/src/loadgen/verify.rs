//! The check that comes before all speed: what was asked for, what every client must have, and what it has.

use std::collections::BTreeSet;

use super::client::{Client, Stage};
use super::clients::Clients;
use super::tally::ErrorKind;
use super::ticks::METRICS_PER_TICK;
use super::workload::Workload;
use crate::plan::Role;

/// Whether every client got every message exactly once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Exactness {
    pub(crate) expected: u64,
    pub(crate) received: u64,
    /// Clients with less, or more, than they must have.
    pub(crate) clients_short: usize,
    pub(crate) clients_over: usize,
    /// Orders in which sampled clients that have everything received the room: one is what the protocol promises.
    pub(crate) orders: usize,
}

#[derive(Debug, Clone, Copy)]
struct DueToEach {
    chats: u64,
    metrics: u64,
}

/// What the schedules of all groups ask for in the window.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Demand {
    pub(crate) due: u64,
    /// Due and never sent.
    pub(crate) unsent: u64,
    pub(crate) deliveries: u64,
}

impl Clients {
    /// Whether every client that is still here has what it must have, and every visitor has got in.
    pub(crate) fn has_everything(&mut self) -> bool {
        self.count_all_followed();
        let due = self.due_to_each();
        self.all.iter().all(|client| match client.stage {
            Stage::Open { .. } => client.received >= self.expected(client, due),
            Stage::Connecting { .. } | Stage::Upgrading { .. } => {
                !matches!(self.role(client), Role::Visit { .. })
            }
            _ => true,
        })
    }

    /// What clients must have by now against what they have.
    pub(crate) fn exactness(&mut self) -> Exactness {
        self.count_all_followed();
        let due = self.due_to_each();
        let mut exactness = Exactness::default();
        let mut orders = BTreeSet::new();
        // What reached a client that does not read proves nothing.
        for client in self
            .all
            .iter()
            .filter(|client| self.role(client) != Role::NonReading)
        {
            let expected = self.expected(client, due);
            exactness.expected += expected;
            exactness.received += client.received;
            exactness.clients_short += usize::from(client.received < expected);
            exactness.clients_over += usize::from(client.received > expected);
            if let Some(order_check) = &client.order_check
                && self.role(client).receives_the_room()
                && client.received >= expected
            {
                orders.insert(order_check.order());
            }
        }
        exactness.orders = orders.len();
        exactness
    }

    /// What every member of the room, and every subscriber of the dashboard, must have.
    fn due_to_each(&self) -> DueToEach {
        let said: u64 = self
            .workloads
            .iter()
            .filter(|workload| workload.group.role.speaks_in_the_room())
            .map(Workload::sent)
            .sum();
        let refused =
            self.tally.errors.count(ErrorKind::ErrorAnswer) + self.tally.ends.spam_refused;
        DueToEach {
            chats: said.saturating_sub(refused),
            metrics: self.ticks.due() * METRICS_PER_TICK,
        }
    }

    fn expected(&self, client: &Client, due: DueToEach) -> u64 {
        match self.role(client) {
            Role::Listen | Role::Speak { .. } | Role::Spam { .. } => due.chats,
            Role::Subscribe => due.metrics,
            Role::Echo { .. } => client.echoes_sent,
            Role::NonReading | Role::Sit | Role::Visit { .. } | Role::HalfOpen => 0,
        }
    }

    /// What the window asked for.
    pub(crate) fn demand(&self) -> Demand {
        let listeners = self
            .all
            .iter()
            .filter(|client| self.role(client).receives_the_room())
            .count() as u64;
        let mut demand = Demand::default();
        for workload in &self.workloads {
            let Some(log) = workload.log() else { continue };
            let due = log.window.end - log.window.start;
            demand.due += due;
            demand.unsent += due - log.sent_count(log.window.clone());
            demand.deliveries += match workload.group.role {
                Role::Speak { .. } => due * listeners,
                // How much of a flood should come through is the server's to say; visits are no deliveries.
                Role::Spam { .. } | Role::Visit { .. } => 0,
                _ => due,
            };
        }
        demand
    }
}
