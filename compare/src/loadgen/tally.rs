//! Counts of everything the clients saw, and latencies from the sampled ones.

use std::io;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency a histogram tells apart; later ones count as this.
const LATENCY_MAX_NS: u64 = 300_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// An empty histogram of nanoseconds.
pub(crate) fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, SIGNIFICANT_DIGITS)
        .expect("the bounds are in order")
}

/// An error on a client's side of the connection; each kind is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorKind {
    ConnectFailed,
    OutOfPorts,
    JoinTimedOut,
    UpgradeRefused,
    ClosedByServer,
    ConnectionReset,
    BadFrame,
    ErrorAnswer,
    WrongContent,
    WrongOrder,
}

impl ErrorKind {
    pub(crate) const ALL: [Self; 10] = [
        Self::ConnectFailed,
        Self::OutOfPorts,
        Self::JoinTimedOut,
        Self::UpgradeRefused,
        Self::ClosedByServer,
        Self::ConnectionReset,
        Self::BadFrame,
        Self::ErrorAnswer,
        Self::WrongContent,
        Self::WrongOrder,
    ];

    /// What is behind a connection that could not even be begun.
    pub(crate) fn of_connect(error: &io::Error) -> Self {
        match error.kind() {
            // Of connect, and of bind, where no port is free for the address that the client comes from.
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => Self::OutOfPorts,
            _ => Self::ConnectFailed,
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::ConnectFailed => "could not connect",
            Self::OutOfPorts => {
                "no port of this machine was free (see net.ipv4.ip_local_port_range, or wait a minute)"
            }
            Self::JoinTimedOut => "did not join in time",
            Self::UpgradeRefused => "upgrade refused",
            Self::ClosedByServer => "closed by the server",
            Self::ConnectionReset => "connection reset",
            Self::BadFrame => "malformed frame",
            Self::ErrorAnswer => "error answer",
            Self::WrongContent => "wrong content",
            Self::WrongOrder => "out of order or twice",
        }
    }
}

/// How often each [`ErrorKind`] came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ErrorCounts([u64; ErrorKind::ALL.len()]);

impl ErrorCounts {
    pub(crate) fn add(&mut self, kind: ErrorKind, times: u64) {
        self.0[kind as usize] += times;
    }

    pub(crate) fn count(&self, kind: ErrorKind) -> u64 {
        self.0[kind as usize]
    }

    /// The kinds that came at least once.
    pub(crate) fn seen(&self) -> impl Iterator<Item = (ErrorKind, u64)> {
        ErrorKind::ALL
            .into_iter()
            .map(|kind| (kind, self.count(kind)))
            .filter(|&(_, count)| count > 0)
    }
}

/// Latency twice: from when a message was due, and from when it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Latency {
    /// From the intended time: what a user feels, the generator's and the server's queues included.
    pub(crate) corrected: Histogram<u64>,
    /// From the actual send: what a naive tool reports (coordinated omission).
    pub(crate) uncorrected: Histogram<u64>,
}

impl Latency {
    pub(crate) fn new() -> Self {
        Self {
            corrected: latency_histogram(),
            uncorrected: latency_histogram(),
        }
    }

    pub(crate) fn record(&mut self, due_ns: u64, sent_ns: u64, now_ns: u64) {
        self.corrected
            .saturating_record(now_ns.saturating_sub(due_ns));
        self.uncorrected
            .saturating_record(now_ns.saturating_sub(sent_ns));
    }

    /// For a closed loop, where nothing is due before the last answer: puts in the messages that a client would
    /// have sent while it waited, had it gone on at the median pace (`HdrHistogram`'s own correction).
    pub(crate) fn correct_closed_loop(&mut self) {
        self.corrected = self
            .uncorrected
            .clone_correct(self.uncorrected.value_at_quantile(0.5).max(1));
    }
}

