//! The table of the user's guide, synchronous against asynchronous: each of its claims beside what was measured, and
//! whether it held, in a sentence that is made from the figures.

use serde::Serialize;

use super::metric::{self as m, Metric};
use super::runs::Runs;
use super::text::{Text, number, text};
use crate::plan::scenario::Scenario;

/// One row of the table.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Claim {
    /// What the guide says of the synchronous server, and of the asynchronous one.
    pub(crate) synchronous: Text,
    pub(crate) asynchronous: Text,
    /// What was measured to see.
    pub(crate) measured: Text,
    pub(crate) figures: Vec<Evidence>,
    pub(crate) held: Held,
    pub(crate) says: Text,
}

/// What one server showed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Evidence {
    pub(crate) server: String,
    pub(crate) shows: Text,
}

/// Whether a claim held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Held {
    Confirmed,
    Partly,
    Refuted,
    /// What it takes was not measured.
    Unknown,
}

/// The server on an event loop, and the one with a thread per client.
const ASYNC: &str = "evloop";
const SYNC: &str = "thread";
/// From here on others are said to feel it.
const FELT_FACTOR: f64 = 2.0;
/// Latencies below this differ by chance.
const FELT_LEAST_MS: f64 = 2.0;
/// A server that keeps newcomers waiting so long is serving one at a time.
const WAITING_MS: f64 = 500.0;
const DEARER_FACTOR: f64 = 1.5;
const THOUSANDS: f64 = 1_000.0;
/// The loop's own, and one that writes the log and serves no client.
const LOOP_THREADS_MAX: f64 = 2.0;

/// Whether both sides of the table took part.
pub(crate) fn has_both_models(runs: &Runs) -> bool {
    let took_part = |name: &str| runs.servers.iter().any(|server| server.name == name);
    took_part(ASYNC) && took_part(SYNC)
}

/// All rows, as far as the runs can tell.
pub(crate) fn judge(runs: &Runs) -> Vec<Claim> {
    vec![
        one_at_a_time(runs),
        blocking_waits(runs),
        thread_a_client(runs),
        thousands_on_one_thread(runs),
    ]
}

/// A figure before and after something was added to the load.
#[derive(Debug, Clone, Copy)]
struct Change {
    without: f64,
    with: f64,
}

impl Change {
    /// Between the first and the last case of a scenario.
    fn of(runs: &Runs, scenario: Scenario, server: &str, metric: &Metric) -> Option<Self> {
        let cases = runs.cases_of(scenario);
        let (first, last) = (cases.first()?, cases.last()?);
        if first == last {
            return None;
        }
        let median = |case: &str| Some(runs.summary(scenario, case, server, metric)?.median);
        Some(Self {
            without: median(first)?,
            with: median(last)?,
        })
    }

    fn is_felt(self) -> bool {
        self.with > FELT_LEAST_MS && self.with > self.without * FELT_FACTOR
    }
}

fn one_at_a_time(runs: &Runs) -> Claim {
    let of = |server: &str, metric: &Metric| Change::of(runs, Scenario::Stall, server, metric);
    let figures = evidence(runs, |server| {
        let (p99, rate) = (of(server, &m::P99)?, of(server, &m::HANDSHAKES)?);
        let [without, with, per_s] = [p99.without, p99.with, rate.with].map(number);
        Some(text!(
            "bắt tay p99 {without} → {with} ms, vẫn {per_s} lượt/s",
            "handshake p99 {without} → {with} ms, still {per_s}/s"
        ))
    });
    let (held, says) = match of(SYNC, &m::P99).zip(of(ASYNC, &m::P99)) {
        None => not_measured(),
        Some((sync, _)) if sync.with > WAITING_MS => {
            let waited = number(sync.with);
            let says = text!(
                "Đúng: người đến sau phải chờ tới {waited} ms sau những yêu cầu dở dang.",
                "Held: newcomers waited up to {waited} ms behind unfinished requests."
            );
            (Held::Confirmed, says)
        }
        Some((sync, asynchronous)) => {
            let [s, a] = [sync.with, asynchronous.with].map(number);
            (
                Held::Refuted,
                text!(
                    "Không đúng với mô hình một luồng mỗi client: một LUỒNG xử lý một client một lúc, nhưng máy chủ có \
                         nhiều luồng. Trong khi các yêu cầu dở dang vẫn treo, người mới vào được với p99 {s} ms (luồng) \
                         và {a} ms (vòng lặp sự kiện). Câu này chỉ đúng với máy chủ đồng bộ một luồng.",
                    "Did not hold for a thread per client: one THREAD handles one client at a time, but the server has \
                         many. While unfinished requests stood, newcomers got in with a p99 of {s} ms (threads) and {a} ms \
                         (event loop). The claim is true only of a synchronous server with a single thread."
                ),
            )
        }
    };
    Claim {
        synchronous: text!("Xử lý 1 request/lần", "Handles 1 request at a time"),
        asynchronous: text!(
            "Xử lý nhiều request đồng thời",
            "Handles many requests at once"
        ),
        measured: text!(
            "stall: bắt tay mới khi có các bắt tay dở dang",
            "stall: handshakes while others hang half-open"
        ),
        figures,
        held,
        says,
    }
}

