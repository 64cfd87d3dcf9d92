//! The answer in five lines, before any table: what was measured, whether it was right, who is ahead in what, what to doubt.

use super::table;
use crate::results::Results;
use crate::results::comparison::Comparison;
use crate::results::metric::Metric;
use crate::results::runs::RunResult;
use crate::results::stats::Lead;
use crate::results::text::{Lang, Text, isolated, number, text};

/// The lines, none longer than `width` letters where its parts allow.
pub(crate) fn lines(results: &Results, lang: Lang, width: usize) -> Vec<String> {
    let mut lines = vec![facts(results), correctness(results)];
    lines.extend(standings(results));
    lines.push(doubts(results));
    lines
        .into_iter()
        .map(|line| line.fitted(lang, width))
        .collect()
}

/// A beginning, and parts of which as many are shown as there is room for.
struct Line {
    head: Text,
    parts: Vec<Text>,
}

impl Line {
    fn fitted(&self, lang: Lang, width: usize) -> String {
        const MORE: &str = ", …";
        let mut line = self.head.get(lang).to_owned();
        for (place, part) in self.parts.iter().enumerate() {
            let part = part.get(lang);
            let separator = if place > 0 { ", " } else { " " };
            let is_last = place + 1 == self.parts.len();
            let reserve = if is_last { 0 } else { MORE.chars().count() };
            let length = line.chars().count() + separator.len() + part.chars().count() + reserve;
            if length > width && place > 0 {
                return line + MORE;
            }
            line.push_str(separator);
            line.push_str(part);
        }
        line
    }
}

fn facts(results: &Results) -> Line {
    let servers: Vec<String> = results
        .runs
        .servers
        .iter()
        .map(|it| isolated(&it.name))
        .collect();
    let (times, minutes) = (results.runs.repeats, number(results.took_s / 60.0));
    let place = match &results.environment.pinned {
        Some(cores) => {
            let (server, generator) = (cores.server, cores.generator);
            text!(
                "máy chủ ở lõi {server}, bộ sinh tải ở lõi {generator}",
                "server on core {server}, generator on core {generator}"
            )
        }
        None => text!("không ghim lõi", "not pinned to cores"),
    };
    let mut parts = vec![
        text!("mỗi phép đo {times} lần", "each measured {times}×"),
        text!("{minutes} phút", "{minutes} min"),
        place,
    ];
    if !results.complete {
        parts.insert(0, text!("bị dừng giữa chừng", "interrupted"));
    }
    Line {
        head: Text::same(format!("{}:", servers.join(", "))),
        parts,
    }
}

fn correctness(results: &Results) -> Line {
    let all = &results.runs.all;
    let is_right = |result: &RunResult| result.measured().is_some_and(|it| it.figures.is_correct());
    let (right, of) = (
        all.iter().filter(|run| is_right(&run.result)).count(),
        all.len(),
    );
    let head = if right == of {
        text!(
            "✓ đủ và đúng thứ tự: cả {of} lần đo",
            "✓ everything arrived, in order: all {of} runs"
        )
    } else {
        text!(
            "✗ thiếu, lỗi hoặc hỏng: {right} trên {of} lần đo là đúng",
            "✗ lost, wrong or failed: only {right} of {of} runs are right"
        )
    };
    let parts = Vec::new();
    Line { head, parts }
}

/// Who is ahead in what; of one server its figures.
fn standings(results: &Results) -> Vec<Line> {
    let first = results.runs.servers.first().map(|it| isolated(&it.name));
    let first = first.unwrap_or_default();
    if results.runs.servers.len() < 2 {
        let (head, parts) = (Text::same("→"), figures(results));
        return vec![Line { head, parts }];
    }
    let of = |leads: &[Lead]| -> Vec<Text> {
        let lines = headline_comparisons(results);
        let chosen = lines.filter(|(line, _)| leads.contains(&line.ratio.lead));
        chosen
            .map(|(line, metric)| item(results, line, metric))
            .collect()
    };
    let lines = [
        (
            text!("→ {first} hơn:", "→ {first} is ahead:"),
            of(&[Lead::First]),
        ),
        (
            text!("→ {first} kém:", "→ {first} is behind:"),
            of(&[Lead::Second]),
        ),
        (
            text!("→ chưa phân hơn kém:", "→ no winner:"),
            of(&[Lead::Overlap, Lead::OneRun, Lead::Neither, Lead::NotCorrect]),
        ),
    ];
    let lines = lines.into_iter().filter(|(_, parts)| !parts.is_empty());
    // Five lines in all: of three kinds the undecided give way.
    lines
        .take(2)
        .map(|(head, parts)| Line { head, parts })
        .collect()
}

/// The figure that answers each scenario's question, in its largest case.
fn headline_comparisons(results: &Results) -> impl Iterator<Item = (&Comparison, &'static Metric)> {
    results.comparisons.iter().filter_map(|line| {
        let is_last = results.runs.last_case(line.scenario) == Some(line.case.as_str());
        let headline = results.runs.first_headline(line.scenario, &line.case)?;
        (is_last && headline.name == line.metric).then_some((line, headline))
    })
}

fn item(results: &Results, line: &Comparison, metric: &Metric) -> Text {
    let (scenario, times) = (line.scenario.name(), number(line.ratio.quotient));
    let (vi, en) = (metric.vi, metric.en);
    let mut item = text!("{scenario} ({vi}) {times}×", "{scenario} ({en}) {times}×");
    if results.runs.servers.len() > 2 {
        let second = isolated(&line.second);
        item.push(&Text::same(format!(" {second}")));
    }
    item
}

fn figures(results: &Results) -> Vec<Text> {
    let runs = &results.runs;
    let figure = |scenario| {
        let case = runs.last_case(scenario)?;
        let metric = runs.first_headline(scenario, case)?;
        let server = runs.servers.first()?;
        let summary = runs.summary(scenario, case, &server.name, metric)?;
        let value = format!("{} {}", table::spread(&summary), metric.unit);
        let (name, vi, en) = (scenario.name(), metric.vi, metric.en);
        Some(text!("{name} ({vi}) {value}", "{name} ({en}) {value}"))
    };
    runs.scenarios().filter_map(figure).collect()
}

fn doubts(results: &Results) -> Line {
    let count = results.warnings.len();
    let head = match count {
        0 => text!("✓ không có gì đáng ngờ", "✓ nothing to doubt"),
        1 => text!("! 1 điều đáng ngờ, xem cuối", "! 1 doubt, see the end"),
        _ => text!(
            "! {count} điều đáng ngờ, xem cuối",
            "! {count} doubts, see the end"
        ),
    };
    let parts = Vec::new();
    Line { head, parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_shows_as_many_parts_as_fit() {
        let parts = ["one", "two", "three"].map(Text::same).to_vec();
        let line = Line {
            head: Text::same("→"),
            parts,
        };
        assert_eq!(line.fitted(Lang::En, 80), "→ one, two, three");
        assert_eq!(line.fitted(Lang::En, 17), "→ one, two, three");
        assert_eq!(line.fitted(Lang::En, 16), "→ one, two, …");
        assert_eq!(line.fitted(Lang::En, 3), "→ one, …", "one is always shown");
    }
}
