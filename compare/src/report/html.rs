//! The whole report in one file: no network, no dependency; both languages and both colour schemes are in it.

use std::fmt::Write as _;

use super::charts::{self, Chart};
use super::svg::escape;
use super::table::{self, RatioRow};
use crate::plan::scenario::Scenario;
use crate::results::claims::Held;
use crate::results::stats::Lead;
use crate::results::text::{Lang, Text, number};
use crate::results::{Comparison, Results};

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

pub(crate) fn render(results: &Results, lang: Lang) -> String {
    let mut page = Page(String::new());
    page.head(lang);
    page.overview(results);
    if results.has_both_models() {
        page.claims(results);
    }
    page.charts(results);
    page.scenarios(results);
    page.doubts(results);
    page.method(results);
    page.0.push_str("</main></body></html>\n");
    page.0
}

/// The page so far.
struct Page(String);

/// Both languages; the page shows one.
fn both(text: &Text) -> String {
    if text.vi == text.en {
        return escape(&text.vi);
    }
    format!(
        r#"<span lang="vi">{}</span><span lang="en">{}</span>"#,
        escape(&text.vi),
        escape(&text.en)
    )
}

fn say(vi: &str, en: &str) -> String {
    both(&Text::new(vi, en))
}

impl Page {
    fn add(&mut self, html: &str) {
        self.0.push_str(html);
        self.0.push('\n');
    }

    fn addf(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.0
            .write_fmt(arguments)
            .expect("writing to memory does not fail");
        self.0.push('\n');
    }

    fn head(&mut self, lang: Lang) {
        let lang = if lang == Lang::Vi { "vi" } else { "en" };
        self.addf(format_args!(
            r#"<!doctype html>
<html lang="{lang}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>compare · WebSocket Realtime Lab</title>
<style>{STYLE}</style><script>{SCRIPT}</script></head><body>
<header class="top"><strong>WebSocket Realtime Lab <span class="dim">· compare</span></strong>
<div class="switches"><button id="lang" type="button" aria-label="Tiếng Việt / English">vi · en</button>
<button id="theme" type="button" aria-label="light / dark">◐</button></div></header><main>"#
        ));
    }

