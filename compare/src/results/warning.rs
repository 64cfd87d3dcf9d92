//! The search for everything in the runs that is to be doubted.

use serde::Serialize;

use super::metric::{self, Measured, Metric};
use super::runs::{RunResult, Runs};
use super::stats::Summary;
use crate::measure::environment::Environment;
use crate::measure::monitor::Noise;
use crate::plan::scenario::Scenario;

/// A doubt, and where it arose.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Warning {
    #[serde(flatten)]
    pub(crate) doubt: Doubt,
    /// None where it is about all of the comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<Place>,
}

/// What there is to doubt.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Doubt {
    /// What was measured may have been the generator.
    GeneratorSaturated {
        cpu_percent: f64,
        late_p99_ms: f64,
        /// How long bytes had been there when they were read, where the kernel tells.
        own_p99_ms: Option<f64>,
    },
    /// The repeats of a headline figure lie far apart.
    RunsDisagree {
        metric: &'static str,
        spread_percent: f64,
    },
    /// A search that ended at its largest size, which passed.
    SearchEnded {
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
        clients_short: usize,
        clients_over: usize,
        errors: String,
    },
    Failed {
        reason: String,
    },
}

/// A server in a case of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
    pub(crate) server: String,
    pub(crate) scenario: Scenario,
    pub(crate) case: String,
}

/// Above this share of a core the generator may be what is measured.
const GENERATOR_CPU_MAX: f64 = 0.8;
/// The generator's own lateness may be this part of the latency before it counts.
const GENERATOR_LATE_SHARE_MAX: f64 = 0.25;
const GENERATOR_LATE_MS_LEAST: f64 = 2.0;
/// Beyond this it did not keep its schedule, however late the server was besides.
const GENERATOR_LATE_MS_MAX: f64 = 100.0;
/// Of the latency, the part that may be the generator's own where the kernel tells when bytes arrived.
const GENERATOR_OWN_SHARE_MAX: f64 = 0.1;
const SPREAD_MAX: f64 = 0.25;
/// What others may take of a core.
const OTHERS_CPU_MAX: f64 = 0.1;
const STEAL_MAX: f64 = 0.02;
/// A p99 has ten samples above it at this many.
const SAMPLES_LEAST: u64 = 1_000;

/// Looks for everything to doubt in the runs so far.
pub(crate) fn find(runs: &Runs, environment: &Environment) -> Vec<Warning> {
    let mut warnings = of_each_run(runs);
    warnings.extend(disagreements(runs));
    let descriptors = environment.descriptors_missing;
    let of_all = [
        noise(runs),
        (runs.repeats == 1 && !runs.all.is_empty()).then_some(Doubt::OneRunOnly),
        (environment.not_pinned.clone()).map(|reason| Doubt::NotPinned { reason }),
        descriptors.map(|(wanted, limit)| Doubt::DescriptorLimit { wanted, limit }),
    ];
    let of_all = of_all.into_iter().flatten();
    warnings.extend(of_all.map(|doubt| Warning { doubt, at: None }));
    warnings
}

/// One repeat of a case is enough to doubt it, and to say so once.
fn of_each_run(runs: &Runs) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = Vec::new();
    for run in &runs.all {
        let at = Some(Place {
            server: run.server.clone(),
            scenario: run.scenario,
            case: run.case.clone(),
        });
        let doubts = match &run.result {
            RunResult::Failed(reason) => vec![Doubt::Failed {
                reason: reason.clone(),
            }],
            RunResult::Measured(measured) => of_run(measured),
        };
        for doubt in doubts {
            let kind = std::mem::discriminant(&doubt);
            let same =
                |other: &Warning| std::mem::discriminant(&other.doubt) == kind && other.at == at;
            if !warnings.iter().any(same) {
                let at = at.clone();
                warnings.push(Warning { doubt, at });
            }
        }
    }
    warnings
}

