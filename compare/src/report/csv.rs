//! The summaries as CSV, one line for each.

use std::fmt::Write as _;

use crate::results::Results;

/// RFC 4180: names and numbers only, so nothing needs quotes.
pub(crate) fn render(results: &Results) -> String {
    let mut out =
        "scenario,case,server,metric,unit,median,low,high,deviation,repeats\r\n".to_owned();
    for line in &results.summaries {
        let summary = &line.summary;
        let deviation = summary
            .deviation
            .map(|deviation| deviation.to_string())
            .unwrap_or_default();
        write!(
            out,
            "{},{},{},{},{},{},{},{},{deviation},{}\r\n",
            line.scenario.name(),
            line.case,
            line.server,
            line.metric,
            line.unit,
            summary.median,
            summary.low,
            summary.high,
            summary.repeats
        )
        .expect("writing to memory does not fail");
    }
    out
}
