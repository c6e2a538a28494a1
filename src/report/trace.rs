//! What an episode did over time: state and action in panels over one axis.

use std::f64::consts::PI;

use plotters::prelude::*;

use super::axes::{Axis, Mark, below, dashed, header, panel, stretches};
use super::plot::{COLOURS, canvas, extent, padded, refusal, shown};
use super::stroke::stroke;
use crate::Result;
use crate::image::Image;

/// One panel: a quantity over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row<'a> {
    /// Quantity and unit: `speed (rad/s)`.
    pub label: &'a str,
    /// Names with `[steps]` values each, from step 0; a line has a gap where a value is not finite or beyond
    /// 1e38. Actions may be one fewer than states.
    pub series: &'a [(&'a str, &'a [f64])],
    /// Dashed lines at plus and minus this.
    pub limit: Option<f64>,
    /// Radians around a circle: the axis spans -π to π, and a line that leaves on one side returns on the other.
    pub angle: bool,
}

impl Row<'_> {
    /// `[(time, value)]` lines of one series.
    fn lines(&self, values: &[f64], seconds: f64) -> Vec<Vec<(f64, f64)>> {
        let points = values.iter().enumerate().map(|(step, value)| (step as f64 * seconds, *value));
        let lines = stretches(points, |p| shown(p.1));
        if self.angle { lines.iter().flat_map(|line| wrapped(line)).collect() } else { lines }
    }

    fn axis(&self) -> Option<Axis> {
        let values =
            || self.series.iter().flat_map(|(_, values)| values.iter().copied()).filter(|v| shown(*v));
        if self.angle {
            let ticks = [(-PI, "-π"), (-PI / 2.0, "-π/2"), (0.0, "0"), (PI / 2.0, "π/2"), (PI, "π")];
            let ticks = ticks.map(|(place, number)| (place, number.to_owned())).to_vec();
            return values().next().map(|_| Axis {
                label: self.label.to_owned(),
                range: padded(-PI..PI),
                ticks,
            });
        }
        let limits = self.limit().into_iter().flat_map(|limit| [-limit, limit]);
        let range = values().next().and_then(|_| extent(values().chain(limits)))?;
        Some(Axis::linear(self.label, padded(range), 5))
    }

    fn limit(&self) -> Option<f64> {
        self.limit.filter(|limit| shown(*limit))
    }
}

/// Angles brought to -π..π; a line that passes ±π is broken there and goes on at the other side.
fn wrapped(line: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
    let turned = |angle: f64| (angle + PI).rem_euclid(2.0 * PI) - PI;
    let mut lines: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
    let mut before: Option<(f64, f64)> = None;
    for &(time, angle) in line {
        let now = (time, turned(angle));
        if let Some((t, a)) = before.filter(|(_, a)| (now.1 - a).abs() > PI) {
            let side = PI.copysign(a);
            // The angle without its turn, and the share of the step until it meets the side.
            let unturned = now.1 + 2.0 * side;
            let crossing = t + (now.0 - t) * ((side - a) / (unturned - a)).clamp(0.0, 1.0);
            if let Some(last) = lines.last_mut() {
                last.push((crossing, side));
            }
            lines.push(vec![(crossing, -side)]);
        }
        if let Some(last) = lines.last_mut() {
            last.push(now);
        }
        before = Some(now);
    }
    lines
}

