//! The results as text: the answer, then a table for each scenario, within the width of the terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};

use comfy_table::{
    Cell, CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, Width, presets,
};

use super::{answer, table};
use crate::lesson::{Lesson, Verdict};
use crate::plan::scenario::Scenario;
use crate::results::claims::has_both_models;
use crate::results::comparison::{Comparison, between};
use crate::results::metric::{Metric, headlines};
use crate::results::text::{Lang, Text, isolated};
use crate::results::{Results, Warned};

/// What the text is written on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    pub(crate) lang: Lang,
    width: u16,
    /// Lines are drawn for people; what is piped is plain.
    draws_lines: bool,
}

/// Of what is piped, and of a terminal that does not say.
const WIDTH: u16 = 80;
const WIDTH_LEAST: u16 = 60;
const WIDTH_MOST: u16 = 110;
/// Of the guide's claims.
const CLAIM_WIDTH: u16 = 26;

impl Page {
    /// Standard output.
    pub(crate) fn stdout(lang: Lang) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let width = terminal_size::terminal_size().filter(|_| is_terminal);
        let width = width.map_or(WIDTH, |(terminal_size::Width(columns), _)| columns);
        Self {
            lang,
            width: width.clamp(WIDTH_LEAST, WIDTH_MOST),
            draws_lines: is_terminal,
        }
    }

    /// An empty table of this width, without a line under each row.
    pub(crate) fn table(self) -> Table {
        let mut table = Table::new();
        let style = if self.draws_lines {
            presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─'))
        } else {
            presets::NOTHING
        };
        table
            .load_style(style)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(self.width);
        table
    }
}

impl Page {
    /// A sentence behind a mark, in as many lines as it needs.
    fn write_wrapped(self, out: &mut String, mark: &str, sentence: &str) -> std::fmt::Result {
        let mut drawn = self.table();
        drawn.add_row([mark, sentence]);
        writeln!(out, "{}", drawn.trim_fmt())
    }
}

/// Everything worth a look, the answer first, the doubts last.
pub(crate) fn render(results: &Results, page: Page) -> String {
    let mut out = String::new();
    write_all(&mut out, results, page).expect("writing to memory does not fail");
    out
}

/// A lesson: what to look for, what was seen, and what follows from it.
pub(crate) fn render_lesson(
    results: &Results,
    lesson: Lesson,
    verdict: &Verdict,
    page: Page,
) -> String {
    let mut out = String::new();
    write_lesson(&mut out, results, lesson, verdict, page)
        .expect("writing to memory does not fail");
    out
}

fn write_lesson(
    out: &mut String,
    results: &Results,
    lesson: Lesson,
    verdict: &Verdict,
    page: Page,
) -> std::fmt::Result {
    let lang = page.lang;
    writeln!(out, "{}\n", lesson.title().get(lang))?;
    page.write_wrapped(out, "?", lesson.look_for().get(lang))?;
    writeln!(out)?;
    for scenario in results.runs.scenarios() {
        writeln!(out, "{}\n", figures(results, scenario, page).trim_fmt())?;
    }
    let (held, says) = (verdict.held.label(), verdict.says.get(lang));
    page.write_wrapped(out, "→", &format!("[{}] {says}", held.get(lang)))?;
    writeln!(out)?;
    write_doubts(out, results, page)
}

fn write_all(out: &mut String, results: &Results, page: Page) -> std::fmt::Result {
    for line in answer::lines(results, page.lang, page.width.into()) {
        writeln!(out, "{line}")?;
    }
    writeln!(out)?;
    for scenario in results.runs.scenarios() {
        write_scenario(out, results, scenario, page)?;
    }
    if !results.claims.is_empty() && has_both_models(&results.runs) {
        writeln!(out, "{}\n", claims(results, page).trim_fmt())?;
    }
    write_doubts(out, results, page)
}

