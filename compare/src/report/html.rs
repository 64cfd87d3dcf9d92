//! The whole report in one file, which needs no network: both languages and both colour schemes are in it.

use maud::{DOCTYPE, Markup, PreEscaped, Render, html};

use super::charts::{self, Chart};
use super::table::{self, RatioRow, Table, title};
use crate::measure::environment::Environment;
use crate::plan::scenario::Scenario;
use crate::results::claims::{Claim, Held, has_both_models};
use crate::results::comparison::Comparison;
use crate::results::runs::Runs;
use crate::results::stats::Lead;
use crate::results::text::{Lang, Text, isolated, number, text};
use crate::results::{Results, Skipped};

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

pub(crate) fn render(results: &Results, lang: Lang) -> String {
    let lang = if lang == Lang::Vi { "vi" } else { "en" };
    let page = html! {
        (DOCTYPE)
        html lang=(lang) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "compare · WebSocket Realtime Lab" }
                style { (PreEscaped(STYLE)) }
                script { (PreEscaped(SCRIPT)) }
            }
            body {
                header.top {
                    strong { "WebSocket Realtime Lab " span.dim { "· compare" } }
                    div.switches {
                        button #lang type="button" aria-label="Tiếng Việt / English" { "vi · en" }
                        button #theme type="button" aria-label="light / dark" { "◐" }
                    }
                }
                main {
                    (overview(results))
                    @if has_both_models(&results.runs) { (claims(results)) }
                    (charts(results))
                    (scenarios(results))
                    @if !results.warnings.is_empty() || !results.skipped.is_empty() { (doubts(results)) }
                    (method(results))
                }
            }
        }
    };
    page.into_string()
}

/// Both languages; the page shows one.
impl Render for Text {
    fn render(&self) -> Markup {
        html! {
            @if self.vi == self.en {
                (self.vi)
            } @else {
                span lang="vi" { (self.vi) }
                span lang="en" { (self.en) }
            }
        }
    }
}

/// A name that was given to this program may be written in any direction, and must not turn what stands around it.
fn name(given: &str) -> Markup {
    html! { bdi { (given) } }
}

/// The colour of a server, by its place among them.
fn swatch(colour: usize) -> Markup {
    html! { i class={ "swatch s" (colour) } {} }
}

fn overview(results: &Results) -> Markup {
    let facts = facts(results);
    html! {
        h1 { (text!("Đồng bộ hay bất đồng bộ? Đo thử.", "Synchronous or asynchronous? Measured.")) }
        p.facts {
            @for (place, fact) in facts.iter().enumerate() {
                @if place > 0 { " · " }
                (fact)
            }
        }
        (legend(&results.runs))
        @if !results.complete {
            p.notice {
                (text!(
                    "Bị dừng giữa chừng: báo cáo chỉ có những gì đã đo.",
                    "Interrupted: the report has what was measured until then."
                ))
            }
        }
        @if results.runs.repeats == 1 {
            p.notice {
                (text!(
                    "Mỗi phép đo chỉ chạy một lần nên không nêu bên nào hơn; bỏ --quick để có kết luận.",
                    "Everything was measured once, so no winner is named; leave out --quick for a verdict."
                ))
            }
        }
        div.cards {
            @for scenario in results.runs.scenarios() { (card(results, scenario)) }
        }
    }
}

fn facts(results: &Results) -> Vec<Text> {
    let environment = &results.environment;
    let minutes = number(results.took_s / 60.0);
    let cores = environment.cores;
    let mut facts = vec![Text::same(environment.date.clone())];
    facts.extend(environment.cpu.clone().map(Text::same));
    facts.push(text!("{cores} lõi", "{cores} cores"));
    facts.push(match &environment.pinned {
        Some(cores) => {
            let (server, generator) = (cores.server, cores.generator);
            text!(
                "máy chủ ghim vào lõi {server}, bộ sinh tải vào lõi {generator}",
                "server pinned to core {server}, generator to core {generator}"
            )
        }
        None => text!("không ghim lõi", "not pinned to cores"),
    });
    facts.push(match results.runs.repeats {
        1 => text!(
            "mỗi phép đo một lần, {minutes} phút",
            "each measured once, {minutes} minutes"
        ),
        times => text!(
            "mỗi phép đo {times} lần, {minutes} phút",
            "each measured {times} times, {minutes} minutes"
        ),
    });
    facts
}

