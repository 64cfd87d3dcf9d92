//! The difference of two comparisons as Markdown, for a pull request.

use std::fmt::Write as _;

use comfy_table::CellAlignment;

use super::table::{heading, markdown, spread};
use crate::results::diff::{Change, Saved, Verdict};
use crate::results::text::{Lang, Text, number, text};

/// A heading, one line that sums up, and a row for each figure.
pub(crate) fn render(old: &Saved, new: &Saved, changes: &[Change], lang: Lang) -> String {
    let mut out = String::new();
    let named = |saved: &Saved| {
        let commit = saved.environment.commit.as_deref().unwrap_or("?");
        format!("{commit} ({})", saved.environment.date)
    };
    let count = |verdict: fn(Verdict) -> bool| {
        changes
            .iter()
            .filter(|change| verdict(change.verdict))
            .count()
    };
    let worse = count(Verdict::is_regression);
    let better = count(|verdict| verdict == Verdict::Better);
    let rest = changes.len() - worse - better;
    let sum = text!(
        "**{worse} kém đi, {better} khá lên, {rest} không phân biệt được.**",
        "**{worse} worse, {better} better, {rest} not to be told apart.**"
    );
    writeln!(
        out,
        "### compare: {} → {}\n\n{}\n",
        named(old),
        named(new),
        sum.get(lang)
    )
    .expect("writing to memory does not fail");
    let mut drawn = markdown();
    let header = [
        text!("trường hợp", "case"),
        text!("con số", "figure"),
        text!("cũ", "old"),
        text!("mới", "new"),
        text!("mới / cũ", "new / old"),
        text!("", ""),
    ];
    drawn.set_header(header.iter().map(|text| text.get(lang)));
    let mut sorted: Vec<&Change> = changes.iter().collect();
    // What has become worse is read first.
    sorted.sort_by_key(|change| !change.verdict.is_regression());
    for change in sorted {
        let (scenario, case, server) = (change.scenario.name(), &change.case, &change.server);
        let quotient = number(change.ratio.quotient);
        let error = change
            .ratio
            .error
            .map(|error| format!(" ± {}", number(error)));
        drawn.add_row([
            format!("{server} · {scenario} · {case}"),
            heading(change.metric).get(lang).to_owned(),
            spread(&change.old),
            spread(&change.new),
            quotient + &error.unwrap_or_default(),
            label(change.verdict).get(lang).to_owned(),
        ]);
    }
    for column in drawn.column_iter_mut().skip(2).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(out, "{drawn}").expect("writing to memory does not fail");
    out
}

fn label(verdict: Verdict) -> Text {
    let (vi, en) = match verdict {
        Verdict::Better => ("khá lên", "better"),
        Verdict::Worse => ("**kém đi**", "**worse**"),
        Verdict::Slight => ("dưới ngưỡng", "below the threshold"),
        Verdict::Overlap => ("các khoảng chồng nhau", "intervals overlap"),
        Verdict::OneRun => ("đo một lần", "measured once"),
        Verdict::Broken => (
            "**giờ giao thiếu hoặc sai**",
            "**now loses messages or fails**",
        ),
        Verdict::NotCorrect => (
            "bản cũ giao thiếu hoặc sai",
            "the old one lost messages or failed",
        ),
    };
    Text::new(vi, en)
}
