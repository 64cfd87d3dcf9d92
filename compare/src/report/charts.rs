//! Which charts the report has, and the figures in each.

use super::svg::{Axis, Bar, Scale, Series, bars, lines};
use super::table;
use crate::plan::case::ROOM_P99_MAX_MS;
use crate::plan::scenario::Scenario;
use crate::results::Results;
use crate::results::metric::{self as m, Metric};
use crate::results::text::{Text, number};

/// A drawing and what it shows.
pub(crate) struct Chart {
    pub(crate) title: Text,
    pub(crate) note: Text,
    pub(crate) svg: String,
}

impl Chart {
    /// A chart of lines is, one of bars is not.
    pub(crate) fn is_tall(&self) -> bool {
        self.svg.contains("<polyline")
    }
}

/// Points on a percentile curve, and how far it goes into the nines.
const CURVE_STEPS: u32 = 60;
const NINES_MAX: f64 = 4.0;

/// The latency curve of each scenario that has one.
pub(crate) fn latencies(results: &Results) -> Vec<Chart> {
    let scenarios = [
        Scenario::Echo,
        Scenario::Room,
        Scenario::Fanout,
        Scenario::Dashboard,
        Scenario::Slow,
        Scenario::Stall,
    ];
    scenarios
        .into_iter()
        .filter_map(|scenario| latency(results, scenario))
        .collect()
}

