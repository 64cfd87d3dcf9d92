//! Each figure over the repeats of a case, and the first server's figures against each other server's.

use serde::Serialize;

use super::metric::{self, Metric};
use super::runs::Runs;
use super::stats::{Lead, Ratio, Summary};
use crate::plan::scenario::Scenario;

/// One figure of one server in one case, over its repeats.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    pub(crate) scenario: Scenario,
    pub(crate) case: String,
    pub(crate) server: String,
    pub(crate) metric: &'static str,
    pub(crate) unit: &'static str,
    #[serde(flatten)]
    pub(crate) summary: Summary,
}

/// One figure of two servers.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Comparison {
    pub(crate) scenario: Scenario,
    pub(crate) case: String,
    pub(crate) metric: &'static str,
    pub(crate) first: String,
    pub(crate) second: String,
    #[serde(flatten)]
    pub(crate) ratio: Ratio,
}

/// Every figure of every server in every case.
pub(crate) fn summarize(runs: &Runs) -> Vec<Line> {
    let mut lines = Vec::new();
    for (scenario, case) in runs.cases() {
        for server in &runs.servers {
            let line = |metric: &&Metric| {
                Some(Line {
                    scenario,
                    case: case.to_owned(),
                    server: server.name.clone(),
                    metric: metric.name,
                    unit: metric.unit,
                    summary: runs.summary(scenario, case, &server.name, metric)?,
                })
            };
            lines.extend(metric::ALL.iter().filter_map(line));
        }
    }
    lines
}

/// The headline figures of the first server against those of each other one.
pub(crate) fn compare(runs: &Runs) -> Vec<Comparison> {
    let Some((first, others)) = runs.servers.split_first() else {
        return Vec::new();
    };
    let mut comparisons = Vec::new();
    for (scenario, case) in runs.cases() {
        for metric in metric::headlines(scenario) {
            for second in others {
                let pair = (&*first.name, &*second.name);
                comparisons.extend(between(runs, scenario, case, metric, pair));
            }
        }
    }
    comparisons
}

/// One server against another; neither leads where one of them was not correct.
pub(crate) fn between(
    runs: &Runs,
    scenario: Scenario,
    case: &str,
    metric: &Metric,
    (first, second): (&str, &str),
) -> Option<Comparison> {
    let of = |server: &str| runs.summary(scenario, case, server, metric);
    let mut ratio = Ratio::of(&of(first)?, &of(second)?, metric.better)?;
    let correct = |server: &str| runs.is_correct(scenario, case, server);
    if !(correct(first) && correct(second)) {
        ratio.lead = Lead::NotCorrect;
    }
    Some(Comparison {
        scenario,
        case: case.to_owned(),
        metric: metric.name,
        first: first.to_owned(),
        second: second.to_owned(),
        ratio,
    })
}
