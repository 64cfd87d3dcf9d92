//! The choice of charts in the report, and the figures in each.

use std::collections::BTreeMap;

use maud::Markup;

use super::svg::{Axis, Bar, Dots, Scale, Series, bars, lines};
use super::table;
use crate::plan::case::ROOM_P99_MAX_MS;
use crate::plan::scenario::Scenario;
use crate::results::figures::Figures;
use crate::results::metric::{self as m, Metric};
use crate::results::runs::{Participant, Runs};
use crate::results::stats::Summary;
use crate::results::text::{Text, number, text};
use crate::results::timeline::TimelineStep;

/// A drawing and what it shows.
pub(crate) struct Chart {
    pub(crate) title: Text,
    pub(crate) note: Text,
    /// A chart of lines is, one of bars is not.
    pub(crate) is_tall: bool,
    pub(crate) svg: Markup,
}

/// Points on a percentile curve, and how far it goes into the nines.
const CURVE_STEPS: u32 = 60;
const NINES_MAX: f64 = 4.0;

/// The latency curve of each scenario that has one.
pub(crate) fn latencies(runs: &Runs) -> Vec<Chart> {
    let scenarios = [
        Scenario::Echo,
        Scenario::Room,
        Scenario::Fanout,
        Scenario::Dashboard,
        Scenario::Slow,
        Scenario::Stall,
    ];
    let charts = scenarios.into_iter();
    charts
        .filter_map(|scenario| latency(runs, scenario))
        .collect()
}

fn latency(runs: &Runs, scenario: Scenario) -> Option<Chart> {
    let case = runs.last_case(scenario)?;
    let with_uncorrected = matches!(scenario, Scenario::Echo | Scenario::Fanout);
    let mut series = Vec::new();
    for (colour, server) in runs.servers.iter().enumerate() {
        let figures = || {
            let measured = runs.measured(scenario, case, &server.name);
            measured.map(|measured| &measured.figures)
        };
        let uncorrected = figures().flat_map(|figures| &figures.histograms.uncorrected_ns);
        if with_uncorrected {
            series.push(Series {
                colour,
                dashed: true,
                dots: Dots::None,
                points: curve(uncorrected.copied()),
            });
        }
        let corrected = figures().flat_map(Figures::latency_pairs);
        series.push(Series {
            colour,
            dashed: false,
            dots: Dots::None,
            points: curve(corrected.copied()),
        });
    }
    line_chart(
        Text::same(format!("{} · {case}", scenario.name())),
        table::title(scenario),
        (Scale::Nines, ""),
        (Scale::Log, "ms"),
        &series,
    )
}

fn line_chart(
    title: Text,
    note: Text,
    (x_scale, x_unit): (Scale, &str),
    (y_scale, y_unit): (Scale, &str),
    series: &[Series],
) -> Option<Chart> {
    let x = Axis {
        scale: x_scale,
        unit: x_unit,
    };
    let y = Axis {
        scale: y_scale,
        unit: y_unit,
    };
    Some(Chart {
        svg: lines(&title.en, x, y, series)?,
        title,
        note,
        is_tall: true,
    })
}

fn bar_chart(title: Text, note: Text, drawn: &[Bar]) -> Option<Chart> {
    Some(Chart {
        svg: bars(&title.en, drawn)?,
        title,
        note,
        is_tall: false,
    })
}

/// A line with a dot for each point, for each server.
fn dotted<'a>(runs: &'a Runs, points: impl Fn(&'a str) -> Vec<(f64, f64)>) -> Vec<Series> {
    let series = |(colour, server): (usize, &'a Participant)| Series {
        colour,
        dashed: false,
        dots: Dots::Each,
        points: points(&server.name),
    };
    runs.servers.iter().enumerate().map(series).collect()
}

/// The value at each quantile, of pairs of nanoseconds and counts.
fn curve(pairs: impl Iterator<Item = (u64, u64)>) -> Vec<(f64, f64)> {
    let mut pairs: Vec<(u64, u64)> = pairs.collect();
    pairs.sort_unstable();
    let total: u64 = pairs.iter().map(|&(_, count)| count).sum();
    if total == 0 {
        return Vec::new();
    }
    // Beyond one sample in all there is nothing to see.
    let nines = (total as f64).log10().min(NINES_MAX);
    let mut points = Vec::new();
    let mut below = 0;
    let mut pair = 0;
    for step in 0..=CURVE_STEPS {
        let quantile = 1.0 - 10_f64.powf(-nines * f64::from(step) / f64::from(CURVE_STEPS));
        while pair + 1 < pairs.len() && ((below + pairs[pair].1) as f64) < quantile * total as f64 {
            below += pairs[pair].1;
            pair += 1;
        }
        points.push((quantile, pairs[pair].0 as f64 / 1e6));
    }
    points
}

