//! A metric with its intervals over what one varies: function evaluations, demonstrations.

use plotters::prelude::*;

use super::axes::{Axis, Mark, Panel, dashed, header, panel, pixel};
use super::plot::{COLOURS, Drawn, canvas, extent, padded, refusal, shown};
use super::stroke::stroke;
use crate::Result;
pub use crate::eval::Estimate;
use crate::image::Image;

impl Estimate {
    /// Whether a plot can hold it.
    pub(super) fn is_shown(&self) -> bool {
        self.numbers().into_iter().all(shown)
    }

    pub(super) fn numbers(&self) -> [f64; 3] {
        [self.value, self.low, self.high]
    }
}

/// (setting, metric) from left to right.
type Points = Vec<(f64, Estimate)>;

/// A solver, or a method, measured at several settings.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepSeries {
    /// Its line in the legend.
    pub name: String,
    /// (setting, metric) from left to right; settings that are not positive and numbers that are not finite, or
    /// beyond 1e38, are left out.
    pub points: Vec<(f64, Estimate)>,
}

/// A metric over the number of function evaluations, one series a solver.
///
/// # Errors
/// As [`with_intervals`].
pub fn sweep(
    title: &str,
    y_label: &str,
    series: &[SweepSeries],
    reference: Option<(&str, f64)>,
) -> Result<Image> {
    with_intervals(title, "function evaluations per chunk", y_label, series, reference)
}

/// A metric over the number of demonstrations, one series a method.
///
/// # Errors
/// As [`with_intervals`].
pub fn learning_curve(
    title: &str,
    y_label: &str,
    series: &[SweepSeries],
    reference: Option<(&str, f64)>,
) -> Result<Image> {
    with_intervals(title, "demonstrations", y_label, series, reference)
}

/// A metric over settings, 900 x 540 pixels: equal ratios have equal lengths, ticks stand at the settings. Series
/// stand a few pixels apart where they share one, so that their whiskers do not hide each other. The reference (an expert, say)
/// is a dashed line with its name in the legend; one that is not finite is left out.
///
/// # Errors
/// If no series has a point that can be shown.
pub fn with_intervals(
    title: &str,
    x_label: &str,
    y_label: &str,
    series: &[SweepSeries],
    reference: Option<(&str, f64)>,
) -> Result<Image> {
    const APART: f64 = 8.0;
    let fits = |(x, y): &&(f64, Estimate)| shown(*x) && *x > 0.0 && y.is_shown();
    // A series keeps its colour when another one has no points.
    let kept: Vec<(RGBColor, &str, Points)> = series
        .iter()
        .zip(COLOURS.into_iter().cycle())
        .map(|(s, colour)| (colour, s.name.as_str(), s.points.iter().filter(fits).copied().collect()))
        .filter(|(_, _, points): &(_, _, Points)| !points.is_empty())
        .collect();
    let points = || kept.iter().flat_map(|(_, _, points)| points);
    let reference = reference.filter(|(_, level)| shown(*level));
    if kept.is_empty() {
        return Err(refusal(title, "no point can be shown"));
    }
    let values = points().flat_map(|(_, y)| y.numbers()).chain(reference.map(|(_, level)| level));
    let ys = extent(values).unwrap_or(0.0..0.0);
    let settings = points().map(|(x, _)| *x);
    let (x, y) = (Axis::of_ratios(x_label, settings), Axis::linear(y_label, padded(ys), 8));

    let line = |colour: &RGBColor| Mark::Line(colour.stroke_width(3));
    let mut legend: Vec<_> = kept.iter().map(|(c, name, _)| ((*name).to_owned(), line(c))).collect();
    legend.extend(reference.map(|(name, _)| (name.to_owned(), Mark::Dashed)));
    canvas(900, 540, |root| {
        let mut chart = panel(&header(root, title, &legend)?, 84, &x, &y)?;
        if let Some((_, level)) = reference {
            dashed(&mut chart, (x.range.start, level), (x.range.end, level))?;
        }
        let (width, _) = pixel(&chart);
        // Series that share a setting step aside there.
        let place = |index: usize, setting: f64| {
            let shares = |points: &Points| points.iter().any(|(x, _)| *x == setting);
            let sharers = kept.iter().enumerate().filter(|(_, (_, _, points))| shares(points));
            let sharers: Vec<usize> = sharers.map(|(index, _)| index).collect();
            let rank = sharers.iter().take_while(|sharer| **sharer < index).count();
            setting.log2() + (rank as f64 - (sharers.len() - 1) as f64 / 2.0) * APART * width
        };
        for (index, (colour, _, points)) in kept.iter().enumerate() {
            let line: Vec<_> = points.iter().map(|(x, y)| (place(index, *x), y.value)).collect();
            stroke(&mut chart, &line, colour.mix(0.5).stroke_width(2))?;
            for (x, estimate) in points {
                let x = place(index, *x);
                whisker(&mut chart, estimate, *colour, |value, across| (x + across, value), width)?;
            }
        }
        Ok(())
    })
}

