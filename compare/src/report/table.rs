//! A scenario's figures as a table, and comparisons as sentences, for all forms of the report.

use crate::plan::scenario::Scenario;
use crate::results::metric::Metric;
use crate::results::stats::{Lead, Summary};
use crate::results::text::{Text, number};
use crate::results::{Comparison, Results};

/// Rows of figures under their names.
pub(crate) struct Table {
    pub(crate) header: Vec<Text>,
    pub(crate) rows: Vec<Row>,
    pub(crate) ratios: Vec<RatioRow>,
}

/// One server in one case.
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) server: String,
    /// Median and spread of each figure; a dash where there is none.
    pub(crate) cells: Vec<String>,
    /// Whether a warning is about this row.
    pub(crate) doubtful: bool,
}

/// One server against another in one case.
pub(crate) struct RatioRow {
    pub(crate) case: String,
    pub(crate) name: String,
    /// For each figure of the table its ratio, and which server is ahead.
    pub(crate) cells: Vec<Option<(String, Option<String>)>>,
}

/// A scenario's headline figures.
pub(crate) fn of(results: &Results, scenario: Scenario) -> Table {
    let metrics: Vec<&Metric> = scenario
        .headlines()
        .iter()
        .copied()
        .filter(|metric| {
            results
                .summaries
                .iter()
                .any(|line| line.scenario == scenario && line.metric == metric.name)
        })
        .collect();
    let mut header = vec![
        Text::new("trường hợp", "case"),
        Text::new("máy chủ", "server"),
    ];
    header.extend(metrics.iter().map(|metric| heading(metric)));
    let mut rows = Vec::new();
    for case in results.cases_of(scenario) {
        for server in &results.servers {
            let cell = |metric: &&Metric| {
                results
                    .summary(scenario, case, &server.name, metric)
                    .map_or_else(|| "–".to_owned(), |s| spread(&s))
            };
            rows.push(Row {
                case: case.to_owned(),
                server: server.name.clone(),
                cells: metrics.iter().map(cell).collect(),
                doubtful: results
                    .warnings
                    .iter()
                    .any(|warned| warned.warning.concerns(&server.name, scenario, case)),
            });
        }
    }
    Table {
        header,
        rows,
        ratios: ratio_rows(results, scenario, &metrics),
    }
}

fn ratio_rows(results: &Results, scenario: Scenario, metrics: &[&Metric]) -> Vec<RatioRow> {
    let Some((first, others)) = results.servers.split_first() else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    for case in results.cases_of(scenario) {
        for second in others {
            let cell = |metric: &&Metric| {
                let line = results.comparison(scenario, case, metric, &first.name, &second.name)?;
                let ahead = match line.ratio.lead {
                    Lead::First => Some(line.first.clone()),
                    Lead::Second => Some(line.second.clone()),
                    Lead::Overlap | Lead::OneRun | Lead::Neither | Lead::NotCorrect => None,
                };
                Some((ratio(&line), ahead))
            };
            rows.push(RatioRow {
                case: case.to_owned(),
                name: format!("{} / {}", first.name, second.name),
                cells: metrics.iter().map(cell).collect(),
            });
        }
    }
    rows
}

/// A figure's name with its unit.
pub(crate) fn heading(metric: &Metric) -> Text {
    let unit = if metric.unit.is_empty() {
        String::new()
    } else {
        format!(" ({})", metric.unit)
    };
    Text::new(
        format!("{}{unit}", metric.vi),
        format!("{}{unit}", metric.en),
    )
}

/// `83.4`, or `83.4 [80.1–90.2]` where it was measured more than once.
pub(crate) fn spread(summary: &Summary) -> String {
    let Summary {
        median,
        low,
        high,
        repeats,
        ..
    } = summary;
    let [median, low, high] = [*median, *low, *high].map(number);
    if *repeats < 2 || low == high {
        median
    } else {
        format!("{median} [{low}–{high}]")
    }
}

/// `3.10 ± 0.20`.
pub(crate) fn ratio(comparison: &Comparison) -> String {
    let ratio = number(comparison.ratio.quotient);
    comparison.ratio.error.map_or_else(
        || ratio.clone(),
        |error| format!("{ratio} ± {}", number(error)),
    )
}

/// The comparison in words.
pub(crate) fn sentence(comparison: &Comparison) -> Text {
    let Comparison {
        first,
        second,
        ratio: of,
        ..
    } = comparison;
    let times = ratio(comparison);
    let (vi, en) = match of.lead {
        Lead::First => (format!("{first} hơn"), format!("{first} is ahead")),
        Lead::Second => (format!("{second} hơn"), format!("{second} is ahead")),
        Lead::Overlap => (
            "chưa phân được hơn kém (các khoảng đo chồng nhau)".into(),
            "no winner: the intervals overlap".into(),
        ),
        Lead::OneRun => (
            "chưa kết luận (mỗi bên đo một lần)".into(),
            "no winner named: measured once each".into(),
        ),
        Lead::Neither => (String::new(), String::new()),
        Lead::NotCorrect => (
            "không so sánh (có bên giao thiếu)".into(),
            "not compared: one did not deliver everything".into(),
        ),
    };
    let with = |words: String| {
        if words.is_empty() {
            String::new()
        } else {
            format!(" – {words}")
        }
    };
    Text::new(
        format!("{first} / {second} = {times}{}", with(vi)),
        format!("{first} / {second} = {times}{}", with(en)),
    )
}
