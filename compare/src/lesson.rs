//! The six lessons of the lab: each a question, the load that answers it in under a minute, and a verdict that is made
//! from the figures.

use crate::plan::scenario::Scenario;
use crate::results::claims::Held;
use crate::results::metric::{self as m, Metric};
use crate::results::runs::Runs;
use crate::results::text::{Text, isolated, number, text};

/// One of the six.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lesson {
    OneLoop,
    ThreadPerClient,
    SlowReader,
    BlockingCall,
    NaiveFanOut,
    CoordinatedOmission,
}

/// What was seen, in a sentence, and whether the lesson showed.
pub(crate) struct Verdict {
    pub(crate) held: Held,
    pub(crate) says: Text,
}

const PROMISE_MS: f64 = 100.0;
/// The loop's own thread, and one that writes the log.
const LOOP_THREADS_MAX: f64 = 2.0;
const DEARER_FACTOR: f64 = 1.5;
/// From here on a wait is felt.
const FELT_FACTOR: f64 = 3.0;
const FELT_LEAST_MS: f64 = 10.0;
/// A loop that does nothing for this long, once a second.
pub(crate) const STALL: [&str; 4] = ["--stall", "200ms", "--stall-every", "1s"];
pub(crate) const FREE: &str = "loop";
pub(crate) const BLOCKED: &str = "blocked-loop";

impl Lesson {
    pub(crate) const ALL: [Self; 6] = [
        Self::OneLoop,
        Self::ThreadPerClient,
        Self::SlowReader,
        Self::BlockingCall,
        Self::NaiveFanOut,
        Self::CoordinatedOmission,
    ];

    pub(crate) fn by_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    pub(crate) fn title(self) -> Text {
        let (vi, en) = match self {
            Self::OneLoop => (
                "Bài 1: một vòng lặp phục vụ hàng ngàn người",
                "Lesson 1: one loop serves thousands",
            ),
            Self::ThreadPerClient => (
                "Bài 2: mỗi client một luồng, và bộ nhớ của nó",
                "Lesson 2: a thread per client, and its memory",
            ),
            Self::SlowReader => ("Bài 3: người đọc chậm", "Lesson 3: the slow reader"),
            Self::BlockingCall => (
                "Bài 4: một lời gọi chặn làm cả vòng lặp đứng lại",
                "Lesson 4: one blocking call stops a loop",
            ),
            Self::NaiveFanOut => (
                "Bài 5: gửi từng tin cho từng người, hay chung một nhật ký",
                "Lesson 5: a send per message and member, or a shared log",
            ),
            Self::CoordinatedOmission => (
                "Bài 6: bỏ sót có phối hợp (coordinated omission)",
                "Lesson 6: coordinated omission",
            ),
        };
        Text::new(vi, en)
    }

    pub(crate) fn look_for(self) -> Text {
        let (vi, en) = match self {
            Self::OneLoop => (
                "3.000 người trong một phòng, ai cũng nói mỗi giây một câu: 9 triệu lần giao mỗi giây. Nhìn số luồng, và p99.",
                "3,000 people in one room, everyone speaks once a second: 9 million deliveries a second. Look at the threads, and at the p99.",
            ),
            Self::ThreadPerClient => (
                "5.000 client nhàn rỗi trên mỗi máy chủ. Nhìn số luồng, và bộ nhớ mỗi client, cả phần của nhân.",
                "5,000 idle clients on each server. Look at the threads, and at the memory per client, the kernel's part too.",
            ),
            Self::SlowReader => (
                "Cùng một đám đông, không có rồi có những người không bao giờ đọc. Nhìn p99 của những người khác đổi thế nào.",
                "The same crowd without and with members that never read. Look at how the others' p99 changes.",
            ),
            Self::BlockingCall => (
                "Một vòng lặp, rồi cũng vòng lặp ấy mà mỗi giây có một lời gọi chặn 200 ms. Nhìn p99 của tất cả mọi người.",
                "A loop, and the same loop with one blocking call of 200 ms a second. Look at everybody's p99.",
            ),
            Self::NaiveFanOut => (
                "Một phòng 200 người, 2.000 tin mỗi giây. Nhìn CPU mỗi lần giao: nhật ký chung gộp nhiều tin vào một lần gửi.",
                "A room of 200, 2,000 messages a second. Look at the CPU per delivery: a shared log puts many messages into one send.",
            ),
            Self::CoordinatedOmission => (
                "Một máy chủ đứng 200 ms mỗi giây. Nhìn p99 đã và chưa hiệu chỉnh: công cụ đợi câu trả lời rồi mới hỏi tiếp thì không thấy gì.",
                "A server that stands still for 200 ms a second. Look at the p99 corrected and uncorrected: a tool that waits for each answer before it asks again hardly sees it.",
            ),
        };
        Text::new(vi, en)
    }

