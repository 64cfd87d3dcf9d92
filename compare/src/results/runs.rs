//! All runs of a comparison, and the questions that conclusions ask of them.

use serde::Serialize;

use super::metric::{self, Measured, Metric};
use super::stats::Summary;
use crate::plan::scenario::Scenario;

/// What was measured, as it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Runs {
    pub(crate) repeats: usize,
    pub(crate) servers: Vec<Participant>,
    #[serde(rename = "runs")]
    pub(crate) all: Vec<Run>,
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

impl RunResult {
    pub(crate) fn measured(&self) -> Option<&Measured> {
        match self {
            Self::Measured(measured) => Some(measured),
            Self::Failed(_) => None,
        }
    }
}

impl Runs {
    /// Scenarios and cases that were run, in that order.
    pub(crate) fn cases(&self) -> Vec<(Scenario, &str)> {
        let mut cases = Vec::new();
        for run in &self.all {
            let case = (run.scenario, run.case.as_str());
            if !cases.contains(&case) {
                cases.push(case);
            }
        }
        cases
    }

    pub(crate) fn cases_of(&self, scenario: Scenario) -> Vec<&str> {
        let mut cases = self.cases();
        cases.retain(|&(of, _)| of == scenario);
        cases.into_iter().map(|(_, case)| case).collect()
    }

    /// The scenarios that were run, in the program's order.
    pub(crate) fn scenarios(&self) -> impl Iterator<Item = Scenario> {
        let ran = |scenario: &Scenario| self.all.iter().any(|run| run.scenario == *scenario);
        Scenario::ALL.into_iter().filter(ran)
    }

    /// The scenario's last case, which is its largest.
    pub(crate) fn last_case(&self, scenario: Scenario) -> Option<&str> {
        self.cases_of(scenario).last().copied()
    }

    fn of<'a>(
        &'a self,
        scenario: Scenario,
        case: &'a str,
        server: &'a str,
    ) -> impl Iterator<Item = &'a RunResult> {
        let same =
            move |run: &&Run| run.scenario == scenario && run.case == case && run.server == server;
        self.all.iter().filter(same).map(|run| &run.result)
    }

    /// The repeats of a case that brought figures.
    pub(crate) fn measured<'a>(
        &'a self,
        scenario: Scenario,
        case: &'a str,
        server: &'a str,
    ) -> impl Iterator<Item = &'a Measured> {
        self.of(scenario, case, server)
            .filter_map(RunResult::measured)
    }

    /// Whether every run of the case went well: it brought figures, and nothing was lost or wrong in it.
    pub(crate) fn is_correct(&self, scenario: Scenario, case: &str, server: &str) -> bool {
        self.of(scenario, case, server).all(|result| {
            result
                .measured()
                .is_some_and(|measured| measured.figures.is_correct())
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

    /// The median of it in the scenario's last case.
    pub(crate) fn median(&self, scenario: Scenario, server: &str, metric: &Metric) -> Option<f64> {
        let case = self.last_case(scenario)?;
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
        metric::headlines(scenario).iter().find(measured).copied()
    }
}