fn of_run(measured: &Measured) -> Vec<Doubt> {
    let samples = measured.figures.latency().count;
    let doubts = [
        generator_saturated(measured),
        (samples > 0 && samples < SAMPLES_LEAST).then_some(Doubt::TooFewSamples { samples }),
        (measured.largest_room)
            .filter(|_| measured.open_ended)
            .map(|clients| Doubt::SearchEnded { clients }),
        not_correct(measured),
    ];
    doubts.into_iter().flatten().collect()
}

fn generator_saturated(measured: &Measured) -> Option<Doubt> {
    let generator = &measured.figures.generator;
    let late_p99_ms = generator.late_ms.p99;
    let share_max_ms = measured.figures.latency().p99 * GENERATOR_LATE_SHARE_MAX;
    let late = late_p99_ms > share_max_ms.clamp(GENERATOR_LATE_MS_LEAST, GENERATOR_LATE_MS_MAX);
    // A generator that has to wait for its core is as short of it as one that has used it up.
    let cpu = generator.cpu.unwrap_or(0.0) + generator.waited.unwrap_or(0.0);
    let own = &generator.read_after_ms;
    let own_p99_ms = (own.count > 0).then_some(own.p99);
    // A full core is no fault where nothing had to wait for it, unless it is what sets the pace, as in a closed loop.
    let share_max_ms = measured.figures.latency().p99 * GENERATOR_OWN_SHARE_MAX;
    let is_proven = measured.figures.due > 0 && own_p99_ms.is_some_and(|own| own <= share_max_ms);
    let full = cpu > GENERATOR_CPU_MAX && !is_proven;
    (late || full).then_some(Doubt::GeneratorSaturated {
        cpu_percent: cpu * 100.0,
        late_p99_ms,
        own_p99_ms,
    })
}

fn not_correct(measured: &Measured) -> Option<Doubt> {
    let figures = &measured.figures;
    if figures.is_correct() {
        return None;
    }
    let each = figures.errors.iter();
    let mut errors: Vec<String> = each
        .map(|(kind, count)| format!("{}: {count}", kind.label()))
        .collect();
    if figures.orders > 1 {
        errors.push(format!("orders heard: {}", figures.orders));
    }
    Some(Doubt::NotCorrect {
        clients_short: figures.clients_short,
        clients_over: figures.clients_over,
        errors: errors.join(", "),
    })
}

fn disagreements(runs: &Runs) -> Vec<Warning> {
    let mut found = Vec::new();
    for (scenario, case) in runs.cases() {
        for server in &runs.servers {
            let summary = |metric: &&'static Metric| {
                let summary = runs.summary(scenario, case, &server.name, metric)?;
                Some((metric.name, summary))
            };
            let headline = metric::headlines(scenario).iter().find_map(summary);
            let Some((metric, summary)) = headline else {
                continue;
            };
            if disagrees(scenario, &summary) {
                let spread_percent = summary.spread() * 100.0;
                found.push(Warning {
                    doubt: Doubt::RunsDisagree {
                        metric,
                        spread_percent,
                    },
                    at: Some(Place {
                        server: server.name.clone(),
                        scenario,
                        case: case.to_owned(),
                    }),
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

fn noise(runs: &Runs) -> Option<Doubt> {
    let measured = runs.all.iter().filter_map(|run| run.result.measured());
    let all: Vec<Noise> = measured.filter_map(|run| run.figures.machine).collect();
    let noisy = all
        .iter()
        .filter(|noise| noise.others > OTHERS_CPU_MAX || noise.steal > STEAL_MAX);
    let worst = |pick: fn(&Noise) -> f64| all.iter().map(pick).fold(0.0, f64::max) * 100.0;
    let runs = noisy.count();
    (runs > 0).then(|| Doubt::MachineNoisy {
        runs,
        of: all.len(),
        others_percent: worst(|noise| noise.others),
        steal_percent: worst(|noise| noise.steal),
    })
}

impl Warning {
    /// Whether it is about this row.
    pub(crate) fn concerns(&self, server: &str, scenario: Scenario, case: &str) -> bool {
        self.at
            .as_ref()
            .is_some_and(|at| at.server == server && at.scenario == scenario && at.case == case)
    }
}