/// Rows of panels over a common time axis, 900 pixels wide: one expert's episode, or a policy's beside it.
/// A name has one colour in all rows. The first series lies on top; later ones are wider and paler, so that
/// both are seen where they agree.
///
/// # Errors
/// No row, a row without a value that can be shown, or a step that is no positive number of seconds.
pub fn traces(title: &str, rows: &[Row<'_>], seconds_per_step: f64) -> Result<Image> {
    const HEIGHT: u32 = 160;
    if !(shown(seconds_per_step) && seconds_per_step > 0.0) {
        return Err(refusal(title, &format!("a step of {seconds_per_step} s is no positive time")));
    }
    let axes = rows.iter().map(|row| {
        row.axis().ok_or_else(|| refusal(title, &format!("`{}` has no value that can be shown", row.label)))
    });
    let axes: Vec<Axis> = axes.collect::<Result<_>>()?;
    let steps = rows.iter().flat_map(|row| row.series.iter().map(|(_, values)| values.len())).max();
    let Some(steps) = steps else { return Err(refusal(title, "no rows")) };
    let end = steps.saturating_sub(1).max(1) as f64 * seconds_per_step;
    let time = Axis::linear("time (s)", 0.0..end, 10);

    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flat_map(|row| row.series) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    let style = |name: &str| {
        let place = names.iter().position(|n| *n == name).unwrap_or(0);
        let strength = if place == 0 { 1.0 } else { 0.55 };
        COLOURS[place % COLOURS.len()].mix(strength).stroke_width(2 + 3 * place.min(2) as u32)
    };
    let mut legend: Vec<_> = names.iter().map(|n| ((*n).to_owned(), Mark::Line(style(n)))).collect();
    if rows.iter().any(|row| row.limit().is_some()) {
        legend.push(("limit".to_owned(), Mark::Dashed));
    }

    let height = 76 + (HEIGHT + below(&time.bare())) * rows.len() as u32 + below(&time);
    canvas(900, height, |root| {
        let mut rest = header(root, title, &legend)?;
        for (index, (row, axis)) in rows.iter().zip(&axes).enumerate() {
            let last = index + 1 == rows.len();
            let x = if last { time.clone() } else { time.bare() };
            let (area, under) = rest.split_vertically(HEIGHT + below(&x));
            rest = under;
            let mut chart = panel(&area, 84, &x, axis)?;
            for level in row.limit().into_iter().flat_map(|limit| [-limit, limit]) {
                dashed(&mut chart, (0.0, level), (end, level))?;
            }
            for (name, values) in row.series.iter().rev() {
                for line in row.lines(values, seconds_per_step) {
                    stroke(&mut chart, &line, style(name))?;
                }
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{coloured, show};

    const STEP: f64 = 0.05;

    /// Three seconds of swinging up and around: angle, speed, torque.
    fn swing(late: f64) -> [Vec<f64>; 3] {
        let of = |f: &dyn Fn(f64) -> f64| (0..120).map(|i| f(f64::from(i) * STEP - late)).collect();
        [
            of(&|t| PI + 1.4 * t * (1.8 * t).sin()),
            of(&|t| 4.0 * (1.8 * t).cos() * (-t / 4.0).exp()),
            of(&|t| (3.0 * (2.5 * t).sin()).clamp(-2.0, 2.0)),
        ]
    }

    fn row<'a>(label: &'a str, series: &'a [(&'a str, &'a [f64])]) -> Row<'a> {
        Row { label, series, limit: None, angle: false }
    }

    #[test]
    fn a_policy_is_drawn_beside_the_expert() {
        let (policy, expert) = (swing(0.12), swing(0.0));
        let pair = |i: usize| [("policy", &policy[i][..]), ("expert", &expert[i][..])];
        let (angle, speed, torque) = (pair(0), pair(1), pair(2));
        let rows = [
            Row { angle: true, ..row("angle (rad)", &angle) },
            row("speed (rad/s)", &speed),
            Row { limit: Some(2.0), ..row("torque (N m)", &torque) },
        ];
        let image = traces("Swing-up from the same start", &rows, STEP).expect("draws");
        show("traces.png", &image);
        assert_eq!(image.width, 900);
        assert!(coloured(&image, COLOURS[0]) > 1500);
        // Each panel has some of the policy's line.
        for third in 0..3 {
            let part = image.height / 3 * 900 * 3;
            let pixels = image.pixels[third * part..(third + 1) * part].to_vec();
            let part = Image { width: 900, height: image.height / 3, pixels };
            assert!(coloured(&part, COLOURS[0]) > 300, "third {third}");
        }
        let alone = [row("torque (N m)", &torque[1..])];
        let single = traces("The expert's torque", &alone, STEP).expect("draws");
        show("trace.png", &single);
        assert!(single.height < image.height);
    }

    #[test]
    fn an_angle_leaves_on_one_side_and_returns_on_the_other() {
        let lines = wrapped(&[(0.0, 3.0), (1.0, 3.0 + 0.4), (2.0, 3.0)]);
        assert_eq!(lines.len(), 3);
        let (left, back) = (lines[0][1], lines[1][0]);
        assert!((left.0 - (PI - 3.0) / 0.4).abs() < 1e-9 && left.1 == PI && back == (left.0, -PI));
        assert!(lines.iter().flatten().all(|p| p.1.abs() <= PI));
    }

    #[test]
    fn what_cannot_be_drawn_is_refused_or_left_out() {
        let gap = [1.0, f64::NAN, 2.0, f64::INFINITY, 1e300, 0.5, 0.7];
        let series = [("policy", &gap[..])];
        assert!(traces("gaps", &[row("speed", &series)], STEP).is_ok());
        assert!(traces("one", &[row("speed", &[("policy", &[1.0])])], STEP).is_ok());
        let message = |rows: &[Row<'_>], step| traces("t", rows, step).expect_err("refused").to_string();
        assert!(message(&[], STEP).contains("no rows"));
        assert!(message(&[row("speed", &[])], STEP).contains("`speed` has no value"));
        assert!(message(&[row("speed", &[("policy", &[f64::NAN])])], STEP).contains("no value"));
        assert!(message(&[row("speed", &series)], 0.0).contains("no positive time"));
        assert!(message(&[row("speed", &series)], f64::NAN).contains("no positive time"));
    }
}