/// What is to be done about doubts of one kind is said once, behind the last of them.
fn write_doubts(out: &mut String, results: &Results, page: Page) -> std::fmt::Result {
    let mut advices: Vec<&str> = Vec::new();
    for warned in &results.warnings {
        let advice = warned.advice.get(page.lang);
        if !advices.contains(&advice) {
            advices.push(advice);
        }
    }
    for advice in advices {
        let same = |warned: &&Warned| warned.advice.get(page.lang) == advice;
        for warned in results.warnings.iter().filter(same) {
            page.write_wrapped(out, "!", warned.says.get(page.lang))?;
        }
        page.write_wrapped(out, " ", advice)?;
    }
    Ok(())
}

fn write_scenario(
    out: &mut String,
    results: &Results,
    scenario: Scenario,
    page: Page,
) -> std::fmt::Result {
    let title = table::title(scenario);
    writeln!(out, "{}: {}", scenario.name(), title.get(page.lang))?;
    writeln!(out, "{}", figures(results, scenario, page).trim_fmt())?;
    let of_scenario = |line: &&Comparison| line.scenario == scenario;
    for comparison in results.comparisons.iter().filter(of_scenario) {
        // The first figure answers the scenario's question; the others stand in the report.
        let case = &comparison.case;
        let headline = results.runs.first_headline(scenario, case);
        let Some(Metric { vi, en, .. }) = headline.filter(|it| it.name == comparison.metric) else {
            continue;
        };
        let (name, sentence) = (Text::new(*vi, *en), table::sentence(comparison));
        let (name, sentence) = (name.get(page.lang), sentence.get(page.lang));
        page.write_wrapped(out, "→", &format!("{case}, {name}: {sentence}"))?;
    }
    writeln!(out)
}

/// A row for each figure, a column for each server: narrow, however many figures there are.
fn figures(results: &Results, scenario: Scenario, page: Page) -> Table {
    let runs = &results.runs;
    let names: Vec<&str> = runs.servers.iter().map(|it| it.name.as_str()).collect();
    let pair = match names[..] {
        [first, second] => Some((first, second)),
        _ => None,
    };
    let mut drawn = page.table();
    let mut header = vec![String::new()];
    header.extend(names.iter().map(|name| isolated(name)));
    header.extend(pair.map(|(first, second)| format!("{first} / {second}")));
    drawn.set_header(header);
    for case in runs.cases_of(scenario) {
        let doubt = |server: &&str| {
            let mut warnings = results.warnings.iter().map(|warned| &warned.warning);
            let doubtful = warnings.any(|warning| warning.concerns(server, scenario, case));
            if doubtful { "!" } else { "" }
        };
        drawn.add_row(std::iter::once(case).chain(names.iter().map(doubt)));
        for metric in headlines(scenario) {
            let summary = |server: &&str| runs.summary(scenario, case, server, metric);
            if names.iter().all(|name| summary(name).is_none()) {
                continue;
            }
            let mut row = vec![table::heading(metric).get(page.lang).to_owned()];
            row.extend(
                names.iter().map(|name| {
                    summary(name).map_or_else(|| "–".to_owned(), |it| table::spread(&it))
                }),
            );
            let ratio = pair.and_then(|pair| between(runs, scenario, case, metric, pair));
            row.extend(ratio.map(|line| table::ratio(&line)));
            drawn.add_row(row);
        }
    }
    for column in drawn.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    drawn
}

/// The table of the guide: each of its claims, and what came of it.
fn claims(results: &Results, page: Page) -> Table {
    let mut drawn = page.table();
    for claim in &results.claims {
        let held = claim.held.label();
        let [held, synchronous, asynchronous] =
            [&held, &claim.synchronous, &claim.asynchronous].map(|text| text.get(page.lang));
        drawn.add_row([
            Cell::new(format!("{synchronous} | {asynchronous}")),
            Cell::new(format!("[{held}] {}", claim.says.get(page.lang))),
        ]);
    }
    if let Some(column) = drawn.column_mut(0) {
        column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(CLAIM_WIDTH)));
    }
    drawn
}