/// A dot with its interval. `place` tells where a value lies, a way across its axis; `across` is a pixel that way.
pub(super) fn whisker(
    chart: &mut Panel<'_>,
    estimate: &Estimate,
    colour: RGBColor,
    place: impl Fn(f64, f64) -> (f64, f64),
    across: f64,
) -> Drawn {
    let cap = |value| vec![place(value, -5.0 * across), place(value, 5.0 * across)];
    let (low, high) = (estimate.low, estimate.high);
    let lines = [vec![place(low, 0.0), place(high, 0.0)], cap(low), cap(high)];
    chart.draw_series(lines.map(|line| PathElement::new(line, colour.stroke_width(2))))?;
    chart.draw_series([Circle::new(place(estimate.value, 0.0), 5, colour.filled())])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{coloured, show};

    fn around(value: f64, half: f64) -> Estimate {
        Estimate { value, low: value - half, high: value + half }
    }

    fn solver(name: &str, worst: f64) -> SweepSeries {
        let settings = [1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 50.0];
        let points = settings.map(|n| (n, around(-150.0 - worst / n, 20.0 + worst / n / 4.0)));
        SweepSeries { name: name.to_owned(), points: points.to_vec() }
    }

    #[test]
    fn solvers_appear_in_their_colours_with_the_expert() {
        let series = [solver("Euler", 300.0), solver("midpoint", 120.0), solver("Heun", 80.0)];
        let image = sweep("Return over the solver's work", "return", &series, Some(("expert", -140.0)));
        let image = image.expect("draws");
        show("sweep.png", &image);
        assert_eq!((image.width, image.height), (900, 540));
        // A dot of radius 5 has about 80 pixels; there are eight.
        assert!((0..3).all(|i| coloured(&image, COLOURS[i]) > 8 * 80));
        let without = sweep("t", "return", &series[1..], None).expect("draws");
        assert!(coloured(&without, COLOURS[2]) < 100 && coloured(&without, COLOURS[0]) > 8 * 80);
    }

    #[test]
    fn demonstrations_stand_at_equal_ratios() {
        let curve = |name: &str, most: f64| SweepSeries {
            name: name.to_owned(),
            points: [10.0, 50.0, 100.0, 200.0]
                .map(|n| (n, around(most * n / (n + 20.0), 2.0 / n + 0.03)))
                .to_vec(),
        };
        let series = [curve("flow", 1.0), curve("regression", 0.8)];
        let expert = Some(("expert", 1.0));
        let image = learning_curve("Success over demonstrations", "success (share)", &series, expert);
        show("learning.png", &image.expect("draws"));
    }

    #[test]
    fn points_that_cannot_be_shown_are_left_out() {
        let of = |points| [SweepSeries { name: "Euler".to_owned(), points }];
        let bad = Estimate { high: f64::NAN, ..around(1.0, 0.5) };
        let odd = of(vec![
            (0.0, around(1.0, 0.1)),
            (1.0, bad),
            (f64::NAN, around(1.0, 0.1)),
            (4.0, around(2.0, 0.0)),
        ]);
        let image = sweep("one point", "return", &odd, Some(("expert", f64::NAN))).expect("draws the one");
        show("sweep1.png", &image);
        assert!(coloured(&image, COLOURS[0]) > 80);
        let message = |series: &[SweepSeries]| {
            with_intervals("t", "n", "return", series, Some(("expert", 1.0)))
                .expect_err("refused")
                .to_string()
        };
        assert!(message(&[]).contains("no point"));
        assert!(message(&of(vec![(1.0, bad)])).contains("no point"));
    }

    #[test]
    fn extreme_values_are_drawn_without_panic() {
        for [low, high] in [[-1e38, 1e38], [5e-324, 1e-310], [1e15, 1e15 + 0.5], [0.0, 0.0], [1e-300, 1e30]] {
            let estimate = Estimate { value: low, low, high };
            for settings in [[1e-300, 1e38], [1.0, 1.0], [7.0, 7.0 + 1e-12]] {
                let points = settings.map(|n| (n, estimate)).to_vec();
                let series = [SweepSeries { name: "Euler".to_owned(), points }];
                assert!(sweep("extreme", "return", &series, Some(("expert", high))).is_ok());
            }
        }
    }
}
