//! What to doubt about the figures, and what to do about it.

use serde::Serialize;

use crate::plan::scenario::Scenario;
use crate::results::metric::{Measured, Metric};
use crate::results::stats::Summary;
use crate::results::text::{Text, number};
use crate::results::{Results, Run, RunResult};

/// A doubt.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Warning {
    /// What was measured may have been the generator.
    GeneratorSaturated {
        at: Place,
        cpu_percent: f64,
        late_p99_ms: f64,
    },
    /// The repeats of a headline figure lie far apart.
    RunsDisagree {
        at: Place,
        metric: &'static str,
        spread_percent: f64,
    },
    /// A search that ended at its largest size, which passed.
    SearchEnded {
        at: Place,
        clients: usize,
    },
    /// Something else was running.
    MachineNoisy {
        runs: usize,
        of: usize,
        others_percent: f64,
        steal_percent: f64,
    },
    /// A p99 from so few is an anecdote.
    TooFewSamples {
        at: Place,
        samples: u64,
    },
    /// Nothing was repeated, so no spread is known.
    OneRunOnly,
    /// Cases that need more descriptors than this process may have.
    DescriptorLimit {
        wanted: u64,
        limit: u64,
    },
    /// Server and generator share their cores.
    NotPinned {
        reason: String,
    },
    /// A server that drops is fast.
    NotCorrect {
        at: Place,
        clients_short: usize,
        clients_over: usize,
        errors: String,
    },
    Failed {
        at: Place,
        reason: String,
    },
}

/// Where something was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
    pub(crate) server: String,
    pub(crate) scenario: &'static str,
    pub(crate) case: String,
}

/// Above this share of a core the generator may be what is measured.
const GENERATOR_CPU_MAX: f64 = 0.8;
/// The generator's own lateness may be this part of the latency before it counts.
const GENERATOR_LATE_SHARE_MAX: f64 = 0.25;
const GENERATOR_LATE_MS_LEAST: f64 = 2.0;
const SPREAD_MAX: f64 = 0.25;
/// What others may take of a core.
const OTHERS_CPU_MAX: f64 = 0.1;
const STEAL_MAX: f64 = 0.02;
/// A p99 has ten samples above it at this many.
const SAMPLES_LEAST: u64 = 1_000;

/// Looks for everything to doubt in the runs so far.
pub(crate) fn find(results: &Results) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = Vec::new();
    for run in &results.runs {
        let place = Place {
            server: run.server.clone(),
            scenario: run.scenario.name(),
            case: run.case.clone(),
        };
        let found = match &run.result {
            RunResult::Failed(reason) => vec![Warning::Failed {
                at: place,
                reason: reason.clone(),
            }],
            RunResult::Measured(measured) => of_run(measured, &place),
        };
        for warning in found {
            // One repeat is enough to say it.
            if !warnings.iter().any(|earlier| earlier.same_matter(&warning)) {
                warnings.push(warning);
            }
        }
    }
    warnings.extend(disagreements(results));
    warnings.extend(noise(&results.runs));
    if results.repeats == 1 && !results.runs.is_empty() {
        warnings.push(Warning::OneRunOnly);
    }
    if let Some(reason) = &results.environment.not_pinned {
        warnings.push(Warning::NotPinned {
            reason: reason.clone(),
        });
    }
    if let Some((wanted, limit)) = results.environment.descriptors_missing {
        warnings.push(Warning::DescriptorLimit { wanted, limit });
    }
    warnings
}

