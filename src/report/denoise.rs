//! Many samples of one action on their ways from noise, and where they end.

use plotters::prelude::*;

use super::axes::{Axis, Mark, dashed, header, panel};
use super::path::slot_colour;
use super::plot::{COLOURS, INK, canvas, extent, padded, refusal, shown};
use super::stroke::stroke;
use crate::Result;
use crate::image::Image;

/// One component of an action, sampled many times at one observation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Samples<'a> {
    /// Component and unit: `torque (N m)`.
    pub name: &'a str,
    /// `[samples, points]`: a sample's noise first, its action last.
    pub values: &'a [f32],
    /// `[points]`: the flow times of a sample's points, from 0 to 1 or from 1 to 0.
    pub times: &'a [f64],
    /// The expert's action: a dashed line.
    pub target: Option<f64>,
}

const BINS: usize = 40;

/// The samples' paths over flow time, noise on the left, and beside them how many end where; 900 x 540 pixels.
/// A path's colour tells the rank of its noise, from violet (least) to orange (greatest).
///
/// # Errors
/// No samples, values that are not whole samples or not finite, or times that do not run one way.
pub fn denoising(title: &str, samples: &Samples<'_>) -> Result<Image> {
    let (values, times) = (samples.values, samples.times);
    let points = times.len();
    let (Some(start), Some(end)) = (times.first().copied(), times.last().copied()) else {
        return Err(refusal(title, "no flow times"));
    };
    let one_way = |test: fn(f64, f64) -> bool| times.windows(2).all(|pair| test(pair[0], pair[1]));
    if points < 2 || !(one_way(|a, b| a < b) || one_way(|a, b| a > b)) || !(shown(start) && shown(end)) {
        return Err(refusal(title, "flow times must be two or more that run one way"));
    }
    if values.is_empty() || !values.len().is_multiple_of(points) {
        let count = values.len();
        return Err(refusal(title, &format!("{count} values are not whole samples of {points} points")));
    }
    if let Some(place) = values.iter().position(|v| !shown(f64::from(*v))) {
        let (sample, point) = (place / points, place % points);
        return Err(refusal(title, &format!("sample {sample} is not finite at point {point}")));
    }
    let target = samples.target.filter(|target| shown(*target));
    let all = values.iter().map(|v| f64::from(*v)).chain(target);
    let y = Axis::linear(samples.name, padded(extent(all).unwrap_or(0.0..0.0)), 8);
    let time = Axis::linear("flow time t", start..end, 5);

    let mut legend = vec![("noise".to_owned(), Mark::Ring(INK)), ("action".to_owned(), Mark::Disc(INK))];
    legend.extend(target.map(|_| ("expert".to_owned(), Mark::Dashed)));
    let count = values.len() / points;
    let counts = histogram(values.chunks_exact(points).map(|path| f64::from(path[points - 1])), &y);
    let most = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    let tally = Axis::linear(&format!("count (n = {count})"), 0.0..most * 1.05, 3);

    canvas(900, 540, |root| {
        let (left, right) = header(root, title, &legend)?.split_horizontally(640);
        let mut chart = panel(&left, 84, &time, &y)?;
        // Few paths are strong lines, many a cloud through which one still sees.
        let (strength, width, radius) = if count > 40 { (0.4, 1, 3) } else { (0.75, 2, 5) };
        let mut ranked: Vec<&[f32]> = values.chunks_exact(points).collect();
        ranked.sort_by(|a, b| a[0].total_cmp(&b[0]));
        for (rank, path) in ranked.iter().enumerate() {
            let colour = slot_colour(rank, count);
            let line: Vec<_> = times.iter().zip(*path).map(|(t, v)| (*t, f64::from(*v))).collect();
            stroke(&mut chart, &line, colour.mix(strength).stroke_width(width))?;
        }
        for (rank, path) in ranked.iter().enumerate() {
            let colour = slot_colour(rank, count);
            let (noise, action) = (f64::from(path[0]), f64::from(path[points - 1]));
            chart.draw_series([Circle::new((start, noise), radius, colour.stroke_width(1))])?;
            chart.draw_series([Circle::new((end, action), radius, colour.filled())])?;
        }
        let mut ends = panel(&right, 8, &tally, &y.bare())?;
        let height = (y.range.end - y.range.start) / BINS as f64;
        let bars = counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(bin, count)| {
            let bottom = y.range.start + bin as f64 * height;
            let corners = [(0.0, bottom), (*count as f64, bottom + height)];
            Rectangle::new(corners, COLOURS[0].filled())
        });
        ends.draw_series(bars)?;
        if let Some(target) = target {
            dashed(&mut chart, (start, target), (end, target))?;
            dashed(&mut ends, (0.0, target), (tally.range.end, target))?;
        }
        Ok(())
    })
}