/// What a server rightly refuses or ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Ends {
    /// Messages over the rate limit, answered with an error.
    pub(crate) spam_refused: u64,
    /// Clients that never read, dropped.
    #[serde(rename = "deaf_dropped")]
    pub(crate) non_reading_dropped: u64,
    /// Connections that never ended their request, closed.
    pub(crate) half_open_closed: u64,
}

/// A step of the timeline of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// Since the window opened.
    pub(crate) end_ns: u64,
    /// Until then, warm-up included.
    pub(crate) delivered: u64,
    /// Latencies of messages received within the step.
    pub(crate) latencies: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
}

/// Everything counted while a plan is carried out.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// Messages delivered to clients: chats, echoes, metrics.
    pub(crate) delivered: u64,
    /// Frames of the server's own: notices and the like.
    pub(crate) notices: u64,
    pub(crate) bytes: u64,
    pub(crate) errors: ErrorCounts,
    pub(crate) latency: Latency,
    /// Of messages whose arrival the kernel told: from when each was due until it arrived, and from then until it was
    /// read, which is the generator's own part.
    pub(crate) arrivals: Histogram<u64>,
    pub(crate) read_after: Histogram<u64>,
    /// Of the present step of the timeline; see [`Step`].
    step: Histogram<u64>,
    pub(crate) timeline: Vec<Step>,
    /// Due and read; their segment has yet to be used up.
    unstamped: Vec<(u64, u64)>,
    /// From the first SYN to the 101, each client that stays.
    pub(crate) joins: Histogram<u64>,
    /// The same for visitors within the window, and for the return after a storm.
    pub(crate) visits: Histogram<u64>,
    pub(crate) returns: Histogram<u64>,
    pub(crate) ends: Ends,
    /// How late the generator itself came to a message that was due.
    pub(crate) generator_late: Histogram<u64>,
    /// How long each turn of the loop took: what has arrived may have waited so long to be looked at.
    pub(crate) generator_turns: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            delivered: 0,
            notices: 0,
            bytes: 0,
            errors: ErrorCounts::default(),
            latency: Latency::new(),
            arrivals: latency_histogram(),
            read_after: latency_histogram(),
            step: latency_histogram(),
            timeline: Vec::new(),
            unstamped: Vec::new(),
            joins: latency_histogram(),
            visits: latency_histogram(),
            returns: latency_histogram(),
            ends: Ends::default(),
            generator_late: latency_histogram(),
            generator_turns: latency_histogram(),
        }
    }

    /// A message came whose latency counts.
    pub(crate) fn received(&mut self, due_ns: u64, sent_ns: u64, now_ns: u64) {
        self.received_unstamped(due_ns, sent_ns, now_ns);
        self.unstamped.push((due_ns, now_ns));
    }

    /// The same where nobody asks the kernel when.
    pub(crate) fn received_unstamped(&mut self, due_ns: u64, sent_ns: u64, now_ns: u64) {
        self.latency.record(due_ns, sent_ns, now_ns);
        self.step.saturating_record(now_ns.saturating_sub(due_ns));
    }

    /// Ends a step of the timeline, `since_open_ns` after the window opened.
    pub(crate) fn end_step(&mut self, since_open_ns: u64) {
        self.timeline.push(Step {
            end_ns: since_open_ns,
            delivered: self.delivered,
            latencies: self.step.len(),
            p50_ns: self.step.value_at_quantile(0.5),
            p99_ns: self.step.value_at_quantile(0.99),
        });
        self.step.reset();
    }

    /// What was read last had arrived at this time.
    pub(crate) fn arrived(&mut self, arrived_ns: u64) {
        for (due_ns, read_ns) in self.unstamped.drain(..) {
            self.arrivals
                .saturating_record(arrived_ns.saturating_sub(due_ns));
            self.read_after
                .saturating_record(read_ns.saturating_sub(arrived_ns));
        }
    }

    /// Nothing was told of when the rest arrived.
    pub(crate) fn forget_unstamped(&mut self) {
        self.unstamped.clear();
    }
}

