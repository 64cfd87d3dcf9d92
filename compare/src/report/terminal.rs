//! The results as tables in a terminal.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::table;
use crate::plan::scenario::Scenario;
use crate::results::Results;
use crate::results::metric::Metric;
use crate::results::text::{Lang, Text};

/// Everything worth a look, the table of the guide last.
pub(crate) fn render(results: &Results, lang: Lang) -> String {
    let mut out = String::new();
    write_all(&mut out, results, lang).expect("writing to memory does not fail");
    out
}

fn write_all(out: &mut String, results: &Results, lang: Lang) -> std::fmt::Result {
    for scenario in Scenario::ALL {
        if results.runs.iter().any(|run| run.scenario == scenario) {
            write_scenario(out, results, scenario, lang)?;
        }
    }
    if !results.claims.is_empty() && results.has_both_models() {
        writeln!(out, "{}", claims_table(results, lang))?;
    }
    for warned in &results.warnings {
        writeln!(
            out,
            "! {}\n  {}",
            warned.says.get(lang),
            warned.advice.get(lang)
        )?;
    }
    Ok(())
}

fn write_scenario(
    out: &mut String,
    results: &Results,
    scenario: Scenario,
    lang: Lang,
) -> std::fmt::Result {
    writeln!(out, "{}: {}", scenario.name(), scenario.title().get(lang))?;
    let shown = table::of(results, scenario);
    let mut drawn = new_table();
    drawn.set_header(shown.header.iter().map(|text| text.get(lang)));
    for row in shown.rows {
        let mark = if row.doubtful { " !" } else { "" };
        drawn.add_row([row.case, row.server + mark].into_iter().chain(row.cells));
    }
    for column in drawn.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(out, "{drawn}")?;
    for comparison in results
        .comparisons
        .iter()
        .filter(|comparison| comparison.scenario == scenario)
    {
        // The first figure answers the scenario's question; the others stand in the report.
        let case = &comparison.case;
        let answers = results
            .first_headline(scenario, case)
            .is_some_and(|metric| metric.name == comparison.metric);
        if let (true, Some(metric)) = (answers, Metric::by_name(comparison.metric)) {
            let name = Text::new(metric.vi, metric.en);
            writeln!(
                out,
                "  {case}, {}: {}",
                name.get(lang),
                table::sentence(comparison).get(lang)
            )?;
        }
    }
    writeln!(out)
}

fn claims_table(results: &Results, lang: Lang) -> Table {
    let mut drawn = new_table();
    let header = [
        Text::new("Đồng bộ", "Synchronous"),
        Text::new("Bất đồng bộ", "Asynchronous"),
        Text::new("Đo được", "Measured"),
        Text::new("Kết luận", "Verdict"),
    ];
    drawn.set_header(header.iter().map(|text| text.get(lang)));
    for claim in &results.claims {
        let figures = claim
            .figures
            .iter()
            .map(|evidence| format!("{}: {}", evidence.server, evidence.shows.get(lang)));
        drawn.add_row([
            claim.synchronous.get(lang).to_owned(),
            claim.asynchronous.get(lang).to_owned(),
            figures.collect::<Vec<_>>().join("\n"),
            claim.says.get(lang).to_owned(),
        ]);
    }
    drawn
}

fn new_table() -> Table {
    const WIDTH: u16 = 118;
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH);
    table
}
