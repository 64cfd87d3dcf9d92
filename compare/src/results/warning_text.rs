//! The words of each warning: what is doubtful, and what to do about it.

use super::text::{Text, isolated, number, text};
use super::warning::{Doubt, Warning};

impl Warning {
    /// What is doubtful.
    pub(crate) fn says(&self) -> Text {
        let Text { vi, en } = self.doubt.says();
        match &self.at {
            Some(at) => {
                let (server, scenario, case) = (isolated(&at.server), at.scenario.name(), &at.case);
                text!(
                    "{server} · {scenario} · {case}: {vi}",
                    "{server} · {scenario} · {case}: {en}"
                )
            }
            None => Text { vi, en },
        }
    }

    /// What to do.
    pub(crate) fn advice(&self) -> Text {
        self.doubt.advice()
    }
}

impl Doubt {
    fn says(&self) -> Text {
        match self {
            Self::GeneratorSaturated {
                cpu_percent,
                late_p99_ms,
                own_p99_ms,
            } => generator_saturated(*cpu_percent, *late_p99_ms, *own_p99_ms),
            Self::RunsDisagree {
                metric,
                spread_percent,
            } => {
                let spread = number(*spread_percent);
                text!(
                    "các lần đo {metric} chênh nhau {spread} %.",
                    "the runs of {metric} differ by {spread}%."
                )
            }
            Self::SearchEnded { clients } => {
                let clients = number(*clients as f64);
                text!(
                    "ít nhất {clients} client; cỡ lớn hơn không được thử.",
                    "at least {clients} clients; no larger size was tried."
                )
            }
            Self::MachineNoisy {
                runs,
                of,
                others_percent,
                steal_percent,
            } => {
                let [others, steal] = [*others_percent, *steal_percent].map(number);
                text!(
                    "Máy không yên: {runs}/{of} lần đo có tiến trình khác dùng tới {others} % một lõi, máy ảo khác lấy tới {steal} %.",
                    "The machine was busy: in {runs} of {of} runs others used up to {others}% of a core, other virtual machines up to {steal}%."
                )
            }
            Self::TooFewSamples { samples } => text!(
                "p99 chỉ từ {samples} mẫu.",
                "this p99 comes from {samples} samples only."
            ),
            Self::NotCorrect {
                clients_short,
                clients_over,
                errors,
            } => text!(
                "{clients_short} client thiếu tin, {clients_over} client thừa tin. {errors}",
                "{clients_short} clients lack messages, {clients_over} have too many. {errors}"
            ),
            Self::Failed { reason } => Text::same(reason.as_str()),
            Self::DescriptorLimit { wanted, limit } => text!(
                "Giới hạn tệp mở là {limit}, cần {wanted}: bỏ qua những cỡ lớn nhất.",
                "The limit of open files is {limit}, {wanted} are needed: the largest sizes were left out."
            ),
            Self::NotPinned { reason } => text!(
                "Máy chủ và bộ sinh tải không được ghim vào lõi riêng ({reason}).",
                "Server and generator are not pinned to cores of their own ({reason})."
            ),
            Self::OneRunOnly => text!(
                "Mỗi phép đo chỉ chạy một lần: không biết độ phân tán nên không nêu bên nào hơn.",
                "Everything was measured once: no spread is known, so no winner is named."
            ),
        }
    }

    fn advice(&self) -> Text {
        let (vi, en) = match self {
            Self::GeneratorSaturated { .. } => (
                "Máy chủ có thể nhanh hơn con số này: hãy so CPU mỗi lần giao, giảm --rate hoặc --clients, hoặc dùng lõi nhanh hơn.",
                "The server may be better than this figure: compare the CPU per delivery, lower --rate or --clients, or use faster cores.",
            ),
            Self::RunsDisagree { .. } => (
                "Đóng chương trình khác, rồi chạy lại với --repeats lớn hơn hoặc --window dài hơn.",
                "Close other programs, then run again with more --repeats or a longer --window.",
            ),
            Self::SearchEnded { .. } => (
                "Bỏ --quick, hoặc đo cỡ lớn hơn bằng --clients.",
                "Leave out --quick, or measure a larger size with --clients.",
            ),
            Self::MachineNoisy { .. } => (
                "Đóng chương trình khác (trình duyệt, trình biên dịch) rồi chạy lại; trên máy ảo, chọn giờ vắng.",
                "Close other programs (browsers, compilers) and run again; on a virtual machine choose a quiet hour.",
            ),
            Self::TooFewSamples { .. } => (
                "Tăng --window hoặc --sampled.",
                "Use a longer --window, or more --sampled clients.",
            ),
            Self::OneRunOnly => (
                "Bỏ --quick, hoặc dùng --repeats 3 trở lên.",
                "Leave out --quick, or use --repeats 3 or more.",
            ),
            Self::DescriptorLimit { .. } => (
                "Chạy `ulimit -n 65536` trước.",
                "Run `ulimit -n 65536` first.",
            ),
            Self::NotPinned { .. } => (
                "Hai bên tranh nhau CPU: chạy trên Linux với ít nhất hai lõi, bỏ --no-pin.",
                "They compete for the CPU: run on Linux with two cores or more, without --no-pin.",
            ),
            Self::NotCorrect { .. } => (
                "Đừng so sánh dòng này: máy chủ bỏ sót thì lúc nào cũng nhanh. Giảm tải rồi đo lại.",
                "Do not compare this row: a server that drops is fast. Measure again with less load.",
            ),
            Self::Failed { .. } => (
                "Xem servers.log trong thư mục báo cáo.",
                "See servers.log in the report's directory.",
            ),
        };
        Text::new(vi, en)
    }
}

fn generator_saturated(cpu_percent: f64, late_p99_ms: f64, own_p99_ms: Option<f64>) -> Text {
    let [cpu, late] = [cpu_percent, late_p99_ms].map(number);
    let mut says = text!(
        "bộ sinh tải cần {cpu} % một lõi, gửi trễ p99 {late} ms – có thể đang đo chính nó.",
        "the generator needed {cpu}% of a core and sent up to {late} ms late (p99); it may be what was measured."
    );
    if let Some(own) = own_p99_ms.map(number) {
        says.push(&text!(
            " Tin đã tới nằm chờ nó đọc p99 {own} ms.",
            " What had arrived waited {own} ms (p99) to be read by it."
        ));
    }
    says
}
