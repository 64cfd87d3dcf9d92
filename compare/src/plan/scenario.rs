//! The scenarios: the questions that are asked of a server. The loads that answer them are in [`case`](crate::plan::case).

use clap::ValueEnum;

use crate::results::metric::{self, Metric};
use crate::results::text::Text;

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Scenario {
    /// All clients in the chat room, nobody speaks: memory and threads a client
    Idle,
    /// Handshakes a second; and a storm: all connections drop, all clients come back at once
    Connect,
    /// Round trips to /ws/echo, one message in flight a client: closed loop, or paced with --rate
    Echo,
    /// One room, everyone in it speaks once a second: the largest with p99 at most 100 ms
    Room,
    /// One room of a fixed size, more and more messages a second
    Fanout,
    /// Subscribers of the dashboard: how late its ticks come
    Dashboard,
    /// Some clients never read: what the others feel
    Slow,
    /// A flood of messages over the rate limit: what the others feel
    Spam,
    /// Half-open handshakes: what clients feel that come meanwhile
    Stall,
    /// A day in the life: talkers, listeners, dashboards, passers-by and a few that never read
    Mixed,
}

impl Scenario {
    /// In the order in which they run: what depends on a quiet machine first.
    pub(crate) const ALL: [Self; 10] = [
        Self::Idle,
        Self::Connect,
        Self::Echo,
        Self::Room,
        Self::Fanout,
        Self::Dashboard,
        Self::Slow,
        Self::Spam,
        Self::Stall,
        Self::Mixed,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connect => "connect",
            Self::Echo => "echo",
            Self::Room => "room",
            Self::Fanout => "fanout",
            Self::Dashboard => "dashboard",
            Self::Slow => "slow",
            Self::Spam => "spam",
            Self::Stall => "stall",
            Self::Mixed => "mixed",
        }
    }

    pub(crate) fn title(self) -> Text {
        let (vi, en) = match self {
            Self::Idle => (
                "Client nhàn rỗi tốn bao nhiêu?",
                "What does an idle client cost?",
            ),
            Self::Connect => ("Bắt tay nhanh đến đâu?", "How fast are handshakes?"),
            Self::Echo => ("Một vòng đi về mất bao lâu?", "How long is a round trip?"),
            Self::Room => (
                "Phòng lớn nhất mà ai cũng nói mỗi giây một câu (p99 ≤ 100 ms)",
                "The largest room where everyone speaks once a second (p99 ≤ 100 ms)",
            ),
            Self::Fanout => (
                "Một phòng, tin nhắn mỗi lúc một dày",
                "One room, messages come faster and faster",
            ),
            Self::Dashboard => (
                "Nhịp dashboard trễ bao nhiêu?",
                "How late do dashboard ticks come?",
            ),
            Self::Slow => (
                "Vài client không bao giờ đọc: người khác thấy gì?",
                "Some never read: what do the others feel?",
            ),
            Self::Spam => (
                "Spam vượt giới hạn: người khác thấy gì?",
                "Spam over the limit: what do the others feel?",
            ),
            Self::Stall => (
                "Bắt tay dở dang: người đến sau có phải chờ?",
                "Half-open handshakes: do newcomers have to wait?",
            ),
            Self::Mixed => ("Một ngày bình thường", "A day in the life"),
        };
        Text::new(vi, en)
    }

    /// The figures that answer its question, the most telling first.
    pub(crate) fn headlines(self) -> &'static [&'static Metric] {
        use metric as m;
        match self {
            Self::Idle => &[
                &m::RESIDENT_PER_CLIENT,
                &m::KERNEL_PER_CLIENT,
                &m::THREADS,
                &m::CPU,
            ],
            Self::Connect => &[
                &m::HANDSHAKES,
                &m::CPU_PER_VISIT,
                &m::CPU_PER_JOIN,
                &m::STORM,
                &m::P99,
            ],
            Self::Echo => &[
                &m::P50,
                &m::P99,
                &m::DELIVERIES,
                &m::CPU_PER_DELIVERY,
                &m::SWITCHES,
            ],
            Self::Room => &[
                &m::LARGEST_ROOM,
                &m::DELIVERIES,
                &m::P99,
                &m::CPU_PER_DELIVERY,
                &m::SWITCHES,
            ],
            Self::Fanout => &[&m::P50, &m::P99, &m::DELIVERIES, &m::CPU_PER_DELIVERY],
            Self::Dashboard => &[&m::P99, &m::MAX, &m::CPU],
            Self::Slow => &[&m::P99, &m::P50, &m::RESIDENT],
            Self::Spam => &[&m::P99, &m::REFUSED, &m::CPU],
            Self::Stall => &[&m::P99, &m::HANDSHAKES, &m::CPU_PER_VISIT],
            Self::Mixed => &[&m::P99, &m::TICK_P99, &m::CPU, &m::RESIDENT],
        }
    }
}