fn legend(runs: &Runs) -> Markup {
    html! {
        p.legend {
            @for (colour, server) in runs.servers.iter().enumerate() {
                span.key { (swatch(colour)) (name(&server.name)) }
            }
        }
    }
}

/// The first figure of a scenario, the servers side by side.
fn card(results: &Results, scenario: Scenario) -> Markup {
    let runs = &results.runs;
    let case = runs.last_case(scenario);
    let headline = case.and_then(|case| Some((case, runs.first_headline(scenario, case)?)));
    let Some((case, metric)) = headline else {
        return html! {};
    };
    let value = |server: &str| {
        let summary = runs.summary(scenario, case, server, metric);
        summary.map_or_else(|| "–".to_owned(), |summary| number(summary.median))
    };
    let leads = results.comparisons.iter().filter(|line| {
        line.scenario == scenario && line.case == case && line.metric == metric.name
    });
    html! {
        a.card href={ "#" (scenario.name()) } {
            h3 { (title(scenario)) }
            p.dim { (Text::new(metric.vi, metric.en)) " · " (case) }
            div.values {
                @for (colour, server) in runs.servers.iter().enumerate() {
                    div { (swatch(colour)) b { (value(&server.name)) } " " small { (metric.unit) } }
                }
            }
            @for line in leads {
                p class={ "lead " (lead_class(line.ratio.lead)) } { (lead_text(line)) }
            }
        }
    }
}

/// As in the terminal, but what is true of every card is said once above them.
fn lead_text(line: &Comparison) -> Text {
    if line.ratio.lead == Lead::OneRun {
        return Text::same(table::equation(line));
    }
    table::sentence(line)
}

fn lead_class(lead: Lead) -> &'static str {
    match lead {
        Lead::First | Lead::Second => "decided",
        Lead::Overlap | Lead::OneRun | Lead::Neither | Lead::NotCorrect => "undecided",
    }
}

fn claims(results: &Results) -> Markup {
    html! {
        h2 { (text!("Bảng so sánh của tài liệu, đo lại", "The guide's table, measured")) }
        p.dim {
            (text!(
                "Hai cột đầu là lời của tài liệu (mục 3). Hai cột sau là số đo và kết luận sinh ra từ số đo.",
                "The first two columns are the guide's own words (section 3). The others are figures, and what follows from them."
            ))
        }
        div.scroll {
            table.claims {
                thead {
                    tr {
                        th { (text!("Đồng bộ (Synchronous)", "Synchronous (Đồng bộ)")) }
                        th { (text!("Bất đồng bộ (Asynchronous)", "Asynchronous (Bất đồng bộ)")) }
                        th { (text!("Đo được", "Measured")) }
                        th { (text!("Kết luận", "Verdict")) }
                    }
                }
                tbody {
                    @for claim in &results.claims { (claim_row(&results.runs, claim)) }
                }
            }
        }
    }
}

fn claim_row(runs: &Runs, claim: &Claim) -> Markup {
    let class = match claim.held {
        Held::Confirmed => "good",
        Held::Partly => "half",
        Held::Refuted => "bad",
        Held::Unknown => "none",
    };
    html! {
        tr {
            td { (claim.synchronous) }
            td { (claim.asynchronous) }
            td {
                p.dim { (claim.measured) }
                ul {
                    @for evidence in &claim.figures {
                        li {
                            (swatch(runs.colour(&evidence.server)))
                            b { (name(&evidence.server)) } " " (evidence.shows)
                        }
                    }
                }
            }
            td { span class={ "held " (class) } { (claim.held.label()) } " " (claim.says) }
        }
    }
}

