//! `--assert`: a condition on the figures that decides the exit status.
//!
//! `evloop.room.p99_ms<=100` is about one server, `evloop/thread.room.largest_room>=2` about a ratio. A case may be
//! named, `evloop.fanout.rate-1000.p99_ms<5`; without it the scenario's last case is meant, which is its largest.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum as _;
use serde::Serialize;

use super::metric::{self, Metric};
use super::runs::Runs;
use super::text::number;
use crate::plan::scenario::Scenario;

/// A condition.
#[derive(Clone)]
pub(crate) struct Assertion {
    text: String,
    server: String,
    by: Option<String>,
    scenario: Scenario,
    case: Option<String>,
    metric: &'static Metric,
    relation: Relation,
    limit: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    AtMost,
    Below,
    AtLeast,
    Above,
}

/// How a condition came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) assertion: String,
    /// None where it was not measured, which is a failure too.
    pub(crate) value: Option<f64>,
    /// Whether nothing was lost or wrong in the runs behind the value; if not, it proves nothing.
    pub(crate) correct: bool,
    pub(crate) holds: bool,
}

impl fmt::Debug for Assertion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl FromStr for Assertion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let relations = [
            ("<=", Relation::AtMost),
            (">=", Relation::AtLeast),
            ("<", Relation::Below),
            (">", Relation::Above),
        ];
        let (subject, relation, limit) = relations
            .iter()
            .find_map(|&(sign, relation)| {
                text.split_once(sign)
                    .map(|(subject, limit)| (subject.trim(), relation, limit.trim()))
            })
            .ok_or("it has the form SERVER.SCENARIO.METRIC<=NUMBER; <, >= and > do as well")?;
        let limit = limit.parse().map_err(|_| format!("{limit} is no number"))?;
        let parts: Vec<&str> = subject.split('.').collect();
        let (server, scenario, case, metric) = match parts[..] {
            [server, scenario, metric] => (server, scenario, None, metric),
            [server, scenario, case, metric] => (server, scenario, Some(case.to_owned()), metric),
            _ => return Err(format!("{subject} is not SERVER.SCENARIO.METRIC")),
        };
        let scenario = Scenario::from_str(scenario, true)
            .map_err(|_| format!("there is no scenario {scenario}"))?;
        let metric = Metric::by_name(metric).ok_or_else(|| {
            let names: Vec<&str> = metric::ALL.iter().map(|metric| metric.name).collect();
            format!(
                "there is no figure {metric}; there are {}",
                names.join(", ")
            )
        })?;
        let (server, by) = match server.split_once('/') {
            Some((server, by)) => (server, Some(by.to_owned())),
            None => (server, None),
        };
        Ok(Self {
            text: text.to_owned(),
            server: server.to_owned(),
            by,
            scenario,
            case,
            metric,
            relation,
            limit,
        })
    }
}

impl Assertion {
    /// Holds the condition against what was measured.
    pub(crate) fn check(&self, runs: &Runs) -> Verdict {
        let case = self
            .case
            .as_deref()
            .or_else(|| runs.last_case(self.scenario));
        let of = |server: &str| {
            let summary = runs.summary(self.scenario, case?, server, self.metric)?;
            Some(summary.median)
        };
        let value = match &self.by {
            None => of(&self.server),
            Some(by) => of(&self.server)
                .zip(of(by))
                .map(|(first, second)| first / second),
        };
        let within_limit = value.is_some_and(|value| match self.relation {
            Relation::AtMost => value <= self.limit,
            Relation::Below => value < self.limit,
            Relation::AtLeast => value >= self.limit,
            Relation::Above => value > self.limit,
        });
        let mut servers = std::iter::once(&self.server).chain(&self.by);
        let correct = case
            .is_some_and(|case| servers.all(|server| runs.is_correct(self.scenario, case, server)));
        Verdict {
            assertion: self.text.clone(),
            value,
            correct,
            holds: within_limit && correct,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.holds { "holds" } else { "FAILS" };
        let value = self.value.map_or_else(|| "not measured".to_owned(), number);
        let errors = if self.correct || self.value.is_none() {
            ""
        } else {
            ", in runs with errors"
        };
        write!(
            formatter,
            "{word}: {} (measured: {value}{errors})",
            self.assertion
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_an_assertion() {
        let parsed: Assertion = "evloop/thread.fanout.rate-1000.p99_ms <= 0.5"
            .parse()
            .unwrap();
        assert_eq!(
            (parsed.server.as_str(), parsed.by.as_deref()),
            ("evloop", Some("thread"))
        );
        assert_eq!(
            (parsed.scenario, parsed.case.as_deref()),
            (Scenario::Fanout, Some("rate-1000"))
        );
        assert_eq!(
            (parsed.metric.name, parsed.relation),
            ("p99_ms", Relation::AtMost)
        );
        for wrong in [
            "",
            "evloop.room.p99_ms",
            "evloop.room.p99_ms<=fast",
            "evloop.moon.p99_ms<1",
            "evloop.room.speed>1",
        ] {
            assert!(wrong.parse::<Assertion>().is_err(), "{wrong}");
        }
    }
}
