//! Everything a comparison found out, as it is saved: `results.json` is this, field by field.
//!
//! The schema in short: `runs` has each run with all its figures and raw histograms; `summaries` the median and the
//! spread of each figure over the repeats of a case; `comparisons` the first server against each other one;
//! `claims` the table of the guide; `warnings` what to doubt and what to do about it. Names of figures are those
//! of `metric.rs`, with their unit; times are in the unit that the name says; a field that could not be measured
//! is null or absent.

pub(crate) mod assertion;
pub(crate) mod claims;
pub(crate) mod figures;
pub(crate) mod metric;
pub(crate) mod stats;
pub(crate) mod text;
pub(crate) mod warning;

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::measure::environment::Environment;
use crate::plan::scenario::Scenario;
use crate::results::assertion::Verdict;
use crate::results::claims::Claim;
use crate::results::metric::{Measured, Metric};
use crate::results::stats::{Lead, Ratio, Summary};
use crate::results::text::Text;
use crate::results::warning::Warning;
use crate::run::target::Skipped;

/// Changes when a field changes its meaning.
const SCHEMA: &str = "ws-realtime-lab/compare/1";

/// A whole comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) schema: &'static str,
    /// False where it was interrupted.
    pub(crate) complete: bool,
    pub(crate) took_s: f64,
    pub(crate) repeats: usize,
    pub(crate) environment: Environment,
    pub(crate) servers: Vec<Participant>,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) runs: Vec<Run>,
    pub(crate) summaries: Vec<Line>,
    pub(crate) comparisons: Vec<Comparison>,
    pub(crate) claims: Vec<Claim>,
    pub(crate) warnings: Vec<Warned>,
    pub(crate) assertions: Vec<Verdict>,
}

/// A server that took part.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Participant {
    pub(crate) name: String,
    pub(crate) command: String,
}

/// One run.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    #[serde(serialize_with = "by_name")]
    pub(crate) scenario: Scenario,
    pub(crate) case: String,
    pub(crate) server: String,
    /// From 0.
    pub(crate) repeat: usize,
    pub(crate) took_s: f64,
    pub(crate) result: RunResult,
}

/// How a run ended.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunResult {
    Measured(Box<Measured>),
    Failed(String),
}

/// One figure of one server in one case, over its repeats.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    #[serde(serialize_with = "by_name")]
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
    #[serde(serialize_with = "by_name")]
    pub(crate) scenario: Scenario,
    pub(crate) case: String,
    pub(crate) metric: &'static str,
    pub(crate) first: String,
    pub(crate) second: String,
    #[serde(flatten)]
    pub(crate) ratio: Ratio,
}

/// A warning with its words.
#[derive(Debug, Serialize)]
pub(crate) struct Warned {
    #[serde(flatten)]
    pub(crate) warning: Warning,
    pub(crate) says: Text,
    pub(crate) advice: Text,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
fn by_name<S: serde::Serializer>(scenario: &Scenario, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(scenario.name())
}

impl Results {
    pub(crate) fn new(environment: Environment, repeats: usize) -> Self {
        Self {
            schema: SCHEMA,
            complete: false,
            took_s: 0.0,
            repeats,
            environment,
            servers: Vec::new(),
            skipped: Vec::new(),
            runs: Vec::new(),
            summaries: Vec::new(),
            comparisons: Vec::new(),
            claims: Vec::new(),
            warnings: Vec::new(),
            assertions: Vec::new(),
        }
    }

    /// Draws the conclusions from the runs so far.
    pub(crate) fn conclude(&mut self) {
        self.summaries = self.summarize();
        self.comparisons = self.compare();
        self.warnings = crate::results::warning::find(self)
            .into_iter()
            .map(|warning| Warned {
                says: warning.says(),
                advice: warning.advice(),
                warning,
            })
            .collect();
        self.claims = crate::results::claims::judge(self);
    }

    /// Writes all of it; a reader never sees half a file.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let part = path.with_extension("json.part");
        let write = || {
            let mut file = std::io::BufWriter::new(fs::File::create(&part)?);
            serde_json::to_writer(&mut file, self)?;
            file.flush()?;
            fs::rename(&part, path)
        };
        write().with_context(|| {
            // Half a file is of no use, least of all on a full disk.
            let _ = fs::remove_file(&part);
            format!("cannot write {}", path.display())
        })
    }

