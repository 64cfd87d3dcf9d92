//! Charts as inline SVG, without scripts: colours come from the page's style, so one drawing serves light and dark.
//!
//! A chart knows nothing of servers or scenarios: it gets series of points or groups of bars.

use maud::{Markup, html};

use crate::results::text::number;

/// Points of one server, joined by a line.
pub(crate) struct Series {
    /// Which of the page's series colours.
    pub(crate) colour: usize,
    pub(crate) dashed: bool,
    pub(crate) dots: Dots,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Whether points are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dots {
    Each,
    None,
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

/// A chart of lines; none where there are no points.
pub(crate) fn lines(title: &str, x: Axis<'_>, y: Axis<'_>, series: &[Series]) -> Option<Markup> {
    let points = || series.iter().flat_map(|series| &series.points);
    let plane = Plane {
        x: Range::of(points().map(|point| point.0), x.scale)?,
        y: Range::of(points().map(|point| point.1), y.scale)?,
    };
    Some(html! {
        svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(title) {
            (plane.grid())
            text.unit x="6" y="13" { (y.unit) }
            text.unit.end x=(WIDTH - RIGHT) y=(HEIGHT - 4.0) { (x.unit) }
            @for series in series { (plane.curve(series)) }
        }
    })
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

    fn grid(&self) -> Markup {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let label = |tick: f64| match self.x.scale {
            Scale::Nines => percentile(tick),
            Scale::Linear | Scale::Log => short(tick),
        };
        html! {
            @for tick in self.y.ticks() {
                @let y = self.place_y(tick);
                line.grid x1=(LEFT) x2=(right) y1=(tenth(y)) y2=(tenth(y)) {}
                text.tick.end x=(LEFT - 6.0) y=(tenth(y + 4.0)) { (short(tick)) }
            }
            @for tick in self.x.ticks() {
                @let x = tenth(self.place_x(tick));
                line.grid x1=(x) x2=(x) y1=(TOP) y2=(bottom) {}
                text.tick.middle x=(x) y=(bottom + 16.0) { (label(tick)) }
            }
        }
    }

    fn curve(&self, series: &Series) -> Markup {
        let colour = series.colour;
        let place = |&(x, y): &(f64, f64)| (tenth(self.place_x(x)), tenth(self.place_y(y)));
        let path: Vec<String> = series
            .points
            .iter()
            .map(|point| {
                let (x, y) = place(point);
                format!("{x},{y}")
            })
            .collect();
        let class = if series.dashed { "line dashed" } else { "line" };
        html! {
            polyline class={ (class) " s" (colour) } points=(path.join(" ")) {}
            @if series.dots == Dots::Each {
                @for point in &series.points {
                    @let (x, y) = place(point);
                    circle class={ "dot s" (colour) } cx=(x) cy=(y) r="3.5" {
                        title { (number(point.0)) ": " (number(point.1)) }
                    }
                }
            }
        }
    }
}

/// Horizontal bars, from zero; none where they have no length.
pub(crate) fn bars(title: &str, bars: &[Bar]) -> Option<Markup> {
    let most = bars.iter().map(Bar::end).fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let step = BAR_HEIGHT + BAR_GAP;
    let height = bars.len() as f64 * step + BAR_GAP;
    let per_unit = (WIDTH - BAR_LEFT - BAR_RIGHT) / most;
    Some(html! {
        svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(title) {
            @for (number, bar) in bars.iter().enumerate() {
                (bar.draw(BAR_GAP + number as f64 * step, per_unit))
            }
        }
    })
}

impl Bar {
    fn total(&self) -> f64 {
        self.parts.iter().sum()
    }

    /// The value at which it ends, its spread included.
    fn end(&self) -> f64 {
        self.spread
            .map_or(self.total(), |(_, high)| high.max(self.total()))
    }

    fn draw(&self, y: f64, per_unit: f64) -> Markup {
        let place = |value: f64| BAR_LEFT + value * per_unit;
        let middle = y + BAR_HEIGHT / 2.0;
        let baseline = tenth(middle + 4.5);
        let whisker = self.spread.filter(|(low, high)| high > low);
        let whisker = whisker.map(|(low, high)| {
            let (from, to, top) = (tenth(place(low)), tenth(place(high)), tenth(middle - 4.0));
            let middle = tenth(middle);
            format!("M{from} {middle}H{to}M{from} {top}v8M{to} {top}v8")
        });
        let ends = self.parts.iter().scan(0.0, |end, part| {
            *end += part;
            Some(*end)
        });
        html! {
            text.name.end x=(BAR_LEFT - 8.0) y=(baseline) { (self.label) }
            @for (number, (part, end)) in self.parts.iter().zip(ends).enumerate() {
                rect class={ "bar s" (self.colour) " part" (number) }
                    x=(tenth(place(end - part))) y=(tenth(y))
                    width=(tenth(part * per_unit)) height=(BAR_HEIGHT) rx="3" {}
            }
            @if let Some(path) = whisker { path.whisker d=(path) {} }
            text.value x=(tenth(place(self.end()) + 8.0)) y=(baseline) { (self.says) }
        }
    }
}

/// A place in a drawing, to a tenth of its unit.
fn tenth(place: f64) -> String {
    format!("{place:.1}")
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
        let drawn = bars("a & b", &[bar]).unwrap().into_string();
        assert!(!drawn.contains("<b>") && drawn.contains("a &amp; b"));
    }

    #[test]
    fn nothing_to_draw_is_no_chart() {
        let axis = Axis {
            scale: Scale::Log,
            unit: "",
        };
        assert!(lines("t", axis, axis, &[]).is_none());
        assert!(bars("t", &[]).is_none());
    }
}