fn of_run(measured: &Measured, at: &Place) -> Vec<Warning> {
    let figures = &measured.figures;
    let latency = figures.latency();
    let mut found = Vec::new();
    let late_p99_ms = figures.generator.late_ms.p99;
    let late = late_p99_ms > GENERATOR_LATE_MS_LEAST
        && late_p99_ms > latency.p99 * GENERATOR_LATE_SHARE_MAX;
    // A generator that has to wait for its core is as short of it as one that has used it up.
    let cpu = figures.generator.cpu.unwrap_or(0.0) + figures.generator.waited.unwrap_or(0.0);
    if late || cpu > GENERATOR_CPU_MAX {
        found.push(Warning::GeneratorSaturated {
            at: at.clone(),
            cpu_percent: cpu * 100.0,
            late_p99_ms,
        });
    }
    if latency.count > 0 && latency.count < SAMPLES_LEAST {
        found.push(Warning::TooFewSamples {
            at: at.clone(),
            samples: latency.count,
        });
    }
    if let Some(clients) = measured.largest_room
        && measured.open_ended
    {
        found.push(Warning::SearchEnded {
            at: at.clone(),
            clients,
        });
    }
    if !figures.is_correct() {
        let errors = figures
            .errors
            .iter()
            .map(|(kind, count)| format!("{}: {count}", kind.label()));
        let mut errors: Vec<String> = errors.collect();
        if figures.orders > 1 {
            errors.push(format!("orders heard: {}", figures.orders));
        }
        found.push(Warning::NotCorrect {
            at: at.clone(),
            clients_short: figures.clients_short,
            clients_over: figures.clients_over,
            errors: errors.join(", "),
        });
    }
    found
}

fn disagreements(results: &Results) -> Vec<Warning> {
    let mut found = Vec::new();
    for (scenario, case) in results.cases() {
        for server in &results.servers {
            let place = || Place {
                server: server.name.clone(),
                scenario: scenario.name(),
                case: case.to_owned(),
            };
            let spread = |metric: &&&Metric| results.summary(scenario, case, &server.name, metric);
            let headline = scenario
                .headlines()
                .iter()
                .find(|metric| spread(metric).is_some());
            if let Some(metric) = headline
                && let Some(summary) = spread(&metric)
                && disagrees(scenario, &summary)
            {
                let spread_percent = summary.spread() * 100.0;
                found.push(Warning::RunsDisagree {
                    at: place(),
                    metric: metric.name,
                    spread_percent,
                });
            }
        }
    }
    found
}

fn disagrees(scenario: Scenario, summary: &Summary) -> bool {
    // A search can be no more certain than its steps.
    let allowed = if scenario == Scenario::Room {
        2.0 * SPREAD_MAX
    } else {
        SPREAD_MAX
    };
    summary.repeats > 1 && summary.spread() > allowed
}

fn noise(runs: &[Run]) -> Option<Warning> {
    let measured = runs.iter().filter_map(|run| match &run.result {
        RunResult::Measured(measured) => measured.figures.machine,
        RunResult::Failed(_) => None,
    });
    let all: Vec<_> = measured.collect();
    let noisy = all
        .iter()
        .filter(|noise| noise.others > OTHERS_CPU_MAX || noise.steal > STEAL_MAX);
    let worst = |pick: fn(&crate::measure::monitor::Noise) -> f64| {
        all.iter().map(pick).fold(0.0, f64::max) * 100.0
    };
    let runs = noisy.count();
    (runs > 0).then(|| Warning::MachineNoisy {
        runs,
        of: all.len(),
        others_percent: worst(|noise| noise.others),
        steal_percent: worst(|noise| noise.steal),
    })
}

impl Place {
    fn show(&self) -> String {
        format!("{} · {} · {}", self.server, self.scenario, self.case)
    }
}

impl Warning {
    fn at(&self) -> Option<&Place> {
        match self {
            Self::GeneratorSaturated { at, .. }
            | Self::RunsDisagree { at, .. }
            | Self::SearchEnded { at, .. }
            | Self::TooFewSamples { at, .. }
            | Self::NotCorrect { at, .. }
            | Self::Failed { at, .. } => Some(at),
            Self::MachineNoisy { .. }
            | Self::OneRunOnly
            | Self::DescriptorLimit { .. }
            | Self::NotPinned { .. } => None,
        }
    }

    /// Whether two say the same of the same place.
    fn same_matter(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self.at() == other.at()
    }

    /// Whether it is about this row.
    pub(crate) fn concerns(&self, server: &str, scenario: Scenario, case: &str) -> bool {
        self.at().is_some_and(|at| {
            at.server == server && at.scenario == scenario.name() && at.case == case
        })
    }