/// The largest room of each server.
pub(crate) fn capacity(runs: &Runs) -> Option<Chart> {
    bar_chart(
        text!(
            "Phòng lớn nhất có p99 ≤ 100 ms",
            "The largest room with p99 ≤ 100 ms"
        ),
        text!(
            "Ai cũng nói mỗi giây một câu: phòng N người là N² lần giao mỗi giây.",
            "Everyone speaks once a second: a room of N is N² deliveries a second."
        ),
        &room_bars(runs, &m::LARGEST_ROOM),
    )
}

/// Deliveries a second in that room.
pub(crate) fn deliveries(runs: &Runs) -> Option<Chart> {
    bar_chart(
        text!(
            "Số lần giao mỗi giây trong phòng đó",
            "Deliveries a second in that room"
        ),
        text!(
            "Mọi tin đến đủ, đúng thứ tự.",
            "Every message arrived, in order."
        ),
        &room_bars(runs, &m::DELIVERIES),
    )
}

fn room_bars(runs: &Runs, metric: &Metric) -> Vec<Bar> {
    let Some(case) = runs.last_case(Scenario::Room) else {
        return Vec::new();
    };
    let bar = |(colour, server): (usize, &Participant)| {
        let summary = runs.summary(Scenario::Room, case, &server.name, metric)?;
        Some(Bar {
            colour,
            label: server.name.clone(),
            parts: vec![summary.median],
            spread: Some((summary.low, summary.high)),
            says: number(summary.median),
        })
    };
    runs.servers.iter().enumerate().filter_map(bar).collect()
}

/// The p99 of every size that the search tried.
pub(crate) fn search(runs: &Runs) -> Option<Chart> {
    let case = runs.last_case(Scenario::Room)?;
    let limit = number(ROOM_P99_MAX_MS);
    line_chart(
        text!("p99 theo cỡ phòng", "p99 against the size of the room"),
        text!(
            "Mỗi chấm là một cỡ đã thử; quá {limit} ms là không đạt.",
            "Each dot is a size that was tried; above {limit} ms it fails."
        ),
        (Scale::Log, "clients"),
        (Scale::Log, "ms"),
        &dotted(runs, |server| p99_by_size(runs, case, server)),
    )
}

fn p99_by_size(runs: &Runs, case: &str, server: &str) -> Vec<(f64, f64)> {
    let mut sizes: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    let measured = runs.measured(Scenario::Room, case, server);
    for probe in measured.flat_map(|run| &run.probes) {
        if probe.p99_ms > 0.0 {
            sizes.entry(probe.clients).or_default().push(probe.p99_ms);
        }
    }
    let point =
        |(clients, all): (usize, Vec<f64>)| Some((clients as f64, Summary::of(&all)?.median));
    sizes.into_iter().filter_map(point).collect()
}

/// How a figure grows with the number of idle clients.
pub(crate) fn growth(runs: &Runs) -> Vec<Chart> {
    let memory = line_chart(
        text!(
            "Bộ nhớ theo số client nhàn rỗi",
            "Memory against idle clients"
        ),
        text!(
            "Bộ nhớ thường trú của tiến trình máy chủ.",
            "Resident memory of the server's process."
        ),
        (Scale::Linear, "clients"),
        (Scale::Linear, "MiB"),
        &dotted(runs, |server| by_idle_clients(runs, server, &m::RESIDENT)),
    );
    let threads = line_chart(
        text!(
            "Luồng theo số client nhàn rỗi",
            "Threads against idle clients"
        ),
        text!(
            "Luồng của tiến trình máy chủ.",
            "Threads of the server's process."
        ),
        (Scale::Linear, "clients"),
        // From one to thousands.
        (Scale::Log, ""),
        &dotted(runs, |server| by_idle_clients(runs, server, &m::THREADS)),
    );
    [memory, threads].into_iter().flatten().collect()
}

fn by_idle_clients(runs: &Runs, server: &str, metric: &Metric) -> Vec<(f64, f64)> {
    let point = |case: &str| {
        let measured = runs.measured(Scenario::Idle, case, server).next()?;
        let summary = runs.summary(Scenario::Idle, case, server, metric)?;
        Some((measured.figures.clients as f64, summary.median))
    };
    let cases = runs.cases_of(Scenario::Idle);
    cases.into_iter().filter_map(point).collect()
}