    /// Scenarios and cases that were run, in that order.
    pub(crate) fn cases(&self) -> Vec<(Scenario, &str)> {
        let mut cases = Vec::new();
        for run in &self.runs {
            let case = (run.scenario, run.case.as_str());
            if !cases.contains(&case) {
                cases.push(case);
            }
        }
        cases
    }

    pub(crate) fn cases_of(&self, scenario: Scenario) -> Vec<&str> {
        self.cases()
            .into_iter()
            .filter(|&(of, _)| of == scenario)
            .map(|(_, case)| case)
            .collect()
    }

    /// The repeats of a case that brought figures.
    pub(crate) fn measured<'a>(
        &'a self,
        scenario: Scenario,
        case: &'a str,
        server: &'a str,
    ) -> impl Iterator<Item = &'a Measured> {
        self.runs.iter().filter_map(move |run| match &run.result {
            RunResult::Measured(measured)
                if run.scenario == scenario && run.case == case && run.server == server =>
            {
                Some(&**measured)
            }
            RunResult::Measured(_) | RunResult::Failed(_) => None,
        })
    }

    /// A figure of a server over the repeats of a case.
    pub(crate) fn summary(
        &self,
        scenario: Scenario,
        case: &str,
        server: &str,
        metric: &Metric,
    ) -> Option<Summary> {
        let values: Vec<f64> = self
            .measured(scenario, case, server)
            .filter_map(|measured| metric.of(measured))
            .collect();
        Summary::of(&values)
    }

    /// Whether every run of the case went well: it brought figures, and nothing was lost or wrong in it.
    pub(crate) fn is_correct(&self, scenario: Scenario, case: &str, server: &str) -> bool {
        let mut runs = self
            .runs
            .iter()
            .filter(|run| run.scenario == scenario && run.case == case && run.server == server);
        runs.all(|run| match &run.result {
            RunResult::Measured(measured) => measured.figures.is_correct(),
            RunResult::Failed(_) => false,
        })
    }

    /// The median of it in the scenario's last case, which is its largest.
    pub(crate) fn median(&self, scenario: Scenario, server: &str, metric: &Metric) -> Option<f64> {
        let case = *self.cases_of(scenario).last()?;
        Some(self.summary(scenario, case, server, metric)?.median)
    }

    /// A server's place, which is also its colour.
    pub(crate) fn colour(&self, name: &str) -> usize {
        self.servers
            .iter()
            .position(|server| server.name == name)
            .unwrap_or(0)
    }

    /// The figure that answers a case's question.
    pub(crate) fn first_headline(&self, scenario: Scenario, case: &str) -> Option<&'static Metric> {
        let measured = |metric: &&&Metric| {
            self.servers
                .iter()
                .any(|server| self.summary(scenario, case, &server.name, metric).is_some())
        };
        scenario.headlines().iter().find(measured).copied()
    }

    /// Whether both sides of the guide's table took part.
    pub(crate) fn has_both_models(&self) -> bool {
        [crate::results::claims::ASYNC, crate::results::claims::SYNC]
            .iter()
            .all(|name| self.servers.iter().any(|server| server.name == *name))
    }

    fn summarize(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for (scenario, case) in self.cases() {
            for server in &self.servers {
                for metric in metric::ALL {
                    if let Some(summary) = self.summary(scenario, case, &server.name, metric) {
                        lines.push(Line {
                            scenario,
                            case: case.to_owned(),
                            server: server.name.clone(),
                            metric: metric.name,
                            unit: metric.unit,
                            summary,
                        });
                    }
                }
            }
        }
        lines
    }

    fn compare(&self) -> Vec<Comparison> {
        let Some((first, others)) = self.servers.split_first() else {
            return Vec::new();
        };
        let mut comparisons = Vec::new();
        for (scenario, case) in self.cases() {
            for metric in scenario.headlines() {
                for second in others {
                    comparisons.extend(self.comparison(
                        scenario,
                        case,
                        metric,
                        &first.name,
                        &second.name,
                    ));
                }
            }
        }
        comparisons
    }

    /// One server against another; neither leads where one of them was not correct.
    pub(crate) fn comparison(
        &self,
        scenario: Scenario,
        case: &str,
        metric: &Metric,
        first: &str,
        second: &str,
    ) -> Option<Comparison> {
        let of = |server: &str| self.summary(scenario, case, server, metric);
        let mut ratio = Ratio::of(&of(first)?, &of(second)?, metric.better)?;
        let correct = |server: &str| self.is_correct(scenario, case, server);
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
}
