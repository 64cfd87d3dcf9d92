//! Charts as inline SVG, without scripts: colours come from the page's style, so one drawing serves light and dark.
//!
//! A chart knows nothing of servers or scenarios: it gets series of points or groups of bars.

use std::fmt::Write as _;

use crate::results::text::number;

/// Points of one server, joined by a line.
pub(crate) struct Series {
    /// Which of the page's series colours.
    pub(crate) colour: usize,
    pub(crate) dashed: bool,
    pub(crate) dots: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

/// How values become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    Log,
    /// Quantiles by their nines: 0.9, 0.99 and 0.999 at equal distances.
    Nines,
}

/// An axis with its unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis<'a> {
    pub(crate) scale: Scale,
    pub(crate) unit: &'a str,
}

/// One bar: a value with its spread, split into parts that are drawn in different strengths.
pub(crate) struct Bar {
    pub(crate) colour: usize,
    pub(crate) label: String,
    pub(crate) parts: Vec<f64>,
    pub(crate) spread: Option<(f64, f64)>,
    /// What stands behind the bar.
    pub(crate) says: String,
}

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 26.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 34.0;
const TICKS: f64 = 5.0;
const BAR_HEIGHT: f64 = 22.0;
const BAR_GAP: f64 = 10.0;
const BAR_LEFT: f64 = 70.0;
const BAR_RIGHT: f64 = 136.0;

/// A chart of lines; nothing where there are no points.
pub(crate) fn lines(title: &str, x: Axis<'_>, y: Axis<'_>, series: &[Series]) -> String {
    let points = || {
        series
            .iter()
            .flat_map(|series| series.points.iter().copied())
    };
    let Some(x_range) = Range::of(points().map(|point| point.0), x.scale) else {
        return String::new();
    };
    let Some(y_range) = Range::of(points().map(|point| point.1), y.scale) else {
        return String::new();
    };
    let mut out = open(title, HEIGHT);
    let plane = Plane {
        x: x_range,
        y: y_range,
    };
    plane.grid(&mut out);
    element(
        &mut out,
        format_args!(
            r#"<text class="unit" x="6" y="13">{}</text>"#,
            escape(y.unit)
        ),
    );
    element(
        &mut out,
        format_args!(
            r#"<text class="unit end" x="{:.0}" y="{:.0}">{}</text>"#,
            WIDTH - RIGHT,
            HEIGHT - 4.0,
            escape(x.unit)
        ),
    );
    for series in series {
        plane.curve(&mut out, series);
    }
    out.push_str("</svg>");
    out
}

/// Where values lie in a chart of lines.
struct Plane {
    x: Range,
    y: Range,
}

impl Plane {
    fn place_x(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (WIDTH - LEFT - RIGHT)
    }

    fn place_y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.share(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn grid(&self, out: &mut String) {
        for tick in self.y.ticks() {
            let y = self.place_y(tick);
            element(
                out,
                format_args!(
                    r#"<line class="grid" x1="{LEFT}" x2="{:.0}" y1="{y:.1}" y2="{y:.1}"/>"#,
                    WIDTH - RIGHT
                ),
            );
            element(
                out,
                format_args!(
                    r#"<text class="tick end" x="{:.0}" y="{:.1}">{}</text>"#,
                    LEFT - 6.0,
                    y + 4.0,
                    short(tick)
                ),
            );
        }
        for tick in self.x.ticks() {
            let x = self.place_x(tick);
            let bottom = HEIGHT - BOTTOM;
            element(
                out,
                format_args!(
                    r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{bottom:.0}"/>"#
                ),
            );
            let label = if self.x.scale == Scale::Nines {
                percentile(tick)
            } else {
                short(tick)
            };
            element(
                out,
                format_args!(
                    r#"<text class="tick middle" x="{x:.1}" y="{:.0}">{label}</text>"#,
                    bottom + 16.0
                ),
            );
        }
    }

    fn curve(&self, out: &mut String, series: &Series) {
        let path: Vec<String> = series
            .points
            .iter()
            .map(|&(x, y)| format!("{:.1},{:.1}", self.place_x(x), self.place_y(y)))
            .collect();
        let class = if series.dashed { "line dashed" } else { "line" };
        let colour = series.colour;
        element(
            out,
            format_args!(
                r#"<polyline class="{class} s{colour}" points="{}"/>"#,
                path.join(" ")
            ),
        );
        if series.dots {
            for &(x, y) in &series.points {
                let says = format!("{}: {}", number(x), number(y));
                let (x, y) = (self.place_x(x), self.place_y(y));
                element(
                    out,
                    format_args!(
                        r#"<circle class="dot s{colour}" cx="{x:.1}" cy="{y:.1}" r="3.5"><title>{says}</title></circle>"#
                    ),
                );
            }
        }
    }
}

/// Horizontal bars, from zero.
pub(crate) fn bars(title: &str, bars: &[Bar]) -> String {
    let total = |bar: &Bar| bar.parts.iter().sum::<f64>();
    let most = bars
        .iter()
        .map(|bar| {
            bar.spread
                .map_or(total(bar), |(_, high)| high.max(total(bar)))
        })
        .fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let height = bars.len() as f64 * (BAR_HEIGHT + BAR_GAP) + BAR_GAP;
    let mut out = open(title, height);
    let length = |value: f64| value / most * (WIDTH - BAR_LEFT - BAR_RIGHT);
    for (number, bar) in bars.iter().enumerate() {
        let y = BAR_GAP + number as f64 * (BAR_HEIGHT + BAR_GAP);
        let middle = y + BAR_HEIGHT / 2.0;
        let Bar {
            colour,
            label,
            parts,
            spread,
            says,
        } = bar;
        let baseline = middle + 4.5;
        element(
            &mut out,
            format_args!(
                r#"<text class="name end" x="{:.0}" y="{baseline:.1}">{}</text>"#,
                BAR_LEFT - 8.0,
                escape(label)
            ),
        );
        let mut x = BAR_LEFT;
        for (part, &value) in parts.iter().enumerate() {
            let width = length(value);
            element(
                &mut out,
                format_args!(
                    r#"<rect class="bar s{colour} part{part}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{BAR_HEIGHT}" rx="3"/>"#
                ),
            );
            x += width;
        }
        let mut end = x;
        if let Some((low, high)) = spread
            && high > low
        {
            let (from, to) = (BAR_LEFT + length(*low), BAR_LEFT + length(*high));
            element(
                &mut out,
                format_args!(
                    r#"<path class="whisker" d="M{from:.1} {middle:.1}H{to:.1}M{from:.1} {:.1}v8M{to:.1} {:.1}v8"/>"#,
                    middle - 4.0,
                    middle - 4.0
                ),
            );
            end = end.max(to);
        }
        element(
            &mut out,
            format_args!(
                r#"<text class="value" x="{:.1}" y="{baseline:.1}">{}</text>"#,
                end + 8.0,
                escape(says)
            ),
        );
    }
    out.push_str("</svg>");
    out
}

fn open(title: &str, height: f64) -> String {
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{}">"#,
        escape(title)
    )
}