    /// What the figures say.
    pub(crate) fn judge(self, runs: &Runs) -> Verdict {
        let judged = match self {
            Self::OneLoop => one_loop(runs),
            Self::ThreadPerClient => thread_per_client(runs),
            Self::SlowReader => slow_reader(runs),
            Self::BlockingCall => blocking_call(runs),
            Self::NaiveFanOut => naive_fan_out(runs),
            Self::CoordinatedOmission => coordinated_omission(runs),
        };
        judged.unwrap_or_else(|| Verdict {
            held: Held::Unknown,
            says: text!(
                "Chưa đo được: xem lý do ở trên.",
                "Not measured: the reason stands above."
            ),
        })
    }
}

fn verdict(holds: bool, says: Text) -> Verdict {
    let held = if holds {
        Held::Confirmed
    } else {
        Held::Refuted
    };
    Verdict { held, says }
}

fn one_loop(runs: &Runs) -> Option<Verdict> {
    let of = |metric: &Metric| runs.median(Scenario::Room, "evloop", metric);
    let case = runs.last_case(Scenario::Room)?;
    let (p99, threads, rate) = (of(&m::P99)?, of(&m::THREADS)?, of(&m::DELIVERIES)?);
    let correct = runs.is_correct(Scenario::Room, case, "evloop");
    let holds = correct && p99 <= PROMISE_MS && threads <= LOOP_THREADS_MAX;
    let [p99, threads, rate] = [p99, threads, rate].map(number);
    let all_vi = if correct {
        "đủ cả, đúng thứ tự"
    } else {
        "nhưng không đủ"
    };
    let all_en = if correct {
        "all made, in order"
    } else {
        "but not all of them made"
    };
    Some(verdict(
        holds,
        text!(
            "{rate} lần giao mỗi giây, {all_vi}, p99 {p99} ms, trên {threads} luồng (một luồng phục vụ, một luồng ghi nhật ký).",
            "{rate} deliveries a second, {all_en}, p99 {p99} ms, on {threads} threads (one serves, one writes the log)."
        ),
    ))
}

fn thread_per_client(runs: &Runs) -> Option<Verdict> {
    let memory = |server: &str| {
        let of = |metric: &Metric| runs.median(Scenario::Idle, server, metric);
        Some(of(&m::RESIDENT_PER_CLIENT)? + of(&m::KERNEL_PER_CLIENT).unwrap_or(0.0))
    };
    let threads = |server: &str| runs.median(Scenario::Idle, server, &m::THREADS);
    let (one, each) = (memory("evloop")?, memory("thread")?);
    let (one_threads, each_threads) = (threads("evloop")?, threads("thread")?);
    let holds = each > one * DEARER_FACTOR && each_threads > one_threads;
    let times = number(each / one);
    let [one, each, one_threads, each_threads] = [one, each, one_threads, each_threads].map(number);
    Some(verdict(
        holds,
        text!(
            "Một luồng mỗi client: {each_threads} luồng, {each} KiB mỗi client (tính cả nhân). Vòng lặp: {one_threads} luồng, {one} KiB. Gấp {times} lần.",
            "A thread per client: {each_threads} threads, {each} KiB per client (the kernel's part included). The loop: {one_threads} threads, {one} KiB. {times} times as much."
        ),
    ))
}

fn is_felt((without, with): (f64, f64)) -> bool {
    with > FELT_LEAST_MS && with > without * FELT_FACTOR
}

