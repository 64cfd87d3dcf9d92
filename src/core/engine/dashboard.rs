//! The dashboard: its watchers, the metrics that each wants, and the tick that sends them.

use bytes::Bytes;

use super::output::{self, Output};
use super::sparse_set::SparseSet;
use super::{ClientId, Now};
use crate::core::protocol::{Metric, Outgoing, System, Welcome};

/// One value for each of [`Metric::ALL`]; `None` where this host has no such figure.
pub type Values = [Option<f64>; Metric::ALL.len()];

/// The set of metrics a client wants, a bit for each of [`Metric::ALL`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Subscription(u8);

const SUBSCRIPTIONS: usize = 1 << Metric::ALL.len();

impl Subscription {
    fn of(metrics: &[Metric]) -> Self {
        Self(
            metrics
                .iter()
                .fold(0, |bits, metric| bits | 1 << *metric as u8),
        )
    }

    fn has(self, metric: Metric) -> bool {
        self.0 & (1 << metric as u8) != 0
    }
}

/// The subscribers of the dashboard.
#[derive(Debug, Default)]
pub struct Dashboard {
    watching: SparseSet,
    subscriptions: Vec<Subscription>,
}

impl Dashboard {
    /// How many watchers there are.
    pub fn watchers(&self) -> usize {
        self.watching.as_slice().len()
    }

    /// A newcomer is subscribed to the defaults and welcomed.
    pub fn join(&mut self, now: Now, client: ClientId, welcome: Welcome<'_>, output: &mut Output) {
        self.watching.insert(client);
        self.set(client, Subscription::of(&Metric::DEFAULT));
        output.push_reply(&Outgoing::System(System {
            text: "Kết nối dashboard thành công. Đang nhận dữ liệu realtime...".into(),
            ts: now.unix_ms,
            code: "welcome",
            subscribed: Some(&Metric::DEFAULT),
            welcome: Some(welcome),
            ..System::default()
        }));
    }

    /// A client stops watching.
    pub fn leave(&mut self, client: ClientId) {
        self.watching.remove(client);
    }

    /// Changes what a client gets, from the next tick on, and confirms it.
    pub fn subscribe(
        &mut self,
        now: Now,
        client: ClientId,
        metrics: &[Metric],
        output: &mut Output,
    ) {
        self.set(client, Subscription::of(metrics));
        let names: Vec<&str> = metrics.iter().map(|metric| metric.name()).collect();
        output.push_reply(&Outgoing::System(System {
            text: format!("Đã subscribe: {}", names.join(", ")).into(),
            ts: now.unix_ms,
            code: "subscribed",
            subscribed: Some(metrics),
            ..System::default()
        }));
    }

    /// Sends each watcher its metrics. A metric is encoded once, a set of metrics put together once, so a watcher
    /// costs one shared slice. Returns how many frames went out.
    pub fn tick(
        &self,
        now: Now,
        values: &Values,
        mut deliver: impl FnMut(ClientId, &Bytes),
    ) -> u64 {
        let frames = encode(now, values);
        let mut batches = vec![None; SUBSCRIPTIONS];
        let mut sent = 0;
        for client in self.watching.as_slice() {
            let subscription = self.subscriptions[client.index()];
            let (batch, count) = batches[usize::from(subscription.0)]
                .get_or_insert_with(|| gather(subscription, &frames));
            if !batch.is_empty() {
                deliver(*client, batch);
                sent += *count;
            }
        }
        sent
    }

    fn set(&mut self, client: ClientId, subscription: Subscription) {
        if self.subscriptions.len() <= client.index() {
            self.subscriptions
                .resize(client.index() + 1, Subscription::default());
        }
        self.subscriptions[client.index()] = subscription;
    }
}

fn encode(now: Now, values: &Values) -> Vec<(Metric, Vec<u8>)> {
    let measured = Metric::ALL
        .into_iter()
        .zip(values)
        .filter_map(|(metric, value)| Some((metric, (*value)?)));
    measured
        .map(|(metric, value)| {
            let value = (value * 100.0).round() / 100.0;
            (
                metric,
                output::encode(&Outgoing::Metric {
                    metric,
                    value,
                    ts: now.unix_ms,
                }),
            )
        })
        .collect()
}

fn gather(subscription: Subscription, frames: &[(Metric, Vec<u8>)]) -> (Bytes, u64) {
    let wanted = frames
        .iter()
        .filter(|(metric, _)| subscription.has(*metric))
        .map(|(_, frame)| frame.as_slice());
    let wanted: Vec<&[u8]> = wanted.collect();
    (wanted.concat().into(), wanted.len() as u64)
}