fn blocking_waits(runs: &Runs) -> Claim {
    let of = |server: &str| Change::of(runs, Scenario::Slow, server, &m::P99);
    let figures = evidence(runs, |server| {
        let change = of(server)?;
        let [without, with] = [change.without, change.with].map(number);
        let mut shows = text!(
            "p99 của người khác {without} → {with} ms",
            "the others' p99 {without} → {with} ms"
        );
        if let Some(count) = runs.median(Scenario::Echo, server, &m::SWITCHES) {
            let count = number(count);
            shows.push(&text!(
                "; {count} lần chuyển ngữ cảnh / 1000 vòng echo",
                "; {count} context switches in 1,000 echoes"
            ));
        }
        Some(shows)
    });
    let (held, says) = match of(SYNC).zip(of(ASYNC)) {
        None => not_measured(),
        Some((sync, asynchronous)) => {
            let held = match (sync.is_felt(), asynchronous.is_felt()) {
                (true, false) => Held::Confirmed,
                (true, true) => Held::Partly,
                (false, _) => Held::Refuted,
            };
            (held, waits_sentence(held, sync, asynchronous))
        }
    };
    Claim {
        synchronous: text!("Blocking I/O → chờ đợi", "Blocking I/O → waits"),
        asynchronous: text!(
            "Non-blocking I/O → không chờ",
            "Non-blocking I/O → does not wait"
        ),
        measured: text!(
            "slow: độ trễ của người khác khi có client không bao giờ đọc",
            "slow: the others' latency while some never read"
        ),
        figures,
        held,
        says,
    }
}

fn waits_sentence(held: Held, sync: Change, asynchronous: Change) -> Text {
    let [s0, s1, a0, a1] = [
        sync.without,
        sync.with,
        asynchronous.without,
        asynchronous.with,
    ]
    .map(number);
    match held {
        Held::Confirmed => text!(
            "Đúng: luồng ghi cho client không đọc phải chờ, và người khác chờ theo (p99 {s0} → {s1} ms); vòng lặp sự \
                 kiện để phần chưa gửi trong hàng đợi rồi đi tiếp ({a0} → {a1} ms).",
            "Held: a thread that writes to a client that never reads waits, and others wait with it (p99 {s0} → {s1} ms); \
                 the event loop leaves what is unsent in a queue and goes on ({a0} → {a1} ms)."
        ),
        Held::Partly => text!(
            "Đúng một nửa: ở cả hai, người khác đều thấy chậm đi (luồng {s0} → {s1} ms, vòng lặp {a0} → {a1} ms).",
            "Held in part: the others felt it on both (threads {s0} → {s1} ms, event loop {a0} → {a1} ms)."
        ),
        Held::Refuted | Held::Unknown => text!(
            "Không thấy: luồng có chờ, nhưng chỉ luồng của client đó; hàng đợi gửi có giới hạn và thời hạn gửi giữ cho \
                 người khác không phải chờ (luồng {s0} → {s1} ms, vòng lặp {a0} → {a1} ms). Chờ ở đâu là do thiết kế hàng đợi, \
                 không chỉ do kiểu I/O.",
            "Not seen: a thread does wait, but only its own client's; a bounded outbox and a send timeout keep the others \
                 from waiting (threads {s0} → {s1} ms, event loop {a0} → {a1} ms). Who waits is a matter of the queue's \
                 design, not of the kind of I/O alone."
        ),
    }
}