    /// What is doubtful.
    pub(crate) fn says(&self) -> Text {
        match self {
            Self::GeneratorSaturated {
                at,
                cpu_percent,
                late_p99_ms,
            } => Text::new(
                format!(
                    "{}: bộ sinh tải cần {} % một lõi, gửi trễ p99 {} ms – có thể đang đo chính nó.",
                    at.show(),
                    number(*cpu_percent),
                    number(*late_p99_ms)
                ),
                format!(
                    "{}: the generator needed {}% of a core and sent up to {} ms late (p99); it may be what was measured.",
                    at.show(),
                    number(*cpu_percent),
                    number(*late_p99_ms)
                ),
            ),
            Self::RunsDisagree {
                at,
                metric,
                spread_percent,
            } => Text::new(
                format!(
                    "{}: các lần đo {metric} chênh nhau {} %.",
                    at.show(),
                    number(*spread_percent)
                ),
                format!(
                    "{}: the runs of {metric} differ by {}%.",
                    at.show(),
                    number(*spread_percent)
                ),
            ),
            Self::SearchEnded { at, clients } => {
                let clients = number(*clients as f64);
                Text::new(
                    format!(
                        "{}: ít nhất {clients} client; cỡ lớn hơn không được thử.",
                        at.show()
                    ),
                    format!(
                        "{}: at least {clients} clients; no larger size was tried.",
                        at.show()
                    ),
                )
            }
            Self::MachineNoisy {
                runs,
                of,
                others_percent,
                steal_percent,
            } => Text::new(
                format!(
                    "Máy không yên: {runs}/{of} lần đo có tiến trình khác dùng tới {} % một lõi, máy ảo khác lấy tới {} %.",
                    number(*others_percent),
                    number(*steal_percent)
                ),
                format!(
                    "The machine was busy: in {runs} of {of} runs others used up to {}% of a core, other virtual machines up to {}%.",
                    number(*others_percent),
                    number(*steal_percent)
                ),
            ),
            Self::TooFewSamples { at, samples } => Text::new(
                format!("{}: p99 chỉ từ {samples} mẫu.", at.show()),
                format!("{}: this p99 comes from {samples} samples only.", at.show()),
            ),
            Self::OneRunOnly => Text::new(
                "Mỗi phép đo chỉ chạy một lần: không biết độ phân tán nên không nêu bên nào hơn.",
                "Everything was measured once: no spread is known, so no winner is named.",
            ),
            Self::DescriptorLimit { wanted, limit } => Text::new(
                format!("Giới hạn tệp mở là {limit}, cần {wanted}: bỏ qua những cỡ lớn nhất."),
                format!(
                    "The limit of open files is {limit}, {wanted} are needed: the largest sizes were left out."
                ),
            ),
            Self::NotPinned { reason } => Text::new(
                format!("Máy chủ và bộ sinh tải không được ghim vào lõi riêng ({reason})."),
                format!("Server and generator are not pinned to cores of their own ({reason})."),
            ),
            Self::NotCorrect {
                at,
                clients_short,
                clients_over,
                errors,
            } => Text::new(
                format!(
                    "{}: {clients_short} client thiếu tin, {clients_over} client thừa tin. {errors}",
                    at.show()
                ),
                format!(
                    "{}: {clients_short} clients lack messages, {clients_over} have too many. {errors}",
                    at.show()
                ),
            ),
            Self::Failed { at, reason } => Text::same(format!("{}: {reason}", at.show())),
        }
    }

    /// What to do.
    pub(crate) fn advice(&self) -> Text {
        let (vi, en) = match self {
            Self::GeneratorSaturated { .. } => (
                "Máy chủ có thể nhanh hơn con số này: hãy so CPU mỗi lần giao, giảm --rate hoặc --clients, hoặc dùng lõi nhanh hơn.",
                "The server may be better than this figure: compare the CPU a delivery, lower --rate or --clients, or use faster cores.",
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