fn element(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments)
        .expect("writing to memory does not fail");
}

/// Text for HTML and SVG.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// What an axis spans, in the terms of its scale.
#[derive(Debug, Clone, Copy)]
struct Range {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Range {
    fn of(values: impl Iterator<Item = f64>, scale: Scale) -> Option<Self> {
        let placed = values.filter_map(|value| scale.place(value));
        let (low, high) = placed.fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        if low > high {
            return None;
        }
        let (low, high) = match scale {
            Scale::Linear => (0.0, nice_above(high)),
            Scale::Log => (low.floor(), high.ceil().max(low.floor() + 1.0)),
            Scale::Nines => (0.0, high.max(1.0)),
        };
        Some(Self { scale, low, high })
    }

    /// From 0 to 1.
    fn share(self, value: f64) -> f64 {
        let placed = self.scale.place(value).unwrap_or(self.low);
        ((placed - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    fn ticks(self) -> Vec<f64> {
        let whole = || {
            (0..=32)
                .map(|step| self.low + f64::from(step))
                .take_while(|&place| place <= self.high + 1e-9)
        };
        match self.scale {
            Scale::Linear => {
                let step = nice_above(self.high / TICKS);
                (0..=10)
                    .map(|count| f64::from(count) * step)
                    .take_while(|&tick| tick <= self.high * 1.001)
                    .collect()
            }
            Scale::Log => whole().map(|place| 10_f64.powf(place)).collect(),
            Scale::Nines => whole().map(|place| 1.0 - 10_f64.powf(-place)).collect(),
        }
    }
}

impl Scale {
    fn place(self, value: f64) -> Option<f64> {
        let placed = match self {
            Self::Linear => value,
            Self::Log => value.log10(),
            Self::Nines => -(1.0 - value).log10(),
        };
        placed.is_finite().then_some(placed)
    }
}

/// The least of 1, 2, 2.5, 5 times a power of ten that is not below `value`.
fn nice_above(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let unit = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * unit)
        .find(|&nice| nice >= value * 0.999)
        .unwrap_or(value)
}

/// A number on an axis: `5k`, `25M`.
fn short(value: f64) -> String {
    let (value, suffix) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = number(value);
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text}{suffix}")
}

/// `p50` for the start of the scale, then `90%`, `99%`, `99.9%`.
fn percentile(quantile: f64) -> String {
    if quantile <= 0.0 {
        return "0%".to_owned();
    }
    let nines = -(1.0 - quantile).log10();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a handful of nines"
    )]
    let decimals = (nines.round() as usize).saturating_sub(2);
    format!("{:.decimals$}%", quantile * 100.0)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact by construction")]
mod tests {
    use super::*;

    #[test]
    fn axes_begin_and_end_at_round_numbers() {
        assert_eq!(
            [0.3, 1.0, 23.0, 26.0, 5_100.0].map(nice_above),
            [0.5, 1.0, 25.0, 50.0, 10_000.0]
        );
        let range = Range::of([0.2, 83.0].into_iter(), Scale::Log).unwrap();
        assert_eq!(range.ticks(), [0.1, 1.0, 10.0, 100.0]);
    }

    #[test]
    fn nines_are_equally_far_apart() {
        let range = Range::of([0.0, 0.999].into_iter(), Scale::Nines).unwrap();
        let labels: Vec<String> = range.ticks().into_iter().map(percentile).collect();
        assert_eq!(labels, ["0%", "90%", "99%", "99.9%"]);
        assert!((range.share(0.9) * 2.0 - range.share(0.99)).abs() < 1e-9);
    }

    #[test]
    fn names_cannot_break_out_of_the_drawing() {
        let bar = Bar {
            colour: 0,
            label: "<b>".into(),
            parts: vec![1.0],
            spread: None,
            says: "\"1\"".into(),
        };
        let drawn = bars("a & b", &[bar]);
        assert!(!drawn.contains("<b>") && drawn.contains("a &amp; b"));
    }

    #[test]
    fn nothing_to_draw_is_no_chart() {
        let axis = Axis {
            scale: Scale::Log,
            unit: "",
        };
        assert_eq!(lines("t", axis, axis, &[]), "");
        assert_eq!(bars("t", &[]), "");
    }
}
