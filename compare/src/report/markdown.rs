//! The results as Markdown, to be pasted somewhere.

use std::fmt::Write as _;

use super::table;
use crate::results::Results;
use crate::results::claims::has_both_models;
use crate::results::text::Lang;

pub(crate) fn render(results: &Results, lang: Lang) -> String {
    let mut out = String::new();
    write_all(&mut out, results, lang).expect("writing to memory does not fail");
    out
}

fn write_all(out: &mut String, results: &Results, lang: Lang) -> std::fmt::Result {
    let environment = &results.environment;
    let machine = [&environment.cpu, &environment.kernel, &environment.commit];
    let machine: Vec<&str> = machine.into_iter().flatten().map(String::as_str).collect();
    writeln!(out, "# compare, {}\n", environment.date)?;
    writeln!(out, "`{}`\n", environment.command)?;
    writeln!(out, "{}\n", machine.join(" · "))?;
    if has_both_models(&results.runs) {
        writeln!(out, "{}\n", table::claims_markdown(results, lang))?;
    }
    for scenario in results.runs.scenarios() {
        let title = table::title(scenario);
        writeln!(out, "## {}: {}\n", scenario.name(), title.get(lang))?;
        let drawn = table::of(results, scenario).markdown(lang, " ⚠");
        writeln!(out, "{drawn}\n")?;
    }
    for warned in &results.warnings {
        let (says, advice) = (warned.says.get(lang), warned.advice.get(lang));
        writeln!(out, "- ⚠ {says} {advice}")?;
    }
    Ok(())
}
