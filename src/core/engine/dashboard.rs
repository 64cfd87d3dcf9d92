//! The dashboard: its watchers, the metrics that each wants, and the tick that sends them.

use bytes::{Bytes, BytesMut};

use super::output::{self, Output};
use super::sparse_set::SparseSet;
use super::{ClientId, Now};
use crate::core::protocol::{Metric, Outgoing, System, Welcome};
use crate::core::websocket::deflate::{Deflater, SHARED_WINDOW_BITS};
use crate::core::websocket::frame;

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

    fn wanted(self, messages: &[(Metric, Vec<u8>)]) -> impl Iterator<Item = &[u8]> {
        messages
            .iter()
            .filter(move |(metric, _)| self.has(*metric))
            .map(|(_, message)| message.as_slice())
    }
}

/// The subscribers of the dashboard.
#[derive(Debug)]
pub(super) struct Dashboard {
    watching: SparseSet,
    subscriptions: Vec<Subscription>,
    level: u32,
    /// There since somebody took compressed ticks.
    deflater: Option<Deflater>,
}

impl Dashboard {
    /// Nobody watches yet.
    pub(super) fn new(level: u32) -> Self {
        Self {
            watching: SparseSet::default(),
            subscriptions: Vec::new(),
            level,
            deflater: None,
        }
    }

    /// How many watchers there are.
    pub(super) fn watchers(&self) -> usize {
        self.watching.as_slice().len()
    }

    /// A newcomer is subscribed to the defaults and welcomed.
    pub(super) fn join(
        &mut self,
        now: Now,
        client: ClientId,
        welcome: Welcome<'_>,
        output: &mut Output,
    ) {
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
    pub(super) fn leave(&mut self, client: ClientId) {
        self.watching.remove(client);
    }

    /// Changes what a client gets, from the next tick on, and confirms it.
    pub(super) fn subscribe(
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
    /// costs one shared slice; those that take compressed ticks (`is_deflate`) share another. Returns how many frames went
    /// out.
    pub(super) fn tick(
        &mut self,
        now: Now,
        values: &Values,
        is_deflate: impl Fn(ClientId) -> bool,
        mut deliver: impl FnMut(ClientId, &Bytes),
    ) -> u64 {
        let messages = encode(now, values);
        let mut batches = vec![None; 2 * SUBSCRIPTIONS];
        let mut sent = 0;
        for client in self.watching.as_slice() {
            let subscription = self.subscriptions[client.index()];
            let deflate = is_deflate(*client);
            let place = usize::from(subscription.0) + if deflate { SUBSCRIPTIONS } else { 0 };
            let (batch, count) = batches[place].get_or_insert_with(|| {
                let wanted = subscription.wanted(&messages);
                if deflate {
                    let level = self.level;
                    let deflater = self
                        .deflater
                        .get_or_insert_with(|| Deflater::new(level, SHARED_WINDOW_BITS));
                    deflated_frames(deflater, wanted)
                } else {
                    frames(wanted)
                }
            });
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

/// The message of each metric that has a value.
fn encode(now: Now, values: &Values) -> Vec<(Metric, Vec<u8>)> {
    let measured = Metric::ALL
        .into_iter()
        .zip(values)
        .filter_map(|(metric, value)| Some((metric, (*value)?)));
    measured
        .map(|(metric, value)| {
            let value = (value * 100.0).round() / 100.0;
            let ts = now.unix_ms;
            let message = Outgoing::Metric { metric, value, ts };
            (metric, output::to_json(&mut Vec::new(), &message).to_vec())
        })
        .collect()
}

/// The frames of these messages, and how many they are.
fn frames<'a>(messages: impl Iterator<Item = &'a [u8]>) -> (Bytes, u64) {
    let (mut out, mut count) = (BytesMut::new(), 0);
    for message in messages {
        frame::text(&mut out, message);
        count += 1;
    }
    (out.freeze(), count)
}

/// The same compressed. The messages of one tick refer to each other, and to none of an earlier one, so that a watcher
/// understands a tick whatever it heard before.
fn deflated_frames<'a>(
    deflater: &mut Deflater,
    messages: impl Iterator<Item = &'a [u8]>,
) -> (Bytes, u64) {
    deflater.restart();
    let (mut out, mut count) = (BytesMut::new(), 0);
    for message in messages {
        frame::deflated_text(&mut out, deflater.deflate(message));
        count += 1;
    }
    (out.freeze(), count)
}