fn thread_a_client(runs: &Runs) -> Claim {
    let memory = |server: &str| {
        let resident = runs.median(Scenario::Idle, server, &m::RESIDENT_PER_CLIENT)?;
        let kernel = runs
            .median(Scenario::Idle, server, &m::KERNEL_PER_CLIENT)
            .unwrap_or(0.0);
        Some((resident, kernel))
    };
    let threads = |server: &str| runs.median(Scenario::Idle, server, &m::THREADS);
    let figures = evidence(runs, |server| {
        let (resident, kernel) = memory(server)?;
        let [resident, kernel] = [resident, kernel].map(number);
        let threads = threads_text(threads(server)?);
        Some(Text::new(
            format!(
                "{resident} KiB mỗi client (+ {kernel} KiB trong nhân, hai đầu), {}",
                threads.vi
            ),
            format!(
                "{resident} KiB per client (+ {kernel} KiB in the kernel, both ends), {}",
                threads.en
            ),
        ))
    });
    let (held, says) = match memory(SYNC).zip(memory(ASYNC)) {
        None => not_measured(),
        Some((sync, asynchronous)) => {
            let factor =
                (sync.0 + sync.1) / (asynchronous.0 + asynchronous.1).max(f64::MIN_POSITIVE);
            let (held, vi, en) = if factor > DEARER_FACTOR {
                (Held::Confirmed, "Đúng", "Held")
            } else {
                (Held::Refuted, "Không thấy", "Not seen")
            };
            let factor = number(factor);
            let mut says = text!(
                "{vi}: một client nhàn rỗi tốn gấp {factor} lần bộ nhớ, kể cả ngăn xếp của luồng trong nhân.",
                "{en}: an idle client costs {factor} times the memory, its thread's kernel stack included."
            );
            says.push(&why(runs));
            (held, says)
        }
    };
    Claim {
        synchronous: text!(
            "1 thread/client → tốn tài nguyên",
            "1 thread per client → costs resources"
        ),
        asynchronous: text!("Event loop → hiệu quả cao", "Event loop → efficient"),
        measured: text!(
            "idle: bộ nhớ và luồng; echo, fanout: CPU mỗi lần giao",
            "idle: memory and threads; echo, fanout: CPU per delivery"
        ),
        figures,
        held,
        says,
    }
}

/// Where the difference in CPU comes from, as far as the figures tell: an echo each, or a delivery in a room of one size
/// at one rate.
fn why(runs: &Runs) -> Text {
    let pair = |scenario: Scenario, metric: &Metric| {
        let of = |server: &str| runs.median(scenario, server, metric);
        let (sync, asynchronous) = of(SYNC).zip(of(ASYNC))?;
        Some([sync, asynchronous, sync / asynchronous].map(number))
    };
    let mut why = Text::same("");
    if let Some([s, a, times]) = pair(Scenario::Echo, &m::CPU_PER_DELIVERY) {
        why.push(&text!(
            " Một vòng echo tốn {s} µs CPU (luồng) so với {a} µs (vòng lặp), gấp {times} lần",
            " An echo costs {s} µs of CPU on threads and {a} µs on the loop, {times} times as much"
        ));
        if let Some([s, a, _]) = pair(Scenario::Echo, &m::SWITCHES) {
            why.push(&text!(
                ": {s} lần chuyển ngữ cảnh trong 1000 vòng so với {a}",
                ": {s} context switches in 1,000 echoes against {a}"
            ));
        }
        why.push(&Text::same("."));
    }
    if let Some([s, a, times]) = pair(Scenario::Fanout, &m::CPU_PER_DELIVERY) {
        why.push(&text!(" Trong phòng cùng cỡ, cùng nhịp tin, mỗi lần giao tốn {s} so với {a} µs, gấp {times} lần.", " In a room of the same size at the same rate a delivery costs {s} against {a} µs, {times} times as much."));
    }
    if let Some(change) = Change::of(runs, Scenario::Fanout, ASYNC, &m::CPU_PER_DELIVERY)
        && change.with < change.without
    {
        let [one, many] = [change.without, change.with].map(number);
        why.push(&text!(" Mỗi lần ghi mang theo mọi tin từ lần trước: tin dày lên, mỗi lần giao trên vòng lặp rẻ đi từ {one} xuống {many} µs.", " A write carries all that was said since the last: as messages come faster, a delivery on the loop falls \
                 from {one} to {many} µs."));
    }
    why
}

