//! Two saved comparisons against each other: which figures have become better, worse, or neither that one could tell.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;
use serde::Deserialize;

use super::metric::{self, Metric};
use super::stats::{Lead, Ratio, Summary};
use super::{Results, SCHEMA};
use crate::plan::scenario::Scenario;

/// What a difference needs of `results.json`.
#[derive(Debug, Deserialize)]
pub(crate) struct Saved {
    schema: String,
    pub(crate) environment: SavedEnvironment,
    runs: Vec<SavedRun>,
    summaries: Vec<SavedLine>,
}

/// The machine, as far as figures depend on it.
#[derive(Debug, Deserialize)]
pub(crate) struct SavedEnvironment {
    pub(crate) date: String,
    pub(crate) commit: Option<String>,
    system: String,
    kernel: Option<String>,
    cpu: Option<String>,
    cores: usize,
    memory_mib: Option<u64>,
    pinned: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct SavedRun {
    scenario: String,
    case: String,
    server: String,
    result: SavedResult,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SavedResult {
    Measured(SavedMeasured),
    Failed(#[expect(dead_code, reason = "a failure has a reason")] String),
}

#[derive(Debug, Deserialize)]
struct SavedMeasured {
    figures: SavedFigures,
}

#[derive(Debug, Deserialize)]
struct SavedFigures {
    clients_short: u64,
    clients_over: u64,
    orders: u64,
    troubles: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct SavedLine {
    scenario: String,
    case: String,
    server: String,
    metric: String,
    #[serde(flatten)]
    summary: Summary,
}

/// One figure, then and now.
pub(crate) struct Change {
    pub(crate) scenario: Scenario,
    pub(crate) case: String,
    pub(crate) server: String,
    pub(crate) metric: &'static Metric,
    pub(crate) old: Summary,
    pub(crate) new: Summary,
    /// New by old.
    pub(crate) ratio: Ratio,
    pub(crate) verdict: Verdict,
}

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Better,
    Worse,
    /// Apart, but by less than the threshold.
    Slight,
    /// The intervals of the repeats overlap.
    Overlap,
    /// Measured once, then or now.
    OneRun,
    /// Right then, and something lost or wrong now: worse than any figure.
    Broken,
    /// Something was lost or wrong then.
    NotCorrect,
}

impl Saved {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let saved: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not a results.json of this program", path.display()))?;
        ensure!(
            saved.schema == SCHEMA,
            "{} has the schema {}, this program reads {SCHEMA}",
            path.display(),
            saved.schema
        );
        Ok(saved)
    }

    /// What was measured just now, as it will be read one day.
    pub(crate) fn of(results: &Results) -> Result<Self> {
        let value = serde_json::to_value(results).context("results are JSON")?;
        serde_json::from_value(value).context("what this program writes, it reads")
    }

    /// The ways in which the other machine is another one.
    pub(crate) fn unlike(&self, other: &Self) -> Vec<String> {
        let (a, b) = (&self.environment, &other.environment);
        let mut unlike = Vec::new();
        let mut compare = |what: &str, a: String, b: String| {
            if a != b {
                unlike.push(format!("{what}: {a} / {b}"));
            }
        };
        let told = |value: &Option<String>| value.clone().unwrap_or_else(|| "?".to_owned());
        // To the nearest GiB: kernels keep a little for themselves.
        let gib = |mib: Option<u64>| {
            mib.map_or_else(|| "?".to_owned(), |mib| (mib.div_ceil(1024)).to_string())
        };
        let pinned = |pinned: &Option<serde_json::Value>| {
            pinned
                .as_ref()
                .map_or_else(|| "no".to_owned(), ToString::to_string)
        };
        compare("CPU", told(&a.cpu), told(&b.cpu));
        compare("cores", a.cores.to_string(), b.cores.to_string());
        compare("memory in GiB", gib(a.memory_mib), gib(b.memory_mib));
        compare("system", a.system.clone(), b.system.clone());
        compare("kernel", told(&a.kernel), told(&b.kernel));
        compare("pinned to cores", pinned(&a.pinned), pinned(&b.pinned));
        unlike
    }

    fn is_correct(&self, scenario: Scenario, case: &str, server: &str) -> bool {
        let same = |run: &&SavedRun| {
            run.scenario == scenario.name() && run.case == case && run.server == server
        };
        self.runs.iter().filter(same).all(|run| match &run.result {
            SavedResult::Failed(_) => false,
            SavedResult::Measured(SavedMeasured { figures }) => {
                figures.clients_short == 0
                    && figures.clients_over == 0
                    && figures.orders <= 1
                    && figures.troubles.is_empty()
            }
        })
    }
}

/// The headline figures that both have, in the order of the newer.
pub(crate) fn between(old: &Saved, new: &Saved, threshold_percent: f64) -> Vec<Change> {
    let change = |line: &SavedLine| {
        let scenario = Scenario::from_str(&line.scenario, true).ok()?;
        let metric = Metric::by_name(&line.metric)?;
        let is_headline = metric::headlines(scenario)
            .iter()
            .any(|it| it.name == metric.name);
        let before = old.summaries.iter().find(|it| {
            (&it.scenario, &it.case, &it.server, &it.metric)
                == (&line.scenario, &line.case, &line.server, &line.metric)
        })?;
        let ratio = Ratio::of(&line.summary, &before.summary, metric.better)?;
        let correct = |saved: &Saved| saved.is_correct(scenario, &line.case, &line.server);
        let verdict = match (correct(old), correct(new)) {
            (true, true) => Verdict::of(ratio, threshold_percent)?,
            (true, false) => Verdict::Broken,
            (false, _) => Verdict::NotCorrect,
        };
        is_headline.then(|| Change {
            scenario,
            case: line.case.clone(),
            server: line.server.clone(),
            metric,
            old: before.summary,
            new: line.summary,
            ratio,
            verdict,
        })
    };
    new.summaries.iter().filter_map(change).collect()
}

impl Verdict {
    /// None of a figure that is neither good nor bad.
    fn of(ratio: Ratio, threshold_percent: f64) -> Option<Self> {
        let apart_percent = (ratio.quotient - 1.0).abs() * 100.0;
        Some(match ratio.lead {
            Lead::Neither => return None,
            Lead::Overlap => Self::Overlap,
            Lead::OneRun => Self::OneRun,
            Lead::NotCorrect => Self::NotCorrect,
            Lead::First | Lead::Second if apart_percent < threshold_percent => Self::Slight,
            Lead::First => Self::Better,
            Lead::Second => Self::Worse,
        })
    }

    /// Whether a pull request should not pass with it.
    pub(crate) fn is_regression(self) -> bool {
        matches!(self, Self::Worse | Self::Broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::stats::Better;

    fn verdict(new: &[f64], old: &[f64], threshold_percent: f64) -> Option<Verdict> {
        let of = |values: &[f64]| Summary::of(values).unwrap();
        Verdict::of(
            Ratio::of(&of(new), &of(old), Better::Lower).unwrap(),
            threshold_percent,
        )
    }

    #[test]
    fn only_what_lies_apart_by_more_than_the_threshold_is_worse() {
        assert_eq!(
            verdict(&[120.0, 122.0], &[100.0, 102.0], 10.0),
            Some(Verdict::Worse)
        );
        assert_eq!(
            verdict(&[120.0, 122.0], &[100.0, 102.0], 30.0),
            Some(Verdict::Slight)
        );
        assert_eq!(
            verdict(&[80.0, 82.0], &[100.0, 102.0], 10.0),
            Some(Verdict::Better)
        );
        assert_eq!(
            verdict(&[90.0, 150.0], &[100.0, 102.0], 10.0),
            Some(Verdict::Overlap)
        );
        assert_eq!(
            verdict(&[200.0], &[100.0, 102.0], 10.0),
            Some(Verdict::OneRun)
        );
    }
}