fn charts(results: &Results) -> Markup {
    let runs = &results.runs;
    let capacity = [
        charts::search(runs),
        charts::capacity(runs),
        charts::deliveries(runs),
    ];
    let groups = [
        (
            text!("Sức chứa của một phòng", "How much a room holds"),
            None,
            capacity.into_iter().flatten().collect(),
        ),
        (
            text!("Bộ nhớ và luồng", "Memory and threads"),
            None,
            charts::growth(runs),
        ),
        (
            text!("Độ trễ theo phân vị", "Latency by percentile"),
            Some(text!(
                "Đường liền: tính từ lúc tin ĐẾN HẠN gửi. Đường đứt: tính từ lúc gửi được, như công cụ thông thường – \
                 giấu mất thời gian chờ (coordinated omission).",
                "Solid: from when a message was due. Dashed: from when it was sent, as usual tools have it, which hides \
                 the wait (coordinated omission)."
            )),
            charts::latencies(runs),
        ),
        (
            text!("Theo thời gian", "Over time"),
            Some(text!(
                "Lần đo đầu tiên, từng 100 ms. Chấm: lúc đứng – gần như không giao được gì, hoặc giao trễ hơn hẳn thường lệ.",
                "The first run, in steps of 100 ms. Dots: stalls – next to nothing was delivered, or much later than usual."
            )),
            charts::timelines(runs),
        ),
        (
            text!(
                "CPU của máy chủ cho mỗi lần giao",
                "The server's CPU for a delivery"
            ),
            Some(text!(
                "Phần đậm: không gian người dùng (mã của máy chủ). Phần nhạt: nhân hệ điều hành.",
                "Strong: user space, the server's own code. Pale: the kernel."
            )),
            charts::cpu(runs),
        ),
    ];
    let drawn = groups
        .into_iter()
        .filter(|(_, _, charts)| !charts.is_empty());
    html! {
        @for (title, note, charts) in drawn { (chart_group(runs, &title, note.as_ref(), &charts)) }
    }
}

fn chart_group(runs: &Runs, title: &Text, note: Option<&Text>, charts: &[Chart]) -> Markup {
    let tall = charts.iter().filter(|chart| chart.is_tall).count();
    // Where there are both, two low charts take the height of a tall one.
    let class = if tall > 0 && tall < charts.len() {
        "charts mixed"
    } else {
        "charts"
    };
    html! {
        h2 { (title) }
        @if let Some(note) = note { p.dim { (note) } }
        (legend(runs))
        div class=(class) {
            @for chart in charts {
                figure class=(if chart.is_tall { "tall" } else { "low" }) {
                    figcaption { b { (chart.title) } span.dim { (chart.note) } }
                    (chart.svg)
                }
            }
        }
    }
}

fn scenarios(results: &Results) -> Markup {
    html! {
        h2 { (text!("Tất cả kịch bản", "All scenarios")) }
        p.dim {
            (text!(
                "Trung vị [nhỏ nhất–lớn nhất] của các lần đo; tỉ số ± sai số, in đậm với màu của bên hơn khi các khoảng đo không chồng \
                 nhau. ⚠: xem phần nghi ngờ. Số đầy đủ, kể cả histogram thô, ở results.json.",
                "Median [least–greatest] of the repeats; ratio ± error, bold and in the colour of the server that is ahead where \
                 the intervals do not overlap. ⚠: see the doubts. All figures, raw histograms included, are in results.json."
            ))
        }
        @for scenario in results.runs.scenarios() {
            section id=(scenario.name()) {
                h3 { code { (scenario.name()) } " " (title(scenario)) }
                div.scroll { (figures(&results.runs, scenario, &table::of(results, scenario))) }
            }
        }
    }
}

fn figures(runs: &Runs, scenario: Scenario, shown: &Table) -> Markup {
    html! {
        table.figures {
            thead {
                tr { @for heading in &shown.header { th { (heading) } } }
            }
            tbody {
                @for case in runs.cases_of(scenario) {
                    @for row in shown.rows.iter().filter(|row| row.case == case) {
                        tr {
                            td { (row.case) }
                            td {
                                (swatch(runs.colour(&row.server))) (name(&row.server))
                                @if row.doubtful { " ⚠" }
                            }
                            @for cell in &row.cells { td { (cell) } }
                        }
                    }
                    @for row in shown.ratios.iter().filter(|row| row.case == case) {
                        (ratio_row(runs, row))
                    }
                }
            }
        }
    }
}