/// The p99 of the others without and with members that never read; where nothing reached them in time, no p99.
fn slow_reader(runs: &Runs) -> Option<Verdict> {
    let cases = runs.cases_of(Scenario::Slow);
    let (first, last) = (*cases.first()?, *cases.last()?);
    let p99 = |case: &str, server: &str| {
        let summary = runs.summary(Scenario::Slow, case, server, &m::P99);
        summary.map(|summary| summary.median)
    };
    let mut says = text!("p99 của người khác: ", "The others' p99: ");
    for server in &runs.servers {
        let shown = |case| {
            let value = p99(case, &server.name);
            value.map_or_else(
                || text!("không gì tới", "nothing came"),
                |value| Text::same(format!("{} ms", number(value))),
            )
        };
        let (name, without, with) = (isolated(&server.name), shown(first), shown(last));
        says.push(&Text::new(
            format!("{name} {} → {}; ", without.vi, with.vi),
            format!("{name} {} → {}; ", without.en, with.en),
        ));
    }
    let waits = |server: &str| {
        let without = p99(first, server)?;
        Some(p99(last, server).is_none_or(|with| is_felt((without, with))))
    };
    says.push(&if waits("thread:direct")? {
        text!(
            "ghi thẳng thì luồng ghi phải chờ người không đọc, và mọi người chờ theo; hàng đợi riêng có giới hạn thì không.",
            "written to directly, a member that does not read keeps the writer waiting, and everybody with it; bounded outboxes do not."
        )
    } else {
        text!(
            "lần này không ai thấy chậm đi nhiều, kể cả khi ghi thẳng.",
            "this time nobody felt much of it, not even where it was written directly."
        )
    });
    let waits_nowhere = !waits("evloop")? && !waits("thread")?;
    Some(verdict(waits_nowhere && waits("thread:direct")?, says))
}

fn blocking_call(runs: &Runs) -> Option<Verdict> {
    let of = |server: &str| runs.median(Scenario::Fanout, server, &m::P99);
    let (free, blocked) = (of(FREE)?, of(BLOCKED)?);
    let holds = is_felt((free, blocked));
    let [free, blocked] = [free, blocked].map(number);
    Some(verdict(
        holds,
        text!(
            "Vòng lặp tự do: p99 {free} ms. Với một lời gọi chặn 200 ms mỗi giây: p99 {blocked} ms, cho tất cả mọi người. Trên mô hình luồng chỉ luồng gọi phải đứng; hãy giữ lời gọi chặn ra ngoài vòng lặp.",
            "The loop left alone: p99 {free} ms. With one blocking call of 200 ms a second: p99 {blocked} ms, for everybody. Of threads only the one that calls would stand still; keep blocking calls out of a loop."
        ),
    ))
}

fn naive_fan_out(runs: &Runs) -> Option<Verdict> {
    let of = |server: &str| runs.median(Scenario::Fanout, server, &m::CPU_PER_DELIVERY);
    let (shared, direct) = (of("thread")?, of("thread:direct")?);
    let looped = of("evloop")?;
    let times = number(direct / shared);
    let holds = direct > shared * DEARER_FACTOR;
    let [shared, direct, looped] = [shared, direct, looped].map(number);
    Some(verdict(
        holds,
        text!(
            "CPU mỗi lần giao: gửi từng tin {direct} µs, nhật ký chung {shared} µs (gấp {times} lần), vòng lặp với nhật ký chung {looped} µs.",
            "CPU per delivery: a send per message and member {direct} µs, the shared log {shared} µs ({times} times as much), the loop with the shared log {looped} µs."
        ),
    ))
}

fn coordinated_omission(runs: &Runs) -> Option<Verdict> {
    let of = |metric: &Metric| runs.median(Scenario::Echo, BLOCKED, metric);
    let (corrected, uncorrected) = (of(&m::P99)?, of(&m::UNCORRECTED_P99)?);
    let holds = corrected > uncorrected * FELT_FACTOR;
    let [corrected, uncorrected] = [corrected, uncorrected].map(number);
    Some(verdict(
        holds,
        text!(
            "Từ lúc đến hạn: p99 {corrected} ms, đúng như người dùng thấy. Từ lúc gửi: p99 {uncorrected} ms, vì trong lúc máy chủ đứng thì không có gì được gửi để mà đo.",
            "From when each was due: p99 {corrected} ms, as users feel it. From when it was sent: p99 {uncorrected} ms, because while the server stood still nothing was sent that could have been measured."
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lessons_are_numbered_as_they_are_titled() {
        for number in 1..=6 {
            let lesson = Lesson::by_number(number).unwrap();
            assert!(lesson.title().en.starts_with(&format!("Lesson {number}:")));
            assert!(lesson.title().vi.starts_with(&format!("Bài {number}:")));
        }
        assert_eq!(Lesson::by_number(0), None);
        assert_eq!(Lesson::by_number(7), None);
    }
}
