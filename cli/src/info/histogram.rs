//! How often which values are there, in bins whose borders are round numbers.

use arrow_buffer::Buffer;
use bowstring_wire::dtype::DType;
use console::{Alignment, Style, pad_str};
use serde::Serialize;

use super::values::{Values, each};
use crate::bar::bar;
use crate::human::count;
use crate::table;

/// Bins, at most about as many.
const BINS: f64 = 12.0;
/// A bar where the terminal leaves room.
const BAR_MAX: usize = 50;

/// Values by size.
#[derive(Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Histogram {
    bins: Vec<Bin>,
    /// Digits behind the point that borders need.
    #[serde(skip)]
    digits: usize,
    /// Bins are single values, not spans.
    #[serde(skip)]
    single: bool,
}

/// From a value up to another, which is not in it.
#[derive(Debug, PartialEq, Serialize)]
struct Bin {
    from: f64,
    to: f64,
    count: u64,
}

impl Histogram {
    /// Of the finite ones among the values.
    pub fn of(dtype: DType, values: &Option<Values>, pieces: &[Buffer]) -> Self {
        let Some(range) = values.as_ref().and_then(|values| values.range.as_ref()) else {
            return Self {
                bins: Vec::new(),
                digits: 0,
                single: false,
            };
        };
        let whole = !matches!(
            dtype,
            DType::Float16
                | DType::Float32
                | DType::Float64
                | DType::BFloat16
                | DType::Float8E4M3Fn
                | DType::Float8E5M2
                | DType::Complex64
                | DType::Complex128
        );
        let mut step = round_step((range.max - range.min) / BINS);
        if whole {
            step = step.max(1.0);
        }
        if step <= 0.0 || !step.is_finite() {
            // One value only, or a span that no number has.
            step = 1.0;
        }
        let first = (range.min / step).floor();
        let last = (range.max / step).floor();
        // Far from zero a step can be lost beside its border: then there is one bin.
        let bins = ((last - first) + 1.0).clamp(1.0, 2.0 * BINS);
        let at = |value: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and the number of bins"
            )]
            let at = ((value / step).floor() - first).clamp(0.0, bins - 1.0) as usize;
            at
        };
        let bin = |n: usize| Bin {
            from: (first + n as f64) * step,
            to: (first + n as f64 + 1.0) * step,
            count: 0,
        };
        let mut bins: Vec<_> = (0..=at(range.max)).map(bin).collect();
        each(dtype, pieces, |value| {
            if value.is_finite() {
                bins[at(value)].count += 1;
            }
        });
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most 308, and not negative"
        )]
        let digits = (-step.log10().floor()).max(0.0) as usize;
        Self {
            bins,
            digits,
            single: whole && step == 1.0,
        }
    }

    /// Adds a line for each bin: where it begins, a bar, how many. One bin tells nothing.
    pub fn draw(&self, text: &mut String) {
        if self.bins.len() < 2 {
            return;
        }
        text.push('\n');
        let most = self.bins.iter().map(|bin| bin.count).max().unwrap_or(0);
        let labels: Vec<_> = self.bins.iter().map(|bin| self.label(bin.from)).collect();
        let width = |texts: &[String]| texts.iter().map(String::len).max().unwrap_or(0);
        let counts: Vec<_> = self.bins.iter().map(|bin| count(bin.count)).collect();
        let (label_width, count_width) = (width(&labels), width(&counts));
        let beside = label_width + count_width + 6;
        let room = table::width().unwrap_or(80).saturating_sub(beside);
        let room = room.clamp(8, BAR_MAX);
        let (dim, colour) = (Style::new().dim(), Style::new().cyan());
        for ((bin, label), count) in self.bins.iter().zip(labels).zip(counts) {
            let label = pad_str(&label, label_width, Alignment::Right, None).into_owned();
            let bar = bar(bin.count, most, room);
            let bar = pad_str(&bar, room, Alignment::Left, None).into_owned();
            let count = pad_str(&count, count_width, Alignment::Right, None).into_owned();
            text.push_str(&format!(
                "{} {} {}\n",
                dim.apply_to(format!("{label} {}", if self.single { ' ' } else { '≤' })),
                colour.apply_to(bar),
                count
            ));
        }
    }

    fn label(&self, border: f64) -> String {
        let border = if border == 0.0 { 0.0 } else { border };
        match self.digits > 6 || border.abs() >= 1e9 {
            true => format!("{border:.2e}"),
            false => format!("{border:.*}", self.digits),
        }
    }
}

/// The least of 1, 2 and 5 times a power of ten that is not below.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|times| times * power);
    steps
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dtype: DType, bytes: Vec<u8>) -> Histogram {
        let pieces = [Buffer::from(bytes)];
        let values = Values::of(dtype, &pieces);
        Histogram::of(dtype, &values, &pieces)
    }

    fn floats(values: &[f64]) -> Histogram {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        of(DType::Float64, bytes.collect())
    }

    #[test]
    fn every_finite_value_is_in_one_bin() {
        for values in [
            &[0.0, 0.1, 0.25, 0.9, 1.0][..],
            &[-1e300, 1e300, f64::NAN],
            &[f64::MIN, f64::MAX],
            &[1e16, 1e16 + 2.0],
            &[5e-324, 1e-323],
            &[3.25],
            &[-0.0, f64::INFINITY],
        ] {
            let histogram = floats(values);
            let counted: u64 = histogram.bins.iter().map(|bin| bin.count).sum();
            let finite = values.iter().filter(|value| value.is_finite()).count();
            assert_eq!(counted, finite as u64, "{values:?}");
            assert!(histogram.bins.len() <= 24, "{values:?}");
            histogram.draw(&mut String::new());
        }
        assert!(floats(&[f64::NAN]).bins.is_empty());
    }

    #[test]
    fn borders_are_round() {
        let histogram = floats(&[-2.87, 3.1]);
        let borders: Vec<_> = histogram.bins.iter().map(|bin| bin.from).collect();
        assert_eq!((borders[0], borders[1], borders.len()), (-3.0, -2.5, 13));
        assert_eq!(histogram.label(borders[1]), "-2.5");
    }

    #[test]
    fn few_whole_numbers_have_a_bin_each() {
        let histogram = of(DType::Bool, vec![0, 1, 1]);
        let counts: Vec<_> = histogram.bins.iter().map(|bin| bin.count).collect();
        assert!(histogram.single);
        assert_eq!(counts, [1, 2]);
        assert!(!of(DType::UInt8, (0..=255).collect()).single);
    }
}
