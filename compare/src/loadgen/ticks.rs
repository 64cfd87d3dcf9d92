//! The dashboard's ticks as its subscribers received them: the tick of each metric, and how late it came.
//!
//! A tick is told by the `ts` in its messages. Lateness is counted twice: from the time at which the tick should
//! have been, which is the grid of whole intervals that fits its earliest ticks, and from the `ts` itself, which a
//! server that ticks late also writes late.

use std::collections::BTreeMap;
use std::ops::Range;

use super::tally::Latency;

/// Time between two ticks, as the protocol has it.
const INTERVAL_MS: u64 = 1_000;
/// Metrics a subscriber gets by default in each tick.
pub(crate) const METRICS_PER_TICK: u64 = 3;
const NANOS_PER_MILLI: u64 = 1_000_000;

/// What has arrived, by `ts`.
#[derive(Debug, Default)]
pub(crate) struct Ticks {
    /// Ticks that count, by their `ts`.
    counted_ms: Range<u64>,
    /// When each metric of a tick arrived: nanoseconds since the Unix epoch.
    arrivals_ns: BTreeMap<u64, Vec<u64>>,
}

impl Ticks {
    /// Only ticks of this time count: all of them reach every subscriber, if the server is right.
    pub(crate) fn count(&mut self, counted_ms: Range<u64>) {
        self.counted_ms = counted_ms;
    }

    /// Whether a metric with this `ts` counts; if so it is noted.
    pub(crate) fn arrived(&mut self, ts_ms: u64, unix_ns: u64) -> bool {
        let counts = self.counted_ms.contains(&ts_ms);
        if counts {
            self.arrivals_ns.entry(ts_ms).or_default().push(unix_ns);
        }
        counts
    }

    /// How many ticks a subscriber must have: as many as any saw, and of a server that has fallen silent as many as
    /// the time has room for; the last of them may have come too late to count.
    pub(crate) fn due(&self) -> u64 {
        let time_ms = self.counted_ms.end.saturating_sub(self.counted_ms.start);
        self.len().max((time_ms / INTERVAL_MS).saturating_sub(1))
    }

    /// How many ticks there were. Subscribers may see a tick under slightly different `ts`.
    fn len(&self) -> u64 {
        let mut numbers: Vec<u64> = self.arrivals_ns.keys().map(|&ts| self.number(ts)).collect();
        numbers.dedup();
        numbers.len() as u64
    }

    pub(crate) fn latency(&self) -> Latency {
        let mut latency = Latency::new();
        let Some(grid_ms) = self.grid_ms() else {
            return latency;
        };
        for (&ts_ms, arrivals) in &self.arrivals_ns {
            let due_ns = (grid_ms + self.number(ts_ms) * INTERVAL_MS) * NANOS_PER_MILLI;
            for &arrival_ns in arrivals {
                latency.record(due_ns, ts_ms * NANOS_PER_MILLI, arrival_ns);
            }
        }
        latency
    }

    /// Counted from the first tick.
    fn number(&self, ts_ms: u64) -> u64 {
        let first_ms = self.arrivals_ns.keys().next().copied().unwrap_or(ts_ms);
        (ts_ms - first_ms + INTERVAL_MS / 2) / INTERVAL_MS
    }

    /// When the first tick should have been, were none of them early.
    fn grid_ms(&self) -> Option<u64> {
        self.arrivals_ns
            .keys()
            .map(|&ts_ms| ts_ms.saturating_sub(self.number(ts_ms) * INTERVAL_MS))
            .min()
    }
}

/// The `ts` of a message.
pub(crate) fn find_ts(message: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"\"ts\":";
    let start = message
        .windows(KEY.len())
        .rposition(|window| window == KEY)?
        + KEY.len();
    let digits = message[start..].trim_ascii_start();
    let end = digits
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(digits.len());
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> u64 {
        ms * NANOS_PER_MILLI
    }

    #[test]
    fn ts_is_found_in_anybodys_json() {
        assert_eq!(
            find_ts(br#"{"type":"metric","metric":"cpu","value":1.5,"ts":1700000000001}"#),
            Some(1_700_000_000_001)
        );
        assert_eq!(
            find_ts(br#"{"type": "metric", "ts": 17, "value": 1}"#),
            Some(17)
        );
        assert_eq!(find_ts(br#"{"type":"metric"}"#), None);
    }

    #[test]
    fn late_tick_is_late_against_the_grid_but_not_against_its_own_ts() {
        let mut ticks = Ticks::default();
        ticks.count(10_000..20_000);
        for (ts, arrival) in [(10_100, 10_105), (11_300, 11_305), (12_100, 12_105)] {
            assert!(ticks.arrived(ts, at(arrival)));
        }
        assert!(
            !ticks.arrived(9_100, at(9_105)) && !ticks.arrived(20_000, at(20_000)),
            "outside of the window"
        );
        assert_eq!(ticks.len(), 3);
        let latency = ticks.latency();
        assert_eq!(latency.corrected.max().abs_diff(205_000_000) / 1_000_000, 0);
        assert_eq!(latency.uncorrected.max().abs_diff(5_000_000) / 1_000_000, 0);
    }

    #[test]
    fn ticks_that_never_came_are_due() {
        let mut ticks = Ticks::default();
        assert_eq!(ticks.due(), 0);
        ticks.count(10_000..14_000);
        ticks.arrived(10_500, at(10_500));
        assert_eq!(ticks.due(), 3);
        for ts in [11_500, 12_500, 13_500] {
            ticks.arrived(ts, at(ts));
        }
        assert_eq!(ticks.due(), 4);
    }

    #[test]
    fn one_tick_under_two_timestamps_is_one_tick() {
        let mut ticks = Ticks::default();
        ticks.count(0..u64::MAX);
        for ts in [1_000, 1_001, 2_000, 2_002] {
            ticks.arrived(ts, at(ts));
        }
        assert_eq!(ticks.len(), 2);
    }
}
