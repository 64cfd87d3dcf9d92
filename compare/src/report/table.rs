//! A scenario's figures as a table, and comparisons as sentences, for all forms of the report.

use comfy_table::CellAlignment;

use crate::plan::scenario::Scenario;
use crate::results::Results;
use crate::results::comparison::{Comparison, between};
use crate::results::metric::{Metric, headlines};
use crate::results::runs::Runs;
use crate::results::stats::{Lead, Summary};
use crate::results::text::{Lang, Text, isolated, number, text};

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
    pub(crate) first: String,
    pub(crate) second: String,
    /// For each figure of the table its ratio, and which server is ahead.
    pub(crate) cells: Vec<Option<(String, Option<String>)>>,
}

/// A scenario's headline figures.
pub(crate) fn of(results: &Results, scenario: Scenario) -> Table {
    let runs = &results.runs;
    let was_measured = |metric: &&Metric| {
        results
            .summaries
            .iter()
            .any(|line| line.scenario == scenario && line.metric == metric.name)
    };
    let metrics = headlines(scenario).iter().copied();
    let metrics: Vec<&Metric> = metrics.filter(was_measured).collect();
    let mut header = vec![text!("trường hợp", "case"), text!("máy chủ", "server")];
    header.extend(metrics.iter().map(|metric| heading(metric)));
    let mut rows = Vec::new();
    for case in runs.cases_of(scenario) {
        for server in &runs.servers {
            let cell = |metric: &&Metric| {
                let summary = runs.summary(scenario, case, &server.name, metric);
                summary.map_or_else(|| "–".to_owned(), |summary| spread(&summary))
            };
            let mut warnings = results.warnings.iter().map(|warned| &warned.warning);
            rows.push(Row {
                case: case.to_owned(),
                server: server.name.clone(),
                cells: metrics.iter().map(cell).collect(),
                doubtful: warnings.any(|warning| warning.concerns(&server.name, scenario, case)),
            });
        }
    }
    Table {
        header,
        rows,
        ratios: ratio_rows(runs, scenario, &metrics),
    }
}

fn ratio_rows(runs: &Runs, scenario: Scenario, metrics: &[&Metric]) -> Vec<RatioRow> {
    let Some((first, others)) = runs.servers.split_first() else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    for case in runs.cases_of(scenario) {
        for second in others {
            let cell = |metric: &&Metric| {
                let pair = (&*first.name, &*second.name);
                let line = between(runs, scenario, case, metric, pair)?;
                let ahead = match line.ratio.lead {
                    Lead::First => Some(line.first.clone()),
                    Lead::Second => Some(line.second.clone()),
                    Lead::Overlap | Lead::OneRun | Lead::Neither | Lead::NotCorrect => None,
                };
                Some((ratio(&line), ahead))
            };
            rows.push(RatioRow {
                case: case.to_owned(),
                first: first.name.clone(),
                second: second.name.clone(),
                cells: metrics.iter().map(cell).collect(),
            });
        }
    }
    rows
}

impl Table {
    /// The rows without the ratios, as Markdown; `mark` is put behind a server's name where the row is doubtful.
    pub(crate) fn markdown(self, lang: Lang, mark: &str) -> comfy_table::Table {
        let mut drawn = markdown();
        drawn.set_header(self.header.iter().map(|text| text.get(lang)));
        for row in self.rows {
            let mark = if row.doubtful { mark } else { "" };
            drawn.add_row([row.case, row.server + mark].into_iter().chain(row.cells));
        }
        for column in drawn.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        drawn
    }
}