/// How many values fall into each of [`BINS`] even parts of the axis.
fn histogram(values: impl Iterator<Item = f64>, axis: &Axis) -> [usize; BINS] {
    let mut counts = [0; BINS];
    for value in values {
        let share = (value - axis.range.start) / (axis.range.end - axis.range.start);
        counts[((share * BINS as f64) as usize).min(BINS - 1)] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{coloured, show};
    use crate::rng::{Rng, Stream};

    const TIMES: [f64; 11] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

    /// Noise that goes to the nearer of -2 and 2.
    fn forked(samples: usize) -> Vec<f32> {
        let mut rng = Rng::new(3, Stream::TrainTime, 0, 0);
        let mut values = Vec::new();
        for _ in 0..samples {
            // A sum of twelve uniform numbers is nearly normal.
            let noise = (0..12).map(|_| rng.uniform()).sum::<f64>() - 6.0;
            let action = 2.0_f64.copysign(noise) + 0.1 * noise;
            values.extend(TIMES.map(|t| (noise + (action - noise) * t * t * (3.0 - 2.0 * t)) as f32));
        }
        values
    }

    #[test]
    fn paths_run_to_their_histogram() {
        for (count, name) in [(200, "denoising.png"), (12, "denoising12.png"), (1, "denoising1.png")] {
            let values = forked(count);
            let target = (count > 1).then_some(-2.0);
            let samples = Samples { name: "torque (N m)", values: &values, times: &TIMES, target };
            let image = denoising("From noise to torque, hanging at rest", &samples).expect("draws");
            show(name, &image);
            assert_eq!((image.width, image.height), (900, 540));
            assert!(coloured(&image, COLOURS[0]) > 1000, "bars");
            assert!(coloured(&image, slot_colour(count - 1, count)) > 20, "the last path's action");
        }
    }

    #[test]
    fn time_may_run_backwards() {
        let values = forked(3);
        let times: Vec<f64> = TIMES.iter().rev().copied().collect();
        let samples = Samples { name: "torque", values: &values, times: &times, target: Some(f64::NAN) };
        show("backwards.png", &denoising("Noise at one", &samples).expect("draws"));
    }

    #[test]
    fn every_action_is_counted_once() {
        let axis = Axis::linear("", 0.0..40.0, 4);
        let counts = histogram([0.0, 0.5, 39.9, 40.0, 20.5].into_iter(), &axis);
        assert_eq!((counts[0], counts[20], counts[39]), (2, 1, 2));
    }

    #[test]
    fn what_is_no_set_of_paths_is_refused() {
        let message = |values, times| {
            let samples = Samples { name: "torque", values, times, target: None };
            denoising("t", &samples).expect_err("refused").to_string()
        };
        assert!(message(&[], &[]).contains("no flow times"));
        assert!(message(&[0.0], &[0.0]).contains("run one way"));
        assert!(message(&[0.0; 3], &[0.0, 1.0, 0.5]).contains("run one way"));
        assert!(message(&[0.0; 2], &[0.0, f64::NAN]).contains("run one way"));
        assert!(message(&[], &[0.0, 1.0]).contains("0 values"));
        assert!(message(&[0.0; 3], &[0.0, 1.0]).contains("3 values"));
        assert!(message(&[0.0, 0.0, 0.0, f32::NAN], &[0.0, 1.0]).contains("sample 1 is not finite"));
    }
}
