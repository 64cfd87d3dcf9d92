//! The window of a run step by step: an average hides what a stall does.

use serde::Serialize;

use super::stats::Summary;
use crate::loadgen::{Outcome, Step};
use crate::measure::monitor::StepUse;

/// 100 ms of a window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct TimelineStep {
    /// When it ended, since the window opened.
    pub(crate) end_s: f64,
    pub(crate) deliveries_per_s: f64,
    /// Of messages received in this step; none where none was looked into.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) server_cpu_percent: Option<f64>,
    pub(crate) server_resident_mib: Option<f64>,
    /// Next to nothing was delivered, or what was delivered came much later than at other times.
    pub(crate) stalled: bool,
}

/// Of the usual deliveries, the part below which a step has stalled.
const STALL_DELIVERIES: f64 = 0.1;
/// How many times the usual p99, and how many milliseconds at least, make a stall.
const STALL_FACTOR: f64 = 3.0;
const STALL_LEAST_MS: f64 = 50.0;
const MIB: f64 = 1024.0 * 1024.0;

/// The steps of a run, the stalls among them marked.
pub(crate) fn of(outcome: &Outcome, server: &[Option<StepUse>]) -> Vec<TimelineStep> {
    let mut before = (0, outcome.delivered_before);
    let mut steps = Vec::new();
    for (place, step) in outcome.tally.timeline.iter().enumerate() {
        let used = server.get(place).copied().flatten();
        steps.push(of_step(step, before, used));
        before = (step.end_ns, step.delivered);
    }
    mark_stalls(&mut steps);
    steps
}

fn of_step(step: &Step, (begin_ns, delivered): (u64, u64), used: Option<StepUse>) -> TimelineStep {
    let seconds = step.end_ns.saturating_sub(begin_ns).max(1) as f64 / 1e9;
    let latency = |ns: u64| (step.latencies > 0).then_some(ns as f64 / 1e6);
    TimelineStep {
        end_s: step.end_ns as f64 / 1e9,
        deliveries_per_s: step.delivered.saturating_sub(delivered) as f64 / seconds,
        p50_ms: latency(step.p50_ns),
        p99_ms: latency(step.p99_ns),
        server_cpu_percent: used.map(|used| used.cpu * 100.0),
        server_resident_mib: used.map(|used| used.resident_bytes as f64 / MIB),
        stalled: false,
    }
}

fn mark_stalls(steps: &mut [TimelineStep]) {
    let median = |of: fn(&TimelineStep) -> Option<f64>| {
        let values: Vec<f64> = steps.iter().filter_map(of).collect();
        Summary::of(&values).map(|summary| summary.median)
    };
    let usual = median(|step| Some(step.deliveries_per_s)).unwrap_or(0.0);
    let late_ms = median(|step| step.p99_ms).map_or(f64::INFINITY, |usual| {
        (usual * STALL_FACTOR).max(STALL_LEAST_MS)
    });
    for step in steps {
        let silent = step.deliveries_per_s < usual * STALL_DELIVERIES;
        step.stalled = silent || step.p99_ms.is_some_and(|p99| p99 > late_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(deliveries_per_s: f64, p99_ms: f64) -> TimelineStep {
        TimelineStep {
            end_s: 0.0,
            deliveries_per_s,
            p50_ms: None,
            p99_ms: Some(p99_ms),
            server_cpu_percent: None,
            server_resident_mib: None,
            stalled: false,
        }
    }

    #[test]
    fn silence_and_lateness_are_stalls_and_a_slow_server_is_not() {
        let stalled = |mut steps: Vec<TimelineStep>| {
            mark_stalls(&mut steps);
            steps.iter().map(|step| step.stalled).collect::<Vec<_>>()
        };
        let steps = vec![
            step(100.0, 5.0),
            step(0.0, 5.0),
            step(190.0, 90.0),
            step(100.0, 6.0),
        ];
        assert_eq!(stalled(steps), [false, true, true, false]);
        assert_eq!(stalled(vec![step(100.0, 900.0); 4]), [false; 4]);
        assert_eq!(
            stalled(vec![step(0.0, 0.0); 4]),
            [false; 4],
            "nothing to deliver"
        );
    }
}
