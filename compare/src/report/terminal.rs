//! The results as tables in a terminal.

use std::fmt::Write as _;

use super::table::{self, Medium};
use crate::plan::scenario::Scenario;
use crate::results::Results;
use crate::results::claims::has_both_models;
use crate::results::comparison::Comparison;
use crate::results::metric::Metric;
use crate::results::text::{Lang, Text};

/// Everything worth a look, the table of the guide last.
pub(crate) fn render(results: &Results, lang: Lang) -> String {
    let mut out = String::new();
    write_all(&mut out, results, lang).expect("writing to memory does not fail");
    out
}

fn write_all(out: &mut String, results: &Results, lang: Lang) -> std::fmt::Result {
    for scenario in results.runs.scenarios() {
        write_scenario(out, results, scenario, lang)?;
    }
    if !results.claims.is_empty() && has_both_models(&results.runs) {
        writeln!(
            out,
            "{}",
            table::draw_claims(results, Medium::Terminal, lang)
        )?;
    }
    for warned in &results.warnings {
        let (says, advice) = (warned.says.get(lang), warned.advice.get(lang));
        writeln!(out, "! {says}\n  {advice}")?;
    }
    Ok(())
}

fn write_scenario(
    out: &mut String,
    results: &Results,
    scenario: Scenario,
    lang: Lang,
) -> std::fmt::Result {
    let title = table::title(scenario);
    writeln!(out, "{}: {}", scenario.name(), title.get(lang))?;
    let drawn = table::of(results, scenario).draw(Medium::Terminal, lang, " !");
    writeln!(out, "{drawn}")?;
    let of_scenario = |line: &&Comparison| line.scenario == scenario;
    for comparison in results.comparisons.iter().filter(of_scenario) {
        // The first figure answers the scenario's question; the others stand in the report.
        let case = &comparison.case;
        let headline = results.runs.first_headline(scenario, case);
        let Some(Metric { vi, en, .. }) = headline.filter(|it| it.name == comparison.metric) else {
            continue;
        };
        let (name, sentence) = (Text::new(*vi, *en), table::sentence(comparison));
        writeln!(out, "  {case}, {}: {}", name.get(lang), sentence.get(lang))?;
    }
    writeln!(out)
}