/// The table of the guide, as Markdown.
pub(crate) fn claims_markdown(results: &Results, lang: Lang) -> comfy_table::Table {
    let mut drawn = markdown();
    let header = [
        text!("Đồng bộ", "Synchronous"),
        text!("Bất đồng bộ", "Asynchronous"),
        text!("Đo được", "Measured"),
        text!("Kết luận", "Verdict"),
    ];
    drawn.set_header(header.iter().map(|text| text.get(lang)));
    for claim in &results.claims {
        let figures = claim.figures.iter();
        let figures: Vec<String> = figures
            .map(|evidence| format!("{}: {}", evidence.server, evidence.shows.get(lang)))
            .collect();
        drawn.add_row([
            claim.synchronous.get(lang),
            claim.asynchronous.get(lang),
            &figures.join("<br>"),
            claim.says.get(lang),
        ]);
    }
    drawn
}

/// An empty table as Markdown has them.
pub(crate) fn markdown() -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table
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

/// The ratio with its names: `evloop / thread = 3.10 ± 0.20`.
pub(crate) fn equation(comparison: &Comparison) -> String {
    let [first, second] = [&comparison.first, &comparison.second].map(|name| isolated(name));
    format!("{first} / {second} = {}", ratio(comparison))
}

/// The comparison in words.
pub(crate) fn sentence(comparison: &Comparison) -> Text {
    let equation = equation(comparison);
    let ahead = |name: &str| {
        let name = isolated(name);
        text!("{name} hơn", "{name} is ahead")
    };
    let Text { vi, en } = match comparison.ratio.lead {
        Lead::First => ahead(&comparison.first),
        Lead::Second => ahead(&comparison.second),
        Lead::Overlap => text!(
            "chưa phân được hơn kém (các khoảng đo chồng nhau)",
            "no winner: the intervals overlap"
        ),
        Lead::OneRun => text!(
            "chưa kết luận (mỗi bên đo một lần)",
            "no winner named: measured once each"
        ),
        Lead::NotCorrect => text!(
            "không so sánh (có bên giao thiếu)",
            "not compared: one did not deliver everything"
        ),
        Lead::Neither => return Text::same(equation),
    };
    text!("{equation} – {vi}", "{equation} – {en}")
}

/// A scenario's question.
pub(crate) fn title(scenario: Scenario) -> Text {
    let (vi, en) = match scenario {
        Scenario::Idle => (
            "Client nhàn rỗi tốn bao nhiêu?",
            "What does an idle client cost?",
        ),
        Scenario::Connect => ("Bắt tay nhanh đến đâu?", "How fast are handshakes?"),
        Scenario::Echo => ("Một vòng đi về mất bao lâu?", "How long is a round trip?"),
        Scenario::Room => (
            "Phòng lớn nhất mà ai cũng nói mỗi giây một câu (p99 ≤ 100 ms)",
            "The largest room where everyone speaks once a second (p99 ≤ 100 ms)",
        ),
        Scenario::Fanout => (
            "Một phòng, tin nhắn mỗi lúc một dày",
            "One room, messages come faster and faster",
        ),
        Scenario::Dashboard => (
            "Nhịp dashboard trễ bao nhiêu?",
            "How late do dashboard ticks come?",
        ),
        Scenario::Slow => (
            "Vài client không bao giờ đọc: người khác thấy gì?",
            "Some never read: what do the others feel?",
        ),
        Scenario::Spam => (
            "Spam vượt giới hạn: người khác thấy gì?",
            "Spam over the limit: what do the others feel?",
        ),
        Scenario::Stall => (
            "Bắt tay dở dang: người đến sau có phải chờ?",
            "Half-open handshakes: do newcomers have to wait?",
        ),
        Scenario::Mixed => ("Một ngày bình thường", "A day in the life"),
        Scenario::Sparse => (
            "Mỗi client mỗi phút một tin: một lõi phục vụ được bao nhiêu?",
            "A message a minute from each: how many could a core serve?",
        ),
        Scenario::C1m => (
            "Nhiều client nhàn rỗi nhất có thể: một triệu cần bao nhiêu?",
            "As many idle clients as fit: what would a million take?",
        ),
    };
    Text::new(vi, en)
}
