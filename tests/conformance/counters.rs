//! What `/metrics` counts, read as a Prometheus server reads it.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::Server;
use crate::wire::PATIENCE;

/// A sample of the Prometheus text format: `name{label="value",…} figure`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) figure: f64,
}

pub(crate) fn samples(server: &Server) -> Vec<Sample> {
    let response = server.get("/metrics");
    assert_eq!(response.status, 200, "{response:?}");
    response
        .text()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(parse_sample)
        .collect()
}

/// Label values hold no spaces, commas or quotes in this server, so the line splits where it seems to.
fn parse_sample(line: &str) -> Sample {
    let (series, figure) = line
        .rsplit_once(' ')
        .unwrap_or_else(|| panic!("not a sample: {line}"));
    let (name, labels) = series
        .strip_suffix('}')
        .map_or((series, ""), |open| open.split_once('{').expect("a brace"));
    let pair = |label: &str| {
        let (key, value) = label
            .split_once('=')
            .unwrap_or_else(|| panic!("not a label: {line}"));
        (key.to_owned(), value.trim_matches('"').to_owned())
    };
    Sample {
        name: name.to_owned(),
        labels: labels
            .split(',')
            .filter(|label| !label.is_empty())
            .map(pair)
            .collect(),
        figure: figure
            .parse()
            .unwrap_or_else(|_| panic!("not a figure: {line}")),
    }
}

/// How often something has been refused for `reason`, over all counters that name it in a label.
fn refusals(server: &Server, reason: &str) -> f64 {
    let named = |sample: &Sample| sample.labels.iter().any(|(_, value)| value == reason);
    samples(server)
        .iter()
        .filter(|sample| sample.name.ends_with("_total") && named(sample))
        .map(|s| s.figure)
        .sum()
}

/// Looks at a figure until it is as asked for.
fn await_figure(what: &str, figure: impl Fn() -> f64, is_enough: impl Fn(f64) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = figure();
        if is_enough(now) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {now}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the server has closed every connection but the one that asks.
pub(crate) fn await_no_connection_but_ours(server: &Server) {
    let open = || {
        samples(server)
            .iter()
            .filter(|sample| sample.name.contains("connections"))
            .map(|sample| sample.figure)
            .sum()
    };
    await_figure("connections still counted", open, |open| open < 1.5);
}

/// Waits until log lines have been lost.
pub(crate) fn await_lost_log_lines(server: &Server) {
    let lost = || {
        samples(server)
            .iter()
            .find(|sample| sample.name == "wslab_log_lines_lost_total")
            .expect("a count of lost lines")
            .figure
    };
    await_figure("log lines lost", lost, |lost| lost > 0.5);
}

/// Waits until as many bytes wait to be sent as `is_enough` asks for.
pub(crate) fn await_unsent(server: &Server, is_enough: impl Fn(f64) -> bool) {
    let unsent = || {
        samples(server)
            .iter()
            .find(|sample| sample.name == "wslab_unsent_bytes")
            .expect("a gauge of what waits")
            .figure
    };
    await_figure("bytes that wait", unsent, is_enough);
}

/// The count of refusals for one reason, taken before a test provokes them.
pub(crate) struct Tally<'a> {
    server: &'a Server,
    reason: &'static str,
    before: f64,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(server: &'a Server, reason: &'static str) -> Self {
        Self {
            server,
            reason,
            before: refusals(server, reason),
        }
    }

    /// Waits until there are more, however many.
    pub(crate) fn rises(&self) {
        await_figure(
            self.reason,
            || refusals(self.server, self.reason),
            |now| now > self.before,
        );
    }

    /// Waits until exactly `times` more have been counted.
    pub(crate) fn rises_by(&self, times: u64) {
        let expected = self.before + times as f64;
        let counted = || {
            let now = refusals(self.server, self.reason);
            assert!(
                now <= expected,
                "{} counted {now} times, not {expected}",
                self.reason
            );
            now
        };
        let what = format!("{}, expected {expected}", self.reason);
        await_figure(&what, counted, |now| (now - expected).abs() < 0.5);
    }
}