fn thousands_on_one_thread(runs: &Runs) -> Claim {
    let room = |server: &str| {
        let size = runs.median(Scenario::Room, server, &m::LARGEST_ROOM)?;
        let threads = runs.median(Scenario::Room, server, &m::THREADS)?;
        let rate = runs.median(Scenario::Room, server, &m::DELIVERIES)?;
        Some((size, threads, rate))
    };
    let figures = evidence(runs, |server| {
        let (size, threads, rate) = room(server)?;
        let (threads, [size, rate]) = (threads_text(threads), [size, rate].map(number));
        Some(Text::new(
            format!("phòng {size} client, {}, {rate} lần giao/s", threads.vi),
            format!("a room of {size}, {}, {rate} deliveries/s", threads.en),
        ))
    });
    let (held, says) = match room(ASYNC) {
        None => not_measured(),
        Some((size, threads, _)) => {
            let held = if size >= THOUSANDS && threads <= LOOP_THREADS_MAX {
                Held::Confirmed
            } else {
                Held::Refuted
            };
            let (size, shown) = (number(size), threads_text(threads));
            let (vi, en) = if held == Held::Confirmed {
                ("Đúng", "Held")
            } else {
                ("Không đúng", "Did not hold")
            };
            let (threads_vi, threads_en) = (shown.vi, shown.en);
            let mut says = text!(
                "{vi}: {size} client cùng nói mỗi giây một câu trên {threads_vi}, p99 không quá 100 ms.",
                "{en}: {size} clients, each speaking once a second, on {threads_en} with p99 at most 100 ms."
            );
            if held == Held::Confirmed && threads > 1.0 {
                says.push(&text!(
                    " Luồng kia ghi nhật ký, không phục vụ client nào.",
                    " The other thread writes the log and serves no client."
                ));
            }
            if let Some((size, threads, _)) = room(SYNC) {
                let [size, threads] = [size, threads].map(number);
                says.push(&text!(
                    " Một luồng mỗi client: {size} client với {threads} luồng.",
                    " A thread per client: {size} clients on {threads} threads."
                ));
            }
            (held, says)
        }
    };
    Claim {
        synchronous: text!("– (mỗi client một luồng)", "– (a thread for each)"),
        asynchronous: text!(
            "Hàng ngàn connections đồng thời trên 1 thread",
            "Thousands of connections at once on 1 thread"
        ),
        measured: text!(
            "room: phòng lớn nhất có p99 ≤ 100 ms",
            "room: the largest with p99 ≤ 100 ms"
        ),
        figures,
        held,
        says,
    }
}

fn threads_text(count: f64) -> Text {
    let shown = number(count);
    let plural = if count > 1.0 { "s" } else { "" };
    text!("{shown} luồng", "{shown} thread{plural}")
}

fn evidence(runs: &Runs, of: impl Fn(&str) -> Option<Text>) -> Vec<Evidence> {
    let shown = |name: &String| {
        Some(Evidence {
            server: name.clone(),
            shows: of(name)?,
        })
    };
    runs.servers
        .iter()
        .filter_map(|server| shown(&server.name))
        .collect()
}

fn not_measured() -> (Held, Text) {
    let says = text!(
        "Chưa đo đủ: cần cả evloop và thread, và kịch bản của hàng này.",
        "Not measured: it takes both evloop and thread, and this row's scenario."
    );
    (Held::Unknown, says)
}

impl Held {
    pub(crate) fn label(self) -> Text {
        let (vi, en) = match self {
            Self::Confirmed => ("đúng", "held"),
            Self::Partly => ("đúng một phần", "held in part"),
            Self::Refuted => ("không đúng", "did not hold"),
            Self::Unknown => ("chưa đo", "not measured"),
        };
        Text::new(vi, en)
    }
}