/// A ratio is bold, with the colour of the server that is ahead, where one is.
fn ratio_row(runs: &Runs, row: &RatioRow) -> Markup {
    html! {
        tr.ratio {
            td {}
            td { (name(&row.first)) " / " (name(&row.second)) }
            @for cell in &row.cells {
                td {
                    @match cell {
                        None => "–",
                        Some((ratio, None)) => (ratio),
                        Some((ratio, Some(ahead))) => {
                            i class={ "swatch s" (runs.colour(ahead)) } title=(ahead) {}
                            b { (ratio) }
                        }
                    }
                }
            }
        }
    }
}

fn doubts(results: &Results) -> Markup {
    html! {
        h2 { (text!("Điều cần nghi ngờ", "What to doubt")) }
        ul.doubts {
            @for warned in &results.warnings {
                li { (warned.says) " " span.dim { (warned.advice) } }
            }
            @for Skipped { server, reason } in &results.skipped {
                @let server = isolated(server);
                li {
                    (text!("{server} không tham gia", "{server} did not take part"))
                    ": " code { (reason) }
                }
            }
        }
    }
}

fn method(results: &Results) -> Markup {
    html! {
        h2 { (text!("Đo thế nào, trên máy nào", "How, and on what machine")) }
        p {
            (text!(
                "Vòng mở: mỗi tin có giờ đến hạn định trước, độ trễ tính từ giờ đó; echo và bắt tay là vòng kín. Mỗi lần đo dùng \
                 một tiến trình máy chủ mới, làm nóng rồi mới đo; các máy chủ luân phiên A B B A. Số liệu máy chủ lấy từ /proc \
                 của chính tiến trình đó, chỉ trong khoảng đo. Tỉ số kèm sai số lan truyền; không nêu bên thắng khi các khoảng \
                 đo chồng nhau. Mọi client đều được kiểm đủ số tin; các client lấy mẫu được kiểm từng tin và thứ tự.",
                "Open loop: each message is due at a time fixed beforehand, and latency runs from then; echo and handshakes are \
                 closed loops. Every run has a fresh server process and a warm-up that is discarded; the servers take turns \
                 A B B A. Server figures come from /proc of that very process, over the window only. Ratios carry their \
                 propagated error; no winner is named where intervals overlap. Every client's messages are counted; sampled \
                 clients check each one, and their order."
            ))
        }
        p { (text!("Chạy lại bằng đúng lệnh này:", "To repeat it, run:")) }
        pre { (results.environment.command) }
        div.scroll {
            table.environment {
                tbody {
                    @for (name, value) in machine(&results.environment) {
                        tr { th { (name) } td { code { (value) } } }
                    }
                    @for server in &results.runs.servers {
                        tr { th { (name(&server.name)) } td { code { (server.command) } } }
                    }
                }
            }
        }
        @for verdict in &results.assertions { p { code { (verdict.to_string()) } } }
    }
}

/// What is known of the machine, by name.
fn machine(environment: &Environment) -> Vec<(Text, String)> {
    let memory = environment.memory_mib;
    let known = [
        (text!("Bộ xử lý", "CPU"), environment.cpu.clone()),
        (
            text!("Hệ thống", "system"),
            Some(environment.system.clone()),
        ),
        (text!("Nhân", "kernel"), environment.kernel.clone()),
        (
            text!("Bộ nhớ", "memory"),
            memory.map(|mib| format!("{} MiB", number(mib as f64))),
        ),
        (Text::same("governor"), environment.governor.clone()),
        (
            text!("Giới hạn tệp mở", "open files"),
            environment.descriptor_limit.map(|limit| limit.to_string()),
        ),
        (
            text!("Phiên bản", "version"),
            Some(environment.version.to_owned()),
        ),
        (Text::same("commit"), environment.commit.clone()),
    ];
    let settings = environment.settings.iter();
    known
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .chain(settings.map(|(name, value)| (Text::same(*name), value.clone())))
        .collect()
}