/// The last case of each scenario that asks for messages, step by step.
pub(crate) fn timelines(runs: &Runs) -> Vec<Chart> {
    let scenarios = [
        Scenario::Echo,
        Scenario::Room,
        Scenario::Fanout,
        Scenario::Slow,
        Scenario::Mixed,
    ];
    scenarios
        .into_iter()
        .flat_map(|scenario| timelines_of(runs, scenario))
        .collect()
}

fn timelines_of(runs: &Runs, scenario: Scenario) -> Vec<Chart> {
    let Some(case) = runs.last_case(scenario) else {
        return Vec::new();
    };
    let chart = |name: Text, unit: &str, scale: Scale, of: fn(&TimelineStep) -> Option<f64>| {
        line_chart(
            Text::same(format!("{} · {case}", scenario.name())),
            name,
            (Scale::Linear, "s"),
            (scale, unit),
            &over_time(runs, scenario, case, of),
        )
    };
    let charts = [
        chart(Text::same("p99"), "ms", Scale::Log, |step| {
            step.p99_ms.filter(|&p99| p99 > 0.0)
        }),
        chart(Text::same("p50"), "ms", Scale::Log, |step| {
            step.p50_ms.filter(|&p50| p50 > 0.0)
        }),
        chart(
            text!("Số lần giao mỗi giây", "Deliveries a second"),
            "/s",
            Scale::Linear,
            |step| Some(step.deliveries_per_s),
        ),
        chart(
            text!("CPU máy chủ", "Server CPU"),
            "%",
            Scale::Linear,
            |step| step.server_cpu_percent,
        ),
        chart(
            text!("Bộ nhớ thường trú", "Resident memory"),
            "MiB",
            Scale::Linear,
            |step| step.server_resident_mib,
        ),
    ];
    charts.into_iter().flatten().collect()
}

/// For each server a line, and a dot for each stall.
fn over_time(
    runs: &Runs,
    scenario: Scenario,
    case: &str,
    of: fn(&TimelineStep) -> Option<f64>,
) -> Vec<Series> {
    let mut series = Vec::new();
    for (colour, server) in runs.servers.iter().enumerate() {
        let Some(measured) = runs.measured(scenario, case, &server.name).next() else {
            continue;
        };
        let steps = &measured.figures.timeline;
        let point = |step: &TimelineStep| Some((step.end_s, of(step)?));
        let line = |dots, points| Series {
            colour,
            dashed: false,
            dots,
            points,
        };
        series.push(line(Dots::None, steps.iter().filter_map(point).collect()));
        let stalls = steps.iter().filter(|step| step.stalled).filter_map(point);
        series.extend(stalls.map(|stall| line(Dots::Each, vec![stall])));
    }
    series
}

/// Where the server's CPU time went, in the last case of each scenario under load.
pub(crate) fn cpu(runs: &Runs) -> Vec<Chart> {
    let scenarios = [
        Scenario::Echo,
        Scenario::Room,
        Scenario::Fanout,
        Scenario::Mixed,
    ];
    let charts = scenarios.into_iter();
    charts
        .filter_map(|scenario| cpu_of(runs, scenario))
        .collect()
}

fn cpu_of(runs: &Runs, scenario: Scenario) -> Option<Chart> {
    let case = runs.last_case(scenario)?;
    let bar = |(colour, server): (usize, &Participant)| {
        let of = |metric: &Metric| {
            let summary = runs.summary(scenario, case, &server.name, metric)?;
            Some(summary.median)
        };
        let (each, user) = (of(&m::CPU_PER_DELIVERY)?, of(&m::USER_SHARE)? / 100.0);
        Some(Bar {
            colour,
            label: server.name.clone(),
            parts: vec![each * user, each * (1.0 - user)],
            spread: None,
            says: format!("{} µs · {:.0}% user", number(each), user * 100.0),
        })
    };
    let drawn: Vec<Bar> = runs.servers.iter().enumerate().filter_map(bar).collect();
    bar_chart(
        Text::same(format!("{} · {case}", scenario.name())),
        table::heading(&m::CPU_PER_DELIVERY),
        &drawn,
    )
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact by construction")]
mod tests {
    use super::*;

    #[test]
    fn curve_passes_through_the_percentiles() {
        // 1 to 1000 ms, once each.
        let points = curve((1..=1_000).map(|ms| (ms * 1_000_000, 1)));
        let at = |quantile: f64| {
            points
                .iter()
                .find(|(q, _)| (q - quantile).abs() < 1e-9)
                .unwrap()
                .1
        };
        assert!((at(0.9) - 900.0).abs() <= 1.0 && (at(0.99) - 990.0).abs() <= 1.0);
        assert_eq!(points.last().unwrap().1, 999.0);
    }
}