/// A sampled client's check of the room's order: no message twice, none before an earlier one of the same sender.
#[derive(Debug, Clone)]
pub(crate) struct OrderCheck {
    /// For each group and member, one more than the last slot received; 0 for none yet.
    next_slot: Vec<Vec<u64>>,
    /// All slots in the order received, folded; equal for two clients that received the same messages in one order.
    order: u64,
}

impl OrderCheck {
    /// For groups of these sizes.
    pub(crate) fn new(group_sizes: &[usize]) -> Self {
        Self {
            next_slot: group_sizes.iter().map(|&size| vec![0; size]).collect(),
            order: 0,
        }
    }

    /// Whether the message may come now: with the right count at the end, that means each exactly once.
    pub(crate) fn accepts(&mut self, group: usize, member: usize, slot: u64) -> bool {
        // FNV-1a's step, over words instead of bytes: only equality matters.
        self.order = (self.order ^ (slot << 8 | group as u64)).wrapping_mul(0x0100_0000_01b3);
        let next = &mut self.next_slot[group][member];
        let in_order = slot >= *next;
        *next = slot + 1;
        in_order
    }

    pub(crate) fn order(&self) -> u64 {
        self.order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn witness_notices_twice_and_backwards_but_not_interleaving() {
        let mut order_check = OrderCheck::new(&[2]);
        assert!(order_check.accepts(0, 1, 5));
        assert!(
            order_check.accepts(0, 0, 2),
            "another sender's older message is fine"
        );
        assert!(!order_check.accepts(0, 1, 5), "twice");
        assert!(order_check.accepts(0, 1, 7));
        assert!(!order_check.accepts(0, 1, 6), "backwards");
    }

    #[test]
    fn closed_loop_is_corrected_for_what_was_not_sent_during_a_stall() {
        let mut latency = Latency::new();
        for _ in 0..9_999 {
            latency.record(0, 0, 100_000);
        }
        latency.record(0, 0, 1_000_000_000);
        latency.correct_closed_loop();
        assert!(latency.uncorrected.value_at_quantile(0.99) < 101_000);
        // A stall of 1 s at one message in 0.1 ms keeps 10,000 others waiting, 0.5 s in the middle.
        assert_eq!(latency.corrected.len().abs_diff(20_000) / 100, 0);
        assert!(
            latency
                .corrected
                .value_at_quantile(0.75)
                .abs_diff(500_000_000)
                < 10_000_000
        );
    }

    #[test]
    fn order_is_equal_only_for_the_same_order() {
        let received = |slots: &[u64]| {
            let mut order_check = OrderCheck::new(&[10]);
            for &slot in slots {
                order_check.accepts(0, 0, slot);
            }
            order_check.order()
        };
        assert_eq!(received(&[1, 2, 3]), received(&[1, 2, 3]));
        assert_ne!(received(&[1, 2, 3]), received(&[1, 3, 2]));
    }

    #[test]
    fn own_ports_running_out_is_not_the_servers_fault() {
        let of = |kind: io::ErrorKind| ErrorKind::of_connect(&kind.into());
        assert_eq!(
            of(io::ErrorKind::ConnectionRefused),
            ErrorKind::ConnectFailed
        );
        assert_eq!(of(io::ErrorKind::AddrNotAvailable), ErrorKind::OutOfPorts);
        // Two sockets of one address and port: what bind says when it finds no other.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let again = std::net::TcpListener::bind(taken.local_addr().unwrap());
        assert_eq!(
            ErrorKind::of_connect(&again.unwrap_err()),
            ErrorKind::OutOfPorts
        );
    }

    #[test]
    fn troubles_are_counted_apart() {
        let mut errors = ErrorCounts::default();
        errors.add(ErrorKind::WrongOrder, 2);
        errors.add(ErrorKind::ConnectFailed, 1);
        let seen: Vec<_> = errors.seen().collect();
        assert_eq!(
            seen,
            [(ErrorKind::ConnectFailed, 1), (ErrorKind::WrongOrder, 2)]
        );
    }
}
