//! The results as Markdown, to be pasted somewhere.

use std::fmt::Write as _;

use super::table;
use crate::plan::scenario::Scenario;
use crate::results::Results;
use crate::results::text::{Lang, Text};

pub(crate) fn render(results: &Results, lang: Lang) -> String {
    let mut out = String::new();
    write_all(&mut out, results, lang).expect("writing to memory does not fail");
    out
}

fn write_all(out: &mut String, results: &Results, lang: Lang) -> std::fmt::Result {
    let environment = &results.environment;
    writeln!(out, "# compare, {}\n", environment.date)?;
    writeln!(out, "`{}`\n", environment.command)?;
    let machine = [
        environment.cpu.clone(),
        environment.kernel.clone(),
        environment.commit.clone(),
    ];
    writeln!(
        out,
        "{}\n",
        machine
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" · ")
    )?;
    if results.has_both_models() {
        write_claims(out, results, lang)?;
    }
    for scenario in Scenario::ALL {
        if !results.runs.iter().any(|run| run.scenario == scenario) {
            continue;
        }
        writeln!(
            out,
            "## {}: {}\n",
            scenario.name(),
            scenario.title().get(lang)
        )?;
        let shown = table::of(results, scenario);
        let header: Vec<&str> = shown.header.iter().map(|text| text.get(lang)).collect();
        row(out, &header)?;
        row(out, &vec!["---"; header.len()])?;
        for line in &shown.rows {
            let server = if line.doubtful {
                format!("{} ⚠", line.server)
            } else {
                line.server.clone()
            };
            let cells = [line.case.as_str(), &server]
                .into_iter()
                .chain(line.cells.iter().map(String::as_str));
            row(out, &cells.collect::<Vec<_>>())?;
        }
        writeln!(out)?;
    }
    for warned in &results.warnings {
        writeln!(
            out,
            "- ⚠ {} {}",
            warned.says.get(lang),
            warned.advice.get(lang)
        )?;
    }
    Ok(())
}

fn write_claims(out: &mut String, results: &Results, lang: Lang) -> std::fmt::Result {
    let header = [
        Text::new("Đồng bộ", "Synchronous"),
        Text::new("Bất đồng bộ", "Asynchronous"),
        Text::new("Đo được", "Measured"),
        Text::new("Kết luận", "Verdict"),
    ];
    row(out, &header.each_ref().map(|text| text.get(lang)))?;
    row(out, &["---"; 4])?;
    for claim in &results.claims {
        let figures = claim
            .figures
            .iter()
            .map(|evidence| format!("{}: {}", evidence.server, evidence.shows.get(lang)));
        let figures = figures.collect::<Vec<_>>().join("<br>");
        row(
            out,
            &[
                claim.synchronous.get(lang),
                claim.asynchronous.get(lang),
                &figures,
                claim.says.get(lang),
            ],
        )?;
    }
    writeln!(out)
}

fn row(out: &mut String, cells: &[&str]) -> std::fmt::Result {
    writeln!(out, "| {} |", cells.join(" | "))
}
