//! The progress of the runs: a bar with the time left on a terminal, one line per run elsewhere.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::plan::scenario::Scenario;
use crate::results::metric::{Probe, headlines};
use crate::results::runs::RunResult;
use crate::results::text::{Lang, number};

/// The bar, or nothing.
pub(crate) struct Progress {
    bar: ProgressBar,
    lang: Lang,
    begin: Instant,
    /// Estimated time of all runs, of the finished ones, and of the present one.
    total: Cell<Duration>,
    past: Cell<Duration>,
    present: Cell<Duration>,
}

/// The bar is drawn by a thread on the generator's core: seldom.
const REDRAW: Duration = Duration::from_secs(1);

impl Progress {
    pub(crate) fn new(lang: Lang) -> Self {
        let bar = ProgressBar::new(1);
        let style = ProgressStyle::with_template("{bar:30.cyan/dim} {percent:>3}%  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let zero = || Cell::new(Duration::ZERO);
        Self {
            bar,
            lang,
            begin: Instant::now(),
            total: zero(),
            past: zero(),
            present: zero(),
        }
    }

    pub(crate) fn begin(&self, total: Duration) {
        self.total.set(total);
        self.bar.set_length(total.as_secs().max(1));
        self.bar.enable_steady_tick(REDRAW);
    }

    /// A run begins.
    pub(crate) fn start(&self, title: &str, estimate: Duration) {
        self.present.set(estimate);
        let left = self.time_left();
        let left = humantime::format_duration(Duration::from_secs(left.as_secs()));
        self.bar.set_message(match self.lang {
            Lang::Vi => format!("còn khoảng {left} · {title}"),
            Lang::En => format!("about {left} left · {title}"),
        });
    }

    /// Something happened within a run; `half` when its window opens.
    pub(crate) fn moment(&self, half: bool) {
        let within = if half {
            self.present.get() / 2
        } else {
            Duration::ZERO
        };
        self.bar.set_position(
            (self.past.get() + within)
                .as_secs()
                .min(self.total.get().as_secs()),
        );
    }

    /// A size was tried in a search.
    pub(crate) fn probe(&self, probe: &Probe) {
        let mark = if probe.passed { '✓' } else { '✗' };
        let (clients, p99) = (number(probe.clients as f64), number(probe.p99_ms));
        self.say(&format!("    {mark} {clients} clients: p99 {p99} ms"));
    }

    /// A run has ended.
    pub(crate) fn done(&self, title: &str, scenario: Scenario, result: &RunResult) {
        self.past.set(self.past.get() + self.present.get());
        self.moment(false);
        let outcome = match result {
            RunResult::Failed(reason) => format!("✗ {reason}"),
            RunResult::Measured(measured) => {
                let shown = headlines(scenario).iter().filter_map(|metric| {
                    let value = metric.of(measured)?;
                    Some(
                        format!("{} {} {}", metric.name, number(value), metric.unit)
                            .trim_end()
                            .to_owned(),
                    )
                });
                shown.collect::<Vec<_>>().join(", ")
            }
        };
        self.say(&format!("  {title}: {outcome}"));
    }

    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// A line that stays.
    pub(crate) fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            // Nobody may be listening; that is no reason to end.
            let _ = writeln!(io::stderr(), "{line}");
        } else {
            self.bar.println(line);
        }
    }

    /// From the estimates, corrected by how the past ones did.
    fn time_left(&self) -> Duration {
        let past = self.past.get().as_secs_f64();
        let pace = if past > 5.0 {
            self.begin.elapsed().as_secs_f64() / past
        } else {
            1.0
        };
        self.total
            .get()
            .saturating_sub(self.past.get())
            .mul_f64(pace)
    }
}