    fn overview(&mut self, results: &Results) {
        let environment = &results.environment;
        self.addf(format_args!(
            "<h1>{}</h1>",
            say(
                "Đồng bộ hay bất đồng bộ? Đo thử.",
                "Synchronous or asynchronous? Measured."
            )
        ));
        let minutes = number(results.took_s / 60.0);
        let pinned = match &environment.pinned {
            Some(cores) => Text::new(
                format!(
                    "máy chủ ghim vào lõi {}, bộ sinh tải vào lõi {}",
                    cores.server, cores.generator
                ),
                format!(
                    "server pinned to core {}, generator to core {}",
                    cores.server, cores.generator
                ),
            ),
            None => Text::new("không ghim lõi", "not pinned to cores"),
        };
        let facts = [
            Text::same(environment.date.clone()),
            Text::same(environment.cpu.clone().unwrap_or_default()),
            Text::new(
                format!("{} lõi", environment.cores),
                format!("{} cores", environment.cores),
            ),
            pinned,
            match results.repeats {
                1 => Text::new(
                    format!("mỗi phép đo một lần, {minutes} phút"),
                    format!("each measured once, {minutes} minutes"),
                ),
                times => Text::new(
                    format!("mỗi phép đo {times} lần, {minutes} phút"),
                    format!("each measured {times} times, {minutes} minutes"),
                ),
            },
        ];
        let facts: Vec<String> = facts
            .iter()
            .filter(|fact| !fact.vi.is_empty())
            .map(both)
            .collect();
        self.addf(format_args!(
            r#"<p class="facts">{}</p>"#,
            facts.join(" · ")
        ));
        self.legend(results);
        if !results.complete {
            let note = say(
                "Bị dừng giữa chừng: báo cáo chỉ có những gì đã đo.",
                "Interrupted: the report has what was measured until then.",
            );
            self.addf(format_args!(r#"<p class="notice">{note}</p>"#));
        }
        if results.repeats == 1 {
            let note = say(
                "Mỗi phép đo chỉ chạy một lần nên không nêu bên nào hơn; bỏ --quick để có kết luận.",
                "Everything was measured once, so no winner is named; leave out --quick for a verdict.",
            );
            self.addf(format_args!(r#"<p class="notice">{note}</p>"#));
        }
        self.findings(results);
    }

    fn legend(&mut self, results: &Results) {
        let names = results.servers.iter().enumerate().map(|(colour, server)| {
            format!(
                r#"<span class="key"><i class="swatch s{colour}"></i>{}</span>"#,
                escape(&server.name)
            )
        });
        self.addf(format_args!(
            r#"<p class="legend">{}</p>"#,
            names.collect::<String>()
        ));
    }

    /// The first figure of each scenario, the servers side by side.
    fn findings(&mut self, results: &Results) {
        self.add(r#"<div class="cards">"#);
        for scenario in Scenario::ALL {
            let Some(&case) = results.cases_of(scenario).last() else {
                continue;
            };
            let Some(metric) = results.first_headline(scenario, case) else {
                continue;
            };
            let mut values = String::new();
            for (colour, server) in results.servers.iter().enumerate() {
                let value = results.summary(scenario, case, &server.name, metric);
                let value = value.map_or_else(|| "–".to_owned(), |summary| number(summary.median));
                let _ = write!(
                    values,
                    r#"<div><i class="swatch s{colour}"></i><b>{value}</b> <small>{}</small></div>"#,
                    escape(metric.unit)
                );
            }
            let lead = results
                .comparisons
                .iter()
                .filter(|line| {
                    line.scenario == scenario && line.case == case && line.metric == metric.name
                })
                .map(|line| {
                    format!(
                        r#"<p class="lead {}">{}</p>"#,
                        lead_class(line.ratio.lead),
                        both(&lead_text(line))
                    )
                });
            self.addf(format_args!(
                r##"<a class="card" href="#{}"><h3>{}</h3><p class="dim">{} · {}</p><div class="values">{values}</div>{}</a>"##,
                scenario.name(),
                both(&scenario.title()),
                both(&Text::new(metric.vi, metric.en)),
                escape(case),
                lead.collect::<String>()
            ));
        }
        self.add("</div>");
    }

    fn claims(&mut self, results: &Results) {
        self.addf(format_args!(
            "<h2>{}</h2><p class=\"dim\">{}</p>",
            say("Bảng so sánh của tài liệu, đo lại", "The guide's table, measured"),
            say(
                "Hai cột đầu là lời của tài liệu (mục 3). Hai cột sau là số đo và kết luận sinh ra từ số đo.",
                "The first two columns are the guide's own words (section 3). The others are figures, and what follows from them."
            )
        ));
        self.addf(format_args!(
            r#"<div class="scroll"><table class="claims"><thead><tr><th>{}</th><th>{}</th><th>{}</th><th>{}</th></tr></thead><tbody>"#,
            say("Đồng bộ (Synchronous)", "Synchronous (Đồng bộ)"),
            say("Bất đồng bộ (Asynchronous)", "Asynchronous (Bất đồng bộ)"),
            say("Đo được", "Measured"),
            say("Kết luận", "Verdict")
        ));
        for claim in &results.claims {
            let figures = claim.figures.iter().map(|evidence| {
                let colour = results.colour(&evidence.server);
                format!(
                    r#"<li><i class="swatch s{colour}"></i><b>{}</b> {}</li>"#,
                    escape(&evidence.server),
                    both(&evidence.shows)
                )
            });
            let class = match claim.held {
                Held::Confirmed => "good",
                Held::Partly => "half",
                Held::Refuted => "bad",
                Held::Unknown => "none",
            };
            self.addf(format_args!(
                r#"<tr><td>{}</td><td>{}</td><td><p class="dim">{}</p><ul>{}</ul></td><td><span class="held {class}">{}</span> {}</td></tr>"#,
                both(&claim.synchronous),
                both(&claim.asynchronous),
                both(&claim.measured),
                figures.collect::<String>(),
                both(&claim.held.label()),
                both(&claim.says)
            ));
        }
        self.add("</tbody></table></div>");
    }

    fn charts(&mut self, results: &Results) {
        let groups: [(String, String, Vec<Chart>); 4] = [
            (
                say("Sức chứa của một phòng", "How much a room holds"),
                String::new(),
                [
                    charts::search(results),
                    charts::capacity(results),
                    charts::deliveries(results),
                ]
                .into_iter()
                .flatten()
                .collect(),
            ),
            (
                say("Bộ nhớ và luồng", "Memory and threads"),
                String::new(),
                charts::growth(results),
            ),
            (
                say("Độ trễ theo phân vị", "Latency by percentile"),
                say(
                    "Đường liền: tính từ lúc tin ĐẾN HẠN gửi. Đường đứt: tính từ lúc gửi được, như công cụ thông thường – \
                     giấu mất thời gian chờ (coordinated omission).",
                    "Solid: from when a message was due. Dashed: from when it was sent, as usual tools have it, which hides \
                     the wait (coordinated omission).",
                ),
                charts::latencies(results),
            ),
            (
                say(
                    "CPU của máy chủ cho mỗi lần giao",
                    "The server's CPU for a delivery",
                ),
                say(
                    "Phần đậm: không gian người dùng (mã của máy chủ). Phần nhạt: nhân hệ điều hành.",
                    "Strong: user space, the server's own code. Pale: the kernel.",
                ),
                charts::cpu(results),
            ),
        ];
        for (title, note, charts) in groups {
            if charts.is_empty() {
                continue;
            }
            self.addf(format_args!("<h2>{title}</h2>"));
            if !note.is_empty() {
                self.addf(format_args!(r#"<p class="dim">{note}</p>"#));
            }
            self.legend(results);
            // Where there are both, two low charts take the height of a tall one.
            let tall = charts.iter().filter(|chart| chart.is_tall()).count();
            let class = if tall > 0 && tall < charts.len() {
                "charts mixed"
            } else {
                "charts"
            };
            self.addf(format_args!(r#"<div class="{class}">"#));
            for chart in charts {
                self.addf(format_args!(
                    r#"<figure class="{}"><figcaption><b>{}</b><span class="dim">{}</span></figcaption>{}</figure>"#,
                    if chart.is_tall() { "tall" } else { "low" },
                    both(&chart.title),
                    both(&chart.note),
                    chart.svg
                ));
            }
            self.add("</div>");
        }
    }

    fn scenarios(&mut self, results: &Results) {
        self.addf(format_args!(
            "<h2>{}</h2><p class=\"dim\">{}</p>",
            say("Tất cả kịch bản", "All scenarios"),
            say(
                "Trung vị [nhỏ nhất–lớn nhất] của các lần đo; tỉ số ± sai số, in đậm với màu của bên hơn khi các khoảng đo không chồng \
                 nhau. ⚠: xem phần nghi ngờ. Số đầy đủ, kể cả histogram thô, ở results.json.",
                "Median [least–greatest] of the repeats; ratio ± error, bold and in the colour of the server that is ahead where \
                 the intervals do not overlap. ⚠: see the doubts. All figures, raw histograms included, are in results.json."
            )
        ));
        for scenario in Scenario::ALL {
            if results.runs.iter().any(|run| run.scenario == scenario) {
                self.scenario(results, scenario);
            }
        }
    }

    fn scenario(&mut self, results: &Results, scenario: Scenario) {
        let shown = table::of(results, scenario);
        self.addf(format_args!(
            r#"<section id="{}"><h3><code>{}</code> {}</h3><div class="scroll"><table class="figures"><thead><tr>"#,
            scenario.name(),
            scenario.name(),
            both(&scenario.title())
        ));
        for heading in &shown.header {
            self.addf(format_args!("<th>{}</th>", both(heading)));
        }
        self.add("</tr></thead><tbody>");
        for case in results.cases_of(scenario) {
            for row in shown.rows.iter().filter(|row| row.case == case) {
                let mark = if row.doubtful { " ⚠" } else { "" };
                let colour = results.colour(&row.server);
                let cells = row
                    .cells
                    .iter()
                    .map(|cell| escape(cell))
                    .collect::<Vec<_>>()
                    .join("</td><td>");
                self.addf(format_args!(
                    r#"<tr><td>{}</td><td><i class="swatch s{colour}"></i>{}{mark}</td><td>{cells}</td></tr>"#,
                    escape(&row.case),
                    escape(&row.server)
                ));
            }
            for row in shown.ratios.iter().filter(|row| row.case == case) {
                self.ratio_row(results, row);
            }
        }
        self.add("</tbody></table></div></section>");
    }

    /// A ratio is bold, with the colour of the server that is ahead, where one is.
    fn ratio_row(&mut self, results: &Results, row: &RatioRow) {
        self.addf(format_args!(
            r#"<tr class="ratio"><td></td><td>{}</td>"#,
            escape(&row.name)
        ));
        for cell in &row.cells {
            match cell {
                None => self.add("<td>–</td>"),
                Some((ratio, None)) => self.addf(format_args!("<td>{ratio}</td>")),
                Some((ratio, Some(ahead))) => self.addf(format_args!(
                    r#"<td><i class="swatch s{}" title="{}"></i><b>{ratio}</b></td>"#,
                    results.colour(ahead),
                    escape(ahead)
                )),
            }
        }
        self.add("</tr>");
    }

    fn doubts(&mut self, results: &Results) {
        if results.warnings.is_empty() && results.skipped.is_empty() {
            return;
        }
        self.addf(format_args!(
            "<h2>{}</h2><ul class=\"doubts\">",
            say("Điều cần nghi ngờ", "What to doubt")
        ));
        for warned in &results.warnings {
            self.addf(format_args!(
                "<li>{} <span class=\"dim\">{}</span></li>",
                both(&warned.says),
                both(&warned.advice)
            ));
        }
        for skipped in &results.skipped {
            self.addf(format_args!(
                "<li>{}: <code>{}</code></li>",
                both(&Text::new(
                    format!("{} không tham gia", skipped.server),
                    format!("{} did not take part", skipped.server)
                )),
                escape(&skipped.reason)
            ));
        }
        self.add("</ul>");
    }

    fn method(&mut self, results: &Results) {
        let environment = &results.environment;
        self.addf(format_args!(
            "<h2>{}</h2>",
            say("Đo thế nào, trên máy nào", "How, and on what machine")
        ));
        self.addf(format_args!(
            "<p>{}</p>",
            say(
                "Vòng mở: mỗi tin có giờ đến hạn định trước, độ trễ tính từ giờ đó; echo và bắt tay là vòng kín. Mỗi lần đo dùng \
                 một tiến trình máy chủ mới, làm nóng rồi mới đo; các máy chủ luân phiên A B B A. Số liệu máy chủ lấy từ /proc \
                 của chính tiến trình đó, chỉ trong khoảng đo. Tỉ số kèm sai số lan truyền; không nêu bên thắng khi các khoảng \
                 đo chồng nhau. Mọi client đều được kiểm đủ số tin; các client lấy mẫu được kiểm từng tin và thứ tự.",
                "Open loop: each message is due at a time fixed beforehand, and latency runs from then; echo and handshakes are \
                 closed loops. Every run has a fresh server process and a warm-up that is discarded; the servers take turns \
                 A B B A. Server figures come from /proc of that very process, over the window only. Ratios carry their \
                 propagated error; no winner is named where intervals overlap. Every client's messages are counted; sampled \
                 clients check each one, and their order."
            )
        ));
        self.addf(format_args!(
            "<p>{}</p><pre>{}</pre>",
            say("Chạy lại bằng đúng lệnh này:", "To repeat it, run:"),
            escape(&environment.command)
        ));
        self.add(r#"<div class="scroll"><table class="environment"><tbody>"#);
        let mut facts = vec![
            (Text::new("Bộ xử lý", "CPU"), environment.cpu.clone()),
            (
                Text::new("Hệ thống", "system"),
                Some(environment.system.clone()),
            ),
            (Text::new("Nhân", "kernel"), environment.kernel.clone()),
            (
                Text::new("Bộ nhớ", "memory"),
                environment
                    .memory_mib
                    .map(|mib| format!("{} MiB", number(mib as f64))),
            ),
            (
                Text::new("Governor", "governor"),
                environment.governor.clone(),
            ),
            (
                Text::new("Giới hạn tệp mở", "open files"),
                environment.descriptor_limit.map(|limit| limit.to_string()),
            ),
            (
                Text::new("Phiên bản", "version"),
                Some(environment.version.to_owned()),
            ),
            (Text::new("Commit", "commit"), environment.commit.clone()),
        ];
        facts.extend(
            environment
                .settings
                .iter()
                .map(|(name, value)| (Text::same(*name), Some(value.clone()))),
        );
        facts.extend(results.servers.iter().map(|server| {
            (
                Text::same(server.name.clone()),
                Some(server.command.clone()),
            )
        }));
        for (name, value) in facts {
            if let Some(value) = value {
                self.addf(format_args!(
                    "<tr><th>{}</th><td><code>{}</code></td></tr>",
                    both(&name),
                    escape(&value)
                ));
            }
        }
        self.add("</tbody></table></div>");
        for verdict in &results.assertions {
            self.addf(format_args!(
                "<p><code>{}</code></p>",
                escape(&verdict.to_string())
            ));
        }
    }
}

/// As in the terminal, but what is true of every card is said once above them.
fn lead_text(line: &Comparison) -> Text {
    if line.ratio.lead == Lead::OneRun {
        return Text::same(format!(
            "{} / {} = {}",
            line.first,
            line.second,
            table::ratio(line)
        ));
    }
    table::sentence(line)
}

fn lead_class(lead: Lead) -> &'static str {
    match lead {
        Lead::First | Lead::Second => "decided",
        Lead::Overlap | Lead::OneRun | Lead::Neither | Lead::NotCorrect => "undecided",
    }
}
