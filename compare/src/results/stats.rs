//! The median of repeats with its spread, and the ratio of two medians with its error.

use serde::{Deserialize, Serialize};

/// What repeats of one figure say together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    /// The least and the greatest of the repeats.
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// The standard deviation of a sample; none from one repeat.
    pub(crate) deviation: Option<f64>,
    pub(crate) repeats: usize,
}

/// One figure of two servers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Ratio {
    /// First by second.
    pub(crate) quotient: f64,
    /// Propagated from both deviations; none where a figure was measured once.
    pub(crate) error: Option<f64>,
    pub(crate) lead: Lead,
}

/// Whether one of two is ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Lead {
    First,
    Second,
    /// The intervals of the repeats overlap.
    Overlap,
    /// One run each is no interval.
    OneRun,
    /// The figure is neither good nor bad.
    Neither,
    /// One of them did not deliver what it had to.
    NotCorrect,
}

/// Which way a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    Lower,
    Higher,
    Neither,
}

impl Summary {
    /// Of at least one value.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&low, &high) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self {
            median,
            low,
            high,
            deviation: deviation(values),
            repeats: values.len(),
        })
    }

    /// How far the repeats lie apart, as a share of the median.
    pub(crate) fn spread(&self) -> f64 {
        if self.median == 0.0 {
            0.0
        } else {
            (self.high - self.low) / self.median.abs()
        }
    }
}

impl Ratio {
    /// None where the second figure is zero.
    pub(crate) fn of(first: &Summary, second: &Summary, better: Better) -> Option<Self> {
        if second.median == 0.0 {
            return None;
        }
        let quotient = first.median / second.median;
        let relative = |summary: &Summary| Some(summary.deviation? / summary.median);
        let error = relative(first)
            .zip(relative(second))
            .map(|(a, b)| quotient.abs() * a.hypot(b))
            .filter(|e| e.is_finite());
        Some(Self {
            quotient,
            error,
            lead: Lead::of(first, second, better),
        })
    }
}

impl Lead {
    fn of(first: &Summary, second: &Summary, better: Better) -> Self {
        if better == Better::Neither {
            return Self::Neither;
        }
        if first.repeats < 2 || second.repeats < 2 {
            return Self::OneRun;
        }
        let first_higher = first.low > second.high;
        let first_lower = first.high < second.low;
        match (first_higher, first_lower) {
            (false, false) => Self::Overlap,
            (higher, _) if higher == (better == Better::Higher) => Self::First,
            _ => Self::Second,
        }
    }
}

fn deviation(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (count - 1.0)).sqrt())
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact by construction")]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Summary {
        Summary::of(values).unwrap()
    }

    #[test]
    fn median_is_the_middle_and_not_the_mean() {
        assert_eq!(of(&[1.0, 100.0, 2.0]).median, 2.0);
        assert_eq!(of(&[4.0, 1.0, 2.0, 100.0]).median, 3.0);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn one_repeat_has_no_deviation_and_names_no_winner() {
        let ratio = Ratio::of(&of(&[10.0]), &of(&[1.0]), Better::Higher).unwrap();
        assert_eq!(
            (ratio.quotient, ratio.error, ratio.lead),
            (10.0, None, Lead::OneRun)
        );
    }

    #[test]
    fn error_of_a_ratio_is_propagated() {
        // 20 ± 1 by 10 ± 0.5: relative errors of 5% each make 7.07% of 2.
        let spread_out =
            |middle: f64, deviation: f64| of(&[middle - deviation, middle, middle + deviation]);
        let ratio = Ratio::of(
            &spread_out(20.0, 1.0),
            &spread_out(10.0, 0.5),
            Better::Lower,
        )
        .unwrap();
        assert!((ratio.error.unwrap() - 2.0 * 0.05 * std::f64::consts::SQRT_2).abs() < 1e-9);
        assert_eq!(ratio.lead, Lead::Second);
    }

    #[test]
    fn no_winner_while_intervals_overlap() {
        let lead = |a: &[f64], b: &[f64], better| Ratio::of(&of(a), &of(b), better).unwrap().lead;
        assert_eq!(
            lead(&[1.0, 3.0], &[2.0, 4.0], Better::Higher),
            Lead::Overlap
        );
        assert_eq!(lead(&[1.0, 2.0], &[3.0, 4.0], Better::Higher), Lead::Second);
        assert_eq!(lead(&[1.0, 2.0], &[3.0, 4.0], Better::Lower), Lead::First);
        assert_eq!(lead(&[3.0, 4.0], &[1.0, 2.0], Better::Higher), Lead::First);
        assert_eq!(
            lead(&[3.0, 4.0], &[1.0, 2.0], Better::Neither),
            Lead::Neither
        );
    }

    #[test]
    fn no_ratio_to_nothing() {
        assert_eq!(Ratio::of(&of(&[1.0]), &of(&[0.0]), Better::Higher), None);
    }
}