fn latency(results: &Results, scenario: Scenario) -> Option<Chart> {
    let case = *results.cases_of(scenario).last()?;
    let mut series = Vec::new();
    for (colour, server) in results.servers.iter().enumerate() {
        let measured: Vec<_> = results.measured(scenario, case, &server.name).collect();
        let corrected = curve(
            measured
                .iter()
                .flat_map(|run| run.figures.latency_pairs().iter().copied()),
        );
        let uncorrected = curve(
            measured
                .iter()
                .flat_map(|run| run.figures.histograms.uncorrected_ns.iter().copied()),
        );
        if scenario == Scenario::Echo || scenario == Scenario::Fanout {
            series.push(Series {
                colour,
                dashed: true,
                dots: false,
                points: uncorrected,
            });
        }
        series.push(Series {
            colour,
            dashed: false,
            dots: false,
            points: corrected,
        });
    }
    let title = Text::new(
        format!("{} · {case}", scenario.name()),
        format!("{} · {case}", scenario.name()),
    );
    let x = Axis {
        scale: Scale::Nines,
        unit: "",
    };
    let svg = lines(
        &title.en,
        x,
        Axis {
            scale: Scale::Log,
            unit: "ms",
        },
        &series,
    );
    (!svg.is_empty()).then(|| Chart {
        title,
        note: scenario.title(),
        svg,
    })
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
pub(crate) fn capacity(results: &Results) -> Option<Chart> {
    let title = Text::new(
        "Phòng lớn nhất có p99 ≤ 100 ms",
        "The largest room with p99 ≤ 100 ms",
    );
    let svg = bars(
        &title.en,
        &metric_bars(results, Scenario::Room, &m::LARGEST_ROOM),
    );
    let note = Text::new(
        "Ai cũng nói mỗi giây một câu: phòng N người là N² lần giao mỗi giây.",
        "Everyone speaks once a second: a room of N is N² deliveries a second.",
    );
    (!svg.is_empty()).then_some(Chart { title, note, svg })
}

/// Deliveries a second in that room.
pub(crate) fn deliveries(results: &Results) -> Option<Chart> {
    let title = Text::new(
        "Số lần giao mỗi giây trong phòng đó",
        "Deliveries a second in that room",
    );
    let svg = bars(
        &title.en,
        &metric_bars(results, Scenario::Room, &m::DELIVERIES),
    );
    let note = Text::new(
        "Mọi tin đến đủ, đúng thứ tự.",
        "Every message arrived, in order.",
    );
    (!svg.is_empty()).then_some(Chart { title, note, svg })
}

fn metric_bars(results: &Results, scenario: Scenario, metric: &Metric) -> Vec<Bar> {
    let Some(&case) = results.cases_of(scenario).last() else {
        return Vec::new();
    };
    let bar = |(colour, server): (usize, &crate::results::Participant)| {
        let summary = results.summary(scenario, case, &server.name, metric)?;
        Some(Bar {
            colour,
            label: server.name.clone(),
            parts: vec![summary.median],
            spread: Some((summary.low, summary.high)),
            says: number(summary.median),
        })
    };
    results.servers.iter().enumerate().filter_map(bar).collect()
}

/// The p99 of every size that the search tried.
pub(crate) fn search(results: &Results) -> Option<Chart> {
    let case = *results.cases_of(Scenario::Room).last()?;
    let mut series = Vec::new();
    for (colour, server) in results.servers.iter().enumerate() {
        let probes = results
            .measured(Scenario::Room, case, &server.name)
            .flat_map(|run| run.probes.iter());
        let mut sizes: Vec<(usize, Vec<f64>)> = Vec::new();
        for probe in probes.filter(|probe| probe.p99_ms > 0.0) {
            match sizes
                .iter_mut()
                .find(|(clients, _)| *clients == probe.clients)
            {
                Some((_, all)) => all.push(probe.p99_ms),
                None => sizes.push((probe.clients, vec![probe.p99_ms])),
            }
        }
        sizes.sort_by_key(|(clients, _)| *clients);
        let median = |all: &[f64]| {
            crate::results::stats::Summary::of(all).map_or(0.0, |summary| summary.median)
        };
        let points = sizes
            .iter()
            .map(|(clients, all)| (*clients as f64, median(all)))
            .collect();
        series.push(Series {
            colour,
            dashed: false,
            dots: true,
            points,
        });
    }
    let title = Text::new("p99 theo cỡ phòng", "p99 against the size of the room");
    let x = Axis {
        scale: Scale::Log,
        unit: "clients",
    };
    let svg = lines(
        &title.en,
        x,
        Axis {
            scale: Scale::Log,
            unit: "ms",
        },
        &series,
    );
    let limit = number(ROOM_P99_MAX_MS);
    let note = Text::new(
        format!("Mỗi chấm là một cỡ đã thử; quá {limit} ms là không đạt."),
        format!("Each dot is a size that was tried; above {limit} ms it fails."),
    );
    (!svg.is_empty()).then_some(Chart { title, note, svg })
}

/// How a figure grows with the number of idle clients.
pub(crate) fn growth(results: &Results) -> Vec<Chart> {
    let memory = Text::new(
        "Bộ nhớ theo số client nhàn rỗi",
        "Memory against idle clients",
    );
    let memory_note = Text::new(
        "Bộ nhớ thường trú của tiến trình máy chủ.",
        "Resident memory of the server's process.",
    );
    let threads = Text::new(
        "Luồng theo số client nhàn rỗi",
        "Threads against idle clients",
    );
    let threads_note = Text::new(
        "Luồng của tiến trình máy chủ.",
        "Threads of the server's process.",
    );
    [
        (memory, memory_note, &m::RESIDENT, "MiB"),
        (threads, threads_note, &m::THREADS, ""),
    ]
    .into_iter()
    .filter_map(|(title, note, metric, unit)| {
        let svg = growth_of(results, &title, metric, unit);
        (!svg.is_empty()).then_some(Chart { title, note, svg })
    })
    .collect()
}

fn growth_of(results: &Results, title: &Text, metric: &Metric, unit: &str) -> String {
    let mut series = Vec::new();
    for (colour, server) in results.servers.iter().enumerate() {
        let point = |case: &str| {
            let clients = results
                .measured(Scenario::Idle, case, &server.name)
                .next()?
                .figures
                .clients;
            Some((
                clients as f64,
                results
                    .summary(Scenario::Idle, case, &server.name, metric)?
                    .median,
            ))
        };
        let points = results
            .cases_of(Scenario::Idle)
            .into_iter()
            .filter_map(point)
            .collect();
        series.push(Series {
            colour,
            dashed: false,
            dots: true,
            points,
        });
    }
    let x = Axis {
        scale: Scale::Linear,
        unit: "clients",
    };
    // Threads go from one to thousands.
    let scale = if unit.is_empty() {
        Scale::Log
    } else {
        Scale::Linear
    };
    lines(&title.en, x, Axis { scale, unit }, &series)
}

/// Where the server's CPU time went, in the last case of each scenario under load.
pub(crate) fn cpu(results: &Results) -> Vec<Chart> {
    let scenarios = [
        Scenario::Echo,
        Scenario::Room,
        Scenario::Fanout,
        Scenario::Mixed,
    ];
    scenarios
        .into_iter()
        .filter_map(|scenario| cpu_of(results, scenario))
        .collect()
}

fn cpu_of(results: &Results, scenario: Scenario) -> Option<Chart> {
    let case = *results.cases_of(scenario).last()?;
    let bar = |(colour, server): (usize, &crate::results::Participant)| {
        let of = |metric: &Metric| {
            Some(
                results
                    .summary(scenario, case, &server.name, metric)?
                    .median,
            )
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
    let title = Text::same(format!("{} · {case}", scenario.name()));
    let svg = bars(
        &title.en,
        &results
            .servers
            .iter()
            .enumerate()
            .filter_map(bar)
            .collect::<Vec<_>>(),
    );
    let note = table::heading(&m::CPU_PER_DELIVERY);
    (!svg.is_empty()).then_some(Chart { title, note, svg })
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
